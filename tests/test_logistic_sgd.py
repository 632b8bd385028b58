"""Logistic regression by mini-batches: the same objective, steps that can be written down."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from skdeep import fit_many
from skdeep.linear_model import LogisticRegression
from skdeep.linear_model.logistic_cv import LogisticRegressionCV
from skdeep.neural_network import MLPClassifier
from skdeep.stochastic import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Plain gradient descent over all rows.
DESCENT = {
    "solver": "sgd",
    "batch_size": 10**9,
    "momentum": 0.0,
    "nesterovs_momentum": False,
    "n_iter_no_change": np.inf,
}


def rows(n_classes=2, n=120):
    return make_classification(
        n, 5, n_informative=3, n_redundant=0, n_classes=n_classes, random_state=0
    )


def zeros(rng, fan_in, fan_out, name):
    return np.zeros((fan_in, fan_out)), np.zeros(fan_out)


def assert_same(ours, theirs, rtol=1e-9):
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_batch_descent_reaches_the_optimum(n_classes, fit_intercept, backend):
    X, y = rows(n_classes)
    weight = np.random.RandomState(0).uniform(0.5, 2.0, len(y))
    common = {"C": 0.5, "fit_intercept": fit_intercept, "class_weight": "balanced"}
    exact = LogisticRegression(tol=1e-10, **common).fit(X, y, weight)
    params = DESCENT | {"momentum": 0.9, "nesterovs_momentum": True}
    model = LogisticRegression(
        **params, **common, learning_rate_init=0.5, max_iter=400, backend=backend
    ).fit(X, y, weight)
    assert_same(model, exact, 1e-5)


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_every_solver_comes_close(solver):
    X, y = rows(3)
    exact = LogisticRegression(tol=1e-8).fit(X, y)
    rate = {"sgd": 0.1, "adadelta": 1.0, "adagrad": 0.3}.get(solver, 0.02)
    model = LogisticRegression(
        solver=solver,
        learning_rate_init=rate,
        learning_rate="cosine",
        epsilon=1e-3 if solver == "adadelta" else 1e-8,
        max_iter=400,
        n_iter_no_change=np.inf,
    ).fit(X, y)

    def objective(m):
        return log_loss(y, m.predict_proba(X)) + 0.5 * (m.coef_**2).sum() / len(y)

    # A decoupled decay ends near the optimum, not there; others may want rates of their own.
    gap = 0.01 if solver in ("sgd", "adam", "adagrad", "rmsprop", "adadelta") else 0.1
    assert objective(exact) <= objective(model) < objective(exact) + gap


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3, 1.0])
def test_epoch_of_batch_descent_is_one_step(l1_ratio, backend):
    X, y = rows()
    rng = np.random.RandomState(1)
    weight, C, rate = rng.uniform(0.5, 2.0, len(y)), 0.3, 0.25
    model = LogisticRegression(
        **DESCENT, C=C, l1_ratio=l1_ratio, learning_rate_init=rate, max_iter=1, warm_start=True,
        backend=backend,
    ).fit(X, y, weight)  # fmt: skip
    for _ in range(2):
        w, b = model.coef_[0].copy(), model.intercept_[0]
        error = weight * (1.0 / (1.0 + np.exp(-(X @ w + b))) - y)
        penalty = (l1_ratio * np.sign(w) + (1.0 - l1_ratio) * w) / C
        model.fit(X, y, weight)
        np.testing.assert_allclose(
            model.coef_[0], w - rate * (X.T @ error + penalty) / weight.sum(), rtol=1e-10
        )
        np.testing.assert_allclose(model.intercept_, b - rate * error.sum() / weight.sum())


def test_loss_is_the_objective():
    X, y = rows()
    model = LogisticRegression(**DESCENT, C=0.2, l1_ratio=0.4, max_iter=3).fit(X, y)
    before = LogisticRegression(**DESCENT, C=0.2, l1_ratio=0.4, max_iter=2).fit(X, y)
    w = before.coef_
    penalty = (0.4 * np.abs(w).sum() + 0.3 * (w**2).sum()) / 0.2 / len(y)
    assert model.loss_ == pytest.approx(log_loss(y, before.predict_proba(X)) + penalty)
    assert model.loss_ == model.loss_curve_[-1] == model.history_["loss"][-1]
    assert len(model.history_["learning_rate"]) == model.n_iter_[0] == 3


@pytest.mark.parametrize("batch_size", [1, 20, "auto"])
@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_is_the_network_without_a_hidden_layer(solver, n_classes, batch_size):
    X, y = rows(n_classes)
    common = {
        "solver": solver,
        "batch_size": batch_size,
        "learning_rate_init": 0.01,
        "learning_rate": "invscaling",
        "max_iter": 4,
        "random_state": 3,
    }
    size = {"auto": 120}.get(batch_size, batch_size)
    # A net's alpha is per row of a batch, AdamW's decay as it stands.
    alpha = 2.0 / 120 * (1 if solver == "adamw" else size)
    net = MLPClassifier(hidden_layer_sizes=(), weight_init=zeros, alpha=alpha, **common).fit(X, y)
    model = LogisticRegression(C=0.5, **common).fit(X, y)
    np.testing.assert_allclose(model.coef_.T, net.coefs_[0], rtol=1e-9)
    np.testing.assert_allclose(model.intercept_, net.intercepts_[0], rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X), net.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_backends_agree(n_classes):
    pytest.importorskip("torch", reason="torch is not installed")
    X, y = rows(n_classes)
    common = {"solver": "adam", "batch_size": 32, "max_iter": 5, "random_state": 0, "l1_ratio": 0.5}
    ours = LogisticRegression(**common, backend="torch").fit(X, y)
    assert_same(ours, LogisticRegression(**common, backend="numpy").fit(X, y), 1e-8)


def test_sparse_rows(backend):
    X, y = rows(3)
    X = np.where(np.abs(X) > 0.7, X, 0.0)
    model = LogisticRegression(solver="adam", max_iter=5, random_state=0, backend=backend)
    assert_same(clone(model).fit(sp.csr_array(X), y), clone(model).fit(X, y))


def test_stack_is_separate_fits(backend):
    X, y = rows(3)

    def models():
        return [
            LogisticRegression(
                solver="sgd", C=C, learning_rate_init=rate, batch_size=50, max_iter=n,
                random_state=seed, backend=backend,
            )
            for C, rate, n, seed in [(1.0, 0.1, 7, 0), (0.1, 0.01, 4, 1), (np.inf, 0.2, 9, 2)]
        ]  # fmt: skip

    for ours, alone in zip(fit_many(models(), X, y), models(), strict=True):
        alone.fit(X, y)
        assert_same(ours, alone)
        np.testing.assert_allclose(ours.loss_curve_, alone.loss_curve_)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_over_all_rows_is_an_epoch(solver, backend):
    X, y = rows(3)
    params = {"solver": solver, "shuffle": False, "batch_size": 30, "backend": backend}
    whole = LogisticRegression(**params, max_iter=4).fit(X, y)
    stream = LogisticRegression(**params)
    for _ in range(4):
        stream.partial_fit(X, y, classes=[0, 1, 2])
    assert_same(stream, whole)
    assert stream.n_iter_ == whole.n_iter_ == 4
    np.testing.assert_allclose(stream.loss_curve_, whole.loss_curve_)


def test_partial_fit_streams():
    """Chunks may lack classes, and what came before is not forgotten."""
    X, y = rows(3, n=1200)
    order = np.argsort(y[:900], kind="stable").reshape(3, 300).T.ravel()
    model = LogisticRegression(
        solver="adam", learning_rate_init=0.05, random_state=0, class_weight={0: 1, 1: 2, 2: 1}
    )
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X[:3], y[:3])
    for chunk in np.array_split(order, 30):
        model.partial_fit(X[chunk], y[chunk], classes=np.arange(3))
    model = pickle.loads(pickle.dumps(model))
    model.partial_fit(X[:1], y[:1])
    exact = LogisticRegression(class_weight={0: 1, 1: 2, 2: 1}).fit(X[:900], y[:900])
    assert model.score(X[900:], y[900:]) > exact.score(X[900:], y[900:]) - 0.06
    with pytest.raises(ValueError, match="does not name"):
        model.partial_fit(X[:2], [0, 7])
    with pytest.raises(ValueError, match="balanced"):
        model.set_params(class_weight="balanced").partial_fit(X, y)


def test_partial_fit_is_for_mini_batches():
    assert not hasattr(LogisticRegression(), "partial_fit")
    assert not hasattr(LogisticRegressionCV(), "partial_fit")
    assert hasattr(LogisticRegression(solver="rmsprop"), "partial_fit")


def test_seed_decides_the_batches():
    X, y = rows()
    model = LogisticRegression(solver="sgd", batch_size=10, max_iter=3)
    a, b, c = (clone(model).set_params(random_state=seed).fit(X, y) for seed in (0, 0, 1))
    assert_same(a, b)
    assert not np.allclose(a.coef_, c.coef_)


def test_callbacks_see_every_epoch():
    X, y = rows()
    monitor = ScoringMonitor(scoring="accuracy")
    model = LogisticRegression(solver="adam", max_iter=6)
    model.set_callbacks(monitor).fit(X, y)
    assert model.n_iter_ == 6
    assert_same(model, LogisticRegression(solver="adam", max_iter=6, random_state=0).fit(X, y), 0.5)
    assert monitor.get_logs() is not None


def test_says_when_it_has_not_converged():
    X, y = rows()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)"):
        LogisticRegression(solver="sgd", max_iter=2).fit(X, y)


def test_decoupled_decay_is_no_lasso():
    X, y = rows()
    with pytest.raises(ValueError, match="'l2' or None"):
        LogisticRegression(solver="adamw", l1_ratio=0.5).fit(X, y)
    with pytest.raises(ValueError, match="solver"):
        LogisticRegressionCV(solver="sgd", l1_ratios=(0,), use_legacy_attributes=False).fit(X, y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_leaves_the_model_as_it_was(backend):
    X, y = rows()
    model = LogisticRegression(**DESCENT, max_iter=5, backend=backend).fit(X, y)
    before = model.coef_.copy()
    with pytest.raises(ValueError, match="non-finite"):
        model.set_params(learning_rate_init=1e300, max_iter=60).fit(1e10 * X, y)
    np.testing.assert_array_equal(model.coef_, before)
