"""L-BFGS on linear models: its coordinates, its turns with Newton's method, its two precisions."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.linear_model
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.linalg import hadamard
from scipy.special import softmax
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from skdeep import fit_many
from skdeep.backends import get_backend
from skdeep.backends.numpy_backend import CACHED_SCORES, loss_along
from skdeep.linear_model import LogisticRegression
from skdeep.linear_model.logistic_problem import Penalty, make_problem
from skdeep.losses import LOSSES
from skdeep.solvers.full_batch import curvature, exact_newton, lbfgs, objective
from skdeep.solvers.full_batch.line_search import wolfe
from skdeep.solvers.full_batch.preconditioning import preconditioner


def gradient(model, X, y) -> float:
    """Largest entry of the gradient that the stopping rule is about."""
    codes = np.searchsorted(model.classes_, y)
    scores = X @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:
        residual = 1.0 / (1.0 + np.exp(-scores)) - codes[:, None]
    else:
        residual = softmax(scores, axis=1) - np.eye(scores.shape[1])[codes]
    n = len(y)
    weights = residual.T @ X / n + model.coef_ / (model.C * n)
    return max(abs(weights).max(), abs(residual.mean(axis=0)).max())


def problem(X, y, Cs, fit_intercept=True):
    classes, codes = np.unique(y, return_inverse=True)
    return make_problem(
        X,
        codes,
        len(classes),
        [Penalty("l2", C, 0.0) for C in Cs],
        solver="lbfgs",
        dtype="float64",
        tol=1e-4,
        max_iter=100,
        fit_intercept=fit_intercept,
        intercept_scaling=1.0,
    )


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_whitened_hessian_starts_as_the_identity(n_classes, fit_intercept, constant):
    X, y = make_classification(
        n_samples=300,
        n_features=8,
        n_informative=6,
        n_redundant=0,
        n_classes=n_classes,
        random_state=0,
    )
    X = X * np.logspace(-1, 2, 8) + 3.0
    left_out = constant and fit_intercept  # for the intercept does its work
    if constant:
        X[:, 0] = 3.0
    Cs = [1e-4, 1.0, 100.0]
    stack, backend = problem(X, y, Cs, fit_intercept), get_backend("numpy")
    space = preconditioner(backend, stack)
    k = stack.net.units[1]
    P = stack.theta.shape[1]
    # Softmax knows differences between outputs only: take a direction for the first output alone.
    curvature = 0.25 if k == 1 else 1.0 / k
    p = X.shape[1]
    for m, C in enumerate(Cs):
        extended = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
        H = curvature * extended.T @ extended / len(X)
        H[:p, :p] += np.eye(p) / (C * len(X))
        one = objective.take(np, space, np.array([m]))._replace(invariant=False)
        B = np.zeros((P // k, P // k))
        for j in range(P // k):
            d = np.zeros((1, P // k, k))
            d[0, j, 0] = 1.0
            B[:, j] = one.direction(np, d.reshape(1, P)).reshape(P // k, k)[:, 0]
        identity = np.eye(P // k)
        identity[0, 0] -= left_out
        assert_allclose(B.T @ H @ B, identity, atol=1e-8)
        g = np.random.RandomState(m).randn(1, P // k, k)
        expected = np.einsum("ij,mik->mjk", B, g)
        assert_allclose(one.gradient(np, g.reshape(1, P)).reshape(g.shape), expected, atol=1e-8)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_features_too_many_for_blocks_are_scaled(fit_intercept, form, monkeypatch):
    # Without correlations that much is the inverse of the Hessian.
    monkeypatch.setattr(curvature, "MAX_FEATURES", 0)
    X = hadamard(16)[:, 1:6] * [1.0, 3.0, 0.5, 2.0, 5.0] + 2.0 * fit_intercept
    stack = problem(form(X), np.arange(16) % 2, [0.1, 10.0], fit_intercept)
    all_rows = objective.make_objective(get_backend("numpy"), stack)
    point = all_rows.at(stack.theta)
    g = np.random.RandomState(0).randn(*point.theta.shape)
    expected = np.linalg.solve(curvature.hessian(all_rows, point), g[..., None])[..., 0]
    assert_allclose(curvature.BlockPreconditioner.at(all_rows, point)(np, g), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss, k", [("log_loss", 3), ("binary_log_loss", 1)])
def test_blocks_of_rows_add_up(loss, k, weighted, dtype):
    rng = np.random.RandomState(0)
    M, n = 2, CACHED_SCORES // (2 * k) + 100
    raw, change = (rng.randn(M, k, n).astype(dtype).mT for _ in range(2))
    y = (rng.rand(n, k) < 0.5).astype(dtype) if k == 1 else np.eye(k, dtype=dtype)[np.arange(n) % k]
    w = rng.rand(M, n).astype(dtype) if weighted else np.full((M, 1), 1.0, dtype)
    step = np.array([0.5, 2.0], dtype)
    arguments = np, LOSSES[loss], raw, change, step, y, w / n
    found, expected = loss_along(*arguments), objective.loss_along(*arguments)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        assert_allclose(ours, theirs, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-7)


@pytest.mark.parametrize("C", [1.0, 1e4, np.inf])
@pytest.mark.parametrize("spread", [0, 1, 2])
def test_no_warning_means_a_small_gradient(C, spread):
    # Constant and rare features, separable classes: where Newton's directions come to nothing.
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    X *= 10.0 ** np.random.RandomState(0).uniform(-spread, spread, X.shape[1])
    model = LogisticRegression(C=C, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert gradient(model, X, y) <= model.tol


@pytest.fixture(scope="module")
def many_rows():
    X, y = make_classification(
        n_samples=12_000,
        n_features=60,
        n_informative=20,
        n_redundant=0,
        n_classes=3,
        random_state=0,
    )
    assert X.shape[0] * 3 * (X.shape[1] + 1) >= lbfgs.LARGE
    return X, y


@pytest.mark.parametrize("tol", [1e-4, 1e-10])
def test_a_start_in_single_precision_ends_in_double(many_rows, tol):
    X, y = many_rows
    model = LogisticRegression(tol=tol).fit(X, y)
    assert model.coef_.dtype == np.float64
    assert gradient(model, X, y) <= tol
    reference = sklearn.linear_model.LogisticRegression(solver="newton-cg", tol=1e-10).fit(X, y)
    assert_allclose(model.coef_, reference.coef_, atol=1e-6 if tol < 1e-8 else 1e-2)


def test_large_entries_do_not_stop_it_early(many_rows):
    X, y = many_rows
    model = LogisticRegression(tol=1e-6).fit(255.0 * X + 100.0, y)
    assert gradient(model, 255.0 * X + 100.0, y) <= 1e-6


def test_iterations_of_both_precisions_count(many_rows):
    X, y = many_rows
    for max_iter in (0, 1, 5):
        with pytest.warns(ConvergenceWarning):
            model = LogisticRegression(max_iter=max_iter).fit(X, y)
        assert model.n_iter_ == max_iter


def test_a_stack_is_its_models(many_rows):
    X, y = many_rows
    Cs = [1e-4, 1e-2, 1.0]
    together = fit_many([LogisticRegression(C=C, tol=1e-8) for C in Cs], X, y)
    for C, model in zip(Cs, together, strict=True):
        alone = LogisticRegression(C=C, tol=1e-8).fit(X, y)
        assert_allclose(model.coef_, alone.coef_, atol=1e-6)


class Count:
    """A callback that counts iterations and ends the fit after ``last``."""

    def __init__(self, last=None):
        self.last, self.n_iter = last, 0

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.n_iter += fitted_estimator is not None and context.max_subtasks == 0
        return self.n_iter == self.last


def test_both_precisions_are_watched(many_rows):
    X, y = many_rows
    plain, count = LogisticRegression(tol=1e-8).fit(X, y), Count()
    watched = LogisticRegression(tol=1e-8).set_callbacks(count).fit(X, y)
    assert_allclose(watched.coef_, plain.coef_, rtol=1e-12)
    assert watched.n_iter_ == plain.n_iter_ == count.n_iter


@pytest.mark.parametrize("last", [1, 3, -1])
def test_a_callback_ends_either_precision(many_rows, last):
    X, y = many_rows
    n_iter = LogisticRegression(tol=1e-8).fit(X, y).n_iter_[0]
    last = last if last > 0 else int(n_iter) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = LogisticRegression(tol=1e-8).set_callbacks(Count(last)).fit(X, y)
    assert model.n_iter_ == last


@pytest.mark.parametrize("C", [1.0, np.inf])
@pytest.mark.parametrize("X", [np.zeros((60, 3)), np.full((60, 1), 7.0)], ids=["zero", "constant"])
def test_features_without_variance(X, C):
    y = np.arange(60) % 3
    weights = np.linspace(0.5, 2.0, 60)
    model = LogisticRegression(C=C).fit(X, y, sample_weight=weights)
    expected = [np.average(y == c, weights=weights) for c in range(3)]
    assert_allclose(model.predict_proba(X[:1])[0], expected, atol=1e-4)


@pytest.fixture(scope="module")
def very_many_rows():
    """Enough that float32 comes first, and the rows are sampled."""
    rng = np.random.RandomState(0)
    X = rng.randn(120_000, 17)
    return X, (X[:, 0] - X[:, 1] + rng.logistic(size=len(X)) > 0).astype(int)


def unpenalised(X, y):
    return sklearn.linear_model.LogisticRegression(C=np.inf, solver="newton-cg", tol=1e-8).fit(X, y)


@pytest.mark.parametrize("n", [2_000, 120_000])
@pytest.mark.parametrize("constant", [1.0, 3.7])
def test_a_constant_feature_is_the_intercepts(very_many_rows, constant, n):
    X, y = (array[:n] for array in very_many_rows)
    model = LogisticRegression(C=np.inf, tol=1e-7).fit(np.c_[X, np.full(n, constant)], y)
    assert_allclose(model.coef_[0], np.append(unpenalised(X, y).coef_, 0.0), atol=1e-4)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_features_far_from_zero(very_many_rows, offset):
    X, y = very_many_rows
    model = LogisticRegression(C=np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X + offset, y)
    assert_allclose(model.coef_, unpenalised(X, y).coef_, atol=0.01)
    assert model.n_iter_ < 30


@pytest.mark.parametrize("scale", [1e-40, 1e35])
def test_features_beyond_single_precision(very_many_rows, scale):
    X, y = very_many_rows
    model = LogisticRegression(C=np.inf, tol=1e-4 * scale).fit(scale * X, y)
    assert_allclose(scale * model.coef_, unpenalised(X, y).coef_, atol=0.01)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("every", [2, 29])
def test_rows_without_weight_are_not_there(very_many_rows, every):
    # 29 is what the subsampled start would take of these rows.
    X, y = very_many_rows
    weights = np.ones(len(y))
    weights[::every] = 0.0
    kept = weights > 0
    model = LogisticRegression(tol=1e-8).fit(X, y, sample_weight=weights)
    alone = LogisticRegression(tol=1e-8).fit(X[kept], y[kept])
    assert_allclose(model.coef_, alone.coef_, atol=1e-6)
    assert abs(model.n_iter_ - alone.n_iter_) <= 5


@pytest.mark.filterwarnings("error")
def test_weights_beyond_single_precision(very_many_rows):
    X, y = very_many_rows
    model = LogisticRegression(C=1e-50).fit(X, y, sample_weight=np.full(len(y), 1e50))
    assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, atol=1e-3)


@pytest.mark.parametrize("C", [1.0, 100.0])
def test_constant_features_cost_no_iterations(C, monkeypatch):
    # Among features that repeat others: both are directions without variance.
    monkeypatch.setattr(lbfgs, "_handover", lambda problem: 1000)
    monkeypatch.setattr(lbfgs, "LARGE", np.inf)
    X, y = load_digits(return_X_y=True)
    X = X[:, X.std(axis=0) > 0] / 16.0
    X = np.c_[X, X[:, :5]]
    p = X.shape[1]
    order = np.random.RandomState(0).permutation(p + 100)
    among = LogisticRegression(C=C).fit(np.c_[X, np.zeros((len(y), 100))][:, order], y)
    alone = LogisticRegression(C=C).fit(X, y)
    assert abs(among.n_iter_ - alone.n_iter_) <= 1
    assert_allclose(among.coef_[:, np.argsort(order)[:p]], alone.coef_, atol=1e-3)


@pytest.mark.parametrize("C", [1e3, 1e6])
def test_single_precision_takes_as_few_iterations(C, monkeypatch):
    monkeypatch.setattr(exact_newton, "CHEAP", 0)
    # Many of these directions have less variance than float32's Gram matrix would show.
    X, y = make_classification(2_000, 80, n_informative=20, n_redundant=0, random_state=0)
    rotation = np.linalg.qr(np.random.RandomState(0).randn(80, 80))[0]
    X = X @ np.diag(np.logspace(0, -3, 80)) @ rotation
    double = LogisticRegression(C=C).fit(X, y)
    single = LogisticRegression(C=C).fit(X.astype("float32"), y)
    assert single.coef_.dtype == np.float32
    assert single.n_iter_ <= double.n_iter_ + 3


def test_a_line_search_goes_where_steps_are_coarse():
    """Beyond 2**53 a step and one more are the same number."""
    line = SimpleNamespace(at=lambda step: (-step, -np.ones_like(step)))
    one = np.ones(1)
    with np.errstate(all="raise"):
        found = wolfe(np, line, np.zeros(1), -one, one)
    assert not found.all_ok
    assert found.step > 2.0**53


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weightless", [False, True])
def test_a_rehearsal_over_some_rows_spares_iterations_over_all(weightless, monkeypatch):
    monkeypatch.setattr(lbfgs, "LARGE", 0)
    monkeypatch.setattr(exact_newton, "CHEAP", 0)
    rng, n = np.random.RandomState(0), 20_000
    X = rng.randn(n, 8)
    y = X @ rng.randn(8) * 3.0 + rng.logistic(size=n) > 0
    # A subsample of every fourth row would have none of these.
    weights = (np.arange(n) % 4 > 0).astype(float) if weightless else np.ones(n)
    model = LogisticRegression(max_iter=3, C=np.inf).fit(X, y, weights)
    best = sklearn.linear_model.LogisticRegression(C=np.inf).fit(X, y, weights)
    losses = [log_loss(y, m.predict_proba(X), sample_weight=weights) for m in (model, best)]
    assert losses[0] < 1.05 * losses[1]  # without the subsample 1.3 times as much
