"""What an epoch of torch launches, uploads and downloads: those, not arithmetic, are the cost of
small networks on an accelerator, and a CPU shows how many there are."""

from collections import Counter

import numpy as np
import pytest

from skdeep import fit_many, register_backend
from skdeep.activations import Activation
from skdeep.backends import _FACTORIES
from skdeep.neural_network import MLPClassifier
from skdeep.solvers.minibatch.epoch import Epoch
from skdeep.solvers.minibatch.step import captured

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from skdeep.backends.torch_backend import TorchBackend, make_backend  # noqa: E402
from skdeep.backends.torch_backend_capture import CapturedStep  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# What looks at memory in another way, and launches nothing.
VIEWS = {
    *("view", "t", "transpose", "permute", "slice", "select", "expand", "unsqueeze", "squeeze"),
    *("_unsafe_view", "as_strided", "alias", "detach", "_reshape_alias", "split", "unbind"),
    *("lift_fresh", "unfold", "diagonal", "split_with_sizes", "chunk"),
}
N_STEPS, BATCH = 20, 200
RNG = np.random.RandomState(0)
X = RNG.randn(N_STEPS * BATCH, 20).astype("float32")
Y = RNG.randint(2, size=len(X))
WEIGHTS = RNG.rand(len(X)) + 0.5


class Counted(TorchDispatchMode):
    """Counts launches, uploads and downloads of the epochs but the first of each fit."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.launches, self.moved, self.epochs, self.inside = Counter(), Counter(), 0, False
        init, run = Epoch.__init__, Epoch.run
        asarray, to_numpy = TorchBackend.asarray, TorchBackend.to_numpy

        def begun(epoch, *args):
            self.epochs += 1
            self.inside = self.epochs > 1
            init(epoch, *args)

        def finished(epoch, whole):
            records = run(epoch, whole)
            self.inside = False
            return records

        def upload(backend, x, dtype=None):
            self.moved["up"] += self.inside and not isinstance(x, torch.Tensor)
            inside, self.inside = self.inside, False
            try:
                return asarray(backend, x, dtype)
            finally:
                self.inside = inside

        def download(backend, x):
            self.moved["down"] += self.inside and isinstance(x, torch.Tensor)
            return to_numpy(backend, x)

        monkeypatch.setattr(Epoch, "__init__", begun)
        monkeypatch.setattr(Epoch, "run", finished)
        monkeypatch.setattr(TorchBackend, "asarray", upload)
        monkeypatch.setattr(TorchBackend, "to_numpy", download)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        if self.inside and name.rstrip("_") not in VIEWS:
            self.launches[name] += 1
        return func(*args, **(kwargs or {}))

    def per_step(self) -> float:
        return sum(self.launches.values()) / (self.epochs - 1) / N_STEPS

    def per_epoch(self, what: str) -> float:
        return self.moved[what] / (self.epochs - 1)


def make(**params) -> MLPClassifier:
    settings = {"max_iter": 4, "tol": 0.0, "n_iter_no_change": 100, "random_state": 0}
    return MLPClassifier(backend="torch", **{**settings, **params})


def stack(n: int):
    models = [
        make(random_state=i, alpha=10.0 ** -(i % 6), learning_rate_init=1e-3 * (1 + i % 3))
        for i in range(n)
    ]
    fit_many(models, X, Y)


CASES = {
    "small": (40, lambda: make().fit(X, Y)),
    "short last batch": (40, lambda: make().fit(X[:-100], Y[:-100])),
    "dropout": (45, lambda: make(dropout=0.5).fit(X, Y)),
    "sample weights": (45, lambda: make().fit(X, Y, sample_weight=WEIGHTS)),
    "stack of 16": (45, lambda: stack(16)),
    "early stopping": (45, lambda: make(early_stopping=True).fit(X, Y)),
    "members that stop early": (
        45,
        lambda: make(early_stopping=True, n_members=4, n_iter_no_change=1, tol=0.02).fit(X, Y),
    ),
    "batch norm": (65, lambda: make(batch_norm=True).fit(X, Y)),
    "clip, max norm, L1": (65, lambda: make(clip_norm=1.0, max_norm=3.0, l1_ratio=0.5).fit(X, Y)),
    "all of them": (
        110,
        lambda: make(
            dropout=0.5, batch_norm=True, clip_norm=1.0, max_norm=3.0, l1_ratio=0.5, n_members=3
        ).fit(X, Y, sample_weight=WEIGHTS),
    ),
}


@pytest.mark.parametrize(("most", "fit"), CASES.values(), ids=CASES)
def test_an_epoch(most, fit, monkeypatch):
    with Counted(monkeypatch) as counted:
        fit()
    assert counted.epochs > 2
    assert 20 < counted.per_step() <= most
    assert 1 <= counted.per_epoch("up") <= 3
    assert 1 <= counted.per_epoch("down") <= 2


def test_steps_read_no_value_and_leave_the_host_alone():
    """So that they can be captured: nothing that waits for the device, no array of the host."""
    waits = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2", "equal"}
    for params in ({}, {"dropout": 0.5, "batch_norm": True, "clip_norm": 1.0, "max_norm": 3.0}):
        for n_members in (1, 3):
            with pytest.MonkeyPatch.context() as patch, Counted(patch) as counted:
                make(n_members=n_members, **params).fit(X, Y)
            assert not waits & set(counted.launches)


def square_backward(xp, z, dh):
    return 2.0 * z * dh


SQUARE = Activation(lambda xp, z: (z * z, z), square_backward)
NETS = {
    "adam": {},
    "dropout": {"dropout": [0.2, 0.5]},
    "dropout that moves": {"dropout": [0.2, 0.5], "dropout_schedule": "cosine"},
    "rates by layer": {"layer_rates": "ntk"},
    "batch norm": {"batch_norm": True, "solver": "sgd"},
    "regularisers": {"clip_norm": 1.0, "max_norm": 3.0, "l1_ratio": 0.5, "solver": "rmsprop"},
    "activation of one's own": {"activation": SQUARE},
    "members": {"n_members": 3, "early_stopping": True, "solver": "adamw"},
}


@pytest.mark.parametrize("params", NETS.values(), ids=NETS)
def test_captured_steps_are_the_steps(params):
    """What is recorded runs over buffers of its own; here by running it again, on the CPU."""
    recorded = []

    def capture(xp, step):
        return CapturedStep(xp, step, lambda body: recorded.append(body) or body)

    def backend(device, dtype):
        made = make_backend(device, dtype)
        made.captures = True
        made.overrides[captured] = capture
        return made

    rows = X.astype("float64")  # in float32 a number that is rounded otherwise turns a unit off
    expected = make(**params).fit(rows, Y)
    register_backend("captured", backend)
    try:
        found = make(**params).set_params(backend="captured").fit(rows, Y)
    finally:
        del _FACTORIES["captured"]
    assert recorded
    for one, other in zip(found.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-8)
