"""The same data and seed give the same model on every backend, one from outside included."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression

from skdeep import register_backend
from skdeep.backends.base import Backend
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier, MLPRegressor

MLP = {"hidden_layer_sizes": (8, 5), "max_iter": 15, "batch_size": 32, "random_state": 0}
SGD = {"solver": "sgd", "learning_rate_init": 0.05}
TIGHT = {"tol": 1e-8, "max_iter": 5000, "random_state": 0}

CLASSIFIERS = [
    Perceptron(random_state=0),
    Perceptron(random_state=0, penalty="elasticnet", alpha=0.003),
    Perceptron(random_state=0, early_stopping=True, class_weight="balanced"),
    LogisticRegression(**TIGHT),
    LogisticRegression(**TIGHT, C=np.inf),
    LogisticRegression(**TIGHT, solver="newton-cg"),
    LogisticRegression(**TIGHT, solver="newton-cholesky"),
    LogisticRegression(**TIGHT, solver="sag"),
    LogisticRegression(**TIGHT, solver="saga"),
    LogisticRegression(**TIGHT, solver="saga", l1_ratio=1),
    LogisticRegression(**TIGHT, solver="saga", l1_ratio=0.5, class_weight="balanced"),
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.2),
    MLPClassifier(**MLP),
    MLPClassifier(**MLP, activation="tanh", early_stopping=True),
    MLPClassifier(**MLP, **SGD),
    MLPClassifier(**MLP, **SGD, activation="logistic", learning_rate="adaptive"),
    MLPClassifier(**{**MLP, "max_iter": 30}, solver="lbfgs", activation="tanh", alpha=0.1),
]
BINARY_ONLY = [
    LogisticRegression(**TIGHT, solver="liblinear"),
    LogisticRegression(**TIGHT, solver="liblinear", l1_ratio=1),
]
REGRESSORS = [
    MLPRegressor(**MLP),
    MLPRegressor(**MLP, **SGD, learning_rate="invscaling", nesterovs_momentum=False),
    MLPRegressor(**{**MLP, "max_iter": 30}, solver="lbfgs", activation="tanh", alpha=0.1),
    MLPRegressor(**MLP, loss="poisson"),
]


def two_classes():
    return make_classification(150, 6, n_informative=4, n_redundant=0, flip_y=0.1, random_state=1)


def three_classes():
    return make_classification(
        150,
        6,
        n_informative=4,
        n_redundant=0,
        n_classes=3,
        n_clusters_per_class=1,
        flip_y=0.1,
        random_state=1,
    )


def regression():
    X, y = make_regression(150, 6, n_targets=2, random_state=1)
    return X, np.abs(y) / y.std()


def label(estimator):
    return " ".join(str(estimator).split())


def multi_label():
    return make_multilabel_classification(150, 6, random_state=1)


CASES = [
    *((estimator, data) for estimator in CLASSIFIERS for data in (two_classes, three_classes)),
    *((estimator, two_classes) for estimator in BINARY_ONLY),
    *((estimator, regression) for estimator in REGRESSORS),
    (MLPClassifier(**MLP), multi_label),
]
each_case = pytest.mark.parametrize(
    "estimator, data", CASES, ids=[f"{label(e)}-{d.__name__}" for e, d in CASES]
)


def fit(estimator, X, y, **params):
    model = clone(estimator).set_params(**params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def parameters(model):
    if hasattr(model, "coefs_"):
        return [*model.coefs_, *model.intercepts_]
    return [model.coef_, model.intercept_]


def assert_agree(model, reference, X, tolerance=1e-5):
    """Parameters and everything predicted from them agree, relative to the largest entry."""
    pairs = list(zip(parameters(model), parameters(reference), strict=True))
    # The sign of a discriminant direction carries no meaning, hence no `transform` here.
    for name in ("predict_proba", "decision_function"):
        assert hasattr(model, name) == hasattr(reference, name)
        if hasattr(reference, name):
            pairs.append((getattr(model, name)(X), getattr(reference, name)(X)))
    if not hasattr(reference, "classes_"):
        pairs.append((model.predict(X), reference.predict(X)))
    for ours, theirs in pairs:
        assert isinstance(ours, np.ndarray)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()
    if isinstance(reference, (Perceptron, MLPClassifier, MLPRegressor)):
        assert model.n_iter_ == reference.n_iter_


@each_case
def test_torch_agrees_with_numpy(estimator, data):
    pytest.importorskip("torch", reason="torch is not installed")
    X, y = data()
    reference = fit(estimator, X, y, backend="numpy")
    model = fit(estimator, X, y, backend="torch")
    assert (reference.backend_, model.backend_) == ("numpy", "torch:cpu")
    assert_agree(model, reference, X)


@pytest.mark.parametrize(
    "estimator",
    [
        Perceptron(random_state=0),
        LogisticRegression(**TIGHT),
        LogisticRegression(**TIGHT, solver="saga", l1_ratio=1),
        MLPClassifier(**MLP),
    ],
    ids=label,
)
def test_torch_agrees_with_numpy_on_sparse_input(estimator):
    pytest.importorskip("torch", reason="torch is not installed")
    X, y = three_classes()
    X = sparse.csr_array(X * (np.abs(X) > 0.5))
    reference = fit(estimator, X, y, backend="numpy")
    assert_agree(fit(estimator, X, y, backend="torch"), reference, X)


@pytest.mark.parametrize(
    "estimator",
    [
        Perceptron(random_state=0),
        LogisticRegression(),
        LinearDiscriminantAnalysis(),
        MLPClassifier(**MLP),
        MLPRegressor(**MLP),
    ],
    ids=lambda e: type(e).__name__,
)
def test_auto_follows_the_data(estimator):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, y = two_classes()
    on_numpy = fit(estimator, X, y)
    on_torch = fit(estimator, torch.asarray(X), torch.asarray(y))
    assert (on_numpy.backend_, on_torch.backend_) == ("numpy", "torch:cpu")
    assert_agree(on_torch, on_numpy, X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize(
    "estimator",
    [
        Perceptron(random_state=0),
        LogisticRegression(),
        LinearDiscriminantAnalysis(),
        MLPClassifier(**MLP),
        MLPRegressor(**MLP),
    ],
    ids=lambda e: type(e).__name__,
)
def test_dtype_overrides_that_of_the_input(estimator, given, dtype, backend):
    X, y = two_classes()
    model = fit(estimator, X.astype(given), y, backend=backend, dtype=dtype)
    assert parameters(model)[0].dtype == dtype
    unchanged = fit(estimator, X.astype(given), y, backend=backend)
    assert parameters(unchanged)[0].dtype == given


@pytest.mark.gpu
@each_case
def test_gpu_agrees_with_numpy(estimator, data):
    X, y = data()
    reference = fit(estimator, X, y, backend="numpy")
    model = fit(estimator, X, y, backend="torch:cuda")
    assert model.backend_ == "torch:cuda:0"
    assert_agree(model, reference, X)


@pytest.mark.gpu
def test_model_from_a_gpu_predicts_without_one():
    """What is fitted are NumPy arrays; only the string in `backend` asks for the device."""
    X, y = two_classes()
    model = fit(MLPClassifier(**MLP), X, y, backend="torch:cuda")
    moved = pickle.loads(pickle.dumps(model)).set_params(backend="numpy")
    assert_agree(moved, model, X)


# A backend from outside: array-api-strict refuses whatever the array-API standard does not promise,
# so what fits there is generic text indeed.

try:
    import array_api_strict as strict
except ModuleNotFoundError:
    strict = None


class StrictBackend(Backend):
    def asarray(self, x, dtype=None):
        if type(x).__module__.startswith("array_api_strict"):
            return x if dtype is None else strict.astype(x, getattr(strict, str(dtype)))
        x = x.toarray() if sparse.issparse(x) else np.asarray(x)
        return strict.asarray(x if dtype is None else x.astype(dtype))

    def to_numpy(self, x):
        return np.from_dlpack(x) if type(x).__module__.startswith("array_api_strict") else x


MADE = []


def make_strict(device, dtype):
    if device not in (None, "cpu"):
        raise ValueError(f"backend='strict:{device}' has no such device: there is 'strict:cpu'.")
    MADE.append(StrictBackend("strict", "cpu", strict))
    return MADE[-1]


@pytest.fixture
def strict_backend():
    from skdeep import backends

    if strict is None:
        pytest.skip("array-api-strict is not installed")
    register_backend("strict", make_strict)
    MADE.clear()
    yield "strict"
    backends._FACTORIES.pop("strict")


@each_case
def test_backend_from_outside(estimator, data, strict_backend):
    X, y = data()
    reference = fit(estimator, X, y, backend="numpy")
    model = fit(estimator, X, y, backend=strict_backend)
    assert MADE, "the factory was not asked"
    assert model.backend_ == "strict:cpu"
    assert_agree(model, reference, X)


def test_backend_from_outside_refuses_in_its_own_words(strict_backend):
    X, y = two_classes()
    with pytest.raises(ValueError, match="there is 'strict:cpu'"):
        LogisticRegression(backend="strict:gpu").fit(X, y)


def test_backend_from_an_entry_point(monkeypatch):
    """A package that declares the entry point needs no call of register_backend."""
    from importlib.metadata import EntryPoint

    from skdeep import backends

    if strict is None:
        pytest.skip("array-api-strict is not installed")
    point = EntryPoint("strict", f"{__name__}:make_strict", backends.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: make_strict)
    monkeypatch.setattr(
        backends,
        "entry_points",
        lambda *, group, name=None: (
            [point] if group == point.group and name in (None, "strict") else []
        ),
    )
    monkeypatch.setattr(backends, "_FACTORIES", dict(backends._FACTORIES))
    X, y = two_classes()
    model = LogisticRegression(backend="strict").fit(X, y)
    assert model.backend_ == "strict:cpu"


@pytest.mark.parametrize("name", ["", "auto", "mine:0"])
def test_name_that_cannot_be_registered(name):
    with pytest.raises(ValueError, match="cannot name a backend"):
        register_backend(name, make_strict)
