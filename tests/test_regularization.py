"""Batch norm, dropout, bounds and smoothing against torch, closed forms and definitions."""

from dataclasses import dataclass, replace

import array_api_compat.numpy as xp
import numpy as np
import pytest

from skdeep import network
from skdeep.activations import ACTIVATIONS
from skdeep.backends import get_backend
from skdeep.draws import Draws, streams
from skdeep.layers.normalisation import EPSILON, normalise
from skdeep.neural_network import MLPClassifier
from skdeep.regularization import (
    L1,
    ClipNorm,
    GaussianNoise,
    LabelSmoothing,
    MaskingNoise,
    MaxNorm,
    Regularizer,
    put_together,
    taken_apart,
)

torch = pytest.importorskip("torch")

M, N, UNITS = 3, 12, (4, 6, 5, 2)


def make_case(batch_norm, activation="tanh", tied=False, units=UNITS, loss="squared_error"):
    rng = np.random.RandomState(0)
    net = network.build(units, loss, activation, batch_norm=batch_norm, dropout=True)
    net = replace(net, tied=tied)
    theta = rng.uniform(0.3, 0.9, (M, net.n_parameters))
    theta *= np.where(rng.rand(*theta.shape) < 0.5, -1, 1)
    if batch_norm:  # running variances are positive
        n = net.n_running // 2
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
    weights = network.matrices(torch_xp, net, leaf)
    intercepts, scales = (network.of_role(torch_xp, net, leaf, r) for r in ("intercept", "scale"))
    h = X
    for i, (W, b) in enumerate(zip(weights, intercepts, strict=True)):
        b = b[:, None]
        h = h if masks[i] is None else h * torch.tensor(masks[i])
        z = h @ W
        if i < len(net.activations):
            if scales:
                mean = (w[..., None] * z).sum(1, keepdim=True)
                variance = (w[..., None] * (z - mean) ** 2).sum(1, keepdim=True)
                z = scales[i][:, None] * (z - mean) / torch.sqrt(variance + EPSILON)
            h = torch.tanh(z + b)
        else:
            h = z + b
    total = (w * 0.5 * ((h - y) ** 2).sum(-1)).sum()
    stored = network.of_role(torch_xp, net, leaf, "weight")
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
    if backend != "generic":
        as_array, space = get_backend(backend).asarray, get_backend(backend).xp
    else:
        as_array, space = np.asarray, xp
    arrays = [as_array(a) for a in (theta, X, y, w, l2)]
    got, penalty, got_grad, _ = network.backpropagate(
        space, net, *arrays, [None if m is None else as_array(m) for m in masks]
    )
    assert float((got + penalty).sum()) == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(np.asarray(got_grad), grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a != "step"])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_batch_norm_and_masks_against_central_differences(activation, loss):
    net, theta, X, y, w, l2, masks = make_case(True, activation, loss=loss)
    y = (y == y.max(axis=-1, keepdims=True)).astype(float) if loss == "log_loss" else y
    grad = network.backpropagate(xp, net, theta, X, y, w, l2, masks)[2]
    step, learned = 1e-6, theta.shape[1] - net.n_running
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
    z_hat, _, mean, variance = normalise(xp, z, w)
    expected = torch.nn.functional.batch_norm(torch.tensor(z[0]), None, None, training=True)
    np.testing.assert_allclose(z_hat[0], expected.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean[0, 0], z[0].mean(axis=0))
    np.testing.assert_allclose(variance[0, 0], z[0].var(axis=0))


def test_weights_of_batch_norm_are_repetitions():
    rng = np.random.RandomState(0)
    z, counts = rng.randn(1, 6, 3), np.array([1, 2, 3, 1, 1, 2])
    weighted = normalise(xp, z, (counts / counts.sum())[None])[0]
    repeated = normalise(xp, np.repeat(z, counts, axis=1), np.full((1, 1), 0.1))[0]
    np.testing.assert_allclose(np.repeat(weighted, counts, axis=1), repeated, rtol=1e-12)


def draws(*seeds):
    return Draws(np, streams(np.array(seeds), np.ones((1, len(seeds))), 2)[0], 500, np.float64)


def test_corruption():
    X, level = np.ones((2, 500, 40)), np.array([[0.3], [0.0]])
    masked = MaskingNoise(level).input(xp, X, draws(0, 1))
    assert set(np.unique(masked)) == {0.0, 1.0} and masked[1].all()
    assert masked[0].mean() == pytest.approx(0.7, abs=0.01)
    noise = GaussianNoise(level).input(xp, X, draws(0, 1)) - X
    assert noise[0].std() == pytest.approx(0.3, abs=0.01) and not noise[1].any()
    assert abs(noise[0].mean()) < 0.01


def test_clip_norm_against_torch():
    grad = np.random.RandomState(0).randn(3, 20) * np.array([[0.01], [1.0], [100.0]])
    clipped = ClipNorm(np.array([[1.0]] * 3)).gradient(xp, None, grad, None)
    for row, expected in zip(clipped, grad, strict=True):
        leaf = torch.zeros(20, dtype=torch.float64, requires_grad=True)
        leaf.grad = torch.tensor(expected)
        torch.nn.utils.clip_grad_norm_([leaf], 1.0)
        np.testing.assert_allclose(row, leaf.grad.numpy(), rtol=1e-5)
    still = ClipNorm(np.ones((1, 1))).gradient(xp, None, np.zeros((1, 3)), None)
    np.testing.assert_array_equal(still, 0)


def test_max_norm_bounds_each_unit_and_touches_nothing_else():
    net, theta, *_ = make_case(False)
    bound = np.array([[0.5], [1.0], [1e9]])
    bounded = MaxNorm(bound).theta(xp, net, theta)
    for W in network.of_role(xp, net, bounded, "weight"):
        norms = np.linalg.norm(W, axis=1)
        assert (norms <= bound * (1 + 1e-12)).all()
    n = net.n_weights
    np.testing.assert_array_equal(bounded[:, n:], theta[:, n:])
    np.testing.assert_array_equal(bounded[2], theta[2])


def test_max_norm_of_tied_weights_bounds_encoder_and_decoder():
    net, theta, *_ = make_case(False, tied=True, units=(4, 6, 3, 6, 4))
    bound = np.array([[0.5], [1.0], [1e9]])
    bounded = MaxNorm(bound).theta(xp, net, theta)
    assert bounded.shape == theta.shape
    for W in network.matrices(xp, net, bounded):
        assert (np.linalg.norm(W, axis=1) <= bound * (1 + 1e-12)).all()
    np.testing.assert_array_equal(bounded[2], theta[2])


def test_l1_penalty_by_differences():
    net, theta, *_ = make_case(False)
    l1, size, n = L1(np.array([[1.0], [2.0], [3.0]])), np.full((3, 1), 10.0), net.n_weights
    value, slope = l1.penalty(xp, net, theta, size)
    np.testing.assert_allclose(value, [0.1, 0.2, 0.3] * np.abs(theta[:, :n]).sum(axis=1))
    up = l1.penalty(xp, net, theta + 1e-6, size)[0]
    np.testing.assert_allclose((up - value) / 1e-6, slope.sum(axis=1), rtol=1e-6)


def test_smooth_labels_keep_their_sum():
    y, smooth = np.eye(4)[None], LabelSmoothing(np.array([[0.2]]))
    smoothed = smooth.target(xp, y)
    np.testing.assert_allclose(smoothed.sum(axis=-1), 1.0)
    np.testing.assert_allclose(smoothed[0, 0], [0.85, 0.05, 0.05, 0.05])
    binary = smooth.target(xp, np.array([[[0.0], [1.0]]]))
    np.testing.assert_allclose(binary.ravel(), [0.1, 0.9])


def test_regularisers_of_a_stack():
    """Those that differ in numbers are of one kind; each model has its own numbers."""
    kinds, hyper = zip(*(taken_apart([MaxNorm(bound), L1(0.5)]) for bound in (1.0, 2.0)))
    assert kinds[0] == kinds[1] and hash(kinds[0]) == hash(kinds[1])
    stacked = {name: np.concatenate([one[name] for one in hyper]) for name in hyper[0]}
    max_norm, l1 = put_together(kinds[0], stacked)
    assert max_norm.bound.tolist() == [[1.0], [2.0]] and l1.strength.tolist() == [[0.5], [0.5]]
    assert taken_apart([ClipNorm(1.0)])[0] != taken_apart([MaxNorm(1.0)])[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: L1(-0.1), "strength=-0.1 of L1 must be at least 0"),
        (lambda: ClipNorm(-1.0), "bound=-1.0 of ClipNorm must be above 0"),
        (lambda: MaxNorm(0.0), "bound=0.0 of MaxNorm must be above 0"),
        (lambda: LabelSmoothing(1.0), "amount=1.0 of LabelSmoothing must be in"),
        (lambda: MaskingNoise(1.5), "level=1.5 of MaskingNoise must be from 0 to 1"),
        (lambda: GaussianNoise(float("nan")), "level=nan of GaussianNoise must be at least 0"),
    ],
)
def test_numbers_that_make_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("kind", [MaxNorm, ClipNorm])
def test_bounds_may_be_as_small_as_floats(kind):
    assert kind(1e-300).bound == 1e-300


@dataclass(frozen=True)
class GradientNoise(Regularizer):
    """Normal noise on the gradient of what is learned (Neelakantan et al., 2015)."""

    level: float
    random = True

    def gradient(self, xp, net, grad, draws):
        learned = np.arange(grad.shape[1]) < grad.shape[1] - net.n_running
        return grad + self.level * xp.asarray(learned, dtype=grad.dtype) * draws.vector(
            grad.shape[1]
        )


class Silent(GradientNoise):
    """Draws, and has not said so."""

    random = False


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_noise_on_gradients(backend):
    if backend == "torch":
        pytest.importorskip("torch")
    X, y = np.random.RandomState(0).randn(60, 4), np.arange(60) % 2
    params = {"batch_norm": True, "max_iter": 3, "random_state": 0, "backend": backend}

    def fit(*regularizers):
        return MLPClassifier(regularizers=list(regularizers), **params).fit(X, y)

    plain, none, noisy, again = fit(), *(fit(GradientNoise(level)) for level in (0.0, 0.5, 0.5))
    np.testing.assert_allclose(none.coefs_[0], plain.coefs_[0], rtol=1e-10)
    np.testing.assert_array_equal(again.coefs_[0], noisy.coefs_[0])
    assert np.abs(noisy.coefs_[0] - plain.coefs_[0]).max() > 1e-4
    with pytest.raises(ValueError, match="its class says random = True"):
        fit(Silent(0.5))


def test_what_is_no_dataclass_is_refused_in_words():
    class Bare(Regularizer):
        pass

    with pytest.raises(ValueError, match="Regularizer that is a dataclass"):
        MLPClassifier(regularizers=[Bare()]).fit(np.eye(4), [0, 1, 0, 1])
