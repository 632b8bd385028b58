"""First-order optimizers: one small function each, over a stack of flat parameter vectors.

``step(xp, theta, grad, slots, t, lr, **hyper) -> (theta, slots)``: ``theta``, ``grad`` and slots
have shape ``(M, P)``; the step count ``t`` (from 1), the learning rate ``lr`` and each
hyper-parameter have shape ``(M, 1)`` or are numbers, and ``lr`` may have that of ``theta``. A step
owns its arrays and may work in place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["OPTIMIZERS", "Optimizer"]


class Optimizer(NamedTuple):
    """An update rule.

    Parameters
    ----------
    slots : int
        How many arrays of theta's shape the rule keeps, all zero at first.
    step : callable
        See the module.
    hyper : tuple of str
        Names of the hyper-parameters that ``step`` takes.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.optimizers import OPTIMIZERS
    >>> sgd = OPTIMIZERS["sgd"]
    >>> theta, slots = sgd.step(np, np.ones((1, 2)), np.ones((1, 2)), [np.zeros((1, 2))], 1, 0.1,
    ...                         momentum=0.9)
    >>> theta.tolist()
    [[0.9, 0.9]]
    """

    slots: int
    step: Callable[..., tuple[Any, list]]
    hyper: tuple[str, ...] = ()


def sgd(xp, theta, grad, slots, t, lr, *, momentum):
    """Gradient descent with momentum (Polyak, 1964)."""
    velocity = momentum * slots[0] - lr * grad
    return theta + velocity, [velocity]


def nesterov(xp, theta, grad, slots, t, lr, *, momentum):
    """Nesterov's momentum, in the form of Sutskever et al. (2013)."""
    velocity = momentum * slots[0] - lr * grad
    return theta + momentum * velocity - lr * grad, [velocity]


def adam(xp, theta, grad, slots, t, lr, *, beta_1, beta_2, epsilon):
    """Adam (Kingma and Ba, 2015), the bias corrections folded into the learning rate.

    So does scikit-learn; ``epsilon`` then stands outside the correction of ``v``, the paper's
    "epsilon hat": torch's epsilon is this one over ``sqrt(1 - beta_2 ** t)``.
    """
    m = beta_1 * slots[0] + (1.0 - beta_1) * grad
    v = beta_2 * slots[1] + (1.0 - beta_2) * (grad * grad)
    rate = lr * (1.0 - beta_2**t) ** 0.5 / (1.0 - beta_1**t)
    return theta - rate * m / (xp.sqrt(v) + epsilon), [m, v]


def adamw(xp, theta, grad, slots, t, lr, *, beta_1, beta_2, epsilon, weight_decay):
    """Adam beside a decay that the gradient has no part in (Loshchilov and Hutter, 2019).

    ``epsilon`` is added to the corrected root, as in torch. A ``weight_decay`` of theta's shape
    spares intercepts with zeros.
    """
    theta = theta - lr * weight_decay * theta
    epsilon_hat = epsilon * (1.0 - beta_2**t) ** 0.5
    return adam(xp, theta, grad, slots, t, lr, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon_hat)


def adagrad(xp, theta, grad, slots, t, lr, *, epsilon):
    """AdaGrad (Duchi, Hazan and Singer, 2011)."""
    v = slots[0] + grad * grad
    return theta - lr * grad / (xp.sqrt(v) + epsilon), [v]


def rmsprop(xp, theta, grad, slots, t, lr, *, rho, epsilon):
    """RMSProp (Tieleman and Hinton, 2012); ``rho`` is torch's ``alpha``."""
    v = rho * slots[0] + (1.0 - rho) * (grad * grad)
    return theta - lr * grad / (xp.sqrt(v) + epsilon), [v]


def adadelta(xp, theta, grad, slots, t, lr, *, rho, epsilon):
    """Adadelta (Zeiler, 2012), whose own steps ``lr`` scales; in the paper it is 1."""
    v = rho * slots[0] + (1.0 - rho) * (grad * grad)
    delta = xp.sqrt(slots[1] + epsilon) / xp.sqrt(v + epsilon) * grad
    u = rho * slots[1] + (1.0 - rho) * (delta * delta)
    return theta - lr * delta, [v, u]


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(1, sgd, ("momentum",)),
    "nesterov": Optimizer(1, nesterov, ("momentum",)),
    "adam": Optimizer(2, adam, ("beta_1", "beta_2", "epsilon")),
    "adamw": Optimizer(2, adamw, ("beta_1", "beta_2", "epsilon", "weight_decay")),
    "adagrad": Optimizer(1, adagrad, ("epsilon",)),
    "rmsprop": Optimizer(1, rmsprop, ("rho", "epsilon")),
    "adadelta": Optimizer(2, adadelta, ("rho", "epsilon")),
}
