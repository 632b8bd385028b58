"""An iteration of L-BFGS over a stack of models (Liu & Nocedal, 1989)."""

from typing import Any, NamedTuple

from .bookkeeping import Run
from .line_search import wolfe
from .objective import LinearObjective, NetworkObjective, Point, take_point

# Pairs of steps and gradient changes that approximate the Hessian.
MEMORY = 10
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
    if run.any_step and run.met.any():
        run.error = line.moved()
    if iteration % REFRESH == REFRESH - 1:
        point = objective.at(point.theta)
    g_new = space.gradient(xp, point.grad)
    history = push(xp, history, size[:, None] * d, g_new - g)
    if not step.all_ok:
        history = History(*(xp.where(step.ok[:, None, None], x, 0.0) for x in history))
    return State(objective, space, point, g_new, history)
