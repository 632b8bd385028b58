"""What is there on a CUDA device alone: graphs, waits, tf32, kernels written for an optimizer.

``pytest -m gpu`` runs these and every other test that needs one.
"""

import warnings

import numpy as np
import pytest

from skdeep import fit_many
from skdeep.neural_network import MLPClassifier, MLPRegressor
from skdeep.solvers.minibatch.epoch import Epoch

torch = pytest.importorskip("torch")
from skdeep.backends.torch_backend import TorchBackend  # noqa: E402
from skdeep.backends.torch_backend_capture import Recorded  # noqa: E402
from skdeep.backends.torch_backend_compiled import MANY, one_kernel  # noqa: E402

DEVICE = "torch:cuda"
RNG = np.random.RandomState(0)
X = RNG.randn(2050, 20)
Y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 1)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

NETS = {
    "adam": {},
    "short batches and dropout": {"batch_size": 300, "dropout": 0.3},
    "batch norm": {"batch_norm": True, "solver": "sgd"},
    "regularisers": {"clip_norm": 1.0, "max_norm": 3.0, "l1_ratio": 0.5, "solver": "rmsprop"},
    "members": {"n_members": 4, "early_stopping": True, "solver": "adamw"},
}


def make(backend=DEVICE, **params):
    settings = {"max_iter": 6, "tol": 0.0, "n_iter_no_change": 100, "random_state": 0}
    return MLPClassifier(backend=backend, **{**settings, **params})


def theta(model):
    return np.concatenate([np.ravel(a) for a in (*model.coefs_, *model.intercepts_)])


@pytest.mark.parametrize("params", NETS.values(), ids=NETS)
def test_recorded_steps_agree_with_numpy(params, monkeypatch):
    recorded, init = [], Recorded.__init__
    monkeypatch.setattr(
        Recorded, "__init__", lambda self, *args: recorded.append(self) or init(self, *args)
    )
    found = theta(make(**params).fit(X, Y))
    assert recorded
    expected = theta(make("numpy", **params).fit(X, Y))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("params", NETS.values(), ids=NETS)
def test_nobody_waits_inside_an_epoch(params, monkeypatch):
    run, download, mode = Epoch.run, TorchBackend.to_numpy, torch.cuda.set_sync_debug_mode

    def watched(epoch, whole):
        mode("warn")
        try:
            return run(epoch, whole)
        finally:
            mode("default")

    def allowed(backend, x):
        mode("default")
        return download(backend, x)

    monkeypatch.setattr(Epoch, "run", watched)
    monkeypatch.setattr(TorchBackend, "to_numpy", allowed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(**params).fit(X, Y)
    assert not [str(w.message) for w in caught if "synchroniz" in str(w.message)]


@pytest.mark.parametrize("params", NETS.values(), ids=NETS)
def test_the_same_seed_gives_the_same_bits(params):
    one, other = (theta(make(**params).fit(X, Y)) for _ in range(2))
    assert (one == other).all()


def test_a_stack_is_as_single_fits():
    models = [make(random_state=i, alpha=10.0**-i) for i in range(5)]
    for stacked, model in zip(fit_many(models, X, Y), models, strict=True):
        alone = make(random_state=model.random_state, alpha=model.alpha).fit(X, Y)
        np.testing.assert_allclose(theta(stacked), theta(alone), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("dtype", "off"), [("tf32", 3e-3), ("bfloat16", 2e-2)])
def test_less_than_float32(dtype, off):
    rows = X.astype("float32")
    before = torch.get_float32_matmul_precision()
    one, other = (make(dtype=d, hidden_layer_sizes=(256,)).fit(rows, Y) for d in ("float32", dtype))
    assert torch.get_float32_matmul_precision() == before
    assert (theta(one) != theta(other)).any()
    np.testing.assert_allclose(other.loss_curve_, one.loss_curve_, rtol=off)


def test_wide_networks_have_compiled_optimizers():
    pytest.importorskip("triton", reason="Triton is not installed")
    settings = {"hidden_layer_sizes": (1100, 1100), "max_iter": 3, "random_state": 0}
    before = one_kernel.cache_info().currsize
    found = MLPRegressor(backend=DEVICE, **settings).fit(X, X[:, 0])
    assert sum(a.size for a in found.coefs_) > MANY
    assert one_kernel.cache_info().currsize > before
    expected = MLPRegressor(backend="numpy", **settings).fit(X, X[:, 0])
    np.testing.assert_allclose(theta(found), theta(expected), rtol=1e-5, atol=1e-8)
