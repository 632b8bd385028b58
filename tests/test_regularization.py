"""Batch norm, dropout, bounds and smoothing against torch, closed forms and definitions."""

import array_api_compat.numpy as xp
import numpy as np
import pytest

from skdeep import network
from skdeep.activations import ACTIVATIONS
from skdeep.backends import get_backend
from skdeep.losses import LOSSES
from skdeep.regularization import (
    clip_norm,
    corrupt,
    dropout_masks,
    l1_penalty,
    max_norm,
    smooth_labels,
)

torch = pytest.importorskip("torch")

M, N, UNITS = 3, 12, (4, 6, 5, 2)


def make_case(batch_norm, activation="tanh", tied=False, units=UNITS, seed=0):
    rng = np.random.RandomState(seed)
    net = network.build(units, "squared_error", activation, batch_norm=batch_norm)
    net = net._replace(tied=tied)
    theta = rng.uniform(0.3, 0.9, (M, network.n_parameters(net)))
    theta *= np.where(rng.rand(*theta.shape) < 0.5, -1, 1)
    if batch_norm:  # running variances are positive
        n = network.n_normalised(net)
        theta[:, -n:] = np.abs(theta[:, -n:])
    X, y, w = rng.randn(N, units[0]), rng.randn(M, N, units[-1]), rng.rand(M, N)
    masks = [
        (rng.rand(M, N, width) < 0.7) / 0.7 if width != units[1] else None for width in units[:-1]
    ]
    return net, theta, X, y, w / w.sum(axis=1, keepdims=True), np.full((M, 1), 0.1), masks


def by_autograd(net, theta, X, y, w, l2, masks):
    """The same objective written with torch alone, weighted batch norm by hand."""
    leaf = torch.tensor(theta, requires_grad=True)
    X, y, w, l2 = (torch.tensor(a) for a in (X, y, w, l2))
    torch_xp = get_backend("torch").xp
    weights, intercepts = network.layers(torch_xp, net, leaf)
    scales = network.normalisation(torch_xp, net, leaf)[0] if net.batch_norm else None
    h = X
    for i, (W, b) in enumerate(zip(weights, intercepts, strict=True)):
        h = h if masks[i] is None else h * torch.tensor(masks[i])
        z = h @ W
        if i < len(net.activations):
            if scales:
                mean = (w[..., None] * z).sum(1, keepdim=True)
                variance = (w[..., None] * (z - mean) ** 2).sum(1, keepdim=True)
                z = scales[i] * (z - mean) / torch.sqrt(variance + network.EPSILON)
            h = torch.tanh(z + b)
        else:
            h = z + b
    total = (w * 0.5 * ((h - y) ** 2).sum(-1)).sum()
    stored = weights[: len(network.shapes(net)[0])]
    total = total + sum((0.5 * l2[0, 0] * W**2).sum() for W in stored)
    total.backward()
    return total.item(), leaf.grad.numpy()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("backend", ["generic", "numpy", "torch"])
def test_gradient_against_autograd(batch_norm, masked, tied, backend):
    units = (4, 6, 3, 6, 4) if tied else UNITS
    net, theta, X, y, w, l2, masks = make_case(batch_norm, tied=tied, units=units)
    masks = masks if masked else [None] * len(masks)
    value, grad = by_autograd(net, theta, X, y, w, l2, masks)
    chosen, fn = (xp, network.backpropagate), network.backpropagate
    if backend != "generic":
        chosen = get_backend(backend)
        fn, as_array, space = chosen.kernel(fn), chosen.asarray, chosen.xp
    else:
        as_array, space = np.asarray, xp
    arrays = [as_array(a) for a in (theta, X, y, w, l2)]
    got, penalty, got_grad, _ = fn(
        space, net, *arrays, [None if m is None else as_array(m) for m in masks]
    )
    assert float((got + penalty).sum()) == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(np.asarray(got_grad), grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a != "step"])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_batch_norm_and_masks_against_central_differences(activation, loss):
    net, theta, X, y, w, l2, masks = make_case(True, activation)
    net = net._replace(loss=LOSSES[loss])
    y = (y == y.max(axis=-1, keepdims=True)).astype(float) if loss == "log_loss" else y
    grad = network.backpropagate(xp, net, theta, X, y, w, l2, masks)[2]
    step, learned = 1e-6, theta.shape[1] - 2 * network.n_normalised(net)
    for j in range(0, learned, 3):
        shift = step * (np.arange(theta.shape[1]) == j)
        up, down = (
            sum(network.backpropagate(xp, net, theta + sign * shift, X, y, w, l2, masks)[:2])
            for sign in (1, -1)
        )
        scale = np.abs(grad).max(axis=1)
        np.testing.assert_allclose(grad[:, j] / scale, (up - down) / (2 * step) / scale, atol=1e-6)
    assert not grad[:, learned:].any(), "no gradient moves the running moments"


def test_batch_norm_against_torch():
    rng = np.random.RandomState(0)
    z, w = rng.randn(1, 30, 5), np.full((1, 1), 1 / 30)
    z_hat, _, mean, variance = network.normalise(xp, z, w)
    expected = torch.nn.functional.batch_norm(torch.tensor(z[0]), None, None, training=True)
    np.testing.assert_allclose(z_hat[0], expected.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean[0, 0], z[0].mean(axis=0))
    np.testing.assert_allclose(variance[0, 0], z[0].var(axis=0))


def test_weights_of_batch_norm_are_repetitions():
    rng = np.random.RandomState(0)
    z, counts = rng.randn(1, 6, 3), np.array([1, 2, 3, 1, 1, 2])
    weighted = network.normalise(xp, z, (counts / counts.sum())[None])[0]
    repeated = network.normalise(xp, np.repeat(z, counts, axis=1), np.full((1, 1), 0.1))[0]
    np.testing.assert_allclose(np.repeat(weighted, counts, axis=1), repeated, rtol=1e-12)


def generators(*seeds):
    return [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]


def test_dropout_masks():
    rates = np.array([[0.0, 0.2, 0.5], [0.0, 0.0, 0.9]])
    masks = dropout_masks(generators(0, 1), rates, (3, 400, 300), 200, "float64")
    assert masks[0] is None
    for i in (1, 2):
        for m in (0, 1):
            values = np.unique(masks[i][m])
            kept = 1 / (1 - rates[m, i])
            assert set(values) <= {0.0, kept}
            assert masks[i][m].mean() == pytest.approx(1.0, abs=0.05)
    # A model's draws do not depend on the stack it is in.
    alone = dropout_masks(generators(1), rates[1:], (3, 400, 300), 200, "float64")
    np.testing.assert_array_equal(alone[2][0], masks[2][1])


def test_corruption():
    X = np.ones((2, 500, 40))
    level = np.array([[0.3], [0.0]])
    factor, offset = corrupt(generators(0, 1), "masking", level, X, "float64")
    assert set(np.unique(factor)) == {0.0, 1.0} and not offset.any()
    assert factor[0].mean() == pytest.approx(0.7, abs=0.01) and factor[1].all()
    factor, offset = corrupt(generators(0, 1), "gaussian", level, X, "float64")
    assert factor.all() and offset[0].std() == pytest.approx(0.3, abs=0.01) and not offset[1].any()


def test_clip_norm_against_torch():
    grad = np.random.RandomState(0).randn(3, 20) * np.array([[0.01], [1.0], [100.0]])
    clipped = clip_norm(xp, grad, np.array([[1.0]] * 3))
    for row, expected in zip(clipped, grad, strict=True):
        leaf = torch.zeros(20, dtype=torch.float64, requires_grad=True)
        leaf.grad = torch.tensor(expected)
        torch.nn.utils.clip_grad_norm_([leaf], 1.0)
        np.testing.assert_allclose(row, leaf.grad.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(clip_norm(xp, np.zeros((1, 3)), np.ones((1, 1))), 0)


def test_max_norm_bounds_each_unit_and_touches_nothing_else():
    net, theta, *_ = make_case(False)
    bound = np.array([[0.5], [1.0], [1e9]])
    bounded = max_norm(xp, net, theta, bound)
    for W in network.layers(xp, net, bounded)[0]:
        norms = np.linalg.norm(W, axis=1)
        assert (norms <= bound * (1 + 1e-12)).all()
    n = network.n_weights(net)
    np.testing.assert_array_equal(bounded[:, n:], theta[:, n:])
    np.testing.assert_array_equal(bounded[2], theta[2])


def test_max_norm_of_tied_weights_bounds_encoder_and_decoder():
    net, theta, *_ = make_case(False, tied=True, units=(4, 6, 3, 6, 4))
    bound = np.array([[0.5], [1.0], [1e9]])
    bounded = max_norm(xp, net, theta, bound)
    assert bounded.shape == theta.shape
    for W in network.layers(xp, net, bounded)[0]:
        assert (np.linalg.norm(W, axis=1) <= bound * (1 + 1e-12)).all()
    np.testing.assert_array_equal(bounded[2], theta[2])


def test_l1_penalty_by_differences():
    net, theta, *_ = make_case(False)
    l1, n = np.array([[0.1], [0.2], [0.3]]), network.n_weights(net)
    value, slope = l1_penalty(xp, net, theta, l1)
    np.testing.assert_allclose(value, l1[:, 0] * np.abs(theta[:, :n]).sum(axis=1))
    up = l1_penalty(xp, net, theta + 1e-6, l1)[0]
    np.testing.assert_allclose((up - value) / 1e-6, slope.sum(axis=1), rtol=1e-6)


def test_smooth_labels_keep_their_sum():
    y = np.eye(4)[None]
    smoothed = smooth_labels(y, np.array([[0.2]]))
    np.testing.assert_allclose(smoothed.sum(axis=-1), 1.0)
    np.testing.assert_allclose(smoothed[0, 0], [0.85, 0.05, 0.05, 0.05])
    binary = smooth_labels(np.array([[[0.0], [1.0]]]), np.array([[0.2]]))
    np.testing.assert_allclose(binary.ravel(), [0.1, 0.9])
