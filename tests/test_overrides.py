"""Overrides are reached: every function of the tables, and every one marked, from an estimator."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skdeep import register_backend
from skdeep.activations import ACTIVATIONS, Activation
from skdeep.backends import _FACTORIES, get_backend
from skdeep.backends.base import Backend
from skdeep.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    LocallyConnected2D,
    MaxPool2D,
    Residual,
)
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.losses import LOSSES
from skdeep.network import build, forward
from skdeep.neural_network import (
    Autoencoder,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
)
from skdeep.neural_network.parameters import OF_NUMBERS
from skdeep.optimizers import OPTIMIZERS
from skdeep.overrides import OVERRIDABLE, Namespace, chosen, overridable
from skdeep.stochastic import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X, Y = X[::3], Y[::3]
SHORT = {"max_iter": 2, "random_state": 0, "backend": "counting"}


def of_tables() -> dict:
    """The functions of the tables, by a name each."""
    functions = {}
    for table, entries in (("activation", ACTIVATIONS), ("loss", LOSSES), ("solver", OPTIMIZERS)):
        for name, entry in entries.items():
            for part in (
                *("forward", "backward", "value_and_grad", "predict", "hessian"),
                *("hessian_product", "step"),
            ):
                fn = getattr(entry, part, None)
                # The step is for prediction only.
                if fn is not None and (name, part) != ("step", "backward"):
                    functions[f"{table} {name}: {part}"] = fn
    return functions


@pytest.fixture(params=["generic", "numpy", "torch"])
def counted(request):
    """A backend of which every override counts, and how often each was called."""
    if request.param == "torch":
        pytest.importorskip("torch")
    calls = {}

    def counting(fn, override):
        def call(*args, **kwargs):
            calls[fn] = calls.get(fn, 0) + 1
            return override(*args, **kwargs)

        return call

    def make(device, dtype):
        if request.param == "generic":
            backend = Backend("counting", "cpu", get_backend("numpy").xp.wrapped)
        else:
            backend = get_backend(request.param, dtype)
        for fn in {*of_tables().values(), *OVERRIDABLE}:
            override = backend.overrides.get(fn, getattr(fn, "__wrapped__", fn))
            backend.overrides[fn] = counting(fn, override)
        return backend

    register_backend("counting", make)
    yield calls
    del _FACTORIES["counting"]


def fit_all() -> None:
    """Fits that between them need every function."""
    for name in ACTIVATIONS:
        if name != "step":
            MLPClassifier((3,), name, **SHORT).fit(X, Y)
    for solver in (*STOCHASTIC_SOLVERS, "lbfgs"):
        MLPClassifier((3,), solver=solver, **SHORT).fit(X, Y)
    MLPClassifier((3,), solver="sgd", nesterovs_momentum=False, **SHORT).fit(X, Y)
    for loss in ("log_loss", "hinge", "squared_error"):
        for y in (Y, Y > 0):
            MLPClassifier((3,), loss=loss, **SHORT).fit(X, y).predict(X)
    for loss in OF_NUMBERS:
        MLPRegressor(loss, (3,), **SHORT).fit(X, X[:, 0]).predict(X)
        linear = MLPRegressor(loss, (), solver="lbfgs", **{**SHORT, "max_iter": 60, "tol": 1e-8})
        linear.fit(np.tile(X, (1, 90)), X[:, 0])
    MLPRegressor("squared_error", (3,), solver="lm", **SHORT).fit(X, X[:, 0])
    Autoencoder((2,), max_norm=0.1, clip_norm=0.1, **SHORT).fit(X).inverse_transform(X[:, :2])
    for noise in ("gaussian", "masking"):
        Autoencoder((2,), noise=noise, dropout=0.5, **SHORT).fit(X)
    layers = [
        Conv2D(2, 2),
        LocallyConnected2D(2, 2),
        MaxPool2D(1),
        BatchNorm(),
        Dense(3),
        Residual([Dense(3)]),
    ]
    NetworkClassifier(layers, (2, 2), **SHORT).fit(X, Y).predict(X)
    many = np.tile(X, (1, 90)) + np.random.RandomState(0).randn(len(X), 360)
    for y in (Y, Y > 0):
        for solver in ("lbfgs", "newton-cg", "newton-cholesky", "saga"):
            ratio = 0.5 if solver == "saga" else 0.0
            model = LogisticRegression(
                solver=solver, l1_ratio=ratio, max_iter=60, backend="counting"
            )
            model.fit(X, y).decision_function(X)
            model.fit(many, y)
    for options in ({}, {"update": "batch"}):
        Perceptron(backend="counting", **options).fit(X, Y)


def test_every_override_is_reached(counted):
    fit_all()
    names = {**of_tables(), **{f"{fn.__module__}.{fn.__name__}": fn for fn in OVERRIDABLE}}
    # What stands in for a whole need not call its parts: NumPy's overrides of networks and such.
    missed = sorted(name for name, fn in names.items() if fn not in counted)
    assert not missed


def test_a_namespace_has_all_of_the_wrapped_one():
    space = Namespace(np, {})
    assert space.linalg is np.linalg and space.float32 is np.float32
    with pytest.raises(AttributeError):
        print(space.no_such_function)


def test_without_a_backend_there_is_no_override():
    @overridable
    def double(xp, x):
        return 2 * x

    OVERRIDABLE.remove(double)
    space = Namespace(np, {double: lambda xp, x: double.__wrapped__(xp, x) + 1})
    assert double(np, 2) == 4 and double(space, 2) == 5
    assert chosen(np, abs) is abs and chosen(Namespace(np, {abs: max}), abs) is max


def test_an_override_of_an_own_function_is_reached():
    """On the default backend too, whose own override is of the whole network."""
    calls = []

    def triple(xp, z):
        return 3.0 * z, None

    def triple_backward(xp, saved, dh):
        return 3.0 * dh

    def counting(xp, z):
        calls.append(z.shape)
        return triple(xp, z)

    def make(device, dtype):
        backend = get_backend("numpy", dtype)
        backend.overrides[triple] = counting
        return backend

    register_backend("counting", make)
    try:
        own = Activation(triple, triple_backward)
        model = MLPClassifier((3,), own, **SHORT).fit(X, Y)
        plain = MLPClassifier((3,), own, **{**SHORT, "backend": "numpy"}).fit(X, Y)
    finally:
        del _FACTORIES["counting"]
    assert calls
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_functions_take_a_namespace_that_carries_none():
    """torch has a module of the name "overrides"."""
    xp = pytest.importorskip("array_api_compat.torch")
    net = build((2, 3, 1), "squared_error", "relu")
    theta = np.linspace(-1.0, 1.0, net.n_parameters)[None]
    X = np.array([[0.5, -2.0]])
    found = forward(xp, net, xp.asarray(theta), xp.asarray(X))
    np.testing.assert_allclose(found.numpy(), forward(np, net, theta, X), rtol=1e-12)
