"""Initial weights of a layer, drawn on the CPU so that every backend starts from the same ones."""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState

Initializer = Callable[[RandomState, int, int, str], tuple[np.ndarray, np.ndarray]]


def auto(rng: RandomState, fan_in: int, fan_out: int, activation: str):
    """scikit-learn's draw: Glorot and Bengio (2010), uniform, the intercepts within the same bound.

    The bound is ``sqrt(6 / (fan_in + fan_out))``, or with 2 in place of 6 for logistic units.
    """
    bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + fan_out))
    W = rng.uniform(-bound, bound, (fan_in, fan_out))
    return W, rng.uniform(-bound, bound, fan_out)


INITIALIZERS: dict[str, Initializer] = {
    "auto": auto,
}
