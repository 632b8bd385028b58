"""Tensors in, tensors out, under ``array_api_dispatch=True``.

scikit-learn's checks see one instance of each estimator and its plain arrays; here are the other
solvers and kinds of targets, and what MLPs keep in lists. SciPy reads ``SCIPY_ARRAY_API`` when it
is imported: ``upstream/test_array_api.py`` runs these tests in a process that has it set.
"""

import os

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.utils import get_tags

from skdeep import array_api
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("SCIPY_ARRAY_API") != "1", reason="SCIPY_ARRAY_API=1 is not set"
    ),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

X, Y = make_classification(80, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
BINARY = (Y > 0).astype(int)
LABELS = make_multilabel_classification(80, 5, n_classes=3, random_state=0)[1]
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0}
CASES = {
    "Perceptron": (Perceptron(max_iter=5), Y),
    "Perceptron, two classes": (Perceptron(max_iter=5, early_stopping=True), BINARY),
    "LDA, svd": (LinearDiscriminantAnalysis(store_covariance=True), Y),
    "LDA, lsqr": (LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1), BINARY),
    "LDA, eigen": (LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1), Y),
    **{
        f"LogisticRegression, {solver}": (LogisticRegression(solver=solver, max_iter=5), target)
        for solver, target in (
            ("lbfgs", Y),
            ("lbfgs", BINARY),
            ("newton-cg", Y),
            ("newton-cholesky", Y),
            ("liblinear", BINARY),
            ("sag", Y),
            ("adam", Y),
        )
    },
    "LogisticRegression, l1": (LogisticRegression(solver="saga", l1_ratio=1.0, max_iter=9), Y),
    "MLPClassifier": (MLPClassifier(**SMALL), Y),
    "MLPClassifier, two classes": (MLPClassifier(**SMALL, early_stopping=True), BINARY),
    "MLPClassifier, labels": (MLPClassifier(**SMALL), LABELS),
    "MLPClassifier, members": (MLPClassifier(**SMALL, n_members=2, batch_norm=True), Y),
    "MLPClassifier, lbfgs": (MLPClassifier(**SMALL, solver="lbfgs"), Y),
    "MLPRegressor": (MLPRegressor(**SMALL), X[:, 0]),
    "MLPRegressor, two outputs": (MLPRegressor(**SMALL), X[:, :2]),
    "MLPRegressor, lm": (MLPRegressor(**SMALL, solver="lm"), X[:, 0]),
    "Autoencoder": (Autoencoder(**SMALL), X),
}
OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


def arrays(estimator):
    """The public fitted attributes that are arrays of numbers, those in lists one by one."""
    for name, value in vars(estimator).items():
        if not name.endswith("_") or name.startswith("_"):
            continue
        many = isinstance(value, list) and len(value) and hasattr(value[0], "shape")
        for i, item in enumerate(value if many else [value]):
            if getattr(item, "shape", None):
                yield f"{name}[{i}]" if many else name, item


def outputs_of(estimator):
    if getattr(estimator, "solver", None) == "lsqr":  # as in scikit-learn: there, but not for it
        return [name for name in OUTPUTS[:-1] if hasattr(estimator, name)]
    return [name for name in OUTPUTS if hasattr(estimator, name)]


def same(xp, ours, expected, what):
    assert type(ours) is type(xp.asarray([0.0])), what
    assert str(ours.dtype).rpartition(".")[2] == str(expected.dtype), what
    ours = np.asarray(ours)
    if what in ("scalings_", "transform"):  # a discriminant direction's sign carries no meaning
        ours, expected = np.abs(ours), np.abs(expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12, err_msg=what)


def can_go_on(estimator):
    return hasattr(estimator, "partial_fit") and not getattr(estimator, "early_stopping", False)


FITS = [(name, "fit") for name in CASES]
FITS += [(name, "partial_fit") for name, (estimator, _) in CASES.items() if can_go_on(estimator)]


@pytest.mark.parametrize("namespace", ["torch", "array_api_strict"])
@pytest.mark.parametrize("name, method", FITS)
def test_outputs_and_attributes_follow_the_input(name, method, namespace):
    xp = pytest.importorskip(namespace)
    estimator, y = CASES[name]
    plain, ours = clone(estimator), clone(estimator)
    classes = {}
    if method == "partial_fit" and is_classifier(plain):
        classes = {"classes": np.arange(y.shape[1]) if y.ndim > 1 else np.unique(y)}
    getattr(plain, method)(X, y, **classes)
    tensor = xp.asarray(X)
    with config_context(array_api_dispatch=True):
        getattr(ours, method)(tensor, xp.asarray(y), **classes)
        outputs = {name: getattr(ours, name)(tensor) for name in outputs_of(ours)}
        score = ours.score(tensor, xp.asarray(y))
    expected = dict(arrays(plain))
    found = dict(arrays(ours))
    assert found.keys() == expected.keys() and expected
    for name, value in expected.items():
        same(xp, found[name], value, name)
    assert outputs
    for name, value in outputs.items():
        same(xp, value, getattr(plain, name)(X), name)
    assert float(score) == pytest.approx(plain.score(X, y))


@pytest.mark.parametrize("estimator, y", CASES.values(), ids=CASES)
def test_the_tag_says_so(estimator, y):
    assert get_tags(estimator).array_api_support


def test_cross_validated_logistic_regression_does_not_say_so():
    """As scikit-learn's: its attributes may hold None, which no other namespace has."""
    assert not get_tags(LogisticRegressionCV()).array_api_support


def test_numpy_data_are_left_alone_under_dispatch():
    X, y = make_classification(random_state=0)
    with config_context(array_api_dispatch=True):
        assert array_api._space(X) is None
        assert array_api._space(X.tolist()) is None
        model = LogisticRegression().fit(X, y)
        assert type(model.coef_) is np.ndarray
