"""One answer at the default tolerance, whatever form the data have and by whatever road.

The truth is scikit-learn's Newton method at a tolerance of 1e-10.
"""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import sklearn.linear_model
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn import datasets
from sklearn.datasets import make_classification
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skdeep import fit_many
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV
from skdeep.solvers.full_batch import exact_newton, newton

NAMES = ("iris", "wine", "breast_cancer", "digits")


@cache
def data(name, scaled=True, binary=False):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return StandardScaler().fit_transform(X) if scaled else X, (y > 0).astype(int) if binary else y


def scores(model, X):
    """Scores of which only differences between classes count, relative to the largest."""
    found = model.decision_function(X)
    return found if found.ndim == 1 else found - found.mean(axis=1, keepdims=True)


def gap(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def slope(model, X, y):
    """The largest entry of the mean gradient, without a penalty."""
    p = model.predict_proba(X) - (y[:, None] == model.classes_)
    p = p[:, 1:] if len(model.classes_) == 2 else p
    return max(np.abs(p.T @ X).max(), np.abs(p.sum(axis=0)).max()) / len(y)


ROADS = {
    "rows in a piece": lambda C, X, y: LogisticRegression(C=C).fit(np.ascontiguousarray(X), y),
    "columns in a piece": lambda C, X, y: LogisticRegression(C=C).fit(np.asfortranarray(X), y),
    "csr": lambda C, X, y: LogisticRegression(C=C).fit(sparse.csr_array(X), y),
    "csc": lambda C, X, y: LogisticRegression(C=C).fit(sparse.csc_array(X), y),
    "a stack": lambda C, X, y: stacked(C, X, y),
    "a fold": lambda C, X, y: LogisticRegression(C=C).fit(*among_others(X, y)),
    "warm start": lambda C, X, y: warm(C, X, y),
    "torch": lambda C, X, y: LogisticRegression(C=C, backend="torch").fit(X, y),
}


def stacked(C, X, y):
    models = [LogisticRegression(C=c) for c in (C / 100, C, 10 * C)]
    return fit_many(models, X, y)[1]


def among_others(X, y):
    """The rows among others of no weight."""
    rng = np.random.RandomState(0)
    more = rng.randint(0, len(y), len(y) // 4)
    order = rng.permutation(len(y) + len(more))
    weight = np.r_[np.ones(len(y)), np.zeros(len(more))]
    return np.r_[X, X[more]][order], np.r_[y, rng.permutation(y)[: len(more)]][order], weight[order]


def warm(C, X, y):
    model = LogisticRegression(C=C / 10, warm_start=True).fit(X, y)
    return model.set_params(C=C).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*[Ll]ine search|ill-conditioned")
@pytest.mark.parametrize("C", [0.01, 1.0, 1e3])
@pytest.mark.parametrize("binary", [False, True], ids=["all classes", "two classes"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "raw"])
@pytest.mark.parametrize("name", NAMES)
def test_every_road_leads_to_the_optimum(name, scaled, binary, C):
    if binary and name == "breast_cancer":
        pytest.skip("breast cancer has two classes as it is")
    X, y = data(name, scaled, binary)
    bound = 1e-6 if C <= 1 else 1e-4
    truth = sklearn.linear_model.LogisticRegression(
        C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000
    ).fit(X, y)
    found = {road: scores(fit(C, X, y), X) for road, fit in ROADS.items()}
    for road, score in found.items():
        assert gap(score, found["rows in a piece"]) <= bound, road
        assert gap(score, scores(truth, X)) <= 10 * bound, road


@pytest.mark.parametrize("name", NAMES)
def test_folds_of_a_search_are_fits_of_their_rows(name):
    X, y = data(name)
    folds = [
        (np.arange(len(y))[np.arange(len(y)) % 3 != k], np.arange(k, len(y), 3)) for k in range(3)
    ]
    search = LogisticRegressionCV(
        Cs=[0.1, 1.0], cv=folds, scoring="accuracy", l1_ratios=(0,), use_legacy_attributes=False
    )
    search.fit(X, y)
    for k, (train, _) in enumerate(folds):
        for c, C in enumerate([0.1, 1.0]):
            alone = LogisticRegression(C=C).fit(X[train], y[train])
            theta = search.coefs_paths_[k, 0, c]
            other = LogisticRegression().fit(X[train], y[train])
            other.coef_, other.intercept_ = theta[:, :-1], theta[:, -1]
            assert gap(scores(other, X), scores(alone, X)) <= 1e-6


@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky", "sag", "saga"])
@pytest.mark.parametrize("name", NAMES)
def test_every_solver_of_the_smooth_objective_too(name, solver):
    X, y = data(name)
    one = LogisticRegression().fit(X, y)
    other = LogisticRegression(solver=solver).fit(X, y)
    assert gap(scores(other, X), scores(one, X)) <= 1e-6


@pytest.mark.parametrize("C", [0.01, 1.0, 1e3])
@pytest.mark.parametrize("k", [2, 5])
def test_many_rows_within_a_thousandth(k, C):
    X, y = make_classification(40_000, 60, n_informative=20, n_classes=k, random_state=0)
    truth = LogisticRegression(C=C, tol=1e-8).fit(X, y)
    forms = (X, np.asfortranarray(X), sparse.csr_array(X))
    found = [scores(LogisticRegression(C=C).fit(form, y), X) for form in forms]
    for score in found:
        assert gap(score, found[0]) <= 1e-3
        assert gap(score, scores(truth, X)) <= 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_number_of_threads(name):
    X, y = data(name)
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            found.append(scores(LogisticRegression().fit(X, y), X))
    assert gap(*found) <= 1e-6


SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from skdeep.linear_model import LogisticRegression
from test_same_answer import NAMES, data, scores
found = {}
for name in NAMES:
    for scaled in (True, False):
        X, y = data(name, scaled)
        found[f"{name} {scaled}"] = scores(LogisticRegression().fit(X, y), X)
np.savez(sys.argv[2], **found)
"""


def test_kernels_of_the_blas(tmp_path):
    """OpenBLAS has kernels for each processor; their sums differ in the last digits."""
    found = []
    for kernel in ("", "Haswell", "Prescott"):
        path = tmp_path / f"{kernel}.npz"
        environment = {**os.environ, "OPENBLAS_CORETYPE": kernel}
        if not kernel:
            environment.pop("OPENBLAS_CORETYPE")
        subprocess.run(
            [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), path],
            env=environment,
            check=True,
        )
        found.append(np.load(path))
    for other in found[1:]:
        for name, score in other.items():
            assert gap(score, found[0][name]) <= 1e-6, name


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky"])
@pytest.mark.parametrize("name", ["iris", "digits"])
def test_a_start_with_weights_that_sum_to_something(name, solver):
    X, y = data(name)
    model = LogisticRegression(solver=solver, warm_start=True).fit(X, y)
    coef = model.coef_.copy()
    model.coef_ = coef + np.random.RandomState(0).randn(coef.shape[1])
    assert_allclose(model.fit(X, y).coef_, coef, atol=1e-5)


# What stands in the way of Newton's method


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_the_hessian_is_formed_around_the_mean(offset):
    X, y = data("wine")
    near = LogisticRegression(C=10.0).fit(X, y)
    far = LogisticRegression(C=10.0).fit(X + offset, y)
    assert far.n_iter_ <= near.n_iter_ + 2
    assert gap(scores(far, X + offset), scores(near, X)) <= 1e-6


def test_constant_features_are_left_to_the_intercept():
    X, y = data("wine", binary=True)
    model = LogisticRegression(C=np.inf, tol=1e-2).fit(np.c_[X, np.full(len(y), 3.7)], y)
    assert model.coef_[0, -1] == 0.0


def test_a_constant_feature_loses_the_coefficient_of_a_warm_start():
    X, y = data("wine", binary=True)
    X = np.c_[X, np.full(len(y), 3.7)]
    model = LogisticRegression(warm_start=True).fit(X, y)
    before = scores(model, X)
    model.coef_[0, -1] = 1.0
    model.fit(X, y)
    assert_allclose(model.coef_[0, -1], 0.0, atol=1e-8)
    assert gap(scores(model, X), before) <= 1e-6


@pytest.mark.filterwarnings("ignore::scipy.linalg.LinAlgWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky"])
def test_a_start_far_off_settles_as_any_other(solver):
    """Where all probabilities are 0 or 1 the Hessian is singular; at the optimum it is not."""
    X, y = data("iris")
    model = LogisticRegression(C=30.0, solver=solver, max_iter=1000, warm_start=True).fit(X, y)
    expected = scores(model, X)
    model.coef_ = 1e3 * np.sign(np.random.RandomState(0).randn(*model.coef_.shape))
    assert gap(scores(model.fit(X, y), X), expected) <= 1e-6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("few", [True, False], ids=["Hessian formed", "not formed"])
def test_gradients_become_small_without_a_penalty(few, monkeypatch):
    """Classes that can be told apart, with rare features: directions come to nothing there."""
    for module in (exact_newton, newton):
        monkeypatch.setattr(module, "MAX_PARAMETERS", 10_000 if few else 0)
    X, y = data("digits", binary=not few)
    for seed in range(5):
        scale = 10.0 ** np.random.RandomState(seed).uniform(-2, 2, X.shape[1])
        for solver in ("lbfgs",) if few else ("lbfgs", "newton-cg"):
            model = LogisticRegression(C=np.inf, max_iter=500, solver=solver).fit(X * scale, y)
            assert slope(model, X * scale, y) <= model.tol


# Scales of X at which squares overflow


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky", "newton-cg", "saga"])
@pytest.mark.parametrize("dtype, exponent", [("float64", 500), ("float64", 1000), ("float32", 100)])
def test_powers_of_two_of_the_same_data(dtype, exponent, solver, form):
    # With next to no penalty the coefficients scale with one over X.
    X, y = make_classification(200, 4, n_redundant=0, flip_y=0.3, random_state=0)
    X, C = X.astype(dtype), 1e30
    near = LogisticRegression(solver=solver, C=C).fit(form(X), y)
    far = LogisticRegression(solver=solver, C=C).fit(
        form(X * np.asarray(2.0, dtype) ** exponent), y
    )
    assert far.coef_.dtype == dtype
    factor = 2.0**exponent
    assert_allclose(far.coef_ * factor, near.coef_, rtol=1e-2 if dtype == "float32" else 1e-5)


@pytest.mark.filterwarnings("error", "ignore:lbfgs failed to converge")  # nothing is within tol
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("scale", [1e15, 1e160])
@pytest.mark.parametrize("name", NAMES)
def test_absurd_scales_are_fitted(name, scale, form):
    X, y = data(name)
    model = LogisticRegression().fit(form(X * scale), y)
    assert np.isfinite(model.coef_).all()
    assert model.score(X * scale, y) > 0.95


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("cls", [LogisticRegression, LogisticRegressionCV])
def test_indices_of_a_sparse_matrix_stay_as_they_were(cls):
    X, y = data("iris")
    X = sparse.csr_array(X)
    X.indices, X.data = (
        X.indices.reshape(-1, 4)[:, ::-1].ravel(),
        X.data.reshape(-1, 4)[:, ::-1].ravel(),
    )
    X.has_sorted_indices = False
    indices, values = X.indices.copy(), X.data.copy()
    cls().fit(X, y)
    assert (X.indices == indices).all()
    assert (X.data == values).all()


def test_where_there_is_no_one_optimum_scores_stay_small():
    """More features than rows and next to no penalty: a small gradient is the end by every road."""
    X, y = make_classification(n_samples=10, n_features=20, random_state=42)
    model = LogisticRegression(C=1e30).fit(X, y)
    scores = model.decision_function(X)
    assert 5 < abs(scores).max() < 20
    for form in (np.asfortranarray(X), sparse.csr_array(X)):
        other = LogisticRegression(C=1e30).fit(form, y)
        assert other.n_iter_ == model.n_iter_
        assert_allclose(other.decision_function(X), scores, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*[Ll]ine search")
@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("C", [1.0, np.inf])
def test_what_all_classes_start_with_ends_as_in_scikit_learn(C, solver, few, monkeypatch):
    for module in (exact_newton, newton):
        monkeypatch.setattr(module, "MAX_PARAMETERS", 10_000 if few else 0)
    rng = np.random.RandomState(0)
    X, y = rng.randn(300, 4) + 2.0, rng.randint(0, 3, 300)
    found = []
    for cls in (LogisticRegression, sklearn.linear_model.LogisticRegression):
        model = cls(C=C, solver=solver, tol=1e-6, warm_start=True).fit(X, y)
        # The scores do not tell, but a penalty on the weights does.
        model.coef_, model.intercept_ = model.coef_ + 1.0, model.intercept_ + 3.0
        found.append(model.fit(X, y))
    assert_allclose(found[0].coef_, found[1].coef_, atol=1e-4)
    assert_allclose(found[0].intercept_, found[1].intercept_, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e3])
@pytest.mark.parametrize(
    "params", [{}, {"solver": "newton-cg"}, {"solver": "saga", "l1_ratio": 0.5}]
)
def test_single_precision_far_from_zero(params, offset, backend):
    """Four classes that mingle, features of unlike scales: the Hessian is nearly singular."""
    X, _ = datasets.load_wine(return_X_y=True)
    X, y = (X[:38, :5] + offset).astype("float32"), np.arange(38) % 4
    for C in (0.5, 10.0):
        single = LogisticRegression(C=C, backend=backend, **params).fit(X, y)
        assert single.coef_.dtype == np.float32
        double = LogisticRegression(C=C, **params).fit(X.astype("float64"), y)
        expected = double.decision_function(X.astype("float64"))
        found = single.decision_function(X.astype("float64"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
