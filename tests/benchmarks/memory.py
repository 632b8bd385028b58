"""Peak memory of fits above what their data take: skdeep next to scikit-learn, in one table.

    python tests/benchmarks/memory.py

Each fit has a process of its own. It loads its data, makes a small fit of the same kind and some
matrix products, gives freed memory back to the system, and then notes by how much the process grows
during the fit, at most. So neither imports nor compilation nor the buffers of the BLAS count. The
last column is peak over peak, the data included. For Linux, whose /proc says the peak.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_info


class Row(NamedTuple):
    """A fit: its estimator as made from either package, and the data.

    ``compiled`` where skdeep's perceptron loads numba for data of full size.
    """

    title: str
    estimator: Callable
    n_classes: int = 2
    dtype: str = "float64"
    form: str = "dense"
    compiled: bool = False


def of(module: str, name: str, **parameters) -> Callable:
    """The estimator from ``sklearn`` or ``skdeep``."""
    return lambda package: getattr(import_module(f"{package}.{module}"), name)(**parameters)


def search(make: Callable, **grid) -> Callable:
    """A search of five folds over an estimator, in this process."""

    def search_of(package):
        module = import_module(f"{package}.model_selection")
        return module.GridSearchCV(make(package), grid, cv=5)

    return search_of


def in_single(package: str):
    """A network in float32 on data in float64, which scikit-learn has not."""
    return NET(package).set_params(**{"dtype": "float32"} if package == "skdeep" else {})


PERCEPTRON = of("linear_model", "Perceptron")
PENALISED = of("linear_model", "Perceptron", penalty="l2")
LDA = of("discriminant_analysis", "LinearDiscriminantAnalysis")
LOGISTIC = of("linear_model", "LogisticRegression", max_iter=200)
WEAK = of("linear_model", "LogisticRegression", max_iter=200, C=1e4, tol=1e-8)
NET = of("neural_network", "MLPClassifier", max_iter=2, random_state=0)
EARLY = of("neural_network", "MLPClassifier", max_iter=2, random_state=0, early_stopping=True)
REGRESSOR = of("neural_network", "MLPRegressor", max_iter=2, random_state=0)

ROWS = {
    "perceptron": Row("`Perceptron`", PERCEPTRON),
    "perceptron-memmap": Row("`Perceptron`, `np.memmap`", PERCEPTRON, form="memmap"),
    "perceptron-sparse": Row("`Perceptron`, CSR, a tenth stored", PERCEPTRON, form="sparse"),
    "perceptron-5": Row("`Perceptron`, 5 classes", PERCEPTRON, 5, compiled=True),
    "lda": Row("`LinearDiscriminantAnalysis`, 5 classes", LDA, 5),
    "logistic": Row("`LogisticRegression`", LOGISTIC),
    "logistic-5": Row("`LogisticRegression`, 5 classes", LOGISTIC, 5),
    "logistic-weak": Row("`LogisticRegression`, 5 classes, `C=1e4`, `tol=1e-8`", WEAK, 5),
    "mlp": Row("`MLPClassifier`", NET, 5),
    "mlp-32": Row("`MLPClassifier`, float32", NET, 5, "float32"),
    "mlp-memmap": Row("`MLPClassifier`, float32, `np.memmap`", NET, 5, "float32", "memmap"),
    "mlp-cast": Row('`MLPClassifier`, `dtype="float32"`', in_single, 5),
    "mlp-early": Row("`MLPClassifier`, early stopping", EARLY, 5),
    "mlp-fortran": Row("`MLPClassifier`, Fortran order", NET, 5, form="fortran"),
    "regressor-32": Row("`MLPRegressor`, float32", REGRESSOR, 5, "float32"),
    "search-logistic": Row(
        "search: `LogisticRegression`, 10 `C`", search(LOGISTIC, C=np.logspace(-4, 2, 10))
    ),
    "search-perceptron": Row(
        "search: `Perceptron`, L2, 10 `alpha`",
        search(PENALISED, alpha=np.logspace(-7, -3, 10)),
        compiled=True,
    ),
}


def make_data(row: Row, n: int, p: int):
    """Overlapping classes."""
    rng = np.random.RandomState(0)
    y = rng.randint(0, row.n_classes, n)
    X = rng.randn(n, p)
    X += 0.3 * rng.randn(row.n_classes, p)[y]
    if row.form == "sparse":
        X[rng.uniform(size=X.shape) > 0.1] = 0.0
    return X.astype(row.dtype), y


def save(row: Row, folder: Path, n: int, p: int) -> None:
    X, y = make_data(row, n, p)
    np.save(folder / "y.npy", y)
    if row.form == "sparse":
        sp.save_npz(folder / "X.npz", sp.csr_matrix(X), compressed=False)
    else:
        np.save(folder / "X.npy", np.asfortranarray(X) if row.form == "fortran" else X)


def load(row: Row, folder: Path):
    """The data, all of it in memory, as the pages of a file if it is mapped."""
    y = np.load(folder / "y.npy")
    if row.form == "sparse":
        return sp.load_npz(folder / "X.npz"), y
    X = np.load(folder / "X.npy", mmap_mode="r" if row.form == "memmap" else None)
    X.max()
    return X, y


def size(X) -> int:
    return sum(a.nbytes for a in (X.data, X.indices, X.indptr)) if sp.issparse(X) else X.nbytes


def warm_up(row: Row, package: str) -> None:
    X, y = make_data(row, 200, 100)
    X = sp.csr_matrix(X) if row.form == "sparse" else X
    row.estimator(package).fit(X, y)
    if row.compiled and package == "skdeep":
        with mock.patch("skdeep.solvers.perceptron.compiled.WORTH_COMPILING", 0):
            row.estimator(package).fit(X, y)
    for dtype in ("float64", "float32"):
        square = np.ones((1500, 1500), dtype)
        square @ square


def machine() -> str:
    """The processor and the kernels that the BLAS chose for it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    kernels = {pool["architecture"] for pool in threadpool_info() if "architecture" in pool}
    return f"{processor}, kernels of the BLAS: {', '.join(sorted(kernels))}"


def kilobytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status does not say {name}.")


def measure(row: Row, package: str, folder: Path) -> None:
    """Print the bytes of X and by how many the process grows during the fit."""
    warnings.simplefilter("ignore")
    warm_up(row, package)
    X, y = load(row, folder)
    estimator = row.estimator(package)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    estimator.fit(X, y)
    print(size(X), 1024 * (kilobytes("VmHWM") - before))


def in_a_process(name: str, package: str, folder: Path) -> tuple[float, float]:
    """Megabytes of X and above X."""
    command = [sys.executable, __file__, name, "--measure", package, "--folder", str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    data, above = (int(word) / 1e6 for word in found.split())
    return data, above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"rows to run: {', '.join(ROWS)}")
    parser.add_argument(
        "--quick", action="store_true", help="20,000 × 50 in place of 100,000 × 100"
    )
    parser.add_argument("--measure", choices=["skdeep", "sklearn"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(ROWS[arguments.names[0]], arguments.measure, arguments.folder)
        return
    shape = (20_000, 50) if arguments.quick else (100_000, 100)
    print(f"{machine()}; {shape[0]:,} × {shape[1]}\n")
    print("| fit | X, MB | skdeep, MB | scikit-learn, MB | ratio, X included |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in arguments.names or ROWS:
        row = ROWS[name]
        with tempfile.TemporaryDirectory() as folder:
            save(row, Path(folder), *shape)
            data, ours = in_a_process(name, "skdeep", Path(folder))
            data, theirs = in_a_process(name, "sklearn", Path(folder))
        ratio = (data + ours) / (data + theirs)
        print(f"| {row.title} | {data:.0f} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
