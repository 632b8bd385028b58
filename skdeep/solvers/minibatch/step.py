"""A step of a stack of networks: from rows to parameters."""

from typing import Any, NamedTuple

import numpy as np

from ... import draws as random
from ...network import backpropagate
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
        if isinstance(A, np.ndarray):
            A = np.ascontiguousarray(A)
        elif backend.holds(A):
            A = A.contiguous()
        return backend.asarray(A, problem.dtype)

    X, y = put(problem.X), problem.y
    if y.ndim == 3:
        return Data(X, Table(put(y.reshape(-1, *y.shape[2:])), y.shape[1]))
    return Data(X, Table(X if y is problem.X else put(y), 0))


class State(NamedTuple):
    """What steps change: theta (M, P), slots, and the objective so far, (M,)."""

    theta: Any
    slots: list
    total: Any


class Found(NamedTuple):
    """What a batch says: its rows, objective, penalty and gradient, batch norm's moments, and the
    random numbers that are left."""

    X: Any
    value: Any
    penalty: Any
    grad: Any
    moments: Any
    draws: random.Draws


@overridable
def captured(xp, step):
    """The step in a form that is quicker to launch again and again; None where there is none."""
    return None


class Step:
    """The step of a layout's models.

    Parameters
    ----------
    backend : Backend
    problem : Problem
    data : Data
    layout : Layout

    Attributes
    ----------
    captured : callable or None
        The same as a call of the step.
    """

    def __init__(self, backend, problem: Problem, data: Data, layout: Layout):
        self.backend, self.xp, self.net = backend, backend.xp, problem.net
        self.data, self.layout = data, layout
        self.optimizer = chosen(self.xp, optimizer_of(problem).step)
        self.scale = problem.options["loss_scale"]
        self.captured = captured(self.xp, self)

    def __call__(self, state: State, batch: Batch) -> State:
        masks = [None if mask is None else mask[0, ...] for mask in self.masks([batch])]
        return self.update(state, self.gradient(state.theta, batch, masks or None), batch)

    def masks(self, batches: list[Batch]) -> list:
        """Those of the dropout layers in some steps, (S, M, n, *shape) or None."""
        xp, layout, drawn = self.xp, self.layout, []
        given = [batch.dropout for batch in batches]
        now = layout.dropout if given[0] is None else _of_layers(xp.stack(given), layout.dropout)
        # Counted from the output on: an input layer that drops nothing changes no other's masks.
        streams = reversed(range(layout.n_draws - len(layout.dropout), layout.n_draws))
        for i, numbers, shape in zip(streams, now, self.net.masked, strict=True):
            keys = None if numbers is None else xp.stack([batch.keys[:, i] for batch in batches])
            drawn.append(
                None if keys is None else random.masks(xp, keys, numbers, shape, layout.size)
            )
        return drawn

    def gradient(self, theta, batch: Batch, masks: list | None) -> Found:
        """What a batch says at theta."""
        xp, net, regularizers = self.xp, self.net, self.layout.regularizers
        X = gather(xp, self.data.X, batch.rows)
        y = self.data.y.take(xp, batch.rows, self.layout.places)
        draws = self.draws(batch, theta.dtype)
        for one in regularizers:
            X, y = one.input(xp, X, draws), one.target(xp, y)
        value, penalty, grad, moments = backpropagate(
            xp, net, theta, X, y, batch.w, batch.l2, masks
        )
        value, penalty, grad = self.backend.sums(value, penalty, grad)
        for one in regularizers:
            added = one.penalty(xp, net, theta, batch.per)
            if added is not None:
                penalty, grad = penalty + added[0], _plus(xp, grad, added[1])
        return Found(X, value, penalty, grad, moments, draws)

    def update(self, state: State, found: Found, batch: Batch) -> State:
        """Where a gradient leads. What the state holds may be overwritten."""
        xp, (theta, slots, total), grad = self.xp, state, found.grad
        for one in self.layout.regularizers:
            grad = one.gradient(xp, self.net, grad, found.draws)
        factors = self.layout.rate_factors
        rate = batch.rate if factors is None else batch.rate * factors
        theta, slots = self.optimizer(xp, theta, grad, slots, batch.t, rate, **self.layout.hyper)
        for one in self.layout.regularizers:
            theta = one.theta(xp, self.net, theta)
        if found.moments is not None:
            theta = self.averaged(theta, found.moments)
        value = found.value if self.scale == 1.0 else self.scale * found.value
        return State(theta, slots, total + (value + found.penalty) * batch.share)

    def draws(self, batch: Batch, dtype) -> random.Draws:
        """Random numbers for regularisers; the streams of the dropout layers follow theirs."""
        n = self.layout.n_draws - len(self.layout.dropout)
        keys = None if batch.keys is None else batch.keys[:, :n]
        return random.Draws(self.xp, keys, self.layout.size, dtype)

    def averaged(self, theta, moments):
        """Theta with its running means and variances moved towards the batch's."""
        start = theta.shape[1] - self.net.n_running
        running = MOMENTUM * theta[:, start:] + (1.0 - MOMENTUM) * moments
        return self.xp.concat([theta[:, :start], running], axis=1)


def _of_layers(numbers, constant: list) -> list:
    """Numbers (S, 2, M, n_layers) of dropout by layer; of those that drop nothing, None."""
    return [
        None if one is None else (numbers[:, 0, :, i], numbers[:, 1, :, i])
        for i, one in enumerate(constant)
    ]


def _plus(xp, grad, slope):
    """The gradient with that of a penalty of the weights."""
    n_weights = slope.shape[1]
    return xp.concat([grad[:, :n_weights] + slope, grad[:, n_weights:]], axis=1)
