"""What fits take in memory whose rows lie in a file: ``np.memmap``, dense and sparse.

``python tests/benchmarks/larger_than_memory.py`` makes ten gigabytes of rows in a temporary folder
(``--gb``, ``--folder``), and fits each model in a process of its own. The figure is by how much the
process's own memory grows during the fit, at most; pages of the file are the system's, which drops
them when it needs room. ``rows`` is what a number for each row takes (targets, scores), of which
full-batch solvers hold some, and which is no part of the goal. For Linux.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier

FEATURES, SPARSE_FEATURES, STORED = 100, 1000, 100
MODELS = {
    "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    "LogisticRegression, 5 iterations": LogisticRegression(max_iter=5),
    "LogisticRegression sgd, 1 epoch": LogisticRegression(solver="sgd", max_iter=1),
    "MLPClassifier, 1 epoch, batches of 1,000": MLPClassifier(max_iter=1, batch_size=1000),
    "Perceptron, 1 epoch": Perceptron(max_iter=1),
}
AT_ONCE = 100_000


def write(folder: Path, gigabytes: float) -> None:
    """Rows of normal numbers, and of so many numbers among zeros, with labels that they tell."""
    rng = np.random.default_rng(0)
    n = int(gigabytes * 1e9 / FEATURES / 8)
    dense = np.lib.format.open_memmap(folder / "X.npy", "w+", "float64", (n, FEATURES))
    y = np.empty(n, dtype=np.int64)
    for start in range(0, n, AT_ONCE):
        cut = slice(start, min(start + AT_ONCE, n))
        rows = rng.standard_normal((cut.stop - cut.start, FEATURES))
        dense[cut], y[cut] = rows, rows[:, :5].sum(axis=1) + rng.standard_normal(len(rows)) > 0
    np.save(folder / "y.npy", y)
    n = int(gigabytes * 1e9 / STORED / 12)
    shape, width = (n * STORED,), SPARSE_FEATURES // STORED
    data = np.lib.format.open_memmap(folder / "data.npy", "w+", "float64", shape)
    # Places beyond 2**31 need long numbers.
    kind = np.int32 if shape[0] < 2**31 else np.int64
    indices = np.lib.format.open_memmap(folder / "indices.npy", "w+", kind, shape)
    for start in range(0, n, AT_ONCE):
        rows = min(AT_ONCE, n - start)
        cut = slice(start * STORED, (start + rows) * STORED)
        data[cut] = rng.random(rows * STORED)
        places = rng.integers(0, width, (rows, STORED)) + np.arange(STORED) * width
        indices[cut] = places.ravel()
    np.save(folder / "indptr.npy", np.arange(0, n * STORED + 1, STORED, dtype=kind))


def read(folder: Path, form: str):
    def mapped(name):
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    y = np.load(folder / "y.npy")
    if form == "dense":
        return mapped("X"), y
    parts = mapped("data"), mapped("indices"), mapped("indptr")
    shape = (len(parts[2]) - 1, SPARSE_FEATURES)
    return sp.csr_matrix(parts, shape=shape, copy=False), y[: shape[0]]


def own_memory() -> float:
    """Megabytes of this process that are no pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("/proc/self/status does not say RssAnon.")


def measure(name: str, form: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    X, y = read(folder, form)
    model = MODELS[name].fit(X[:2000], y[:2000])
    peak = before = own_memory()
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    size = (X.nbytes if form == "dense" else X.data.nbytes + X.indices.nbytes) / 1e9
    cells = [f"{name}, {form}", f"{size:.1f}", f"{peak - before:.0f}", f"{8e-6 * len(y):.0f}"]
    print("| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="where there is room for twice as much")
    parser.add_argument("--only", default="", help="part of the names of models")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(*options.measure, options.folder)
    print("| fit | X, GB | above its start, MB | rows, MB | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write(Path(folder), options.gb)
        for form in ("dense", "sparse"):
            for name in (name for name in MODELS if options.only in name):
                command = [sys.executable, __file__, "--measure", name, form, "--folder", folder]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
