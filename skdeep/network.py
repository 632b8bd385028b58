"""Feed-forward networks over the model axis; a linear model is a network without a hidden layer.

M networks of one shape are one matrix ``theta`` of shape ``(M, P)``: all weights first, then all
intercepts, so that weight decay touches one slice. The layers are reshaped views of it. Under batch
normalisation the scales follow, and then the running means and variances, which no gradient moves.

Units lie before rows in memory: an array of shape ``(M, n, k)`` is a transposed view of
``(M, k, n)``. Products do not mind, and sums and maxima over a few units run along long rows.
"""

from collections.abc import Sequence
from math import log, prod
from typing import Any, NamedTuple

from numpy import finfo

from .activations import ACTIVATIONS, Activation
from .losses import LOSSES, Loss, exponential


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
    batch_norm : bool
        Whether hidden layers are normalised over the rows before their activation.
    tied : bool
        Whether the second half of the layers has the weights of the first, transposed and in
        reverse, as in an autoencoder with tied weights. Theta holds them once.

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
    batch_norm: bool = False
    tied: bool = False


def build(
    units,
    loss: str | Loss,
    activation: str | Activation | Sequence = "identity",
    intercept: bool = True,
    batch_norm: bool = False,
) -> Network:
    """Build a network from names in the tables or from entries of the user's own.

    ``activation`` is one for all hidden layers, or a list with one for each.
    """
    n_hidden = len(units) - 2
    each = activation if isinstance(activation, list) else [activation] * n_hidden
    if len(each) != n_hidden:
        raise ValueError(f"activation lists {len(each)} functions for {n_hidden} hidden layers.")
    return Network(
        tuple(units),
        LOSSES[loss] if isinstance(loss, str) else loss,
        tuple(ACTIVATIONS[a] if isinstance(a, str) else a for a in each),
        intercept,
        batch_norm and n_hidden > 0,
    )


def shapes(net: Network) -> tuple[list[tuple[int, int]], list[int]]:
    """Shapes of the weights and lengths of the intercepts that theta holds, layer by layer."""
    weights = list(zip(net.units[:-1], net.units[1:], strict=True))
    if net.tied:
        weights = weights[: len(weights) // 2]
    return weights, list(net.units[1:]) if net.intercept else []


def n_weights(net: Network) -> int:
    """How many of the parameters are weights, the first ones of theta."""
    return sum(prod(shape) for shape in shapes(net)[0])


def n_normalised(net: Network) -> int:
    """How many units are normalised: each has a scale, a running mean and a running variance."""
    return sum(net.units[1:-1]) if net.batch_norm else 0


def n_parameters(net: Network) -> int:
    """Length of theta."""
    return n_weights(net) + sum(shapes(net)[1]) + 3 * n_normalised(net)


def layers(xp, net: Network, theta):
    """Views of theta: weights of shape ``(M, fan_in, fan_out)``, intercepts ``(M, 1, fan_out)``."""
    M, start = theta.shape[0], 0
    weight_shapes, intercept_lengths = shapes(net)
    weights = []
    for fan_in, fan_out in weight_shapes:
        stop = start + fan_in * fan_out
        weights.append(xp.reshape(theta[:, start:stop], (M, fan_in, fan_out)))
        start = stop
    intercepts = _rows(xp, theta, start, intercept_lengths)
    if net.tied:
        weights += [xp.matrix_transpose(W) for W in reversed(weights)]
    return weights, intercepts or [None] * len(weights)


def normalisation(xp, net: Network, theta):
    """Views of theta: scales, running means and running variances of the hidden layers."""
    hidden, n = net.units[1:-1], n_normalised(net)
    end = theta.shape[1]
    return [_rows(xp, theta, end - back * n, hidden) for back in (3, 2, 1)]


def _rows(xp, theta, start: int, lengths):
    """Consecutive slices of theta as ``(M, 1, length)``."""
    M, views = theta.shape[0], []
    for length in lengths:
        views.append(xp.reshape(theta[:, start : start + length], (M, 1, length)))
        start += length
    return views


def tail(xp, net: Network, theta, layer: int) -> tuple[Network, Any]:
    """The network from the given layer of units on, with its parameters: an encoder's decoder."""
    M = theta.shape[0]
    weights, intercepts = layers(xp, net, theta)
    parts = weights[layer:] + (intercepts[layer:] if net.intercept else [])
    if net.batch_norm:
        parts += [view for views in normalisation(xp, net, theta) for view in views[layer:]]
    rest = Network(
        net.units[layer:], net.loss, net.activations[layer:], net.intercept, net.batch_norm
    )
    return rest, xp.concat([xp.reshape(part, (M, -1)) for part in parts], axis=1)


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


# Keeps the deviation of a unit that never changes from dividing by zero.
EPSILON = 1e-5


def normalise(xp, z, w):
    """Batch normalisation (Ioffe and Szegedy, 2015) over rows of weights w that sum to one.

    Returns the normalised z, one over the standard deviation, and the mean and variance.
    """
    w = w[..., None]
    mean = xp.sum(w * z, axis=-2, keepdims=True)
    centred = z - mean
    variance = xp.sum(w * centred * centred, axis=-2, keepdims=True)
    inverse_std = 1.0 / xp.sqrt(variance + EPSILON)
    return centred * inverse_std, inverse_std, mean, variance


def normalise_backward(xp, z_hat, inverse_std, w, dz_hat):
    w = w[..., None]
    mean_grad = xp.sum(dz_hat, axis=-2, keepdims=True)
    deviation_grad = xp.sum(dz_hat * z_hat, axis=-2, keepdims=True)
    return inverse_std * (dz_hat - w * (mean_grad + z_hat * deviation_grad))


def hidden_layers(xp, net: Network, theta, X):
    """Activations of the hidden layers, each of shape ``(M, n, units)``, as prediction has them."""
    h, activations = X, []
    weights, intercepts = layers(xp, net, theta)
    norms = list(zip(*normalisation(xp, net, theta), strict=True)) if net.batch_norm else None
    for i, activation in enumerate(net.activations):
        z = affine(xp, h, weights[i], None if norms else intercepts[i])
        if norms:
            scale, mean, variance = norms[i]
            z = (z - mean) * (scale / xp.sqrt(variance + EPSILON)) + intercepts[i]
        h, _ = activation.forward(xp, z)
        activations.append(h)
    return activations


def forward(xp, net: Network, theta, X):
    """Raw scores of shape ``(M, n, k)``."""
    weights, intercepts = layers(xp, net, theta)
    h = [X, *hidden_layers(xp, net, theta, X)][-1]
    return affine(xp, h, weights[-1], intercepts[-1])


def predict(xp, net: Network, theta, X):
    """Probabilities or means of shape ``(M, n, k)``."""
    return net.loss.predict(xp, forward(xp, net, theta, X))


def may_overflow(net: Network, theta, X) -> bool:
    """Whether predictions for rows of X come anywhere near the largest number of theta's type.

    Activations are taken to grow no faster than their inputs, and a normalised unit to divide by
    the least deviation there is. An exponential link may always overflow.
    """
    weight = float(abs(theta).max())
    per_layer = 1.0 + max(net.units) * weight * (weight / EPSILON**0.5 if net.batch_norm else 1.0)
    entry = 1.0 + float(max(X.max(), -X.min()))
    reach = log(entry) + (len(net.units) - 1) * log(per_layer)
    return net.loss.predict is exponential or reach > 0.5 * log(finfo(theta.dtype).max)


def value_and_grad(xp, net: Network, theta, X, y, w, l2):
    """Objective and gradient by backpropagation, without dropout; see :func:`backpropagate`."""
    return backpropagate(xp, net, theta, X, y, w, l2)[:3]


def backpropagate(xp, net: Network, theta, X, y, w, l2, masks=None):
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
    masks : list of arrays of shape (M, n, units) or None, optional
        What multiplies the input and each hidden layer (dropout; Srivastava et al., 2014).

    Returns
    -------
    value : array of shape (M,)
        Sum of ``w`` times the loss, the penalty left out: callers report the two apart.
    penalty : array of shape (M,)
        ``l2 / 2`` times the squared norm of the weights.
    grad : array of shape (M, P)
        Gradient of their sum; zero for the running means and variances.
    moments : array of shape (M, 2 * n_normalised) or None
        Means and variances of the normalised units over these rows.
    """
    weights, intercepts = layers(xp, net, theta)
    scales = normalisation(xp, net, theta)[0] if net.batch_norm else None
    masks = masks or [None] * len(weights)
    inputs, saved, normalised = [_masked(X, masks[0])], [], []
    for i, activation in enumerate(net.activations):
        z = affine(xp, inputs[-1], weights[i], None if scales else intercepts[i])
        if scales:
            z_hat, *moments = normalise(xp, z, w)
            normalised.append((z_hat, *moments))
            z = scales[i] * z_hat + intercepts[i]
        h, s = activation.forward(xp, z)
        inputs.append(_masked(h, masks[i + 1]))
        saved.append(s)
    raw = affine(xp, inputs[-1], weights[-1], intercepts[-1])

    value, dz = net.loss.value_and_grad(xp, raw, y, w)
    weight_grads, intercept_grads, scale_grads = [], [xp.sum(dz, axis=-2)], []
    for i in reversed(range(len(weights))):
        weight_grads.append(affine_backward(xp, inputs[i], dz))
        if i > 0:
            dh = _masked(dz @ xp.matrix_transpose(weights[i]), masks[i])
            dz = net.activations[i - 1].backward(xp, saved[i - 1], dh)
            intercept_grads.append(xp.sum(dz, axis=-2))
            if scales:
                z_hat, inverse_std, *_ = normalised[i - 1]
                scale_grads.append(xp.sum(dz * z_hat, axis=-2))
                dz = normalise_backward(xp, z_hat, inverse_std, w, scales[i - 1] * dz)

    M = theta.shape[0]
    decayed = theta[:, : n_weights(net)]
    weight_grads.reverse()
    if net.tied:
        half = len(weight_grads) // 2
        uses = zip(weight_grads[:half], reversed(weight_grads[half:]), strict=True)
        weight_grads = [once + xp.matrix_transpose(again) for once, again in uses]
    parts = [xp.concat([xp.reshape(g, (M, -1)) for g in weight_grads], axis=1)]
    parts[0] = parts[0] + l2 * decayed
    if net.intercept:
        parts += reversed(intercept_grads)
    moments = None
    if scales:
        means, variances = ([saved[j][:, 0, :] for saved in normalised] for j in (2, 3))
        moments = xp.concat([*means, *variances], axis=1)
        parts += [*reversed(scale_grads), xp.zeros_like(moments)]
    penalty = 0.5 * l2[:, 0] * xp.sum(decayed * decayed, axis=1)
    return value, penalty, xp.concat(parts, axis=1), moments


def _masked(h, mask):
    if mask is None:
        return h
    if hasattr(h, "tocsr"):
        # A sparse X is that of a single model, and has no axis for it.
        return h.multiply(mask[0]).tocsr()
    return h * mask
