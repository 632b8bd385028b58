"""Losses and scores on rows that are held out of training."""

from typing import Any, NamedTuple

import numpy as np

from ...network import forward
from ...overrides import chosen
from ...problem import Problem
from .step import gather


class Rows(NamedTuple):
    """Held-out rows on the device: X, or which rows of it; targets; weights that sum to one."""

    X: Any
    rows: Any
    y: Any
    w: Any


class HeldOut:
    """The held-out rows of each model of a problem."""

    def __init__(self, backend, problem: Problem, X):
        self.backend, self.problem = backend, problem
        arrays = {id(v.X): v.X for v in problem.validation}
        placed = {
            key: X if array is problem.X else backend.asarray(array, problem.dtype)
            for key, array in arrays.items()
        }
        each = {id(v): v for v in problem.validation}
        self.placed = {key: self._place(v, placed[id(v.X)]) for key, v in each.items()}

    def _place(self, validation, X) -> Rows:
        backend, dtype = self.backend, self.problem.dtype
        rows, w = validation.rows, validation.weights
        w = np.ones(len(validation.y)) if w is None else w
        return Rows(
            X,
            None if rows is None else backend.asarray(rows[None]),
            backend.asarray(validation.y[None], dtype),
            backend.asarray((w / backend.processes.total(w.sum()))[None], dtype),
        )

    def __call__(self, theta, models) -> list[tuple[float, float]]:
        """Loss and score of each model (M, P); NaN where its predictions are not finite."""
        xp, validations = self.backend.xp, [self.problem.validation[m] for m in models]
        together: dict[int, list[int]] = {}
        for i, validation in enumerate(validations):
            together.setdefault(id(validation), []).append(i)
        sent, shapes = [], []
        for key, members in together.items():
            first, end = members[0], members[-1] + 1
            some = theta[first:end, :]  # of neighbours, as they mostly are, no index is sent
            if len(members) < end - first:
                some = xp.take(theta, self.backend.asarray(np.array(members)), axis=0)
            loss, predicted = self._evaluate(some, self.placed[key])
            shapes.append(predicted.shape)
            sent += [xp.reshape(loss, (-1,)), xp.reshape(predicted, (-1,))]
        flat = self.backend.to_numpy(xp.concat(sent) if len(sent) > 1 else sent[0])
        found: list = [None] * len(models)
        for members, shape in zip(together.values(), shapes, strict=True):
            losses, flat = flat[: shape[0]], flat[shape[0] :]
            predictions, flat = np.split(flat, [int(np.prod(shape))])
            for i, loss, predicted in zip(members, losses, predictions.reshape(shape)):
                found[i] = self._judge(validations[i], loss, predicted)
        return found

    def _evaluate(self, theta, held_out: Rows):
        """Losses (M,) and predictions (M, n, k)."""
        xp, net = self.backend.xp, self.problem.net
        X = held_out.X
        if held_out.rows is not None:
            X = gather(xp, X, held_out.rows)
            X = X[0, ...] if theta.shape[0] > 1 and not hasattr(X, "toarray") else X
        raw = forward(xp, net, theta, X)
        loss, _ = chosen(xp, net.loss.value_and_grad)(xp, raw, held_out.y, held_out.w)
        predicted = chosen(xp, net.loss.predict)(xp, raw)
        return self.backend.sum(loss), self.backend.joined(predicted, axis=1)

    def _judge(self, validation, loss, predicted) -> tuple[float, float]:
        if not np.isfinite(predicted).all():
            return np.nan, np.nan
        loss = self.problem.options["loss_scale"] * loss
        return float(loss), float(validation.score(predicted))
