"""What a training step is made of, in few launches: where arrays are small, those are its cost."""

import math

import torch

from .. import activations, losses, optimizers
from ..layers import dense
from ..network import decayed as generic_decayed
from ..solvers.minibatch.step import gather as generic_gather


def gather(xp, A, idx):
    """Override of ``step.gather``."""
    return torch.index_select(A, 0, idx.reshape(-1)).view(*idx.shape, *A.shape[1:])


def affine(xp, X, W, b):
    """Override of ``dense.affine``: rows before units in memory."""
    if X.ndim == 2:
        if W.shape[0] > 1:
            return dense.affine.__wrapped__(xp, X, W, b)
        X = X[None]
    if X.shape[0] != W.shape[0]:
        X = X.expand(W.shape[0], *X.shape[1:])
    return torch.bmm(X, W) if b is None else torch.baddbmm(b, X, W)


def relu(xp, z):
    h = torch.relu(z)
    return h, h


def relu_backward(xp, h, dh):
    return torch.ops.aten.threshold_backward(dh, h, 0)


def tanh_backward(xp, h, dh):
    return torch.ops.aten.tanh_backward(dh, h)


def logistic(xp, z):
    h = torch.sigmoid(z)
    return h, h


def logistic_backward(xp, h, dh):
    return torch.ops.aten.sigmoid_backward(dh, h)


def decayed(xp, net, theta, grad, l2):
    weights = theta[:, : net.n_weights]
    grad[:, : net.n_weights].addcmul_(weights, l2)
    half = torch.baddbmm(l2[:, :, None], weights[:, None, :], weights[..., None], beta=0, alpha=0.5)
    return half[:, 0, 0] * l2[:, 0], grad


def _mean(per_output, w):
    """Sums over outputs, and over rows under their weights."""
    M = per_output.shape[0]
    w = w.expand(M, -1)
    if w.shape[1] == 1:
        return per_output.reshape(M, -1).sum(1) * w[:, 0]
    return torch.bmm(w[:, None, :], per_output).sum((1, 2))


def squared_error(xp, raw, y, w):
    residual = raw - y
    grad = residual * w[..., None]
    M = raw.shape[0]
    return 0.5 * torch.linalg.vecdot(residual.reshape(M, -1), grad.reshape(M, -1)), grad


def binary_log_loss(xp, raw, y, w):
    # Beyond the threshold the normaliser is the score, to the last bit.
    per_output = torch.nn.functional.softplus(raw, threshold=40.0).addcmul_(y, raw, value=-1.0)
    return _mean(per_output, w), torch.sigmoid(raw).sub_(y).mul_(w[..., None])


def log_loss(xp, raw, y, w):
    log_p = torch.log_softmax(raw, -1)
    grad = torch.exp(log_p).sub_(y).mul_(w[..., None])
    return _mean(log_p.mul_(y).neg_(), w), grad


def adam(xp, theta, grad, slots, t, lr, *, beta_1, beta_2, epsilon):
    m, v = slots
    rate = lr * (1.0 - beta_2**t) ** 0.5 / (1.0 - beta_1**t)
    m.lerp_(grad, 1.0 - beta_1)
    v.lerp_(grad * grad, 1.0 - beta_2)
    root = torch.sqrt(v).add_(epsilon)
    if isinstance(rate, float):
        # What is beyond the type is infinite there, as in a product; torch would refuse it.
        rate = rate if rate <= torch.finfo(theta.dtype).max else math.inf
        return theta.addcdiv_(m, root, value=-rate), slots
    return theta.addcmul_(torch.div(m, root, out=root), rate, value=-1.0), slots


OVERRIDES = {
    generic_gather: gather,
    generic_decayed: decayed,
    dense.affine: affine,
    activations.relu: relu,
    activations.relu_backward: relu_backward,
    activations.tanh_backward: tanh_backward,
    activations.logistic: logistic,
    activations.logistic_backward: logistic_backward,
    losses.squared_error: squared_error,
    losses.binary_log_loss: binary_log_loss,
    losses.log_loss: log_loss,
    optimizers.adam: adam,
}
