"""Losses on raw scores, with their gradients, link functions and curvatures.

Scores ``raw`` have shape ``(M, n, k)`` for M models, n rows and k outputs; targets ``y`` broadcast
against them; row weights ``w`` have shape ``(M, n)`` or, when every row weighs the same,
``(M, 1)``. A weight of zero takes a row out of a model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Loss(NamedTuple):
    """What a network minimises.

    Parameters
    ----------
    value_and_grad : callable
        ``value_and_grad(xp, raw, y, w) -> (value, grad)``: the sum over rows of weight times loss,
        of shape ``(M,)``, and its gradient with respect to ``raw``.
    predict : callable
        ``predict(xp, raw)``: probabilities or means.
    out_activation : str
        scikit-learn's name of ``predict``.
    hessian : callable, optional
        ``hessian(xp, predicted, w, i, j) -> (M, n)``: weight times second derivative with respect
        to the scores of outputs i and j, from the predictions.
    hessian_product : callable, optional
        ``hessian_product(xp, predicted, w, v) -> (M, n, k)``: the matrix of those times v.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.losses import LOSSES
    >>> raw, y, w = np.zeros((1, 2, 1)), np.array([[[0.0], [1.0]]]), np.full((1, 1), 0.5)
    >>> value, grad = LOSSES["binary_log_loss"].value_and_grad(np, raw, y, w)
    >>> float(value[0]).__round__(6), grad.ravel().tolist()
    (0.693147, [0.25, -0.25])
    """

    value_and_grad: Callable[..., tuple[Any, Any]]
    predict: Callable[[Any, Any], Any]
    out_activation: str
    hessian: Callable[..., Any] | None = None
    hessian_product: Callable[..., Any] | None = None


def identity(xp, raw):
    return raw


def exponential(xp, raw):
    return xp.exp(raw)


def sigmoid(xp, raw):
    """1 / (1 + exp(-raw)), exact in both tails."""
    e = xp.exp(-xp.abs(raw))
    return xp.where(raw >= 0, 1.0, e) / (1.0 + e)


def softmax(xp, raw):
    e = xp.exp(raw - xp.max(raw, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def _weighted(xp, per_row, grad, w):
    return xp.sum(w * per_row, axis=-1), grad * w[..., None]


def squared_error(xp, raw, y, w):
    """Half the squared error, summed over outputs."""
    residual = raw - y
    return _weighted(xp, 0.5 * xp.sum(residual * residual, axis=-1), residual, w)


def squared_error_hessian(xp, predicted, w, i, j):
    return w * xp.ones_like(predicted[..., i]) if i == j else xp.zeros_like(predicted[..., i])


def squared_error_hessian_product(xp, predicted, w, v):
    return w[..., None] * v


def poisson(xp, raw, y, w):
    """Half the Poisson deviance under a log link, constant included, summed over outputs."""
    mean = xp.exp(raw)
    # y log y, with 0 log 0 = 0
    y_log_y = y * xp.log(xp.where(y > 0, y, xp.ones_like(y)))
    return _weighted(xp, xp.sum(y_log_y - y * raw - y + mean, axis=-1), mean - y, w)


def poisson_hessian(xp, predicted, w, i, j):
    return w * predicted[..., i] if i == j else xp.zeros_like(predicted[..., i])


def poisson_hessian_product(xp, predicted, w, v):
    return w[..., None] * (predicted * v)


def binary_log_loss(xp, raw, y, w):
    """Negative log-likelihood of independent 0/1 targets (Cox, 1958), summed over outputs."""
    size = xp.abs(raw)
    e = xp.exp(-size)
    log_normaliser = 0.5 * (raw + size) + xp.log1p(e)
    probability = xp.where(raw >= 0, 1.0, e) / (1.0 + e)
    return _weighted(xp, xp.sum(log_normaliser - y * raw, axis=-1), probability - y, w)


def binary_log_loss_hessian(xp, predicted, w, i, j):
    p = predicted[..., i]
    return w * p * (1.0 - p) if i == j else xp.zeros_like(p)


def binary_log_loss_hessian_product(xp, predicted, w, v):
    return w[..., None] * (predicted * (1.0 - predicted) * v)


def log_loss(xp, raw, y, w):
    """Cross-entropy of the softmax with one-hot or soft targets that sum to one (Bridle, 1990)."""
    # Shifting the scores by their maximum first lets every later term share it.
    shifted = raw - xp.max(raw, axis=-1, keepdims=True)
    e = xp.exp(shifted)
    total = xp.sum(e, axis=-1, keepdims=True)
    per_row = xp.log(total[..., 0]) - xp.sum(y * shifted, axis=-1)
    return _weighted(xp, per_row, e / total - y, w)


def log_loss_hessian(xp, predicted, w, i, j):
    p = predicted[..., i]
    return w * p * ((1.0 if i == j else 0.0) - predicted[..., j])


def log_loss_hessian_product(xp, predicted, w, v):
    pv = predicted * v
    return w[..., None] * (pv - predicted * xp.sum(pv, axis=-1, keepdims=True))


LOSSES: dict[str, Loss] = {
    "squared_error": Loss(
        squared_error,
        identity,
        "identity",
        squared_error_hessian,
        squared_error_hessian_product,
    ),
    "poisson": Loss(poisson, exponential, "exp", poisson_hessian, poisson_hessian_product),
    "binary_log_loss": Loss(
        binary_log_loss,
        sigmoid,
        "logistic",
        binary_log_loss_hessian,
        binary_log_loss_hessian_product,
    ),
    "log_loss": Loss(log_loss, softmax, "softmax", log_loss_hessian, log_loss_hessian_product),
}
