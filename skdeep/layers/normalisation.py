"""Scales, batch normalisation and dropout: layers that leave the shape of a row as it is.

The last two do in training what they do not in prediction.
"""

from dataclasses import dataclass
from math import prod

from ..overrides import overridable
from ..processes import summed
from .base import Layer, Parameter

# Keeps the deviation of a unit that never changes from dividing by zero.
EPSILON = 1e-5


@overridable
def normalise(xp, z, w):
    """Batch normalisation (Ioffe and Szegedy, 2015) over rows of weights w that sum to one.

    Returns the normalised z, one over the standard deviation, and the mean and variance.
    """
    w = w[..., None]
    mean = summed(xp, xp.sum(w * z, axis=-2, keepdims=True))
    centred = z - mean
    variance = summed(xp, xp.sum(w * centred * centred, axis=-2, keepdims=True))
    inverse_std = 1.0 / xp.sqrt(variance + EPSILON)
    return centred * inverse_std, inverse_std, mean, variance


@overridable
def normalise_backward(xp, z_hat, inverse_std, w, dz_hat):
    """Gradient of z from that of the normalised z."""
    w = w[..., None]
    mean_grad = summed(xp, xp.sum(dz_hat, axis=-2, keepdims=True))
    deviation_grad = summed(xp, xp.sum(dz_hat * z_hat, axis=-2, keepdims=True))
    return inverse_std * (dz_hat - w * (mean_grad + z_hat * deviation_grad))


@dataclass(frozen=True)
class Scale(Layer):
    """Each number of a row times a learned scale of its own, one at first.

    In front of a dense layer it lets features count for more or less together, as training finds.

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Scale
    >>> p = {"scale": np.array([[1.0, 0.5]])}
    >>> Scale().forward(np, p, np.array([[[3.0, 4.0]]]))[0].tolist()
    [[[3.0, 2.0]]]
    """

    def parameters(self, shape):
        return {"scale": Parameter(shape, "scale")}

    def forward(self, xp, p, x, training=None):
        scale = p["scale"][:, None, ...]
        return x * scale, (x, scale)

    def backward(self, xp, p, saved, dy):
        x, scale = saved
        return {"scale": xp.sum(x * dy, axis=1)}, lambda: dy * scale


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Units, or channels, shifted and scaled to a learned mean and deviation over the batch.

    Predictions take running means and variances in place of the batch's.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.

    Examples
    --------
    >>> from skdeep.layers import BatchNorm
    >>> sorted(BatchNorm().parameters((28, 28, 16)))
    ['intercept', 'running_mean', 'running_variance', 'scale']
    """

    def parameters(self, shape):
        roles = ("intercept", "scale", "running_mean", "running_variance")
        return {role: Parameter(shape[-1:], role) for role in roles}

    def forward(self, xp, p, x, training=None):
        p = {name: view[:, None, :] for name, view in p.items()}
        z = _rows(xp, x)
        if training is None:
            factor = p["scale"] / xp.sqrt(p["running_variance"] + EPSILON)
            y = (z - p["running_mean"]) * factor + p["intercept"]
            return xp.reshape(y, x.shape), None
        pixels = prod(x.shape[2:-1])
        w = training.w if pixels == 1 else _spread(xp, training.w, x.shape[1], pixels)
        z_hat, inverse_std, mean, variance = normalise(xp, z, w)
        y = p["scale"] * z_hat + p["intercept"]
        return xp.reshape(y, x.shape), (z_hat, inverse_std, mean, variance, w, p["scale"], x.shape)

    def backward(self, xp, p, saved, dy):
        z_hat, inverse_std, mean, variance, w, scale, shape = saved
        dz = _rows(xp, dy)
        grads = {
            "intercept": xp.sum(dz, axis=-2),
            "scale": xp.sum(dz * z_hat, axis=-2),
            "running_mean": mean[:, 0, :],
            "running_variance": variance[:, 0, :],
        }
        return grads, lambda: xp.reshape(
            normalise_backward(xp, z_hat, inverse_std, w, scale * dz), shape
        )


def _rows(xp, x):
    """Pixels as rows of channels."""
    return x if x.ndim == 3 else xp.reshape(x, (x.shape[0], -1, x.shape[-1]))


def _spread(xp, w, n: int, pixels: int):
    """Weights of rows as weights of their pixels, which sum to one too."""
    each = xp.broadcast_to(w, (w.shape[0], n))[..., None] / pixels
    return xp.reshape(xp.broadcast_to(each, (*each.shape[:2], pixels)), (w.shape[0], -1))


@dataclass(frozen=True)
class Dropout(Layer):
    """Units set to zero at random in training, the others raised to keep the mean.

    Parameters
    ----------
    rate : float or None, default=0.5
        Chance of a zero, in [0, 1). None leaves it to whoever draws the masks.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    Journal of Machine Learning Research 15, 2014.

    Examples
    --------
    >>> from skdeep.layers import Dropout
    >>> Dropout(0.2).out_shape((28, 28, 16))
    (28, 28, 16)
    """

    rate: float | None = 0.5

    def __post_init__(self):
        if self.rate is not None and not 0 <= self.rate < 1:
            raise ValueError(f"rate={self.rate!r} of Dropout must be in [0, 1).")

    def bare(self):
        return Dropout(None)

    @property
    def rates(self):
        return [self.rate]

    def masked(self, shape):
        return [shape]

    def forward(self, xp, p, x, training=None):
        mask = None if training is None else next(training.masks)
        return (x if mask is None else masked(x, mask)), mask

    def backward(self, xp, p, saved, dy):
        return {}, lambda: dy if saved is None else dy * saved


def masked(x, mask):
    """The rows times the mask, (M, n, *shape)."""
    if hasattr(x, "tocsr"):
        # A sparse X is that of a single model, and has no axis for it.
        return x.multiply(mask[0]).tocsr()
    return x * mask
