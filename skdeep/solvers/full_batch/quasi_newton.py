"""An iteration of L-BFGS over a stack of models (Liu & Nocedal, 1989)."""

from typing import Any, NamedTuple

from .bookkeeping import Run
from .line_search import wolfe

# Pairs of steps and gradient changes that approximate the Hessian.
MEMORY = 10
# The scores are computed afresh now and then, or the rounding of their updates would add up.
REFRESH = 25


class Identity(NamedTuple):
    """The coordinates of a network with hidden layers: its own."""

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
    """What models carry from iteration to iteration; ``g`` is the gradient in their space."""

    space: Any
    g: Any
    history: History | None = None

    @classmethod
    def start(cls, run: Run, space, history: History | None = None) -> "State":
        return cls(space, space.gradient(run.xp, run.point.grad), history)


def step(run: Run, state: State) -> State:
    """Make an iteration."""
    xp, point, (space, g, history) = run.xp, run.point, state
    d = -g if history is None else quasi_newton(xp, history, g)
    slope = xp.sum(d * g, axis=1)
    # Rounding may spoil a direction close to the minimum.
    downhill = slope < 0
    d = xp.where(downhill[:, None], d, -g)
    slope = xp.where(downhill, slope, -xp.sum(g * g, axis=1))
    first = xp.ones_like(slope) if history is not None else space.first_step(xp, g)

    line = run.objective.line(point, space.direction(xp, d))
    found = wolfe(xp, line, point.value, slope, first)
    size, value = found.step, found.value
    if not found.all_ok:
        # Stay, and forget the Hessian: the next direction is steepest descent.
        size = xp.where(found.ok, size, xp.zeros_like(size))
        value, _ = line.at(size)
        fresh = history is None or run.backend.to_numpy(xp.all(history.S == 0, axis=(1, 2)))
        run.note_failure(found.ok, slope, fresh)
    run.n_fun += found.n_trials
    point = line.end(value)
    if run.any_step and run.met.any():
        run.error = line.moved()
    if run.n_steps % REFRESH == REFRESH - 1:
        point = run.objective.at(point.theta)
    run.point = point
    g_new = space.gradient(xp, point.grad)
    history = push(xp, history, size[:, None] * d, g_new - g)
    if not found.all_ok:
        history = History(*(xp.where(found.ok[:, None, None], x, 0.0) for x in history))
    return State(space, g_new, history)
