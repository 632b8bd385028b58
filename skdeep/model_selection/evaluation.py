"""Evaluate many candidates on many folds: what ``_fit_and_score`` does, for all of them at once."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from traceback import format_exception
from typing import Any

import numpy as np
from joblib.logger import short_format_time
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._validation import _score
from sklearn.utils import assert_all_finite
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params, _num_samples

from ..base import Model
from ..fitting import Fit, can_wait, complete, share
from .discriminants import OnePass, follow, is_discriminant
from .pipelines import Prefix, can_be_split, final_step, prefix_key
from .scoring import accuracies, asks_only_methods, is_accuracy


@dataclass(eq=False, kw_only=True)
class Task:
    """The arguments of one call of ``_fit_and_score``, and the place of its result."""

    index: int
    estimator: Any
    X: Any
    y: Any
    scorer: Any
    train: Any
    test: Any
    verbose: int
    parameters: dict | None
    fit_params: dict | None
    score_params: dict | None
    return_train_score: bool = False
    return_parameters: bool = False
    return_n_test_samples: bool = False
    return_times: bool = False
    return_estimator: bool = False
    split_progress: tuple | None = None
    candidate_progress: tuple | None = None
    error_score: Any = np.nan
    caller: Any = None
    callback_ctx: Any = None

    def prepare(self) -> bool:
        """Set the candidate's parameters; whether the fit is one of ours, to be stacked."""
        values = [] if self.parameters is None else self.parameters.values()
        steps = any(
            isinstance(value, BaseEstimator) or value == "passthrough"
            for value in values
            if isinstance(value, BaseEstimator | str)
        )
        if not (steps or isinstance(final_step(self.estimator), Model)):
            return False
        if self.parameters is not None:
            # As in scikit-learn: parameters may be estimators themselves.
            self.estimator.set_params(**clone(self.parameters, safe=False))
        if not can_wait(final_step(self.estimator)):
            return False
        return self.estimator is final_step(self.estimator) or can_be_split(self)


@dataclass(eq=False)
class Fold:
    """The rows of a fold, as the last step of the tasks sees them, made once for all tasks."""

    tasks: list[Task]
    X: Any = None
    y: Any = None
    X_test: Any = None
    y_test: Any = None
    fit_params: dict = field(default_factory=dict)
    train_score_params: dict = field(default_factory=dict)
    test_score_params: dict = field(default_factory=dict)
    given_X: Any = None
    given_X_test: Any = None
    prefix: Prefix | None = None
    fits: list = field(default_factory=list)
    seconds: float = 0.0


def folds(tasks: list[Task]) -> Iterator[list[Task]]:
    """Tasks that train on the same rows, transformed by the same steps."""
    groups: dict = {}
    for task in tasks:
        key = (id(task.train), id(task.test), id(task.X), id(task.y), prefix_key(task))
        groups.setdefault(key, []).append(task)
    return iter(groups.values())


def evaluate(tasks: list[Task], n_threads: int = 1) -> list[dict]:
    """The results of ``_fit_and_score`` for the tasks, in their order.

    Solvers with threads of their own use ``n_threads``, unless the estimator says how many.
    """
    results: dict = {}
    limit = getattr(tasks[0].caller, "max_memory", None)
    one_pass = OnePass(tasks) if OnePass.possible(tasks) else None
    groups = [Fold(group) for group in folds(tasks)]
    finite = _is_finite(tasks[0].X) if one_pass is None else True
    # Folds are dealt with one after the other, so that one training set is in memory at a time.
    for together in [groups] if one_pass else [[group] for group in groups]:
        start = time.time()
        with ExitStack() as contexts:
            for fold in together:
                _split(fold, one_pass)
                _begin(fold, finite, contexts, one_pass)
            fits = [fit for fold in together for fit in fold.fits if fit is not None]
            _give_threads(fits, n_threads)
            with config_context(assume_finite=finite):
                complete(fits, limit)
        per_task = (time.time() - start) / sum(len(fold.tasks) for fold in together)
        for fold in together:
            for task, result in zip(fold.tasks, _results(fold, per_task), strict=True):
                results[task.index] = result
            fold.fits = []
    return [results[task.index] for task in tasks]


def _give_threads(fits: list[Fit], n_threads: int) -> None:
    for fit in fits:
        options = {} if fit.problem is None else fit.problem.options
        if n_threads > 1 and options.get("n_jobs", 1) is None:
            fit.problem = replace(fit.problem, options={**options, "n_jobs": n_threads})


def _is_finite(X) -> bool:
    """Whether X is known to be finite, so that no fit has to look again."""
    if not (isinstance(X, np.ndarray) or sparse.issparse(X)) or X.dtype.kind not in "biuf":
        return False
    try:
        assert_all_finite(X.data if sparse.issparse(X) else X)
    except ValueError:
        return False
    return True


def _split(fold: Fold, one_pass: OnePass | None) -> None:
    task = fold.tasks[0]
    estimator, X, y = task.estimator, task.X, task.y
    fit_params, score_params = task.fit_params or {}, task.score_params or {}
    fold.fit_params = _check_method_params(X, params=fit_params, indices=task.train)
    fold.train_score_params = _check_method_params(X, params=score_params, indices=task.train)
    fold.test_score_params = _check_method_params(X, params=score_params, indices=task.test)
    if one_pass:
        fold.X, fold.y = one_pass.training_rows(task.train)
    else:
        fold.X, fold.y = _safe_split(estimator, X, y, task.train)
    fold.X_test, fold.y_test = _safe_split(estimator, X, y, task.test, task.train)
    fold.given_X, fold.given_X_test = fold.X, fold.X_test
    whole = isinstance(fold.X, np.ndarray) and fold.X.dtype.kind in "iu"
    if whole and final_step(estimator) is estimator:
        fold.X = fold.X.astype(np.float64)  # what each fit would do
        fold.X_test = fold.X_test.astype(np.float64)


def _begin(fold: Fold, finite: bool, contexts: ExitStack, one_pass: OnePass | None) -> None:
    """Begin the fits, after the steps before them."""
    for task in fold.tasks:
        if task.callback_ctx is not None:
            contexts.enter_context(task.callback_ctx.propagate_callback_context(task.estimator))
            weight = fold.fit_params.get("sample_weight")
            task.callback_ctx.call_on_fit_task_begin(
                estimator=task.caller,
                X=fold.X,
                y=fold.y,
                metadata=None if weight is None else {"sample_weight": weight},
            )
    first = fold.tasks[0].estimator
    fit_params = fold.fit_params
    if final_step(first) is not first:
        fold.prefix = Prefix(first, fold.X, fold.y, fit_params)
        if fold.prefix.error is not None:
            fold.fits = [None] * len(fold.tasks)
            return
        fold.X, fit_params = fold.prefix.X, fold.prefix.final_params
        finite = finite and _is_finite(fold.X)
    leaders: dict = {}
    with config_context(assume_finite=finite):
        for task in fold.tasks:
            estimator = final_step(task.estimator)
            fit = Fit(estimator, fold.X, fold.y, **fit_params)
            if is_discriminant(estimator):
                follow(fit, leaders)
            fit.begin()
            fold.fits.append(fit)
    if not one_pass:
        share(fold.fits)
    for task, fit in zip(fold.tasks, fold.fits, strict=True):
        if fit.problem is not None and is_discriminant(fit.estimator):
            if asks_only_methods(task.scorer) and not task.return_estimator:
                options = {**fit.problem.options, "store_covariance": False, "project": False}
                if fit.problem.options["rule"] != "svd":
                    fit.problem = replace(fit.problem, options=options)
            if one_pass:
                fit.problem = one_pass.expand(fit, task.train)


def _results(fold: Fold, fit_time: float) -> list[dict]:
    """Scores of all tasks of a fold whose fits are complete."""
    tasks = fold.tasks
    errors = [fold.prefix.error if fit is None else fit.error for fit in fold.fits]
    for task, error in zip(tasks, errors, strict=True):
        if error is not None and task.error_score == "raise":
            raise error
    fitted = [i for i, error in enumerate(errors) if error is None]
    for i in fitted:
        if fold.prefix is not None:
            fold.prefix.complete(tasks[i].estimator)
    start = time.time()
    test, train = {}, {}
    if fitted:
        X_test, given = fold.X_test, fold.given_X_test
        try:
            if fold.prefix is not None and asks_only_methods(tasks[0].scorer):
                X_test = fold.prefix.transform(given)
        except Exception:
            X_test = None  # scoring by the whole pipeline raises it again, in its place
        test = _scores(fold, fitted, X_test, given, fold.y_test, fold.test_score_params)
    score_time = (time.time() - start) / max(len(fitted), 1)
    if fitted and tasks[0].return_train_score:
        train = _scores(
            fold, fitted, fold.X, fold.given_X, fold.y, fold.train_score_params, train=True
        )
    out = []
    for i, (task, error) in enumerate(zip(tasks, errors, strict=True)):
        out.append(_result(fold, task, error, test.get(i), train.get(i), fit_time, score_time))
    return out


def _scores(fold: Fold, fitted: list[int], X, given_X, y, params, train=False) -> dict:
    """Scores by position in the fold; ``X`` is as the last steps see it, None to ask the whole."""
    tasks = fold.tasks
    finals = [final_step(tasks[i].estimator) for i in fitted]
    scorer = tasks[fitted[0]].scorer
    if train and _is_placeholder(X):
        X = given_X = _safe_split(finals[0], tasks[0].X, None, tasks[0].train)[0]
    weight = params.get("sample_weight")
    if X is not None and set(params) <= {"sample_weight"} and is_accuracy(scorer, finals[0]):
        found = accuracies(finals, X, y, weight)
        if found is not None:
            return dict(zip(fitted, found, strict=True))
    ask_finals = X is not None and asks_only_methods(scorer)
    out = {}
    for i, final in zip(fitted, finals, strict=True):
        estimator, rows = (final, X) if ask_finals else (tasks[i].estimator, given_X)
        out[i] = _score(estimator, rows, y, scorer, params, tasks[i].error_score)
    return out


def _is_placeholder(X) -> bool:
    return isinstance(X, np.ndarray) and X.ndim == 2 and X.strides[0] == 0 and len(X) > 1


def _result(fold, task, error, test_scores, train_scores, fit_time, score_time) -> dict:
    if error is not None:
        test_scores, score_time = task.error_score, 0.0
        if isinstance(task.scorer, _MultimetricScorer):
            test_scores = dict.fromkeys(task.scorer._scorers, task.error_score)
        train_scores = test_scores.copy() if isinstance(test_scores, dict) else test_scores
    if task.callback_ctx is not None:
        weight = fold.fit_params.get("sample_weight")
        task.callback_ctx.call_on_fit_task_end(
            estimator=task.caller,
            X=fold.given_X,
            y=fold.y,
            metadata=None if weight is None else {"sample_weight": weight},
        )
    result = {
        "fit_error": None if error is None else "".join(format_exception(error)),
        "test_scores": test_scores,
    }
    if task.return_train_score:
        result["train_scores"] = train_scores
    if task.return_n_test_samples:
        result["n_test_samples"] = _num_samples(fold.X_test)
    if task.return_times:
        result["fit_time"], result["score_time"] = fit_time, score_time
    if task.return_parameters:
        result["parameters"] = task.parameters
    if task.return_estimator:
        result["estimator"] = task.estimator
    if task.verbose > 1:
        _report(task, result, fit_time + score_time)
    return result


def _report(task: Task, result: dict, seconds: float) -> None:
    """scikit-learn's line about a finished fit."""
    progress = ""
    if task.verbose > 2:
        if task.split_progress is not None:
            progress = f" {task.split_progress[0] + 1}/{task.split_progress[1]}"
        if task.candidate_progress and task.verbose > 9:
            progress += f"; {task.candidate_progress[0] + 1}/{task.candidate_progress[1]}"
    text = ", ".join(f"{k}={task.parameters[k]}" for k in sorted(task.parameters or {}))
    if task.verbose > 9:
        start = f"[CV{progress}] START {text}"
        print(start + (80 - len(start)) * ".")
    text += ";" if text else ""

    def shown(test, train):
        train = f"train={train:.3f}, " if task.return_train_score else ""
        return f"{train}test={test:.3f}"

    if task.verbose > 2:
        scores, train = result["test_scores"], result.get("train_scores")
        if isinstance(scores, dict):
            for name in sorted(scores):
                text += f" {name}: ({shown(scores[name], train and train[name])})"
        else:
            inside = shown(scores, train)
            text += f", score={f'({inside})' if task.return_train_score else inside[5:]}"
    text += f" total time={short_format_time(seconds)}"
    end = f"[CV{progress}] END "
    print(end + "." * (80 - len(end) - len(text)) + text)
