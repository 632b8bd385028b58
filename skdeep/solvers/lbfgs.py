"""L-BFGS over a stack of models (Liu & Nocedal, 1989), whitened where the models are linear."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..problem import Problem, Result
from . import truncated_newton
from .line_search import wolfe
from .objective import make_objective, take_point
from .run import Run
from .whitening import MAX_FEATURES, whitening

# Pairs of steps and gradient changes that approximate the Hessian.
MEMORY = 10
# Rows times parameters from which on passes over the rows are what an iteration costs. A fit then
# begins in single precision, which halves that.
LARGE = 2**21
# Iterations after which a linear model's curvature has moved too far from where it was whitened.
HANDOVER, HANDOVER_LARGE = 12, 8
# The scores are computed afresh now and then, or the rounding of their updates would add up.
REFRESH = 25


class Identity:
    """The coordinates of a network with hidden layers: its own."""

    def take(self, xp, models):
        return self

    def gradient(self, xp, g):
        return g

    def direction(self, xp, d):
        return d

    def first_step(self, xp, g):
        # Of length one, as in L-BFGS-B (Byrd, Lu, Nocedal & Zhu, 1995).
        norm = xp.sqrt(xp.sum(g * g, axis=1))
        return 1.0 / xp.where(norm > 0, norm, xp.ones_like(norm))


IDENTITY = Identity()


class History(NamedTuple):
    """Steps S and gradient changes Y of shape (M, m, P), oldest first, scaled to ``sᵀy = 1``."""

    S: Any
    Y: Any


def push(xp, history: History | None, s, y) -> History:
    """Add a pair; one without curvature becomes zero, which has no effect."""
    sy = xp.sum(s * y, axis=1, keepdims=True)
    eps = float(xp.finfo(s.dtype).eps)
    good = sy > eps * xp.sum(y * y, axis=1, keepdims=True)
    scale = xp.where(good, 1.0 / xp.sqrt(xp.where(good, sy, xp.ones_like(sy))), xp.zeros_like(sy))
    s, y = (scale * s)[:, None, :], (scale * y)[:, None, :]
    if history is None:
        return History(s, y)
    S, Y = history
    oldest = max(0, S.shape[1] + 1 - MEMORY)
    return History(
        xp.concat([S[:, oldest:, :], s], axis=1), xp.concat([Y[:, oldest:, :], y], axis=1)
    )


def quasi_newton(xp, history: History, g):
    """``-H g`` with the compact form of the inverse BFGS matrix H (Byrd, Nocedal & Schnabel, 1994).

    With ``R = triu(S Yᵀ)``, ``D = diag(S Yᵀ)`` and ``γ = sᵀy / yᵀy`` of the last pair,
    ``H = γ I + Sᵀ R⁻ᵀ (D + γ Y Yᵀ) R⁻¹ S − γ Sᵀ R⁻ᵀ Y − γ Yᵀ R⁻¹ S``.
    """
    S, Y = history
    g = g[..., None]
    Yt = xp.matrix_transpose(Y)
    SY, YY = S @ Yt, Y @ Yt
    empty = xp.linalg.diagonal(SY) == 0
    D = xp.eye(S.shape[1], dtype=S.dtype, device=S.device) * xp.linalg.diagonal(SY)[:, None, :]
    R = (
        xp.triu(SY)
        + xp.eye(S.shape[1], dtype=S.dtype, device=S.device) * xp.astype(empty, S.dtype)[:, None, :]
    )
    last = YY[:, -1:, -1:]
    gamma = xp.where(last > 0, 1.0 / xp.where(last > 0, last, xp.ones_like(last)), 1.0)
    a = xp.linalg.solve(R, S @ g)
    b = xp.linalg.solve(xp.matrix_transpose(R), (D + gamma * YY) @ a - gamma * (Y @ g))
    return -(gamma * g + xp.matrix_transpose(S) @ b - gamma * (Yt @ a))[..., 0]


def solve(backend, problem) -> Result:
    """Minimise the objective of every model by L-BFGS.

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
    objective = make_objective(backend, problem)
    if problem.net.activations:
        return _descend(backend, problem, objective, IDENTITY)
    space = whitening(backend, problem, objective.data)
    if problem.dtype != "float64" or problem.monitors or not _large(problem):
        return _descend(backend, problem, objective, space)
    draft = _draft(problem)
    single = space.astype(backend.xp, backend.xp.float32)
    first = _descend(backend, draft, make_objective(backend, draft), single)
    left = np.maximum(problem.hyper["max_iter"] - first.n_iter[:, None], 0)
    rest = replace(problem, theta=first.theta, hyper={**problem.hyper, "max_iter": left})
    return _joined(first, _descend(backend, rest, objective, space))


def _large(problem: Problem) -> bool:
    """Whether passes over the rows are what an iteration costs."""
    return problem.X.shape[0] * problem.theta.shape[1] >= LARGE


def _draft(problem: Problem) -> Problem:
    """The problem in single precision, down to a gradient safely above its rounding."""
    rounding = 4.0 * float(np.finfo("float32").eps) * float(max(problem.X.max(), -problem.X.min()))
    tol = np.maximum(problem.hyper["tol"] - rounding, rounding)
    return replace(problem, dtype="float32", hyper={**problem.hyper, "tol": tol})


def _joined(first: Result, rest: Result) -> Result:
    """The result of a descent in two parts."""
    curve = [a + b for a, b in zip(first.curve, rest.curve, strict=True)]
    n_fun = first.extra["n_fun"] + rest.extra["n_fun"]
    return replace(rest, n_iter=first.n_iter + rest.n_iter, curve=curve, extra={"n_fun": n_fun})


def _descend(backend, problem: Problem, objective, space) -> Result:
    run = Run(problem)
    point = objective.at(backend.asarray(problem.theta, problem.dtype))
    return take_turns(backend, problem, objective, space, run, point, 0)


def take_turns(backend, problem, objective, space, run: Run, point, iteration: int) -> Result:
    """Walk until every model has stopped: by L-BFGS, for linear models in turns with Newton."""
    turn = np.inf if problem.net.activations else _handover(problem)
    while True:
        point, iteration = _walk(backend, objective, space, run, point, iteration, turn)
        if run.models.size == 0:
            return run.result()
        point, iteration = truncated_newton.walk(backend, objective, run, point, iteration)
        if run.models.size == 0:
            return run.result()


def _walk(backend, objective, space, run: Run, point, iteration: int, turn: float):
    """Make ``turn`` iterations of L-BFGS with the models of the run that have not stopped."""
    xp, end = backend.xp, iteration + turn
    if len(run.models) < run.n_models:
        models = backend.asarray(run.models)
        objective, space = objective.take(models), space.take(xp, models)
    g = space.gradient(xp, point.grad)
    history = None
    while iteration < end:
        left = run.judge(backend, iteration, point)
        if left.size == 0:
            break
        if left.size < g.shape[0]:
            models = backend.asarray(left)
            objective, space = objective.take(models), space.take(xp, models)
            point, g = take_point(xp, point, models), xp.take(g, models, axis=0)
            if history is not None:
                history = History(*(xp.take(x, models, axis=0) for x in history))

        d = -g if history is None else quasi_newton(xp, history, g)
        slope = xp.sum(d * g, axis=1)
        # Rounding may spoil a direction close to the minimum.
        downhill = slope < 0
        d = xp.where(downhill[:, None], d, -g)
        slope = xp.where(downhill, slope, -xp.sum(g * g, axis=1))
        first = xp.ones_like(slope) if history is not None else space.first_step(xp, g)

        line = objective.line(point, space.direction(xp, d))
        step = wolfe(xp, line, point.value, slope, first)
        size, value = step.step, step.value
        if not step.all_ok:
            # Stay, and forget the Hessian: the next direction is steepest descent.
            size = xp.where(step.ok, size, xp.zeros_like(size))
            value, _ = line.at(size)
            fresh = (
                True if history is None else backend.to_numpy(xp.all(history.S == 0, axis=(1, 2)))
            )
            run.note_failure(backend, step.ok, slope, fresh)
        run.n_fun += step.n_trials
        point = line.end(value)
        iteration += 1
        if iteration % REFRESH == 0:
            point = objective.at(point.theta)
        g_new = space.gradient(xp, point.grad)
        history = push(xp, history, size[:, None] * d, g_new - g)
        if not step.all_ok:
            keep = xp.astype(step.ok, g.dtype)[:, None, None]
            history = History(*(keep * x for x in history))
        g = g_new
    return point, iteration


def _handover(problem: Problem) -> int:
    """The iteration at which Newton's method takes over: the later, the more its blocks cost."""
    n, p = problem.X.shape[0], problem.net.units[0]
    gram = p * p // n if p <= MAX_FEATURES else 0
    return HANDOVER + gram + (HANDOVER_LARGE if _large(problem) else 0)


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P = problem.X.shape[0], problem.theta.shape[1]
    units = sum(problem.net.units[1:])
    p = problem.net.units[0]
    basis = p * p if not problem.net.activations and p <= MAX_FEATURES else 0
    return np.dtype(problem.dtype).itemsize * (n * (8.0 * units + 2) + (2 * MEMORY + 8) * P + basis)
