"""Features whose products overflow, or that are far from zero: solved in other coordinates."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import sparse

from ...array_api import namespace_of, numpy_dtype, to_host
from ...problem import Problem, Result
from .objective import shift_invariant
from .precision import DEVIATIONS, solved_as, some_rows, tells_apart


def limit(dtype: str) -> float:
    """The largest entry of X of which products of four and sums of those are safe."""
    return float(2.0 ** (np.finfo(dtype).maxexp // 5))


def moderated(solve: Callable, backend, problem: Problem) -> Result:
    """The solution of a linear problem whose X has entries beyond the limit.

    Columns beyond it are divided by powers of two. What the penalty makes of their coefficients is
    below rounding on either scale.
    """
    X, k = backend.place(problem.X, problem.dtype), problem.net.units[1]
    top = limit(problem.dtype)
    size = backend.largest(_column_sizes(X))
    unit = np.exp2(-np.ceil(np.log2(np.maximum(size.astype("float64") / top, 1.0))))
    unit = unit.astype(numpy_dtype(X))
    own = np.ones(problem.theta.shape[1])
    own[: problem.net.n_weights] = np.repeat(unit, k)

    def back(theta):
        return (theta * own).astype(problem.dtype)

    X = (X @ sparse.diags_array(unit)).tocsr() if sparse.issparse(X) else X * backend.asarray(unit)
    theta = (problem.theta / own).astype(problem.dtype)
    return solved_as(solve, backend, problem, back, X=X, theta=theta)


def _column_sizes(X) -> np.ndarray:
    """The largest size of an entry of each column."""
    if sparse.issparse(X):
        return abs(X).max(axis=0).toarray().ravel()
    xp = namespace_of(X)
    return to_host(xp.maximum(xp.max(X, axis=0), -xp.min(X, axis=0)))


def far(backend, problem: Problem) -> bool:
    """Whether features are far from zero and an intercept is free to take a shift of them up.

    A sparse X has none that are.
    """
    hyper = problem.hyper
    bound = any(np.any(hyper.get(name, 0.0) > 0) for name in ("l2_intercept", "l1_intercept"))
    free = problem.net.intercept and not bound
    return free and not tells_apart(backend, problem.X, DEVIATIONS)


def centred(solve: Callable, backend, problem: Problem) -> Result:
    """The solution of a linear problem by that of its rows around their mean."""
    mean = some_rows(backend, problem.X).mean(axis=0, dtype="float64").astype(problem.dtype)
    p, k = problem.net.units

    def shifted(theta, sign):
        theta = np.array(theta, dtype="float64")
        weights = theta[..., : p * k].reshape(*theta.shape[:-1], p, k)
        if shift_invariant(problem.net):  # the sum of the intercepts stays
            weights = weights - weights.mean(axis=-1, keepdims=True)
        theta[..., p * k :] += sign * (mean @ weights)
        return theta.astype(problem.dtype)

    X = backend.asarray(problem.X, problem.dtype) - backend.asarray(mean)
    theta = shifted(problem.theta, 1.0)
    return solved_as(solve, backend, problem, partial(shifted, sign=-1.0), X=X, theta=theta)
