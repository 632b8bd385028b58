"""Drop-in: skdeep's estimators end where scikit-learn's do, from the same input and seed."""

import warnings
from functools import cache

import numpy as np
import pytest
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.neural_network
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.covariance import LedoitWolf
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier, MLPRegressor

THEIRS = {
    LinearDiscriminantAnalysis: sklearn.discriminant_analysis.LinearDiscriminantAnalysis,
    LogisticRegression: sklearn.linear_model.LogisticRegression,
    Perceptron: sklearn.linear_model.Perceptron,
    MLPClassifier: sklearn.neural_network.MLPClassifier,
    MLPRegressor: sklearn.neural_network.MLPRegressor,
}


@cache
def classes(n_classes, n_samples=120, n_features=6):
    return make_classification(
        n_samples,
        n_features,
        n_informative=4,
        n_redundant=0,
        n_classes=n_classes,
        flip_y=0.2,
        random_state=3,
    )


def weights(n_samples):
    """Unequal, with zeros, as scikit-learn allows."""
    return np.random.RandomState(7).randint(0, 4, n_samples) / 2


def fit_both(cls, X, y, backend, method="fit", times=1, sample_weight=None, call=None, **params):
    """The two estimators after the same calls, and whether each warned of no convergence."""
    fitted, warned = [], []
    call = dict(call or {})
    if sample_weight is not None:
        call["sample_weight"] = sample_weight
    for estimator in (cls(backend=backend, **params), THEIRS[cls](**params)):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            for _ in range(times):
                getattr(estimator, method)(X, y, **call)
        fitted.append(estimator)
        warned.append([w.category for w in record if issubclass(w.category, ConvergenceWarning)])
    return *fitted, *warned


def assert_close(ours, theirs, tolerance):
    """Equal to a tolerance that is relative to the largest entry."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(np.abs(theirs).max(initial=0), 1e-3))


# Linear discriminant analysis: to 1e-8


@cache
def lda_data(name):
    if name == "binary":
        return load_breast_cancer(return_X_y=True)
    if name == "collinear":  # constant and doubled features: the within-class scatter is singular
        X, y = load_iris(return_X_y=True)
        return np.hstack([X, X[:, :2], np.ones((len(X), 1))]), y
    if name == "wide":
        X, y = make_classification(40, 60, n_informative=6, n_classes=3, random_state=0)
        return X, y
    return {"iris": load_iris, "wine": load_wine}[name](return_X_y=True)


LDA_CASES = [
    ("iris", {}),
    ("iris", {"store_covariance": True}),
    ("iris", {"n_components": 1}),
    ("iris", {"priors": [0.5, 0.3, 0.2]}),
    ("wine", {}),
    ("binary", {}),
    ("collinear", {}),
    ("wide", {}),
    ("iris", {"solver": "lsqr"}),
    ("wine", {"solver": "lsqr", "shrinkage": "auto"}),
    ("binary", {"solver": "lsqr", "shrinkage": 0.3}),
    ("wide", {"solver": "lsqr", "shrinkage": "auto"}),
    ("wide", {"solver": "lsqr", "shrinkage": 1.0}),
    ("wine", {"solver": "lsqr", "priors": [0.2, 0.2, 0.6], "shrinkage": 0.1}),
    ("wine", {"solver": "lsqr", "covariance_estimator": LedoitWolf()}),
    ("iris", {"solver": "eigen"}),
    ("wine", {"solver": "eigen", "shrinkage": "auto"}),
    ("wine", {"solver": "eigen", "shrinkage": 0.3, "n_components": 1}),
    ("binary", {"solver": "eigen", "shrinkage": 0.5}),
    ("wide", {"solver": "eigen", "shrinkage": "auto"}),
    ("wine", {"solver": "eigen", "priors": [0.2, 0.2, 0.6], "shrinkage": 0.1}),
    ("iris", {"solver": "eigen", "covariance_estimator": LedoitWolf()}),
]


@pytest.mark.parametrize("data, params", LDA_CASES, ids=lambda value: str(value))
def test_lda(data, params, backend):
    X, y = lda_data(data)
    ours, theirs, _, _ = fit_both(LinearDiscriminantAnalysis, X, y, backend, **params)
    assert_array_equal(ours.classes_, theirs.classes_)
    assert_close(ours.means_, theirs.means_, 1e-12)
    assert_close(ours.priors_, theirs.priors_, 1e-12)
    assert_close(ours.coef_, theirs.coef_, 1e-8)
    assert_close(ours.intercept_, theirs.intercept_, 1e-8)
    for name in ("covariance_", "xbar_", "explained_variance_ratio_"):
        assert hasattr(ours, name) == hasattr(theirs, name)
        if hasattr(theirs, name):
            assert_close(getattr(ours, name), getattr(theirs, name), 1e-8)
    assert_close(ours.decision_function(X), theirs.decision_function(X), 1e-8)
    assert_close(ours.predict_proba(X), theirs.predict_proba(X), 1e-8)
    assert_array_equal(ours.predict(X), theirs.predict(X))
    if params.get("solver") == "lsqr":
        return
    # The sign of a discriminant direction carries no meaning.
    Z, W = ours.transform(X), theirs.transform(X)
    assert Z.shape == W.shape
    assert_close(Z * np.sign(np.sum(Z * W, axis=0)), W, 1e-8)
    assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


# Logistic regression: the optimum, to 1e-6

SMOOTH = (("l2", {"C": 0.7}), ("none", {"C": np.inf}))
L1 = ("l1", {"C": 0.7, "l1_ratio": 1})
SOLVER_PENALTIES = [
    *((s, *p) for s in ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga") for p in SMOOTH),
    ("saga", *L1),
    ("saga", "elasticnet", {"C": 0.7, "l1_ratio": 0.4}),
    ("liblinear", *SMOOTH[0]),
    ("liblinear", *L1),
]


@cache
def reference(n_classes, reference_solver, weighted, class_weight, **params):
    """scikit-learn at its most exact: newton-cg for what is smooth, else a very long saga.

    Both reach the optimum of the same objective to 1e-9 on these data. liblinear's objective is
    its own, for it penalises the intercept.
    """
    X, y = classes(n_classes)
    model = sklearn.linear_model.LogisticRegression(
        solver=reference_solver,
        tol=1e-12,
        max_iter=100_000,
        class_weight=class_weight,
        random_state=0,
        **params,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y, sample_weight=weights(len(y)) if weighted else None)
    if n_classes > 2:
        # Adding a constant to all classes changes no probability. From a start at zero every solver
        # stays where the classes sum to zero, but for rounding, which newton-cg lets grow to 1e-5.
        model.intercept_ -= model.intercept_.mean()
        if reference_solver == "newton-cg":
            model.coef_ -= model.coef_.mean(axis=0)
    return model


@pytest.mark.parametrize("weighting", ["equal", "sample_weight", "class_weight", "both"])
@pytest.mark.parametrize("container", ["dense", "sparse"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver, penalty, params", SOLVER_PENALTIES)
def test_logistic_regression(solver, penalty, params, n_classes, container, weighting, backend):
    if solver == "liblinear" and n_classes > 2:
        pytest.skip("liblinear has no multinomial loss, scikit-learn refuses it")
    weighted = weighting in ("sample_weight", "both")
    class_weight = "balanced" if weighting in ("class_weight", "both") else None
    if solver != "liblinear":
        exact = "newton-cg" if penalty in ("l2", "none") else "saga"
    else:
        exact = "liblinear"
    theirs = reference(n_classes, exact, weighted, class_weight, **params)
    X, y = classes(n_classes)
    if container == "sparse":
        X = sparse.csr_array(X)
    ours = LogisticRegression(
        solver=solver,
        tol=1e-10,
        max_iter=10_000,
        class_weight=class_weight,
        random_state=0,
        backend=backend,
        **params,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours.fit(X, y, sample_weight=weights(len(y)) if weighted else None)
    assert_close(ours.coef_, theirs.coef_, 1e-6)
    assert_close(ours.intercept_, theirs.intercept_, 1e-6)
    assert_close(ours.predict_proba(X), theirs.predict_proba(classes(n_classes)[0]), 1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {"solver": "lbfgs", "fit_intercept": False},
        {"solver": "newton-cholesky", "fit_intercept": False},
        {"solver": "saga", "l1_ratio": 1, "fit_intercept": False},
        {"solver": "liblinear", "intercept_scaling": 10},
        {"solver": "liblinear", "intercept_scaling": 10, "l1_ratio": 1},
        {"solver": "liblinear", "fit_intercept": False},
        {"solver": "liblinear", "dual": True},
        {"solver": "lbfgs", "C": 1e-4},
        {"solver": "lbfgs", "C": 1e4},
        {"solver": "saga", "l1_ratio": 1, "C": 0.1},
        {"solver": "lbfgs", "class_weight": {0: 1.0, 1: 5.0}},
    ],
    ids=str,
)
def test_logistic_regression_options(params, weighted, backend):
    X, y = classes(2)
    params = {"random_state": 0, **params}
    weight = weights(len(y)) if weighted else None
    # dual=True makes liblinear random: only a long run settles it.
    exact = {"tol": 1e-12, "max_iter": 100_000}
    theirs = sklearn.linear_model.LogisticRegression(**exact, **params).fit(X, y, weight)
    ours = LogisticRegression(tol=1e-10, max_iter=10_000, backend=backend, **params)
    ours.fit(X, y, weight)
    assert_close(ours.coef_, theirs.coef_, 1e-6)
    # scikit-learn's is a plain 0.0 where liblinear fits none.
    assert_close(ours.intercept_, np.reshape(theirs.intercept_, 1), 1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "lbfgs", "fit_intercept": False},
        {"solver": "newton-cholesky", "fit_intercept": False},
        {"solver": "saga", "l1_ratio": 1, "fit_intercept": False},
        {"solver": "newton-cg", "class_weight": {0: 1.0, 1: 5.0, 2: 0.5}},
        {"solver": "saga", "l1_ratio": 0.5, "class_weight": "balanced", "C": 0.05},
        {"solver": "lbfgs", "C": 1e-4},
        {"solver": "sag", "C": 1e3},
    ],
    ids=str,
)
def test_multinomial_regression_options(params, backend):
    X, y = classes(3)
    smooth = "l1_ratio" not in params
    exact = {**params, "solver": "newton-cg" if smooth else "saga", "tol": 1e-12}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sklearn.linear_model.LogisticRegression(
            **exact, max_iter=100_000, random_state=0
        ).fit(X, y)
    ours = LogisticRegression(tol=1e-10, max_iter=10_000, backend=backend, **params).fit(X, y)
    assert_close(ours.predict_proba(X), theirs.predict_proba(X), 1e-6)
    if smooth:  # see reference
        theirs.coef_ -= theirs.coef_.mean(axis=0)
    assert_close(ours.coef_, theirs.coef_, 1e-6)
    # No penalty decides the sum of the intercepts.
    assert_close(np.diff(ours.intercept_), np.diff(theirs.intercept_), 1e-6)


@pytest.mark.parametrize(
    "penalty, solver, same",
    [
        ("l1", "liblinear", {"l1_ratio": 1}),
        ("l1", "saga", {"l1_ratio": 1}),
        ("l2", "lbfgs", {}),
        ("elasticnet", "saga", {"l1_ratio": 0.3}),
        (None, "lbfgs", {"C": np.inf}),
        (None, "saga", {"C": np.inf}),
    ],
)
def test_a_penalty_s_former_name(penalty, solver, same, backend):
    """Deprecated, as in scikit-learn, which goes on to accept it."""
    X, y = classes(2)
    exact = {"tol": 1e-10, "max_iter": 10_000, "random_state": 0}
    ratio = {"l1_ratio": 0.3} if penalty == "elasticnet" else {}
    fitted = []
    for cls, more in ((LogisticRegression, {"backend": backend}), (THEIRS[LogisticRegression], {})):
        model = cls(penalty=penalty, solver=solver, **ratio, **exact, **more)
        with pytest.warns(FutureWarning, match="'penalty' was deprecated"):
            fitted.append(model.fit(X, y))
    ours, theirs = fitted
    assert_close(ours.coef_, theirs.coef_, 1e-6)
    assert_close(
        ours.coef_, LogisticRegression(solver=solver, **exact, **same).fit(X, y).coef_, 1e-8
    )


def gradient_norm(model, X, y):
    """Largest entry of the gradient of what lbfgs minimises: mean loss plus w² / (2 C n)."""
    n = len(y)
    residual = model.predict_proba(X) - (y[:, None] == model.classes_)
    scale = 1.0
    if len(model.classes_) == 2:
        residual = residual[:, 1:]
    gradient = (residual.T @ X + scale * model.coef_ / model.C) / n
    return max(np.abs(gradient).max(), np.abs(residual.mean(axis=0)).max())


@pytest.mark.parametrize(
    "data", [load_breast_cancer, load_wine, load_digits], ids=lambda f: f.__name__
)
def test_lbfgs_converges_on_unscaled_features(data, backend):
    """Where scikit-learn's lbfgs runs out of iterations, ours reaches the tolerance."""
    X, y = data(return_X_y=True)
    model = LogisticRegression(backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert model.n_iter_.max() < model.max_iter
    assert gradient_norm(model, X, y) <= model.tol


@pytest.mark.parametrize("C", [1.0, 2.0, np.inf])
@pytest.mark.parametrize("l1_ratio", [None, 0, 0.5, 1])
@pytest.mark.parametrize("penalty", ["deprecated", None, "l1", "l2", "elasticnet"])
def test_logistic_regression_says_the_same_of_its_penalty(penalty, l1_ratio, C):
    X, y = make_classification(60, 4, random_state=0)
    said = []
    for cls in (LogisticRegression, sklearn.linear_model.LogisticRegression):
        model = cls(penalty=penalty, l1_ratio=l1_ratio, C=C, solver="saga", max_iter=500)
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            try:
                model.fit(X, y)
            except (ValueError, TypeError) as error:
                said.append(type(error))
                continue
        shown = [w for w in record if not issubclass(w.category, ConvergenceWarning)]
        said.append(sorted((w.category.__name__, str(w.message)) for w in shown))
    if (penalty, l1_ratio, C) == ("deprecated", None, np.inf):
        # There scikit-learn subtracts the None from one.
        assert [category for category, _ in said[0]] == ["FutureWarning"]
        assert said[1] is TypeError
    else:
        assert said[0] == said[1]


@pytest.mark.parametrize(
    "solver", ["lbfgs", "newton-cg", "newton-cholesky", "liblinear", "sag", "saga"]
)
def test_logistic_regression_warns_when_it_stops_early(solver, backend):
    X, y = classes(2)
    model = LogisticRegression(
        solver=solver, tol=1e-10, max_iter=1, random_state=0, backend=backend
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.n_iter_.tolist() == [1]
    model.set_params(max_iter=10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert 1 < model.n_iter_[0] < 10_000


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "newton-cg"},
        {"solver": "newton-cholesky"},
        {"solver": "sag"},
        {"solver": "saga", "l1_ratio": 1},
    ],
    ids=str,
)
def test_logistic_regression_warm_start(params, backend):
    """Going on from the optimum takes next to no iterations."""
    X, y = classes(3)
    model = LogisticRegression(tol=1e-8, max_iter=1000, warm_start=True, backend=backend, **params)
    first, coef = model.fit(X, y).n_iter_[0], model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_[0] <= 2 < first
    assert_close(model.coef_, coef, 1e-6)


# Perceptron: the same sequence of updates

PERCEPTRON_CASES = [
    {},
    {"shuffle": False},
    {"tol": None, "max_iter": 7},
    {"fit_intercept": False},
    {"eta0": 0.3},
    {"penalty": "l2", "alpha": 0.01},
    {"penalty": "l1", "alpha": 0.003},
    {"penalty": "elasticnet", "alpha": 0.003, "l1_ratio": 0.4},
    {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 3},
    {"class_weight": "balanced"},
    {"class_weight": {0: 1.0, 1: 3.0}},
    {"n_iter_no_change": 2, "tol": 1e-2},
    {"max_iter": 3},
    {"early_stopping": True, "penalty": "l1", "alpha": 0.003},
    {"early_stopping": True, "class_weight": "balanced", "n_iter_no_change": 2},
    {"penalty": "elasticnet", "alpha": 0.01, "class_weight": "balanced", "eta0": 0.3},
]


def assert_same_perceptron(ours, theirs):
    assert_close(ours.coef_, theirs.coef_, 1e-9)
    assert_close(ours.intercept_, theirs.intercept_, 1e-9)
    assert ours.t_ == theirs.t_
    # After partial_fit alone scikit-learn has none.
    assert getattr(ours, "n_iter_", None) == getattr(theirs, "n_iter_", None)


@pytest.mark.parametrize("container", ["dense", "sparse"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("params", PERCEPTRON_CASES, ids=str)
def test_perceptron(params, n_classes, container, backend):
    X, y = classes(n_classes)
    X = sparse.csr_array(X) if container == "sparse" else X
    params = {"random_state": 5, **params}
    ours, theirs, warned, expected = fit_both(Perceptron, X, y, backend, **params)
    assert_same_perceptron(ours, theirs)
    assert warned == expected
    assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "params",
    [{}, {"early_stopping": True}, {"penalty": "l1", "alpha": 0.003, "class_weight": "balanced"}],
    ids=str,
)
def test_perceptron_sample_weight(params, n_classes, backend):
    X, y = classes(n_classes)
    ours, theirs, _, _ = fit_both(
        Perceptron, X, y, backend, sample_weight=weights(len(y)), random_state=1, **params
    )
    assert_same_perceptron(ours, theirs)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("container", ["dense", "sparse"])
def test_perceptron_partial_fit(n_classes, container, backend):
    X, y = classes(n_classes)
    X = sparse.csr_array(X) if container == "sparse" else X
    ours, theirs, _, _ = fit_both(
        Perceptron,
        X,
        y,
        backend,
        method="partial_fit",
        times=3,
        call={"classes": np.unique(y)},
        random_state=2,
        penalty="l2",
    )
    assert_same_perceptron(ours, theirs)


def test_perceptron_warm_start_and_initial_weights(backend):
    X, y = classes(3)
    ours, theirs, _, _ = fit_both(Perceptron, X, y, backend, times=2, warm_start=True, max_iter=4)
    assert_same_perceptron(ours, theirs)
    start = {"coef_init": np.ones((3, X.shape[1])), "intercept_init": np.array([1.0, 0.0, -1.0])}
    ours, theirs, _, _ = fit_both(Perceptron, X, y, backend, call=start, max_iter=4)
    assert_same_perceptron(ours, theirs)


# Multi-layer perceptron: the same draws, batches and updates

MLP = {"hidden_layer_sizes": (9, 5), "max_iter": 20, "batch_size": 32, "random_state": 4}
SGD = {"solver": "sgd", "learning_rate_init": 0.05}
MLP_CASES = [
    {},
    {"alpha": 0.1, "learning_rate_init": 0.01, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
    {"activation": "tanh"},
    {"activation": "logistic"},
    {"activation": "identity"},
    {"hidden_layer_sizes": 7},
    {"hidden_layer_sizes": ()},
    {"shuffle": False},
    {"batch_size": "auto"},
    {"batch_size": 1, "max_iter": 3},
    {"early_stopping": True, "validation_fraction": 0.3},
    {"early_stopping": True, "n_iter_no_change": 2, "learning_rate_init": 0.05},
    {"tol": 0.05, "n_iter_no_change": 2},
    SGD,
    {**SGD, "momentum": 0.0},
    {**SGD, "nesterovs_momentum": False},
    {**SGD, "learning_rate": "invscaling", "power_t": 0.3},
    {**SGD, "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2},
    {**SGD, "early_stopping": True},
]


def assert_same_mlp(ours, theirs, warned, expected):
    for name in ("coefs_", "intercepts_"):
        assert len(getattr(ours, name)) == len(getattr(theirs, name))
        for mine, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert_close(mine, other, 1e-6)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    optional = ("loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_")
    for name in ("loss_", *optional):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        value = getattr(theirs, name, None)
        if value is None:
            assert getattr(ours, name, None) is None, name
        else:
            assert_allclose(getattr(ours, name), value, rtol=1e-6, err_msg=name)
    assert warned == expected


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("params", MLP_CASES, ids=str)
def test_mlp_classifier(params, n_classes, backend):
    X, y = classes(n_classes)
    ours, theirs, *warned = fit_both(MLPClassifier, X, y, backend, **{**MLP, **params})
    assert_same_mlp(ours, theirs, *warned)
    assert_close(ours.predict_proba(X), theirs.predict_proba(X), 1e-6)
    assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("params", MLP_CASES, ids=str)
def test_mlp_regressor(params, backend):
    X, y = make_regression(120, 6, noise=3.0, random_state=0)
    ours, theirs, *warned = fit_both(MLPRegressor, X, y / y.std(), backend, **{**MLP, **params})
    assert_same_mlp(ours, theirs, *warned)
    assert_close(ours.predict(X), theirs.predict(X), 1e-6)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["multi-label", "multi-output", "poisson", "sparse", "weighted"])
def test_mlp_targets_and_input(kind, solver, backend):
    X, y = classes(3)
    cls, call, params = MLPClassifier, {}, {}
    if kind == "multi-label":
        X, y = make_multilabel_classification(120, 6, random_state=0)
    elif kind == "multi-output":
        X, y = make_regression(120, 6, n_targets=2, random_state=0)
        cls, y = MLPRegressor, y / y.std()
    elif kind == "poisson":
        cls, params = MLPRegressor, {"loss": "poisson"}
    elif kind == "sparse":
        X = sparse.csr_matrix(X * (np.abs(X) > 0.5))
    else:
        call = {"sample_weight": 0.5 + weights(len(y))}
    ours, theirs, *warned = fit_both(
        cls,
        X,
        y,
        backend,
        **{**MLP, "solver": solver, "learning_rate_init": 0.01, **params},
        **call,
    )
    assert_same_mlp(ours, theirs, *warned)
    assert_close(ours.predict(X), theirs.predict(X), 1e-6)


@pytest.mark.parametrize("params", [{}, SGD, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor], ids=lambda cls: cls.__name__)
def test_mlp_sample_weight(cls, params, backend):
    X, y = classes(2)
    ours, theirs, *warned = fit_both(
        cls, X, y, backend, sample_weight=0.5 + weights(len(y)), **{**MLP, **params}
    )
    assert_same_mlp(ours, theirs, *warned)


@pytest.mark.parametrize("params", [{}, SGD, {**SGD, "learning_rate": "invscaling"}], ids=str)
def test_mlp_warm_start(params, backend):
    X, y = classes(3)
    ours, theirs, *warned = fit_both(
        MLPClassifier, X, y, backend, times=3, warm_start=True, **{**MLP, "max_iter": 5, **params}
    )
    assert_same_mlp(ours, theirs, *warned)


@pytest.mark.parametrize("params", [{}, SGD, {**SGD, "learning_rate": "invscaling"}], ids=str)
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor], ids=lambda cls: cls.__name__)
def test_mlp_partial_fit(cls, params, backend):
    X, y = classes(3)
    call = {"classes": np.unique(y)} if cls is MLPClassifier else {}
    ours, theirs, *warned = fit_both(
        cls, X, y, backend, method="partial_fit", times=5, call=call, **{**MLP, **params}
    )
    assert_same_mlp(ours, theirs, *warned)


TARGETS = ("binary", "classes", "labels", "regression", "outputs")
RATES = [{}] + [{**SGD, "learning_rate": r} for r in ("constant", "invscaling", "adaptive")]
CALLS = {
    "fit": ("fit", 1, {"max_iter": 20}),
    "early stopping": ("fit", 1, {"max_iter": 20, "early_stopping": True}),
    "warm start": ("fit", 3, {"max_iter": 7, "warm_start": True}),
    "early stopping, warm start": (
        "fit",
        3,
        {"max_iter": 7, "warm_start": True, "early_stopping": True},
    ),
    "partial_fit": ("partial_fit", 20, {}),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("params", RATES, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_mlp_every_target_rate_and_call(target, params, call, backend):
    """20 epochs and more, with plateaus: rates fall, and fits stop before."""
    cls = MLPRegressor if target in ("regression", "outputs") else MLPClassifier
    if target == "labels":
        X, y = make_multilabel_classification(120, 6, n_classes=3, random_state=0)
        # On raw counts probabilities come so close to 1 that scikit-learn's loss loses digits.
        X = StandardScaler().fit_transform(X)
    elif cls is MLPClassifier:
        X, y = classes(2 if target == "binary" else 3)
    else:
        X, y = make_regression(120, 6, n_targets=1 + (target == "outputs"), random_state=0)
        y = y / y.std()
    method, times, more = CALLS[call]
    arguments = {}
    if method == "partial_fit" and cls is MLPClassifier:
        arguments = {"classes": np.arange(3) if target == "labels" else np.unique(y)}
    params = {**MLP, "tol": 0.01, "n_iter_no_change": 2, **params, **more}
    ours, theirs, *warned = fit_both(
        cls, X, y, backend, method=method, times=times, call=arguments, **params
    )
    assert_same_mlp(ours, theirs, *warned)


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor], ids=lambda cls: cls.__name__)
def test_mlp_lbfgs_finds_as_good_a_minimum(cls, backend):
    """The path of another L-BFGS is another path; where it ends must be no worse."""
    X, y = classes(2)
    X = StandardScaler().fit_transform(X)
    params = {"solver": "lbfgs", "alpha": 1.0, "max_iter": 2000, "tol": 1e-8, "random_state": 0}
    ours, theirs, warned, expected = fit_both(
        cls, X, y, backend, hidden_layer_sizes=(), max_fun=20000, **params
    )
    # Without hidden units the problem is convex, and the minimum one.
    assert_close(ours.coefs_[0], theirs.coefs_[0], 1e-4)
    assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
    assert warned == expected == []
    ours, theirs, *_ = fit_both(cls, X, y, backend, hidden_layer_sizes=(8,), **params)
    assert ours.loss_ <= theirs.loss_ * 1.05


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_mlp_warns_when_it_stops_early(solver, backend):
    X, y = classes(2)
    model = MLPClassifier(solver=solver, max_iter=2, random_state=0, backend=backend)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    model.set_params(max_iter=2000, tol=1e-2, alpha=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)


# float32 in, float32 out


@pytest.mark.parametrize("cls", THEIRS, ids=lambda cls: cls.__name__)
def test_float32(cls, backend):
    X, y = classes(2)
    X = X.astype(np.float32)
    params = {} if cls is LinearDiscriminantAnalysis else {"random_state": 0, "max_iter": 20}
    ours, theirs, _, _ = fit_both(cls, X, y, backend, **params)
    for name, value in vars(theirs).items():
        if name.endswith("_") and isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert getattr(ours, name).dtype == value.dtype, name
    coef = [m.coefs_[0] if hasattr(m, "coefs_") else m.coef_ for m in (ours, theirs)]
    assert coef[0].dtype == coef[1].dtype
    assert_close(*coef, 2e-3)
    for name in ("predict_proba", "predict"):
        if hasattr(theirs, name):
            assert getattr(ours, name)(X).dtype == getattr(theirs, name)(X).dtype
