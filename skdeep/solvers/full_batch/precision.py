"""Linear models of single precision whose answer it would not tell: solved in double precision."""

from collections.abc import Callable
from dataclasses import replace
from operator import methodcaller

import numpy as np
from scipy import sparse

from ...array_api import to_host
from ...problem import Problem, Result
from .exact_newton import pays

# Deviations from zero up to which single precision tells rows apart well enough for an answer.
DEVIATIONS = 50.0
# Rows that tell how far features are.
SAMPLE = 1024


def some_rows(backend, X):
    """Evenly spread rows of a dense X, on the host."""
    shares = backend.processes.shares(X.shape[0])
    own = to_host(X[shares.every(max(1, shares.total // SAMPLE)), :])
    return backend.processes.joined(own)


def tells_apart(backend, X, deviations: float) -> bool:
    """Whether float32 tells rows apart: no feature is so many of its deviations from zero."""
    if sparse.issparse(X):
        return True
    some = some_rows(backend, X)
    mean = np.abs(some.mean(axis=0, dtype="float64"))
    deviation = some.std(axis=0, dtype="float64")
    varies = deviation > 1e-12 * mean
    return not bool((varies & (mean > deviations * deviation)).any())


def needs_double(backend, problem: Problem) -> bool:
    """Whether a model of single precision is to be solved in double precision.

    Where it costs little, since a Hessian that is nearly singular in float32 leaves scores a tenth
    off; and where features are far from zero.
    """
    if problem.dtype == "float64" or not backend.has_double:
        return False
    return pays(problem) or not tells_apart(backend, problem.X, DEVIATIONS)


def solved_as(solve: Callable, backend, problem: Problem, back: Callable, **changes) -> Result:
    """The solution of a problem by that of another, whose parameters ``back`` translates."""

    def seen(monitor):
        return monitor and (lambda n_iter, theta, value: monitor(n_iter, back(theta), value))

    monitors = problem.monitors and [seen(monitor) for monitor in problem.monitors]
    result = solve(backend, replace(problem, monitors=monitors, **changes))
    return replace(result, theta=back(result.theta))


def in_double(solve: Callable, backend, problem: Problem) -> Result:
    """The solution in double precision, rounded at the end."""
    theta = problem.theta.astype("float64")
    back = methodcaller("astype", problem.dtype)
    return solved_as(solve, backend, problem, back, dtype="float64", theta=theta)
