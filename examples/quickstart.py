"""Handwritten digits by four classifiers, each next to scikit-learn's own class.

    python examples/quickstart.py
    python examples/quickstart.py --openml mnist_784 --backend torch:cuda

Both libraries get the same pipelines, the same rows in the same folds and the same seeds, so the
scores may be compared and the seconds too. After the table come two pictures: a confusion matrix,
and the loss of the networks, epoch by epoch.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import fetch_openml, load_diabetes, load_digits
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import resample

# The module each class has in both libraries, and the parameters both are given.
CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Perceptron": ("linear_model", {"random_state": 0}),
    "LogisticRegression": ("linear_model", {"max_iter": 1000}),
    "LinearDiscriminantAnalysis": ("discriminant_analysis", {}),
    "MLPClassifier": ("neural_network", {"tol": 1e-3, "random_state": 0}),
}
REGRESSION = "MLPRegressor"
MODELS = CLASSIFIERS | {
    REGRESSION: ("neural_network", {"alpha": 10, "tol": 1e-3, "random_state": 0})
}
SEARCH = "GridSearchCV of MLPClassifier"
GRID = {
    "mlpclassifier__hidden_layer_sizes": [(50,), (100,)],
    "mlpclassifier__alpha": [1e-4, 1e-1],
}
FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)


class Outcome(NamedTuple):
    """What one library made of one task; `fitted` and `test_rows` have one entry a fold."""

    score: float
    std: float
    seconds: float
    fitted: list[BaseEstimator]
    test_rows: list[np.ndarray]

    def __str__(self) -> str:
        return f"{self.score:.3f} ± {self.std:.3f}"


class Job(NamedTuple):
    """One task in one library, ready to run."""

    task: str
    library: str
    run: Callable[[], Outcome]


def load(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The digits asked for, one row an image; a stratified draw of them with `--n-samples`."""
    if args.openml:
        X, y = fetch_openml(args.openml, version=1, return_X_y=True, as_frame=False)
        X = X.astype(np.float32)
    elif args.npz:
        with np.load(args.npz) as arrays:
            X, y = arrays["X"], arrays["y"]
        X = X.reshape(len(X), -1)
    else:
        X, y = load_digits(return_X_y=True)
    if args.n_samples and args.n_samples < len(X):
        X, y = resample(X, y, replace=False, n_samples=args.n_samples, stratify=y, random_state=0)
    return X, y


def build(library: str, name: str, **extra: Any) -> Pipeline:
    """The model behind a scaler. Between the libraries, one word of the import differs."""
    module, params = MODELS[name]
    estimator = getattr(import_module(f"{library}.{module}"), name)
    return make_pipeline(StandardScaler(), estimator(**params, **extra))


def make_jobs(X: np.ndarray, y: np.ndarray, backend: str) -> list[Job]:
    """Every task, in skdeep and in scikit-learn."""
    jobs = []
    for library, extra in (("skdeep", {"backend": backend}), ("sklearn", {})):
        model = partial(build, library, **extra)
        runs = {name: partial(cross_validated, model(name), X, y, FOLDS) for name in CLASSIFIERS}
        runs[SEARCH] = partial(searched, GridSearchCV(model("MLPClassifier"), GRID, cv=FOLDS), X, y)
        runs[REGRESSION] = partial(
            cross_validated,
            TransformedTargetRegressor(model(REGRESSION), transformer=StandardScaler()),
            *load_diabetes(return_X_y=True),
            KFold(5, shuffle=True, random_state=0),
        )
        jobs += [Job(task, library, run) for task, run in runs.items()]
    return sorted(jobs, key=lambda job: job.task)  # turn by turn: a busy machine slows both


def cross_validated(model: BaseEstimator, X: np.ndarray, y: np.ndarray, folds: KFold) -> Outcome:
    """Scores over the folds; the seconds are those of fitting and scoring."""
    warm_up(model, X, y)
    cv = cross_validate(model, X, y, cv=folds, return_estimator=True, return_indices=True)
    scores, seconds = cv["test_score"], cv["fit_time"].sum() + cv["score_time"].sum()
    return Outcome(scores.mean(), scores.std(), seconds, cv["estimator"], cv["indices"]["test"])


def searched(search: GridSearchCV, X: np.ndarray, y: np.ndarray) -> Outcome:
    """The best candidate's scores over the folds; the seconds are those of the whole search."""
    warm_up(search.estimator, X, y)
    start = perf_counter()
    search.fit(X, y)
    seconds = perf_counter() - start
    std = search.cv_results_["std_test_score"][search.best_index_]
    return Outcome(search.best_score_, std, seconds, [search.best_estimator_], [])


def warm_up(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> None:
    """Fit a hundred rows, so that no fold pays for what only a first call has to load."""
    some = slice(None, None, max(1, len(X) // 100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few rows may well not converge
        clone(model).fit(X[some], y[some])


def watch(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield the jobs under a progress bar that names the one at work."""
    try:
        from rich.progress import Progress
    except ImportError:
        print('No progress bar: it needs rich, pip install -e ".[progress]"', file=sys.stderr)
        yield from jobs
        return
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        line = bar.add_task("", total=len(jobs))
        for job in jobs:
            bar.update(line, description=f"{job.task} ({job.library})")
            yield job
            bar.advance(line)


def final_step(model: BaseEstimator) -> BaseEstimator:
    """The estimator inside the scaling of inputs and of targets."""
    return getattr(model, "regressor_", model)[-1]


def print_table(outcomes: dict[tuple[str, str], Outcome]) -> None:
    """One line a classifier, then what the search chose and how the regression went."""
    row = "{:<30} {:<13} {:>15} {:>15} {:>9} {:>11}".format
    head = row("model", "backend", "accuracy", "of sklearn", "seconds", "of sklearn")
    print(head, "-" * len(head), sep="\n")
    for task in [*CLASSIFIERS, SEARCH]:
        ours, theirs = outcomes[task, "skdeep"], outcomes[task, "sklearn"]
        seconds = f"{ours.seconds:.2f}", f"{theirs.seconds:.2f}"
        print(row(task, final_step(ours.fitted[0]).backend_, str(ours), str(theirs), *seconds))

    best = final_step(outcomes[SEARCH, "skdeep"].fitted[0])
    print(f"\nThe search chose hidden layers {best.hidden_layer_sizes} and alpha {best.alpha:g}.")
    ours, theirs = outcomes[REGRESSION, "skdeep"], outcomes[REGRESSION, "sklearn"]
    print(
        f"{REGRESSION} on diabetes ({final_step(ours.fitted[0]).backend_}): "
        f"R² {ours} in {ours.seconds:.2f} s, of sklearn {theirs} in {theirs.seconds:.2f} s."
    )


def save_pictures(
    outcomes: dict[tuple[str, str], Outcome], X: np.ndarray, y: np.ndarray, folder: Path
) -> None:
    """The MLP's confusion matrix over all held-out rows, and the loss curves of both networks."""
    try:
        import matplotlib
    except ImportError:
        print('No pictures: they need matplotlib, pip install -e ".[plot]"', file=sys.stderr)
        return
    matplotlib.use("Agg")  # files only, so no display is needed
    import matplotlib.pyplot as plt
    from sklearn.metrics import ConfusionMatrixDisplay

    folder.mkdir(parents=True, exist_ok=True)
    mlp = outcomes["MLPClassifier", "skdeep"]
    predicted = np.empty_like(y)
    for model, rows in zip(mlp.fitted, mlp.test_rows, strict=True):
        predicted[rows] = model.predict(X[rows])
    figure, ax = plt.subplots(figsize=(6, 6), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(y, predicted, ax=ax, cmap="Blues", colorbar=False)
    ax.set_title("MLPClassifier on the held-out digits of all folds")
    figure.savefig(folder / "confusion_matrix.png", dpi=120)

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    styles = {"skdeep": {"lw": 5, "color": "skyblue"}, "sklearn": {"lw": 1, "color": "black"}}
    for ax, task in zip(axes, ["MLPClassifier", REGRESSION], strict=True):
        for library, style in styles.items():
            for fold, model in enumerate(outcomes[task, library].fitted):
                label = None if fold else f"{library}, a line a fold"
                ax.plot(final_step(model).loss_curve_, label=label, **style)
        ax.set(title=task, xlabel="epoch", ylabel="training loss")
        ax.legend()
    figure.savefig(folder / "loss_curves.png", dpi=120)
    print(f"Pictures: {folder / 'confusion_matrix.png'}, {folder / 'loss_curves.png'}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--openml", metavar="NAME", help="a data set of openml.org: mnist_784")
    source.add_argument("--npz", type=Path, metavar="FILE", help="a file with arrays X and y")
    parser.add_argument("--n-samples", type=int, metavar="N", help="use only N of the images")
    parser.add_argument("--backend", default="auto", help="auto, numpy, torch, torch:cuda, ...")
    parser.add_argument("--output", type=Path, default=Path("quickstart-pictures"), metavar="DIR")
    args = parser.parse_args(argv)

    X, y = load(args)
    try:  # a backend that is not there is better said in one line, before the work begins
        warm_up(build("skdeep", "MLPClassifier", backend=args.backend), X, y)
    except ValueError as error:
        parser.error(str(error))
    print(f"{len(X)} images of {X.shape[1]} pixels, {len(np.unique(y))} classes, 5 folds\n")
    outcomes = {(job.task, job.library): job.run() for job in watch(make_jobs(X, y, args.backend))}
    print_table(outcomes)
    save_pictures(outcomes, X, y, args.output)


if __name__ == "__main__":
    main()
