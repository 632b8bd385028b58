"""Evaluate many candidates on many folds: what ``_fit_and_score`` does, for all of them at once."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from traceback import format_exception
from typing import Any

import numpy as np
from joblib.logger import short_format_time
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.utils import assert_all_finite

from .._sklearn import (
    _check_method_params,
    _MultimetricScorer,
    _num_samples,
    _safe_indexing,
    _safe_split,
    _score,
)
from ..base import Model
from ..fitting import Fit, can_wait, complete, follow, share
from ..interrupts import scope
from ..neural_network.held_out import knowing
from .discriminants import begin_all, drop_unscored, is_discriminant, one_pass
from .pipelines import Prefix, can_be_split, final_step, prefix_key
from .predictions import are_networks, are_rows, predictions
from .scoring import accuracies, accuracies_of, asks_only_methods, is_accuracy
from .shared_rows import Resident, can_share, share_rows


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
    error: Exception | None = None

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


class Part:
    """Training or test rows of a fold. They are cut out when they are first asked for."""

    def __init__(self, task: Task, rows, *train):
        self.task, self.rows, self._train = task, rows, train
        self.y = None if task.y is None else _safe_indexing(task.y, rows)

    @cached_property
    def X(self):
        task = self.task
        return _safe_split(task.estimator, task.X, None, self.rows, *self._train)[0]

    @cached_property
    def numbers(self):
        """X in floating point if it is an array of integers: what each fit would make of it."""
        whole = isinstance(self.X, np.ndarray) and self.X.dtype.kind in "iu"
        return self.X.astype(np.float64) if whole else self.X

    @property
    def source(self):
        """An array and the rows of it that these are, None for all."""
        chosen = isinstance(self.rows, np.ndarray) and self.rows.dtype.kind in "iu"
        return (self.task.X, self.rows) if chosen else (self.X, None)

    def __len__(self) -> int:
        return _num_samples(self.X if self.y is None else self.y)

    def params(self, given: dict | None) -> dict:
        """What of the parameters of a method belongs to these rows."""
        return _check_method_params(self.task.X, params=given or {}, indices=self.rows)


class Fold:
    """What tasks share that train on the same rows, after the same steps."""

    def __init__(self, tasks: list[Task]):
        first = tasks[0]
        self.tasks = tasks
        self.train, self.test = Part(first, first.train), Part(first, first.test, first.train)
        self.fit_params = self.train.params(first.fit_params)
        self.prefix: Prefix | None = None
        self.fits: list[Fit] = []
        self.resident: Resident | None = None

    def call(self, hook: str, task: Task) -> None:
        """Tell callbacks that the fit of a task begins or ends."""
        if task.callback_ctx is not None:
            weight = self.fit_params.get("sample_weight")
            getattr(task.callback_ctx, hook)(
                estimator=task.caller,
                X=lambda: self.train.X,
                y=self.train.y,
                metadata=None if weight is None else {"sample_weight": weight},
            )


def folds(tasks: list[Task]) -> Iterator[list[Task]]:
    """Tasks that train on the same rows, transformed by the same steps."""
    groups: dict = {}
    for task in tasks:
        key = (id(task.train), id(task.test), id(task.X), id(task.y), prefix_key(task))
        groups.setdefault(key, []).append(task)
    return iter(groups.values())


@scope(keeps=False)
def evaluate(tasks: list[Task], n_threads: int = 1) -> list[dict]:
    """The results of ``_fit_and_score`` for the tasks, in their order.

    Solvers with threads of their own use ``n_threads``, unless the estimator says how many.
    """
    candidates = one_pass(tasks)
    finite = candidates is not None or _is_finite(tasks[0].X)
    shared = candidates is None and can_share(tasks, _limit(tasks))
    groups = list(folds(tasks))
    # Otherwise folds are dealt with one by one, so that one training set is in memory at a time.
    batches = [groups] if candidates or shared else [[group] for group in groups]
    results: dict = {}
    for batch in batches:
        results |= _evaluate(batch, candidates, finite, shared, n_threads)
    return [results[task.index] for task in tasks]


def _limit(tasks: list[Task]) -> float | None:
    return getattr(tasks[0].caller, "max_memory", None)


def _evaluate(groups, candidates, finite: bool, shared: bool, n_threads: int) -> dict:
    """Results, by the tasks' indices, of folds that are solved together."""
    start = time.time()
    together = [Fold(group) for group in groups]
    valid: set = set()
    tasks = [task for group in groups for task in group]
    with ExitStack() as contexts:
        for fold in together:
            _enter(fold, contexts)
        with config_context(assume_finite=finite):
            begin_all(candidates or ())
        if not candidates:
            for fold in together:
                fold.fits = _begin(fold, finite, contexts, valid)
        if shared:
            resident = Resident(tasks[0].X)
            for fold in together:
                fold.resident = resident
            share_rows(resident, [(fold.train.rows, fold.fits) for fold in together])
        fits = candidates or [fit for fold in together for fit in fold.fits]
        _give_threads(fits, n_threads)
        with config_context(assume_finite=finite):
            complete(fits, _limit(tasks))
    for fold in together:
        for task, fit in zip(fold.tasks, fold.fits):
            task.error = fit.error
    per_task = (time.time() - start) / len(tasks)
    return {
        task.index: result
        for fold in together
        for task, result in zip(fold.tasks, _results(fold, per_task, n_threads), strict=True)
    }


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


def _enter(fold: Fold, contexts: ExitStack) -> None:
    for task in fold.tasks:
        if task.callback_ctx is not None:
            contexts.enter_context(task.callback_ctx.propagate_callback_context(task.estimator))
            fold.call("call_on_fit_task_begin", task)


def _begin(fold: Fold, finite: bool, contexts: ExitStack, valid: set) -> list[Fit]:
    """Begin the fits, after the steps before them; none if one of those fails.

    The parameters of candidates are validated once: ``valid`` are those that are.
    Where the contexts end before the fits do, callbacks are torn down.
    """
    first, X, y, fit_params = (
        fold.tasks[0].estimator,
        fold.train.numbers,
        fold.train.y,
        fold.fit_params,
    )
    if final_step(first) is not first:
        fold.prefix = Prefix(first, fold.train.X, y, fit_params)
        if fold.prefix.error is not None:
            for task in fold.tasks:
                task.error = fold.prefix.error
            return []
        X, fit_params = fold.prefix.X, fold.prefix.final_params
        finite = finite and _is_finite(X)
    fits: list[Fit] = []
    leaders: dict = {}
    with config_context(assume_finite=finite):
        for task in fold.tasks:
            fit = Fit(final_step(task.estimator), X, y, **fit_params)
            contexts.callback(fit.close)
            follow(fit, leaders)
            fit.begin(valid=id(task.parameters) in valid)
            if fit.error is None:
                valid.add(id(task.parameters))
            fits.append(fit)
    share(fits)
    for task, fit in zip(fold.tasks, fits, strict=True):
        if is_discriminant(fit.estimator):
            drop_unscored(fit, task)
    return fits


def _results(fold: Fold, fit_time: float, n_threads: int) -> list[dict]:
    """Scores of all tasks of a fold whose fits are complete."""
    for task in fold.tasks:
        if task.error is not None and task.error_score == "raise":
            raise task.error
    fitted = [task for task in fold.tasks if task.error is None]
    if fold.prefix is not None:
        for task in fitted:
            fold.prefix.complete(task.estimator)
    start = time.time()
    test = _scores(fold, fold.test, fitted, n_threads)
    score_time = (time.time() - start) / max(len(fitted), 1)
    train = {}
    if fold.tasks[0].return_train_score:
        train = _scores(fold, fold.train, fitted, n_threads)
    return [
        _result(fold, task, test.get(task), train.get(task), fit_time, score_time)
        for task in fold.tasks
    ]


def _scores(fold: Fold, part: Part, tasks: list[Task], n_threads: int) -> dict:
    """Scores of fitted tasks on rows of their fold."""
    if not tasks:
        return {}
    scorer, params = tasks[0].scorer, part.params(tasks[0].score_params)
    finals = [final_step(task.estimator) for task in tasks]
    ask_finals = asks_only_methods(scorer)
    X, rows = part.source
    if fold.prefix is not None and ask_finals:
        try:
            X, rows = fold.prefix.X if part is fold.train else fold.prefix.transform(part.X), None
        except Exception:
            ask_finals = False  # scoring by the whole pipeline raises it again, in its place
    weights = params.get("sample_weight")
    plain = ask_finals and set(params) <= {"sample_weight"} and is_accuracy(scorer, finals[0])
    if plain:
        found = accuracies(finals, X, part.y, weights, rows, n_threads)
        if found is not None:
            return dict(zip(tasks, found, strict=True))
    if fold.prefix is None or not ask_finals:
        X = part.numbers if ask_finals else part.X
    asked = finals if ask_finals else [task.estimator for task in tasks]
    if ask_finals and are_networks(finals) and are_rows(X, finals[0]):
        shared = fold.resident is not None and rows is not None
        predicted = predictions(finals, *((fold.resident, rows) if shared else (Resident(X), None)))
        found = accuracies_of(finals, predicted, part.y, weights) if plain else None
        if found is not None:
            return dict(zip(tasks, found, strict=True))
        asked = list(map(knowing, finals, predicted))
    out = {}
    for task, estimator in zip(tasks, asked, strict=True):
        out[task] = _score(estimator, X, part.y, scorer, params, task.error_score)
    return out


def _result(fold: Fold, task: Task, test_scores, train_scores, fit_time, score_time) -> dict:
    error = task.error
    if error is not None:
        test_scores, score_time = task.error_score, 0.0
        if isinstance(task.scorer, _MultimetricScorer):
            test_scores = dict.fromkeys(task.scorer._scorers, task.error_score)
        train_scores = test_scores.copy() if isinstance(test_scores, dict) else test_scores
    fold.call("call_on_fit_task_end", task)
    result = {
        "fit_error": None if error is None else "".join(format_exception(error)),
        "test_scores": test_scores,
    }
    if task.return_train_score:
        result["train_scores"] = train_scores
    if task.return_n_test_samples:
        result["n_test_samples"] = len(fold.test)
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
