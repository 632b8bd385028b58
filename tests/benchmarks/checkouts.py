"""Two checkouts of skdeep side by side: ``python tests/benchmarks/checkouts.py OTHER_CHECKOUT``.

Each has a process of its own, and they take turns at every fit. The ratio is the other checkout's
time over this one's, the median of the turns; above 1 this one is faster. The spread is that of the
turns' ratios.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median


def cases(npz: str | None) -> dict:
    """Name -> (estimator, X, y, how many fits a turn times)."""
    import numpy as np
    from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_classification
    from sklearn.preprocessing import scale

    from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
    from skdeep.linear_model import LogisticRegression, Perceptron
    from skdeep.model_selection import GridSearchCV
    from skdeep.neural_network import MLPClassifier, MLPRegressor

    iris, cancer, digits = (
        load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_digits)
    )
    cancer = scale(cancer[0]), cancer[1]
    middle = make_classification(5000, 30, n_informative=10, random_state=0)
    many = make_classification(100_000, 50, n_informative=10, random_state=0)
    if npz:
        with np.load(npz) as data:
            some = np.random.RandomState(0).permutation(len(data["X"]))[:8000]
            images = data["X"][some] / 255.0, data["y"][some]
    else:
        images = digits[0] / 16.0, digits[1]
    epochs = {"random_state": 0, "n_iter_no_change": 1000}
    grid = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0, 10.0]}, cv=5)
    net = MLPClassifier(solver="lbfgs", random_state=0, max_iter=50)
    curve = MLPRegressor(hidden_layer_sizes=(10,), solver="lm", random_state=0, max_iter=30)
    return {
        "LogisticRegression, iris": (LogisticRegression(), *iris, 20),
        "LogisticRegression, breast cancer": (LogisticRegression(), *cancer, 10),
        "LogisticRegression, digits": (LogisticRegression(), *digits, 2),
        "LogisticRegression, 5,000 x 30": (LogisticRegression(), *middle, 5),
        "LogisticRegression, 100,000 x 50": (LogisticRegression(), *many, 1),
        "LogisticRegression, images": (LogisticRegression(), *images, 1),
        "LogisticRegression saga l1, breast cancer": (
            LogisticRegression(solver="saga", l1_ratio=1.0),
            *cancer,
            3,
        ),
        "LDA, iris": (LinearDiscriminantAnalysis(), *iris, 20),
        "LDA, 100,000 x 50": (LinearDiscriminantAnalysis(), *many, 1),
        "LDA, images": (LinearDiscriminantAnalysis(), *images, 1),
        "Perceptron, breast cancer": (Perceptron(), *cancer, 20),
        "Perceptron, images": (Perceptron(), *images, 1),
        "MLPClassifier adam, iris": (MLPClassifier(max_iter=20, **epochs), *iris, 3),
        "MLPClassifier adam, 5,000 x 30": (MLPClassifier(max_iter=10, **epochs), *middle, 1),
        "MLPClassifier adam 512, 256, images": (
            MLPClassifier((512, 256), max_iter=2, **epochs),
            *images,
            1,
        ),
        "MLPClassifier sgd, dropout, batch norm": (
            MLPClassifier(max_iter=10, solver="sgd", dropout=0.2, batch_norm=True, **epochs),
            *middle,
            1,
        ),
        "MLPClassifier lbfgs, iris": (net, *iris, 3),
        "MLPRegressor lm, digits' first pixels": (curve, digits[0][:, 1:9], digits[1], 1),
        "GridSearchCV over C, digits": (grid, *digits, 1),
    }


def serve(npz: str | None) -> None:
    """Answer each name on a line with seconds per fit."""
    warnings.simplefilter("ignore")
    known = cases(npz)
    for estimator, X, y, _ in known.values():
        estimator.fit(X[:: len(X) // 100], y[:: len(X) // 100])
    print(*known, sep="\n", end="\n\n", flush=True)
    for line in sys.stdin:
        estimator, X, y, n = known[line.strip()]
        start = time.perf_counter()
        for _ in range(n):
            estimator.fit(X, y)
        print((time.perf_counter() - start) / n, flush=True)


class Server:
    """A process with a checkout's skdeep."""

    def __init__(self, checkout: Path, npz: str | None, threads: int):
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        command = [sys.executable, __file__, "--serve", *(["--npz", npz] if npz else [])]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **limits, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names = list(iter(lambda: self.process.stdout.readline().strip(), ""))

    def time(self, name: str) -> float:
        print(name, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--npz", help="images of more pixels than scikit-learn's digits")
    parser.add_argument("--only", default="", help="part of the names of fits")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.npz)
    here = Path(__file__).resolve().parents[2]
    ours, other = (Server(path, options.npz, options.threads) for path in (here, options.other))
    print("| fit | other, ms | this, ms | ratio | spread |\n| --- | --- | --- | --- | --- |")
    for name in (name for name in ours.names if options.only in name):
        ours.time(name), other.time(name)
        pairs = [(ours.time(name), other.time(name)) for _ in range(options.turns)]
        times = [1e3 * median(side) for side in zip(*pairs)]
        ratios = [b / a for a, b in pairs]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {times[1]:.4g} | {times[0]:.4g} | **{median(ratios):.2f}** | {spread} |")


if __name__ == "__main__":
    main()
