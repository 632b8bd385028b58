"""Data that stay: a tensor is worked on where it lies, and a host array is sent once.

A CPU tells a device from the host at the border: what torch makes of NumPy's arrays goes to the
device, and what NumPy makes of tensors comes from it. On the device copies are seen by a mode.
"""

import os
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.layers import Dense
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import (
    Autoencoder,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)
from skdeep.solvers.full_batch.preconditioning import MIN_ROWS

torch = pytest.importorskip("torch")
import array_api_compat.torch as compat  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from skdeep.backends import torch_backend  # noqa: E402
from skdeep.backends.torch_backend import TorchBackend  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Got `batch_size`:UserWarning"
)

N, P = 20_000, 30
RNG = np.random.RandomState(0)
X = RNG.randn(N, P)
SCORES = X @ RNG.randn(P, 3) + 5.0 * RNG.randn(N, 3)
Y, BINARY, TARGET = SCORES.argmax(1), (SCORES[:, 0] > 0).astype(int), SCORES[:, 0]
WEIGHTS = RNG.rand(N) + 0.5
FEW = {"max_iter": 2, "batch_size": 2000, "random_state": 0}
SMALL = {"hidden_layer_sizes": (4,), **FEW}
# Rows that are fetched for a preconditioner, at most.
SAMPLE = 2 * MIN_ROWS
LAYERS = {"layers": [Dense(4)], **FEW}
CASES = {
    "Perceptron": (Perceptron(max_iter=1), BINARY),
    "Perceptron, batch": (Perceptron(update="batch", max_iter=5), Y),
    "LDA": (LinearDiscriminantAnalysis(), Y),
    "LDA, lsqr": (LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), Y),
    "LDA, eigen": (LinearDiscriminantAnalysis(solver="eigen", priors=[0.2, 0.3, 0.5]), Y),
    "LogisticRegression": (LogisticRegression(max_iter=20), Y),
    "LogisticRegression, newton-cg": (LogisticRegression(solver="newton-cg"), BINARY),
    "LogisticRegression, liblinear": (LogisticRegression(solver="liblinear"), BINARY),
    "LogisticRegression, adam": (LogisticRegression(solver="adam", **FEW), Y),
    "LogisticRegression, l1": (LogisticRegression(solver="saga", l1_ratio=1.0, max_iter=9), Y),
    "LogisticRegressionCV": (
        LogisticRegressionCV(
            Cs=[0.1],
            cv=2,
            max_iter=10,
            l1_ratios=(0.0,),
            scoring="accuracy",
            use_legacy_attributes=False,
        ),
        Y,
    ),
    "MLPClassifier": (MLPClassifier(**SMALL, batch_norm=True, dropout=0.1), Y),
    "MLPClassifier, lbfgs": (MLPClassifier(**SMALL, solver="lbfgs"), Y),
    "MLPRegressor": (MLPRegressor(**SMALL), TARGET),
    "MLPRegressor, lm": (MLPRegressor(**SMALL, solver="lm"), TARGET),
    "NetworkClassifier": (NetworkClassifier(**LAYERS), BINARY),
    "NetworkRegressor": (NetworkRegressor(**LAYERS), TARGET),
    "Autoencoder": (Autoencoder(**SMALL), X),
    "Autoencoder, lbfgs": (Autoencoder(**SMALL, solver="lbfgs"), X),
}
# Kernels of CUDA that add in an order of the moment.
VARYING = {
    *("index_add", "scatter_add", "scatter_reduce", "put", "bincount", "histc", "cumsum"),
    *("embedding_dense_backward", "index_reduce", "grid_sampler_2d_backward", "nll_loss2d"),
}
OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
each = pytest.mark.parametrize("name", CASES)


class Seen(TorchDispatchMode):
    """What is sent to the device, fetched from it and copied on it, in shares of X's bytes."""

    COPIES = ("_to_copy", "clone", "copy_", "copy", "lift_fresh_copy", "contiguous")

    def __init__(self, n_bytes: int, counts: Callable):
        super().__init__()
        self.n_bytes, self.counts = n_bytes, counts
        self.sent, self.fetched, self.copied, self.doubles = [], [], [], []
        self.called = set()

    def note(self, where: list, x) -> None:
        size = x.nbytes / self.n_bytes
        if size > 0.01 and self.counts(x):
            where.append((round(size, 3), tuple(x.shape), str(x.dtype)))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        self.called.add(name.rstrip("_"))
        if name in self.COPIES:
            self.note(self.copied, out)
        leaves = torch.utils._pytree.tree_leaves((args, kwargs, out))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in leaves):
            self.doubles.append(name)
        return out


def is_rows(x) -> bool:
    """Whether an array is of X's features: targets, weights and indices do not count."""
    return x.ndim > 1 and P in x.shape


def is_result(x) -> bool:
    """Whether an array has a number for each row; labels are looked up by places."""
    return x.ndim > 0 and len(x) == N and "float" in str(x.dtype)


@pytest.fixture
def watch(monkeypatch):
    """``watch(n_bytes, counts)``: a mode that sees the border too."""

    @contextmanager
    def watching(n_bytes, counts=is_rows):
        seen = Seen(n_bytes, counts)

        def sends(make):
            def sending(x, *args, **kwargs):
                if isinstance(x, np.ndarray):
                    seen.note(seen.sent, x)
                    if x.dtype == np.float64 and np.ndim(x):
                        seen.doubles.append("sent")
                return make(x, *args, **kwargs)

            return sending

        def fetches(read):
            def fetching(x, *args, **kwargs):
                seen.note(seen.fetched, x)
                return read(x, *args, **kwargs)

            return fetching

        with monkeypatch.context() as patch:
            for module, names in ((torch, ("from_numpy", "asarray", "as_tensor", "tensor")),
                                  (compat, ("from_numpy", "asarray"))):  # fmt: skip
                for name in names:
                    patch.setattr(module, name, sends(getattr(module, name)))
            for name in ("numpy", "__array__", "tolist"):
                patch.setattr(torch.Tensor, name, fetches(getattr(torch.Tensor, name)))
            with seen:
                yield seen

    return watching


def arguments(estimator, y, of: Callable) -> tuple:
    return () if isinstance(estimator, Autoencoder) else (of(y),)


def outputs_of(estimator) -> list[str]:
    if getattr(estimator, "solver", None) == "lsqr":
        return [name for name in OUTPUTS[:-1] if hasattr(estimator, name)]
    return [name for name in OUTPUTS if hasattr(estimator, name)]


def dispatching(on: bool):
    if on and os.environ.get("SCIPY_ARRAY_API") != "1":
        pytest.skip("SCIPY_ARRAY_API=1 is not set")
    return config_context(array_api_dispatch=on)


@pytest.fixture
def apart(monkeypatch):
    """The CPU stands for a device of its own memory."""
    has_double = torch_backend.has_double
    monkeypatch.setattr(torch_backend, "has_double", lambda device, dtype: has_double("", dtype))


@each
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_tensor_is_neither_fetched_nor_copied(name, dtype, watch, apart):
    estimator, y = CASES[name]
    estimator = clone(estimator).set_params(dtype=dtype)
    tensor = torch.tensor(X, dtype=getattr(torch, dtype))
    weights = {} if name.endswith("lm") else {"sample_weight": WEIGHTS}
    before = tensor.clone()
    with watch(tensor.nbytes) as seen:
        estimator.fit(tensor, *arguments(estimator, y, torch.tensor), **weights)
    # What logistic regression knows of X beforehand, a sample tells; its first steps and products
    # with the Hessian are in float32.
    iterates = isinstance(estimator, LogisticRegression)
    copied = [how for how in seen.copied if not (iterates and how[2] == "torch.float32")]
    fetched = [how for how in seen.fetched if not (iterates and how[1][0] <= SAMPLE)]
    assert (seen.sent, fetched, copied) == ([], [], [])
    assert estimator.backend_ == "torch:cpu"
    assert torch.equal(tensor, before)


def test_what_logistic_regression_fetches_does_not_grow_with_x(watch):
    n = 100 * SAMPLE
    rng = np.random.RandomState(0)
    X = torch.tensor(rng.randn(n, 4)) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    y = (X.sum(1) + torch.tensor(5.0 * rng.randn(n)) > 0).to(torch.int64)
    model = LogisticRegression(solver="saga", l1_ratio=0.5, C=1e-3, max_iter=3)
    with watch(X.nbytes, counts=lambda x: 4 in x.shape) as seen:
        model.fit(X, y)
    assert (seen.sent, seen.fetched) == ([], [])


@each
@pytest.mark.parametrize("dispatch", [False, True])
def test_predictions_of_a_tensor_are_made_where_it_lies(name, dispatch, watch):
    estimator, y = CASES[name]
    estimator, tensor = clone(estimator), torch.tensor(X)
    if dispatch and isinstance(estimator, LogisticRegressionCV):
        pytest.skip("has no tensors as attributes, as in scikit-learn")
    with dispatching(dispatch):
        estimator.fit(tensor[:500], *arguments(estimator, y[:500], torch.tensor))
        with watch(tensor.nbytes, counts=is_result) as seen:
            results = {what: getattr(estimator, what)(tensor) for what in outputs_of(estimator)}
    assert (seen.sent, seen.copied) == ([], [])
    if dispatch:
        assert seen.fetched == []
        assert all(isinstance(result, torch.Tensor) for result in results.values())
        results = {what: result.numpy() for what, result in results.items()}
    assert len(seen.fetched) <= len(results)  # those themselves
    with dispatching(False):
        host = clone(estimator).fit(X[:500], *arguments(estimator, y[:500], np.asarray))
        for what, result in results.items():
            expected = getattr(host, what)(X)
            assert result.dtype == expected.dtype
            size = np.abs(expected).max() if result.dtype.kind == "f" else 0.0
            if what == "predict" and is_classifier(estimator):
                assert (result == expected).mean() > 0.999
            elif np.isfinite(size) and what != "transform":  # whose signs are open
                np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3 * size)


@each
def test_a_host_array_is_sent_once(name, watch, monkeypatch):
    monkeypatch.setattr(TorchBackend, "free_memory", lambda backend: 1e12)  # of a device
    estimator, y = CASES[name]
    estimator = clone(estimator).set_params(backend="torch")
    rows = X.copy()
    with watch(rows.nbytes) as seen:
        estimator.fit(rows, *arguments(estimator, y, np.asarray))
    own = [how for how in seen.sent if how[1] != (N, 3)]
    assert sum(size for size, *_ in own) == pytest.approx(1.0, abs=0.02)
    with watch(rows.nbytes) as seen:
        estimator.predict(rows)
    assert sum(size for size, *_ in seen.sent) == pytest.approx(1.0, abs=0.02)


@each
def test_no_double_reaches_the_device_where_float32_is_asked_for(name, watch, apart):
    estimator, y = CASES[name]
    estimator, y = clone(estimator).set_params(dtype="float32", backend="torch"), y[:400]
    y = y.astype("float32") if y.dtype == np.float64 else y
    for given in (X[:400], torch.tensor(X[:400], dtype=torch.float32), (4 * X[:400]).astype(int)):
        of = torch.tensor if isinstance(given, torch.Tensor) else np.asarray
        with watch(X.nbytes) as seen:
            estimator.fit(given, *arguments(estimator, y, of))
            for what in outputs_of(estimator):
                getattr(estimator, what)(given)
        assert set(seen.doubles) == set()
        assert seen.called & VARYING <= ({"cumsum"} if name.endswith("l1") else set())


@pytest.mark.gpu
@each
def test_the_same_seed_gives_the_same_bits_on_one_gpu(name):
    estimator, y = CASES[name]
    if name.endswith("l1"):
        pytest.skip("cumulative sums on CUDA add in an order of the moment")
    tensor = torch.tensor(X, device="cuda")

    def scores():
        model = clone(estimator).fit(tensor, *arguments(estimator, y, np.asarray))
        what = "decision_function" if hasattr(model, "decision_function") else "predict"
        return getattr(model, what)(tensor)

    np.testing.assert_array_equal(scores(), scores())
