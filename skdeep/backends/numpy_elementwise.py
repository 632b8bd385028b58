"""Activations and optimizers that write in place.

Those of the optimizers are overrides: a step owns its arrays. Those of the activations overwrite
what they are given, which only who allocated it may ask for.
"""

import numpy as np

from .. import activations, optimizers

# Parameters updated at a time: what a pass of the optimizer touches then stays in the L2 cache.
CACHED_NUMBERS = 16384


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


def _own(rate, block):
    """The rates of a block of parameters, if each has its own."""
    return rate[:, block] if np.ndim(rate) and rate.shape[1] > 1 else rate


def adam(xp, theta, grad, slots, t, lr, *, beta_1, beta_2, epsilon):
    rate = lr * (1.0 - beta_2**t) ** 0.5 / (1.0 - beta_1**t)
    for start in range(0, theta.shape[1], CACHED_NUMBERS):
        block = slice(start, start + CACHED_NUMBERS)
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
        g *= _own(rate, block)
        theta[:, block] -= g
    return theta, slots


def adamw(xp, theta, grad, slots, t, lr, *, beta_1, beta_2, epsilon, weight_decay):
    theta *= 1.0 - lr * weight_decay
    epsilon_hat = epsilon * (1.0 - beta_2**t) ** 0.5
    return adam(xp, theta, grad, slots, t, lr, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon_hat)


def adagrad(xp, theta, grad, slots, t, lr, *, epsilon):
    for start in range(0, theta.shape[1], CACHED_NUMBERS):
        block = slice(start, start + CACHED_NUMBERS)
        g, v = grad[:, block], slots[0][:, block]
        scratch = np.square(g)
        v += scratch
        np.sqrt(v, out=scratch)
        scratch += epsilon
        g /= scratch
        g *= _own(lr, block)
        theta[:, block] -= g
    return theta, slots


def rmsprop(xp, theta, grad, slots, t, lr, *, rho, epsilon):
    for start in range(0, theta.shape[1], CACHED_NUMBERS):
        block = slice(start, start + CACHED_NUMBERS)
        g, v = grad[:, block], slots[0][:, block]
        scratch = np.square(g)
        scratch *= 1.0 - rho
        v *= rho
        v += scratch
        np.sqrt(v, out=scratch)
        scratch += epsilon
        g /= scratch
        g *= _own(lr, block)
        theta[:, block] -= g
    return theta, slots


def adadelta(xp, theta, grad, slots, t, lr, *, rho, epsilon):
    for start in range(0, theta.shape[1], CACHED_NUMBERS):
        block = slice(start, start + CACHED_NUMBERS)
        g, v, u = grad[:, block], slots[0][:, block], slots[1][:, block]
        scratch = np.square(g)
        scratch *= 1.0 - rho
        v *= rho
        v += scratch
        # The step, sqrt((u + epsilon) / (v + epsilon)) * g, with one root for the two.
        np.add(u, epsilon, out=scratch)
        scratch /= v + epsilon
        np.sqrt(scratch, out=scratch)
        g *= scratch
        np.square(g, out=scratch)
        scratch *= 1.0 - rho
        u *= rho
        u += scratch
        g *= _own(lr, block)
        theta[:, block] -= g
    return theta, slots


ACTIVATIONS_IN_PLACE = {
    activations.relu: relu,
    activations.relu_backward: relu_backward,
    activations.tanh: tanh,
    activations.tanh_backward: tanh_backward,
    activations.logistic: logistic,
    activations.logistic_backward: logistic_backward,
}

OPTIMIZER_OVERRIDES = {
    optimizers.sgd: sgd,
    optimizers.nesterov: nesterov,
    optimizers.adam: adam,
    optimizers.adamw: adamw,
    optimizers.adagrad: adagrad,
    optimizers.rmsprop: rmsprop,
    optimizers.adadelta: adadelta,
}
