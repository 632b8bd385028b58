"""Batches of rows that several processes hold: each takes its own of every batch."""

from typing import NamedTuple

import numpy as np

from ...draws import streams
from ...processes import refuse
from ...regularization import Regularizer
from .plan import Layout, send


class Parts(NamedTuple):
    """What is here of the batches of an epoch.

    Parameters
    ----------
    order : int array of shape (M, n)
        The rows of all processes.
    rows : int array of shape (S, M, b)
        The rows of each batch that are here, as they are numbered here, and padding.
    present : array of shape (S, M, b)
        Zero for padding, else one.
    widths : int array of shape (S,)
        How many of the b each batch needs: one at least.
    """

    order: np.ndarray
    rows: np.ndarray
    present: np.ndarray
    widths: np.ndarray


class SharedLayout(Layout):
    """A layout whose orders, counts and weights are those of the rows of all processes.

    All draw the same permutations, so that batches are those of one process with all rows. Each
    process is left with a part that varies from batch to batch.
    """

    def __init__(self, backend, problem, models, orders):
        super().__init__(backend, problem, models, orders)
        self.weighed = None
        self.shares = backend.processes.shares(problem.X.shape[0])
        for one in self.regularizers:
            if one.random and type(one).gradient is not Regularizer.gradient:
                refuse("noise on gradients cannot be used", "each process would draw its own.")

    def _stacked(self) -> Parts:
        order = np.stack([self.orders.rows[c] for c in self.orders.of_model])
        found = [self._own(row) for row in order]
        counts = np.stack([np.diff(ends) for _, ends in found], axis=1)
        widths = np.maximum(counts.max(axis=1), 1)
        if self.backend.fixed_shapes:
            widths[:] = widths.max()
        present = np.arange(widths.max()) < counts[..., None]
        rows = np.zeros(present.shape, dtype=np.intp)
        for m, (own, _) in enumerate(found):
            rows[:, m, :][present[:, m, :]] = own
        return Parts(order, rows, present.astype(self.problem.dtype), widths)

    def _own(self, order):
        """The rows of an order that are here, and where they are cut into batches."""
        here = (order >= self.shares.start) & (order < self.shares.stop)
        own = order[here] - self.shares.start
        ends = np.searchsorted(np.flatnonzero(here), [*self.starts, len(order)])
        return own, ends

    def _own_weights(self, parts: Parts) -> dict[int, tuple]:
        w, size = self._row_weights(parts)
        per = np.broadcast_to(self.own.get("penalty_rows", size), size.shape)
        # Each process adds its part of the penalty.
        l2 = self.own["l2"] / per / self.backend.processes.size
        share, columns = self.counts / self.lengths, []
        present = parts.present / self.counts[..., None]
        for s, width in enumerate(parts.widths):
            columns += [w[s, :, :width] / size[s], l2[s], per[s], share[s], present[s, :, :width]]
        dtype = self.problem.dtype
        placed = send(self.backend, [np.asarray(c, dtype=dtype) for c in columns], dtype)
        return {s: tuple(placed[5 * s : 5 * s + 5]) for s in range(len(self.starts))}

    def _row_weights(self, parts: Parts):
        """Weights (S, M, b) of the rows here, and those (S, M, 1) of whole batches."""
        given = self.problem.weights
        if given is None:
            return parts.present, self.counts[..., None].astype(float)
        given = (
            given[self.models]
            if given.ndim == 2
            else np.broadcast_to(given, (len(self.models), len(given)))
        )
        ordered = np.take_along_axis(given, parts.order, axis=1)
        size = np.add.reduceat(ordered, self.starts, axis=1).T[..., None]
        models = np.arange(len(given))[:, None]
        w = given[models, parts.rows + self.shares.start] * parts.present
        # A batch without weight teaches nothing; it must not divide by zero either.
        return w, np.where(size != 0, size, np.inf)

    def _placed(self, parts: Parts, t, trainings):
        keys = []
        if self.n_draws:
            # Streams of each process's own.
            seeds = np.array([trainings.seed[m] for m in self.models])
            seeds = seeds + (self.backend.processes.rank << 31)
            keys = [streams(seeds, t[..., 0], self.n_draws)]
        rows, *keys = send(self.backend, [parts.rows, *keys], "int64")
        rows = [rows[s, :, :width] for s, width in enumerate(parts.widths.tolist())]
        return rows, keys[0] if keys else None
