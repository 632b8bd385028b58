"""Newton's method over a stack of linear models of few parameters: the Hessian is formed."""

import numpy as np

from ...problem import Problem
from .bookkeeping import Run, iterate
from .curvature import Centre, hessian
from .objective import shift_invariant
from .preconditioning import inverse_root
from .truncated_newton import advance

# Beyond so many parameters the Hessian is not formed.
MAX_PARAMETERS = 256
# Multiplications for a Hessian up to which Newton's few iterations cost less than those of L-BFGS.
CHEAP = 1e8


def pays(problem: Problem) -> bool:
    """Whether a Hessian costs about as little as a few passes over the rows."""
    n, P, k = problem.n_rows, problem.theta.shape[1], problem.net.units[1]
    return P <= MAX_PARAMETERS and n * P * P * (k + 1) / (2 * k) <= CHEAP


def descend(run: Run) -> None:
    """Go on until every model has stopped or given up, to wait for another method.

    A model gives up where its Hessian becomes singular (``run.singular``), or where it finds no
    lower point though its gradient is not small.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, chapter 3.
    """
    centre = Centre.of(run.objective)

    def step(run: Run, _) -> None:
        d, without = _direction(run, centre)
        still = advance(run, d, order=2)
        run.singular[run.models[without]] = True
        run.waiting[run.models[without | (still & ~run.met)]] = True
        run.failed |= without | still

    iterate(run, step)


def _direction(run: Run, centre: Centre):
    """Newton's direction, zero where the Hessian is singular, and where that is."""
    xp, objective, point, decay = run.xp, run.objective, run.point, run.objective.data.decay
    (M, P), k = point.theta.shape, objective.net.units[1]
    H = hessian(objective, point, centre)
    if shift_invariant(objective.net):
        H = H + _slack(xp, H, decay, k)
    if centre.some_constant:
        # Nothing moves a feature that does not vary, unless it decays.
        constant = xp.astype(xp.repeat(centre.varies, k) == 0, H.dtype)
        constant = xp.concat([constant, xp.zeros_like(decay[0, constant.shape[0] :])])
        idle = constant * xp.astype(decay == 0, H.dtype)
        H = H + idle[..., None] * xp.eye(P, dtype=H.dtype, device=H.device)
    try:
        B, jitter = inverse_root(xp, H, 16.0 * P * float(xp.finfo(H.dtype).eps))
    except (np.linalg.LinAlgError, RuntimeError):  # indefinite, as negative weights may make it
        return xp.zeros_like(point.grad), np.ones(M, dtype=bool)
    size = xp.linalg.diagonal(H) * xp.linalg.diagonal(B) ** 2
    pivots = xp.where(size > 0, 1.0 / xp.where(size > 0, size, 1.0), 0.0)
    singular = ~(xp.min(pivots, axis=1) > 4.0 * jitter)
    g, decayed = (xp.reshape(v, (M, P // k, k)) for v in (point.grad, decay * point.theta))
    g = xp.reshape(centre.gradient(xp, g, decayed), (M, P, 1))
    d = xp.reshape(-(B @ (xp.matrix_transpose(B) @ g)), (M, P // k, k))
    d = xp.reshape(centre.direction(xp, d), (M, P))
    return xp.where(singular[:, None], 0.0, d), run.backend.to_numpy(singular)


def _slack(xp, H, decay, k):
    """Curvature along the lines on which a softmax does not change, where decay has none either.

    Adding the same number to a feature's weights of all outputs is such a line. As the gradient has
    no part along it, that does no harm.
    """
    M, P, _ = H.shape
    size = xp.mean(xp.reshape(xp.linalg.diagonal(H), (M, -1, k)), axis=2)
    free = xp.astype(decay[:, ::k] == 0, H.dtype)
    line = xp.eye(P // k, dtype=H.dtype, device=H.device) * (size * free)[:, None, :] / k
    line = line[:, :, None, :, None] * xp.ones((k, 1, k), dtype=H.dtype, device=H.device)
    return xp.reshape(line, (M, P, P))
