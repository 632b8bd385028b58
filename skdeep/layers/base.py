"""What a layer is: shapes, parameters, a way forward and a way back."""

from math import prod
from typing import Any, NamedTuple

import numpy as np

# What parameters are for, in the order in which theta holds them. Weights alone decay; running
# means and variances follow the batches and have no gradient.
ROLES = ("weight", "intercept", "scale", "running_mean", "running_variance")
RUNNING = ("running_mean", "running_variance")
# Where parameters that are not drawn begin.
START = {"intercept": 0.0, "scale": 1.0, "running_mean": 0.0, "running_variance": 1.0}


class Parameter(NamedTuple):
    """The shape of a parameter, without the model axis, and its role, one of ``ROLES``."""

    shape: tuple[int, ...]
    role: str


class Training(NamedTuple):
    """What layers need in training alone.

    Parameters
    ----------
    w : array of shape (M, n) or (M, 1)
        Row weights that sum to one.
    masks : iterator of arrays or None
        What multiplies the inputs of the dropout layers, one after the other.
    """

    w: Any
    masks: Any


class Layer:
    """A layer of a network: a frozen dataclass of numbers, equal by value.

    Arrays lead with the model axis: an input has the shape ``(M, n, *shape)`` for n rows, and each
    parameter that of its :class:`Parameter` behind M. Sizes are those of one row.
    """

    def expand(self) -> tuple["Layer", ...]:
        """The layers that this one stands for, as a dense layer for itself and its activation."""
        return (self,)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a row of the output, for rows of the given shape; ValueError if none is."""
        return shape

    def parameters(self, shape: tuple[int, ...]) -> dict[str, Parameter]:
        """Parameters by name, for rows of the given shape."""
        return {}

    def bare(self) -> "Layer":
        """The layer without its rates."""
        return self

    @property
    def rates(self) -> list[float | None]:
        """Of what masks multiply, how much they set to zero."""
        return []

    def masked(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Shapes of a row of what masks multiply, one after the other."""
        return []

    def forward(self, xp, p: dict, x, training: Training | None = None):
        """Output, and whatever :meth:`backward` needs.

        Parameters
        ----------
        p : dict of str to array
            The parameters; empty where there are none.
        x : array of shape (M, n, *shape)
        training : Training, optional
            None to predict.
        """
        raise NotImplementedError

    def backward(self, xp, p: dict, saved, dy):
        """Gradients of the parameters, and a function that gives the gradient of the input.

        The first layer of a network is not asked for that of its input. In place of a gradient a
        running mean or variance has that of the batch.
        """
        raise NotImplementedError

    def row_gradients(self, xp, p: dict, x, saved, dy):
        """As :meth:`backward`, with the gradients of each row, (M, *shape, n), not their sums."""
        if not p:
            return self.backward(xp, p, saved, dy)
        M, n = dy.shape[:2]

        def as_models(rows):
            return xp.reshape(rows, (M * n, 1, *rows.shape[2:]))

        each = {name: xp.repeat(view, n, axis=0) for name, view in p.items()}
        _, saved = self.forward(xp, each, as_models(x))
        grads, to_input = self.backward(xp, each, saved, as_models(dy))
        grads = {
            name: xp.moveaxis(xp.reshape(grad, (M, n, *grad.shape[1:])), 1, -1)
            for name, grad in grads.items()
        }
        return grads, lambda: xp.reshape(to_input(), x.shape)

    def initial(self, shape: tuple[int, ...], draw) -> dict:
        """Initial values of the parameters, by name.

        ``draw(fan_in, fan_out)`` gives a matrix of weights and a vector of intercepts. Weights of
        more than two axes are so many matrices.
        """
        values, drawn = {}, np.empty(0)
        for name, (of, role) in self.parameters(shape).items():
            if role == "weight":
                each = [draw(*of[-2:]) for _ in range(prod(of[:-2]))]
                values[name] = np.reshape([W for W, _ in each], of)
                drawn = np.reshape([b for _, b in each], (*of[:-2], of[-1]))
            elif role == "intercept" and drawn.shape == of:
                values[name] = drawn
            else:
                values[name] = np.full(of, START[role])
        return values


def expanded(layers) -> tuple[Layer, ...]:
    """Layers, each taken apart."""
    return tuple(one for layer in layers for one in layer.expand())


def shapes_along(layers, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of a row before the layers and behind each; ValueError if one does not fit."""
    shapes = [shape]
    for layer in layers:
        shapes.append(layer.out_shape(shapes[-1]))
    return shapes
