"""The autoencoder: principal components, noise, layer by layer, and as pre-training."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import subspace_angles
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeep.backends import get_backend
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
DIGITS = load_digits().data[:300] / 16
SMALL = {"hidden_layer_sizes": (6, 2), "max_iter": 5, "batch_size": 32, "random_state": 0}
SMALL["learning_rate_init"] = 0.01
VARIANTS = {
    "plain": {},
    "tied": {"tied_weights": True},
    "masking": {"noise": "masking", "noise_level": 0.3},
    "gaussian": {"noise": "gaussian", "noise_level": 0.3},
    "layerwise": {"layerwise": True},
    "tied, masked and layerwise": {
        "tied_weights": True,
        "noise": "masking",
        "noise_level": 0.3,
        "layerwise": True,
    },
    "batch_norm": {"batch_norm": True},
    "tied batch_norm": {"batch_norm": True, "tied_weights": True, "dropout": 0.1},
    "absolute_error": {"loss": "absolute_error", "activation": ["tanh", "identity"]},
    "early_stopping": {"early_stopping": True},
    "lbfgs": {"solver": "lbfgs"},
}
every = pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS)


def coder(**params):
    return Autoencoder(**{**SMALL, **params})


def numbers(model):
    names = ("coefs_", "intercepts_", "scales_", "running_means_", "running_variances_")
    return np.concatenate([a.ravel() for name in names for a in getattr(model, name, [])])


def initial(model, X, y=None):
    """The parameters that training starts from."""
    return clone(model)._problem(X, y, backend=get_backend("numpy")).theta[0]


# scikit-learn's checks, on both backends


@parametrize_with_checks(
    [
        Autoencoder(hidden_layer_sizes=(3,), max_iter=20, backend=backend)
        for backend in ("numpy", "torch")
    ]
)
def test_estimator_checks(estimator, check):
    if estimator.backend == "torch":
        pytest.importorskip("torch")
    check(estimator)


# The same for every variant


@every
def test_torch_agrees_with_numpy(params):
    pytest.importorskip("torch")
    one, other = (coder(backend=b, **params).fit(X) for b in ("numpy", "torch"))
    rtol = 1e-6 if params.get("solver") == "lbfgs" else 1e-8
    np.testing.assert_allclose(numbers(other), numbers(one), rtol=rtol, atol=1e-9)
    np.testing.assert_allclose(other.transform(X), one.transform(X), rtol=rtol, atol=1e-9)


@every
def test_decoding_the_code_is_predicting(params, backend):
    model = coder(backend=backend, **params).fit(X)
    codes = model.transform(X)
    assert codes.shape == (150, 2)
    np.testing.assert_allclose(model.inverse_transform(codes), model.predict(X), rtol=1e-9)
    assert model.score(X) == pytest.approx(-np.mean((model.predict(X) - X) ** 2))
    np.testing.assert_array_equal(model.transform(X), codes)
    np.testing.assert_array_equal(coder(backend=backend, **params).fit_transform(X), codes)


@every
def test_the_variant_changes_the_fit(params):
    assert (params == {}) == np.array_equal(
        coder(**params).fit(X).predict(X), coder().fit(X).predict(X)
    )


@every
def test_clone_and_pickle(params):
    model = clone(coder(**params)).fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    if params.get("solver") != "lbfgs" and not params.get("early_stopping"):
        np.testing.assert_array_equal(numbers(again.partial_fit(X)), numbers(model.partial_fit(X)))


@pytest.mark.parametrize("tied", [False, True])
def test_warm_start_and_partial_fit_go_on(tied, backend):
    model = coder(tied_weights=tied, warm_start=True, backend=backend).fit(X)
    first = model.loss_curve_[-1]
    model.fit(X)
    assert len(model.loss_curve_) == 10 and model.loss_curve_[-1] < first
    assert model.partial_fit(X).loss_curve_[-1] < first
    if tied:
        for W, mirrored in zip(model.coefs_, reversed(model.coefs_), strict=True):
            np.testing.assert_array_equal(W, mirrored.T)


# Shape


def test_layers_are_mirrored():
    model = coder(hidden_layer_sizes=(8, 5, 2), activation=["relu", "tanh", "identity"]).fit(X)
    assert [W.shape for W in model.coefs_] == [(4, 8), (8, 5), (5, 2), (2, 5), (5, 8), (8, 4)]
    h = X
    for i, f in enumerate((lambda z: np.maximum(z, 0), np.tanh, lambda z: z)):
        h = f(h @ model.coefs_[i] + model.intercepts_[i])
    np.testing.assert_allclose(model.transform(X), h, rtol=1e-9)
    for i, f in ((3, np.tanh), (4, lambda z: np.maximum(z, 0)), (5, lambda z: z)):
        h = f(h @ model.coefs_[i] + model.intercepts_[i])
    np.testing.assert_allclose(model.predict(X), h, rtol=1e-9)


def test_names_and_containers():
    pandas = pytest.importorskip("pandas")
    model = coder(hidden_layer_sizes=3).fit(X)
    names = ["autoencoder0", "autoencoder1", "autoencoder2"]
    assert model.get_feature_names_out().tolist() == names
    frame = model.set_output(transform="pandas").transform(X)
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns) == names
    pipe = make_pipeline(StandardScaler(), coder(hidden_layer_sizes=3, layerwise=True))
    frame = pipe.set_output(transform="pandas").fit_transform(load_iris(as_frame=True).data)
    assert list(frame.columns) == names and frame.shape == (150, 3)


# Principal components


@pytest.fixture(scope="module")
def low_rank():
    rng = np.random.RandomState(0)
    factors = rng.randn(200, 8) * np.array([5, 4, 3, 0.5, 0.4, 0.3, 0.2, 0.1])
    return factors @ np.linalg.qr(rng.randn(8, 8))[0] + rng.randn(8)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_code", [1, 3])
def test_linear_autoencoder_spans_the_principal_components(low_rank, tied, n_code, backend):
    model = Autoencoder(
        n_code,
        "identity",
        tied_weights=tied,
        solver="lbfgs",
        alpha=0.0,
        tol=1e-7,
        max_iter=2000,
        random_state=0,
        backend=backend,
    ).fit(low_rank)
    pca = PCA(n_code).fit(low_rank)
    best = np.mean((pca.inverse_transform(pca.transform(low_rank)) - low_rank) ** 2)
    # No linear code of this length does better than PCA's.
    assert best * (1 - 1e-9) <= -model.score(low_rank) <= best * 1.01
    angles = subspace_angles(model.coefs_[1].T, pca.components_.T)
    assert np.degrees(angles).max() < 1.0
    if tied:
        # Tied weights settle on orthonormal ones.
        np.testing.assert_allclose(model.coefs_[0].T @ model.coefs_[0], np.eye(n_code), atol=1e-2)


# Noise


@pytest.mark.parametrize("noise, level", [("masking", 0.3), ("gaussian", 0.3)])
def test_denoising_undoes_noise(noise, level, backend):
    """Trained to undo noise, it reconstructs disturbed digits better than one that was not."""
    params = {"hidden_layer_sizes": 40, "max_iter": 40, "backend": backend}
    plain = coder(**params).fit(DIGITS)
    denoising = coder(noise=noise, noise_level=level, **params).fit(DIGITS)
    rng = np.random.RandomState(0)
    disturbed = (
        DIGITS * (rng.rand(*DIGITS.shape) >= level)
        if noise == "masking"
        else DIGITS + level * rng.randn(*DIGITS.shape)
    )
    errors = [np.mean((m.predict(disturbed) - DIGITS) ** 2) for m in (plain, denoising)]
    assert errors[1] < 0.85 * errors[0]


def test_noise_of_level_zero_is_none():
    for noise in ("masking", "gaussian"):
        np.testing.assert_array_equal(
            numbers(coder(noise=noise, noise_level=0.0).fit(X)), numbers(coder().fit(X))
        )


@pytest.mark.parametrize("noise, level", [("masking", 0.25), ("gaussian", 0.15)])
def test_noise_alone_has_a_moderate_level(noise, level, backend):
    moderate = numbers(coder(noise=noise, backend=backend).fit(X))
    chosen = coder(noise=noise, noise_level=level, backend=backend).fit(X)
    np.testing.assert_array_equal(moderate, numbers(chosen))
    assert not np.allclose(moderate, numbers(coder(backend=backend).fit(X)))


def test_everything_masked_leaves_the_mean():
    """All it can learn of an input that is all zeros is the mean of the rows."""
    data = X + np.array([1.0, -2.0, 0.5, 3.0])
    model = coder(
        hidden_layer_sizes=2, noise="masking", noise_level=1.0, max_iter=400, alpha=0.0
    ).fit(data)
    np.testing.assert_allclose(model.predict(np.zeros((1, 4)))[0], data.mean(axis=0), atol=0.05)


# Layer by layer


def test_layerwise_starts_lower(backend):
    params = {"hidden_layer_sizes": (32, 16), "max_iter": 10, "backend": backend}
    deep = coder(**params).fit(DIGITS)
    layerwise = coder(layerwise=True, **params).fit(DIGITS)
    assert layerwise.loss_curve_[0] < 0.5 * deep.loss_curve_[0]
    assert layerwise.loss_ < deep.loss_


@pytest.mark.parametrize("tied", [False, True])
def test_layerwise_trains_each_layer_on_the_code_before(tied):
    model = coder(layerwise=True, tied_weights=tied, activation=["tanh", "relu"])
    rng = np.random.RandomState(0)
    other = clone(model)
    other.n_outputs_ = 4
    net = other._network((4,), other._layers(), None)
    coder(tied_weights=tied)._initial_theta(net, [rng], X, None)
    seeds = rng.randint(2**31), rng.randint(2**31)
    outer = coder(
        hidden_layer_sizes=6, activation="tanh", tied_weights=tied, random_state=seeds[0]
    ).fit(X)
    inner = coder(
        hidden_layer_sizes=2, activation="relu", tied_weights=tied, random_state=seeds[1]
    ).fit(outer.transform(X))
    expected = [outer.coefs_[0], inner.coefs_[0]]
    if not tied:
        expected += [inner.coefs_[1], outer.coefs_[1]]
    expected += [outer.intercepts_[0], *inner.intercepts_, outer.intercepts_[1]]
    np.testing.assert_array_equal(
        initial(model, X), np.concatenate([array.ravel() for array in expected])
    )


# Losses


def test_sigmoid_outputs():
    model = coder(hidden_layer_sizes=20, loss="log_loss", max_iter=60).fit(DIGITS)
    predicted = model.predict(DIGITS)
    assert (predicted > 0).all() and (predicted < 1).all()
    assert model.score(DIGITS) > -np.mean((DIGITS - DIGITS.mean(axis=0)) ** 2)
    with pytest.raises(ValueError, match="log_loss.*0, 1"):
        coder(loss="log_loss").fit(DIGITS * 2)
    # Layer by layer, inner codes leave [0, 1] and still train.
    coder(loss="log_loss", layerwise=True).fit(DIGITS)


def test_sample_weight_repeats_rows():
    counts = np.random.RandomState(0).randint(1, 4, len(X))
    params = {"solver": "lbfgs", "max_iter": 30, "alpha": 1.0}
    weighted = coder(**params).fit(X, sample_weight=counts)
    repeated = coder(**params).fit(np.repeat(X, counts, axis=0))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-5, atol=1e-6)


def test_validation_rows(backend):
    model = coder(early_stopping=True, max_iter=20, backend=backend).fit(X[::2], X_val=X[1::2])
    assert model.score(X[1::2]) == pytest.approx(max(model.validation_scores_), rel=1e-12)


# Pre-training


NET = {"hidden_layer_sizes": (6, 5), "random_state": 0, "max_iter": 5, "batch_size": 32}


def pretrained(model=MLPClassifier, **params):
    coder = Autoencoder(max_iter=8, noise="masking", noise_level=0.2, learning_rate_init=0.01)
    return model(pretraining=coder, **{**NET, **params})


@pytest.mark.parametrize("model, y", [(MLPClassifier, Y), (MLPRegressor, X[:, 0])])
@pytest.mark.parametrize("activation", ["relu", ["tanh", "logistic"]], ids=str)
def test_first_weights_are_the_encoders(model, y, activation, backend):
    frozen = {"solver": "sgd", "learning_rate_init": 1e-300, "activation": activation}
    net = pretrained(model, backend=backend, **frozen).fit(X, y)
    encoder = net.pretraining_
    assert encoder.hidden_layer_sizes == (6, 5) and encoder.activation == activation
    assert encoder.n_iter_ == 8 and encoder.noise == "masking"
    for i in range(2):
        np.testing.assert_allclose(net.coefs_[i], encoder.coefs_[i], rtol=1e-15)
        np.testing.assert_allclose(net.intercepts_[i], encoder.intercepts_[i], atol=1e-200)
    random = model(**{**NET, **frozen}).fit(X, y)
    np.testing.assert_array_equal(net.coefs_[2], random.coefs_[2])
    # The parameter itself stays unfitted: what is fitted is a clone.
    assert not hasattr(net.pretraining, "coefs_")


def test_pretraining_is_seeded_by_the_net(backend):
    one, same, other = (
        pretrained(random_state=seed, backend=backend).fit(X, Y).coefs_[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    fixed = [
        pretrained(random_state=seed).set_params(pretraining__random_state=3).fit(X, Y)
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(fixed[0].pretraining_.coefs_[0], fixed[1].pretraining_.coefs_[0])


def test_pretraining_helps_a_deep_sigmoid_net():
    """Four sigmoid layers stand still from random weights, and learn from pre-trained ones."""
    labels = load_digits().target[:300]
    params = {"hidden_layer_sizes": (30,) * 4, "activation": "logistic", "max_iter": 30}
    params |= {"random_state": 0, "learning_rate_init": 0.003, "batch_size": 32}
    random = MLPClassifier(**params).fit(DIGITS, labels).score(DIGITS, labels)
    first = Autoencoder(layerwise=True, max_iter=15, learning_rate_init=0.01, batch_size=32)
    start = MLPClassifier(pretraining=first, **params).fit(DIGITS, labels).score(DIGITS, labels)
    assert start > random + 0.4


def test_pretraining_is_searched_cloned_and_pickled(backend):
    pipe = make_pipeline(MinMaxScaler(), pretrained(max_iter=30, backend=backend))
    grid = {
        "mlpclassifier__pretraining__noise_level": [0.0, 0.3],
        "mlpclassifier__pretraining__tied_weights": [False, True],
    }
    search = GridSearchCV(clone(pipe), grid, cv=2, error_score="raise").fit(X, Y)
    best = search.best_estimator_[-1]
    assert best.pretraining_.noise_level == search.best_params_[next(iter(grid))]
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    without = GridSearchCV(
        clone(pipe), {"mlpclassifier__pretraining": [None, Autoencoder(max_iter=3)]}, cv=2
    )
    assert np.isfinite(without.fit(X, Y).cv_results_["mean_test_score"]).all()


def test_warm_start_does_not_pretrain_again():
    net = pretrained(warm_start=True).fit(X, Y)
    first = net.pretraining_
    assert net.fit(X, Y).pretraining_ is first
    assert net.partial_fit(X, Y).pretraining_ is first


def test_members_are_pretrained_each():
    net = pretrained(n_members=3, solver="sgd", learning_rate_init=1e-300).fit(X, Y)
    single = pretrained(solver="sgd", learning_rate_init=1e-300).fit(X, Y)
    np.testing.assert_allclose(net.coefs_[0][0], single.coefs_[0], rtol=1e-12)
    assert not np.allclose(net.coefs_[0][0], net.coefs_[0][1])


# Errors


@pytest.mark.parametrize(
    "params",
    [
        {"noise": "salt"},
        {"noise_level": -0.1},
        {"noise_level": "much"},
        {"tied_weights": "yes"},
        {"layerwise": 2},
        {"loss": "poisson"},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (3, 0)},
        {"activation": ["relu"]},
        {"solver": "lm"},
        {"dropout": [0.1, 0.2]},
    ],
    ids=str,
)
def test_bad_values_are_named(params):
    (name,) = params
    with pytest.raises((ValueError, TypeError), match=name):
        coder(**params).fit(X)
    if name not in ("hidden_layer_sizes", "activation", "solver", "dropout"):
        with pytest.raises((ValueError, TypeError), match=name):
            pretrained().set_params(pretraining=Autoencoder(**params)).fit(X, Y)


def test_refusals():
    with pytest.raises(ValueError, match="noise='masking'.*solver='lbfgs'"):
        coder(noise="masking", noise_level=0.1, solver="lbfgs").fit(X)
    with pytest.raises(ValueError, match="noise_level=1.5 is a share"):
        coder(noise="masking", noise_level=1.5).fit(X)
    with pytest.raises(ValueError, match="5 columns.*2 units"):
        coder().fit(X).inverse_transform(np.ones((3, 5)))
    with pytest.raises(TypeError, match="dense data is required"):
        coder().fit(sp.csr_array(X))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        pretrained().set_params(pretraining=PCA(2)).fit(X, Y)
    for name in ("n_members", "pretraining"):
        with pytest.raises(TypeError, match=name):
            Autoencoder(**{name: None})


def test_tied_weights_of_bounded_norm(backend):
    model = coder(tied_weights=True, max_norm=0.5, max_iter=3, backend=backend).fit(X)
    for W in model.coefs_:
        assert np.linalg.norm(W, axis=0).max() <= 0.5 + 1e-12
