"""The estimators to try, and what is known of each."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.neural_network

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import (
    Autoencoder,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)
from skdeep.stochastic import STOCHASTIC_SOLVERS

from . import agreements
from .parameters import VALUES


@dataclass(frozen=True)
class Subject:
    """An estimator to try.

    Parameters
    ----------
    ours : type
    theirs : type or None
        scikit-learn's class of the same name.
    target : {"labels", "numbers", "nothing"}
    agrees : callable or None
        How our answers agree with scikit-learn's, a function in ``agreements``.
    always : dict of str to list
        Parameters that every case sets, to keep it short or to try them more often.
    varied : dict of str to callable
        Parameters in which the models of a stack differ, from the model's number.
    extras : callable
        More arguments of ``fit``: ``(X as it is passed, data) -> keywords``.
    convex : bool
        Whether there is one optimum, which solvers that see all rows at once reach.
    sparse : bool
        Whether it takes sparse rows.
    sparse_is_dense : bool
        Whether sparse rows give the answers of dense ones.
    """

    ours: type
    theirs: type | None
    target: str = "labels"
    agrees: Callable | None = None
    always: dict = field(default_factory=dict)
    varied: dict = field(default_factory=dict)
    extras: Callable = lambda X, data: {}
    convex: bool = False
    sparse: bool = True
    sparse_is_dense: bool = True


SEEDED = {"random_state": lambda i: i, "alpha": lambda i: 0.1 * i}
SHORT = {
    "max_iter": [1, 2, 5],
    "hidden_layer_sizes": [(), (3,), (4, 3), 5],
    "random_state": [0, 1],
}
LAYERED = {"max_iter": [1, 2, 5], "random_state": [0, 1], "layers": VALUES["layers"]}


def start(X, data) -> dict:
    """Where a perceptron is to start from."""
    n_models = 1 if len(data.classes) == 2 else len(data.classes)
    return {"coef_init": np.ones((n_models, data.X.shape[1])), "intercept_init": np.ones(n_models)}


SUBJECTS = {
    subject.ours.__name__: subject
    for subject in [
        Subject(
            Perceptron,
            sklearn.linear_model.Perceptron,
            agrees=agreements.coefficients,
            always={"max_iter": [1, 5, 30]},
            varied={"alpha": lambda i: 10.0**-i, "random_state": lambda i: i},
            extras=start,
            sparse_is_dense=False,  # as in scikit-learn, whose intercept learns slower there
        ),
        Subject(
            LinearDiscriminantAnalysis,
            sklearn.discriminant_analysis.LinearDiscriminantAnalysis,
            agrees=agreements.scores,
            always={"solver": ["svd", "lsqr", "eigen"], "dtype": [None, None, "float32"]},
            varied={"shrinkage": lambda i: 0.9 / i},
            convex=True,
        ),
        Subject(
            LogisticRegression,
            sklearn.linear_model.LogisticRegression,
            agrees=agreements.optimum,
            always={
                "max_iter": [5, 100, 100, 100],
                "solver": [
                    *("lbfgs", "lbfgs", "newton-cg", "newton-cholesky", "liblinear", "sag"),
                    *("saga", "saga", *STOCHASTIC_SOLVERS),
                ],
                "l1_ratio": [0.0, 0.0, 0.0, 1.0, 0.5],
                "C": [1e-3, 0.1, 1.0, 1.0, 30.0, 1e3, 1e5, np.inf],
                "random_state": [0],
            },
            varied={"C": lambda i: 2.0**-i},
            convex=True,
        ),
        Subject(
            LogisticRegressionCV,
            sklearn.linear_model.LogisticRegressionCV,
            agrees=agreements.optimum,
            always={
                "max_iter": [100],
                "Cs": [1, 3, [0.1, 10.0], (1.0,)],
                "cv": [2, 3],
                "l1_ratios": [(0,), (0.0,), (1.0,), [0.2, 0.8], "warn"],
                "use_legacy_attributes": [False, True],
                "scoring": [None, "neg_log_loss"],
                "random_state": [0],
            },
            varied={"intercept_scaling": lambda i: 1.0 + i},
            convex=True,
        ),
        Subject(
            MLPClassifier,
            sklearn.neural_network.MLPClassifier,
            agrees=agreements.layers,
            always=SHORT,
            varied=SEEDED,
            extras=lambda X, data: {"X_val": X, "y_val": data.y},
        ),
        Subject(
            MLPRegressor,
            sklearn.neural_network.MLPRegressor,
            target="numbers",
            agrees=agreements.layers,
            always=SHORT,
            varied=SEEDED,
            extras=lambda X, data: {"X_val": X, "y_val": data.y},
        ),
        Subject(
            NetworkClassifier,
            None,
            always=LAYERED,
            varied=SEEDED,
            extras=lambda X, data: {"X_val": X, "y_val": data.y},
            sparse=False,  # but where the first layer is dense
        ),
        Subject(
            NetworkRegressor,
            None,
            target="numbers",
            always=LAYERED,
            varied=SEEDED,
            extras=lambda X, data: {"X_val": X, "y_val": data.y},
            sparse=False,
        ),
        Subject(
            Autoencoder,
            None,
            target="nothing",
            always={**SHORT, "hidden_layer_sizes": [(3,), (4, 2), 2]},
            varied=SEEDED,
            extras=lambda X, data: {"X_val": X},
            sparse=False,
        ),
    ]
}
