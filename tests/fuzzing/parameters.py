"""Parameters drawn from what an estimator says it accepts, so that a new one is drawn as well."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import _param_validation as validation

from skdeep import losses, optimizers, rates, schedules
from skdeep.activations import ACTIVATIONS
from skdeep.layers import Conv1D, Dense, Dropout, Residual
from skdeep.neural_network import Autoencoder
from skdeep.regularization import ClipNorm, GaussianNoise, MaxNorm
from skdeep.solvers import get_solver

from .draws import Draw

# Share of the parameters that a case sets.
SET = 0.15


def quartic(raw, y):
    """A loss as a plain function, which only torch differentiates."""
    return ((raw - y) ** 4).sum(-1)


def small_weights(rng, fan_in, fan_out, activation):
    """An initializer of the user's own."""
    return 0.1 * rng.standard_normal((fan_in, fan_out)), np.zeros(fan_out)


# Values for parameters whose constraint does not say what would be sensible, or lasts too long.
VALUES: dict[str, list] = {
    "backend": ["auto", "numpy", "torch", "torch"],
    "batch_size": ["auto", 1, 7, 16, 64],
    "hidden_layer_sizes": [(), (3,), (4, 3), 5, [3], np.array([4])],
    "activation": [
        *sorted(ACTIVATIONS.keys() - {"step"}), ACTIVATIONS["tanh"], ["relu"], ("tanh", "elu"),
    ],
    "learning_rate": [*schedules.SCHEDULES, schedules.Step(factor=2.0, every=2)],
    "dropout_schedule": ["constant", "flat_cosine", schedules.Cosine(min_rate=0.1)],
    "weight_init": [
        "auto", "normal", "he_normal", "glorot_uniform", "orthogonal", "ntk", small_weights,
    ],
    "layer_rates": [None, "ntk", rates.NTK(intercept=1.0)],
    "dropout": [0.0, 0.3, [0.2], [0.1, 0.4]],
    "layers": [
        None, [], [Dense(3)], (Dense(4, "tanh"), Dropout(0.2), Dense(3, "swish")),
        [Conv1D(2, 2), Dense(3)], [Dense(4), Residual([Dense(4), Dense(4, None)])],
    ],
    "input_shape": [None, None, None, None, (3,)],
    "regularizers": [None, (), [MaxNorm(0.5)], [GaussianNoise(0.1), ClipNorm(1.0)]],
    "max_iter": [1, 3, 8],
    "max_fun": [1, 20, 15000],
    "n_iter_no_change": [1, 2, 5],
    "n_members": [1, 2, 3],
    "n_components": [None, 1, 2],
    "n_jobs": [None, 1],
    "verbose": [0, 1, True],
    "validation_fraction": [0.1, 0.3, 0.5],
    "random_state": [0, 1, 2**31 - 1, None, np.random.RandomState(3)],
    "priors": [None, [0.5, 0.5], [0.2, 0.3, 0.5], [0.0, 1.0], [2.0, 1.0, 1.0]],
    "covariance_estimator": [None, LedoitWolf(), EmpiricalCovariance()],
    "pretraining": [None, Autoencoder(max_iter=2), Autoencoder(max_iter=1, loss="huber")],
    "scoring": [None, "accuracy", "neg_log_loss", "r2", get_scorer("balanced_accuracy")],
    "cv": [None, 2, 3, KFold(3), StratifiedKFold(2, shuffle=True, random_state=0)],
    "Cs": [1, 3, [0.1, 10.0], (1.0,), np.array([1e-3, 1.0, 1e3])],
    "l1_ratios": ["warn", None, (0,), (0.0,), (1.0,), [0.2, 0.8]],
    "class_weight": [None, "balanced", "balanced", {0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0, 2: 0.5}],
}  # fmt: skip
# What stands for "an object with these methods" and for "a function", by the parameter.
OBJECTS: dict[str, list] = {
    "loss": [losses.Huber(2.0), losses.Quantile(0.3), losses.LOSSES["absolute_error"]],
    "solver": [optimizers.OPTIMIZERS["rmsprop"], optimizers.OPTIMIZERS["nesterov"]],
}
FUNCTIONS: dict[str, list] = {"loss": [quartic]}
INSTANCES: dict[str, list] = {"solver": [get_solver("lbfgs")]}


def _from_interval(rng, constraint, name, default):
    """Around the default, over three powers of ten, within the interval."""
    if constraint.type is Integral:
        return int((constraint.left or 0) + rng.integers(0, 10))
    usual = default if isinstance(default, float) and default > 0 else 0.5
    value = float(usual * 10.0 ** rng.uniform(-1.5, 1.5))
    return value if value in constraint else float(rng.uniform(0.01, 0.99))


def _from_options(rng, constraint, name, default):
    return rng.choice(np.array(sorted(constraint.options, key=str), dtype=object))


# A value under each kind of constraint: ``(rng, constraint, name, default) -> value``.
BY_CONSTRAINT: dict[type, Callable] = {
    validation.Interval: _from_interval,
    validation.StrOptions: _from_options,
    validation.Options: _from_options,
    validation.HasMethods: lambda rng, _, name, default: rng.choice(_objects(OBJECTS[name])),
    validation._Callables: lambda rng, _, name, default: rng.choice(_objects(FUNCTIONS[name])),
    validation._InstancesOf: lambda rng, _, name, default: rng.choice(_objects(INSTANCES[name])),
    validation._Booleans: lambda rng, *_: bool(rng.integers(2)),
    validation._NoneConstraint: lambda *_: None,
}


def _objects(values: list) -> np.ndarray:
    """A list as one axis, even if its items have lengths."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def draw_value(draw: Draw, name: str, constraints: list, default) -> Any:
    """A value that the constraints accept."""
    if name in VALUES:
        return draw.one_of(name, VALUES[name])
    constraint = validation.make_constraint(draw.one_of(f"{name}: kind", constraints))
    return BY_CONSTRAINT[type(constraint)](draw.rng(name), constraint, name, default)


def draw_parameters(cls: type, draw: Draw, always: dict[str, list]) -> dict[str, Any]:
    """Some of the parameters at values that are accepted; those in ``always`` from its lists."""
    defaults = cls().get_params(deep=False)
    params = {name: draw.one_of(name, values) for name, values in always.items()}
    for name, constraints in cls._parameter_constraints.items():
        if name in defaults and name not in params and draw.chance(f"{name}: set", SET):
            params[name] = draw_value(draw, name, constraints, defaults[name])
    return params


def draw_extreme(cls: type, draw: Draw) -> dict[str, Any]:
    """One parameter at an end of what is accepted, or far out."""
    ends = [0, 1, 0.0, 1e-300, 1e-8, 1.0 - 1e-12, 1.0, 1e8, 1e300, np.inf]
    reachable = {}
    for name, constraints in cls._parameter_constraints.items():
        intervals = [one for one in constraints if type(one) is validation.Interval]
        reachable[name] = [
            end for end in ends if any(one.is_satisfied_by(end) for one in intervals)
        ]
    name = draw.one_of("extreme", [name for name, values in reachable.items() if values])
    return {name: draw.one_of("extreme value", reachable[name])}


def draw_invalid(cls: type, draw: Draw) -> dict[str, Any]:
    """One parameter at a value that is not accepted."""
    name = draw.one_of("invalid", cls._parameter_constraints)
    known = [validation.make_constraint(one) for one in cls._parameter_constraints[name]]
    ranges = [one for one in known if isinstance(one, validation.Interval | validation.StrOptions)]
    candidates = [NotAccepted(), np.nan, *map(validation.generate_invalid_param_val, ranges)]
    refused = [v for v in candidates if not any(one.is_satisfied_by(v) for one in known)]
    return {name: draw.one_of("invalid value", refused)}


class NotAccepted:
    """What no parameter takes."""
