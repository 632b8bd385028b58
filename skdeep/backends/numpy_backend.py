"""NumPy on the CPU, the reference and the default.

The overrides below write into buffers that are allocated once a fit: at the size of a mini-batch,
allocating costs as much as computing. Those of networks serve plain ones (``Network.plain``), and
leave all others, and sparse rows, to the generic functions.
"""

from functools import cached_property

import array_api_compat.numpy as xp
import numpy as np
import scipy.sparse as sp

from .. import draws, network
from ..layers import convolution, dense
from ..overrides import chosen
from ..solvers.full_batch import objective
from ..solvers.minibatch import step as minibatch
from ..solvers.perceptron import compiled as perceptron_compiled
from ..solvers.perceptron import solve as perceptron
from . import numpy_draws
from .base import Backend
from .numpy_elementwise import ACTIVATIONS_IN_PLACE, CACHED_NUMBERS, OPTIMIZER_OVERRIDES

# Scores of a block of rows: a few arrays of so many numbers stay in the L2 cache.
CACHED_SCORES = 65536


class NumpyBackend(Backend):
    """NumPy with overrides over reused buffers; one instance serves one fit in one thread."""

    def __init__(self):
        super().__init__("numpy", "cpu", xp)
        self._buffers, self._plans = {}, {}
        self.overrides |= {
            **OPTIMIZER_OVERRIDES,
            dense.affine: affine,
            network.forward: self.forward,
            network.value_and_grad: self.value_and_grad,
            network.backpropagate: self.backpropagate,
            network.hidden_layers: self.hidden_layers,
            convolution.patches: patches,
            convolution.patches_backward: patches_backward,
            draws.levels: numpy_draws.levels,
            draws.masks: numpy_draws.masks,
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
        """Override of ``minibatch.gather``. Rows of a sparse A stay sparse for a single model."""
        if sp.issparse(A):
            rows = A[idx.ravel()]
            return rows if len(idx) == 1 else rows.toarray().reshape(*idx.shape, -1)
        out = self.buffer(("gather", id(A)), (*idx.shape, *A.shape[1:]), A.dtype)
        # The indices are known to be in bounds; "clip" lets NumPy write to `out` directly.
        return np.take(A, idx, axis=0, out=out, mode="clip")

    def forward(self, xp, net, theta, X):
        """Override of ``network.forward``: a block of rows at a time, activations in place."""
        if net.unscaled is not None and not sp.issparse(X):
            return self.forward(xp, net.unscaled, self._folded(net, theta), X)
        if sp.issparse(X) or not net.plain:
            return network.forward.__wrapped__(xp, net, theta, X)
        plan, n = _Plan(net, theta), X.shape[-2]
        scores = np.empty((len(theta), net.units[-1], n), dtype=theta.dtype)
        rows = max(1, min(n, CACHED_NUMBERS * 8 // max(net.units[1:])))
        outs = [np.empty((len(theta), units, rows), theta.dtype) for units in net.units[1:]]
        for start in range(0, n, rows):
            h = X[..., start : start + rows, :].mT
            layers = zip(plan.weights, plan.intercepts, outs, strict=True)
            for i, (W, b, out) in enumerate(layers):
                h = np.matmul(W.mT, h, out=out[..., : h.shape[-1]])
                if b is not None:
                    h += b
                if i < len(net.activations):
                    h, _ = self._in_place(net.activations[i].forward)(np, h)
            scores[..., start : start + rows] = h
        return scores.mT

    def value_and_grad(self, xp, net, theta, X, y, w, l2):
        """Override of ``network.value_and_grad``."""
        return self.backpropagate(xp, net, theta, X, y, w, l2)[:3]

    def backpropagate(self, xp, net, theta, X, y, w, l2, masks=None):
        """Override of ``network.backpropagate``: the same products, written in place.

        The gradient it returns is overwritten by the next call.
        """
        if net.unscaled is not None and not sp.issparse(X):
            return self._scaled(xp, net, theta, X, y, w, l2, masks)
        if sp.issparse(X) or not net.plain:
            return network.backpropagate.__wrapped__(xp, net, theta, X, y, w, l2, masks)
        masks = [None if i is None or not masks else masks[i] for i in net.dropped]
        masks = [None if mask is None else mask.mT for mask in masks]
        plan = self._plan(net, theta, X.shape[-2])
        inputs, saved = self._pass(net, plan, X, masks)
        value, dz = chosen(xp, net.loss.value_and_grad)(np, inputs.pop().mT, y, w)
        dz = dz.mT
        for i, layer in reversed(list(enumerate(plan.layers))):
            layer.weigh(inputs[i], dz)
            if i > 0:
                dh = layer.pull(dz)
                if masks[i] is not None:
                    dh *= masks[i]
                dz = self._in_place(net.activations[i - 1].backward)(np, saved[i - 1], dh)

        np.multiply(plan.decayed, l2, out=plan.decay)
        plan.decayed_grad += plan.decay
        penalty = 0.5 * np.vecdot(plan.decay, plan.decayed)
        return value, penalty, plan.grad, None

    def hidden_layers(self, xp, net, theta, X):
        """Override of ``network.hidden_layers``, in the buffers of ``backpropagate``."""
        if net.unscaled is not None and not sp.issparse(X):
            return self.hidden_layers(xp, net.unscaled, self._folded(net, theta), X)
        if sp.issparse(X) or not net.plain:
            return network.hidden_layers.__wrapped__(xp, net, theta, X)
        plan = self._plan(net, theta, X.shape[-2])
        inputs, _ = self._pass(net, plan, X, [None] * len(plan.layers))
        return [h.mT for h in inputs[1:-1]]

    def _folded(self, net, theta):
        """The parameters behind a scale of each input, with the scales in the first weights."""
        weights, scale = _first(net, theta)
        folded = self.buffer("folded", theta[:, : -scale.shape[1]].shape, theta.dtype)
        folded[...] = theta[:, : -scale.shape[1]]
        _first(net, folded)[0][...] = weights * scale
        return folded

    def _scaled(self, xp, net, theta, X, y, w, l2, masks):
        """``backpropagate`` behind a scale of each input: of products of weights, not of rows."""
        weights, scale = _first(net, theta)
        folded, p = self._folded(net, theta), scale.shape[1]
        value, _, inner, _ = self.backpropagate(xp, net.unscaled, folded, X, y, w, 0.0 * l2, masks)
        grad = self.buffer("scaled", theta.shape, theta.dtype)
        grad[:, :-p] = inner
        of_weights, of_scale = _first(net, grad)
        np.vecdot(weights, of_weights, out=of_scale[..., 0])
        of_weights *= scale
        decay = l2 * theta[:, : net.n_weights]
        grad[:, : net.n_weights] += decay
        return value, 0.5 * np.vecdot(decay, theta[:, : net.n_weights]), grad, None

    def _pass(self, net, plan, X, masks):
        """Inputs of all layers and raw scores, units before rows; what the activations saved."""
        h, inputs, saved = X.mT, [], []
        for i, (layer, mask) in enumerate(zip(plan.layers, masks, strict=True)):
            # The activation stays as it was for the way back; its masked copy goes on.
            inputs.append(h if mask is None else h * mask)
            h = layer.push(inputs[-1])
            if i < len(net.activations):
                h, s = self._in_place(net.activations[i].forward)(np, h)
                saved.append(s)
        return [*inputs, h], saved

    def _in_place(self, fn):
        """The override of an activation's function, or the form that overwrites its argument."""
        return self.overrides.get(fn) or ACTIVATIONS_IN_PLACE.get(fn, fn)

    def _plan(self, net, theta, n_rows):
        key = net, theta.shape, theta.dtype, n_rows
        plan = self._plans.get(key)
        if plan is None or plan.theta is not theta:
            plan = self._plans[key] = _Plan(net, theta, n_rows, plan)
        return plan


class _Layer:
    """A layer's part in a step on ``n_rows`` rows, written into buffers."""

    def __init__(self, weight_grad, intercept_grad, n_rows):
        self.weight_grad, self.intercept_grad = weight_grad, intercept_grad
        (M, self.fan_in, fan_out), dtype = weight_grad.shape, weight_grad.dtype
        self.z = np.empty((M, fan_out, n_rows), dtype)

    def bind(self, weights, intercept) -> None:
        """Work on these views of theta from now on."""
        self.weights, self.intercept = weights, intercept

    def push(self, h):
        """Raw scores of the layer's units."""
        z = np.matmul(self.weights.mT, h, out=self.z)
        if self.intercept is not None:
            z += self.intercept
        return z

    def weigh(self, h, dz) -> None:
        """Gradients of the parameters."""
        np.matmul(h, dz.mT, out=self.weight_grad)
        if self.intercept is not None:
            np.add.reduce(dz, axis=-1, keepdims=True, out=self.intercept_grad)

    @cached_property
    def dh(self):
        M, _, n_rows = self.z.shape
        return np.empty((M, self.fan_in, n_rows), self.z.dtype)

    def pull(self, dz):
        """Gradient of the layer's inputs."""
        return np.matmul(self.weights, dz, out=self.dh)


class _OneOutput(_Layer):
    """Pulls by an outer product, at which BLAS is slow: a second output, all zeros, is a detour."""

    @cached_property
    def pair(self):
        M, _, n_rows = self.z.shape
        dtype = self.z.dtype
        return np.zeros((M, self.fan_in, 2), dtype), np.zeros((M, 2, n_rows), dtype)

    def pull(self, dz):
        weights, dz_pair = self.pair
        weights[..., :1], dz_pair[:, :1] = self.weights, dz
        return np.matmul(weights, dz_pair, out=self.dh)


class _FewInputs(_Layer):
    """Intercepts are the weights of one more input: copying few inputs is less than adding them."""

    def __init__(self, weight_grad, intercept_grad, n_rows):
        super().__init__(weight_grad, intercept_grad, n_rows)
        (M, fan_in, fan_out), dtype = weight_grad.shape, weight_grad.dtype
        self.inputs = np.ones((M, fan_in + 1, n_rows), dtype)
        self.parameters, self.grad = np.empty((2, M, fan_in + 1, fan_out), dtype)

    def push(self, h):
        self.inputs[:, :-1] = h
        self.parameters[:, :-1], self.parameters[:, -1:] = self.weights, self.intercept.mT
        return np.matmul(self.parameters.mT, self.inputs, out=self.z)

    def weigh(self, h, dz) -> None:
        np.matmul(self.inputs, dz.mT, out=self.grad)
        self.weight_grad[...], self.intercept_grad[...] = self.grad[:, :-1], self.grad[:, -1:].mT


class _Plan:
    """Views of theta and, to train on batches of ``n_rows`` rows, the buffers of a step.

    Units lie before rows in all of them. ``old`` is a plan for another theta of the same shape.
    """

    def __init__(self, net, theta, n_rows=None, old=None):
        self.theta = theta
        self.weights, self.intercepts = _views(net, theta)
        if n_rows is None:
            return
        if old is None:
            self.grad = np.empty_like(theta)
            self.decay = np.empty((len(theta), net.n_weights), theta.dtype)
            grads = zip(*_views(net, self.grad), strict=True)
            self.layers = [
                _layer_kind(i, net, n_rows)(*grad, n_rows) for i, grad in enumerate(grads)
            ]
        else:
            self.grad, self.decay, self.layers = old.grad, old.decay, old.layers
        for layer, W, b in zip(self.layers, self.weights, self.intercepts, strict=True):
            layer.bind(W, b)
        self.decayed = theta[:, : self.decay.shape[1]]
        self.decayed_grad = self.grad[:, : self.decay.shape[1]]


def _first(net, theta):
    """Views of theta: the first weights ``(M, p, units)``, and what stands last, ``(M, p, 1)``.

    Those are the scales of the inputs where theta has them.
    """
    p, units = net.unscaled.units[:2]
    return theta[:, : p * units].reshape(len(theta), p, units), theta[:, -p:, None]


def _views(net, theta):
    """Views of theta: weights ``(M, fan_in, fan_out)`` and intercepts ``(M, fan_out, 1)``."""
    parts = [p for p in network.split(np, net, theta) if p]
    intercepts = [p.get("intercept") for p in parts]
    return [p["weight"] for p in parts], [None if b is None else b[:, :, None] for b in intercepts]


def _layer_kind(i, net, n_rows):
    fan_in, fan_out = net.units[i : i + 2]
    if i == 0 and net.intercept and 4 * fan_in <= min(fan_out, n_rows):
        return _FewInputs
    return _OneOutput if fan_out == 1 else _Layer


def affine(xp, X, W, b):
    """Override of ``affine``: in single precision BLAS is faster at rows times few columns."""
    if X.ndim == 2 and len(W) == 1 and b is not None and W.dtype == np.float32:
        z = X @ W[0]
        z += b.reshape(-1)
        return z[None]
    return dense.affine.__wrapped__(xp, X, W, b)


def patches(xp, x, window):
    """Override of ``patches``: one copy, of a view."""
    height, width, stride, top, bottom, left, right = window
    if top or bottom or left or right:
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(2, 3))
    view = view[:, :, ::stride, ::stride].transpose(0, 1, 2, 3, 5, 6, 4)
    return view.reshape(*view.shape[:4], -1)


def patches_backward(xp, dp, window, shape):
    """Override of ``patches_backward``: added up in place."""
    height, width, stride, top, bottom, left, right = window
    M, n, H, W, C = shape
    dx = np.zeros((M, n, H + top + bottom, W + left + right, C), dp.dtype)
    parts = dp.reshape(*dp.shape[:4], height, width, C)
    for i in range(height):
        rows = slice(i, i + stride * dp.shape[2], stride)
        for j in range(width):
            dx[:, :, rows, j : j + stride * dp.shape[3] : stride] += parts[:, :, :, :, i, j]
    return dx[:, :, top : top + H, left : left + W]


def loss_along(xp, loss, raw, change, step, y, w):
    """Override of ``objective.loss_along``: by blocks of rows, whose passes stay in the cache."""
    (M, n, k), dtype = raw.shape, raw.dtype
    rows = max(1, CACHED_SCORES // (M * k))
    new_raw, dz = (np.empty((M, k, n), dtype).mT for _ in range(2))
    value, slope = np.zeros(M, dtype), np.zeros(M, dtype)
    for start in range(0, n, rows):
        some = slice(start, start + rows)
        v, new_raw[:, some], dz[:, some], s = objective.loss_along.__wrapped__(
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
