"""Activation functions of the hidden layers, each beside its derivative.

An entry is an ``Activation``, or, if it has a parameter of its own, an instance of a class with the
same two functions as methods: equal by value, so that it pickles, clones and compares.

Every function takes the array namespace ``xp`` first and works on arrays of any shape, elementwise.
Nothing is written into what ``forward`` and ``backward`` are given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any, NamedTuple

__all__ = ["ACTIVATIONS", "ELU", "Activation", "LeakyReLU"]


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


@dataclass(frozen=True)
class LeakyReLU:
    """``z`` above zero, ``slope * z`` below (Maas, Hannun and Ng, 2013).

    Parameters
    ----------
    slope : float, default=0.01
        Not negative.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.activations import LeakyReLU
    >>> LeakyReLU(slope=0.5).forward(np, np.array([-1.0, 2.0]))[0].tolist()
    [-0.5, 2.0]
    """

    slope: float = 0.01

    def __post_init__(self):
        if not self.slope >= 0:
            raise ValueError(f"slope={self.slope!r} of LeakyReLU must not be negative.")

    def forward(self, xp, z):
        h = xp.where(z > 0, z, self.slope * z)
        return h, h

    def backward(self, xp, h, dh):
        return xp.where(h > 0, dh, self.slope * dh)


@dataclass(frozen=True)
class ELU:
    """``z`` above zero, ``alpha * (exp(z) - 1)`` below (Clevert, Unterthiner and Hochreiter, 2016).

    Parameters
    ----------
    alpha : float, default=1.0
        What the function tends to on the left, with the sign changed; not negative.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.activations import ELU
    >>> ELU(alpha=2.0).forward(np, np.array([-1e4, 3.0]))[0].tolist()
    [-2.0, 3.0]
    """

    alpha: float = 1.0

    def __post_init__(self):
        if not self.alpha >= 0:
            raise ValueError(f"alpha={self.alpha!r} of ELU must not be negative.")

    def forward(self, xp, z):
        h = xp.where(z > 0, z, self.alpha * xp.expm1(xp.clip(z, max=0.0)))
        return h, h

    def backward(self, xp, h, dh):
        return xp.where(h > 0, dh, dh * (h + self.alpha))


# The fixed point of mean 0 and variance 1 of Klambauer et al. (2017), their equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def selu(xp, z):
    """An ELU scaled to keep mean 0 and variance 1 from layer to layer (Klambauer et al., 2017)."""
    h = SELU_SCALE * xp.where(z > 0, z, SELU_ALPHA * xp.expm1(xp.clip(z, max=0.0)))
    return h, h


def selu_backward(xp, h, dh):
    return dh * xp.where(h > 0, SELU_SCALE, h + SELU_SCALE * SELU_ALPHA)


def softplus(xp, z):
    """``log(1 + exp(z))``, a smooth ReLU (Dugas et al., 2001)."""
    h = xp.clip(z, min=0.0) + xp.log1p(xp.exp(-xp.abs(z)))
    return h, h


def softplus_backward(xp, h, dh):
    # The slope is the sigmoid of z, which is 1 - exp(-h).
    return dh * -xp.expm1(-h)


def swish(xp, z):
    """``z`` times its sigmoid (Ramachandran, Zoph and Le, 2017); also known as SiLU."""
    gate = 0.5 * xp.tanh(0.5 * z) + 0.5
    h = z * gate
    return h, (h, gate)


def swish_backward(xp, saved, dh):
    h, gate = saved
    return dh * (gate + h * (1.0 - gate))


def _gelu_gate(xp, z):
    """The normal distribution function of z, as Hendrycks and Gimpel approximate it by tanh."""
    return 0.5 * xp.tanh(sqrt(2.0 / pi) * (z + 0.044715 * z * z * z)) + 0.5


def gelu(xp, z):
    """``z`` times the chance that a normal variate is less (Hendrycks and Gimpel, 2016).

    The paper's tanh form, within 5e-4 of the exact one: the array standard has no error function.
    """
    return z * _gelu_gate(xp, z), z


def gelu_backward(xp, z, dh):
    gate = _gelu_gate(xp, z)
    slope = 2.0 * sqrt(2.0 / pi) * (1.0 + 3 * 0.044715 * z * z)
    return dh * (gate + z * gate * (1.0 - gate) * slope)


def mish(xp, z):
    """``z`` times the tanh of its softplus (Misra, 2019)."""
    p, _ = softplus(xp, z)
    gate = xp.tanh(p)
    return z * gate, (z, p, gate)


def mish_backward(xp, saved, dh):
    z, p, gate = saved
    return dh * (gate + z * (1.0 - gate * gate) * -xp.expm1(-p))


def step(xp, z):
    """1 where ``z >= 0``, else 0: the neuron of McCulloch and Pitts (1943), for prediction only."""
    return xp.astype(z >= 0, z.dtype), None


def step_backward(xp, saved, dh):
    raise ValueError(
        "activation='step' is for prediction only: its derivative is zero wherever there is one, "
        "so that gradients cannot train it."
    )


ACTIVATIONS: dict[str, Activation | LeakyReLU | ELU] = {
    "identity": Activation(identity, identity_backward),
    "logistic": Activation(logistic, logistic_backward),
    "tanh": Activation(tanh, tanh_backward),
    "relu": Activation(relu, relu_backward),
    "leaky_relu": LeakyReLU(),
    "elu": ELU(),
    "selu": Activation(selu, selu_backward),
    "softplus": Activation(softplus, softplus_backward),
    "swish": Activation(swish, swish_backward),
    "gelu": Activation(gelu, gelu_backward),
    "mish": Activation(mish, mish_backward),
    "step": Activation(step, step_backward),
}
