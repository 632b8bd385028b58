"""Parts of proximal Newton's method against their definitions."""

import numpy as np
import pytest
import sklearn.linear_model
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.metrics import log_loss

from skdeep import fit_many
from skdeep.linear_model import LogisticRegression
from skdeep.solvers.full_batch import proximal
from skdeep.stacking import solve_stack


@pytest.mark.parametrize("by", [0.0, 0.5])
def test_shrink_minimises_its_objective(by):
    for u in (-2.0, -0.3, 0.0, 0.4, 3.0):
        best = minimize_scalar(lambda v, u=u: 0.5 * (v - u) ** 2 + by * abs(v), bounds=(-4, 4)).x
        assert_allclose(proximal.soft_threshold(np, np.array(u), by), best, atol=1e-5)


def test_steepest_is_the_subgradient_of_least_norm():
    u = np.array([[-1.0, 0.0, 0.0, 0.0, 2.0]])
    grad = np.array([[0.3, 0.3, -2.0, 2.0, 0.3]])
    found = proximal.steepest(np, u, grad, np.full((1, 5), 0.5))
    assert_allclose(found, [[-0.2, 0.0, -1.5, 1.5, 0.8]])


@pytest.mark.parametrize("k", [3, 4])
def test_recentred_weights_have_the_least_sum_of_sizes(k):
    rng = np.random.RandomState(0)
    u = rng.randn(2, 5 * k) + np.repeat(rng.uniform(-3, 3, (2, 5)), k, axis=1)
    l1, decay = np.full((2, 5 * k), 0.1), np.zeros((2, 5 * k))
    l1[1, -k:] = 0.0  # an intercept without a penalty stays
    found = proximal.recentre(np, u, k, l1, decay).reshape(2, 5, k)
    before = u.reshape(2, 5, k)
    assert_allclose(np.diff(found, axis=2), np.diff(before, axis=2))
    least = np.abs(before - np.median(before, axis=2, keepdims=True)).sum(axis=2)
    least[1, -1] = np.abs(before[1, -1]).sum()
    assert_allclose(np.abs(found).sum(axis=2), least)
    # Where decay decides between the outputs, nothing is shifted.
    assert_allclose(proximal.recentre(np, u, k, l1, decay + 0.1), u)


def test_a_median_of_zero_stays_zero():
    u = np.array([[-1.0, 0.0, 2.0, 3.0]])
    assert_allclose(proximal.recentre(np, u, 4, np.ones((1, 4)), np.zeros((1, 4))), u)


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_hessian_formed_or_not(ratio, monkeypatch):
    rng = np.random.RandomState(0)
    X = rng.randn(200, 12)
    y = softmax(X[:, :3] + rng.randn(200, 3), axis=1).argmax(axis=1)
    model = LogisticRegression(solver="saga", l1_ratio=ratio, C=0.2, tol=1e-9)
    formed = model.fit(X, y).coef_
    monkeypatch.setattr(proximal, "MAX_IN_PLAY", 0)
    assert_allclose(model.fit(X, y).coef_, formed, atol=1e-6)
    assert (formed == 0).any()


def test_the_step_in_an_orthant_goes_to_its_minimum():
    """Proximal steps alone would be far away yet, for the features are nearly the same."""
    rng = np.random.RandomState(0)
    X = rng.randn(300, 1) + 0.01 * rng.randn(300, 20)
    y = X @ rng.randn(20) * 5.0 + rng.logistic(size=300) > 0
    params = {"C": 10.0, "l1_ratio": 1.0, "fit_intercept": False}
    ours = LogisticRegression(**params, solver="saga", tol=1e-9).fit(X, y)
    theirs = sklearn.linear_model.LogisticRegression(
        **params, solver="liblinear", tol=1e-12, max_iter=100_000, random_state=0
    ).fit(X, y)
    assert_allclose(ours.coef_, theirs.coef_, atol=2e-5)


def test_a_start_far_off_leads_to_the_same_minimum():
    rng = np.random.RandomState(0)
    X = rng.randn(300, 6)
    y = X[:, 0] - X[:, 1] + rng.logistic(size=300) > 0
    model = LogisticRegression(solver="saga", l1_ratio=1.0, tol=1e-8, warm_start=True).fit(X, y)
    coef = model.coef_
    # Hardly any curvature is left there, and Newton's steps are far too long.
    model.coef_ = -50.0 * coef
    assert_allclose(model.fit(X, y).coef_, coef, atol=1e-6)


@pytest.mark.parametrize(("solver", "ratio"), [("lbfgs", 0.0), ("saga", 0.5), ("saga", 1.0)])
def test_the_loss_is_the_objective(solver, ratio):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(solver=solver, l1_ratio=ratio, C=0.3)
    result = solve_stack(*next(model._fitting(X, y)))
    coef = model.fit(X, y).coef_
    penalty = ratio * np.abs(coef).sum() + (1.0 - ratio) / 2.0 * (coef * coef).sum()
    expected = log_loss(y, model.predict_proba(X)) + penalty / (0.3 * len(y))
    assert_allclose([result.loss[0], result.curve[0][-1]], expected)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("k", [2, 3])
def test_many_features_of_which_few_count(k, fit_intercept, form):
    rng, C = np.random.RandomState(0), 0.2
    X = rng.randn(200, 400)
    y = (2.0 * X[:, :k] + rng.gumbel(size=(200, k))).argmax(axis=1)
    params = {"C": C, "l1_ratio": 1.0, "fit_intercept": fit_intercept}
    model = LogisticRegression(**params, solver="saga", tol=1e-8).fit(form(X), y)
    error = model.predict_proba(X) - np.eye(k)[y]
    w, slope = model.coef_, C * error[:, 1 if k == 2 else 0 :].T @ X
    # No slope is steeper than the penalty, and where a weight is not zero the two are in balance.
    assert_allclose(np.clip(np.abs(slope), 1.0, None), 1.0, atol=1e-5)
    assert_allclose(slope[w != 0], -np.sign(w[w != 0]), atol=1e-5)
    assert 0 < np.count_nonzero(w) < w.size / 4
    if fit_intercept:
        assert_allclose(error.sum(axis=0), 0.0, atol=1e-5)


def rough_objective(model, X, y):
    """What is minimised, by its formula."""
    losses = -log_softmax(X @ model.coef_.T + model.intercept_, axis=1)[np.arange(len(y)), y]
    sizes, ratio = np.abs(model.coef_), model.l1_ratio
    return losses.sum() + (ratio * sizes + 0.5 * (1 - ratio) * sizes**2).sum() / model.C


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_few_iterations_however_far_from_zero(fit_intercept):
    """Proximal steps alone crawl there: features are nearly collinear."""
    rng, y = np.random.default_rng(0), np.arange(40) % 3
    X = rng.normal(size=(40, 3)) + y[:, None]
    model = LogisticRegression(solver="saga", l1_ratio=0.5, fit_intercept=fit_intercept)
    near = rough_objective(model.fit(X, y), X, y)
    for offset in (100.0, 1e3, 1e4):
        far = rough_objective(model.fit(X + offset, y), X + offset, y)
        assert model.n_iter_[0] <= 15
        if fit_intercept:
            assert_allclose(far, near, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_alone_and_in_a_stack(n_classes, ratio, offset):
    """At the default tolerance, and where coefficients of pure L1 are not unique: four classes."""
    X, _ = load_wine(return_X_y=True)
    X, y = X[::3] + offset, np.arange(len(X[::3])) % n_classes
    models = [LogisticRegression(solver="saga", l1_ratio=ratio, C=C) for C in (0.25, 0.5, 10.0)]
    for stacked in fit_many([clone(model) for model in models], X, y):
        scores = clone(stacked).fit(X, y).decision_function(X)
        atol = 1e-6 * np.abs(scores).max()
        assert_allclose(stacked.decision_function(X), scores, rtol=0, atol=atol)


def test_of_an_even_number_the_median_of_more_outputs_becomes_zero():
    def recentred(*u):
        one = np.ones((1, 4))
        return proximal.recentre(np, np.array([u]), 4, one, 0.0 * one)[0]

    for shift in (-2.0, 0.0, 0.5):
        assert_allclose(recentred(*(np.array([-1.0, 0.0, 2.0, 3.0]) + shift)), [-1, 0, 2, 3])
        assert_allclose(recentred(*(np.array([-2.0, -1.0, 0.0, 0.0]) + shift)), [-2, -1, 0, 0])
