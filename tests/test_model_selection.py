"""The functions of ``skdeep.model_selection`` give what scikit-learn's give."""

import numpy as np
import pytest
import sklearn.model_selection
from numpy.testing import assert_allclose
from sklearn.datasets import make_classification
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdeep.model_selection
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression
from skdeep.model_selection.rebinding import rebind
from skdeep.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = make_classification(200, 6, n_informative=4, n_classes=3, random_state=0)
MODELS = [
    LinearDiscriminantAnalysis("lsqr", shrinkage=0.1),
    LogisticRegression(),
    MLPClassifier((5,), max_iter=5, random_state=0),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


def both(function, *args, **kwargs):
    return [
        getattr(package, function)(*args, **kwargs)
        for package in (skdeep.model_selection, sklearn.model_selection)
    ]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_cross_validate(model):
    settings = {"return_train_score": True, "return_estimator": True, "return_indices": True}
    ours, theirs = both("cross_validate", model, X, y, cv=3, **settings)
    assert ours.keys() == theirs.keys()
    for name in ("test_score", "train_score"):
        assert_allclose(ours[name], theirs[name], atol=1e-12)
    for a, b in zip(ours["estimator"], theirs["estimator"], strict=True):
        assert vars(a).keys() == vars(b).keys()
        assert_allclose(a.predict_proba(X), b.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_cross_val_score(model, scoring):
    ours, theirs = both("cross_val_score", model, X, y, scoring=scoring)
    assert_allclose(ours, theirs, atol=1e-9)


def test_cross_val_predict():
    ours, theirs = both("cross_val_predict", MODELS[1], X, y, method="predict_proba")
    assert_allclose(ours, theirs)


def test_validation_curve():
    settings = {"param_name": "C", "param_range": np.logspace(-3, 1, 4)}
    ours, theirs = both("validation_curve", LogisticRegression(), X, y, **settings)
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("model", MODELS[:2], ids=lambda m: type(m).__name__)
def test_learning_curve(model):
    ours, theirs = both("learning_curve", model, X, y, cv=ShuffleSplit(3, random_state=0))
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b, atol=1e-12)


def test_invalid_parameters_are_refused():
    with pytest.raises(ValueError, match="'cv' parameter of cross_validate"):
        skdeep.model_selection.cross_validate(MODELS[1], X, y, cv="five")


def test_all_names_of_scikit_learn():
    ours, theirs = skdeep.model_selection, sklearn.model_selection
    assert set(theirs.__all__) <= set(ours.__all__)
    assert ours.KFold is theirs.KFold and ours.GridSearchCV is not theirs.GridSearchCV
    assert all(hasattr(ours, name) for name in ours.__all__)


def test_scikit_learn_itself_is_left_alone():
    search = sklearn.model_selection._search
    assert search.Parallel.__module__ == "sklearn.utils.parallel"
    with pytest.raises(RuntimeError, match="uses no \\['Nothing'\\]"):
        rebind(sklearn.model_selection.cross_validate, Nothing=1)
