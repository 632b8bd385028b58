"""Bad input is refused in words that name the parameter or the array and say what to do."""

import re
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import LinAlgWarning
from sklearn.base import clone, is_classifier
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

X, y = load_iris(return_X_y=True)

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0}
ESTIMATORS = [
    Perceptron(),
    LogisticRegression(),
    LinearDiscriminantAnalysis(),
    MLPClassifier(**SMALL),
    MLPRegressor(**SMALL),
]
WEIGHTED = [e for e in ESTIMATORS if not isinstance(e, LinearDiscriminantAnalysis)]


def over(estimators):
    return pytest.mark.parametrize("estimator", estimators, ids=lambda e: type(e).__name__)


def make(estimator, backend="auto", **params):
    return clone(estimator).set_params(backend=backend, **params)


def refused(*texts, error=(ValueError, TypeError)):
    """Context in which the error must hold all texts, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(re.escape(text) for text in texts))


def fit_quietly(estimator, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*args, **kwargs)


def poisoned(array, value):
    array = np.array(array, dtype=float)
    array.flat[3] = value
    return array


BAD_NUMBERS = pytest.mark.parametrize(
    "value, word", [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)


@BAD_NUMBERS
@over(ESTIMATORS)
def test_not_finite_in_X(estimator, value, word, backend):
    with refused("X", f"contains {word}"):
        make(estimator, backend).fit(poisoned(X, value), y)
    with refused("X", f"contains {word}"):
        make(estimator, backend).fit(poisoned(X, value).astype(np.float32), y)
    fitted = fit_quietly(make(estimator, backend), X, y)
    with refused("X", f"contains {word}"):
        fitted.predict(poisoned(X, value))


@BAD_NUMBERS
@over(ESTIMATORS)
def test_not_finite_in_y(estimator, value, word, backend):
    with refused("y", f"contains {word}"):
        make(estimator, backend).fit(X, poisoned(y, value))


@BAD_NUMBERS
@over(WEIGHTED)
def test_not_finite_in_sample_weight(estimator, value, word, backend):
    with refused("sample_weight", f"contains {word}"):
        make(estimator, backend).fit(X, y, sample_weight=poisoned(np.ones(len(y)), value))


@BAD_NUMBERS
@over(WEIGHTED)
def test_not_finite_in_sparse_X(estimator, value, word, backend):
    with refused("X", f"contains {word}"):
        make(estimator, backend).fit(sparse.csr_array(poisoned(X, value)), y)


@over([Perceptron(), LogisticRegression(), LinearDiscriminantAnalysis()])
def test_one_class_only(estimator, backend):
    with refused("class"):
        make(estimator, backend).fit(X, np.full(len(y), "only"))


def test_one_class_is_enough_for_a_net(backend):
    """scikit-learn fits it, and so do we: it predicts what it has seen."""
    model = fit_quietly(make(MLPClassifier(**SMALL), backend), X, np.full(len(y), "only"))
    assert set(model.predict(X)) == {"only"}


@over(ESTIMATORS)
def test_no_rows(estimator, backend):
    with refused("0 sample(s)", "minimum of"):
        make(estimator, backend).fit(X[:0], y[:0])


def test_fewer_rows_than_needed(backend):
    with refused("number of samples must be more than the number of classes"):
        make(LinearDiscriminantAnalysis(), backend).fit(X[::50], y[::50])
    with refused("validation set is too small", "Increase 'validation_fraction'"):
        make(MLPClassifier(early_stopping=True), backend).fit(X[::15], y[::15])
    with refused("too few"):  # one row of a class cannot be split
        make(Perceptron(early_stopping=True), backend).fit(X[::50], y[::50])


@over(ESTIMATORS)
def test_unknown_backend(estimator):
    with refused("backend='tensorflow'", "'numpy'", "'torch'"):
        make(estimator, "tensorflow").fit(X, y)


@over(ESTIMATORS)
def test_backend_of_the_wrong_type(estimator):
    with refused("'backend' parameter", "None"):
        make(estimator, None).fit(X, y)


@over(ESTIMATORS)
def test_absent_device(estimator):
    with refused("backend='numpy:cuda'", "CPU only"):
        make(estimator, "numpy:cuda").fit(X, y)
    pytest.importorskip("torch", reason="torch is not installed")
    with refused("backend='torch:cuda:99'", "'torch:cpu'"):
        make(estimator, "torch:cuda:99").fit(X, y)


@over(ESTIMATORS)
def test_unknown_dtype(estimator, backend):
    with refused("'dtype' parameter", "'float64'", "'int8'"):
        make(estimator, backend, dtype="int8").fit(X, y)


@over(ESTIMATORS)
def test_bfloat16_needs_torch(estimator):
    with refused("dtype", "bfloat16"):
        make(estimator, "numpy", dtype="bfloat16").fit(X, y)


WITHOUT_TORCH = """
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")


sys.meta_path.insert(0, NoTorch())
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier, MLPRegressor

classifiers = (Perceptron, LogisticRegression, LinearDiscriminantAnalysis, MLPClassifier)
for cls in (*classifiers, MLPRegressor):
    X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    assert cls().fit(X, y).backend_ == "numpy"
    try:
        cls(backend="torch").fit(X, y)
    except ValueError as error:
        print(error)
"""


def test_torch_not_installed():
    # A process of its own, for torch may be imported in this one.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_TORCH], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert "backend='torch'" in line
        assert "pip install 'skdeep[torch]'" in line


@over(ESTIMATORS)
def test_wrong_shapes(estimator, backend):
    with refused("Expected 2D array, got 1D array", "Reshape your data"):
        make(estimator, backend).fit(X[:, 0], y)
    with refused("inconsistent numbers of samples", "150, 149"):
        make(estimator, backend).fit(X, y[1:])
    with refused("dim 3"):
        make(estimator, backend).fit(X[None], y)
    with refused("y"):
        make(estimator, backend).fit(X, None)
    fitted = fit_quietly(make(estimator, backend), X, y)
    with refused("Expected 2D array, got 1D array", "Reshape your data"):
        fitted.predict(X[0])


@over([Perceptron(), LogisticRegression(), LinearDiscriminantAnalysis()])
def test_two_columns_of_classes(estimator, backend):
    with refused("y should be a 1d array", "(150, 2)"):
        make(estimator, backend).fit(X, np.c_[y, y])


@over(WEIGHTED)
def test_wrong_shape_of_sample_weight(estimator, backend):
    with refused("sample_weight.shape == (149,)", "(150,)"):
        make(estimator, backend).fit(X, y, sample_weight=np.ones(149))


@over([e for e in ESTIMATORS if is_classifier(e)])
def test_continuous_classes(estimator, backend):
    with refused("Unknown label type"):
        make(estimator, backend).fit(X, y + 0.5 * X[:, 0])


@over(ESTIMATORS)
def test_unfitted(estimator, backend):
    methods = ("predict", "predict_proba", "decision_function", "transform")
    for method in methods:
        if hasattr(estimator, method):
            with refused("not fitted yet", "'fit'", error=NotFittedError):
                getattr(make(estimator, backend), method)(X)


@over(ESTIMATORS)
def test_other_number_of_features(estimator, backend):
    fitted = fit_quietly(make(estimator, backend), X, y)
    expected = f"{type(estimator).__name__} is expecting 4 features"
    with refused("X has 3 features", expected):
        fitted.predict(X[:, :3])
    if hasattr(fitted, "partial_fit"):
        with refused("X has 3 features", expected):
            fitted.partial_fit(X[:, :3], y)


@over(ESTIMATORS)
def test_other_feature_names(estimator, backend):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    fitted = fit_quietly(make(estimator, backend), frame, y)
    with refused("feature names should match", "Feature names unseen at fit time", "z"):
        fitted.predict(frame.rename(columns={"d": "z"}))


@pytest.mark.parametrize(
    "params, texts",
    [
        ({"solver": "lbfgs", "l1_ratio": 1}, ("Solver lbfgs", "'l2' or None", "l1")),
        ({"solver": "newton-cg", "l1_ratio": 1}, ("Solver newton-cg", "'l2' or None", "l1")),
        ({"solver": "newton-cholesky", "l1_ratio": 0.5}, ("Solver newton-cholesky", "elasticnet")),
        ({"solver": "sag", "l1_ratio": 0.5}, ("Solver sag", "'l2' or None", "elasticnet")),
        ({"solver": "liblinear", "l1_ratio": 0.5}, ("'saga'", "elasticnet", "liblinear")),
        ({"solver": "liblinear", "C": np.inf}, ("C=np.inf", "liblinear")),
        ({"solver": "lbfgs", "dual": True}, ("Solver lbfgs", "dual=False")),
        ({"solver": "liblinear"}, ("liblinear", "multiclass", "Either use another solver")),
        ({"solver": "adamax"}, ("'solver' parameter", "'lbfgs'", "'adamax'")),
        ({"C": 0}, ("'C' parameter", "range (0.0, inf]", "0")),
        ({"tol": -1.0}, ("'tol' parameter", "-1.0")),
        ({"max_iter": 1.5}, ("'max_iter' parameter", "1.5")),
    ],
    ids=str,
)
def test_logistic_regression_parameters(params, texts, backend):
    with refused(*texts):
        LogisticRegression(backend=backend, **params).fit(X, y)


@pytest.mark.parametrize(
    "params, texts",
    [
        # scikit-learn's own error, neither a ValueError nor a TypeError: kept, for it is caught.
        ({"shrinkage": "auto"}, ("shrinkage", "'svd' solver")),
        (
            {"covariance_estimator": LedoitWolf()},
            ("covariance", "svd solver", "Try another solver"),
        ),
        ({"n_components": 3}, ("n_components", "min(n_features, n_classes - 1)")),
        ({"priors": [-0.5, 0.5, 1.0]}, ("priors", "non-negative")),
        ({"solver": "lsqr", "shrinkage": 2.0}, ("'shrinkage' parameter", "2.0")),
        ({"solver": "qr"}, ("'solver' parameter", "'svd'", "'qr'")),
    ],
    ids=str,
)
def test_lda_parameters(params, texts, backend):
    with refused(*texts, error=(ValueError, TypeError, NotImplementedError)):
        LinearDiscriminantAnalysis(backend=backend, **params).fit(X, y)


@pytest.mark.parametrize(
    "params, texts",
    [
        ({"hidden_layer_sizes": (4, 0)}, ("hidden_layer_sizes", "> 0")),
        ({"hidden_layer_sizes": -1}, ("hidden_layer_sizes", "-1")),
        ({"activation": "stairs"}, ("'activation' parameter", "'relu'", "'stairs'")),
        ({"alpha": -1e-4}, ("'alpha' parameter", "-0.0001")),
        ({"batch_size": 0}, ("'batch_size' parameter", "0")),
        ({"learning_rate": "cosine annealing"}, ("'learning_rate' parameter", "'constant'")),
        ({"momentum": 1.5}, ("'momentum' parameter", "1.5")),
        ({"beta_1": 1.0}, ("'beta_1' parameter", "1.0")),
        ({"solver": "newton"}, ("'solver' parameter", "'adam'", "'newton'")),
    ],
    ids=str,
)
@over([MLPClassifier(), MLPRegressor()])
def test_mlp_parameters(estimator, params, texts, backend):
    with refused(*texts):
        make(estimator, backend, **params).fit(X, y)


def test_perceptron_parameters(backend):
    for params, texts in (
        ({"penalty": "l3"}, ("'penalty' parameter", "'l3'")),
        ({"penalty": "elasticnet", "l1_ratio": 2}, ("'l1_ratio' parameter", "2")),
        ({"eta0": 0.0}, ("'eta0' parameter", "0.0")),
        ({"class_weight": "even"}, ("class_weight", "'balanced'", "'even'")),
    ):
        with refused(*texts):
            Perceptron(backend=backend, **params).fit(X, y)
    with refused("coef", "does not match"):
        Perceptron(backend=backend).fit(X, y, coef_init=np.ones((3, 5)))
    with refused("intercept_init", "does not match"):
        Perceptron(backend=backend).fit(X, y, intercept_init=np.ones(2))


def test_partial_fit(backend):
    with refused("classes", "first call to partial_fit"):
        Perceptron(backend=backend).partial_fit(X, y)
    model = Perceptron(backend=backend).partial_fit(X, y, classes=[0, 1, 2])
    with refused("classes=[0, 1]", "call to partial_fit"):
        model.partial_fit(X, y, classes=[0, 1])
    with refused("early_stopping", "partial_fit"):
        Perceptron(early_stopping=True, backend=backend).partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize("model", [MLPClassifier(solver="lbfgs"), LogisticRegression()])
def test_only_stochastic_solvers_have_partial_fit(model):
    """As if the class had none, and with the reason."""
    assert not hasattr(model, "partial_fit")
    name = type(model).__name__
    with pytest.raises(
        AttributeError, match=f"{name!r} object has no attribute 'partial_fit'.*sgd"
    ):
        model.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(AttributeError, match="solver='lbfgs'"):
        type(model).partial_fit(model, X, y, classes=[0, 1, 2])
    assert hasattr(model.set_params(solver="sgd"), "partial_fit")


def state(estimator):
    """A digest of each attribute, for what is changed in place must show too."""
    return {name: joblib.hash(value) for name, value in vars(estimator).items()}


DIVERGING = {"activation": "identity", "learning_rate_init": 1e300}


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@over([MLPClassifier(**SMALL), MLPRegressor(**SMALL)])
@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
@pytest.mark.filterwarnings("ignore")
def test_training_that_diverges_leaves_the_estimator_as_it_was(estimator, solver, fitted, backend):
    model = make(estimator, backend, solver=solver)
    if fitted:
        model.fit(X, y)
    model.set_params(**DIVERGING)
    before = state(model)
    with refused("non-finite", "large values and need to be preprocessed", error=ValueError):
        model.fit(X, y)
    assert state(model) == before


@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
@pytest.mark.filterwarnings("ignore")
def test_lbfgs_that_diverges_leaves_the_estimator_as_it_was(fitted, backend):
    model = make(MLPRegressor(**SMALL), backend, solver="lbfgs", activation="identity")
    if fitted:
        model.fit(X, y)
    before = state(model)
    # The squared error overflows at the start already.
    with refused("non-finite", "large values and need to be preprocessed", error=ValueError):
        model.fit(X * 1e300, y)
    assert state(model) == before


@pytest.mark.filterwarnings("ignore")
@over([MLPClassifier(**SMALL), MLPRegressor(**SMALL)])
def test_partial_fit_that_diverges_leaves_the_estimator_as_it_was(estimator, backend):
    model = make(estimator, backend, activation="identity", solver="sgd").fit(X, y)
    for _ in range(5):  # the first step may still end with large, but finite weights
        before = state(model)
        try:
            model.partial_fit(X * 1e300, y)
        except ValueError as error:
            assert "non-finite" in str(error)
            break
    else:
        pytest.fail("did not raise")
    assert state(model) == before


RATES = pytest.mark.parametrize("rate", [1e3, 1e100, 1e300])
NETWORKS = {
    "plain": MLPClassifier(**SMALL),
    "batch_norm": MLPClassifier(**SMALL, batch_norm=True, solver="adamw"),
    "early_stopping": MLPClassifier(**SMALL, early_stopping=True),
    "n_members": MLPRegressor(**SMALL, n_members=2),
    "poisson": MLPRegressor(**SMALL, loss="poisson"),
    "autoencoder": Autoencoder(**SMALL),
}


@RATES
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("max_iter", [1, 2])
@pytest.mark.parametrize("estimator", NETWORKS.values(), ids=NETWORKS)
def test_what_is_fitted_predicts_numbers(estimator, rate, max_iter, backend):
    """The last steps may leave weights that are finite, and predictions that overflow."""
    for solver in ("sgd", estimator.solver):
        for dtype in ("float32", "float64"):
            model = make(estimator, backend, solver=solver, max_iter=max_iter, dtype=dtype)
            model.set_params(learning_rate_init=rate)
            before = state(model)
            try:
                model.fit(X, y)
            except ValueError as error:
                assert "non-finite" in str(error)
                assert state(model) == before
            else:
                assert np.isfinite(getattr(model, "predict_proba", model.predict)(X)).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_targets_whose_squares_overflow_are_refused(early_stopping, backend):
    """Squared errors are infinite in every epoch, and so is the held-out score."""
    settings = {"early_stopping": early_stopping, "max_iter": 3}
    model = MLPRegressor(hidden_layer_sizes=(3,), backend=backend, **settings)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(X, 1e200 * X[:, 0])
    assert not hasattr(model, "loss_")


def test_perceptron_of_an_enormous_rate_overflows(engine):
    """In single precision the rate is infinite already: zero times it was a mistake or not."""
    model = Perceptron(eta0=1e300, tol=None, backend=engine, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with refused("overflow occurred at epoch #1", "Scaling"):
            model.fit(X, y)
        # In double precision the rate is but a factor.
        huge = Perceptron(eta0=2.0**900, backend=engine).fit(X, y)
    plain = Perceptron(backend=engine).fit(X, y)
    np.testing.assert_array_equal(huge.coef_, 2.0**900 * plain.coef_)
    np.testing.assert_array_equal(huge.margin_, plain.margin_)


@over(ESTIMATORS)
def test_refused_fit_leaves_the_estimator_as_it_was(estimator, backend):
    model = fit_quietly(make(estimator, backend), X, y)
    before = state(model)
    with refused("NaN"):
        model.fit(poisoned(X[:, :3], np.nan), y)
    assert state(model) == before


@pytest.mark.parametrize("params", [{"class_weight": "balanced"}, {"early_stopping": True}])
def test_a_first_partial_fit_that_is_refused_leaves_nothing(params, backend):
    model = make(MLPClassifier(**SMALL), backend, **params)
    before = state(model)
    with refused("partial_fit"):
        model.partial_fit(X, y, classes=np.unique(y))
    assert state(model) == before


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(**SMALL),
        MLPRegressor(**SMALL, alpha=1e300),
        Autoencoder(**SMALL, solver="adagrad"),
        LogisticRegression(solver="rmsprop", max_iter=2),
        LogisticRegression(C=np.inf, solver="newton-cg"),
        LogisticRegression(solver="saga", l1_ratio=1.0),
        LinearDiscriminantAnalysis(solver="lsqr"),
        Perceptron(),
    ],
)
def test_numbers_that_overflow_do_not_warn(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for category in (ConvergenceWarning, LinAlgWarning):
            warnings.simplefilter("ignore", category)
        for rows in (X * 1e160, X * 1e-160):
            try:
                model = clone(estimator).fit(rows, y)
            except ValueError as error:
                assert re.search("non-finite|overflow|X", str(error))
                continue
            for method in ("predict", "decision_function", "predict_proba"):
                getattr(model, method, np.copy)(rows)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(**SMALL),
        LogisticRegression(solver="sgd", learning_rate_init=10.0, max_iter=2),
        LinearDiscriminantAnalysis(),
    ],
)
def test_logarithms_of_vanishing_probabilities_do_not_warn(estimator):
    model = fit_quietly(clone(estimator), 100.0 * X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        logarithms = model.predict_log_proba(1e4 * X)
    probabilities = model.predict_proba(1e4 * X)
    assert (probabilities == 0.0).any()
    assert (np.exp(logarithms) == probabilities)[probabilities > 0].mean() > 0.5
    np.testing.assert_allclose(np.exp(logarithms), probabilities, rtol=1e-12, atol=1e-300)


def test_targets_that_are_no_numbers(backend):
    labels = np.array(["no", "yes"])[y % 2]
    for method in ("fit", "partial_fit"):
        with refused("y has to be numbers"):
            getattr(make(MLPRegressor(**SMALL), backend), method)(X, labels)


@pytest.mark.parametrize("solver", ["none of these", np.nan])
def test_an_unknown_solver_is_refused_by_fit_alone(solver):
    model = LogisticRegression(solver=solver)
    assert is_classifier(model)
    with refused("solver"):
        model.fit(X, y)
