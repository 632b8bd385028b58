"""Losses on raw scores, with their gradients, link functions and curvatures.

Scores ``raw`` have shape ``(M, n, k)`` for M models, n rows and k outputs; targets ``y`` broadcast
against them; row weights ``w`` have shape ``(M, n)`` or, when every row weighs the same,
``(M, 1)``. A weight of zero takes a row out of a model.

An entry is a ``Loss``, or, if it has a parameter of its own, an instance of a class with the same
attributes: equal by value, so that it pickles, clones and compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

__all__ = [
    "LOSSES",
    "Huber",
    "Loss",
    "Quantile",
    "exponential",
    "identity",
    "margin",
    "sigmoid",
    "softmax",
]


class Loss(NamedTuple):
    """What a network minimises.

    Parameters
    ----------
    value_and_grad : callable
        ``value_and_grad(xp, raw, y, w) -> (value, grad)``: the sum over rows of weight times loss,
        of shape ``(M,)``, and its gradient with respect to ``raw``.
    predict : callable
        ``predict(xp, raw)``: probabilities or means. In a classifier more than one half means the
        class.
    out_activation : str
        scikit-learn's name of ``predict``. In a classifier ``"softmax"`` and ``"logistic"`` say
        that it gives probabilities, of which there is no ``predict_proba`` under other names, such
        as ``"margin"``.
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


def has_hessian(loss) -> bool:
    """Whether second derivatives of a loss, which may be the user's own, are known."""
    return None not in (getattr(loss, name, None) for name in ("hessian", "hessian_product"))


def identity(xp, raw):
    """The scores themselves."""
    return raw


def exponential(xp, raw):
    """The mean of which scores are the logarithm."""
    return xp.exp(raw)


def sigmoid(xp, raw):
    """1 / (1 + exp(-raw)), exact in both tails."""
    e = xp.exp(-xp.abs(raw))
    return xp.where(raw >= 0, 1.0, e) / (1.0 + e)


def softmax(xp, raw):
    """Probabilities in proportion to exp(raw), exact for scores of any size."""
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


def absolute_error(xp, raw, y, w):
    """The absolute error (Laplace, 1774), summed over outputs; its minimiser is the median."""
    residual = raw - y
    return _weighted(xp, xp.sum(xp.abs(residual), axis=-1), xp.sign(residual), w)


@dataclass(frozen=True)
class Huber:
    """Half the squared error up to ``delta``, linear beyond (Huber, 1964), summed over outputs.

    Parameters
    ----------
    delta : float, default=1.0
        Positive; the largest slope.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.losses import Huber
    >>> raw, y, w = np.array([[[0.5], [10.0]]]), np.zeros((1, 2, 1)), np.ones((1, 1))
    >>> value, grad = Huber(delta=2.0).value_and_grad(np, raw, y, w)
    >>> value.tolist(), grad.ravel().tolist()
    ([18.125], [0.5, 2.0])
    """

    delta: float = 1.0

    predict: ClassVar[Callable] = staticmethod(identity)
    out_activation: ClassVar[str] = "identity"
    # The curvature is 0 or 1 by the residual, which predictions alone do not tell.
    hessian: ClassVar[None] = None
    hessian_product: ClassVar[None] = None

    def __post_init__(self):
        if not self.delta > 0:
            raise ValueError(f"delta={self.delta!r} of Huber must be positive.")

    def value_and_grad(self, xp, raw, y, w):
        residual = raw - y
        slope = xp.clip(residual, -self.delta, self.delta)
        return _weighted(xp, xp.sum(slope * (residual - 0.5 * slope), axis=-1), slope, w)


@dataclass(frozen=True)
class Quantile:
    """The pinball loss (Koenker and Bassett, 1978), summed over outputs.

    Its minimiser is the ``q``-quantile; at ``q=0.5`` it is half the absolute error.

    Parameters
    ----------
    q : float, default=0.5
        Between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.losses import Quantile
    >>> raw, y, w = np.array([[[1.0], [-1.0]]]), np.zeros((1, 2, 1)), np.ones((1, 1))
    >>> value, grad = Quantile(q=0.75).value_and_grad(np, raw, y, w)
    >>> value.tolist(), grad.ravel().tolist()
    ([1.0], [0.25, -0.75])
    """

    q: float = 0.5

    predict: ClassVar[Callable] = staticmethod(identity)
    out_activation: ClassVar[str] = "identity"
    hessian: ClassVar[None] = None
    hessian_product: ClassVar[None] = None

    def __post_init__(self):
        if not 0 < self.q < 1:
            raise ValueError(f"q={self.q!r} of Quantile must be between 0 and 1.")

    def value_and_grad(self, xp, raw, y, w):
        residual = raw - y
        # 1 - q above the quantile, -q below
        slope = 0.5 * xp.sign(residual) + (0.5 - self.q)
        return _weighted(xp, xp.sum(slope * residual, axis=-1), slope, w)


def hinge(xp, raw, y, w):
    """The margin's shortfall from one (Cortes and Vapnik, 1995), for 0/1 targets.

    Outputs are summed: several labels are independent, several classes are one against the rest
    (Rifkin and Klautau, 2004).
    """
    sign = 2.0 * y - 1.0
    shortfall = xp.clip(1.0 - sign * raw, min=0.0)
    grad = xp.where(shortfall > 0, -sign, xp.zeros_like(raw))
    return _weighted(xp, xp.sum(shortfall, axis=-1), grad, w)


def margin(xp, raw):
    """Scores in the units of 0/1 targets, not probabilities: a score of zero becomes one half."""
    return 0.5 * raw + 0.5


def sigmoid_squared_error(xp, raw, y, w):
    """Half the squared error of sigmoid outputs (Brier, 1950), summed over outputs."""
    p = sigmoid(xp, raw)
    residual = p - y
    per_row = 0.5 * xp.sum(residual * residual, axis=-1)
    return _weighted(xp, per_row, residual * p * (1.0 - p), w)


LOSSES: dict[str, Loss | Huber | Quantile] = {
    "squared_error": Loss(
        squared_error,
        identity,
        "identity",
        squared_error_hessian,
        squared_error_hessian_product,
    ),
    "absolute_error": Loss(absolute_error, identity, "identity"),
    "huber": Huber(),
    "quantile": Quantile(),
    "poisson": Loss(poisson, exponential, "exp", poisson_hessian, poisson_hessian_product),
    "binary_log_loss": Loss(
        binary_log_loss,
        sigmoid,
        "logistic",
        binary_log_loss_hessian,
        binary_log_loss_hessian_product,
    ),
    "log_loss": Loss(log_loss, softmax, "softmax", log_loss_hessian, log_loss_hessian_product),
    "hinge": Loss(hinge, margin, "margin"),
    "sigmoid_squared_error": Loss(sigmoid_squared_error, sigmoid, "logistic"),
}
