"""Newton's method over a stack of linear models."""

import warnings
from dataclasses import replace

import numpy as np
from scipy.linalg import LinAlgWarning

from ..problem import Problem, Result
from . import lbfgs, truncated_newton
from .curvature import hessian
from .objective import make_objective, shift_invariant
from .quasi_newton import State
from .run import Run
from .truncated_newton import advance, go_on
from .whitening import MAX_FEATURES, inverse_root, whitening

# Beyond so many parameters the Hessian is not formed.
MAX_PARAMETERS = 256


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
        ``extra["fallback"]`` marks the models whose Hessian became singular. L-BFGS took over
        there, as in scikit-learn, and a LinAlgWarning said so.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, chapters 3 and 7.
    """
    objective = make_objective(backend, problem)
    run = Run(problem)
    point = objective.at(backend.asarray(problem.theta, problem.dtype))
    fallback = np.zeros(problem.n_models, dtype=bool)
    if problem.theta.shape[1] > MAX_PARAMETERS:
        objective, point, iteration = truncated_newton.walk(backend, objective, run, point, 0)
        result = run.result()
        if run.models.size > 0:
            space = whitening(backend, problem, make_objective(backend, problem).data)
            left = space.take(backend.xp, backend.asarray(run.models))
            state = State.start(backend.xp, objective, left, point)
            result = lbfgs.take_turns(backend, problem, space, run, state, iteration)
        return replace(result, extra={**result.extra, "fallback": fallback})

    iteration = 0
    while True:
        objective, point, left = go_on(backend, objective, run, point, iteration)
        if left.size == 0:
            break
        d, singular = _direction(backend, objective, point)
        if singular.any():
            fallback[run.models[singular]] = True
            run.failed |= singular
        point = advance(backend, objective, run, point, d)
        iteration += 1
    result = run.result()
    if fallback.any():
        result = _fall_back(backend, problem, result, np.flatnonzero(fallback))
    return replace(result, extra={**result.extra, "fallback": fallback})


def _direction(backend, objective, point):
    """Newton's direction, zero where the Hessian is singular, and where that is."""
    xp, net, decay = backend.xp, objective.net, objective.data.decay
    H = hessian(objective, point)
    M, P, k = *point.theta.shape, net.units[1]
    if shift_invariant(net):
        # Adding the same number to a feature's weights of all outputs of a softmax changes nothing.
        # Where decay does not decide between them, curvature along that line does no harm.
        size = xp.mean(xp.reshape(xp.linalg.diagonal(H), (M, -1, k)), axis=2)
        free = xp.astype(decay[:, ::k] == 0, H.dtype)
        line = xp.eye(P // k, dtype=H.dtype, device=H.device) * (size * free)[:, None, :] / k
        line = line[:, :, None, :, None] * xp.ones((k, 1, k), dtype=H.dtype, device=H.device)
        H = H + xp.reshape(line, (M, P, P))
    try:
        B, jitter = inverse_root(xp, H, 16.0 * P * float(xp.finfo(H.dtype).eps))
    except (np.linalg.LinAlgError, RuntimeError):  # indefinite, as negative weights may make it
        return xp.zeros_like(point.grad), np.ones(M, dtype=bool)
    pivots = 1.0 / (xp.linalg.diagonal(H) * xp.linalg.diagonal(B) ** 2)
    singular = ~(xp.min(pivots, axis=1) > 4.0 * jitter)
    d = -(B @ (xp.matrix_transpose(B) @ point.grad[..., None]))[..., 0]
    d = xp.where(singular[:, None], xp.zeros_like(d), d)
    return d, backend.to_numpy(singular)


def _fall_back(backend, problem: Problem, result: Result, models) -> Result:
    """Let L-BFGS go on with the models whose Hessian became singular."""
    warnings.warn(
        "The Hessian of Newton's method is singular, as where features are collinear or outnumber "
        "the rows and the penalty is weak. L-BFGS goes on in its place.",
        LinAlgWarning,
        stacklevel=2,
    )

    part = problem.take(models)
    left = np.maximum(part.hyper["max_iter"] - result.n_iter[models, None], 0)
    rest = lbfgs.solve(
        backend,
        replace(part, theta=result.theta[models], hyper={**part.hyper, "max_iter": left}),
    )
    # The iteration that met the singular Hessian does not count.
    n_iter = result.n_iter[models] - 1 + rest.n_iter
    for name, values in (("theta", rest.theta), ("n_iter", n_iter), ("loss", rest.loss)):
        getattr(result, name)[models] = values
    result.converged[models] = rest.converged
    for model, curve in zip(models, rest.curve, strict=True):
        result.curve[model] += curve
    return result


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P = problem.X.shape[0], problem.theta.shape[1]
    p, k = problem.net.units
    matrices = 4 * P * P if P <= MAX_PARAMETERS else 2 * k * min(p, MAX_FEATURES) ** 2
    return np.dtype(problem.dtype).itemsize * (n * (k * (k + 9) / 2 + 2) + 8 * P + matrices)
