"""Proximal Newton over a stack of linear models: L1 and elastic-net penalties, exact zeros."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...overrides import chosen
from ...problem import Problem, Result
from .bookkeeping import FULL_BATCH, SHARE, Run, iterate, largest
from .conjugate_gradients import conjugate_gradients
from .curvature import Products, diagonal, hessian, weighted_squares
from .objective import LinearObjective, Point, shift_invariant, take
from .precision import in_double, needs_double
from .scaling import centred, far, limit, moderated

# Beyond so many parameters in play the Hessian is not formed.
MAX_IN_PLAY = 2048
# Most steps of the inner solver, and products with the Hessian in one of its systems.
MAX_INNER, MAX_PRODUCTS = 40, 25
MAX_TRIALS = 30
# Orthants that it walks through at a time, and steps in which the subgradient has to halve.
MAX_FACES, MAX_STALLED = 20, 4
# Features that join those in play at least.
MIN_JOINING = 64
POWER_STEPS = 8
# Shares of a step that the inner solver compares, zero among them.
SHARES = (1.0, 0.7, 0.5, 0.3, 0.1, 0.03, 0.01, 0.0)

# What it calls of a loss.
NEEDS = ("hessian", "hessian_product")


def soft_threshold(xp, u, by):
    """The proximal operator of the L1 norm: towards zero by so much, and no further."""
    return xp.sign(u) * xp.clip(xp.abs(u) - by, min=0.0)


def steepest(xp, u, grad, l1):
    """The subgradient of least norm: zero at the minimum, and only there."""
    at_zero = soft_threshold(xp, grad, l1)
    return xp.where(u == 0, at_zero, grad + l1 * xp.sign(u))


def recentre(xp, u, k, l1, decay):
    """Shift each feature's weights by their median where only differences between outputs count.

    The loss stays, and the sum of absolute values is least. Of the two medians of an even number,
    and all that lies between, that one becomes zero which more outputs have.
    """
    split = xp.reshape(u, (u.shape[0], -1, k))
    ordered = xp.sort(split, axis=2)
    lower, upper = ordered[:, :, (k - 1) // 2], ordered[:, :, k // 2]
    equal = (xp.astype(split == x[:, :, None], xp.int64) for x in (lower, upper))
    many, more = (xp.sum(which, axis=2) for which in equal)
    shift = xp.where(more > many, upper, lower)
    free = (l1[:, ::k] > 0) & (decay[:, ::k] == 0)
    shift = xp.where(free, shift, xp.zeros_like(shift))
    return xp.reshape(split - shift[:, :, None], u.shape)


class Quadratic(NamedTuple):
    """The objective's quadratic model around a point, penalties left out.

    Parameters
    ----------
    product : callable
        The Hessian times a few directions, (M, a, P) -> (M, a, P).
    scale : array of shape (M, P)
        The Hessian's diagonal.
    solve : callable
        ``solve(free, rhs)``: solution of the system of the free parameters, zero elsewhere.
    n_steps : int
        Proximal steps that cost about as much as a solution.
    """

    product: Any
    scale: Any
    solve: Any
    n_steps: int


def _slack(xp, net, decay, scale, free):
    """Curvature, of shape (M, P / k, 1), for lines along which a softmax does not change.

    Adding the same number to a feature's weights of all outputs is such a line. Where all of them
    are free, and decay does not bend it either, the free parameters' system would be singular.
    """
    M, k = decay.shape[0], net.units[1]
    if not shift_invariant(net):
        return xp.zeros((M, decay.shape[1] // k, 1), dtype=scale.dtype, device=scale.device)
    scale, free = (xp.reshape(a, (M, -1, k)) for a in (scale, free))
    straight = xp.all(free, axis=2, keepdims=True) & (decay[:, ::k] == 0)[..., None]
    return xp.where(straight, xp.mean(scale, axis=2, keepdims=True), 0.0)


def _along(xp, slack, v):
    """The matrix of that curvature times v."""
    split = xp.reshape(v, (*slack.shape[:2], -1))
    mean = slack * xp.mean(split, axis=2, keepdims=True)
    return xp.reshape(xp.broadcast_to(mean, split.shape), v.shape)


def dense_model(objective: LinearObjective, point: Point) -> Quadratic:
    """The model with its Hessian formed."""
    xp, net, decay = objective.xp, objective.net, objective.data.decay
    H = hessian(objective, point)
    scale = xp.linalg.diagonal(H)
    (M, P), k = decay.shape, net.units[1]
    jitter = 100.0 * float(xp.finfo(H.dtype).eps) * xp.where(scale > 0, scale, 1.0)
    feature = xp.arange(P, device=H.device) // k

    def product(v):
        return v @ H

    def solve(free, rhs):
        slack = _slack(xp, net, decay, scale, free)[..., 0] / k
        out = []
        for m in range(M):
            at = xp.nonzero(free[m, :])[0]
            own = xp.take(feature, at)
            system = xp.take(xp.take(H[m, :, :], at, axis=0), at, axis=1)
            same = xp.astype(own[:, None] == own[None, :], H.dtype)
            system = system + same * xp.take(slack[m, :], own)[:, None]
            diagonal = xp.take(jitter[m, :], at)
            system = system + xp.eye(at.shape[0], dtype=H.dtype, device=H.device) * diagonal
            place = xp.astype(at[:, None] == xp.arange(P, device=H.device)[None, :], H.dtype)
            d = xp.linalg.solve(system, xp.take(rhs[m, :], at)[:, None])
            out.append((xp.matrix_transpose(place) @ d)[:, 0])
        return xp.stack(out)

    return Quadratic(product, scale, solve, 20)


def implicit_model(objective: LinearObjective, point: Point) -> Quadratic:
    """The model with the Hessian as an operator, its systems solved by conjugate gradients."""
    xp, net, (X, _, w, decay) = objective.xp, objective.net, objective.data
    operator = Products.at(objective, point)
    h = diagonal(xp, net.loss, chosen(xp, net.loss.predict)(xp, point.raw), w)
    (p, k), M = net.units, point.theta.shape[0]
    squares, total = objective.backend.sums(
        weighted_squares(xp.reshape(h, (M * k, -1)), X), xp.sum(h, axis=2, keepdims=True)
    )
    parts = [xp.reshape(squares, (M, k, p))]
    if net.intercept:
        parts.append(total)
    scale = xp.reshape(xp.matrix_transpose(xp.concat(parts, axis=2)), decay.shape) + decay
    unit = xp.where(scale > 0, scale, 1.0)

    def product(v):
        return xp.stack([operator(v[:, a, :]) for a in range(v.shape[1])], axis=1)

    def solve(free, rhs):
        slack, mask = _slack(xp, net, decay, scale, free), xp.astype(free, rhs.dtype)
        return conjugate_gradients(
            xp,
            lambda q: mask * (operator(q) + _along(xp, slack, q)),
            lambda r: r / unit,
            mask * rhs,
            MAX_PRODUCTS,
        )

    return Quadratic(product, scale, solve, 5)


def _widest(xp, model: Quadratic, unit):
    """Largest eigenvalue of the Hessian in the given units, (M, 1), by power iteration."""
    # Any start that no eigenvector is likely to be orthogonal to.
    v = xp.cos(xp.astype(xp.arange(unit.shape[1], device=unit.device), unit.dtype) ** 2)
    v = v * xp.ones_like(unit)
    size = xp.ones_like(v[:, :1])
    for _ in range(POWER_STEPS):
        v = v / xp.sqrt(xp.sum(v * v, axis=1, keepdims=True))
        v = model.product((v / xp.sqrt(unit))[:, None, :])[:, 0, :] / xp.sqrt(unit)
        size = xp.sqrt(xp.sum(v * v, axis=1, keepdims=True))
    return xp.maximum(1.2 * size, xp.ones_like(size))


def _proximal_steps(xp, model: Quadratic, u, r, l1, unit):
    """A few accelerated proximal gradient steps on the model (Beck & Teboulle, 2009)."""
    ahead, r_ahead, momentum = u, r, 1.0
    for _ in range(model.n_steps):
        new = soft_threshold(xp, ahead - r_ahead / unit, l1 / unit)
        d = new - ahead
        Hd = model.product(d[:, None, :])[:, 0, :]
        bend, bound = (xp.sum(d * x, axis=1, keepdims=True) for x in (Hd, unit * d))
        # A step longer than the curvature allows is not taken: the units were too small.
        long = bend > bound
        unit = xp.where(long, 1.1 * unit * (bend / xp.where(bound > 0, bound, 1.0)), unit)
        new, r_new = xp.where(long, u, new), xp.where(long, r, r_ahead + Hd)
        following = 0.5 + (0.25 + momentum * momentum) ** 0.5
        share = (momentum - 1.0) / following
        # Restart where the momentum leads uphill (O'Donoghue & Candès, 2015).
        uphill = xp.sum((ahead - new) * (new - u) * unit, axis=1, keepdims=True) > 0
        share = xp.where(uphill, 0.0, share * xp.ones_like(r[:, :1]))
        ahead, r_ahead = new + share * (new - u), r_new + share * (r_new - r)
        u, r, momentum = new, r_new, following
    return u, r, unit


def _cross(xp, model: Quadratic, u, r, l1):
    """Go towards the minimum of the model in the orthant of u, and where its walls are in the way
    along them or to the best of them, whichever is lower.

    Returns
    -------
    u, r : arrays of shape (M, P)
    whole : array of shape (M,)
        Whether no wall was in the way.
    """
    sign = xp.sign(u)
    free = (sign != 0) | (l1 == 0)
    slope = r + l1 * sign
    d = model.solve(free, -slope)
    crosses = (l1 > 0) & ((u + d) * sign < 0)
    wall = xp.where(crosses, -u / xp.where(crosses, d, 1.0), 1.0)
    shares = xp.asarray(SHARES, dtype=u.dtype, device=u.device)
    # Along the line, projected on the orthant: the farther, the more parameters vanish.
    ends = u[:, None, :] + shares[:, None] * d[:, None, :]
    inside = (ends * sign[:, None, :] > 0) | (l1 == 0)[:, None, :]
    ends = xp.where(inside, ends, 0.0)
    step = _best_wall(xp, wall, xp.sum(slope * d, axis=1, keepdims=True), l1 * xp.abs(d))
    there = xp.where(crosses & (wall == step), 0.0, u + step * d)
    ends = xp.concat([there[:, None, :], ends], axis=1)
    change = ends - u[:, None, :]
    product = model.product(change)
    # Differences, not values: they are what rounding would swallow close to the minimum.
    gain = (r[:, None, :] + 0.5 * product) * change
    gain = gain + l1[:, None, :] * (xp.abs(ends) - xp.abs(u[:, None, :]))
    gain = xp.sum(gain, axis=2, keepdims=True)
    best = xp.astype(gain == xp.min(gain, axis=1, keepdims=True), u.dtype)
    best = best / xp.sum(best, axis=1, keepdims=True)
    u, r = xp.sum(best * ends, axis=1), r + xp.sum(best * product, axis=1)
    return u, r, ~xp.any(crosses, axis=1)


def _best_wall(xp, wall, slope, cost):
    """The share of a step (M, 1) at which the model is least, of those (M, P) where a sign changes.

    The model falls by ``slope (t - t² / 2)`` but for each sign that has changed, which costs its
    share of twice the L1 norm (Lee, Battle, Raina & Ng, 2007).
    """
    order = xp.argsort(wall, axis=1)
    t, cost = xp.take_along_axis(wall, order, axis=1), xp.take_along_axis(cost, order, axis=1)
    turned = xp.cumulative_sum(cost, axis=1) * t - xp.cumulative_sum(cost * t, axis=1)
    value = slope * (t - 0.5 * t * t) + 2.0 * turned
    best = xp.argmin(value, axis=1, keepdims=True)
    return xp.take_along_axis(t, best, axis=1)


def minimise_model(xp, model: Quadratic, k, theta, grad, l1, accuracy, centre):
    """Minimiser of the quadratic model plus the L1 penalty.

    A proximal step finds which parameters are zero and the signs of the others; in that orthant the
    model is smooth, and one linear system leads to its minimum (Byrd, Chin, Nocedal & Oztoprak,
    2016). With the right orthant that is the solution; through others the way leads from wall to
    wall, or features that are nearly collinear would take thousands of proximal steps.

    Parameters
    ----------
    k : int
        Outputs of the network.
    accuracy : array of shape (M,)
        Size of the subgradient at which to stop.
    centre : callable
        Lowers the penalty and leaves the loss.
    """
    unit = xp.where(model.scale > 0, model.scale, 1.0)
    if k > 1:
        # One unit for all outputs of an intercept keeps the sum of intercepts where it is.
        widest = xp.max(xp.reshape(unit, (unit.shape[0], -1, k)), axis=2, keepdims=True)
        widest = xp.broadcast_to(widest, (*widest.shape[:2], k))
        unit = xp.where(l1 == 0, xp.reshape(widest, unit.shape), unit)
    unit = unit * _widest(xp, model, unit)
    u, r = theta, grad
    best = xp.max(xp.abs(steepest(xp, u, r, l1)), axis=1)
    stalled = xp.zeros_like(best)
    for _ in range(MAX_INNER):
        u, r, unit = _proximal_steps(xp, model, u, r, l1, unit)
        for _ in range(MAX_FACES):
            u, r, whole = _cross(xp, model, u, r, l1)
            if bool(xp.all(whole)):
                break
        u = centre(u)
        size = xp.max(xp.abs(steepest(xp, u, r, l1)), axis=1)
        stalled = xp.where(size < 0.5 * best, 0.0, stalled + 1.0)
        best = xp.minimum(best, size)
        if bool(xp.all((size <= accuracy) | (stalled >= MAX_STALLED))):
            break
    return u


class _Run(Run):
    """The bookkeeping of objectives with L1 penalties."""

    def __init__(self, backend, problem: Problem):
        super().__init__(backend, problem, SHARE)
        l1 = np.zeros(problem.theta.shape)
        l1[:, problem.net.n_weights :] = problem.hyper.get("l1_intercept", 0.0)
        l1[:, : problem.net.n_weights] = problem.hyper["l1"]
        self.penalties = backend.asarray(l1, problem.dtype)

    @property
    def l1(self):
        """Coefficients of the absolute values, of the models on their way."""
        return take(self.xp, self.penalties, self.backend.asarray(self.models))

    def measure(self):
        theta, value, grad, _ = self.point
        total = value + self.xp.sum(self.l1 * self.xp.abs(theta), axis=1)
        return total, steepest(self.xp, theta, grad, self.l1)


def _search(run: _Run, u, l1) -> None:
    """Go towards u until the objective falls enough (Lee, Sun & Saunders, 2014)."""
    xp, point = run.xp, run.point
    d = u - point.theta
    before = xp.sum(l1 * xp.abs(point.theta), axis=1)
    total = point.value + before
    expected = xp.sum(point.grad * d, axis=1) + xp.sum(l1 * xp.abs(u), axis=1) - before
    eps = float(xp.finfo(total.dtype).eps)
    noise = 10.0 * eps * xp.abs(total)
    line = run.objective.line(point, d)
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
    run.failed |= ~run.backend.to_numpy(ok)
    run.note_newton(line.moved(), run.backend.to_numpy(step).astype("float64"), order=1)
    run.point = line.end(smooth)._replace(theta=theta)


def step(run: _Run, _) -> None:
    """Go to the minimiser of the quadratic model plus the L1 penalty, or some of the way."""
    xp, l1 = run.xp, run.l1
    sub = steepest(xp, run.point.theta, run.point.grad, l1)
    least = np.minimum(0.5 * run.limit("tol"), 10.0 * run.eps * run.scale)
    least = run.backend.asarray(least, run.problem.dtype)
    _search(run, _newton_point(xp, run.objective, run.point, sub, l1, least), l1)


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
    if largest(backend, problem.X) > limit(problem.dtype):
        return moderated(solve, backend, problem)
    if needs_double(backend, problem):
        return in_double(solve, backend, problem)
    if far(backend, problem):
        return centred(solve, backend, problem)
    run = _Run(backend, problem)
    run.enter()
    iterate(run, step)
    return run.result()


def _newton_point(xp, objective: LinearObjective, point: Point, sub, l1, least):
    """Minimiser of the model over the features in play; the other weights are zero and stay so."""
    features = _working_set(xp, objective.net, point.theta, sub)
    some, part, places = _restrict(objective, point, features)
    k = objective.net.units[1]
    own_l1 = xp.take(l1, places, axis=1)
    accuracy = xp.maximum(0.1 * xp.max(xp.abs(xp.take(sub, places, axis=1)), axis=1), least)

    def centre(u):
        if not shift_invariant(objective.net):
            return u
        return recentre(xp, u, k, own_l1, some.data.decay)

    build = dense_model if places.shape[0] <= MAX_IN_PLAY else implicit_model
    model = build(some, part)
    u = minimise_model(xp, model, k, part.theta, part.grad, own_l1, accuracy, centre)
    if features is None:
        return u
    # Scatter: every parameter takes its place's value, or the zero at the end.
    P, n = l1.shape[1], places.shape[0]
    source = xp.searchsorted(places, xp.arange(P, device=places.device))
    source = xp.clip(source, max=n - 1)
    here = xp.take(places, source) == xp.arange(P, device=places.device)
    return xp.where(here, xp.take(u, source, axis=1), 0.0)


def _working_set(xp, net, theta, sub):
    """Features of which a weight is not zero or should not be, the worst of those; None for all.

    As many join as there are already, so that a few rounds find them all.
    """
    p, k = net.units
    used = xp.any(xp.reshape(theta[:, : p * k] != 0, (-1, p, k)), axis=(0, 2))
    n_used = int(xp.sum(xp.astype(used, xp.int64)))
    size = n_used + max(n_used, MIN_JOINING)
    if size >= p:
        return None
    wrong = xp.max(xp.abs(xp.reshape(sub[:, : p * k], (-1, p, k))), axis=(0, 2))
    order = xp.argsort(xp.where(used, xp.full_like(wrong, float("inf")), wrong), descending=True)
    return xp.sort(order[:size])


def _restrict(objective: LinearObjective, point: Point, features):
    """The objective and point of some features, and the places of their parameters."""
    xp, net, data = objective.xp, objective.net, objective.data
    (p, k), P = net.units, data.decay.shape[1]
    outputs = xp.arange(k, device=data.decay.device)
    if features is None:
        return objective, point, xp.arange(P, device=data.decay.device)
    places = xp.reshape(features[:, None] * k + outputs[None, :], (-1,))
    if net.intercept:
        places = xp.concat([places, p * k + outputs])
    X = data.X[:, features] if hasattr(data.X, "toarray") else xp.take(data.X, features, axis=1)
    data = data._replace(X=X, decay=xp.take(data.decay, places, axis=1))
    some = type(objective)(objective.backend, replace(net, input_shape=features.shape), data)
    theta, grad = (xp.take(x, places, axis=1) for x in (point.theta, point.grad))
    return some, point._replace(theta=theta, grad=grad), places


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P, k = problem.X.shape[0], problem.theta.shape[1], problem.net.units[1]
    matrices = 4 * P * P if P <= MAX_IN_PLAY else 0
    return np.dtype(problem.dtype).itemsize * (n * (k * (k + 9) / 2 + 2) + 20 * P + matrices)


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    return FULL_BATCH | {"l1", "l1_intercept"}, set()
