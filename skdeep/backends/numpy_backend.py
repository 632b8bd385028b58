"""NumPy on the CPU, the reference and the default.

The twins below write into buffers that are allocated once a fit: at the size of a mini-batch,
allocating costs as much as computing.
"""

import array_api_compat.numpy as xp
import numpy as np
import scipy.sparse as sp

from .. import activations, network, optimizers
from ..solvers import minibatch
from .base import Backend

# Parameters updated at a time: what a pass of the optimizer touches then stays in the L2 cache.
BLOCK = 16384


class NumpyBackend(Backend):
    """NumPy with twins over reused buffers; one instance serves one fit in one thread."""

    def __init__(self):
        super().__init__("numpy", "cpu", xp)
        self._buffers = {}
        self.fused = {
            activations.relu: relu,
            activations.relu_backward: relu_backward,
            activations.tanh: tanh,
            activations.tanh_backward: tanh_backward,
            activations.logistic: logistic,
            activations.logistic_backward: logistic_backward,
            network.value_and_grad: self.value_and_grad,
            optimizers.sgd: sgd,
            optimizers.nesterov: nesterov,
            optimizers.adam: adam,
            minibatch.gather: self.gather,
        }

    def asarray(self, x, dtype=None):
        if sp.issparse(x):
            return x if dtype is None else x.astype(dtype, copy=False)
        return np.asarray(x, dtype=dtype)

    def buffer(self, role, shape, dtype):
        """An array to overwrite, the same one whenever role, shape and dtype recur."""
        key = role, shape, dtype
        if key not in self._buffers:
            self._buffers[key] = np.empty(shape, dtype=dtype)
        return self._buffers[key]

    def gather(self, xp, A, idx):
        """Twin of ``minibatch.gather``. Rows of a sparse A stay sparse for a single model."""
        if sp.issparse(A):
            rows = A[idx.ravel()]
            return rows if len(idx) == 1 else rows.toarray().reshape(*idx.shape, -1)
        out = self.buffer(("gather", id(A)), (*idx.shape, *A.shape[1:]), A.dtype)
        # The indices are known to be in bounds; "clip" lets NumPy write to `out` directly.
        return np.take(A, idx, axis=0, out=out, mode="clip")

    def value_and_grad(self, xp, net, theta, X, y, w, l2):
        """Twin of ``network.value_and_grad``: the same products, written in place."""
        if sp.issparse(X):
            return network.value_and_grad(xp, net, theta, X, y, w, l2)
        grad = self.buffer("grad", theta.shape, theta.dtype)
        weights, intercepts = network.layers(np, net, theta)
        weight_grads, intercept_grads = network.layers(np, net, grad)
        inputs, saved = [X], []
        for i, (W, b) in enumerate(zip(weights, intercepts, strict=True)):
            h = inputs[-1]
            shape = (len(W), W.shape[2], h.shape[-2])
            z = self.buffer(("z", i), shape, theta.dtype)
            np.matmul(W.mT, h.mT, out=z)
            if b is not None:
                z += b.mT
            if i < len(net.activations):
                z, s = self.kernel(net.activations[i].forward)(np, z)
                saved.append(s)
            inputs.append(z.mT)

        value, dz = net.loss.value_and_grad(xp, inputs.pop(), y, w)
        for i in reversed(range(len(weights))):
            np.matmul(inputs[i].mT, dz, out=weight_grads[i])
            if net.intercept:
                np.sum(dz, axis=-2, keepdims=True, out=intercept_grads[i])
            if i > 0:
                dh = self.buffer(("dh", i), inputs[i].mT.shape, theta.dtype)
                np.matmul(weights[i], dz.mT, out=dh)
                backward = self.kernel(net.activations[i - 1].backward)
                dz = backward(np, saved[i - 1], dh).mT

        decayed = theta[:, : network.n_weights(net)]
        scaled = self.buffer("decayed", decayed.shape, theta.dtype)
        np.multiply(decayed, l2, out=scaled)
        grad[:, : decayed.shape[1]] += scaled
        penalty = 0.5 * np.vecdot(scaled, decayed)
        return value, penalty, grad


def relu(xp, z):
    h = np.maximum(z, 0, out=z)
    return h, h


def relu_backward(xp, h, dh):
    return np.multiply(dh, h > 0, out=dh)


def tanh(xp, z):
    h = np.tanh(z, out=z)
    return h, h


def tanh_backward(xp, h, dh):
    # Nothing reads the activations once the gradient has come back through them.
    h *= h
    np.subtract(1, h, out=h)
    return np.multiply(dh, h, out=dh)


def logistic(xp, z):
    z *= 0.5
    h = np.tanh(z, out=z)
    h *= 0.5
    h += 0.5
    return h, h


def logistic_backward(xp, h, dh):
    dh *= h
    np.subtract(1, h, out=h)
    return np.multiply(dh, h, out=dh)


def sgd(xp, theta, grad, slots, t, lr, *, momentum):
    (velocity,) = slots
    velocity *= momentum
    grad *= lr
    velocity -= grad
    theta += velocity
    return theta, slots


def nesterov(xp, theta, grad, slots, t, lr, *, momentum):
    (velocity,) = slots
    velocity *= momentum
    grad *= lr
    velocity -= grad
    theta -= grad
    theta += np.multiply(velocity, momentum, out=grad)
    return theta, slots


def adam(xp, theta, grad, slots, t, lr, *, beta_1, beta_2, epsilon):
    rate = lr * (1.0 - beta_2**t) ** 0.5 / (1.0 - beta_1**t)
    for start in range(0, theta.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        g, m, v = grad[:, block], slots[0][:, block], slots[1][:, block]
        scratch = (1.0 - beta_1) * g
        m *= beta_1
        m += scratch
        np.square(g, out=g)
        g *= 1.0 - beta_2
        v *= beta_2
        v += g
        np.sqrt(v, out=g)
        g += epsilon
        np.divide(m, g, out=g)
        g *= rate
        theta[:, block] -= g
    return theta, slots


def make_backend(device: str | None, dtype: str | None) -> Backend:
    if device not in (None, "cpu"):
        raise ValueError(
            f"backend='numpy:{device}' has no such device: NumPy runs on the CPU only."
        )
    if dtype not in (None, "float32", "float64"):
        raise ValueError(
            f"dtype={dtype!r} is not available on backend='numpy': use 'float32' or 'float64', or "
            "backend='torch'."
        )
    return NumpyBackend()
