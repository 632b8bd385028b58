"""Newton's method over a stack of linear models, as scikit-learn's Newton solvers have it."""

import warnings

import numpy as np
from scipy.linalg import LinAlgWarning

from ...problem import Problem, Result
from .bookkeeping import FULL_BATCH, Run, largest
from .exact_newton import MAX_PARAMETERS
from .lbfgs import by_exact_newton, by_truncated_newton, in_stages, in_turns
from .precision import in_double, needs_double
from .preconditioning import MAX_FEATURES
from .scaling import limit, moderated

# What it calls of a loss.
NEEDS = ("hessian", "hessian_product")


def solve(backend, problem: Problem) -> Result:
    """Minimise the objective of every linear model by Newton's method.

    Parameters
    ----------
    backend : Backend
    problem : Problem
        ``hyper`` as for L-BFGS. With more than MAX_PARAMETERS parameters the Hessian is not
        formed, and conjugate gradients find the directions; L-BFGS helps out where they crawl.

    Returns
    -------
    Result
        ``extra["singular"]`` marks the models whose Hessian became singular. L-BFGS took over
        there, as in scikit-learn, and a LinAlgWarning said so.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, chapters 3 and 7.
    """
    if largest(backend, problem.X) > limit(problem.dtype):
        return moderated(solve, backend, problem)
    if needs_double(backend, problem):
        return in_double(solve, backend, problem)
    if problem.theta.shape[1] > MAX_PARAMETERS:
        return in_stages(backend, problem, [by_truncated_newton, in_turns])
    return in_stages(backend, problem, [by_exact_newton, _warn, in_turns])


def _warn(run: Run) -> None:
    if run.singular.any():
        warnings.warn(
            "The Hessian of Newton's method is singular, as where features are collinear or "
            "outnumber the rows and the penalty is weak. L-BFGS goes on in its place.",
            LinAlgWarning,
            stacklevel=2,
        )


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P = problem.X.shape[0], problem.theta.shape[1]
    p, k = problem.net.units
    matrices = 4 * P * P if P <= MAX_PARAMETERS else 2 * k * min(p, MAX_FEATURES) ** 2
    return np.dtype(problem.dtype).itemsize * (n * (k * (k + 9) / 2 + 2) + 8 * P + matrices)


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    return FULL_BATCH, set()
