"""Where fits of networks start: by draws of their own, or where another of the kind does."""

import copy
import pickle
from dataclasses import replace
from functools import cache
from numbers import Integral

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import check_random_state

from .. import network
from ..base import take_over
from ..initializers import INITIALIZERS
from ..layers import Activation, BatchNorm, Dense
from ..problem import Problem
from ..stochastic import NUMBERS

# Attributes that the data decide on, and what is drawn at first.
OF_DATA = (
    *("n_features_in_", "feature_names_in_", "classes_", "_label_binarizer", "n_outputs_"),
    "pretraining_",
)


@cache
def _kinds(cls: type) -> list[str]:
    """Names of the parameters in which estimators of one kind agree."""
    return [name for name in cls._get_param_names() if name not in NUMBERS]


def frozen(value):
    """What is equal for equal parameters, and where that cannot be told for the same alone."""
    if isinstance(value, list | tuple):
        return type(value), *map(frozen, value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


class Starting:
    """Part of the networks: what is drawn before the first epoch."""

    def _drawn_start(self, problem: Problem, rng, incremental, X_val, y_val) -> dict:
        """What of a problem is drawn: parameters if it has none, and rows to validate on."""
        # The first member is the model that would be trained alone.
        # The others' seeds come from a copy of its generator, which must not draw for them.
        seeds = copy.deepcopy(rng).randint(2**31, size=self.n_members - 1)
        rngs = [rng, *map(np.random.RandomState, seeds)]
        theta, X, weights = problem.theta, problem.X, problem.weights
        if theta is None:
            theta = self._initial_theta(problem.net, rngs, X, weights)
        rows, validation = self._hold_out(X, problem.y, weights, incremental, X_val, y_val, rng)
        theta = theta.astype(problem.dtype, copy=False)
        return {"theta": theta, "rngs": rngs, "rows": rows, "validation": validation}

    def _initial_theta(self, net, rngs, X, sample_weight) -> np.ndarray:
        """Parameters (n_members, P), each member's drawn by its own generator, layer by layer."""
        thetas = []
        for rng in rngs:
            theta = self._drawn(net, rng)
            if self.pretraining is not None:
                weights = network.matrices(np, net, theta)
                intercepts = network.of_role(np, net, theta, "intercept")
                for i, (W, b) in enumerate(self._pretrain(net, X, sample_weight, rng)):
                    weights[i][0], intercepts[i][0] = W, b
            thetas.append(theta)
        return np.concatenate(thetas)

    def _drawn(self, net, rng) -> np.ndarray:
        """Parameters (1, P) before any training."""
        initializer = self.weight_init
        initializer = initializer if callable(initializer) else INITIALIZERS[initializer]
        output = getattr(initializer, "output", initializer)
        views, taken_over = [], None
        for layer, shape, name in zip(net.layers, net.shapes, self._names(net), strict=False):
            drawn, one = [], output if layer is net.layers[-1] else initializer

            def draw(fan_in, fan_out, one=one, name=name, drawn=drawn):
                drawn.append(one(rng, fan_in, fan_out, name))
                return drawn[-1]

            values = layer.initial(shape, draw)
            if isinstance(layer, BatchNorm) and taken_over is not None:
                values["intercept"] = taken_over
            taken_over = drawn[0][1] if len(drawn) == 1 else None
            views.append({key: np.asarray(value)[None] for key, value in values.items()})
        return network.join(np, net, views)

    def _names(self, net) -> list[str]:
        """The activation that each layer leads to, as initializers know it: by name, or not.

        As in scikit-learn the output has the last one's.
        """
        functions = [one.function for one in net.layers if isinstance(one, Activation)]
        functions.append(functions[-1] if functions else getattr(self, "activation", "relu"))
        names, seen = [], 0
        for layer in net.layers:
            names.append(functions[seen] if isinstance(functions[seen], str) else "")
            seen += isinstance(layer, Activation)
        return names

    def _pretrain(self, net, X, sample_weight, rng) -> list:
        """Weights and intercepts of the hidden layers, from an autoencoder of the same units."""
        hidden = [net.layers[layer] for layer, _ in net.weights[:-1]]
        functions = [layer.function for layer in net.layers if isinstance(layer, Activation)]
        dense = all(isinstance(layer, Dense) for layer in hidden)
        if not (dense and hidden and len(hidden) == len(functions)):
            raise ValueError(
                "pretraining is for dense hidden layers, each with its activation: "
                f"{self._shaped_by} names none, or others too."
            )
        coder = clone(self.pretraining).set_params(
            hidden_layer_sizes=net.units[1:-1],
            activation=functions[0] if len(set(functions)) == 1 else functions,
        )
        if coder.random_state is None:
            coder.set_params(random_state=rng.randint(2**31))
        # This fit has validated its own parameters only, and passes no judgement on the coder's.
        with config_context(skip_parameter_validation=False):
            self.pretraining_ = coder.fit(X, sample_weight=sample_weight)
        n_hidden = len(functions)
        return list(zip(coder.coefs_[:n_hidden], coder.intercepts_[:n_hidden], strict=True))

    def _kind(self):
        if self.warm_start or hasattr(self, "_skl_callbacks"):
            return None
        return type(self), *(frozen(getattr(self, name)) for name in _kinds(type(self)))

    def _following(self, leader, problem: Problem, X_val, y_val) -> Problem:
        """The problem where that of another of the kind is given, on the same data."""
        take_over(self, leader, OF_DATA)
        self._check_solver(X_val)
        if isinstance(self.random_state, Integral) and self.random_state == leader.random_state:
            drawn = {"rngs": pickle.loads(pickle.dumps(problem.rngs))}  # half of deepcopy's time
        else:
            rng = check_random_state(self.random_state)
            unstarted = replace(problem, theta=None)
            drawn = self._drawn_start(unstarted, rng, False, X_val, y_val)
        return self._with_numbers(replace(problem, **drawn), False)
