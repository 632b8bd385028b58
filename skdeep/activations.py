"""Activation functions of the hidden layers, each beside its derivative.

Every function takes the array namespace ``xp`` first and works on arrays of any shape, elementwise.
``forward`` and ``backward`` own what they are given: a backend's twin may overwrite it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Activation(NamedTuple):
    """A differentiable function applied to every unit of a layer.

    Parameters
    ----------
    forward : callable
        ``forward(xp, z) -> (h, saved)``: the activation of the pre-activation ``z`` and whatever
        ``backward`` needs of it.
    backward : callable
        ``backward(xp, saved, dh) -> dz``: the gradient carried back through the function.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.activations import ACTIVATIONS
    >>> h, saved = ACTIVATIONS["relu"].forward(np, np.array([-1.0, 2.0]))
    >>> ACTIVATIONS["relu"].backward(np, saved, np.ones(2)).tolist()
    [0.0, 1.0]
    """

    forward: Callable[[Any, Any], tuple[Any, Any]]
    backward: Callable[[Any, Any, Any], Any]


def identity(xp, z):
    return z, None


def identity_backward(xp, saved, dh):
    return dh


def logistic(xp, z):
    # tanh cannot overflow and is vectorised everywhere; 1 / (1 + exp(-z)) is neither.
    h = 0.5 * xp.tanh(0.5 * z) + 0.5
    return h, h


def logistic_backward(xp, h, dh):
    return dh * h * (1.0 - h)


def tanh(xp, z):
    h = xp.tanh(z)
    return h, h


def tanh_backward(xp, h, dh):
    return dh * (1.0 - h * h)


def relu(xp, z):
    h = xp.clip(z, min=0.0)
    return h, h


def relu_backward(xp, h, dh):
    return xp.where(h > 0, dh, xp.zeros_like(dh))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(identity, identity_backward),
    "logistic": Activation(logistic, logistic_backward),
    "tanh": Activation(tanh, tanh_backward),
    "relu": Activation(relu, relu_backward),
}
