"""The host's share of a search on a device: processor seconds of one whose training does nothing.

``python tests/benchmarks/host_share.py --data DIR`` prints a row of ``docs/search.md`` for each
data set: 64 candidates × 4 folds of ``MLPClassifier``, 20 epochs, whose steps leave the parameters
as they are, the least of three. What is left is what the host does around them: it begins and ends
the fits, plans the epochs, keeps the books and scores. In the second column the networks' scores
are zeros too, for their products are the device's work; on a CPU they are most of the first one,
with ``OMP_NUM_THREADS=1`` the least. DIR holds ``mnist10k.npz`` and ``phoneme.csv.gz``; without
them rows of the same size are drawn. ``--quick`` takes small ones. ``--profile`` prints where the
time goes.
"""

import argparse
import cProfile
import pstats
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
from search import blobs, mnist, phoneme

import skdeep.network
from skdeep.model_selection import GridSearchCV
from skdeep.neural_network import MLPClassifier
from skdeep.solvers.minibatch.epoch import Epoch

ALPHAS, RATES = np.logspace(-6, -1, 8), np.logspace(-4, -2, 8)
DATA = {"mnist10k": (mnist, (10_000, 784, 10)), "phoneme": (phoneme, (5_404, 5, 2))}


def no_steps(epoch, whole):
    """An epoch whose steps do nothing; its loss falls, so that another one follows."""
    net = epoch.net
    records = np.ones(
        (len(epoch.stack.models), 1 + len(net.weights) + len(net.masked or net.units))
    )
    records[:, 0] = 1.0 / (1.0 + epoch.start[:, 0] + len(epoch.batches))
    epoch.stack.step = epoch.start + epoch.layout.made[-1]
    return records


def no_products(xp, net, theta, X):
    """Scores of the classes, from no work."""
    return xp.zeros((theta.shape[0], X.shape[-2], net.units[-1]), dtype=theta.dtype)


def search(X, y, backend: str, n: int) -> GridSearchCV:
    """The search of n × n candidates."""
    model = MLPClassifier(backend=backend, max_iter=20, random_state=0)
    grid = {"alpha": ALPHAS[:n], "learning_rate_init": RATES[:n]}
    return GridSearchCV(model, grid, cv=4, refit=False).fit(X, y)


def seconds(*args) -> float:
    """The least of three, of this process: what else the machine does is not counted."""
    found = []
    for _ in range(3):
        start = time.process_time()
        search(*args)
        found.append(time.process_time() - start)
    return min(found)


def load(name: str, folder: Path, quick: bool):
    make, (n, p, k) = DATA[name]
    try:
        X, y = blobs(600, p, k)(None) if quick else make(folder)
        title = f"{name}'s features, {len(X)} rows" if quick else name
    except FileNotFoundError:
        (X, y), title = blobs(n, p, k)(None), f"as large as {name}"
    return X.astype("float32"), y, title


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"data sets: {', '.join(DATA)}")
    parser.add_argument("--data", type=Path, default=Path("."), help="folder of the data sets")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--quick", action="store_true", help="9 candidates and few rows")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| 64 candidates × 4 folds | training does nothing, s | nor do products, s |")
    print("| --- | ---: | ---: |")
    for name in arguments.names or DATA:
        X, y, title = load(name, arguments.data, arguments.quick)
        n = 3 if arguments.quick else len(ALPHAS)
        with ExitStack() as replaced:
            replaced.enter_context(patch.object(Epoch, "run", no_steps))
            search(*blobs(200, 5)(None), arguments.backend, 2)  # loads libraries
            rest = seconds(X, y, arguments.backend, n)
            replaced.enter_context(patch.object(skdeep.network, "forward", no_products))
            least = seconds(X, y, arguments.backend, n)
            print(f"| {title} | {rest:.2f} | {least:.2f} |", flush=True)
            if arguments.profile:
                with cProfile.Profile() as profile:
                    search(X, y, arguments.backend, n)
                pstats.Stats(profile).sort_stats("tottime").print_stats(35)
                pstats.Stats(profile).sort_stats("cumtime").print_stats(60)


if __name__ == "__main__":
    main()
