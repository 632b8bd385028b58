"""Where fits of networks start: by their own draws, or where another of the kind does."""

import copy
import pickle
from dataclasses import replace
from functools import cache
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

from ..base import take_over
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
        return {
            "theta": theta.astype(problem.dtype, copy=False),
            "rngs": rngs,
            "rows": None if rows is None else [rows] * self.n_members,
            "validation": None if validation is None else [validation] * self.n_members,
        }

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
