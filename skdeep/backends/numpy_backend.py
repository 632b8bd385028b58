"""NumPy on the CPU, the reference and the default.

The twins below write into buffers that are allocated once a fit: at the size of a mini-batch,
allocating costs as much as computing.
"""

import array_api_compat.numpy as xp
import numpy as np
import scipy.sparse as sp

from .. import network
from ..solvers import minibatch, objective, perceptron, perceptron_compiled
from .base import Backend
from .numpy_twins import BLOCK, TWINS

# Scores of a block of rows: a few arrays of so many numbers stay in the L2 cache.
CACHED = 65536


class NumpyBackend(Backend):
    """NumPy with twins over reused buffers; one instance serves one fit in one thread."""

    def __init__(self):
        super().__init__("numpy", "cpu", xp)
        self._buffers, self._plans = {}, {}
        self.fused = {
            **TWINS,
            network.affine: affine,
            network.forward: self.forward,
            network.value_and_grad: self.value_and_grad,
            network.backpropagate: self.backpropagate,
            minibatch.gather: self.gather,
            objective.loss_along: loss_along,
            perceptron.train: perceptron_compiled.train,
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

    def forward(self, xp, net, theta, X):
        """Twin of ``network.forward``: a block of rows at a time, activations in place."""
        if sp.issparse(X) or net.batch_norm:
            return network.forward(xp, net, theta, X)
        plan, n = _Plan(net, theta), X.shape[-2]
        scores = np.empty((len(theta), net.units[-1], n), dtype=theta.dtype)
        rows = min(n, max(1, BLOCK * 8 // max(net.units[1:])))
        outs = [np.empty((len(theta), units, rows), theta.dtype) for units in net.units[1:]]
        for start in range(0, n, rows):
            h = X[..., start : start + rows, :].mT
            layers = zip(plan.weights, plan.intercepts, outs, strict=True)
            for i, (W, b, out) in enumerate(layers):
                h = np.matmul(W.mT, h, out=out[..., : h.shape[-1]])
                if b is not None:
                    h += b
                if i < len(net.activations):
                    h, _ = self.kernel(net.activations[i].forward)(np, h)
            scores[..., start : start + rows] = h
        return scores.mT

    def value_and_grad(self, xp, net, theta, X, y, w, l2):
        """Twin of ``network.value_and_grad``."""
        return self.backpropagate(xp, net, theta, X, y, w, l2)[:3]

    def backpropagate(self, xp, net, theta, X, y, w, l2, masks=None):
        """Twin of ``network.backpropagate``: the same products, written in place.

        The gradient it returns is overwritten by the next call.
        """
        if sp.issparse(X) or net.batch_norm or net.tied:
            return network.backpropagate(xp, net, theta, X, y, w, l2, masks)
        masks = [None if mask is None else mask.mT for mask in masks or [None] * len(net.units[1:])]
        plan = self._plan(net, theta, X.shape[-2])
        h, saved = X.mT if masks[0] is None else X.mT * masks[0], []
        inputs = [h]
        for i, (W, b, z) in enumerate(zip(plan.weights, plan.intercepts, plan.z, strict=True)):
            h = np.matmul(W.mT, h, out=z)
            if b is not None:
                h += b
            if i < len(net.activations):
                h, s = self.kernel(net.activations[i].forward)(np, h)
                saved.append(s)
                # The activation stays as it was for the way back; its masked copy goes on.
                h = h if masks[i + 1] is None else h * masks[i + 1]
                inputs.append(h)

        value, dz = net.loss.value_and_grad(np, h.mT, y, w)
        dz = dz.mT
        for i in reversed(range(len(inputs))):
            np.matmul(inputs[i], dz.mT, out=plan.weight_grads[i])
            if net.intercept:
                np.add.reduce(dz, axis=-1, keepdims=True, out=plan.intercept_grads[i])
            if i > 0:
                # A product over a single output is an outer one, which BLAS is slow at.
                product = np.multiply if dz.shape[-2] == 1 else np.matmul
                dh = product(plan.weights[i], dz, out=plan.dh[i])
                if masks[i] is not None:
                    dh *= masks[i]
                dz = self.kernel(net.activations[i - 1].backward)(np, saved[i - 1], dh)

        np.multiply(plan.decayed, l2, out=plan.decay)
        plan.decayed_grad += plan.decay
        penalty = 0.5 * np.vecdot(plan.decay, plan.decayed)
        return value, penalty, plan.grad, None

    def _plan(self, net, theta, n_rows):
        key = net, theta.shape, theta.dtype, n_rows
        plan = self._plans.get(key)
        if plan is None or plan.theta is not theta:
            plan = self._plans[key] = _Plan(net, theta, n_rows, plan)
        return plan


class _Plan:
    """Views of theta and, to train on batches of ``n_rows`` rows, the buffers of a step.

    Units lie before rows in all of them. ``old`` is a plan for another theta of the same shape.
    """

    def __init__(self, net, theta, n_rows=None, old=None):
        M, dtype = len(theta), theta.dtype
        self.theta = theta
        self.weights, intercepts = network.layers(np, net, theta)
        self.intercepts = [None if b is None else b.mT for b in intercepts]
        if n_rows is None:
            return
        if old is None:
            self.z = [np.empty((M, units, n_rows), dtype) for units in net.units[1:]]
            self.dh = [None] + [np.empty((M, units, n_rows), dtype) for units in net.units[1:-1]]
            self.grad = np.empty(theta.shape, dtype)
            self.decay = np.empty((M, network.n_weights(net)), dtype)
        else:
            self.z, self.dh, self.grad, self.decay = old.z, old.dh, old.grad, old.decay
        self.weight_grads, intercept_grads = network.layers(np, net, self.grad)
        self.intercept_grads = [None if g is None else g.mT for g in intercept_grads]
        self.decayed = theta[:, : self.decay.shape[1]]
        self.decayed_grad = self.grad[:, : self.decay.shape[1]]


def affine(xp, X, W, b):
    """Twin of ``network.affine``: in single precision BLAS is faster at rows times few columns."""
    if X.ndim == 2 and len(W) == 1 and b is not None and W.dtype == np.float32:
        z = X @ W[0]
        z += b.reshape(-1)
        return z[None]
    return network.affine(xp, X, W, b)


def loss_along(xp, loss, raw, change, step, y, w):
    """Twin of ``objective.loss_along``: by blocks of rows, whose passes stay in the cache."""
    (M, n, k), dtype = raw.shape, raw.dtype
    rows = max(1, CACHED // (M * k))
    new_raw, dz = (np.empty((M, k, n), dtype).mT for _ in range(2))
    value, slope = np.zeros(M, dtype), np.zeros(M, dtype)
    for start in range(0, n, rows):
        some = slice(start, start + rows)
        v, new_raw[:, some], dz[:, some], s = objective.loss_along(
            xp,
            loss,
            raw[:, some],
            change[:, some],
            step,
            y[..., some, :],
            w if w.shape[1] == 1 else w[:, some],
        )
        value += v
        slope += s
    return value, new_raw, dz, slope


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
