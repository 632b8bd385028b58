"""Linear discriminants in a search: one pass over the rows serves all folds and candidates."""

from dataclasses import replace

import numpy as np
from sklearn.utils import assert_all_finite

from ..discriminant_analysis import LinearDiscriminantAnalysis
from ..problem import Problem


def is_discriminant(estimator) -> bool:
    return isinstance(estimator, LinearDiscriminantAnalysis)


def follow(fit, leaders: dict) -> None:
    """Let a fit take its data as another has validated them; the first of a kind is the leader."""
    key = (fit.estimator.dtype, fit.estimator.backend)
    leader = leaders.setdefault(key, fit)
    if leader is not fit and leader.problem is not None:
        fit.follow(leader)


class OnePass:
    """All folds as index sets over one X, whose moments are summed from shared parts.

    No fold's rows are copied: a fit only asks for their shape and type, and so is given a
    placeholder.
    """

    def __init__(self, tasks):
        self.X, self.y = tasks[0].X, tasks[0].y
        self.classes, codes = np.unique(self.y, return_inverse=True)
        self.targets = codes.astype(np.int64, copy=False)[:, None]

    @staticmethod
    def possible(tasks) -> bool:
        """Whether the tasks are discriminants on finite numbers, without weights, from one X."""
        X, y = tasks[0].X, tasks[0].y
        if not (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype in (np.float32, np.float64)):
            return False
        if not (isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biuUS"):
            return False
        if not all(
            is_discriminant(task.estimator)
            and task.X is X
            and task.y is y
            and not task.fit_params
            and task.estimator.dtype is None
            for task in tasks
        ):
            return False
        if X.shape[1] < 2 or any(task.estimator.covariance_estimator for task in tasks):
            return False
        sets = {id(task.train): task.train for task in tasks}.values()
        if len(sets) < 2 or not all(_is_index_set(rows, len(X)) for rows in sets):
            return False
        try:
            assert_all_finite(X)
        except ValueError:
            return False
        return True

    def training_rows(self, train):
        """Stand-ins for X[train], and y[train]."""
        X = self.X
        return np.broadcast_to(X[:1], (len(train), X.shape[1])), self.y[train]

    def expand(self, fit, train) -> Problem:
        """The fit's problem over all rows, of which it trains on some."""
        problem = fit.problem
        targets, classes = self.targets, fit.estimator.classes_
        if len(classes) < len(self.classes):
            # The labels of other folds do not matter here.
            targets = np.minimum(np.searchsorted(classes, self.y), len(classes) - 1)[:, None]
        return replace(problem, X=self.X, y=targets, rows=[train] * problem.n_models)


def _is_index_set(rows, n: int) -> bool:
    if not (isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu"):
        return False
    if len(rows) < 2 or rows.min() < 0 or rows.max() >= n:
        return False
    return bool(np.bincount(rows, minlength=n).max() == 1)
