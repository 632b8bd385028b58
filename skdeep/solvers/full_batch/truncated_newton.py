"""Truncated Newton over a stack of linear models: directions by conjugate gradients."""

from itertools import count

import numpy as np

from .bookkeeping import Run
from .curvature import Blocks, Products
from .line_search import wolfe
from .objective import LinearObjective, Point, take_point

# The residual of a direction, relative to the gradient.
EXACT_TO = 0.1
# Most products with the Hessian for one direction.
MAX_PRODUCTS = 10
# Iterations in which the gradient has to halve, or another method may try.
PATIENCE = 8
# Directions for which the preconditioner's blocks serve.
BLOCKS_SERVE = 5


def conjugate_gradients(xp, product, precondition, g):
    """Solve ``H d = -g`` to EXACT_TO of its residual, each model until it is there.

    Parameters
    ----------
    product, precondition : callable
        H and an approximate inverse of it, (M, P) -> (M, P).
    g : array of shape (M, P)

    References
    ----------
    Dembo & Steihaug (1983), Truncated-Newton algorithms for large-scale unconstrained optimization.
    """
    d, r = xp.zeros_like(g), -g
    q = z = precondition(r)
    rz = xp.sum(r * z, axis=1)
    goal = EXACT_TO**2 * rz
    for _ in range(MAX_PRODUCTS):
        Hq = product(q)
        curvature = xp.sum(q * Hq, axis=1)
        going = (rz > goal) & (curvature > 0)
        one = xp.ones_like(rz)
        step = xp.where(going, rz / xp.where(going, curvature, one), xp.zeros_like(rz))[:, None]
        d, r = d + step * q, r - step * Hq
        z = precondition(r)
        rz_new = xp.where(going, xp.sum(r * z, axis=1), rz)
        if not bool(xp.any(going & (rz_new > goal))):
            break
        q = z + (rz_new / xp.where(going, rz, one))[:, None] * q
        rz = rz_new
    return d


def go_on(backend, objective, run: Run, point: Point, iteration: int):
    """Objective, point and positions of the models that have not stopped."""
    left = run.judge(backend, iteration, point)
    if left.size in (0, point.theta.shape[0]):
        return objective, point, left
    models = backend.asarray(left)
    return objective.take(models), take_point(backend.xp, point, models), left


def advance(backend, objective: LinearObjective, run: Run, point: Point, d, order=1):
    """Walk along d to a point that satisfies the Wolfe conditions.

    Parameters
    ----------
    order : int
        Of convergence; see :meth:`Run.note_newton`.

    Returns
    -------
    point : Point
    stuck : ndarray of bool of shape (M,)
        The models that have no such point; they stay.
    """
    xp = backend.xp
    slope = xp.sum(d * point.grad, axis=1)
    d = xp.where((slope < 0)[:, None], d, xp.zeros_like(d))
    slope = xp.clip(slope, max=0.0)
    line = objective.line(point, d)
    step = wolfe(xp, line, point.value, slope, xp.ones_like(slope))
    value = step.value
    if not step.all_ok:
        value, _ = line.at(xp.where(step.ok, step.step, xp.zeros_like(step.step)))
    run.n_fun += step.n_trials
    end = line.end(value)
    went = backend.to_numpy(step.step).astype("float64")
    run.note_newton(line.moved(), went, order, EXACT_TO if order == 1 else 0.0)
    return end, ~backend.to_numpy(step.ok)


def walk(backend, objective: LinearObjective, run: Run, point: Point, iteration: int):
    """Go on from a point until every model has stopped, or one crawls or is stuck.

    Returns
    -------
    objective, point
        Of the models that have not stopped.
    iteration : int
    """
    xp, blocks, age = backend.xp, None, 0
    run.begin_newton()
    before = np.full(run.n_models, np.inf)
    for made in count():
        if made % PATIENCE == 0:
            if (run.best > 0.5 * before[run.models]).any():
                return objective, point, iteration
            before[run.models] = run.best
        objective, point, left = go_on(backend, objective, run, point, iteration)
        if left.size == 0 or (run.idle > 1).any():
            return objective, point, iteration
        if blocks is None or age >= BLOCKS_SERVE:
            blocks, age = Blocks.at(objective, point), 0
        elif left.size < blocks.mean.shape[0]:
            blocks = blocks.take(xp, backend.asarray(left))
        current, age = blocks, age + 1
        d = conjugate_gradients(
            xp, Products.at(objective, point), lambda r, B=current: B(xp, r), point.grad
        )
        point, stuck = advance(backend, objective, run, point, d)
        iteration += 1
        if stuck.any():
            return objective, point, iteration
