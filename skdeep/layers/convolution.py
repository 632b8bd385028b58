"""Convolutions: dense layers whose units each see a patch of the image, with weights they share.

Channels come last. A patch is a vector of its pixels, row by row, each with all its channels.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ..activations import Activation as Entry
from ..overrides import overridable
from .base import Layer, Parameter
from .dense import Activation, require_units


def _pad(xp, x, axis: int, before: int, after: int):
    """Zeros before and after the image along an axis."""

    def zeros(length):
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        return xp.zeros(shape, dtype=x.dtype, device=x.device)

    parts = [zeros(before)] * (before > 0) + [x] + [zeros(after)] * (after > 0)
    return x if len(parts) == 1 else xp.concat(parts, axis=axis)


def _spread(xp, x, axis: int, stride: int):
    """``stride - 1`` zeros between the entries along an axis."""
    if stride == 1:
        return x
    each = xp.expand_dims(x, axis=axis + 1)
    each = _pad(xp, each, axis + 1, 0, stride - 1)
    shape = (*x.shape[:axis], x.shape[axis] * stride, *x.shape[axis + 1 :])
    spread = xp.reshape(each, shape)
    keep = [slice(None)] * x.ndim
    keep[axis] = slice(0, shape[axis] - stride + 1)
    return spread[tuple(keep)]


class Window(NamedTuple):
    """How patches are cut, and how many zeros there are around the image."""

    height: int
    width: int
    stride: int
    top: int
    bottom: int
    left: int
    right: int


@overridable
def patches(xp, x, window):
    """Patches of images.

    Parameters
    ----------
    x : array of shape (M, n, H, W, C)
    window : Window

    Returns
    -------
    array of shape (M, n, H', W', height * width * C)
    """
    height, width, stride, *edges = window
    x = _pad(xp, _pad(xp, x, 2, *edges[:2]), 3, *edges[2:])
    down, across = x.shape[2] - height + 1, x.shape[3] - width + 1
    return xp.concat(
        [
            x[:, :, i : i + down : stride, j : j + across : stride, :]
            for i in range(height)
            for j in range(width)
        ],
        axis=4,
    )


@overridable
def patches_backward(xp, dp, window, shape):
    """Gradient of the images (M, n, H, W, C) from that of their patches."""
    height, width, stride, top, _, left, _ = window
    H, W, C = shape[2:]
    dx = 0.0
    for place in range(height * width):
        i, j = divmod(place, width)
        part = dp[..., place * C : (place + 1) * C]
        for axis, offset, length in ((2, i - top, H), (3, j - left, W)):
            part = _spread(xp, part, axis, stride)
            keep = [slice(None)] * 5
            keep[axis] = slice(max(0, -offset), min(part.shape[axis], length - offset))
            part = part[tuple(keep)]
            begin = max(0, offset)
            part = _pad(xp, part, axis, begin, length - begin - part.shape[axis])
        dx = dx + part
    return dx


@overridable
def convolve(xp, x, W, window):
    """Sums over patches of images (M, n, H, W, C), each of weights W (M, patch, filters).

    Returns them, and what :func:`convolve_backward` needs.
    """
    cut = patches(xp, x, window)
    M, n, H, width, size = cut.shape
    flat = xp.reshape(cut, (M, n * H * width, size))
    return xp.reshape(flat @ W, (M, n, H, width, W.shape[-1])), (flat, x.shape)


@overridable
def convolve_backward(xp, saved, W, window, dz):
    """Gradient of the weights, and a function that gives the gradient of the images."""
    flat, shape = saved
    flat_dz = xp.reshape(dz, (*flat.shape[:2], W.shape[-1]))

    def to_input():
        dp = xp.reshape(flat_dz @ xp.matrix_transpose(W), (*dz.shape[:-1], flat.shape[-1]))
        return patches_backward(xp, dp, window, shape)

    return xp.matrix_transpose(flat) @ flat_dz, to_input


@dataclass(frozen=True)
class _Convolution(Layer):
    filters: int
    size: int
    stride: int = 1
    padding: str = "same"
    activation: str | Entry | None = "relu"
    intercept: bool = True

    n_axes = 3  # of a row

    def __post_init__(self):
        for name in ("filters", "size", "stride"):
            require_units(getattr(self, name), f"{name} of {type(self).__name__}")
        if self.padding not in ("same", "valid"):
            raise ValueError(f"padding={self.padding!r} must be 'same' or 'valid'.")
        if self.activation is not None:
            Activation(self.activation)

    def expand(self):
        if self.activation is None:
            return (self,)
        bare = type(self)(self.filters, self.size, self.stride, self.padding, None, self.intercept)
        return bare, Activation(self.activation)

    def _window(self, shape) -> Window:
        """Zeros around the image, so that each pixel a stride apart has a patch around it."""
        edges = []
        for length in shape[:-1]:
            outputs = -(-length // self.stride)
            total = max((outputs - 1) * self.stride + self.size - length, 0)
            total = total if self.padding == "same" else 0
            edges += [total // 2, total - total // 2]
        sizes = [self.size] * len(shape[:-1])
        flat = len(sizes) == 1  # a line is an image one pixel high
        return Window(
            *([1] if flat else []), *sizes, self.stride, *([0, 0] if flat else []), *edges
        )

    def out_shape(self, shape):
        name = type(self).__name__
        if len(shape) != self.n_axes:
            what = "(height, width, channels)" if self.n_axes == 3 else "(length, channels)"
            raise ValueError(
                f"{name} takes rows of shape {what}, not {shape}: see input_shape, and put it "
                "before Flatten and Dense."
            )
        if self.padding == "valid" and min(shape[:-1]) < self.size:
            raise ValueError(f"{name} of size {self.size} is larger than rows of shape {shape}.")
        lengths = [n - (self.size - 1) * (self.padding == "valid") for n in shape[:-1]]
        return (*(-(-n // self.stride) for n in lengths), int(self.filters))

    def parameters(self, shape):
        weight = (self.size ** (self.n_axes - 1) * shape[-1], int(self.filters))
        intercept = {"intercept": Parameter(weight[-1:], "intercept")}
        return {"weight": Parameter(weight, "weight")} | (intercept if self.intercept else {})

    def forward(self, xp, p, x, training=None):
        shape, x = x.shape, _image(xp, x)
        window = self._window(shape[2:])
        z, saved = convolve(xp, x, p["weight"], window)
        if self.intercept:
            z = z + p["intercept"][:, None, None, None, :]
        z = xp.reshape(z, (*shape[:2], *self.out_shape(shape[2:])))
        return z, (saved, p["weight"], window, shape)

    def backward(self, xp, p, saved, dy):
        saved, W, window, shape = saved
        dz = _image(xp, dy)
        dW, to_image = convolve_backward(xp, saved, W, window, dz)
        grads = {"weight": dW}
        if self.intercept:
            grads["intercept"] = xp.sum(dz, axis=(1, 2, 3))
        return grads, lambda: xp.reshape(to_image(), shape)


def _image(xp, x):
    return xp.expand_dims(x, axis=2) if x.ndim == 4 else x


@dataclass(frozen=True)
class Conv1D(_Convolution):
    """Filters along a line: at each place the same weights for the patch around it.

    Parameters
    ----------
    filters : int
        Channels of the output.
    size : int
        Length of a patch.
    stride : int, default=1
        Distance from patch to patch.
    padding : {'same', 'valid'}, default='same'
        Whether zeros around the line let every place have a patch, or patches stay inside.
    activation : str, skdeep.activations.Activation or None, default='relu'
    intercept : bool, default=True

    Examples
    --------
    >>> from skdeep.layers import Conv1D
    >>> Conv1D(8, 5).out_shape((100, 2)), Conv1D(8, 5, padding="valid").out_shape((100, 2))
    ((100, 8), (96, 8))
    """

    n_axes = 2


@dataclass(frozen=True)
class Conv2D(_Convolution):
    """Filters over an image: at each place the same weights for the patch around it.

    It is a dense layer that sees but a patch of the image, and whose weights are shared by all
    patches (LeCun et al., 1989).

    Parameters
    ----------
    filters : int
        Channels of the output.
    size : int
        Side of a patch.
    stride : int, default=1
        Distance from patch to patch.
    padding : {'same', 'valid'}, default='same'
        Whether zeros around the image let every pixel have a patch, or patches stay inside.
    activation : str, skdeep.activations.Activation or None, default='relu'
    intercept : bool, default=True

    References
    ----------
    Y. LeCun et al., "Backpropagation applied to handwritten zip code recognition", Neural
    Computation 1, 1989.

    Examples
    --------
    >>> from skdeep.layers import Conv2D
    >>> Conv2D(16, 3).out_shape((28, 28, 1))
    (28, 28, 16)
    >>> Conv2D(16, 3).parameters((28, 28, 1))["weight"].shape
    (9, 16)
    """

    n_axes = 3


@dataclass(frozen=True)
class LocallyConnected2D(_Convolution):
    """As a convolution, but each place has weights of its own for the patch around it.

    Parameters
    ----------
    filters : int
        Channels of the output.
    size : int
        Side of a patch.
    stride : int, default=1
        Distance from patch to patch.
    padding : {'same', 'valid'}, default='same'
        Whether zeros around the image let every pixel have a patch, or patches stay inside.
    activation : str, skdeep.activations.Activation or None, default='relu'
    intercept : bool, default=True

    Examples
    --------
    >>> from skdeep.layers import LocallyConnected2D
    >>> LocallyConnected2D(4, 3).parameters((8, 8, 1))["weight"].shape
    (64, 9, 4)
    """

    n_axes = 3

    def parameters(self, shape):
        H, W, filters = self.out_shape(shape)
        weight = (H * W, self.size**2 * shape[-1], filters)
        intercept = {"intercept": Parameter((H * W, filters), "intercept")}
        return {"weight": Parameter(weight, "weight")} | (intercept if self.intercept else {})

    def forward(self, xp, p, x, training=None):
        window = self._window(x.shape[2:])
        cut = patches(xp, x, window)
        M, n, H, W, size = cut.shape
        # The place leads, so that each has a product of its own.
        flat = xp.permute_dims(xp.reshape(cut, (M, n, H * W, size)), (0, 2, 1, 3))
        z = flat @ p["weight"]
        if self.intercept:
            z = z + p["intercept"][:, :, None, :]
        z = xp.reshape(xp.permute_dims(z, (0, 2, 1, 3)), (M, n, H, W, -1))
        return z, (flat, p["weight"], window, x.shape)

    def backward(self, xp, p, saved, dy):
        flat, weight, window, shape = saved
        M, n, H, W, filters = dy.shape
        dz = xp.permute_dims(xp.reshape(dy, (M, n, H * W, filters)), (0, 2, 1, 3))
        grads = {"weight": xp.matrix_transpose(flat) @ dz}
        if self.intercept:
            grads["intercept"] = xp.sum(dz, axis=2)

        def to_input():
            dp = xp.permute_dims(dz @ xp.matrix_transpose(weight), (0, 2, 1, 3))
            return patches_backward(xp, xp.reshape(dp, (M, n, H, W, -1)), window, shape)

        return grads, to_input
