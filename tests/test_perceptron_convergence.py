"""What a perceptron says of its convergence, its batch rule and its average."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs, make_classification
from sklearn.linear_model import SGDClassifier

from skdeep import fit_many
from skdeep.linear_model import Perceptron

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def separable(n_classes=2):
    X, y = make_blobs(120, 4, centers=n_classes, cluster_std=0.8, random_state=3)
    return X, y


def overlapping(n_classes=2):
    return make_classification(
        150, 6, n_informative=4, n_classes=n_classes, flip_y=0.1, random_state=0
    )


def by_hand(X, y, eta=1.0, weights=None, epochs=1000):
    """The rule in a few lines, without shuffles: w, b, mistakes, and the mean of [w, b]."""
    w, b, mistakes, path = np.zeros(X.shape[1]), 0.0, 0, []
    weights = np.ones(len(y)) if weights is None else weights
    for _ in range(epochs):
        for x, t, a in zip(X, np.where(y == 1, 1.0, -1.0), weights, strict=True):
            if t * (w @ x + b) <= 0:
                w, b = w + eta * a * t * x, b + eta * a * t
                mistakes += 1
            path.append(np.append(w, b))
    return w, b, mistakes, np.mean(path, axis=0)


@pytest.mark.parametrize("eta0", [1.0, 0.3])
def test_mistakes_are_those_of_the_rule(engine, eta0):
    X, y = overlapping()
    weights = np.random.RandomState(0).uniform(0.5, 2.0, len(y))
    model = Perceptron(shuffle=False, max_iter=7, tol=None, eta0=eta0, backend=engine)
    model.fit(X, y, sample_weight=weights)
    w, b, mistakes, _ = by_hand(X, y, eta0, weights, 7)
    np.testing.assert_allclose(model.coef_[0], w)
    np.testing.assert_allclose(model.intercept_, b)
    assert model.n_updates_ == mistakes
    assert not model.converged_
    assert np.isnan(model.margin_)
    assert model.mistake_bound_ == np.inf


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_novikoff_holds(engine, make, fit_intercept, seed):
    X, y = separable()
    if not fit_intercept:
        X = X - X.mean(axis=0)
    model = Perceptron(
        random_state=seed, tol=None, max_iter=60, fit_intercept=fit_intercept, backend=engine
    ).fit(make(X), y)
    assert model.converged_
    assert 0 < model.n_updates_ <= model.mistake_bound_ < np.inf
    c = 0.0 if not fit_intercept else 1.0 if make is np.asarray else 0.1
    w, b = model.coef_[0], model.intercept_[0]
    rows = np.column_stack([X, np.full(len(y), c)])
    plane = np.append(w, b / c if c else 0.0)
    distances = np.where(y == 1, 1, -1) * (rows @ plane) / np.linalg.norm(plane)
    assert model.margin_ == pytest.approx(distances.min())
    assert model.radius_ == pytest.approx(np.linalg.norm(rows, axis=1).max())
    assert model.mistake_bound_ == pytest.approx((model.radius_ / model.margin_) ** 2)


def test_each_class_has_its_own(engine):
    X, y = load_iris(return_X_y=True)
    model = Perceptron(tol=None, max_iter=30, backend=engine).fit(X, y)
    assert model.converged_.tolist() == [True, False, False]
    assert np.isfinite(model.margin_).tolist() == [True, False, False]
    assert model.n_updates_[0] <= model.mistake_bound_[0] < model.mistake_bound_[1] == np.inf
    assert model.radius_.shape == model.n_updates_.shape == (3,)


def test_engines_count_alike(monkeypatch):
    X, y = overlapping(3)
    counts = []
    for backend in ("numpy", "torch"):
        if backend == "torch":
            pytest.importorskip("torch", reason="torch is not installed")
        counts.append(Perceptron(tol=None, max_iter=9, backend=backend).fit(X, y).n_updates_)
    np.testing.assert_array_equal(*counts)


def test_rows_held_out_do_not_count(engine):
    X, y = separable()
    X, y = np.vstack([X, X[:1]]), np.append(y, 1 - y[0])  # one row more, on the wrong side
    model = Perceptron(early_stopping=True, backend=engine)
    found = {bool(clone(model).set_params(random_state=s).fit(X, y).converged_) for s in range(25)}
    assert True in found


def test_partial_fit_adds_up(engine):
    X, y = overlapping()
    stream = Perceptron(shuffle=False, backend=engine)
    for _ in range(3):
        stream.partial_fit(X, y, classes=[0, 1])
    whole = Perceptron(shuffle=False, max_iter=3, tol=None, backend=engine).fit(X, y)
    assert stream.n_updates_ == whole.n_updates_
    np.testing.assert_allclose(stream.coef_, whole.coef_)


def test_warm_start_from_a_separator_makes_no_mistake(engine):
    X, y = separable()
    model = Perceptron(tol=None, max_iter=50, warm_start=True, backend=engine).fit(X, y)
    assert model.n_updates_ > 0
    assert model.fit(X, y).n_updates_ == 0
    assert model.converged_


# The average


@pytest.mark.parametrize("params", [{}, {"penalty": "l2"}])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_average_is_that_of_scikit_learn(engine, make, n_classes, params):
    X, y = overlapping(n_classes)
    X = make(np.where(np.abs(X) > 0.4, X, 0.0))
    common = {"average": True, "max_iter": 5, "tol": None, "random_state": 2, "eta0": 0.5, **params}
    theirs = SGDClassifier(
        loss="perceptron", learning_rate="constant", **{"penalty": None, **common}
    ).fit(X, y)
    ours = Perceptron(**common, backend=engine).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-9)


def test_average_by_hand(engine):
    X, y = overlapping()
    model = Perceptron(shuffle=False, max_iter=4, tol=None, average=True, backend=engine).fit(X, y)
    _, _, mistakes, mean = by_hand(X, y, epochs=4)
    np.testing.assert_allclose(np.append(model.coef_[0], model.intercept_), mean)
    assert model.n_updates_ == mistakes
    stream = clone(model)
    for _ in range(4):
        stream.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(np.append(stream.coef_[0], stream.intercept_), mean)
    assert stream.n_updates_ == mistakes


def test_a_stream_that_is_no_longer_averaged_goes_on_from_the_average(engine):
    X, y = overlapping()
    model = Perceptron(shuffle=False, average=True, backend=engine)
    model.partial_fit(X, y, classes=[0, 1])
    start = model.coef_.copy(), model.intercept_.copy()
    model.set_params(average=False).partial_fit(X, y)
    fresh = Perceptron(shuffle=False, max_iter=1, tol=None, backend=engine)
    fresh.fit(X, y, coef_init=start[0], intercept_init=start[1])
    np.testing.assert_allclose(model.coef_, fresh.coef_)
    np.testing.assert_allclose(model.intercept_, fresh.intercept_)


# The batch rule


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_batch_rule_by_hand(backend, make):
    X, y = overlapping(3)
    T = (y[:, None] == np.arange(3)).astype(float)
    rows, W = np.column_stack([X, np.ones(len(y))]), np.zeros((7, 3))
    mistakes = np.zeros(3)
    for _ in range(6):
        Y = (rows @ W >= 0).astype(float)
        mistakes += np.abs(Y - T).sum(axis=0)
        W -= 0.1 * rows.T @ (Y - T)
    model = Perceptron(update="batch", eta0=0.1, max_iter=6, tol=None, backend=backend)
    model.fit(make(X), y)
    np.testing.assert_allclose(np.vstack([model.coef_.T, model.intercept_]), W, atol=1e-10)
    np.testing.assert_array_equal(model.n_updates_, mistakes)
    stream = clone(model)
    for _ in range(6):
        stream.partial_fit(make(X), y, classes=np.arange(3))
    np.testing.assert_allclose(stream.coef_, model.coef_, atol=1e-10)


def test_batch_rule_separates(backend):
    X, y = separable()
    model = Perceptron(update="batch", tol=None, max_iter=300, backend=backend).fit(X, y)
    assert model.converged_
    assert model.score(X, y) == 1.0
    assert model.set_params(warm_start=True).fit(X, y).n_updates_ == 0


@pytest.mark.parametrize("params", [{"update": "batch"}, {"average": True}, {}])
def test_stack_is_separate_fits(backend, params):
    X, y = overlapping(3)

    def models():
        return [
            Perceptron(eta0=eta, random_state=seed, max_iter=n, tol=None, backend=backend, **params)
            for eta, seed, n in [(1.0, 0, 5), (0.1, 1, 3), (0.5, 2, 7)]
        ]

    for ours, alone in zip(fit_many(models(), X, y), models(), strict=True):
        alone.fit(X, y)
        np.testing.assert_allclose(ours.coef_, alone.coef_, atol=1e-12)
        np.testing.assert_array_equal(ours.n_updates_, alone.n_updates_)


@pytest.mark.parametrize("params", [{"penalty": "l2"}, {"average": True}])
def test_batch_rule_says_what_it_does_not_do(params):
    X, y = separable()
    with pytest.raises(ValueError, match="update='batch'"):
        Perceptron(update="batch", **params).fit(X, y)
    with pytest.raises(ValueError, match="average=True"):
        Perceptron(average=True, penalty="l1").fit(X, y)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize(
    "dtype, size", [("float64", 1e160), ("float64", 1e-160), ("float32", 1e30)]
)
def test_radius_of_rows_whose_squares_overflow(make, dtype, size):
    X, y = separable()
    model = Perceptron(fit_intercept=False, tol=None, max_iter=2, dtype=dtype)
    model.fit(make((size * X).astype(dtype)), y)
    longest = np.linalg.norm(X, axis=1).max()
    np.testing.assert_allclose(model.radius_ / size, longest, rtol=1e-5)


def test_a_bound_that_overflows_is_infinite_and_does_not_warn():
    X = np.array([[1e-200, 0.0], [-1e-200, 1e160]])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = Perceptron(shuffle=False).fit(X, [1, 0])
    assert model.margin_ > 0
    assert model.mistake_bound_ == np.inf
