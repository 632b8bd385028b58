"""Layers that keep one number of each square of an image."""

from dataclasses import dataclass

from ..overrides import overridable
from .base import Layer
from .dense import require_units


@dataclass(frozen=True)
class _Pool2D(Layer):
    size: int = 2

    n_axes = 3  # of a row

    def __post_init__(self):
        require_units(self.size, f"size of {type(self).__name__}")

    def out_shape(self, shape):
        if len(shape) != 3 or min(shape[:2]) < self.size:
            raise ValueError(
                f"{type(self).__name__}({self.size}) takes images (height, width, channels) of at "
                f"least that size, not rows of shape {shape}."
            )
        return (shape[0] // self.size, shape[1] // self.size, shape[2])


def squares(xp, x, size: int):
    """The images (M, n, H, W, C) cut into squares: (M, n, H', size, W', size, C)."""
    M, n, H, W, C = x.shape
    H, W = H // size, W // size
    return xp.reshape(x[:, :, : H * size, : W * size, :], (M, n, H, size, W, size, C))


def images(xp, cut, shape):
    """Squares as images again; rows and columns that filled no square are zero."""
    M, n, H, s, W, _, C = cut.shape
    x = xp.reshape(cut, (M, n, H * s, W * s, C))
    for axis, length in ((2, shape[2]), (3, shape[3])):
        rest = list(x.shape)
        rest[axis] = length - x.shape[axis]
        if rest[axis]:
            x = xp.concat([x, xp.zeros(tuple(rest), dtype=x.dtype, device=x.device)], axis=axis)
    return x


@overridable
def largest(xp, x, size: int):
    """The largest numbers of the squares of images, and what :func:`largest_backward` needs."""
    cut = squares(xp, x, size)
    top = xp.max(cut, axis=(3, 5), keepdims=True)
    return top[:, :, :, 0, :, 0, :], (cut, top, x.shape)


@overridable
def largest_backward(xp, saved, dy, size: int):
    """Gradient of the images. Equal numbers share it, or one has it: either is a subgradient."""
    cut, top, shape = saved
    found = xp.astype(cut == top, dy.dtype)
    share = dy[:, :, :, None, :, None, :] / xp.sum(found, axis=(3, 5), keepdims=True)
    return images(xp, found * share, shape)


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """The largest number of each square of an image; squares do not overlap.

    Parameters
    ----------
    size : int, default=2
        Side of a square. What is left over at the right and the bottom is not seen.

    Examples
    --------
    >>> from skdeep.layers import MaxPool2D
    >>> MaxPool2D(2).out_shape((28, 28, 16))
    (14, 14, 16)
    """

    def forward(self, xp, p, x, training=None):
        return largest(xp, x, self.size)

    def backward(self, xp, p, saved, dy):
        return {}, lambda: largest_backward(xp, saved, dy, self.size)


@dataclass(frozen=True)
class AveragePool2D(_Pool2D):
    """The mean of each square of an image; squares do not overlap.

    Parameters
    ----------
    size : int, default=2
        Side of a square. What is left over at the right and the bottom is not seen.

    Examples
    --------
    >>> from skdeep.layers import AveragePool2D
    >>> AveragePool2D(7).out_shape((28, 28, 16))
    (4, 4, 16)
    """

    def forward(self, xp, p, x, training=None):
        return xp.mean(squares(xp, x, self.size), axis=(3, 5)), x.shape

    def backward(self, xp, p, saved, dy):
        def to_input():
            (M, n, H, W, C), s = dy.shape, self.size
            each = dy[:, :, :, None, :, None, :] / (s * s)
            return images(xp, xp.broadcast_to(each, (M, n, H, s, W, s, C)), saved)

        return {}, to_input
