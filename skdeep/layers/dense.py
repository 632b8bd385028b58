"""Dense layers, activations, and what reshapes rows for them."""

from dataclasses import dataclass
from math import prod

from ..activations import ACTIVATIONS
from ..activations import Activation as Entry
from ..overrides import chosen, overridable
from .base import Layer, Parameter


@overridable
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


@overridable
def affine_backward(xp, X, dz):
    """Gradient of the weights, ``Xᵀ dz``, of shape ``(M, fan_in, fan_out)``."""
    if X.ndim == 2:
        M, n, fan_out = dz.shape
        flat = xp.reshape(xp.matrix_transpose(dz), (M * fan_out, n))
        return xp.matrix_transpose(xp.reshape(flat @ X, (M, fan_out, X.shape[1])))
    return xp.matrix_transpose(X) @ dz


def require_units(units, name: str) -> None:
    """Raise ValueError unless there is a positive whole number of them."""
    if isinstance(units, bool) or not hasattr(units, "__index__") or units < 1:
        raise ValueError(f"{name}={units!r} must be a whole number above zero.")


@dataclass(frozen=True)
class Activation(Layer):
    """A function applied to every unit.

    Parameters
    ----------
    function : str or skdeep.activations.Activation, default='relu'
        A name in ``skdeep.activations.ACTIVATIONS``, or an entry of your own.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Activation
    >>> Activation("relu").forward(np, {}, np.array([[[-1.0, 2.0]]]))[0].tolist()
    [[[0.0, 2.0]]]
    """

    function: str | Entry = "relu"

    def __post_init__(self):
        if isinstance(self.function, str) and self.function not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.function!r} is unknown: use one of "
                f"{', '.join(map(repr, ACTIVATIONS))}, or an Activation."
            )

    @property
    def entry(self) -> Entry:
        return ACTIVATIONS[self.function] if isinstance(self.function, str) else self.function

    def forward(self, xp, p, x, training=None):
        return chosen(xp, self.entry.forward)(xp, x)

    def backward(self, xp, p, saved, dy):
        return {}, lambda: chosen(xp, self.entry.backward)(xp, saved, dy)


@dataclass(frozen=True)
class Dense(Layer):
    """``activation(x W + b)``, every input joined to every unit.

    Parameters
    ----------
    units : int
    activation : str, skdeep.activations.Activation or None, default='relu'
        None leaves the sums as they are.
    intercept : bool, default=True
        Whether there is ``b``.

    References
    ----------
    D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

    Examples
    --------
    >>> from skdeep.layers import Dense
    >>> Dense(64).out_shape((28, 28, 1))
    (64,)
    >>> Dense(64).parameters((28, 28, 1))["weight"].shape
    (784, 64)
    """

    units: int
    activation: str | Entry | None = "relu"
    intercept: bool = True

    def __post_init__(self):
        require_units(self.units, "units")
        if self.activation is not None:
            Activation(self.activation)

    def expand(self):
        if self.activation is None:
            return (self,)
        return Dense(self.units, None, self.intercept), Activation(self.activation)

    def out_shape(self, shape):
        return (int(self.units),)

    def parameters(self, shape):
        weight = Parameter((prod(shape), int(self.units)), "weight")
        intercept = {"intercept": Parameter((int(self.units),), "intercept")}
        return {"weight": weight} | (intercept if self.intercept else {})

    def forward(self, xp, p, x, training=None):
        flat = x if x.ndim < 4 else xp.reshape(x, (*x.shape[:2], -1))
        b = p["intercept"][:, None, :] if self.intercept else None
        return affine(xp, flat, p["weight"], b), (x, flat, p["weight"])

    def backward(self, xp, p, saved, dy):
        x, flat, W = saved
        grads = {"weight": affine_backward(xp, flat, dy)}
        if self.intercept:
            grads["intercept"] = xp.sum(dy, axis=-2)
        return grads, lambda: xp.reshape(dy @ xp.matrix_transpose(W), x.shape)

    def row_gradients(self, xp, p, x, saved, dy):
        _, flat, W = saved
        flat = flat[None, ...] if flat.ndim == 2 else flat
        dz = xp.matrix_transpose(dy)
        grads = {"weight": xp.matrix_transpose(flat)[:, :, None, :] * dz[:, None, :, :]}
        if self.intercept:
            grads["intercept"] = dz

        def to_input():
            # A product over a single unit is an outer one, which BLAS is slow at.
            dx = W * dz if dz.shape[1] == 1 else W @ dz
            return xp.reshape(xp.matrix_transpose(dx), (*dy.shape[:2], *x.shape[2:]))

        return grads, to_input


@dataclass(frozen=True)
class Flatten(Layer):
    """Rows of any shape as vectors.

    Examples
    --------
    >>> from skdeep.layers import Flatten
    >>> Flatten().out_shape((7, 7, 16))
    (784,)
    """

    def out_shape(self, shape):
        return (prod(shape),)

    def forward(self, xp, p, x, training=None):
        return xp.reshape(x, (*x.shape[:2], -1)), x.shape

    def backward(self, xp, p, saved, dy):
        return {}, lambda: xp.reshape(dy, saved)
