"""Newton's method over a stack of linear models of few parameters: the Hessian is formed."""

from dataclasses import replace

import numpy as np

from ...problem import Problem, Result
from .bookkeeping import SHARE, Run
from .curvature import Centre, hessian
from .objective import make_objective, shift_invariant, without_common_part
from .truncated_newton import advance, go_on
from .whitening import inverse_root

# Beyond so many parameters the Hessian is not formed.
MAX_PARAMETERS = 256
# Multiplications for a Hessian up to which Newton's few iterations cost less than those of L-BFGS.
CHEAP = 1e8


def pays(problem: Problem) -> bool:
    """Whether a Hessian costs about as little as a few passes over the rows."""
    n, P, k = problem.X.shape[0], problem.theta.shape[1], problem.net.units[1]
    return P <= MAX_PARAMETERS and n * P * P * (k + 1) / (2 * k) <= CHEAP


def descend(backend, problem: Problem) -> Result:
    """Minimise the objective of every linear model.

    Returns
    -------
    Result
        ``extra["singular"]`` marks the models that stopped because their Hessian became singular,
        ``extra["stuck"]`` those that found no lower point though their gradient was not small.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, chapter 3.
    """
    problem = without_common_part(problem)
    objective, run = make_objective(backend, problem), Run(problem, SHARE)
    point = objective.at(backend.asarray(problem.theta, problem.dtype))
    centre = Centre.of(objective)
    singular, stuck = np.zeros((2, problem.n_models), dtype=bool)
    iteration = 0
    while True:
        objective, point, left = go_on(backend, objective, run, point, iteration)
        if left.size == 0:
            result = run.result()
            return replace(result, extra={**result.extra, "singular": singular, "stuck": stuck})
        d, without = _direction(backend, objective, point, centre)
        point, still = advance(backend, objective, run, point, d, order=2)
        singular[run.models[without]] = True
        stuck[run.models[still & ~run.met]] = True
        run.failed |= without | still
        iteration += 1


def _direction(backend, objective, point, centre):
    """Newton's direction, zero where the Hessian is singular, and where that is."""
    xp, decay = backend.xp, objective.data.decay
    (M, P), k = point.theta.shape, objective.net.units[1]
    H = hessian(objective, point, centre)
    if shift_invariant(objective.net):
        H = H + _slack(xp, H, decay, k)
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
    d = xp.where(singular[:, None], xp.zeros_like(d), d)
    return d, backend.to_numpy(singular)


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
