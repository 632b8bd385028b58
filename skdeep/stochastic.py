"""The parameters of mini-batch training that the estimators share, and what they amount to."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .optimizers import OPTIMIZERS
from .schedules import SCHEDULES

# Values of `solver` that train on mini-batches.
STOCHASTIC_SOLVERS = ("sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop")

# scikit-learn's schedules act on sgd alone: the others adapt their steps themselves.
SGD_SCHEDULES = ("invscaling", "adaptive")

CONSTRAINTS: dict = {
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions(set(SCHEDULES)), callable],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "rho": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
}


def optimizer_name(estimator) -> str:
    """Name in the table of optimizers."""
    if estimator.solver == "sgd" and estimator.nesterovs_momentum:
        return "nesterov"
    return estimator.solver


def optimizer_hyper(estimator, n_weights: int, n_parameters: int) -> dict[str, np.ndarray]:
    """The optimizer's own numbers, each with a leading axis of one model."""
    hyper = {}
    for name in OPTIMIZERS[optimizer_name(estimator)].hyper:
        if name == "weight_decay":
            # Decoupled decay is for the weights; intercepts and scales are spared.
            hyper[name] = estimator.alpha * (np.arange(n_parameters) < n_weights)[None]
        else:
            hyper[name] = np.array([[float(getattr(estimator, name))]])
    return hyper


def schedule(estimator):
    """The schedule of the learning rate: an entry of the table, or the user's own callable."""
    name = estimator.learning_rate
    if callable(name):
        return name
    if name in SGD_SCHEDULES and estimator.solver != "sgd":
        name = "constant"
    numbers = {"power_t": estimator.power_t} if name == "invscaling" else {}
    return SCHEDULES[name](**numbers)
