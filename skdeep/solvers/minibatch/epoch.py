"""One pass of a stack of networks over its rows."""

from math import prod
from typing import Any

import numpy as np

from ...interrupts import Whole
from ...network import hidden_layers, matrices
from ...problem import Problem
from .step import State, Step


class Epoch:
    """An epoch of the models of a stack, which it trains."""

    def __init__(self, backend, problem: Problem, stack, step: Step):
        self.backend, self.xp, self.problem, self.net = backend, backend.xp, problem, problem.net
        self.stack, self.step, self.layout = stack, step, step.layout
        self.start = stack.step
        self.batches = self.layout.batches(self.start, stack.trainings)
        # The objective of the batches so far, how many they are, and what is noted of the last.
        self.total: Any = stack.nothing()
        self.done, self.notes = 0, None

    def run(self, whole: Whole) -> np.ndarray:
        """Train, and return what there is to record of each model.

        Returns
        -------
        records : array of shape (M, 1 + n_weights + n_activations)
            The mean objective of the batches, and of the last batch the norms of the weights'
            gradients and the mean activations.
        """
        stack, step, layout = self.stack, self.step, self.layout
        for s, batch in enumerate(self.batches):
            still = layout.still.get(s)
            if step.captured is not None and s not in layout.last and still is None:
                with whole:
                    self.moved(s, step.captured(self.state(), batch))
                continue
            found = step.gradient(stack.theta, batch, self.masks(s))
            if s in layout.last:
                self.note(layout.last[s], found.X, found.grad, batch.present)
            with whole:
                before = None if still is None else stack.snapshot()
                self.moved(s, step.update(self.state(), found, batch))
                if before:
                    # Even a zero gradient would move Adam: a model out of batches stands still.
                    stack.restore(before, still)
        records = [self.total[:, None]] + ([] if self.notes is None else [self.notes])
        return self.backend.to_numpy(self.xp.concat(records, axis=1))

    def state(self) -> State:
        return State(self.stack.theta, self.stack.slots, self.total)

    def moved(self, s: int, state: State) -> None:
        """Take in where a step has led."""
        self.stack.theta, self.stack.slots, self.total = state
        self.stack.step = self.start + self.layout.made[s]
        self.done = s + 1

    def masks(self, s: int) -> list | None:
        """Masks of the dropout layers in a step; None where a rate is zero for all models."""
        if not any(self.layout.dropout):
            return None
        at, n = s % self.layout.at_once, self.batches[s].rows.shape[1]
        if at == 0:
            self.drawn = self.step.masks(self.batches[s : s + self.layout.at_once])
        return [None if mask is None else mask[at, :, :n, ...] for mask in self.drawn]

    def note(self, last, X, grad, present):
        """Note gradient norms and mean activations of the models whose last batch this is."""
        xp, net = self.xp, self.net
        norms = [xp.sqrt(xp.sum(W * W, axis=_but_first(W))) for W in matrices(xp, net, grad)]
        hidden = hidden_layers(xp, net, self.stack.theta, X)
        means = self.backend.sums(*(_mean(xp, xp.abs(h), present) for h in hidden))
        notes = xp.stack([*norms, *means], axis=1)
        earlier = last is not None and self.notes is not None
        self.notes = xp.where(last, notes, self.notes) if earlier else notes

    def mean_so_far(self) -> np.ndarray:
        """The mean objective of the batches done, shape (M,); NaN if there is none."""
        share = self.layout.counts[: self.done].sum(axis=0) / self.layout.lengths
        return self.backend.to_numpy(self.total) / share


def _but_first(A) -> tuple[int, ...]:
    return tuple(range(1, A.ndim))


def _mean(xp, h, present):
    """Means (M,) of activations (M, n, *shape), padding left out."""
    if present is None:
        return xp.mean(h, axis=_but_first(h))
    weights = xp.reshape(present, (*present.shape, *[1] * (h.ndim - 2)))
    return xp.sum(h * weights, axis=_but_first(h)) / prod(h.shape[2:])
