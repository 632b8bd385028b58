"""L-BFGS over a stack of models (Liu & Nocedal, 1989), whitened where the models are linear."""

from typing import Any, NamedTuple

import numpy as np

from ..problem import Problem, Result
from .line_search import wolfe
from .objective import make_objective, take_point
from .whitening import MAX_FEATURES, whitening

# Pairs of steps and gradient changes that approximate the Hessian.
MEMORY = 10
# Iterations in which neither the objective nor the gradient's best size improved measurably, after
# which a model counts as converged: both are then at the rounding of their type.
PATIENCE = 10
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
    return History(
        xp.concat([S[:, 1 - MEMORY :, :], s], axis=1), xp.concat([Y[:, 1 - MEMORY :, :], y], axis=1)
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
    D = xp.eye(S.shape[1], dtype=S.dtype) * xp.linalg.diagonal(SY)[:, None, :]
    R = xp.triu(SY) + xp.eye(S.shape[1], dtype=S.dtype) * xp.astype(empty, S.dtype)[:, None, :]
    last = YY[:, -1:, -1:]
    gamma = xp.where(last > 0, 1.0 / xp.where(last > 0, last, xp.ones_like(last)), 1.0)
    a = xp.linalg.solve(R, S @ g)
    b = xp.linalg.solve(xp.matrix_transpose(R), (D + gamma * YY) @ a - gamma * (Y @ g))
    return -(gamma * g + xp.matrix_transpose(S) @ b - gamma * (Yt @ a))[..., 0]


class Run:
    """The bookkeeping of a stack on the host: who goes on, who has stopped and with what."""

    def __init__(self, problem: Problem):
        M = problem.n_models
        hyper = {name: problem.hyper[name][:, 0] for name in ("tol", "max_iter")}
        for name, default in (("max_fun", np.inf), ("ftol", -np.inf)):
            hyper[name] = np.broadcast_to(problem.hyper.get(name, default), (M, 1))[:, 0]
        self.hyper = hyper
        self.monitors = problem.monitors
        self.eps = float(np.finfo(problem.dtype).eps)
        self.models = np.arange(M)  # those still walking
        self.n_fun = 1
        self.value = np.full(M, np.inf)
        self.best = np.full(M, np.inf)
        self.idle = np.zeros(M, dtype=int)
        self.failed = np.zeros(M, dtype=bool)
        self.theta = np.array(problem.theta, dtype=problem.dtype)
        self.n_iter = np.zeros(M, dtype=int)
        self.loss = np.zeros(M)
        self.converged = np.zeros(M, dtype=bool)
        self.evaluations = np.zeros(M, dtype=int)
        self.curve: list[list[float]] = [[] for _ in range(M)]

    def judge(self, backend, iteration, point):
        """Take in where the models stand; positions in the stack of those that go on."""
        xp, models = backend.xp, self.models
        steepest = xp.max(xp.abs(point.grad), axis=1)
        value, size = backend.to_numpy(xp.stack([point.value, steepest])).astype("float64")
        tol, ftol, max_iter, max_fun = (
            self.hyper[name][models] for name in ("tol", "ftol", "max_iter", "max_fun")
        )
        scale = np.maximum(np.maximum(np.abs(value), np.abs(self.value)), 1.0)
        with np.errstate(invalid="ignore"):
            fall = (self.value - value) / scale
        self.idle = np.where((fall > 4.0 * self.eps) | (size < self.best), 0, self.idle + 1)
        self.best = np.minimum(self.best, size)
        self.value = value

        met = (size <= tol) | (fall <= ftol) | (self.idle >= PATIENCE)
        stop = met | self.failed | ~np.isfinite(size) | (iteration >= max_iter)
        stop |= self.n_fun >= max_fun
        if iteration > 0:
            for model, loss in zip(models, value, strict=True):
                self.curve[model].append(float(loss))
            stop |= self._monitor(backend, iteration, point)
        if stop.any():
            done = models[stop]
            self.theta[done] = backend.to_numpy(point.theta)[stop]
            self.n_iter[done], self.loss[done], self.converged[done] = (
                iteration,
                value[stop],
                met[stop],
            )
            self.evaluations[done] = self.n_fun
            for name in ("models", "value", "best", "idle", "failed"):
                setattr(self, name, getattr(self, name)[~stop])
        return np.flatnonzero(~stop)

    def _monitor(self, backend, iteration, point):
        if self.monitors is None:
            return False
        thetas, monitors = backend.to_numpy(point.theta), [self.monitors[m] for m in self.models]
        return np.asarray(
            [
                monitor is not None and bool(monitor(iteration, theta, value))
                for monitor, theta, value in zip(monitors, thetas, self.value, strict=True)
            ]
        )

    def note_failure(self, backend, ok, slope, steepest):
        """Stop models that find no lower point even in the direction of steepest descent.

        Where the decrease to expect is below the rounding of the objective they count as converged.
        """
        ok, slope = backend.to_numpy(ok), backend.to_numpy(slope).astype("float64")
        self.failed |= ~ok & steepest
        rounding = 100.0 * self.eps * np.maximum(np.abs(self.value), 1.0)
        self.idle = np.where(~ok & steepest & (-slope <= rounding), PATIENCE, self.idle)

    def result(self) -> Result:
        return Result(
            theta=self.theta,
            n_iter=self.n_iter,
            loss=self.loss,
            converged=self.converged,
            curve=self.curve,
            extra={"n_fun": self.evaluations},
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
    xp = backend.xp
    objective = make_objective(backend, problem)
    space = IDENTITY
    if not problem.net.activations:
        space = whitening(backend, problem, objective.data)
    run = Run(problem)
    point = objective.at(backend.asarray(problem.theta, problem.dtype))
    g = space.gradient(xp, point.grad)
    history = None
    for iteration in range(int(np.max(problem.hyper["max_iter"])) + 1):
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
        if iteration % REFRESH == REFRESH - 1:
            point = objective.at(point.theta)
        g_new = space.gradient(xp, point.grad)
        history = push(xp, history, size[:, None] * d, g_new - g)
        if not step.all_ok:
            keep = xp.astype(step.ok, g.dtype)[:, None, None]
            history = History(*(keep * x for x in history))
        g = g_new
    return run.result()


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P = problem.X.shape[0], problem.theta.shape[1]
    units = sum(problem.net.units[1:])
    p = problem.net.units[0]
    basis = p * p if not problem.net.activations and p <= MAX_FEATURES else 0
    return np.dtype(problem.dtype).itemsize * (n * (8.0 * units + 2) + (2 * MEMORY + 8) * P + basis)
