"""Networks in a search on a device: the folds are index sets over one X, and all train at once."""

from dataclasses import replace

import numpy as np

from ..fitting import MEMORY_SHARE, Fit, free_host_memory
from ..neural_network.base import BaseNetwork


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


def share_rows(X, folds: list[tuple[np.ndarray, list[Fit]]]) -> None:
    """Give mini-batch problems of all folds one X, and each model its fold's rows of it.

    ``folds`` are the training rows of each fold, and the fits that have begun on them.
    """
    shared: dict = {}
    tables: list = []
    for rows, fits in folds:
        for fit in fits:
            problem = fit.problem
            if problem is None or problem.solver != "minibatch" or problem.y.ndim != 2:
                continue
            whole = shared.setdefault(problem.X.dtype, X.astype(problem.X.dtype, copy=False))
            fit.problem = replace(
                problem,
                X=whole,
                y=_spread(problem.y, rows, len(X), tables),
                weights=None
                if problem.weights is None
                else _spread(problem.weights, rows, len(X), tables),
                rows=[
                    rows if own is None else rows[own]
                    for own in problem.rows or [None] * problem.n_models
                ],
                validation=problem.validation
                and [
                    replace(held, X=whole, rows=rows[held.rows])
                    if held is not None and held.X is problem.X
                    else held
                    for held in problem.validation
                ],
            )


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
