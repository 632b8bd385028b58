"""Networks of layers that are named one by one."""

import pickle
from math import prod

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skdeep import fit_many, model_selection
from skdeep.layers import (
    Activation,
    AveragePool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected2D,
    MaxPool2D,
    Residual,
    Scale,
)
from skdeep.neural_network import (
    Autoencoder,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)
from skdeep.regularization import GaussianNoise

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS, Y = load_digits(return_X_y=True)
DIGITS, Y = DIGITS[:300] / 16.0, Y[:300]
SHORT = {"max_iter": 3, "random_state": 0, "learning_rate_init": 0.01}
SMALL = [Conv2D(4, 3), MaxPool2D(2), Flatten(), Dense(16)]
IMAGES = {"layers": SMALL, "input_shape": (8, 8), **SHORT}


def same(one, other, rtol=1e-10):
    assert len(one.coefs_) == len(other.coefs_)
    for a, b in zip(
        [*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_], strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "lbfgs"},
        {"dropout": 0.3, "batch_norm": True},
        {"dropout": [0.1, 0.2, 0.3]},
        {"n_members": 2, "early_stopping": True},
        {"pretraining": Autoencoder(max_iter=2, noise="masking")},
    ],
    ids=str,
)
def test_dense_layers_are_a_perceptron_of_many(params, backend):
    mlp = MLPClassifier((12, 7), ["tanh", "relu"], backend=backend, **SHORT, **params)
    layers = [Dense(12, "tanh"), Dense(7)]
    net = NetworkClassifier(layers, backend=backend, **SHORT, **params).fit(DIGITS, Y)
    same(net, mlp.fit(DIGITS, Y), rtol=1e-15)
    np.testing.assert_array_equal(net.predict_proba(DIGITS), mlp.predict_proba(DIGITS))


def test_a_scale_of_each_input_is_learned(backend):
    """One that cannot move is a plain network; one that can ends where a scaled X would begin."""
    layers = [Scale(), Dense(6, "tanh")]
    net = NetworkClassifier(layers, backend=backend, alpha=0.0, **SHORT).fit(DIGITS, Y)
    (scale,) = net.scales_
    assert scale.shape == (64,) and 0.005 < np.abs(scale - 1.0).max() < 0.1
    folded = MLPClassifier(6, "tanh", **SHORT).fit(DIGITS, Y)
    folded.coefs_ = [scale[:, None] * net.coefs_[0], net.coefs_[1]]
    folded.intercepts_ = net.intercepts_
    np.testing.assert_allclose(net.predict_proba(DIGITS), folded.predict_proba(DIGITS), rtol=1e-10)


def test_without_layers_there_is_one_of_a_hundred():
    same(NetworkClassifier(**SHORT).fit(DIGITS, Y), MLPClassifier(**SHORT).fit(DIGITS, Y), 1e-15)
    X, y = load_diabetes(return_X_y=True)
    X = X * 20
    same(NetworkRegressor(**SHORT).fit(X, y), MLPRegressor(**SHORT).fit(X, y), 1e-15)


def test_dropout_as_a_layer_is_the_parameter():
    layers = [Dense(12), Dropout(0.25)]
    net = NetworkClassifier(layers, **SHORT).fit(DIGITS, Y)
    # The parameter has a layer of rate zero for the input, which draws nothing.
    same(net, MLPClassifier(12, dropout=0.25, **SHORT).fit(DIGITS, Y), 1e-15)


DEEP = [
    BatchNorm(),
    Conv2D(4, 3, activation=None),
    BatchNorm(),
    Activation("swish"),
    Residual([Conv2D(4, 3, activation="tanh"), Dropout(0.2), Conv2D(4, 3, activation=None)]),
    LocallyConnected2D(2, 3, stride=2),
    AveragePool2D(2),
    Dense(8),
]


@pytest.mark.parametrize(
    "layers, dtype", [(SMALL, "float64"), (SMALL, "float32"), (DEEP, "float64")]
)
def test_backends_agree(layers, dtype):
    params = {**IMAGES, "layers": layers, "dtype": dtype}
    one, other = (NetworkClassifier(**params, backend=b).fit(DIGITS, Y) for b in ("numpy", "torch"))
    same(one, other, rtol=1e-8 if dtype == "float64" else 0.05)
    assert one.coefs_[0].dtype == dtype
    X = DIGITS.astype(dtype)
    atol = 1e-10 if dtype == "float64" else 1e-2
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=atol)


def test_it_learns_what_a_filter_sees(backend):
    """Products of neighbours, everywhere alike: shared weights find them from few rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 20))
    y = (X[:, 1:] * X[:, :-1]).sum(axis=1) / 3
    params = {"max_iter": 50, "batch_size": 32, "learning_rate_init": 0.01, "random_state": 0}
    layers = [Conv1D(16, 2, padding="valid"), Dense(8)]
    shared = NetworkRegressor(layers, (20, 1), backend=backend, **params).fit(X[:300], y[:300])
    dense = NetworkRegressor([Dense(160), Dense(8)], **params).fit(X[:300], y[:300])
    assert shared.score(X[300:], y[300:]) > 0.8 > 0.6 > dense.score(X[300:], y[300:])


def test_a_stack_is_so_many_fits(backend):
    models = [
        NetworkClassifier([Conv2D(3, 3), Dropout(rate), Dense(5)], (8, 8), backend=backend, **SHORT)
        for rate in (0.1, 0.5)
    ]
    alone = [clone(model).fit(DIGITS, Y) for model in models]
    for one, other in zip(fit_many(models, DIGITS, Y), alone, strict=True):
        same(one, other, rtol=1e-7)


def test_members_are_separate_fits():
    model = NetworkClassifier(**IMAGES, n_members=2).fit(DIGITS, Y)
    assert model.coefs_[0].shape == (2, 9, 4) and model.intercepts_[0].shape == (2, 4)
    first = NetworkClassifier(**IMAGES).fit(DIGITS, Y)
    np.testing.assert_allclose(model.coefs_[0][0], first.coefs_[0], rtol=1e-10)


@pytest.mark.parametrize("solver", ["lbfgs", "lm"])
def test_full_batch_solvers(solver):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:80] * 20, (y[:80] - 150) / 80
    layers = [Conv1D(2, 3, activation="tanh"), Residual([Dense(20, "tanh")])]
    with pytest.raises(ValueError, match="restore the shape"):
        NetworkRegressor(layers, (10, 1), solver=solver).fit(X, y)
    layers = [Conv1D(2, 3, activation="tanh"), Dense(4, "tanh"), Residual([Dense(4, "tanh")])]
    net = NetworkRegressor(layers, (10, 1), solver=solver, random_state=0, max_iter=100)
    assert net.fit(X, y).score(X, y) > 0.8


def test_lbfgs_over_layers_without_parameters_or_activations(backend):
    """Least squares over the maxima of windows: the closed form."""
    X = np.random.RandomState(0).randn(60, 16)
    y = X.reshape(60, 4, 4)[:, :2].max(axis=(1, 2)) + X[:, 3]
    net = NetworkRegressor([MaxPool2D(2)], (4, 4), solver="lbfgs", alpha=0, max_iter=500)
    net.set_params(tol=1e-10, backend=backend).fit(X, y)
    maxima = X.reshape(60, 2, 2, 2, 2).max(axis=(2, 4)).reshape(60, 4)
    best = LinearRegression().fit(maxima, y)
    np.testing.assert_allclose(net.predict(X), best.predict(maxima), rtol=1e-5, atol=1e-6)


def test_images_of_more_axes_and_flattened_rows_are_the_same(backend):
    images = DIGITS.reshape(-1, 8, 8)
    flat = NetworkClassifier(**IMAGES, backend=backend).fit(DIGITS, Y)
    for X in (images, images[..., None]):
        params = {**IMAGES, "input_shape": None, "backend": backend}
        net = NetworkClassifier(**params).fit(X, Y, X_val=X[:50], y_val=Y[:50])
        same(net, flat, 1e-15)
        assert net.input_shape_ == (8, 8, 1) and net.n_features_in_ == 64
        np.testing.assert_array_equal(net.predict(X), flat.predict(DIGITS))
        np.testing.assert_array_equal(net.predict(DIGITS), flat.predict(DIGITS))
    tensors = pytest.importorskip("torch").tensor(images)
    same(
        NetworkClassifier(**{**IMAGES, "input_shape": None}, backend="numpy").fit(tensors, Y), flat
    )


def test_parameters_within_layers():
    net = NetworkClassifier([Conv2D(4, 3), Residual([Dense(8)])])
    params = net.get_params()
    assert params["layers__0__filters"] == 4 and params["layers__1__layers__0__units"] == 8
    assert "layers__0__filters" not in net.get_params(deep=False)
    before = net.layers
    net.set_params(layers__0__filters=6, layers__1__layers__0__units=9, alpha=0.1)
    assert net.layers == [Conv2D(6, 3), Residual([Dense(9)])] and net.alpha == 0.1
    assert before == [Conv2D(4, 3), Residual([Dense(8)])], "another list's owner sees no change"
    for name in ("layers__0__units", "layers__5__units", "layers__x"):
        with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
            net.set_params(**{name: 1})
    copy = clone(net)
    assert copy.layers == net.layers and copy.layers is not net.layers


@pytest.mark.parametrize("search", [GridSearchCV, model_selection.GridSearchCV])
def test_search_over_layers_and_within(search, backend):
    net = NetworkClassifier(**IMAGES, backend=backend)
    grid = [
        {"layers": [SMALL, [Flatten(), Dense(8)]]},
        {"layers__0__filters": [2, 6], "alpha": [0.1, 1.0]},
    ]
    found = search(net, grid, cv=2).fit(DIGITS, Y)
    assert len(found.cv_results_["params"]) == 6
    for params, score in zip(
        found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True
    ):
        alone = cross_val_score(clone(net).set_params(**params), DIGITS, Y, cv=2).mean()
        assert score == pytest.approx(alone, abs=0.01)


def test_pickles_and_pipelines():
    pipe = make_pipeline(MinMaxScaler(), NetworkClassifier(**IMAGES, warm_start=True))
    pipe.fit(DIGITS, Y)
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(again.predict_proba(DIGITS), pipe.predict_proba(DIGITS))
    net, state = pipe[-1], pipe[-1].n_iter_
    net.fit(DIGITS, Y)
    assert net.n_iter_ == state and net.loss_ < pipe[-1].loss_curve_[0]
    # A fitted model predicts as it was fitted, whatever its parameters say by now.
    expected = net.predict(DIGITS)
    net.set_params(layers=None, input_shape=None)
    np.testing.assert_array_equal(net.predict(DIGITS), expected)


def test_partial_fit_goes_on():
    net = NetworkClassifier(**IMAGES, shuffle=False)
    whole = clone(net).fit(DIGITS, Y)
    for _ in range(3):
        net.partial_fit(DIGITS, Y, classes=range(10))
    np.testing.assert_allclose(net.loss_curve_, whole.loss_curve_, rtol=1e-10)
    net.set_params(layers__0__filters=5)
    with pytest.raises(ValueError, match="layers, the number of outputs"):
        net.partial_fit(DIGITS, Y)


def test_fitted_shapes_and_history():
    net = NetworkClassifier(**IMAGES).fit(DIGITS, Y)
    assert [W.shape for W in net.coefs_] == [(9, 4), (64, 16), (16, 10)]
    assert [b.shape for b in net.intercepts_] == [(4,), (16,), (10,)]
    assert net.layers_ == SMALL and net.n_layers_ == 4 and net.out_activation_ == "softmax"
    assert np.shape(net.history_["gradient_norm"]) == (3, 3)
    assert np.shape(net.history_["mean_activation"]) == (3, 2)


@pytest.mark.parametrize(
    "params, text",
    [
        ({"layers": [Conv2D(2, 3)]}, "input_shape"),
        ({"layers": [Conv2D(2, 3)], "input_shape": (8, 9)}, "72 numbers, but X has 64"),
        ({"layers": [64]}, "layers lists 64"),
        ({"layers": "dense"}, "'layers' parameter"),
        ({"layers": SMALL, "input_shape": (8, 8), "pretraining": Autoencoder()}, "pretraining"),
        ({"layers": [BatchNorm(), Dense(3)], "solver": "lbfgs", "dropout": 0.1}, "dropout"),
        ({"layers": [Dense(3)], "dropout": [0.1, 0.2, 0.3]}, "1 hidden layers"),
    ],
)
def test_refusals(params, text):
    with pytest.raises(ValueError, match=text):
        NetworkClassifier(**params).fit(DIGITS, Y)


@pytest.mark.parametrize("layer", [BatchNorm(), Dropout(0.5)])
@pytest.mark.parametrize("solver", ["lbfgs", "lm"])
def test_layers_of_mini_batches_are_refused_by_others(layer, solver):
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match=f"{type(layer).__name__}.*solver='{solver}'"):
        NetworkRegressor([layer, Dense(3)], solver=solver).fit(X, y)


def test_sparse_rows_need_a_dense_layer_first():
    from scipy.sparse import csr_array

    X = csr_array(DIGITS * (DIGITS > 0.5))
    net = NetworkClassifier([Dense(5)], **SHORT).fit(X, Y)
    same(net, NetworkClassifier([Dense(5)], **SHORT).fit(X.toarray(), Y))
    with pytest.raises(ValueError, match="X is sparse"):
        NetworkClassifier(**IMAGES).fit(X, Y)
    with pytest.raises(ValueError, match="X is sparse, which GaussianNoise in regularizers"):
        MLPClassifier(regularizers=[GaussianNoise(0.1)]).fit(X, Y)


@pytest.mark.parametrize("initializer", ["he_normal", "orthogonal", "glorot_uniform"])
def test_initial_weights_of_convolutions(initializer):
    """A filter's fan-in is its patch."""
    layers = [Conv2D(64, 5), Flatten()]
    still = {"learning_rate_init": 1e-300, "solver": "sgd", "max_iter": 1}
    net = NetworkClassifier(layers, (8, 8), weight_init=initializer, random_state=0, **still)
    W = net.fit(DIGITS, Y).coefs_[0]
    assert W.shape == (25, 64)
    if initializer == "he_normal":
        assert W.std() == pytest.approx(np.sqrt(2 / 25), rel=0.1)
    if initializer == "glorot_uniform":
        assert abs(W).max() == pytest.approx(np.sqrt(6 / (25 + 64)), rel=0.05)
    if initializer == "orthogonal":
        gram = W @ W.T
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(25), atol=1e-10)


def test_regression_of_several_outputs():
    X, _ = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    net = NetworkRegressor([Conv1D(3, 3), Dense(8)], (10, 1), max_iter=30, random_state=0)
    predicted = net.fit(X, X[:, :2]).predict(X)
    assert predicted.shape == (len(X), 2) and net.coefs_[0].shape == (3, 3)
    assert prod(net.input_shape_) == 10


def test_images_without_rows_are_refused_in_words():
    for X in (np.zeros((0, 4, 4)), np.zeros((0, 16))):
        with pytest.raises(ValueError, match="0 sample"):
            NetworkRegressor([Flatten()], input_shape=(4, 4, 1)).fit(X, np.zeros(0))
