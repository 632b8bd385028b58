"""L-BFGS over a stack of models (Liu & Nocedal, 1989), whitened where the models are linear."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..problem import Problem, Result
from . import truncated_newton
from .line_search import wolfe
from .objective import (
    LinearObjective,
    NetworkObjective,
    Point,
    make_objective,
    take_point,
)
from .run import Run
from .whitening import MAX_FEATURES, MIN_ROWS, whitening

# Pairs of steps and gradient changes that approximate the Hessian.
MEMORY = 10
# Rows times parameters from which on passes over the rows are what an iteration costs. A fit then
# begins in single precision, which halves that.
LARGE = 2**21
# Iterations that are made over a part of the rows first, where there are several times as many.
REHEARSAL = 12
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


class State(NamedTuple):
    """What M models carry from iteration to iteration; ``g`` is the gradient in their space."""

    objective: LinearObjective | NetworkObjective
    space: Any
    point: Point
    g: Any
    history: History | None

    @classmethod
    def start(cls, xp, objective, space, point: Point, history=None) -> "State":
        return cls(objective, space, point, space.gradient(xp, point.grad), history)

    def take(self, xp, models) -> "State":
        """The state of some of the models."""
        history = self.history
        if history is not None:
            history = History(*(xp.take(x, models, axis=0) for x in history))
        return State(
            self.objective.take(models),
            self.space.take(xp, models),
            take_point(xp, self.point, models),
            xp.take(self.g, models, axis=0),
            history,
        )


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
    first = _descend(backend, draft, *_rehearsed(backend, draft, single))
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


def _rehearsed(backend, problem: Problem, space):
    """Objective, space, point and history after some iterations over every so many rows.

    A model that these mislead starts where it was to start, as do all where rows are few.
    """
    xp, n = backend.xp, problem.X.shape[0]
    objective = make_objective(backend, problem)
    step = n // max(MIN_ROWS, 16 * problem.net.units[0])
    n_iter = min(REHEARSAL, int(problem.hyper["max_iter"].min()))
    theta = backend.asarray(problem.theta, problem.dtype)
    if step < 3 or n_iter == 0 or problem.theta.any():
        return objective, space, objective.at(theta), None
    some, weights = slice(None, None, step), problem.row_weights()
    weights = np.broadcast_to(weights, (weights.shape[0], n))[:, some]
    y = problem.y[..., some, :]
    part = replace(problem, X=problem.X[some], y=y, weights=weights, rows=None)
    run, sample = Run(part), make_objective(backend, part)
    at_start = sample.at(theta)
    state = State.start(xp, sample, space, at_start)
    for iteration in range(n_iter):
        state = advance(backend, run, state, iteration)
    point, history = objective.at(state.point.theta), state.history
    misled = ~(point.value < at_start.value)
    if bool(xp.any(misled)):
        point = objective.at(xp.where(misled[:, None], theta, point.theta))
        kept = xp.astype(~misled, theta.dtype)[:, None, None]
        history = History(*(kept * x for x in history))
    return objective, space, point, history


def _descend(
    backend, problem: Problem, objective, space, point: Point | None = None, history=None
) -> Result:
    if point is None:
        point = objective.at(backend.asarray(problem.theta, problem.dtype))
    state = State.start(backend.xp, objective, space, point, history)
    return take_turns(backend, problem, space, Run(problem), state, 0)


def take_turns(backend, problem: Problem, space, run: Run, state: State, iteration: int) -> Result:
    """Walk until every model has stopped: by L-BFGS, for linear models in turns with Newton.

    The state is of the models that have not stopped, the space of all.
    """
    xp = backend.xp
    turn = np.inf if problem.net.activations else _handover(problem)
    while True:
        state, iteration = _walk(backend, run, state, iteration, turn)
        if run.models.size == 0:
            return run.result()
        objective, point, iteration = truncated_newton.walk(
            backend, state.objective, run, state.point, iteration
        )
        if run.models.size == 0:
            return run.result()
        left = space.take(xp, backend.asarray(run.models))
        state = State.start(xp, objective, left, point)


def _walk(backend, run: Run, state: State, iteration: int, turn: float):
    """Make ``turn`` iterations of L-BFGS."""
    end = iteration + turn
    while iteration < end:
        left = run.judge(backend, iteration, state.point)
        if left.size == 0:
            break
        if left.size < state.g.shape[0]:
            state = state.take(backend.xp, backend.asarray(left))
        state = advance(backend, run, state, iteration)
        iteration += 1
    return state, iteration


def advance(backend, run: Run, state: State, iteration: int) -> State:
    """Make an iteration."""
    xp = backend.xp
    objective, space, point, g, history = state
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
        fresh = True if history is None else backend.to_numpy(xp.all(history.S == 0, axis=(1, 2)))
        run.note_failure(backend, step.ok, slope, fresh)
    run.n_fun += step.n_trials
    point = line.end(value)
    if iteration % REFRESH == REFRESH - 1:
        point = objective.at(point.theta)
    g_new = space.gradient(xp, point.grad)
    history = push(xp, history, size[:, None] * d, g_new - g)
    if not step.all_ok:
        keep = xp.astype(step.ok, g.dtype)[:, None, None]
        history = History(*(keep * x for x in history))
    return State(objective, space, point, g_new, history)


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
