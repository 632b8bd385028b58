"""``history_`` tells what training did, epoch by epoch."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_regression
from sklearn.preprocessing import StandardScaler

from skdeep import network
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.schedules import Cosine, Exponential, OneCycle, Progress, Step

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_REG, Y_REG = make_regression(n_samples=80, n_features=4, noise=1.0, random_state=0)
SMALL = {"hidden_layer_sizes": (7, 5), "max_iter": 6, "batch_size": 40, "random_state": 0}
ALWAYS = {"loss", "learning_rate", "gradient_norm", "mean_activation", "seconds"}
HELD_OUT = {"validation_loss", "validation_score"}
MODELS = {
    "classifier": (MLPClassifier(**SMALL), X, Y),
    "regressor": (MLPRegressor(**SMALL), X_REG, Y_REG),
    "autoencoder": (Autoencoder(**SMALL), X, None),
}
each = pytest.mark.parametrize("model, X, y", MODELS.values(), ids=MODELS)


@each
@pytest.mark.parametrize("early_stopping", [False, True])
def test_keys_and_lengths(model, X, y, early_stopping, backend):
    model.set_params(backend=backend, early_stopping=early_stopping).fit(X, y)
    history, n_layers = model.history_, len(model.coefs_)
    assert set(history) == ALWAYS | (HELD_OUT if early_stopping else set())
    assert {len(values) for values in history.values()} == {model.n_iter_} == {6}
    assert history["loss"] == model.loss_curve_ and history["loss"][-1] == model.loss_
    assert {len(norms) for norms in history["gradient_norm"]} == {n_layers}
    assert {len(means) for means in history["mean_activation"]} == {n_layers - 1}
    assert all(type(s) is float and 0 < s < 60 for s in history["seconds"])
    assert all(type(loss) is float for loss in history["loss"])
    if early_stopping:
        assert history["validation_score"] == model.validation_scores_
        assert np.isfinite(history["validation_loss"]).all()


@each
def test_validation_loss_is_that_of_the_given_rows(model, X, y, backend):
    """On the rows of training it is the training loss of the next epoch's start, penalty aside."""
    model.set_params(
        backend=backend, early_stopping=False, batch_size=len(X), alpha=0.0, shuffle=False
    )
    given = {"X_val": X} if y is None else {"X_val": X, "y_val": y}
    history = model.fit(X, y, **given).history_
    np.testing.assert_allclose(history["validation_loss"][:-1], history["loss"][1:], rtol=1e-9)


def test_it_goes_on(backend):
    model = MLPClassifier(**SMALL, backend=backend, warm_start=True).fit(X, Y)
    first = list(model.history_["loss"])
    model.fit(X, Y)
    assert model.history_["loss"][:6] == first and len(model.history_["loss"]) == 12
    model.partial_fit(X, Y)
    assert {len(values) for values in model.history_.values()} == {13}
    model.set_params(warm_start=False).fit(X, Y)
    assert model.history_["loss"] == first


def test_full_batch_solvers_have_a_curve_and_no_history():
    model = MLPRegressor(5, solver="lbfgs", max_iter=9, random_state=0)
    model = MLPRegressor(hidden_layer_sizes=5, solver="lbfgs", max_iter=9).fit(X_REG, Y_REG)
    assert not hasattr(model, "history_") and len(model.loss_curve_) == model.n_iter_


# The learning rate


@pytest.mark.parametrize(
    "learning_rate", [Step(3.0, 2), Exponential(0.7), Cosine(), OneCycle()], ids=str
)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_learning_rate_follows_the_schedule(learning_rate, solver, backend):
    """It is that of the epoch's first step; an epoch of 150 rows has four steps of 40."""
    model = MLPClassifier(**SMALL, solver=solver, learning_rate=learning_rate, backend=backend)
    expected = [
        float(learning_rate(0.001, Progress(4 * epoch, epoch, 150 * epoch, 0, total=24)))
        for epoch in range(6)
    ]
    np.testing.assert_allclose(model.fit(X, Y).history_["learning_rate"], expected, rtol=1e-12)
    assert len(set(expected)) > 1


def test_learning_rate_of_scikit_learns_schedules(backend):
    constant = MLPClassifier(**SMALL, backend=backend).fit(X, Y)
    assert set(constant.history_["learning_rate"]) == {0.001}
    scaled = MLPClassifier(**SMALL, solver="sgd", learning_rate="invscaling", backend=backend)
    expected = 0.001 / np.sqrt(150 * np.arange(6) + 1)
    np.testing.assert_allclose(scaled.fit(X, Y).history_["learning_rate"], expected, rtol=1e-12)
    adaptive = MLPClassifier(
        **SMALL, solver="sgd", learning_rate="adaptive", tol=10.0, n_iter_no_change=1
    )
    # From the first epoch on nothing improves by ten: the rate falls every second epoch.
    rates = adaptive.fit(X, Y).history_["learning_rate"]
    np.testing.assert_allclose(np.sort(rates)[::-1] / 0.001, [1, 1, 1, 0.2, 0.2, 0.04], rtol=1e-12)


@pytest.mark.parametrize("learning_rate", ["exponential", "cosine", "one_cycle"])
def test_warm_start_begins_the_schedule_anew(learning_rate):
    model = MLPClassifier(**SMALL, learning_rate=learning_rate, warm_start=True).fit(X, Y)
    rates = model.fit(X, Y).history_["learning_rate"]
    assert rates[:6] == rates[6:] and len(set(rates)) > 1


def test_rate_of_zero_is_recorded_as_zero():
    """Past its planned epochs, half a cosine stays at its end."""
    model = MLPClassifier(**{**SMALL, "max_iter": 2}, learning_rate="cosine")
    for _ in range(4):
        model.partial_fit(X, Y, classes=range(3))
    np.testing.assert_allclose(
        model.history_["learning_rate"], [0.001, 0.0005, 0.0, 0.0], atol=1e-18
    )


# Gradients and activations


def by_hand(model, X, y):
    """Gradient norms and mean activations, layer by layer, from a second pass over all rows."""
    net, n = model._fitted_network(), len(X)
    theta = model._theta(net)
    l2 = np.array([[model.alpha / n]])
    grad = network.value_and_grad(np, net, theta, X, y, np.full((1, 1), 1 / n), l2)[2]
    norms = [np.linalg.norm(W) for W in network.matrices(np, net, grad)]
    means = [np.abs(h).mean() for h in network.hidden_layers(np, net, theta, X)]
    return norms, means


@pytest.mark.parametrize("epoch", [1, 5])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradient_norm_and_mean_activation(epoch, activation, backend):
    """With one batch an epoch, those of an epoch are those at the end of the epoch before."""
    params = {**SMALL, "batch_size": len(X), "activation": activation, "backend": backend}
    params |= {"learning_rate_init": 0.01, "alpha": 0.5}
    before = MLPClassifier(**{**params, "max_iter": epoch}).fit(X, Y)
    history = MLPClassifier(**{**params, "max_iter": epoch + 1}).fit(X, Y).history_
    norms, means = by_hand(before, X, np.eye(3)[Y])
    np.testing.assert_allclose(history["gradient_norm"][epoch], norms, rtol=1e-8)
    np.testing.assert_allclose(history["mean_activation"][epoch], means, rtol=1e-8)


def test_gradient_norm_is_that_before_clipping():
    params = {**SMALL, "batch_size": len(X), "max_iter": 1}
    free = MLPClassifier(**params).fit(X, Y).history_["gradient_norm"]
    clipped = MLPClassifier(**params, clip_norm=1e-3).fit(X, Y).history_["gradient_norm"]
    assert free == clipped and np.linalg.norm(free) > 1e-2


def test_gradient_vanishes_through_ten_sigmoid_layers_and_not_through_relu(backend):
    """A sigmoid's slope is at most a quarter, a ReLU's is one where it is on."""

    def share_of_the_first_layer(activation, weight_init):
        model = MLPClassifier(
            hidden_layer_sizes=(20,) * 10,
            activation=activation,
            weight_init=weight_init,
            max_iter=3,
            random_state=0,
            backend=backend,
        ).fit(X, Y)
        norms = np.array(model.history_["gradient_norm"])
        return (norms[:, 0] / norms[:, -1]).max(), (norms[:, 0] / norms[:, -1]).min()

    assert share_of_the_first_layer("logistic", "glorot_normal")[0] < 1e-4
    assert share_of_the_first_layer("relu", "he_normal")[1] > 1e-1
