"""Initial weights of a layer, drawn on the CPU so that every backend starts from the same ones.

An initializer is ``(rng, fan_in, fan_out, activation) -> (W, b)``: weights of shape
``(fan_in, fan_out)`` and intercepts of shape ``(fan_out,)``, zero for all but scikit-learn's draw.
``activation`` is the name of the layer's activation, or empty. An attribute ``output``, a function
of the same arguments, is optional: it draws the last layer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

__all__ = ["INITIALIZERS", "NTK", "Normal"]

Initializer = Callable[[RandomState, int, int, str], tuple[np.ndarray, np.ndarray]]


def auto(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """scikit-learn's draw: Glorot and Bengio (2010), uniform, the intercepts within the same bound.

    The bound is ``sqrt(6 / (fan_in + fan_out))``, or with 2 in place of 6 for logistic units.
    """
    bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + fan_out))
    W = rng.uniform(-bound, bound, (fan_in, fan_out))
    return W, rng.uniform(-bound, bound, fan_out)


@dataclass(frozen=True)
class Normal:
    """Normal weights of one standard deviation, whatever the size of the layer.

    Parameters
    ----------
    scale : float, default=0.01
        The standard deviation; that of Krizhevsky, Sutskever and Hinton (2012) by default.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.initializers import Normal
    >>> W, b = Normal(scale=0.1)(np.random.RandomState(0), 3, 2, "relu")
    >>> W.shape, b.tolist()
    ((3, 2), [0.0, 0.0])
    """

    scale: float = 0.01

    def __post_init__(self):
        if not self.scale >= 0:
            raise ValueError(f"scale={self.scale!r} of Normal must not be negative.")

    def __call__(self, rng: RandomState, fan_in: int, fan_out: int, activation: str):
        return rng.normal(0.0, self.scale, (fan_in, fan_out)), np.zeros(fan_out)


@dataclass(frozen=True)
class NTK:
    """Weights of variance ``1 / fan_in`` and intercepts of variance one; the output begins at zero.

    What the neural tangent parametrization (Jacot, Gabriel and Hongler, 2018) starts from, without
    the function that it would start from.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, "Neural tangent kernel: convergence and generalization in
    neural networks", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.initializers import NTK
    >>> W, b = NTK()(np.random.RandomState(0), 3, 2, "relu")
    >>> W.shape, b.shape, NTK().output(np.random.RandomState(0), 2, 1, "relu")[1].tolist()
    ((3, 2), (2,), [0.0])
    """

    def __call__(self, rng: RandomState, fan_in: int, fan_out: int, activation: str):
        return rng.normal(0.0, fan_in**-0.5, (fan_in, fan_out)), rng.normal(size=fan_out)

    def output(self, rng: RandomState, fan_in: int, fan_out: int, activation: str):
        return np.zeros((fan_in, fan_out)), np.zeros(fan_out)


def _normal(rng, variance, shape):
    return rng.normal(0.0, np.sqrt(variance), shape), np.zeros(shape[1])


def _uniform(rng, variance, shape):
    bound = np.sqrt(3.0 * variance)
    return rng.uniform(-bound, bound, shape), np.zeros(shape[1])


def lecun_normal(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """Variance ``1 / fan_in`` (LeCun et al., 1998): keeps the variance of linear units and SELU."""
    return _normal(rng, 1.0 / fan_in, (fan_in, fan_out))


def glorot_normal(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """Variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010): forwards and backwards."""
    return _normal(rng, 2.0 / (fan_in + fan_out), (fan_in, fan_out))


def glorot_uniform(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """Bound ``sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio, 2010)."""
    return _uniform(rng, 2.0 / (fan_in + fan_out), (fan_in, fan_out))


def he_normal(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """Variance ``2 / fan_in`` (He et al., 2015): makes up for the half that a ReLU cuts off."""
    return _normal(rng, 2.0 / fan_in, (fan_in, fan_out))


def he_uniform(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """Bound ``sqrt(6 / fan_in)`` (He et al., 2015)."""
    return _uniform(rng, 2.0 / fan_in, (fan_in, fan_out))


def orthogonal(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """A random orthogonal matrix (Saxe, McClelland and Ganguli, 2014).

    Its rows or its columns, whichever are fewer, are orthonormal.
    """
    tall = rng.normal(size=(max(fan_in, fan_out), min(fan_in, fan_out)))
    Q, R = np.linalg.qr(tall)
    # Uniform over all such matrices only with the signs of R's diagonal (Mezzadri, 2007).
    Q = Q * np.copysign(1.0, np.diagonal(R))
    return Q if fan_in >= fan_out else Q.T, np.zeros(fan_out)


INITIALIZERS: dict[str, Initializer] = {
    "auto": auto,
    "normal": Normal(),
    "lecun_normal": lecun_normal,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "orthogonal": orthogonal,
    "ntk": NTK(),
}
