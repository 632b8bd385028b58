"""Proximal Newton over a stack of linear models: L1 and elastic-net penalties, exact zeros."""

from typing import Any, NamedTuple

import numpy as np

from ..network import n_weights
from ..problem import Problem, Result
from .curvature import Products, diagonal, hessian
from .objective import LinearObjective, Point, make_objective, shift_invariant, take_point
from .run import Run

# Beyond so many parameters the Hessian is not formed.
MAX_PARAMETERS = 512
# Most steps of the inner solver, and products with the Hessian in one of its systems.
MAX_INNER, MAX_PRODUCTS = 40, 25
MAX_TRIALS = 30


def shrink(xp, u, by):
    """The proximal operator of the L1 norm: towards zero by so much, and no further."""
    return xp.sign(u) * xp.clip(xp.abs(u) - by, min=0.0)


def steepest(xp, u, grad, l1):
    """The subgradient of least norm: zero at the minimum, and only there."""
    at_zero = shrink(xp, grad, l1)
    return xp.where(u == 0, at_zero, grad + l1 * xp.sign(u))


class Quadratic(NamedTuple):
    """The objective's quadratic model around a point, penalties left out.

    Parameters
    ----------
    product : callable
        The Hessian times a direction, (M, P) -> (M, P).
    scale : array of shape (M, P)
        The Hessian's diagonal.
    solve : callable
        ``solve(free, rhs)``: solution of the system of the free parameters, zero elsewhere.
    """

    product: Any
    scale: Any
    solve: Any


def _slack(xp, net, decay, scale):
    """Curvature, of shape (M, P / k, 1), for lines along which a softmax does not change.

    Adding the same number to a feature's weights of all outputs is such a line. Where decay does
    not bend it either the system of the free parameters would be singular.
    """
    k = net.units[1]
    scale = xp.reshape(scale, (scale.shape[0], -1, k))
    free = xp.astype(decay[:, ::k] == 0, scale.dtype)[..., None]
    return free * xp.mean(scale, axis=2, keepdims=True) * float(shift_invariant(net))


def _along(xp, slack, v):
    """The matrix of that curvature times v."""
    split = xp.reshape(v, (*slack.shape[:2], -1))
    split = slack * xp.mean(split, axis=2, keepdims=True) * xp.ones_like(split)
    return xp.reshape(split, v.shape)


def dense_model(objective: LinearObjective, point: Point) -> Quadratic:
    """The model with its Hessian formed."""
    xp, net = objective.xp, objective.net
    H = hessian(objective, point)
    scale = xp.linalg.diagonal(H)
    P, k = H.shape[-1], net.units[1]
    slack = _slack(xp, net, objective.data.decay, scale)
    at = xp.arange(P, device=H.device) // k
    same = xp.astype(at[:, None] == at[None, :], H.dtype)
    eps = float(xp.finfo(H.dtype).eps)
    full = (
        H
        + same
        * xp.reshape(slack * xp.ones((1, 1, k), dtype=H.dtype, device=H.device), (-1, P))[..., None]
        / k
    )
    unit = xp.where(scale > 0, scale, xp.ones_like(scale))
    full = full + xp.eye(P, dtype=H.dtype, device=H.device) * (100.0 * eps * unit)[:, None, :]

    def product(v):
        return (H @ v[..., None])[..., 0]

    def solve(free, rhs):
        mask = xp.astype(free, H.dtype)
        system = mask[:, :, None] * full * mask[:, None, :]
        system = (
            system + xp.eye(P, dtype=H.dtype, device=H.device) * ((1.0 - mask) * unit)[:, None, :]
        )
        return xp.linalg.solve(system, (mask * rhs)[..., None])[..., 0]

    return Quadratic(product, scale, solve)


def implicit_model(objective: LinearObjective, point: Point) -> Quadratic:
    """The model with the Hessian as an operator, its systems solved by conjugate gradients."""
    xp, net, (X, _, w, decay) = objective.xp, objective.net, objective.data
    product = Products.at(objective, point)
    h = diagonal(xp, net.loss, net.loss.predict(xp, point.raw), w)
    (p, k), M = net.units, point.theta.shape[0]
    squares = X.multiply(X).tocsr() if hasattr(X, "toarray") else X * X
    parts = [xp.reshape(xp.reshape(h, (M * k, -1)) @ squares, (M, k, p))]
    if net.intercept:
        parts.append(xp.sum(h, axis=2, keepdims=True))
    scale = xp.reshape(xp.matrix_transpose(xp.concat(parts, axis=2)), decay.shape) + decay
    slack = _slack(xp, net, decay, scale)
    one = xp.ones_like(scale)
    unit = xp.where(scale > 0, scale, one)

    def solve(free, rhs):
        mask = xp.astype(free, rhs.dtype)
        d, r = xp.zeros_like(rhs), mask * rhs
        q = z = r / unit
        rz = xp.sum(r * z, axis=1)
        goal = 0.01 * rz
        for _ in range(MAX_PRODUCTS):
            Hq = mask * (product(q) + _along(xp, slack, q))
            bend = xp.sum(q * Hq, axis=1)
            going = (rz > goal) & (bend > 0)
            step = xp.where(going, rz / xp.where(going, bend, 1.0), 0.0)[:, None]
            d, r = d + step * q, r - step * Hq
            z = r / unit
            new = xp.where(going, xp.sum(r * z, axis=1), rz)
            if not bool(xp.any(going & (new > goal))):
                break
            q = z + (new / xp.where(going, rz, 1.0))[:, None] * q
            rz = new
        return d

    return Quadratic(product, scale, solve)


def minimise_model(xp, model: Quadratic, k, theta, grad, l1, accuracy):
    """Minimiser of the quadratic model plus the L1 penalty.

    A proximal step finds which parameters are zero and the signs of the others; in that orthant the
    model is smooth, and one linear system leads to its minimum (Byrd, Chin, Nocedal & Oztoprak,
    2016). With the right orthant that is the solution.

    Parameters
    ----------
    k : int
        Outputs of the network.
    accuracy : array of shape (M,)
        Size of the subgradient at which to stop.
    """
    u, r = theta, grad
    unit = xp.where(model.scale > 0, model.scale, xp.ones_like(model.scale))
    if k > 1:
        # One unit for all outputs of an intercept keeps the sum of intercepts where it is.
        widest = xp.max(xp.reshape(unit, (unit.shape[0], -1, k)), axis=2, keepdims=True)
        widest = xp.reshape(
            widest * xp.ones((1, 1, k), dtype=unit.dtype, device=unit.device), unit.shape
        )
        unit = xp.where(l1 == 0, widest, unit)
    bound = xp.ones_like(accuracy)  # of the Hessian's eigenvalues in units of its diagonal

    def value(u, r):
        return 0.5 * xp.sum((grad + r) * (u - theta), axis=1) + xp.sum(l1 * xp.abs(u), axis=1)

    for _ in range(MAX_INNER):
        t = 1.0 / (bound[:, None] * unit)
        target = shrink(xp, u - t * r, t * l1)
        d = target - u
        Hd = model.product(d)
        bend = xp.sum(d * Hd, axis=1)
        size = xp.sum(d * unit * d, axis=1)
        ratio = bend / xp.where(size > 0, size, xp.ones_like(size))
        step = xp.where(ratio > bound, bound / xp.where(ratio > bound, ratio, 1.0), 1.0)[:, None]
        bound = xp.maximum(bound, ratio)
        u = xp.where(step == 1, target, u + step * d)
        r = r + step * Hd

        sign = xp.sign(u)
        free = (sign != 0) | (l1 == 0)
        d = model.solve(free, -(r + l1 * sign))
        Hd = model.product(d)
        end = u + d
        inside = (end * sign > 0) | (l1 == 0)
        end = xp.where(inside & free, end, xp.zeros_like(end))
        projected = r + xp.where(
            xp.all(inside | ~free, axis=1)[:, None], Hd, model.product(end - u)
        )
        # Where the projection does not pay, walk up to the first parameter that vanishes.
        leaving = free & ~inside
        reach = xp.where(leaving, u / xp.where(leaving, u - (u + d), 1.0), 1.0)
        reach = xp.min(xp.clip(reach, min=0.0, max=1.0), axis=1, keepdims=True)
        stop = u + reach * d
        stop = xp.where(leaving & (stop * sign <= 0), xp.zeros_like(stop), stop)
        better = (value(end, projected) <= value(stop, r + reach * Hd))[:, None]
        u = xp.where(better, end, stop)
        r = xp.where(better, projected, r + reach * Hd)
        if bool(xp.all(xp.max(xp.abs(steepest(xp, u, r, l1)), axis=1) <= accuracy)):
            break
    return u


def _search(objective, run, point: Point, u, l1):
    """Go towards u until the objective falls enough (Lee, Sun & Saunders, 2014)."""
    xp, backend = objective.xp, objective.backend
    d = u - point.theta
    before = xp.sum(l1 * xp.abs(point.theta), axis=1)
    total = point.value + before
    expected = xp.sum(point.grad * d, axis=1) + xp.sum(l1 * xp.abs(u), axis=1) - before
    eps = float(xp.finfo(total.dtype).eps)
    noise = 10.0 * eps * xp.abs(total)
    line = objective.line(point, d)
    step = xp.ones_like(total)
    for _ in range(MAX_TRIALS):
        smooth, _ = line.at(step)
        run.n_fun += 1
        theta = xp.where((step == 1)[:, None], u, point.theta + step[:, None] * d)
        value = smooth + xp.sum(l1 * xp.abs(theta), axis=1)
        ok = value <= total + 1e-4 * step * expected + noise
        if bool(xp.all(ok)):
            break
        # The minimiser of the parabola through what is known.
        bend = value - total - step * expected
        guess = -0.5 * expected * step * step / xp.where(bend > 0, bend, 1.0)
        guess = xp.where(xp.isfinite(guess), guess, 0.1 * step)
        guess = xp.minimum(xp.maximum(guess, 0.1 * step), 0.5 * step)
        step = xp.where(ok, step, guess)
    run.failed |= ~backend.to_numpy(ok)
    return line.end(smooth)._replace(theta=theta)


def solve(backend, problem: Problem) -> Result:
    """Minimise the objective plus L1 penalties of every linear model by proximal Newton.

    Parameters
    ----------
    backend : Backend
    problem : Problem
        ``hyper`` as for L-BFGS, with "l1" and optionally "l1_intercept": coefficients of the
        absolute values. "tol" bounds the largest entry of the subgradient of least norm.

    Returns
    -------
    Result

    References
    ----------
    Lee, Sun & Saunders (2014), Proximal Newton-type methods for minimizing composite functions.
    Byrd, Chin, Nocedal & Oztoprak (2016), A family of second-order methods for convex
    l1-regularized optimization.
    """
    xp = backend.xp
    objective = make_objective(backend, problem)
    l1 = np.zeros(problem.theta.shape)
    l1[:, n_weights(problem.net) :] = problem.hyper.get("l1_intercept", 0.0)
    l1[:, : n_weights(problem.net)] = problem.hyper["l1"]
    l1 = backend.asarray(l1, problem.dtype)
    run = Run(problem)
    point = objective.at(backend.asarray(problem.theta, problem.dtype))
    build = dense_model if problem.theta.shape[1] <= MAX_PARAMETERS else implicit_model
    iteration = 0
    while True:
        sub = steepest(xp, point.theta, point.grad, l1)
        full = point.value + xp.sum(l1 * xp.abs(point.theta), axis=1)
        left = run.judge(backend, iteration, point._replace(value=full, grad=sub))
        if left.size == 0:
            return run.result()
        if left.size < point.theta.shape[0]:
            models = backend.asarray(left)
            objective, point = objective.take(models), take_point(xp, point, models)
            l1, sub = xp.take(l1, models, axis=0), xp.take(sub, models, axis=0)
        accuracy = 0.1 * xp.max(xp.abs(sub), axis=1)
        model = build(objective, point)
        u = minimise_model(xp, model, problem.net.units[1], point.theta, point.grad, l1, accuracy)
        point = _search(objective, run, point, u, l1)
        iteration += 1


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P, k = problem.X.shape[0], problem.theta.shape[1], problem.net.units[1]
    matrices = 4 * P * P if P <= MAX_PARAMETERS else 0
    return np.dtype(problem.dtype).itemsize * (n * (k * (k + 9) / 2 + 2) + 20 * P + matrices)
