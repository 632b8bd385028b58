"""L-BFGS over a stack of models, preconditioned where they are linear, in turns with Newton.

Linear problems of few parameters are Newton's from the start. Large ones begin on a subsample of
the rows and in single precision.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from ...array_api import mapped
from ...losses import has_hessian
from ...problem import Problem, Result
from . import exact_newton, quasi_newton, truncated_newton
from .bookkeeping import FULL_BATCH, SHARE, SHARE_LARGE, Run, iterate, largest
from .objective import take, without_common_part
from .precision import in_double, needs_double, tells_apart
from .preconditioning import MAX_FEATURES, MIN_ROWS, Preconditioner, preconditioner
from .quasi_newton import IDENTITY, MEMORY, History, State
from .scaling import limit, moderated

# Rows times parameters from which on passes over the rows are what an iteration costs. A fit then
# begins in single precision, which halves that.
LARGE = 2**21
# Features may be so many deviations from zero for it: float64 has the last word.
DEVIATIONS_AT_FIRST = 1e3
# Iterations over a subsample of the rows, where there are several times as many.
SUBSAMPLED = 12
# Iterations after which curvature has moved too far from where the preconditioner was made.
HANDOVER, HANDOVER_LARGE = 12, 8


def solve(backend, problem: Problem) -> Result:
    """Minimise the objective of every model by L-BFGS, of linear ones in turns with Newton.

    Parameters
    ----------
    backend : Backend
    problem : Problem
        ``hyper`` has, each of shape (M, 1), "l2", "tol" (bound of the gradient's largest entry)
        and "max_iter"; it may have "max_fun" (evaluations of the objective), "ftol" (relative
        decrease of the objective that also ends the iterations) and, for linear models,
        "l2_intercept".

    Returns
    -------
    Result
        ``converged`` where the gradient came within ``tol``, or no step could lower the objective
        or the gradient any further in this floating-point type.

    References
    ----------
    Liu & Nocedal (1989), On the limited memory BFGS method for large scale optimization.
    Byrd, Nocedal & Schnabel (1994), Representations of quasi-Newton matrices and their use in
    limited memory methods.
    """
    if not problem.net.linear:
        return in_stages(backend, problem, [by_quasi_newton])
    size = largest(backend, problem.X)
    if size > limit(problem.dtype):
        return moderated(solve, backend, problem)
    if needs_double(backend, problem):
        return in_double(solve, backend, problem)
    return in_stages(backend, problem, stages(backend, problem, size), size)


def stages(backend, problem: Problem, size: float) -> list[Callable[[Run], None]]:
    """How a fit of linear models goes: each stage goes on from where those before have left them.

    ``size`` is the largest size of an entry of X.
    """
    if has_hessian(problem.net.loss) and exact_newton.pays(problem):
        return [by_exact_newton, in_turns]
    if problem.dtype == "float64" and _large(problem) and _single_will_do(backend, problem.X, size):
        return [in_single_precision, in_double_precision]
    return [in_turns]


def in_stages(
    backend, problem: Problem, stages: list[Callable[[Run], None]], size: float | None = None
) -> Result:
    """The result of stages that follow on one another; ``size`` is known of X, or None."""
    run = PreconditionedRun.of(backend, problem)
    if size is not None:
        run.size = size
    for stage in stages:
        stage(run)
    return run.result()


class PreconditionedRun(Run):
    """The bookkeeping, with how far a fit of linear models goes beyond a small gradient."""

    @classmethod
    def of(cls, backend, problem: Problem) -> "PreconditionedRun":
        if not problem.net.linear:
            return cls(backend, problem)
        problem = without_common_part(problem)
        if not has_hessian(problem.net.loss):
            return cls(backend, problem)
        large = _large(problem)
        return cls(backend, problem, SHARE_LARGE if large else SHARE, any_step=large)

    @cached_property
    def space(self) -> Preconditioner:
        """Coordinates in which the objectives are round, of all models."""
        return preconditioner(self.backend, self.problem)


def by_quasi_newton(run: Run) -> None:
    """L-BFGS in a network's own coordinates."""
    run.enter()
    iterate(run, quasi_newton.step, State.start(run, IDENTITY))


def by_exact_newton(run: Run) -> None:
    """Newton's method with the Hessian formed, which leaves some models to the next stage."""
    run.enter()
    exact_newton.descend(run)
    # Without a penalty a singular Hessian is that of many optima: a small gradient is all to ask
    # for. With one it was where the walk began: far off, say, where all probabilities are 0 or 1.
    if run.singular.any():
        run.settles &= ~(run.singular & run.unpenalised())


def by_truncated_newton(run: Run) -> None:
    """Newton's method with conjugate gradients, while it does not crawl."""
    run.enter()
    truncated_newton.descend(run)


def in_turns(run: PreconditionedRun) -> None:
    """L-BFGS in preconditioned coordinates, and Newton's method with conjugate gradients."""
    if run.waiting.any():
        run.enter()
    if run.models.size:
        _take_turns(run, run.space)


def in_single_precision(run: PreconditionedRun) -> None:
    """In turns, down to a gradient safely above float32's rounding.

    The first iterations are over a subsample of the rows. A model that it misleads starts where it
    was to start, as do all where rows are few.
    """
    backend, xp, problem = run.backend, run.xp, _in_single(run.problem, run.size)
    space, history = run.space.astype(xp, xp.float32), None
    found = _subsampled(backend, problem, space)
    if found is not None:
        value, theta, history = found
        run.theta[:] = backend.to_numpy(theta)
    run.enter(problem)
    if found is not None:
        models = backend.asarray(run.models)
        history = take(xp, history, models)
        misled = ~(run.point.value < take(xp, value, models))
        if bool(xp.any(misled)):
            theta = backend.asarray(problem.theta[run.models], problem.dtype)
            run.point = run.objective.at(xp.where(misled[:, None], theta, run.point.theta))
            history = History(*(xp.where(misled[:, None, None], 0.0, x) for x in history))
    _take_turns(run, space, history)


def in_double_precision(run: PreconditionedRun) -> None:
    """On from where single precision has come to; from the start where that is not finite."""
    unsound = ~np.isfinite(run.theta).all(axis=1)
    run.theta[unsound], run.errors[unsound] = run.problem.theta[unsound], np.inf
    run.waiting[:] = True
    run.enter(error=run.errors)
    _take_turns(run, run.space)


def _take_turns(run: Run, space: Preconditioner, history: History | None = None) -> None:
    """Walk until every model has stopped.

    Newton's method needs the loss's Hessian: without one L-BFGS goes on alone. The space is of all
    models, the history of those on their way.
    """
    turn = _handover(run) if has_hessian(run.problem.net.loss) else np.inf
    first = True
    while run.models.size:
        own = take(run.xp, space, run.backend.asarray(run.models))
        enough = partial(_handed_over, end=run.n_steps + turn, first=first)
        iterate(run, quasi_newton.step, State.start(run, own, history), enough)
        truncated_newton.descend(run)
        first, history = False, None


def _handed_over(run: Run, end: float, first: bool) -> bool:
    """Whether the turn of L-BFGS is over; the first is when all gradients are small."""
    return run.n_steps >= end or (first and not run.any_step and bool(run.met.all()))


def _handover(run: Run) -> int:
    """Iterations before it is Newton's turn: the more, the more its blocks cost.

    They are two thirds of those that are left at most.
    """
    problem = run.problem
    n, p = problem.n_rows, problem.net.units[0]
    gram = p * p // (6 * n) if p <= MAX_FEATURES else 0
    late = HANDOVER + gram + (HANDOVER_LARGE if _large(problem) else 0)
    left = (run.limits["max_iter"] - run.n_iter).min()
    return min(late, max(HANDOVER, int(left) * 2 // 3))


def _large(problem: Problem) -> bool:
    """Whether passes over the rows are what an iteration costs."""
    return problem.n_rows * problem.theta.shape[1] >= LARGE


def _single_will_do(backend, X, size: float) -> bool:
    """Whether single precision tells rows apart well enough to begin in it, on a copy."""
    return not mapped(X) and 1e-30 < size < 1e30 and tells_apart(backend, X, DEVIATIONS_AT_FIRST)


def _in_single(problem: Problem, size: float) -> Problem:
    """The problem in single precision, down to a gradient safely above its rounding."""
    rounding = 4.0 * float(np.finfo("float32").eps) * size
    tol = np.maximum(problem.hyper["tol"] - rounding, rounding)
    return replace(problem, dtype="float32", hyper={**problem.hyper, "tol": tol})


def _subsampled(backend, problem: Problem, space: Preconditioner):
    """The objective at the start, and theta and history some iterations later, over a subsample.

    They do not count: a dozen of them take less than two over all rows. None where rows are few.
    There is no copy of all rows yet, and what the subsample takes is gone when there is.
    """
    n, processes = problem.X.shape[0], backend.processes
    stride = problem.n_rows // max(MIN_ROWS, 16 * problem.net.units[0])
    n_iter = min(SUBSAMPLED, int(problem.hyper["max_iter"].min()))
    if stride < 3 or n_iter == 0 or problem.theta.any():
        return None
    weights = problem.row_weights()
    rows = np.arange(n) if weights.shape[1] == 1 else np.flatnonzero(weights.any(axis=0))
    rows = rows[processes.shares(len(rows)).every(stride)]
    weights = np.broadcast_to(weights, (weights.shape[0], n))[:, rows]
    if not np.all(processes.total(weights.any(axis=1))):  # a model has none of these rows
        return None
    part = replace(
        problem,
        X=problem.X[rows],
        y=problem.y[..., rows, :],
        weights=weights,
        rows=None,
        monitors=None,
        elsewhere=processes.total(len(rows)) - len(rows),
    )
    run = Run(backend, part)
    run.enter()
    if len(run.models) < run.n_models:
        return None
    value, state = run.point.value, State.start(run, space)
    for run.n_steps in range(n_iter):
        state = quasi_newton.step(run, state)
    return value, run.point.theta, state.history


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P = problem.X.shape[0], problem.theta.shape[1]
    units = sum(problem.net.units[1:])
    p = problem.net.units[0]
    basis = p * p if problem.net.linear and p <= MAX_FEATURES else 0
    if problem.net.linear and exact_newton.pays(problem):
        basis += 4 * P * P + n * units * (units + 1) / 2
    return np.dtype(problem.dtype).itemsize * (n * (8.0 * units + 2) + (2 * MEMORY + 8) * P + basis)


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    return FULL_BATCH, set()
