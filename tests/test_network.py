"""Gradients against central differences and autograd, and every override against its text."""

import array_api_compat.numpy as xp
import numpy as np
import pytest
import scipy.sparse as sp

from skdeep import network
from skdeep.activations import ACTIVATIONS
from skdeep.backends import get_backend
from skdeep.layers.dense import affine
from skdeep.losses import LOSSES
from skdeep.optimizers import OPTIMIZERS

M, N, P, HIDDEN = 3, 11, 4, (6, 5)
CLASSIFICATION = ("binary_log_loss", "log_loss", "hinge", "sigmoid_squared_error")
N_OUTPUTS = dict.fromkeys(CLASSIFICATION, (1, 3)) | {"log_loss": (4,)}


def make_case(loss, activation, n_outputs=None, shared=True, seed=0):
    """A small network with a stack of parameters, data of its kind and uneven row weights."""
    rng = np.random.RandomState(seed)
    k = n_outputs or N_OUTPUTS.get(loss, (2,))[-1]
    net = network.build((P, *HIDDEN, k), loss, activation)
    theta = 0.7 * rng.randn(M, net.n_parameters)
    X = rng.randn(N, P) if shared else rng.randn(M, N, P)
    y = rng.poisson(2.0, (M, N, k)).astype(float)
    if loss in CLASSIFICATION:
        labels = rng.randint(k, size=(M, N)) if k > 1 else rng.randint(2, size=(M, N, 1))
        y = (labels[..., None] == np.arange(k)).astype(float) if k > 1 else labels.astype(float)
    w = rng.rand(M, N)
    w[:, 0] = 0.0
    l2 = np.array([[0.0], [0.1], [1.0]])
    return net, theta, X, y, w / w.sum(axis=1, keepdims=True), l2


def objective(net, theta, X, y, w, l2):
    value, penalty, _ = network.value_and_grad(xp, net, theta, X, y, w, l2)
    return value + penalty


cases = pytest.mark.parametrize("loss", LOSSES)
activations = pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a != "step"])


@cases
@activations
@pytest.mark.parametrize("shared", [True, False])
def test_gradient_against_central_differences(loss, activation, shared):
    net, theta, X, y, w, l2 = make_case(loss, activation, shared=shared)
    grad = network.value_and_grad(xp, net, theta, X, y, w, l2)[2]
    step = 1e-5
    numeric = np.empty_like(grad)
    for j in range(theta.shape[1]):
        up, down = theta.copy(), theta.copy()
        up[:, j] += step
        down[:, j] -= step
        numeric[:, j] = objective(net, up, X, y, w, l2) - objective(net, down, X, y, w, l2)
    numeric /= 2 * step
    scale = np.abs(grad).max(axis=1, keepdims=True)
    np.testing.assert_allclose(grad / scale, numeric / scale, rtol=0, atol=1e-6)


@cases
@activations
def test_gradient_against_autograd(loss, activation):
    """Of the value, with the entries' own formulas for it."""
    torch = pytest.importorskip("array_api_compat.torch")
    net, theta, X, y, w, l2 = make_case(loss, activation)
    grad = network.value_and_grad(xp, net, theta, X, y, w, l2)[2]
    leaf = torch.asarray(theta).requires_grad_()
    X, y, w, l2 = (torch.asarray(array) for array in (X, y, w, l2))
    weights = network.matrices(torch, net, leaf)
    h = X
    for i, (W, b) in enumerate(zip(weights, network.of_role(torch, net, leaf, "intercept"))):
        h = h @ W + b[:, None]
        if i < len(HIDDEN):
            h = ACTIVATIONS[activation].forward(torch, h)[0]
    value = LOSSES[loss].value_and_grad(torch, h, y, w)[0]
    total = value.sum() + sum((0.5 * l2 * (W**2).sum((1, 2))[:, None]).sum() for W in weights)
    total.backward()
    np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@cases
@activations
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_backend_agrees_with_the_generic_text(loss, activation, shared, backend):
    if backend == "torch":
        pytest.importorskip("torch")
    for n_outputs in N_OUTPUTS.get(loss, (1, 2)):
        net, *arrays = make_case(loss, activation, n_outputs, shared)
        expected = network.value_and_grad(xp, net, *arrays)
        expected_raw = network.forward(xp, net, *arrays[:2])
        chosen = get_backend(backend)
        arrays = [chosen.asarray(array, "float64") for array in arrays]
        for _ in range(2):  # the second call finds the buffers of the first
            for got, want in zip(
                network.value_and_grad(chosen.xp, net, *arrays), expected, strict=True
            ):
                np.testing.assert_allclose(chosen.to_numpy(got), want, rtol=1e-10, atol=1e-13)
        raw = network.forward(chosen.xp, net, *arrays[:2])
        np.testing.assert_allclose(chosen.to_numpy(raw), expected_raw, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("units", [(2, 9, 1), (2, 8, 3), (2, 3, 1), (3, 12, 5, 1), (4, 1)])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_backpropagation_of_any_shape(units, intercept, shared, masked):
    """Few inputs and single outputs go ways of their own on NumPy."""
    rng = np.random.RandomState(0)
    net = network.build(units, "squared_error", "tanh", intercept, dropout=masked)
    thetas = [rng.randn(M, net.n_parameters) for _ in range(2)]
    X = rng.randn(N, units[0]) if shared else rng.randn(M, N, units[0])
    y, w, l2 = rng.randn(M, N, units[-1]), rng.rand(M, N), rng.rand(M, 1)
    masks = [rng.randint(2, size=(M, N, k)).astype(float) for k in units[:-1]] if masked else None
    backend = get_backend("numpy")
    for theta in thetas:  # the second one's buffers are the first one's
        args = net, theta, X, y, w, l2, masks
        expected = network.backpropagate(xp, *args)
        for got, want in zip(network.backpropagate(backend.xp, *args), expected, strict=True):
            if want is not None:
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)
        args = net, theta, X
        hidden = network.hidden_layers(backend.xp, *args)
        for got, want in zip(hidden, network.hidden_layers(xp, *args), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_optimizer_overrides(backend):
    if backend == "torch":
        pytest.importorskip("torch")
    chosen = get_backend(backend)
    rng = np.random.RandomState(0)
    for name, optimizer in OPTIMIZERS.items():
        theta = rng.randn(M, 40)
        slots = [np.abs(rng.randn(M, 40)) for _ in range(optimizer.slots)]
        hyper = {key: rng.uniform(0.1, 0.9, (M, 1)) for key in optimizer.hyper}
        step, rate = np.array([[1.0], [2.0], [30.0]]), rng.uniform(0.1, 0.5, (M, 1))
        grad = rng.randn(M, 40)
        expected = optimizer.step(xp, theta, grad, slots, step, rate, **hyper)
        moved = [chosen.asarray(a.copy()) for a in (theta, grad)]
        got = chosen.overrides.get(optimizer.step, optimizer.step)(
            chosen.xp,
            *moved,
            [chosen.asarray(slot.copy()) for slot in slots],
            chosen.asarray(step),
            chosen.asarray(rate),
            **{key: chosen.asarray(value) for key, value in hyper.items()},
        )
        np.testing.assert_allclose(chosen.to_numpy(got[0]), expected[0], rtol=1e-12, err_msg=name)
        for mine, want in zip(got[1], expected[1], strict=True):
            np.testing.assert_allclose(chosen.to_numpy(mine), want, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].hessian])
def test_hessian_against_differences_of_the_gradient(loss):
    net, theta, X, y, w, _ = make_case(loss, "tanh")
    raw, step, entry = network.forward(xp, net, theta, X), 1e-6, net.loss
    predicted, k = entry.predict(xp, raw), raw.shape[2]
    for j in range(k):
        shift = step * (np.arange(k) == j)
        up = entry.value_and_grad(xp, raw + shift, y, w)[1]
        down = entry.value_and_grad(xp, raw - shift, y, w)[1]
        for i in range(k):
            numeric = (up - down)[..., i] / (2 * step)
            analytic = entry.hessian(xp, predicted, w, i, j)
            np.testing.assert_allclose(analytic, numeric, atol=1e-8)


def test_sparse_rows_are_the_dense_ones():
    net, theta, X, y, w, l2 = make_case("log_loss", "relu")
    X = X * (np.abs(X) > 0.7)
    backend = get_backend("numpy")
    dense = network.value_and_grad(xp, net, theta, X, y, w, l2)
    sparse = network.value_and_grad(backend.xp, net, theta, sp.csr_array(X), y, w, l2)
    for got, want in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


def test_forward_by_hand():
    """The neuron of the lectures: w0 = 1, w = (3, -2), at x = (-1, 2)."""
    net = network.build((2, 1), "binary_log_loss")
    probability = network.predict(
        xp, net, np.array([[3.0, -2.0, 1.0]]), np.array([[-1.0, 2.0]])
    ).item()
    assert probability == pytest.approx(1.0 / (1.0 + np.exp(6.0)), rel=1e-12)


@pytest.mark.parametrize("loss", ["binary_log_loss", "log_loss", "sigmoid_squared_error"])
def test_losses_of_extreme_scores_are_finite(loss):
    raw = np.array([[[-1e4, 1e4]]])
    value, grad = LOSSES[loss].value_and_grad(xp, raw, np.array([[[1.0, 0.0]]]), np.ones((1, 1)))
    assert np.isfinite(value).all() and np.isfinite(grad).all()
    np.testing.assert_array_equal(LOSSES[loss].predict(xp, raw), [[[0.0, 1.0]]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("to_matrix", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_affine_override(dtype, models, to_matrix):
    rng = np.random.RandomState(0)
    X, W, b = rng.randn(N, P), rng.randn(models, P, 5), rng.randn(models, 1, 5)
    X, W, b = X.astype(dtype), W.astype(dtype), b.astype(dtype)
    scores = affine(get_backend("numpy").xp, to_matrix(X), W, b)
    assert scores.dtype == dtype
    np.testing.assert_allclose(scores, X @ W + b, rtol=1e-5, atol=1e-5)
