"""Overrides of convolutions by torch's own, the models of a stack as its groups."""

import torch

from ..layers.convolution import convolve as generic
from ..layers.convolution import convolve_backward as generic_backward


def convolve(xp, x, W, window):
    """Override of ``convolve``."""
    height, width, stride, *edges = window
    (M, n, H, across, C), filters = x.shape, W.shape[-1]
    image = x.permute(1, 0, 4, 2, 3).reshape(n, M * C, H, across)
    top, bottom, left, right = edges
    padding = (top, left)
    if (top, left) != (bottom, right):
        image, padding = torch.nn.functional.pad(image, (left, right, top, bottom)), (0, 0)
    kernel = W.reshape(M, height, width, C, filters).permute(0, 4, 3, 1, 2)
    kernel = kernel.reshape(M * filters, C, height, width)
    z = torch.nn.functional.conv2d(image, kernel, stride=stride, padding=padding, groups=M)
    y = z.reshape(n, M, filters, *z.shape[2:]).permute(1, 0, 3, 4, 2)
    return y, (image, kernel, padding, x.shape)


def convolve_backward(xp, saved, W, window, dz):
    """Override of ``convolve_backward``."""
    image, kernel, padding, shape = saved
    height, width, stride, top, _, left, _ = window
    (M, n, H, across, filters), C = dz.shape, shape[-1]
    grad = dz.permute(1, 0, 4, 2, 3).reshape(n, M * filters, H, across)

    def back(*wanted: bool):
        return torch.ops.aten.convolution_backward(
            *(grad, image, kernel, None, (stride, stride), padding, (1, 1), False, (0, 0), M),
            (*wanted, False),
        )

    def to_input():
        dx = back(True, False)[0]
        if dx.shape[2:] != shape[2:4]:  # what was added for lack of symmetry
            dx = dx[:, :, top : top + shape[2], left : left + shape[3]]
        return dx.reshape(n, M, C, *shape[2:4]).permute(1, 0, 3, 4, 2)

    dW = back(False, True)[1].reshape(M, filters, C, height, width).permute(0, 3, 4, 2, 1)
    return dW.reshape(M, height * width * C, filters), to_input


OVERRIDES = {generic: convolve, generic_backward: convolve_backward}
