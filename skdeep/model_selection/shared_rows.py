"""Networks in a search on a device: the folds are index sets over one X, and all train at once."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..fitting import MEMORY_SHARE, Fit, free_host_memory
from ..neural_network.base import BaseNetwork


class Resident:
    """Rows on the device for all fits and scores: sent once, in each type that is asked for."""

    def __init__(self, X):
        self.X = X
        self._placed: dict = {}

    def on(self, backend, dtype):
        key = str(backend), str(dtype)
        if key not in self._placed:
            self._placed[key] = backend.asarray(self.X, str(dtype))
        return self._placed[key]


class Once:
    """Calls functions of objects once for the same objects."""

    def __init__(self):
        self._known: dict = {}

    def __call__(self, function: Callable, *objects):
        key = (function, *map(id, objects))
        if key not in self._known:
            # The objects too, whose identities are theirs while they live.
            self._known[key] = function(*objects), objects
        return self._known[key][0]


def can_share(tasks, max_memory: float | None) -> bool:
    """Whether the tasks train networks on rows of one X, on a device that wants large pieces.

    Each fold's rows are cut out to be validated, all folds' at once: they must fit in memory.
    """
    X, y = tasks[0].X, tasks[0].y
    if not (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "iuf"):
        return False
    if not all(
        isinstance(task.estimator, BaseNetwork)
        and task.estimator.backend not in ("auto", "numpy")
        and task.X is X
        and task.y is y
        and isinstance(task.train, np.ndarray)
        and task.train.dtype.kind in "iu"
        for task in tasks
    ):
        return False
    limit = free_host_memory() * MEMORY_SHARE if max_memory is None else max_memory
    rows = sum(len(train) for train in {id(task.train): task.train for task in tasks}.values())
    return rows * X.shape[1] * max(X.itemsize, 8) <= limit


def share_rows(resident: Resident, folds: list[tuple[np.ndarray, list[Fit]]]) -> None:
    """Give mini-batch problems of all folds one X, and each model its fold's rows of it.

    ``folds`` are the training rows of each fold, and the fits that have begun on them.
    """
    once, tables, n = Once(), [], len(resident.X)

    def spread(values, rows):
        return _spread(values, rows, n, tables)

    for rows, fits in folds:
        rows = places(rows, n)
        for fit in fits:
            problem = fit.problem
            if problem is None or problem.solver != "minibatch" or problem.y.ndim != 2:
                continue
            X = resident.on(fit.backend, problem.dtype)
            fit.problem = replace(
                problem,
                X=X,
                y=once(spread, problem.y, rows),
                weights=None if problem.weights is None else once(spread, problem.weights, rows),
                rows=[
                    rows if own is None else once(np.take, rows, own)
                    for own in problem.rows or [None] * problem.n_models
                ],
                validation=problem.validation
                and [
                    held if held is None or held.X is not problem.X else once(_moved, held, X, rows)
                    for held in problem.validation
                ],
            )


def places(rows: np.ndarray, n: int) -> np.ndarray:
    """Indices of rows, of which some may be counted from the end, from the first on."""
    return rows.astype(np.intp) % n


def _moved(held, X, rows):
    """Rows to validate on, as rows of another X, some of whose rows theirs were."""
    return replace(held, X=X, rows=rows[held.rows])


def _spread(values: np.ndarray, rows: np.ndarray, n: int, tables: list) -> np.ndarray:
    """A table of n rows that has the values in the given ones, shared where no two differ."""
    for table, known in tables:
        if table.shape[1:] != values.shape[1:] or table.dtype != values.dtype:
            continue
        both = known[rows]
        if np.array_equal(table[rows[both]], values[both]):
            break
    else:
        table, known = np.zeros((n, *values.shape[1:]), values.dtype), np.zeros(n, dtype=bool)
        tables.append((table, known))
    table[rows], known[rows] = values, True
    return table
