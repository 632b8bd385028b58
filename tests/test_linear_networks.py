"""Networks without a hidden layer: every loss and every parameter that they take."""

import pickle

import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import QuantileRegressor
from sklearn.preprocessing import scale

from skdeep import losses
from skdeep.neural_network import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X_REG, Y_REG = map(scale, load_diabetes(return_X_y=True))
X, Y = load_iris(return_X_y=True)
X = scale(X)
EXACT = {"solver": "lbfgs", "tol": 1e-9, "max_iter": 100}


def objective(loss, X, Y, alpha):
    """Mean loss of a linear model with weight decay, and its gradient, of a vector."""
    (n, p), k = X.shape, Y.shape[1]

    def value_and_grad(theta):
        W, b = theta[: p * k].reshape(p, k), theta[p * k :]
        value, grad = loss.value_and_grad(np, (X @ W + b)[None], Y[None], np.full((1, 1), 1 / n))
        decay = alpha / n * W
        slope = np.append((X.T @ grad[0] + decay).ravel(), grad[0].sum(axis=0))
        return value[0] + 0.5 * (decay * W).sum(), slope

    return value_and_grad


def parameters(model):
    return np.append(model.coefs_[0].ravel(), model.intercepts_[0])


# Losses without a Hessian, which Newton's method would need


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_huber(size, backend):
    model = MLPRegressor("huber", (), alpha=1.0, backend=backend, **EXACT).fit(X_REG, size * Y_REG)
    fn = objective(losses.Huber(), X_REG, size * Y_REG[:, None], alpha=1.0)
    expected = minimize(fn, np.zeros(11), jac=True, options={"gtol": 1e-9}).x
    np.testing.assert_allclose(parameters(model), expected, atol=1e-5 * size)


@pytest.mark.parametrize("target", [Y, Y == 1], ids=["three", "two"])
def test_squared_error_of_sigmoids(target, backend):
    model = MLPClassifier((), loss="squared_error", alpha=1.0, backend=backend, **EXACT)
    model.fit(X, target)
    Y_01 = np.eye(3)[Y] if target is Y else target[:, None].astype(float)
    fn = objective(losses.LOSSES["sigmoid_squared_error"], X, Y_01, alpha=1.0)
    expected = minimize(fn, np.zeros(5 * Y_01.shape[1]), jac=True, options={"gtol": 1e-9}).x
    np.testing.assert_allclose(parameters(model), expected, atol=1e-5)


@pytest.mark.parametrize(
    "loss, q", [("absolute_error", 0.5), ("quantile", 0.5), (losses.Quantile(0.9), 0.9)], ids=str
)
def test_losses_with_corners_come_near_the_linear_program(loss, q, backend):
    model = MLPRegressor(loss, (), alpha=0.0, backend=backend, **EXACT).fit(X_REG, Y_REG)
    best = QuantileRegressor(quantile=q, alpha=0.0).fit(X_REG, Y_REG)

    def pinball(model):
        residual = Y_REG - model.predict(X_REG)
        return np.maximum(q * residual, (q - 1) * residual).mean()

    assert pinball(best) <= pinball(model) < 1.01 * pinball(best)


def test_hinge_comes_near_the_linear_program(backend):
    model = MLPClassifier((), loss="hinge", alpha=0.0, backend=backend, **EXACT).fit(X, Y == 1)
    # Shortfalls s >= 0 with s >= 1 - sign (w x + b), of least sum.
    sign = np.where(Y == 1, 1.0, -1.0)[:, None]
    n, A = len(X), -sign * np.column_stack([X, np.ones(len(X))])
    best = linprog(
        np.append(np.zeros(5), np.full(n, 1 / n)),
        np.hstack([A, -np.eye(n)]),
        -np.ones(n),
        bounds=[(None, None)] * 5 + [(0, None)] * n,
    ).fun
    hinge = np.maximum(1 - sign[:, 0] * (X @ model.coefs_[0] + model.intercepts_[0])[:, 0], 0)
    assert best * (1 - 1e-9) <= hinge.mean() < 1.02 * best


class LogCosh:
    """A loss of the user's own that knows nothing of second derivatives."""

    out_activation = "identity"

    def value_and_grad(self, xp, raw, y, w):
        slope = xp.tanh(raw - y)
        size = xp.abs(raw - y)
        per_row = xp.sum(size + xp.log1p(xp.exp(-2 * size)), axis=-1)
        return xp.sum(w * per_row, axis=-1), slope * w[..., None]

    def predict(self, xp, raw):
        return raw


def test_loss_of_the_users_own(backend):
    model = MLPRegressor(LogCosh(), (), alpha=0.1, backend=backend, **EXACT).fit(X_REG, Y_REG)
    fn = objective(LogCosh(), X_REG, Y_REG[:, None], alpha=0.1)
    expected = minimize(fn, np.zeros(11), jac=True, options={"gtol": 1e-9}).x
    np.testing.assert_allclose(parameters(model), expected, atol=1e-5)


def test_function_of_scores():
    """A softmax for predictions does not make a loss indifferent to a shift of all its scores."""
    pytest.importorskip("torch")

    def squares(raw, y):
        return 0.5 * ((raw - y) ** 2).sum(-1)

    model = MLPClassifier((), loss=squares, alpha=0.0, backend="torch", **EXACT).fit(X, Y)
    A = np.column_stack([X, np.ones(len(X))])
    expected = np.linalg.lstsq(A, np.eye(3)[Y])[0]
    np.testing.assert_allclose(np.vstack([model.coefs_[0], model.intercepts_]), expected, atol=1e-6)


# Batch normalisation, which is of hidden layers


@pytest.mark.parametrize("net", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("n_members", [1, 2])
def test_batch_norm_has_no_effect(net, n_members, backend):
    params = {"max_iter": 3, "random_state": 0, "n_members": n_members, "backend": backend}
    plain = net(hidden_layer_sizes=(), **params).fit(X, Y)
    model = net(hidden_layer_sizes=(), batch_norm=True, warm_start=True, **params).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    assert not hasattr(model, "scales_")
    again = pickle.loads(pickle.dumps(model))
    for goes_on in (model.partial_fit, again.fit):
        goes_on(X, Y)
    assert len(model.coefs_) == 1 and np.isfinite(again.predict(X)).all()


def test_what_normalised_an_earlier_fit_is_gone(backend):
    model = MLPClassifier((4,), batch_norm=True, max_iter=3, random_state=0, backend=backend)
    model.fit(X, Y)
    assert len(model.scales_) == 1
    for params in ({"hidden_layer_sizes": ()}, {"hidden_layer_sizes": (5,), "batch_norm": False}):
        model.set_params(**params).fit(X, Y)
        assert not any(
            hasattr(model, name) for name in ("scales_", "running_means_", "running_variances_")
        )
        model.predict(X)
    model.set_params(batch_norm=True, warm_start=True)
    with pytest.raises(ValueError, match="batch_norm.*warm_start"):
        model.fit(X, Y)
