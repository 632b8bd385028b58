"""Negative sample weights: scikit-learn's results where it has any, else a refusal in words.

Under some of them the objective still has a minimum, though it is not convex; no warning about
roots of negative numbers or divisions by zero reaches the user.
"""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.linear_model
import sklearn.neural_network
from scipy.linalg import LinAlgWarning
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale

from skdeep import fit_many
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("error::RuntimeWarning"),
]

X, Y = load_iris(return_X_y=True)
BINARY = (Y == 1).astype(int)
N = np.arange(len(Y))
FEW = np.where(N % 10 == 0, -0.5, 1.0)
MOST = np.where(N % 3 == 0, 1.0, -1.0)
CANCEL = np.where(N % 2 == 0, 0.1, -0.1)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 20, "random_state": 0}


def theirs(estimator, y, weights, rows=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(rows, y, sample_weight=weights)


# Where the objective has a minimum


@pytest.mark.parametrize("y", [Y, BINARY], ids=["three", "two"])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"])
def test_logistic_regression_finds_the_minimum(solver, y, backend):
    model = LogisticRegression(solver=solver, tol=1e-8, backend=backend)
    model.fit(X, y, sample_weight=FEW)
    found = sklearn.linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-10)
    expected = theirs(found, y, FEW)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-4)


def test_sparse_rows_and_stacks():
    Cs = (0.1, 1.0)
    models = [LogisticRegression(C=C, tol=1e-8) for C in Cs]
    alone = [clone(model).fit(X, Y, sample_weight=FEW).coef_ for model in models]
    fit_many(models, X, Y, sample_weight=FEW)
    for model, coef in zip(models, alone, strict=True):
        np.testing.assert_allclose(model.coef_, coef, atol=1e-5)
    sparse = LogisticRegression(tol=1e-8).fit(sp.csr_array(X), Y, sample_weight=FEW)
    np.testing.assert_allclose(sparse.coef_, alone[1], atol=1e-5)


@pytest.mark.parametrize("y", [Y, BINARY], ids=["three", "two"])
def test_hessian_that_is_indefinite_is_left_to_lbfgs(y, backend):
    """Newton's direction would lead uphill; scikit-learn goes on with L-BFGS too."""
    weights = np.random.RandomState(9).normal(0.35, 1.5, len(y))
    model = LogisticRegression(solver="newton-cholesky", tol=1e-8, backend=backend)
    with pytest.warns(LinAlgWarning, match="Hessian"):
        model.fit(scale(X), y, sample_weight=weights)
    found = sklearn.linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-10)
    expected = theirs(found, y, weights, scale(X))
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-4)


@pytest.mark.parametrize("weights", [FEW, CANCEL], ids=["few", "cancel"])
def test_liblinear_leaves_the_rows_out(weights):
    params = {"solver": "liblinear", "tol": 1e-8}
    expected = theirs(sklearn.linear_model.LogisticRegression(**params), BINARY, weights)
    model = LogisticRegression(**params).fit(X, BINARY, sample_weight=weights)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-4)


@pytest.mark.parametrize("weights", [FEW, MOST, CANCEL], ids=["few", "most", "cancel"])
@pytest.mark.parametrize("params", [{}, {"penalty": "l2"}, {"penalty": "elasticnet"}], ids=str)
def test_perceptron(params, weights, engine):
    expected = theirs(sklearn.linear_model.Perceptron(**params), Y, weights)
    model = Perceptron(backend=engine, **params).fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10)


@pytest.mark.parametrize("weights", [FEW, MOST, -np.ones(len(Y))], ids=["few", "most", "all"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("net", ["MLPClassifier", "MLPRegressor"])
def test_networks_divide_by_what_a_batch_weighs(net, solver, weights, backend):
    expected = theirs(getattr(sklearn.neural_network, net)(solver=solver, **SMALL), Y, weights)
    ours = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}[net]
    model = ours(solver=solver, backend=backend, **SMALL).fit(X, Y, sample_weight=weights)
    for W, W_expected in zip(model.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(W, W_expected, rtol=1e-8, atol=1e-10)


def test_batch_that_weighs_nothing_teaches_nothing(backend):
    """Not even decay: rows that cancel, in batches of their own, leave the weights alone."""
    weights = np.where(N < 100, 1.0, CANCEL)
    params = {**SMALL, "batch_size": 50, "shuffle": False, "solver": "sgd", "momentum": 0.0}
    model = MLPClassifier(alpha=0.1, backend=backend, **params).fit(X, Y, sample_weight=weights)
    alone = MLPClassifier(alpha=0.1, backend=backend, **params)
    alone.partial_fit(X[:100], Y[:100], classes=[0, 1, 2])
    for _ in range(model.n_iter_ - 1):
        alone.partial_fit(X[:100], Y[:100])
    for W, W_alone in zip(model.coefs_, alone.coefs_, strict=True):
        np.testing.assert_allclose(W, W_alone, rtol=1e-8, atol=1e-10)


# Where there is none


@pytest.mark.parametrize("weights", [MOST, CANCEL, -np.ones(len(Y))], ids=["most", "cancel", "all"])
@pytest.mark.parametrize(
    "model",
    [
        *(LogisticRegression(solver=s) for s in ("lbfgs", "newton-cg", "newton-cholesky", "adam")),
        LogisticRegression(solver="saga", l1_ratio=1.0),
        LogisticRegressionCV(
            Cs=[1.0], cv=2, l1_ratios=(0.0,), scoring="accuracy", use_legacy_attributes=False
        ),
    ],
    ids=lambda model: f"{type(model).__name__}-{model.solver}",
)
def test_logistic_regression_needs_a_positive_sum(model, weights, backend):
    with pytest.raises(ValueError, match="sample_weight.* sums to .*positive"):
        clone(model).set_params(backend=backend).fit(X, Y, sample_weight=weights)


def test_logistic_regression_needs_a_positive_sum_of_each_class():
    """Or the intercept of that class falls without end; without one the penalty holds it."""
    weights = np.where((Y == 0) & (N % 3 > 0), -1.5, 1.0)
    with pytest.raises(ValueError, match="to -32.5 over those of one class"):
        LogisticRegression().fit(X, Y, sample_weight=weights)
    LogisticRegression(fit_intercept=False).fit(X, Y, sample_weight=weights)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("net", [MLPClassifier, MLPRegressor, Autoencoder])
def test_networks_need_a_sum(net, solver, backend):
    with pytest.raises(ValueError, match="sample_weight sums to zero"):
        net(solver=solver, backend=backend, **SMALL).fit(X, Y, sample_weight=CANCEL)


def test_roots_of_weights():
    with pytest.raises(ValueError, match="batch_norm needs sample_weight >= 0"):
        MLPClassifier(batch_norm=True, **SMALL).fit(X, Y, sample_weight=FEW)
    with pytest.raises(ValueError, match="solver='lm' needs sample_weight >= 0"):
        MLPRegressor(solver="lm", **SMALL).fit(X, Y, sample_weight=FEW)
    with pytest.raises(ValueError, match="sample_weight"):
        LinearDiscriminantAnalysis().fit(X, Y, sample_weight=FEW)


def test_held_out_rows_that_weigh_nothing():
    weights = np.where(N % 50 < 25, 1.0, 0.0)
    model = MLPClassifier(early_stopping=True, **SMALL)
    with pytest.raises(ValueError, match="sample_weight of the validation set sums to zero"):
        for seed in range(20):
            model.set_params(random_state=seed, validation_fraction=0.02).fit(
                X, Y, sample_weight=weights
            )
