"""torch tensors as data, of types that NumPy has and of one that it has not."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_iris

from skdeep import fit_many
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

torch = pytest.importorskip("torch", reason="torch is not installed")
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
    MLPClassifier(**SMALL),
    MLPRegressor(**SMALL),
    Autoencoder(**SMALL),
]
OUTPUTS = ("predict", "predict_proba", "decision_function", "transform")
# Both types have these numbers.
HALF = torch.tensor(X).to(torch.bfloat16)
FULL = HALF.to(torch.float32)

each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)


def same_outputs(one, other, tol=0.0):
    for name in filter(lambda name: hasattr(one, name), OUTPUTS):
        result, expected = getattr(one, name)(HALF), getattr(other, name)(FULL)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tol * np.abs(expected).max())
        assert result.dtype == expected.dtype


@each
@pytest.mark.parametrize("dtype", [None, "float64"])
def test_bfloat16_is_computed_in_float32(estimator, dtype):
    half, full = (clone(estimator).set_params(dtype=dtype) for _ in range(2))
    half.fit(HALF, Y), full.fit(FULL, Y)
    assert half.backend_ == "torch:cpu"
    same_outputs(half, full)
    coef = getattr(half, "coef_", None)
    coef = half.coefs_[0] if coef is None else coef
    assert coef.dtype == (dtype or np.float32) or isinstance(half, LogisticRegressionCV)


@each
def test_bfloat16_in_targets_weights_and_validation_rows(estimator):
    classes = is_classifier(estimator)
    y = torch.tensor(Y) if classes else HALF[:, 0]
    weights = torch.linspace(1, 2, len(Y))
    params = {}
    if not classes or isinstance(estimator, MLPClassifier):
        params = {"X_val": HALF[::2], "y_val": y[::2]}
    if isinstance(estimator, Autoencoder):
        del params["y_val"]

    def fitted(convert):
        given = {name: convert(value) for name, value in params.items()}
        w = convert(weights.to(torch.bfloat16))
        return clone(estimator).fit(convert(HALF), convert(y), sample_weight=w, **given)

    same_outputs(fitted(lambda t: t), fitted(lambda t: t.float() if t.is_floating_point() else t))


def test_bfloat16_in_a_stack():
    models = [LogisticRegression(C=C) for C in (0.1, 1.0)] + [MLPClassifier(**SMALL)]
    weights = torch.linspace(1, 2, len(Y)).to(torch.bfloat16)
    for model in fit_many(models, HALF, torch.tensor(Y), sample_weight=weights):
        alone = clone(model).fit(FULL, Y, sample_weight=weights.float().numpy())
        same_outputs(model, alone, tol=1e-2)


@pytest.mark.parametrize("estimator", [MLPClassifier(**SMALL), Autoencoder(**SMALL)])
def test_models_of_bfloat16_predict_for_numpy_rows(estimator):
    model = clone(estimator).set_params(dtype="bfloat16").fit(torch.tensor(X), torch.tensor(Y))
    np.testing.assert_allclose(model._predict_raw(X), model._predict_raw(torch.tensor(X)))
    if isinstance(model, Autoencoder):
        decoded = model.inverse_transform(model.transform(torch.tensor(X)))
        np.testing.assert_allclose(decoded, model.predict(X))


@each
def test_longdouble_rows_are_computed_in_float64(estimator):
    estimator = clone(estimator).set_params(backend="torch")
    long, double = (clone(estimator).fit(rows, Y) for rows in (X.astype(np.longdouble), X))
    for name in filter(lambda name: hasattr(long, name), OUTPUTS):
        result = getattr(long, name)(X.astype(np.longdouble))
        np.testing.assert_array_equal(result, getattr(double, name)(X))
        assert result.dtype in (np.dtype("float64"), Y.dtype)


@pytest.mark.parametrize("cls", [MLPRegressor, MLPClassifier])
def test_models_of_a_plain_function_predict_for_numpy_rows(cls):
    """Only training needs the derivative, which torch alone supplies."""

    def quartic(raw, y):
        return ((raw - y) ** 4).sum(-1)

    X, y = np.random.RandomState(0).randn(40, 3), np.arange(40) % 3
    model = cls(loss=quartic, hidden_layer_sizes=4, max_iter=5, random_state=0)
    model.fit(torch.tensor(X), torch.tensor(y))
    expected = np.asarray(model.predict(torch.tensor(X)))
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-6)
