"""Overrides of convolutions and pooling by torch's own."""

import torch

from ..layers import convolution, pooling


def convolve(xp, x, W, window):
    """Override of ``convolve``, the models of a stack as groups."""
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


def largest(xp, x, size):
    """Override of ``largest``."""
    M, n, H, W, C = x.shape
    image = x.permute(0, 1, 4, 2, 3).reshape(M * n, C, H, W)
    top, places = torch.nn.functional.max_pool2d(image, size, return_indices=True)
    y = top.reshape(M, n, C, *top.shape[2:]).permute(0, 1, 3, 4, 2)
    return y, (image, places, x.shape)


def largest_backward(xp, saved, dy, size):
    """Override of ``largest_backward``."""
    image, places, (M, n, H, W, C) = saved
    grad = dy.permute(0, 1, 4, 2, 3).reshape(places.shape).to(image.dtype)
    dx = torch.ops.aten.max_pool2d_with_indices_backward(
        *(grad, image, (size, size), (size, size), (0, 0), (1, 1), False, places)
    )
    return dx.reshape(M, n, C, H, W).permute(0, 1, 3, 4, 2)


OVERRIDES = {
    convolution.convolve: convolve,
    convolution.convolve_backward: convolve_backward,
    pooling.largest: largest,
    pooling.largest_backward: largest_backward,
}
