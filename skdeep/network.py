"""Feed-forward networks over the model axis; a linear model is a network without a hidden layer.

M networks of one shape are one matrix ``theta`` of shape ``(M, P)``: all weights first, all
intercepts last, so that weight decay touches one slice. The layers are reshaped views of it.

Units lie before rows in memory: an array of shape ``(M, n, k)`` is a transposed view of
``(M, k, n)``. Products do not mind, and sums and maxima over a few units run along long rows.
"""

from math import prod
from typing import NamedTuple

from .activations import ACTIVATIONS, Activation
from .losses import LOSSES, Loss


class Network(NamedTuple):
    """The shape of a network: everything about it that is not a number to learn.

    Parameters
    ----------
    units : tuple of int
        Units of each layer, the input first and the output last.
    loss : Loss
        What is minimised; its ``predict`` is the output's activation.
    activations : tuple of Activation
        One for each hidden layer.
    intercept : bool
        Whether layers have intercepts.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.losses import LOSSES
    >>> from skdeep.network import Network, forward, n_parameters
    >>> net = Network((2, 1), LOSSES["binary_log_loss"])
    >>> n_parameters(net)
    3
    >>> forward(np, net, np.array([[1.0, -1.0, 0.5]]), np.array([[2.0, 1.0]])).tolist()
    [[[1.5]]]
    """

    units: tuple[int, ...]
    loss: Loss
    activations: tuple[Activation, ...] = ()
    intercept: bool = True


def build(
    units,
    loss: str | Loss,
    activation: str | Activation = "identity",
    intercept: bool = True,
) -> Network:
    """Build a network from names in the tables or from entries of the user's own."""
    loss = LOSSES[loss] if isinstance(loss, str) else loss
    activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    return Network(tuple(units), loss, (activation,) * (len(units) - 2), intercept)


def shapes(net: Network) -> tuple[list[tuple[int, int]], list[int]]:
    """Shapes of the weights and lengths of the intercepts, layer by layer."""
    weights = list(zip(net.units[:-1], net.units[1:], strict=True))
    return weights, list(net.units[1:]) if net.intercept else []


def n_weights(net: Network) -> int:
    """How many of the parameters are weights, the first ones of theta."""
    return sum(prod(shape) for shape in shapes(net)[0])


def n_parameters(net: Network) -> int:
    weights, intercepts = shapes(net)
    return sum(prod(shape) for shape in weights) + sum(intercepts)


def layers(xp, net: Network, theta):
    """Views of theta: weights of shape ``(M, fan_in, fan_out)``, intercepts ``(M, 1, fan_out)``."""
    M, start = theta.shape[0], 0
    weight_shapes, intercept_lengths = shapes(net)
    weights, intercepts = [], []
    for fan_in, fan_out in weight_shapes:
        stop = start + fan_in * fan_out
        weights.append(xp.reshape(theta[:, start:stop], (M, fan_in, fan_out)))
        start = stop
    for length in intercept_lengths:
        intercepts.append(xp.reshape(theta[:, start : start + length], (M, 1, length)))
        start += length
    return weights, intercepts or [None] * len(weights)


def affine(xp, X, W, b):
    """``X W + b`` for rows X of shape ``(M, n, fan_in)``, or ``(n, fan_in)`` that all share."""
    if X.ndim == 2:
        # One product for the whole stack; it is also the form that a sparse X understands.
        M, fan_in, fan_out = W.shape
        flat = xp.reshape(xp.matrix_transpose(W), (M * fan_out, fan_in))
        z = xp.reshape(flat @ X.T, (M, fan_out, X.shape[0]))
    else:
        z = xp.matrix_transpose(W) @ xp.matrix_transpose(X)
    z = xp.matrix_transpose(z)
    return z if b is None else z + b


def affine_backward(xp, X, dz):
    """Gradient of the weights, ``Xᵀ dz``, of shape ``(M, fan_in, fan_out)``."""
    if X.ndim == 2:
        M, n, fan_out = dz.shape
        flat = xp.reshape(xp.matrix_transpose(dz), (M * fan_out, n))
        return xp.matrix_transpose(xp.reshape(flat @ X, (M, fan_out, X.shape[1])))
    return xp.matrix_transpose(X) @ dz


def forward(xp, net: Network, theta, X):
    """Raw scores of shape ``(M, n, k)``."""
    h = X
    weights, intercepts = layers(xp, net, theta)
    for i, (W, b) in enumerate(zip(weights, intercepts, strict=True)):
        h = affine(xp, h, W, b)
        if i < len(net.activations):
            h, _ = net.activations[i].forward(xp, h)
    return h


def predict(xp, net: Network, theta, X):
    """Probabilities or means of shape ``(M, n, k)``."""
    return net.loss.predict(xp, forward(xp, net, theta, X))


def value_and_grad(xp, net: Network, theta, X, y, w, l2):
    """Objective and gradient by backpropagation (Rumelhart, Hinton and Williams, 1986).

    Parameters
    ----------
    theta : array of shape (M, P)
    X : array of shape (M, n, p) or, shared by all models, (n, p)
    y : array that broadcasts to (M, n, k)
    w : array of shape (M, n) or (M, 1)
        Row weights; with ``1 / n`` the loss is a mean.
    l2 : array of shape (M, 1)
        Weight decay.

    Returns
    -------
    value : array of shape (M,)
        Sum of ``w`` times the loss, the penalty left out: callers report the two apart.
    penalty : array of shape (M,)
        ``l2 / 2`` times the squared norm of the weights.
    grad : array of shape (M, P)
        Gradient of their sum.
    """
    weights, intercepts = layers(xp, net, theta)
    inputs, saved = [X], []
    for W, b, activation in zip(weights, intercepts, net.activations, strict=False):
        h, s = activation.forward(xp, affine(xp, inputs[-1], W, b))
        inputs.append(h)
        saved.append(s)
    raw = affine(xp, inputs[-1], weights[-1], intercepts[-1])

    value, dz = net.loss.value_and_grad(xp, raw, y, w)
    weight_grads, intercept_grads = [], []
    for i in reversed(range(len(weights))):
        weight_grads.append(affine_backward(xp, inputs[i], dz))
        intercept_grads.append(xp.sum(dz, axis=-2))
        if i > 0:
            dh = dz @ xp.matrix_transpose(weights[i])
            dz = net.activations[i - 1].backward(xp, saved[i - 1], dh)

    M = theta.shape[0]
    decayed = theta[:, : n_weights(net)]
    grad = (
        xp.concat([xp.reshape(g, (M, -1)) for g in reversed(weight_grads)], axis=1) + l2 * decayed
    )
    if net.intercept:
        grad = xp.concat([grad, *reversed(intercept_grads)], axis=1)
    penalty = 0.5 * l2[:, 0] * xp.sum(decayed * decayed, axis=1)
    return value, penalty, grad
