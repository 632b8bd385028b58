"""Newton's method over a stack of linear models, its directions by conjugate gradients."""

from typing import NamedTuple

import numpy as np

from .bookkeeping import Run, iterate
from .conjugate_gradients import EXACT_TO, conjugate_gradients
from .curvature import BlockPreconditioner, Products
from .line_search import wolfe

# Most products with the Hessian for one direction.
MAX_PRODUCTS = 10
# Iterations in which the gradient has to halve, or another method may try.
HALVED_WITHIN = 8
# Directions for which the preconditioner's blocks serve.
BLOCKS_SERVE = 5


def advance(run: Run, d, order=1):
    """Walk along d to a point that satisfies the Wolfe conditions.

    Parameters
    ----------
    order : int
        Of convergence; see :meth:`Run.note_newton`.

    Returns
    -------
    stuck : ndarray of bool of shape (M,)
        The models that have no such point; they stay.
    """
    xp, point = run.xp, run.point
    slope = xp.sum(d * point.grad, axis=1)
    d = xp.where((slope < 0)[:, None], d, xp.zeros_like(d))
    slope = xp.clip(slope, max=0.0)
    line = run.objective.line(point, d)
    step = wolfe(xp, line, point.value, slope, xp.ones_like(slope))
    value = step.value
    if not step.all_ok:
        value, _ = line.at(xp.where(step.ok, step.step, xp.zeros_like(step.step)))
    run.n_fun += step.n_trials
    run.point = line.end(value)
    went = run.backend.to_numpy(step.step).astype("float64")
    run.note_newton(line.moved(), went, order, EXACT_TO if order == 1 else 0.0)
    return ~run.backend.to_numpy(step.ok)


class State(NamedTuple):
    """The preconditioner's blocks, and the directions they have served for."""

    blocks: BlockPreconditioner
    age: int
    shared = ("age",)


class _Descent:
    """The steps of one turn, and when it ends."""

    def __init__(self, run: Run):
        run.begin_newton()
        self.n_steps, self.stuck = 0, False
        self.before = np.full(run.n_models, np.inf)
        self.before[run.models] = run.best

    def step(self, run: Run, state: State | None) -> State:
        xp = run.xp
        if state is None or state.age == BLOCKS_SERVE:
            state = State(BlockPreconditioner.at(run.objective, run.point), 0)
        product = Products.at(run.objective, run.point)
        d = conjugate_gradients(
            xp, product, lambda r: state.blocks(xp, r), -run.point.grad, MAX_PRODUCTS
        )
        self.stuck = bool(advance(run, d).any())
        self.n_steps += 1
        return state._replace(age=state.age + 1)

    def ends(self, run: Run) -> bool:
        """Whether a model is stuck or crawls."""
        if self.stuck or (run.idle > 1).any():
            return True
        if self.n_steps == 0 or self.n_steps % HALVED_WITHIN:
            return False
        crawls = run.best > 0.5 * self.before[run.models]
        self.before[run.models] = run.best
        return bool(crawls.any())


def descend(run: Run) -> None:
    """Go on until every model has stopped, or one crawls or is stuck."""
    descent = _Descent(run)
    iterate(run, descent.step, enough=descent.ends)
