"""What the full-batch solvers minimise, and its restriction to a line.

The objective of a model is the weighted mean of the loss over its rows plus weight decay. Solvers
walk from :class:`Point` to point along lines. For a linear model the scores along a line are
linear in the step, so that trying a step costs no product with ``X``.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...layers.dense import affine_backward
from ...losses import log_loss
from ...network import Network, forward, value_and_grad
from ...overrides import chosen, overridable


class Point(NamedTuple):
    """Where M models stand: theta (M, P), objective (M,), gradient (M, P), scores (M, n, k)."""

    theta: Any
    value: Any
    grad: Any
    raw: Any = None


class Data(NamedTuple):
    """Rows, targets, normalised row weights (M, n) or (M, 1), and weight decay (M, P).

    Targets are of shape (M, n, k), or (1, n, k) if all models have the same.
    """

    X: Any
    y: Any
    w: Any
    decay: Any
    shared = ("X",)


def take(xp, values, models):
    """Of a named tuple of arrays, or one array, what belongs to some of the models.

    Arrays lead with the model axis. Those of length one there serve all models, as do the fields
    that a tuple's ``shared`` names, of whatever kind they are.
    """
    if isinstance(values, tuple):
        shared = getattr(values, "shared", ())
        fields = zip(values._fields, values, strict=True)
        return type(values)(*(x if name in shared else take(xp, x, models) for name, x in fields))
    if values is None or values.shape[0] == 1:
        return values
    return xp.take(values, models, axis=0)


def shift_invariant(net: Network) -> bool:
    """Whether adding one vector to the weights of all outputs changes nothing but the penalty."""
    return net.loss.value_and_grad is log_loss


def without_common_part(problem):
    """The problem from a start whose penalised weights sum to zero over the outputs of a softmax.

    So they do at the optimum, and what follows differences between outputs never gets there.
    """
    theta, decay = problem.theta, weight_decay(problem)
    if not (shift_invariant(problem.net) and theta.any()):
        return problem
    split = theta.reshape(len(theta), -1, problem.net.units[-1])
    penalised = decay.reshape(split.shape) > 0
    mean = split.mean(axis=2, keepdims=True)
    # Rounding is left alone: it must not move a start that is the optimum.
    noise = 16.0 * np.finfo(split.dtype).eps * np.abs(split).max()
    shift = np.where(penalised & (np.abs(mean) > noise), mean, 0.0)
    return replace(problem, theta=(split - shift).reshape(theta.shape).astype(theta.dtype))


def mean_weights(backend, problem) -> np.ndarray:
    """Row weights that sum to one in each model, of shape (M, n), or (M, 1) if all weigh alike."""
    w = problem.row_weights()
    total = np.sum(w, axis=1, keepdims=True, dtype="float64")
    even = problem.weights is None and problem.rows is None
    total = total * problem.n_rows if even else backend.sum(total)
    return (w / total).astype(problem.dtype)


def weight_decay(problem) -> np.ndarray:
    """Coefficient of half the square of each parameter, of shape (M, P).

    Intercepts are free unless ``hyper`` has "l2_intercept".
    """
    M, P = problem.theta.shape
    decay = np.zeros((M, P), dtype=problem.dtype)
    decay[:, problem.net.n_weights :] = problem.hyper.get("l2_intercept", 0.0)
    decay[:, : problem.net.n_weights] = problem.hyper["l2"]
    return decay


def load(backend, problem) -> Data:
    """The data of a problem as arrays of the backend."""
    y = problem.y if problem.y.ndim == 3 else problem.y[None]
    # Class-major in memory, like the scores.
    y = backend.xp.matrix_transpose(backend.asarray(np.swapaxes(y, -1, -2), problem.dtype))
    return Data(
        X=backend.asarray(problem.X, problem.dtype),
        y=y,
        w=backend.asarray(mean_weights(backend, problem), problem.dtype),
        decay=backend.asarray(weight_decay(problem), problem.dtype),
    )


@overridable
def loss_along(xp, loss, raw, change, step, y, w):
    """The loss at scores ``raw + step change``: value (M,), scores, their gradient, and slope (M,).

    Row by row there is little to do: passes over memory are what it costs.
    """
    raw = raw + step[:, None, None] * change
    value, dz = chosen(xp, loss.value_and_grad)(xp, raw, y, w)
    return value, raw, dz, xp.sum(dz * change, axis=(-2, -1))


class Objective(NamedTuple):
    """What objectives of either kind are made of."""

    backend: Any
    net: Network
    data: Data
    shared = ("backend", "net")

    @property
    def xp(self):
        return self.backend.xp


class LinearObjective(Objective):
    """The objective of networks without a hidden layer."""

    def at(self, theta) -> Point:
        """The point of given parameters."""
        xp, (X, y, w, _) = self.xp, self.data
        raw = forward(xp, self.net, theta, X)
        # A step of zero along any line.
        zero = xp.zeros_like(theta[:, 0])
        value, raw, dz, _ = loss_along(xp, self.net.loss, raw, raw, zero, y, w)
        value, slope = self.backend.sums(value, self.slope(dz))
        return Point(theta, value + self.penalty(theta), slope + self.data.decay * theta, raw)

    def penalty(self, theta):
        return 0.5 * self.xp.sum(self.data.decay * theta * theta, axis=1)

    def slope(self, dz):
        """The gradient of the loss of these rows, from that with respect to the scores."""
        xp = self.xp
        parts = [xp.reshape(affine_backward(xp, self.data.X, dz), (dz.shape[0], -1))]
        if self.net.intercept:
            parts.append(xp.sum(dz, axis=-2))
        return xp.concat(parts, axis=1)

    def line(self, point: Point, d) -> "LinearLine":
        return LinearLine(self, point, d)


class LinearLine:
    """The objective along ``theta + step d``: one product with X at the start, none for a step."""

    def __init__(self, objective: LinearObjective, point: Point, d):
        xp, data = objective.xp, objective.data
        self.objective, self.start, self.d = objective, point, d
        self.draw = forward(xp, objective.net, d, data.X)
        decayed = data.decay * d
        self.penalty = objective.penalty(point.theta)
        self.penalty_slope = xp.sum(decayed * point.theta, axis=1)
        self.penalty_curvature = xp.sum(decayed * d, axis=1)

    def at(self, step):
        """Objective and its derivative along the line, each of shape (M,)."""
        objective = self.objective
        self.last = None  # makes room for the scores of this step
        value, raw, dz, slope = loss_along(
            objective.xp,
            objective.net.loss,
            self.start.raw,
            self.draw,
            step,
            objective.data.y,
            objective.data.w,
        )
        value, slope = objective.backend.sums(value, slope)
        self.last = (step, raw, dz)
        bend = step * self.penalty_curvature
        penalty = self.penalty + step * (self.penalty_slope + 0.5 * bend)
        return value + penalty, slope + self.penalty_slope + bend

    def end(self, value) -> Point:
        """The point of the last step tried, where the objective was ``value``."""
        step, raw, dz = self.last
        theta = self.start.theta + step[:, None] * self.d
        grad = self.objective.backend.sum(self.objective.slope(dz))
        return Point(theta, value, grad + self.objective.data.decay * theta, raw)

    def moved(self) -> np.ndarray:
        """How far a step of one moves the scores of each model, relative to the largest, (M,)."""
        xp, backend = self.objective.xp, self.objective.backend
        raw, change = backend.largest(
            np.stack([backend.to_numpy(_largest(xp, x)) for x in (self.start.raw, self.draw)])
        ).astype("float64")
        return change / np.where(raw > 0, raw, 1.0)


def _largest(xp, scores):
    """The largest size of the scores (M, n, k) of each model."""
    return xp.maximum(xp.max(scores, axis=(1, 2)), -xp.min(scores, axis=(1, 2)))


class NetworkObjective(Objective):
    """The objective of networks of any depth."""

    def at(self, theta) -> Point:
        X, y, w, decay = self.data
        # Each process adds its part of the penalty.
        l2 = decay[:, :1] / self.backend.processes.size
        value, penalty, grad = self.backend.sums(
            *value_and_grad(self.xp, self.net, theta, X, y, w, l2)
        )
        # A copy: a backend's override may overwrite its gradient at the next call.
        return Point(theta, value + penalty, self.xp.asarray(grad, copy=True))

    def line(self, point: Point, d) -> "NetworkLine":
        return NetworkLine(self, point, d)


class NetworkLine:
    def __init__(self, objective: NetworkObjective, point: Point, d):
        self.objective, self.start, self.d = objective, point, d

    def at(self, step):
        """Objective and its derivative along the line, each of shape (M,)."""
        self.last = self.objective.at(self.start.theta + step[:, None] * self.d)
        return self.last.value, self.objective.xp.sum(self.last.grad * self.d, axis=1)

    def end(self, value) -> Point:
        """The point of the last step tried."""
        return self.last


def make_objective(backend, problem) -> Objective:
    kind = LinearObjective if problem.net.linear else NetworkObjective
    return kind(backend, problem.net, load(backend, problem))
