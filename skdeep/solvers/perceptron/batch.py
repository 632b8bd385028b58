"""The perceptron's batch rule: all rows at once, all outputs at once."""

import numpy as np

from ...activations import ACTIVATIONS
from ...layers.dense import affine, affine_backward
from ...overrides import chosen
from ...problem import Problem
from .rows import labels, row_weights


class Batch:
    """An epoch is one step ``W -= eta Xᵀ (Y - T)`` with ``Y = step(X W + b)`` and targets 0 and 1.

    A row x of all has a constant 1 behind it, whose weights are the intercepts b.
    """

    def __init__(self, backend, problem: Problem):
        self.backend, self.dtype = backend, problem.dtype
        self.X = backend.asarray(problem.X, self.dtype)
        self.learns_intercept = float(problem.options["fit_intercept"])
        self.W = self.array(problem.theta[:, :-1, None])
        self.b = self.array(problem.theta[:, None, -1:])
        M = problem.n_models
        self.eta = self.array(np.broadcast_to(problem.hyper["eta0"], (M, 1))[..., None])
        self.y, self.weights = labels(problem), row_weights(problem)

    def array(self, x):
        return self.backend.asarray(np.array(x, dtype=self.dtype))

    def keep(self, going) -> None:
        index = self.backend.asarray(np.flatnonzero(going))
        for name in ("W", "b", "eta"):
            setattr(self, name, self.backend.xp.take(getattr(self, name), index, axis=0))
        self.y, self.weights = self.y[going], self.weights[going]

    def epoch(self, visits) -> np.ndarray:
        xp = self.backend.xp
        activate = chosen(xp, ACTIVATIONS["step"].forward)
        visited = np.zeros(self.y.shape)
        for mask, rows in zip(visited, visits, strict=True):
            mask[rows] = 1.0
        y, visited, weights = (
            self.array(a[..., None]) for a in (self.y, visited, visited * self.weights)
        )
        scores = affine(xp, self.X, self.W, self.b)
        error = activate(xp, scores)[0] - 0.5 * (y + 1.0)
        loss = xp.sum(visited * xp.clip(-y * scores, min=0.0), axis=(1, 2))
        mistakes = xp.sum(xp.abs(error) * xp.astype(weights != 0, error.dtype), axis=(1, 2))

        dz = weights * error
        self.W = self.W - self.eta * affine_backward(xp, self.X, dz)
        self.b = self.b - self.learns_intercept * self.eta * xp.sum(dz, axis=1, keepdims=True)
        tally = xp.stack([loss, loss, mistakes], axis=1)
        return np.array(self.backend.to_numpy(tally), dtype=np.float64)

    def theta(self) -> np.ndarray:
        theta = self.backend.xp.concat([self.W, self.b], axis=1)[:, :, 0]
        return np.array(self.backend.to_numpy(theta), dtype=np.float64)

    def finite(self) -> np.ndarray:
        return np.isfinite(self.theta()).all(axis=1)

    def scores(self, i, rows) -> np.ndarray:
        """Scores of held-out rows, of shape ``(n, 1)``."""
        scores = affine(self.backend.xp, self.X, self.W[i : i + 1, :, :], self.b[i : i + 1, :, :])
        return self.backend.to_numpy(scores)[0, rows]
