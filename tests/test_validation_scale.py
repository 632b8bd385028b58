"""Validation rows on another scale than the rows that train: there is a warning, and else none."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.neural_network.held_out import ENTRIES, warn_of_another_scale

ANOTHER = "X_val seems to be on another scale than X"
DATA = {
    "iris": load_iris().data,
    "wine": load_wine().data,
    "breast cancer": load_breast_cancer().data,
    "digits": load_digits().data,
    "diabetes": load_diabetes(scaled=False).data,
}
SCALERS = [StandardScaler(), MinMaxScaler(), RobustScaler(), MaxAbsScaler()]


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def split(X, seed=0):
    return train_test_split(X, test_size=0.3, random_state=seed)


@pytest.mark.parametrize("scaler", SCALERS, ids=lambda scaler: type(scaler).__name__)
@pytest.mark.parametrize("name", DATA)
def test_rows_that_were_not_scaled(name, scaler):
    for seed in range(5):
        X, X_val = split(DATA[name], seed)
        scaled, scaled_val = scaler.fit(X).transform(X), scaler.transform(X_val)
        warn_of_another_scale(scaled, scaled_val)
        warn_of_another_scale(X, X_val)
        with pytest.warns(UserWarning, match=ANOTHER):
            warn_of_another_scale(scaled, X_val)
        with pytest.warns(UserWarning, match=ANOTHER):
            warn_of_another_scale(sp.csr_array(scaled), sp.csr_array(X_val))


def test_rows_of_a_much_smaller_scale():
    """They lie within the ranges of X, but X lies beyond theirs."""
    rng = np.random.RandomState(0)
    X, X_val = split(1e-3 * rng.randn(300, 5))
    with pytest.warns(
        UserWarning, match="of the nonzero values of X .* beyond the ranges of X_val"
    ):
        warn_of_another_scale(StandardScaler().fit_transform(X), X_val)
    digits, digits_val = split(DATA["digits"])
    with pytest.warns(UserWarning, match=ANOTHER):
        warn_of_another_scale(digits, digits_val / 16)


DISTRIBUTIONS = {
    "normal": lambda rng, n, p: 1e3 + rng.randn(n, p),
    "Cauchy": lambda rng, n, p: rng.standard_cauchy((n, p)),
    "lognormal": lambda rng, n, p: np.exp(3 * rng.randn(n, p)),
    "Pareto": lambda rng, n, p: rng.pareto(0.5, (n, p)),
    "one latent": lambda rng, n, p: rng.standard_cauchy((n, 1)) + 0.01 * rng.randn(n, p),
    "halves": lambda rng, n, p: (rng.rand(n, p) < 0.5) * 1.0,
    "rare": lambda rng, n, p: (rng.rand(n, p) < 0.02) * 1.0,
    "one-hot": lambda rng, n, p: np.eye(10 * p)[rng.zipf(1.5, n) % (10 * p)],
    "counts": lambda rng, n, p: rng.negative_binomial(0.3, 0.05, (n, p)) * 1.0,
    "few nonzero": lambda rng, n, p: (rng.rand(n, p) < 0.1) * np.exp(2 * rng.randn(n, p)),
    "grades": lambda rng, n, p: rng.randint(0, 5, (n, p)) * 1.0,
    "constant": lambda rng, n, p: np.full((n, p), 0.1) + 1e-17 * rng.randn(n, p),
}


@pytest.mark.parametrize("sizes", [(40, 40), (200, 40), (40, 200), (1000, 1000)], ids=str)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_ordinary_splits_are_not_warned_of(name, sizes):
    for seed in range(20):
        rng = np.random.RandomState(seed)
        for p in (1, 3, 20):
            X = DISTRIBUTIONS[name](rng, sum(sizes), p)
            parts = X[: sizes[0]], X[sizes[0] :]
            warn_of_another_scale(*parts)
            warn_of_another_scale(*map(sp.csr_array, parts))


def test_columns_that_one_part_lacks():
    rng = np.random.RandomState(0)
    columns = np.eye(6)[rng.randint(6, size=300)]
    X, X_val = columns[:200].copy(), columns[200:].copy()
    X_val[:, :5] = 0  # five of six categories do not occur
    warn_of_another_scale(X, X_val)
    warn_of_another_scale(X_val, X)
    # Constant in the rows that train, whatever the others have there.
    X[:, :3], X_val[:, :3] = 0.0, 100 * rng.randn(100, 3)
    warn_of_another_scale(X, X_val)


def test_other_classes_alone():
    """A part of the rows that is not like the rest, as a class, is on the same scale."""
    X = StandardScaler().fit_transform(DATA["iris"])
    for start in (0, 50, 100):
        warn_of_another_scale(X, X[start : start + 50])


def test_few_rows_tell_nothing():
    warn_of_another_scale(np.random.RandomState(0).randn(100, 3), np.full((29, 3), 1e6))


def test_enormous_ranges():
    X = 1e308 * np.random.RandomState(0).uniform(-1, 1, (100, 2))
    warn_of_another_scale(X, X)
    with pytest.warns(UserWarning, match=ANOTHER):
        warn_of_another_scale(X / 1e308, X)


def test_large_data_are_looked_at_in_part():
    rng = np.random.RandomState(0)
    X = rng.randn(3 * ENTRIES // 8, 8)
    warn_of_another_scale(X, X[:100])
    with pytest.warns(UserWarning, match=ANOTHER):
        warn_of_another_scale(X, 100 * X)
    wide = rng.randn(40, ENTRIES // 20)
    with pytest.warns(UserWarning, match=ANOTHER):
        warn_of_another_scale(wide, 100 * wide)


# From the estimators

X, Y = load_iris(return_X_y=True)
X, X_VAL, Y, Y_VAL = train_test_split(X, Y, random_state=0)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
NETS = [MLPClassifier, MLPRegressor, Autoencoder]


def rows_to_validate_on(net, X_val):
    return {"X_val": X_val} | ({} if net is Autoencoder else {"y_val": Y_VAL})


@pytest.mark.parametrize("net", NETS)
def test_pipeline(net, backend):
    name = net.__name__.lower()
    pipe = make_pipeline(StandardScaler(), net(backend=backend, **SMALL))
    trap = {f"{name}__{key}": value for key, value in rows_to_validate_on(net, X_VAL).items()}
    with pytest.warns(UserWarning, match="transform_input"):
        pipe.fit(X, Y, **trap)
    with config_context(enable_metadata_routing=True):
        request = dict.fromkeys(rows_to_validate_on(net, X_VAL), True)
        routed = make_pipeline(
            StandardScaler(),
            net(backend=backend, **SMALL).set_fit_request(**request),
            transform_input=["X_val"],
        ).fit(X, Y, **rows_to_validate_on(net, X_VAL))
    scaler = StandardScaler().fit(X)
    by_hand = net(backend=backend, **SMALL)
    by_hand.fit(scaler.transform(X), Y, **rows_to_validate_on(net, scaler.transform(X_VAL)))
    assert routed[-1].validation_scores_ == by_hand.validation_scores_
    assert pipe[-1].validation_scores_ != by_hand.validation_scores_
