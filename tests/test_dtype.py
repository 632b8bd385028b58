"""The parameter ``dtype``: a name, NumPy's type of that name, or its dtype."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

from skdeep import fit_many
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.model_selection import GridSearchCV
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
ESTIMATORS = [
    Perceptron(),
    LogisticRegression(),
    LogisticRegression(solver="adam", max_iter=3, random_state=0),
    LogisticRegressionCV(
        Cs=[0.1, 1.0], cv=2, l1_ratios=(0.0,), scoring="accuracy", use_legacy_attributes=False
    ),
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis("lsqr"),
    MLPClassifier(**SMALL),
    MLPRegressor(**SMALL),
    Autoencoder(**SMALL),
]
each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)


def coef(model):
    return model.coefs_[0] if hasattr(model, "coefs_") else model.coef_


@each
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_types_and_dtypes_are_names(estimator, name, backend):
    named = clone(estimator).set_params(dtype=name, backend=backend).fit(X, Y)
    for dtype in (getattr(np, name), np.dtype(name)):
        model = clone(estimator).set_params(dtype=dtype, backend=backend)
        # It is kept as it was given, and so do copies.
        kept = clone(model).get_params()["dtype"]
        assert kept == dtype and type(kept) is type(dtype)
        model.fit(X, Y)
        assert model.dtype is dtype
        np.testing.assert_array_equal(coef(model), coef(named))
        assert coef(model).dtype == coef(named).dtype
        np.testing.assert_array_equal(model.predict(X), named.predict(X))
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(X), named.predict(X))


@each
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.dtype("complex64"), "single", 32])
def test_other_types_are_refused_by_name(estimator, dtype):
    with pytest.raises(ValueError, match="'dtype' parameter.*'float32'"):
        clone(estimator).set_params(dtype=dtype).fit(X, Y)


def test_unlike_forms_of_a_type_stack():
    models = [LogisticRegression(dtype=dtype) for dtype in ("float32", np.float32)]
    one, other = fit_many(models, X, Y)
    np.testing.assert_array_equal(one.coef_, other.coef_)


@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearDiscriminantAnalysis("lsqr")])
def test_types_in_a_search(estimator):
    grid = {"dtype": [None, "float32", np.float32, np.dtype("float64")]}
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == scores[2] and scores[0] == scores[3]
