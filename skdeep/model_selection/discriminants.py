"""Linear discriminants in a search: one pass over the rows serves all folds and candidates."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
from sklearn.utils import assert_all_finite

from ..base import unchanged_on_error
from ..discriminant_analysis import LinearDiscriminantAnalysis
from ..fitting import Fit, follow, share
from ..stacking import unstack
from .scoring import asks_only_methods


def is_discriminant(estimator) -> bool:
    return isinstance(estimator, LinearDiscriminantAnalysis)


def drop_unscored(fit: Fit, task) -> None:
    """Spare a fit the matrices that its scorer will not look at."""
    if fit.problem is None or task.return_estimator or not asks_only_methods(task.scorer):
        return
    if fit.problem.options["rule"] != "svd":
        options = {**fit.problem.options, "store_covariance": False, "project": False}
        fit.problem = replace(fit.problem, options=options)


class Candidate(Fit):
    """The fits of equal discriminants on all folds: one problem, a model for each fold.

    It is begun once, on all rows, and each fold takes some of them. Tasks are told their errors.
    """

    def __init__(self, tasks, X, y):
        super().__init__(tasks[0].estimator, X, y)
        self.tasks = tasks

    def begin(self) -> None:
        super().begin()
        drop_unscored(self, self.tasks[0])
        if self.problem is None:
            for task in self.tasks:
                task.error = self.error
            return
        problem, n = self.problem, len(self.tasks)
        self.problem = replace(
            problem,
            theta=np.repeat(problem.theta, n, axis=0),
            hyper={name: np.repeat(values, n, axis=0) for name, values in problem.hyper.items()},
            rows=[task.train for task in self.tasks],
        )

    def end(self, result) -> None:
        first, *others = zip(self.tasks, unstack(result, [1] * len(self.tasks)), strict=True)
        parameters = self.estimator._get_param_names()
        found = {k: v for k, v in vars(self.estimator).items() if k not in parameters}
        found["backend_"] = str(self.backend)
        for task, part in others:
            try:
                with unchanged_on_error(task.estimator):
                    vars(task.estimator).update(found)
                    task.estimator._take(part)
            except Exception as error:
                task.error = error
        super().end(first[1])
        first[0].error = self.error

    def fail(self, error: Exception) -> None:
        """Fit each fold alone, to see which of them it was."""
        super().fail(error)
        for task in self.tasks:
            try:
                task.estimator.fit(task.X[task.train], task.y[task.train])
            except Exception as error:
                task.error = error


def one_pass(tasks) -> list[Candidate] | None:
    """The candidates of a search over discriminants; None if the folds are no sets of rows of X.

    The moments of all folds are then summed from shared parts, and no fold's rows are copied.
    """
    X, y = tasks[0].X, tasks[0].y
    if not (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype in (np.float32, np.float64)):
        return None
    if not (isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biuUS"):
        return None
    if len(X) != len(y) or X.shape[1] < 2:
        return None
    if not all(
        is_discriminant(task.estimator)
        and task.X is X
        and task.y is y
        and not task.fit_params
        and task.estimator.dtype is None
        and not task.estimator.covariance_estimator
        for task in tasks
    ):
        return None
    sets = list({id(task.train): task.train for task in tasks}.values())
    if len(sets) < 2 or not all(_is_index_set(rows, len(X)) for rows in sets):
        return None
    classes, codes = np.unique(y, return_inverse=True)
    for rows in sets:  # each has all classes, and so sees them as the whole does
        if len(rows) <= len(classes) or not np.bincount(codes[rows], minlength=len(classes)).all():
            return None
    try:
        assert_all_finite(X)
    except ValueError:
        return None
    equal = defaultdict(list)
    for task in tasks:
        equal[id(task.parameters)].append(task)
    return [Candidate(members, X, y) for members in equal.values()]


def begin_all(candidates: list[Candidate]) -> None:
    """Begin the fits; the first of a kind validates the data for the others."""
    leaders: dict = {}
    for candidate in candidates:
        follow(candidate, leaders)
        candidate.begin()
    share(candidates)


def _is_index_set(rows, n: int) -> bool:
    if not (isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu"):
        return False
    if len(rows) < 2 or rows.min() < 0 or rows.max() >= n:
        return False
    return bool(np.all(rows[1:] > rows[:-1]) or np.bincount(rows, minlength=n).max() == 1)
