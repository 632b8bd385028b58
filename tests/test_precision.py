"""Training in less than float32, and optimizers compiled to one kernel."""

import shutil
import threading

import numpy as np
import pytest

from skdeep import network
from skdeep.activations import ACTIVATIONS, Activation
from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D
from skdeep.losses import LOSSES
from skdeep.neural_network import MLPClassifier, MLPRegressor, NetworkClassifier
from skdeep.optimizers import OPTIMIZERS

torch = pytest.importorskip("torch")
from skdeep.backends.torch_backend import make_backend  # noqa: E402
from skdeep.backends.torch_backend_compiled import compiled, compiled_optimizers  # noqa: E402
from skdeep.backends.torch_backend_precision import tf32, to_tf32  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X = RNG.randn(400, 16).astype("float32")
Y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 1)


def backpropagated(dtype, net, theta, X, y, w):
    backend = make_backend(None, dtype)
    put = [backend.asarray(np.asarray(a), "float32") for a in (theta, X, y, w, [[0.3]])]
    return [r if r is None else r.double() for r in network.backpropagate(backend.xp, net, *put)]


@pytest.mark.parametrize("hidden", [(), (8,)], ids=["linear", "hidden"])
def test_gradients_are_summed_in_float32(hidden):
    """Terms that bfloat16 holds, whose sums it would round in the third digit."""
    n, k = 4096, 3
    net = network.build((5, *hidden, k), "squared_error", "relu")
    rows, y = RNG.randint(-8, 9, size=(n, 5)), RNG.randint(-8, 9, size=(1, n, k))
    theta = np.zeros((1, net.n_parameters))
    if hidden:  # every hidden unit is a feature or nothing, and the output still zero
        theta[0, : 5 * 8] = np.eye(5, 8).ravel()
    w = np.full((1, 1), 1.0 / n)
    value, penalty, grad, _ = backpropagated("bfloat16", net, theta, rows, y, w)
    expected = backpropagated(None, net, theta, rows, y, w)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(penalty, expected[1], rtol=1e-6)
    np.testing.assert_allclose(grad, expected[2], rtol=1e-6, atol=1e-7)
    # That there was something to round:
    coarse = expected[2].bfloat16().double()
    assert float((coarse - expected[2]).abs().max() / expected[2].abs().max()) > 1e-4


def test_gradients_of_filters_are_summed_in_float32():
    layers = (Conv2D(2, 3, activation=None), Flatten(), Dense(1, None))
    net = network.Network(layers, LOSSES["squared_error"], (4, 4, 1))
    theta = np.zeros((1, net.n_parameters))
    theta[0, 18:] = np.resize([1.0, -1.0, 0.5], net.n_parameters - 18)
    n = 2048
    rows, y = RNG.randint(-8, 9, size=(n, 16)), RNG.randint(-8, 9, size=(1, n, 1))
    args = net, theta, rows, y, np.full((1, 1), 1.0 / n)
    _, _, grad, _ = backpropagated("bfloat16", *args)
    _, _, expected, _ = backpropagated(None, *args)
    np.testing.assert_allclose(grad[:, :18], expected[:, :18], rtol=1e-4, atol=1e-5)


SETTINGS = [
    *({"activation": a, "batch_norm": b} for a in ACTIVATIONS if a != "step" for b in (0, 1)),
    {"dropout": 0.3},
    {"batch_norm": True, "dropout": 0.3},
    {"clip_norm": 1.0, "max_norm": 3.0, "l1_ratio": 0.5, "label_smoothing": 0.1},
    {"n_members": 3, "early_stopping": True},
    {"loss": "hinge"},
    {"loss": lambda raw, y: ((raw - y) ** 2).sum(-1)},
    {"solver": "adamw"},
]


@pytest.mark.parametrize("params", SETTINGS, ids=range(len(SETTINGS)))
def test_bfloat16_is_near_float32(params):
    """Losses agree in three digits, as bfloat16 has them."""
    params = {**params, "batch_norm": bool(params.get("batch_norm"))}
    if "loss" in params:
        del params["batch_norm"]
    settings = {"backend": "torch", "max_iter": 5, "random_state": 0, "n_iter_no_change": 50}
    one, half = (
        MLPClassifier((24, 16), dtype=dtype, **settings, **params).fit(X, Y)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(half.loss_curve_, one.loss_curve_, rtol=3e-3)
    assert all(coef.dtype == np.float32 for coef in half.coefs_)
    assert any((a != b).any() for a, b in zip(one.coefs_, half.coefs_, strict=True))


def test_bfloat16_in_convolutions_and_regression():
    layers = [Conv2D(4, 3), MaxPool2D(2), Flatten(), Dense(10)]
    settings = {"backend": "torch", "max_iter": 3, "random_state": 0}
    for make, y in (
        (lambda d: NetworkClassifier(layers, input_shape=(4, 4, 1), dtype=d, **settings), Y),
        (lambda d: MLPRegressor(hidden_layer_sizes=(20,), dtype=d, **settings), X[:, 0]),
    ):
        one, half = (make(dtype).fit(X, y) for dtype in ("float32", "bfloat16"))
        np.testing.assert_allclose(half.loss_curve_, one.loss_curve_, rtol=3e-3)


def test_tf32_is_of_cuda():
    for backend in ("numpy", "torch"):
        with pytest.raises(ValueError, match="dtype='tf32'"):
            MLPClassifier(backend=backend, dtype="tf32").fit(X, Y)


def switch():
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision if hasattr(matmul, "fp32_precision") else matmul.allow_tf32


def test_tf32_is_on_while_steps_are_launched_and_nowhere_else():
    backend, seen = make_backend(None, "float32"), []
    to_tf32(backend)

    def curious(xp, z):
        seen.append(switch())
        return z, z

    net = network.build((4, 3, 1), "squared_error", Activation(curious, lambda xp, h, dh: dh))
    theta, x, y, w, l2 = (torch.ones(s) for s in ((1, 19), (5, 4), (1, 5, 1), (1, 1), (1, 1)))
    before = switch()
    network.backpropagate(backend.xp, net, theta, x, y, w, l2)
    assert seen in (["tf32"], [True])
    assert switch() == before
    network.forward(backend.xp, net, theta, x)
    assert seen[1] == before  # predictions are those of float32


def test_tf32_of_overlapping_threads_ends_with_the_last():
    before = switch()
    inside, leave, left = threading.Event(), threading.Event(), threading.Event()

    def first():
        with tf32():
            inside.set()
            leave.wait(10)
        left.set()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with tf32():
        leave.set()
        left.wait(10)
        assert switch() != before
    thread.join()
    assert switch() == before


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ here")
@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_compiled_optimizers_are_the_optimizers(name, M):
    backend, optimizer = make_backend(None, None), OPTIMIZERS[name]
    numbers = {"momentum": 0.9, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    numbers["weight_decay"] = torch.full((M, 300), 0.01, dtype=torch.float64)
    hyper, found = {name: numbers[name] for name in optimizer.hyper}, []
    plain = backend.overrides.get(optimizer.step, optimizer.step)
    for step in (plain, compiled(plain, many=1)):
        theta = torch.linspace(-1, 1, M * 300, dtype=torch.float64).reshape(M, 300)
        slots = [torch.zeros_like(theta) for _ in range(optimizer.slots)]
        for t in range(1, 4):
            at, rate = (torch.full((M, 1), v, dtype=torch.float64) for v in (t, 0.1))
            theta, slots = step(backend.xp, theta, torch.sin(theta * t), slots, at, rate, **hyper)
        found.append([theta, *slots])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_what_is_small_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    backend, adam = make_backend(None, None), OPTIMIZERS["adam"]
    theta = torch.ones(1, 10)
    step = compiled(adam.step)
    new, _ = step(
        *(backend.xp, theta, theta, [0 * theta, 0 * theta], 1, 0.1),
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
    )
    torch.testing.assert_close(new, theta - 0.1)


def test_without_triton_nothing_is_compiled(monkeypatch):
    where = "skdeep.backends.torch_backend_compiled.find_spec"
    monkeypatch.setattr(where, lambda name: None)
    assert compiled_optimizers({}) == {}
    monkeypatch.setattr(where, lambda name: name)
    assert set(compiled_optimizers({})) == {one.step for one in OPTIMIZERS.values()}
