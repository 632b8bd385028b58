"""Losses and scores on rows that are held out of training, of all models of a stack at once."""

from typing import Any, NamedTuple

import numpy as np

from ...network import forward
from ...overrides import chosen
from ...problem import Problem, Validation
from ...regularization import put_together, undone
from .step import gather

# Numbers of rows of models' own that are gathered at once at most, unless one model's are more.
GATHERED = 2**24


class Rows(NamedTuple):
    """Rows that some models are scored on.

    Parameters
    ----------
    X : array
        On the device.
    rows : int array of shape (M, n) or (1, n), or None
        Which rows of it; on the device. Those that pad a model's own have no weight.
    y : array of shape (M, n, k) or (1, n, k)
        Targets, on the device.
    share : array of shape (M, n) or (1, n)
        Weights that sum to one, on the device.
    truth, weights : ndarrays of the same shapes
        Targets and weights on the host, of all processes.
    counts : int array of shape (M,) or (1,)
        How many rows there are before those that pad, of all processes.
    regularizers : list of Regularizer
        With the numbers of the models, on the device: they may undo what they have done to targets.
    """

    X: Any
    rows: Any
    y: Any
    share: Any
    truth: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    regularizers: list


class HeldOut:
    """The held-out rows of each model of a problem."""

    def __init__(self, backend, problem: Problem, X):
        self.backend, self.problem = backend, problem
        arrays = {id(v.X): v.X for v in problem.validation}
        self.X = {
            key: X if array is problem.X else backend.asarray(array, problem.dtype)
            for key, array in arrays.items()
        }
        self.placed: dict[tuple, Rows] = {}

    def __call__(self, theta, models) -> np.ndarray:
        """Losses and scores, (2, M), by theta (M, P); NaN where predictions are not finite."""
        xp, groups = self.backend.xp, self._groups(models)
        self.placed = {key: self.placed.get(key) or self._place(key) for key in groups}
        sent, shapes = [], []
        for key, places in groups.items():
            first, end = places[0], places[-1] + 1
            some = theta[first:end, :]  # of neighbours, as they mostly are, no index is sent
            if len(places) < end - first:
                some = xp.take(theta, self.backend.asarray(np.array(places)), axis=0)
            loss, predicted = self._evaluate(some, self.placed[key])
            shapes.append(predicted.shape)
            sent += [xp.reshape(loss, (-1,)), xp.reshape(predicted, (-1,))]
        flat = self.backend.to_numpy(xp.concat(sent) if len(sent) > 1 else sent[0])
        found = np.empty((2, len(models)))
        for (key, places), shape in zip(groups.items(), shapes, strict=True):
            losses, flat = flat[: shape[0]], flat[shape[0] :]
            predictions, flat = np.split(flat, [int(np.prod(shape))])
            found[:, places] = self._judge(key, losses, predictions.reshape(shape))
        return found

    def _groups(self, models) -> dict[tuple, list[int]]:
        """Places of the models that are evaluated together, by the models.

        Those of one Validation are, and those of which each has some rows of one X.
        """
        together: dict = {}
        for i, m in enumerate(models):
            together.setdefault(id(self.problem.validation[m]), []).append(i)
        of_all = {key: places for key, places in together.items() if len(places) > 1}
        for (i,) in (places for places in together.values() if len(places) == 1):
            own = self.problem.validation[models[i]]
            # What pads the shortest must not outgrow what there is.
            key = id(own) if own.rows is None else (id(own.X), own.metric, len(own.y).bit_length())
            of_all.setdefault(key, []).append(i)
        return {
            tuple(models[i] for i in part): part
            for places in of_all.values()
            for part in self._parts(places, models)
        }

    def _parts(self, places: list[int], models) -> list[list[int]]:
        """The places, as many at once as may be gathered."""
        first = self.problem.validation[models[places[0]]]
        if all(self.problem.validation[models[i]] is first for i in places):
            return [places]
        at_once = max(1, GATHERED // (2 * len(first.y) * first.X.shape[1]))
        return [places[i : i + at_once] for i in range(0, len(places), at_once)]

    def _place(self, models: tuple) -> Rows:
        backend, dtype, problem = self.backend, self.problem.dtype, self.problem
        each = [problem.validation[m] for m in models]
        each = each[:1] if all(v is each[0] for v in each) else each
        counts = [len(v.y) for v in each]
        shape = (len(each), max(counts))
        truth, weights = np.zeros((*shape, each[0].y.shape[1])), np.zeros(shape)
        rows = None if each[0].rows is None else np.zeros(shape, dtype=np.intp)
        for i, (v, n) in enumerate(zip(each, counts, strict=True)):
            truth[i, :n], weights[i, :n] = v.y, 1.0 if v.weights is None else v.weights
            if rows is not None:
                rows[i, :n] = v.rows
        numbers = {
            name: backend.asarray(values[list(models)], dtype)
            for name, values in problem.hyper.items()
            if name.startswith("regularizer_")
        }
        processes = backend.processes
        total = processes.total(weights.sum(axis=1, keepdims=True))
        return Rows(
            self.X[id(each[0].X)],
            None if rows is None else backend.asarray(rows),
            backend.asarray(truth, dtype),
            backend.asarray(weights / total, dtype),
            processes.joined(truth, axis=1),
            processes.joined(weights, axis=1),
            processes.total(np.array(counts)),
            put_together(problem.options.get("regularizers", ()), numbers),
        )

    def _evaluate(self, theta, held_out: Rows):
        """Losses (M,) and predictions (M, n, k)."""
        xp, net = self.backend.xp, self.problem.net
        X = held_out.X
        if held_out.rows is not None:
            X = gather(xp, X, held_out.rows)
            shared = held_out.rows.shape[0] == 1 and theta.shape[0] > 1
            X = X[0, ...] if shared and not hasattr(X, "toarray") else X
        raw = undone(xp, net, forward(xp, net, theta, X), held_out.regularizers)
        loss, _ = chosen(xp, net.loss.value_and_grad)(xp, raw, held_out.y, held_out.share)
        predicted = chosen(xp, net.loss.predict)(xp, raw)
        return self.backend.sum(loss), self.backend.joined(predicted, axis=1)

    def _judge(self, models: tuple, losses, predicted) -> np.ndarray:
        """Losses and scores, (2, M), of the models."""
        finite = np.isfinite(predicted).all(axis=(1, 2))
        losses = self.problem.options["loss_scale"] * losses.astype(float)
        scores = self._scores(models, losses, predicted, finite)
        return np.where(finite, np.stack([losses, scores]), np.nan)

    def _scores(self, models: tuple, losses, predicted, finite) -> np.ndarray:
        held_out, each = self.placed[models], [self.problem.validation[m] for m in models]
        if each[0].metric is not None:
            return each[0].metric(held_out.truth, predicted, held_out.weights)
        scores, counts = np.full(len(models), np.nan), np.broadcast_to(held_out.counts, len(models))
        for i in np.flatnonzero(finite).tolist():
            scores[i] = _score(each[i], losses[i], predicted[i, : counts[i]])
        return scores


def _score(validation: Validation, loss: float, predicted) -> float:
    """That of one model, (n, k); without a score it is minus the loss."""
    return -loss if validation.score is None else validation.score(predicted)
