"""Seconds of whole searches: skdeep's models in skdeep's search against scikit-learn's in its own.

``python tests/benchmarks/search.py --data DIR`` prints a row of ``docs/search.md`` for each search;
names after the options pick rows. DIR holds ``mnist10k.npz``, ``adult_train.csv.gz`` and
``phoneme.csv.gz``; a row without its data is skipped and says so. The first search of each kind
also starts the worker processes, and so both sides run a small search before the clock does.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.model_selection
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

import skdeep.model_selection

N_JOBS = 2


class Row(NamedTuple):
    """A search: its data, the estimator as made from either package, the grid and the aim."""

    title: str
    data: Callable
    estimator: Callable
    grid: dict
    target: float


def blobs(n: int, p: int, n_classes: int = 3):
    """Overlapping classes."""

    def make(folder):
        rng = np.random.RandomState(0)
        y = rng.randint(0, n_classes, n)
        return 0.3 * rng.randn(n_classes, p)[y] + rng.randn(n, p) @ np.diag(
            rng.uniform(0.3, 3.0, p)
        ), y

    return make


def mnist(folder: Path):
    """Ten thousand digits, in [0, 1]."""
    with np.load(folder / "mnist10k.npz") as file:
        return file["X"] / 255.0, file["y"]


def adult(folder: Path):
    """Census records, categories as indicators."""
    import pandas as pd

    table = pd.read_csv(folder / "adult_train.csv.gz", skipinitialspace=True)
    y = (table.pop("income") == ">50K").to_numpy().astype(int)
    numeric = table.select_dtypes("number").columns
    table[numeric] = (table[numeric] - table[numeric].mean()) / table[numeric].std()
    return np.ascontiguousarray(pd.get_dummies(table, dtype=float).to_numpy()), y


def phoneme(folder: Path):
    """Five features of speech, standardised; two classes."""
    import pandas as pd

    table = pd.read_csv(folder / "phoneme.csv.gz")
    X = table.iloc[:, :-1].to_numpy(dtype=float)
    _, y = np.unique(table.iloc[:, -1], return_inverse=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def of(module: str, name: str, **parameters) -> Callable:
    """The estimator from ``sklearn`` or ``skdeep``."""
    return lambda package: getattr(import_module(f"{package}.{module}"), name)(**parameters)


LDA = of("discriminant_analysis", "LinearDiscriminantAnalysis", solver="lsqr")
LOGISTIC = of("linear_model", "LogisticRegression", max_iter=200)
SHRINKAGES = {"shrinkage": np.linspace(0.0, 1.0, 20)}
CS = np.logspace(-4, 2, 10)


def with_pca(package: str):
    return make_pipeline(PCA(50, random_state=0), LOGISTIC(package))


ROWS = {
    "lda-small": Row("LDA, 20 shrinkages, 20,000 × 20", blobs(20_000, 20), LDA, SHRINKAGES, 50),
    "lda-large": Row("LDA, 20 shrinkages, 50,000 × 100", blobs(50_000, 100), LDA, SHRINKAGES, 25),
    "lda-mnist": Row("LDA, 20 shrinkages, mnist10k", mnist, LDA, SHRINKAGES, 15),
    "logistic": Row(
        "Logistic regression, 10 C, 50,000 × 100", blobs(50_000, 100), LOGISTIC, {"C": CS}, 5
    ),
    "logistic-mnist": Row("Logistic regression, 10 C, mnist10k", mnist, LOGISTIC, {"C": CS}, 10),
    "perceptron": Row(
        "Perceptron, L2, 10 alpha, adult",
        adult,
        of("linear_model", "Perceptron", penalty="l2"),
        {"alpha": np.logspace(-7, -3, 10)},
        3,
    ),
    "mlp": Row(
        "MLP, 4 alpha × 3 rates, phoneme",
        phoneme,
        of("neural_network", "MLPClassifier", random_state=0, max_iter=50),
        {"alpha": [1e-5, 1e-4, 1e-3, 1e-2], "learning_rate_init": [1e-3, 3e-3, 1e-2]},
        3,
    ),
    "pipeline": Row(
        "PCA and logistic regression, 10 C, mnist10k",
        mnist,
        with_pca,
        {"logisticregression__C": CS},
        10,
    ),
}


def search(package: str, row: Row, X, y):
    """Seconds and the fitted search."""
    module = skdeep.model_selection if package == "skdeep" else sklearn.model_selection
    grid = module.GridSearchCV(row.estimator(package), row.grid, cv=5, n_jobs=N_JOBS)
    start = time.perf_counter()
    grid.fit(X, y)
    return time.perf_counter() - start, grid


def warm_up():
    """Start workers and load libraries, on both sides."""
    for package in ("sklearn", "skdeep"):
        for name in ("logistic", "mlp", "lda-small"):
            search(package, ROWS[name], *blobs(200, 5)(None))
        # A smaller search would not be worth loading numba for: 0.3 s, once a process.
        search(package, ROWS["perceptron"], *blobs(30_000, 100, 2)(None))


def gpu(folder: Path) -> None:
    """256 nets on a GPU, against all cores and against a loop of single fits on the GPU."""
    try:
        import torch
    except ModuleNotFoundError:
        torch = None
    if torch is None or not torch.cuda.is_available():
        print("| MLP, 64 candidates × 4 folds | not run on a GPU: there is none | | | | |")
        return
    grid = {"alpha": np.logspace(-6, -1, 8), "learning_rate_init": np.logspace(-4, -2, 8)}
    for name, data in (("phoneme", phoneme), ("mnist10k", mnist)):
        X, y = data(folder)
        X, settings = X.astype("float32"), {"max_iter": 20, "random_state": 0}
        theirs = of("neural_network", "MLPClassifier", **settings)("sklearn")
        ours = of("neural_network", "MLPClassifier", backend="torch:cuda", **settings)("skdeep")
        seconds = []
        for module, model, n_jobs in (
            (skdeep.model_selection, ours, 1),
            (sklearn.model_selection, theirs, -1),
            (sklearn.model_selection, ours, 1),
        ):
            start = time.perf_counter()
            module.GridSearchCV(model, grid, cv=4, n_jobs=n_jobs, refit=False).fit(X, y)
            seconds.append(time.perf_counter() - start)
        for title, other, aim in (
            ("all cores", seconds[1], 30),
            ("a loop on the GPU", seconds[2], 50),
        ):
            title = f"MLP, 64 candidates × 4 folds, {name}, GPU against {title}"
            ratio = other / seconds[0]
            print(f"| {title} | {other:.2f} | {seconds[0]:.2f} | {ratio:.1f} | {aim} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"rows to run: {', '.join(ROWS)}, gpu")
    parser.add_argument("--data", type=Path, default=Path("."), help="folder of the data sets")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # in the workers too
    warm_up()
    print("| search, 5 folds | scikit-learn, s | skdeep, s | ratio | aim | best scores |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, row in ROWS.items():
        if arguments.names and name not in arguments.names:
            continue
        try:
            X, y = row.data(arguments.data)
        except FileNotFoundError as error:
            print(f"| {row.title} | skipped: no {Path(error.filename).name} | | | | |")
            continue
        ours, found = search("skdeep", row, X, y)
        theirs, expected = search("sklearn", row, X, y)
        ratio = theirs / ours
        met = "" if ratio >= row.target else " (missed)"
        scores = f"{expected.best_score_:.5f} {found.best_score_:.5f}"
        print(
            f"| {row.title} | {theirs:.2f} | {ours:.2f} | {ratio:.1f} | {row.target:g}{met} "
            f"| {scores} |",
            flush=True,
        )
    if not arguments.names or "gpu" in arguments.names:
        gpu(arguments.data)


if __name__ == "__main__":
    main()
