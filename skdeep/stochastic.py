"""The parameters of mini-batch training that the estimators share, and what they amount to."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from ._sklearn import HasMethods, Interval, Options, StrOptions, _AvailableIfDescriptor
from .network import Network
from .optimizers import OPTIMIZERS, Optimizer
from .regularization import L1, Regularizer, taken_apart
from .schedules import SCHEDULES
from .solvers import Solver

# Values of `solver` that train on mini-batches.
STOCHASTIC_SOLVERS = tuple(name for name in OPTIMIZERS if name != "nesterov")

# An optimizer, or a solver that sees all rows at once.
OWN_SOLVERS = [HasMethods(["step"]), Solver]

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
    "shuffle": ["boolean"],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
}

# Parameters on which nothing depends that comes before the first epoch, but for random numbers.
NUMBERS = frozenset(
    (*CONSTRAINTS, "alpha", "max_iter", "max_fun", "tol", "l1_ratio", "clip_norm", "max_norm")
) | {"label_smoothing", "layer_rates", "dropout_schedule", "verbose", "random_state"}


def is_stochastic(solver) -> bool:
    """Whether a solver trains on mini-batches: a name, or an optimizer of the user's own."""
    return solver in STOCHASTIC_SOLVERS or hasattr(solver, "step")


def optimizer_key(estimator) -> str | Optimizer:
    """The optimizer's name in the table, or itself."""
    if estimator.solver == "sgd" and estimator.nesterovs_momentum:
        return "nesterov"
    return estimator.solver


def decouples(solver) -> bool:
    """Whether an optimizer's decay is its own, apart from the gradient's."""
    entry = OPTIMIZERS.get(solver) if isinstance(solver, str) else solver
    return "weight_decay" in getattr(entry, "hyper", ())


class OfStochasticSolvers(_AvailableIfDescriptor):
    """Decorator: a method that an estimator has only with a solver that can go on training.

    Like ``available_if``, but the error says what Python says of a class without the method, as
    scikit-learn's logistic regression is, and then why.
    """

    def __init__(self, fn, check=None, attribute_name=None):
        super().__init__(fn, check, attribute_name or fn.__name__)

    def _check(self, obj, owner):
        if not is_stochastic(obj.solver):
            raise AttributeError(
                f"{type(obj).__name__!r} object has no attribute {self.attribute_name!r}: "
                f"solver={obj.solver!r} is not stochastic, as {', '.join(STOCHASTIC_SOLVERS)} are."
            )


def column(value) -> np.ndarray:
    """A number of one model, with the model axis."""
    return np.array([[float(value)]])


def settings(
    estimator,
    net: Network,
    n_rows: int,
    alpha: float,
    l1_ratio: float,
    incremental: bool,
    regularizers: Sequence[Regularizer] = (),
) -> tuple[dict, dict]:
    """Hyper-parameters and options of the mini-batch loop, as the estimator's parameters say.

    Parameters
    ----------
    estimator : estimator with the parameters in ``CONSTRAINTS``
        And with `solver`, `max_iter`, `tol` and `verbose`.
    n_rows : int
        Rows to train on; no batch is larger.
    alpha : float
        Factor of the penalty.
    l1_ratio : float
        Share of the L1 norm in it.
    incremental : bool
        Whether to make a single epoch.
    regularizers : sequence of Regularizer, optional
        Those beside the L1 norm.
    """
    batch_size = 200 if estimator.batch_size == "auto" else estimator.batch_size
    in_gradient = 0.0 if decouples(estimator.solver) else alpha
    numbers = {
        "l2": in_gradient * (1.0 - l1_ratio),
        "learning_rate_init": estimator.learning_rate_init,
        "max_iter": 1 if incremental else estimator.max_iter,
        "planned_epochs": estimator.max_iter,
        "tol": estimator.tol,
        "n_iter_no_change": estimator.n_iter_no_change,
    }
    l1 = in_gradient * l1_ratio
    kinds, of_regularizers = taken_apart([*regularizers, L1(l1)] if l1 > 0 else regularizers)
    hyper = {name: column(value) for name, value in numbers.items()} | of_regularizers
    hyper |= optimizer_hyper(estimator, net, alpha)
    options = {
        "optimizer": optimizer_key(estimator),
        "regularizers": kinds,
        "schedule": schedule(estimator),
        "batch_size": int(min(batch_size, n_rows)),
        "shuffle": bool(estimator.shuffle),
        "loss_scale": 1.0,
        "early_stopping": False,
        "verbose": bool(estimator.verbose),
    }
    return hyper, options


def optimizer_hyper(estimator, net: Network, alpha: float) -> dict[str, np.ndarray]:
    """The optimizer's own numbers, each with a leading axis of one model."""
    key, hyper = optimizer_key(estimator), {}
    optimizer = OPTIMIZERS[key] if isinstance(key, str) else key
    for name in getattr(optimizer, "hyper", ()):
        if name == "weight_decay":
            # Decoupled decay is for the weights; intercepts and scales are spared.
            hyper[name] = alpha * (np.arange(net.n_parameters) < net.n_weights)[None]
        elif not hasattr(estimator, name):
            raise ValueError(
                f"solver={optimizer!r} takes {name!r}, which {type(estimator).__name__} has not: "
                "numbers that are no parameters of the estimator belong in the step."
            )
        else:
            hyper[name] = column(getattr(estimator, name))
    return hyper


def schedule(estimator):
    """The schedule of the learning rate: an entry of the table, or the user's own callable."""
    name = estimator.learning_rate
    if name in SGD_SCHEDULES and estimator.solver != "sgd":
        name = "constant"
    if name == "invscaling":
        return SCHEDULES[name](power_t=estimator.power_t)
    return name if callable(name) else SCHEDULES[name]()
