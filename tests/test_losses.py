"""Losses against differences, torch's own of that name and the statistics they are made for."""

import copy
import pickle

import array_api_compat.numpy as xp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import brier_score_loss, hinge_loss, mean_pinball_loss
from sklearn.neural_network import MLPRegressor

from skdeep.losses import LOSSES, Huber, Quantile

M, N, K = 2, 7, 3
ENTRIES = {**LOSSES, "huber(0.3)": Huber(0.3), "quantile(0.9)": Quantile(0.9)}
CLASSIFICATION = ("binary_log_loss", "log_loss", "hinge", "sigmoid_squared_error")
every = pytest.mark.parametrize("name", ENTRIES)


def make_case(name, k=K, seed=0):
    """Scores, targets of the loss's kind, and weights of which one is zero."""
    rng = np.random.RandomState(seed)
    raw, w = 2.0 * rng.randn(M, N, k), rng.rand(M, N)
    w[:, 0] = 0.0
    if name in CLASSIFICATION:
        one_hot = k > 1 or name == "log_loss"
        labels = rng.randint(k if one_hot else 2, size=(M, N, 1))
        y = (labels == np.arange(k) if one_hot else labels).astype(float)
    else:
        y = rng.poisson(2.0, (M, N, k)).astype(float)
    return raw, y, w


def sigmoid(z):
    return 1.0 / (1.0 + (-z).exp())


# Of each output, by torch: ``twin(F, raw, y)`` with ``torch.nn.functional``.
TWINS = {
    "squared_error": lambda F, raw, y: 0.5 * F.mse_loss(raw, y, reduction="none"),
    "absolute_error": lambda F, raw, y: F.l1_loss(raw, y, reduction="none"),
    "huber": lambda F, raw, y: F.huber_loss(raw, y, reduction="none"),
    "huber(0.3)": lambda F, raw, y: F.huber_loss(raw, y, reduction="none", delta=0.3),
    "quantile": lambda F, raw, y: 0.5 * F.l1_loss(raw, y, reduction="none"),
    "quantile(0.9)": lambda F, raw, y: (0.9 * (y - raw)).maximum(0.1 * (raw - y)),
    "poisson": lambda F, raw, y: raw.exp() - y * raw - y + y.xlogy(y),
    "binary_log_loss": lambda F, raw, y: F.binary_cross_entropy_with_logits(
        raw, y, reduction="none"
    ),
    "log_loss": lambda F, raw, y: -y * F.log_softmax(raw, dim=-1),
    "hinge": lambda F, raw, y: F.relu(1.0 - (2.0 * y - 1.0) * raw),
    "sigmoid_squared_error": lambda F, raw, y: 0.5 * (sigmoid(raw) - y) ** 2,
}


def per_row(name, raw, y):
    """The loss of each row, by torch, shape (M, N)."""
    torch = pytest.importorskip("torch")
    return TWINS[name](torch.nn.functional, raw, y).sum(-1)


@every
def test_gradient_against_autograd(name):
    """Of the value's own formula."""
    torch = pytest.importorskip("array_api_compat.torch")
    raw, y, w = make_case(name)
    leaf = torch.asarray(raw).requires_grad_()
    value, _ = ENTRIES[name].value_and_grad(torch, leaf, torch.asarray(y), torch.asarray(w))
    value.sum().backward()
    _, grad = ENTRIES[name].value_and_grad(xp, raw, y, w)
    np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("k", [1, K])
def test_torch_has_the_same(name, k):
    torch = pytest.importorskip("torch")
    raw, y, w = make_case(name, k)
    leaf = torch.tensor(raw, requires_grad=True)
    expected = (torch.tensor(w) * per_row(name, leaf, torch.tensor(y))).sum(-1)
    expected.sum().backward()
    value, grad = ENTRIES[name].value_and_grad(xp, raw, y, w)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


@every
def test_gradient_against_central_differences(name):
    raw, y, w = make_case(name)
    loss, step = ENTRIES[name], 1e-6
    _, grad = loss.value_and_grad(xp, raw, y, w)
    numeric = np.empty_like(grad)
    for i, j in np.ndindex(N, K):
        shift = np.zeros((N, K))
        shift[i, j] = step
        up, down = (loss.value_and_grad(xp, raw + s, y, w)[0] for s in (shift, -shift))
        numeric[:, i, j] = (up - down) / (2 * step)
    np.testing.assert_allclose(grad, numeric, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in ENTRIES if ENTRIES[name].hessian])
def test_hessian_product_is_that_of_the_hessian(name):
    raw, _, w = make_case(name)
    loss, v = ENTRIES[name], np.random.RandomState(1).randn(M, N, K)
    predicted = loss.predict(xp, raw)
    expected = np.stack(
        [sum(loss.hessian(xp, predicted, w, i, j) * v[..., j] for j in range(K)) for i in range(K)],
        axis=-1,
    )
    product = loss.hessian_product(xp, predicted, w, v)
    np.testing.assert_allclose(product, expected, rtol=1e-12, atol=1e-14)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_namespaces_agree(name, dtype):
    strict = pytest.importorskip("array_api_strict")
    torch = pytest.importorskip("array_api_compat.torch")
    raw, y, w = (array.astype(dtype) for array in make_case(name))
    loss, tol = ENTRIES[name], 1e-12 if dtype == "float64" else 1e-5
    expected = (*loss.value_and_grad(xp, raw, y, w), loss.predict(xp, raw))
    for namespace in (strict, torch):
        arrays = [namespace.asarray(array) for array in (raw, y, w)]
        got = (*loss.value_and_grad(namespace, *arrays), loss.predict(namespace, arrays[0]))
        for mine, want in zip(got, expected, strict=True):
            assert mine.dtype == getattr(namespace, dtype) and want.dtype == dtype
            np.testing.assert_allclose(np.asarray(mine), want, rtol=tol, atol=tol)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "poisson"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_scores_are_finite(name, dtype):
    """All but Poisson's, whose mean is the exponential of the score."""
    raw = np.array([[[-1e4, 1e4, 0.0]], [[1e4, -1e4, -1e4]]], dtype=dtype)
    y = np.array([[[1.0, 0.0, 0.0]]], dtype=dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, grad = ENTRIES[name].value_and_grad(xp, raw, y, np.ones((1, 1), dtype=dtype))
        predicted = ENTRIES[name].predict(xp, raw)
    assert all(np.isfinite(array).all() for array in (value, grad, predicted))


@every
def test_rows_of_no_weight_are_out(name):
    raw, y, w = make_case(name)
    value, grad = ENTRIES[name].value_and_grad(xp, raw, y, w)
    assert (grad[:, 0] == 0).all()
    raw[:, 0] += 5.0
    np.testing.assert_array_equal(ENTRIES[name].value_and_grad(xp, raw, y, w)[0], value)


@pytest.mark.parametrize(
    ("loss", "statistic"),
    [
        (LOSSES["squared_error"], np.mean),
        (LOSSES["absolute_error"], np.median),
        (Quantile(0.5), np.median),
        (Quantile(0.2), lambda y: np.quantile(y, 0.2)),
        (Huber(1e6), np.mean),
        (Huber(1e-6), np.median),
    ],
)
def test_minimiser_is_the_statistic(loss, statistic):
    y = np.random.RandomState(0).standard_gamma(1.0, 101)
    grid = np.linspace(0.0, 4.0, 4001)
    value, _ = loss.value_and_grad(
        xp, np.broadcast_to(grid[:, None, None], (4001, 101, 1)), y[:, None], np.ones((1, 1))
    )
    assert grid[value.argmin()] == pytest.approx(statistic(y), abs=1.5e-3)


def test_metrics_of_scikit_learn():
    raw, y, _ = make_case("hinge", k=1)
    raw, y = raw[0, :, 0], y[0, :, 0]
    w = np.full((1, 1), 1.0 / N)

    def value(loss, raw, y):
        return loss.value_and_grad(xp, raw[None, :, None], y[None, :, None], w)[0].item()

    assert value(LOSSES["hinge"], raw, y) == pytest.approx(hinge_loss(y, raw))
    probability = LOSSES["sigmoid_squared_error"].predict(xp, raw)
    brier = value(LOSSES["sigmoid_squared_error"], raw, y)
    assert brier == pytest.approx(0.5 * brier_score_loss(y, probability))
    pinball = mean_pinball_loss(y, raw, alpha=0.8)
    assert value(Quantile(0.8), raw, y) == pytest.approx(pinball)


def test_margin_has_the_scores_decision():
    raw = make_case("hinge")[0]
    predicted = LOSSES["hinge"].predict(xp, raw)
    np.testing.assert_array_equal(predicted > 0.5, raw > 0)
    np.testing.assert_array_equal(predicted.argmax(-1), raw.argmax(-1))
    # The targets 0 and 1 lie on the margins.
    margins = LOSSES["hinge"].predict(xp, np.array([[[-1.0], [0.0], [1.0]]]))
    np.testing.assert_array_equal(margins.ravel(), [0.0, 0.5, 1.0])
    assert LOSSES["hinge"].out_activation == "margin"


@pytest.mark.parametrize("entry", [Huber(0.3), Quantile(0.9)], ids=repr)
def test_entries_with_parameters_are_values(entry):
    for again in (pickle.loads(pickle.dumps(entry)), copy.deepcopy(entry)):
        assert again == entry and hash(again) == hash(entry)
    assert entry != type(entry)()
    assert clone(MLPRegressor(loss=entry)).loss == entry


@pytest.mark.parametrize(
    ("cls", "number"), [(Huber, 0.0), (Huber, np.nan), (Quantile, 0.0), (Quantile, 1.0)]
)
def test_numbers_out_of_range_are_refused(cls, number):
    with pytest.raises(ValueError, match=f"of {cls.__name__} must be"):
        cls(number)


def quartic(raw, y):
    return ((raw - y) ** 4).sum(-1)


class TestAutograd:
    @pytest.fixture
    def autograd_loss(self):
        pytest.importorskip("torch")
        from skdeep.backends.torch_backend import autograd_loss

        return autograd_loss

    @pytest.mark.parametrize("name", TWINS)
    def test_it_is_the_loss_by_hand(self, name, autograd_loss):
        torch = pytest.importorskip("torch")
        arrays = [torch.tensor(array) for array in make_case(name)]
        loss = autograd_loss(lambda raw, y: per_row(name, raw, y))
        value, grad = loss.value_and_grad(torch, *arrays)
        want_value, want_grad = ENTRIES[name].value_and_grad(xp, *make_case(name))
        assert not value.requires_grad and not grad.requires_grad
        np.testing.assert_allclose(value.numpy(), want_value, rtol=1e-12)
        np.testing.assert_allclose(grad.numpy(), want_grad, rtol=1e-12, atol=1e-15)

    def test_under_no_grad_too(self, autograd_loss):
        torch = pytest.importorskip("torch")
        with torch.no_grad():
            _, grad = autograd_loss(quartic).value_and_grad(
                torch, torch.full((1, 1, 1), 2.0), torch.ones(1, 1, 1), torch.ones(1, 1)
            )
        assert grad.item() == 4.0

    def test_equal_for_the_same_function(self, autograd_loss):
        loss = autograd_loss(quartic)
        again = pickle.loads(pickle.dumps(loss))
        assert again == loss == autograd_loss(quartic) and hash(again) == hash(loss)

    def test_arrays_of_another_kind_are_refused(self, autograd_loss):
        with pytest.raises(TypeError, match="use backend='torch'"):
            autograd_loss(quartic).value_and_grad(xp, *make_case("huber"))

    def test_one_number_is_not_a_loss_of_each_row(self, autograd_loss):
        torch = pytest.importorskip("torch")
        loss = autograd_loss(lambda raw, y: ((raw - y) ** 2).mean())
        with pytest.raises(ValueError, match="one loss for each model and row"):
            loss.value_and_grad(torch, *(torch.tensor(array) for array in make_case("huber")))
