"""One pass of a stack of networks over its rows."""

from math import prod
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ... import draws as random
from ...interrupts import Whole
from ...network import backpropagate, hidden_layers, matrices
from ...overrides import chosen, overridable
from ...problem import Problem
from .plan import Batch, Layout, optimizer_of

# Share of the old running means and variances that a batch leaves in place.
MOMENTUM = 0.9


@overridable
def gather(xp, A, idx):
    """Rows ``idx`` (M, b) of ``A`` (n, ...), of shape (M, b, ...)."""
    return xp.reshape(xp.take(A, xp.reshape(idx, (-1,)), axis=0), (*idx.shape, *A.shape[1:]))


class Table(NamedTuple):
    """What there is for each row of X, on the device.

    Parameters
    ----------
    rows : array of shape (n, ...) or (M * n, ...)
        Those that all models share, or those of one model after another.
    stride : int
        How far each model's begin behind those of the model before: 0 or n.
    """

    rows: Any
    stride: int

    def take(self, xp, idx, models):
        """Rows ``idx`` (M, b) for the given models."""
        return gather(xp, self.rows, idx + models[:, None] * self.stride if self.stride else idx)


class Data(NamedTuple):
    """Rows on the device, with a table of targets."""

    X: Any
    y: Table


def load(backend, problem: Problem) -> Data:
    def put(A):
        # A row in one piece: to gather rows of a transposed array is to copy all of it.
        A = A if sp.issparse(A) else np.ascontiguousarray(A)
        return backend.asarray(A, problem.dtype)

    y = problem.y
    own = y.ndim == 3
    return Data(
        put(problem.X),
        Table(put(y.reshape(-1, *y.shape[2:])), y.shape[1]) if own else Table(put(y), 0),
    )


class Epoch:
    """An epoch of the models of a stack, which it trains."""

    def __init__(self, backend, problem: Problem, data: Data, stack, layout: Layout, orders: list):
        self.backend, self.xp, self.problem, self.net = backend, backend.xp, problem, problem.net
        self.data, self.stack, self.layout = data, stack, layout
        trainings = [stack.trainings[m] for m in stack.models]
        self.start = stack.step
        self.batches = layout.batches(orders, self.start, trainings)
        # The objective of the batches so far, how many they are, and what is noted of the last.
        self.total: Any = 0.0
        self.done, self.notes = 0, None

    def run(self, whole: Whole) -> np.ndarray:
        """Train, and return what there is to record of each model.

        Returns
        -------
        records : array of shape (M, 1 + n_weights + n_activations)
            The mean objective of the batches, and of the last batch the norms of the weights'
            gradients and the mean activations.
        """
        problem, stack, layout, xp = self.problem, self.stack, self.layout, self.xp
        update, scale = chosen(xp, optimizer_of(problem).step), problem.options["loss_scale"]
        for s, batch in enumerate(self.batches):
            X, y = gather(xp, self.data.X, batch.rows), self.targets(batch)
            draws = self.draws(batch)
            for one in layout.regularizers:
                X, y = one.input(xp, X, draws), one.target(xp, y)
            value, penalty, grad, moments = backpropagate(
                xp, self.net, stack.theta, X, y, batch.w, batch.l2, self.masks(s)
            )
            for one in layout.regularizers:
                added = one.penalty(xp, self.net, stack.theta, batch.per)
                if added is not None:
                    penalty, grad = penalty + added[0], _plus(xp, grad, added[1])
            if s in layout.last:
                self.note(layout.last[s], X, grad, batch.present)
            for one in layout.regularizers:
                grad = one.gradient(xp, grad)
            with whole:
                stack.step = self.start + layout.made[s]
                before = stack.snapshot() if s in layout.still else None
                stack.theta, stack.slots = update(
                    xp, stack.theta, grad, stack.slots, batch.t, batch.rate, **layout.hyper
                )
                for one in layout.regularizers:
                    stack.theta = one.theta(xp, self.net, stack.theta)
                if moments is not None:
                    self.average_moments(moments)
                if before:
                    # Even a zero gradient would move Adam: a model out of batches stands still.
                    stack.restore(before, layout.still[s])
                value = value if scale == 1.0 else scale * value
                self.total = self.total + (value + penalty) * batch.share
                self.done = s + 1
        records = [self.total[:, None]] + ([] if self.notes is None else [self.notes])
        return self.backend.to_numpy(xp.concat(records, axis=1))

    def targets(self, batch: Batch):
        return self.data.y.take(self.xp, batch.rows, self.layout.places)

    def draws(self, batch: Batch) -> random.Draws | None:
        """Random numbers for regularisers; their streams follow those of the dropout layers."""
        if batch.keys is None:
            return None
        keys = batch.keys[:, len(self.layout.dropout) :]
        return random.Draws(self.xp, keys, self.layout.size, self.stack.theta.dtype)

    def masks(self, s: int) -> list | None:
        """Masks of the dropout layers in a step; None where a rate is zero for all models."""
        if not any(self.layout.dropout):
            return None
        at, n = s % self.layout.at_once, self.batches[s].rows.shape[1]
        if at == 0:
            self.drawn = self.draw_masks(self.batches[s : s + self.layout.at_once])
        return [None if mask is None else mask[at, :, :n, ...] for mask in self.drawn]

    def draw_masks(self, batches: list[Batch]) -> list:
        """Those of some steps, (S, M, n, *shape)."""
        xp, layout, drawn = self.xp, self.layout, []
        for i, (numbers, shape) in enumerate(zip(layout.dropout, self.net.masked, strict=True)):
            keys = None if numbers is None else xp.stack([b.keys[:, i] for b in batches])
            drawn.append(
                None if keys is None else random.masks(xp, keys, numbers, shape, layout.size)
            )
        return drawn

    def average_moments(self, moments):
        """Move the running means and variances, the end of theta, towards the batch's."""
        start = self.stack.theta.shape[1] - self.net.n_running
        learned, running = self.stack.theta[:, :start], self.stack.theta[:, start:]
        running = MOMENTUM * running + (1.0 - MOMENTUM) * moments
        self.stack.theta = self.xp.concat([learned, running], axis=1)

    def note(self, last, X, grad, present):
        """Note gradient norms and mean activations of the models whose last batch this is."""
        xp, net = self.xp, self.net
        norms = [xp.sqrt(xp.sum(W * W, axis=_but_first(W))) for W in matrices(xp, net, grad)]
        hidden = hidden_layers(xp, net, self.stack.theta, X)
        notes = xp.stack([*norms, *(_mean(xp, xp.abs(h), present) for h in hidden)], axis=1)
        earlier = last is not None and self.notes is not None
        self.notes = xp.where(last, notes, self.notes) if earlier else notes

    def mean_so_far(self) -> np.ndarray:
        """The mean objective of the batches done, shape (M,); NaN if there is none."""
        share = self.layout.counts[: self.done].sum(axis=0) / self.layout.lengths
        return self.backend.to_numpy(self.total) / share


def _plus(xp, grad, slope):
    """The gradient with that of a penalty of the weights."""
    n_weights = slope.shape[1]
    return xp.concat([grad[:, :n_weights] + slope, grad[:, n_weights:]], axis=1)


def _but_first(A) -> tuple[int, ...]:
    return tuple(range(1, A.ndim))


def _mean(xp, h, present):
    """Means (M,) of activations (M, n, *shape), padding left out."""
    if present is None:
        return xp.mean(h, axis=_but_first(h))
    weights = xp.reshape(present, (*present.shape, *[1] * (h.ndim - 2)))
    return xp.sum(h * weights, axis=_but_first(h)) / prod(h.shape[2:])
