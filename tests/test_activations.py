"""Activations against their formulas, central differences and torch's own of that name."""

import pickle

import array_api_compat.numpy as xp
import numpy as np
import pytest
from scipy.special import log_ndtr
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier

from skdeep.activations import ACTIVATIONS, ELU, Activation, LeakyReLU
from skdeep.backends.numpy_elementwise import ACTIVATIONS_IN_PLACE

TRAINABLE = {name: entry for name, entry in ACTIVATIONS.items() if name != "step"}
OTHERS = {"leaky_relu(0.3)": LeakyReLU(0.3), "elu(0.5)": ELU(0.5), "leaky_relu(2)": LeakyReLU(2.0)}
every = pytest.mark.parametrize("name", [*TRAINABLE, *OTHERS])

# Kinks lie at zero: no point is closer to it than the differences reach.
POINTS = np.concatenate([np.linspace(-9.0, -0.01, 60), np.linspace(0.01, 9.0, 60)])
EXTREMES = np.array([-1e4, -800.0, -90.0, -40.0, -1e-30, 0.0, 1e-30, 40.0, 90.0, 800.0, 1e4])


def entry_of(name):
    return (TRAINABLE | OTHERS)[name]


def value_and_slope(namespace, activation, z):
    """Both on copies: an activation owns what it is given."""
    h, saved = activation.forward(namespace, namespace.asarray(z, copy=True))
    value = namespace.asarray(h, copy=True)
    return value, activation.backward(namespace, saved, namespace.ones_like(value))


# Of those that torch has too: ``twin(torch, z)``.
TWINS = {
    "identity": lambda torch, z: 1.0 * z,
    "logistic": lambda torch, z: torch.sigmoid(z),
    "tanh": lambda torch, z: torch.tanh(z),
    "relu": lambda torch, z: torch.relu(z),
    "leaky_relu": lambda torch, z: torch.nn.functional.leaky_relu(z),
    "leaky_relu(0.3)": lambda torch, z: torch.nn.functional.leaky_relu(z, 0.3),
    "leaky_relu(2)": lambda torch, z: torch.nn.functional.leaky_relu(z, 2.0),
    "elu": lambda torch, z: torch.nn.functional.elu(z),
    "elu(0.5)": lambda torch, z: torch.nn.functional.elu(z, 0.5),
    "selu": lambda torch, z: torch.nn.functional.selu(z),
    # torch goes over to the identity at its threshold
    "softplus": lambda torch, z: torch.nn.functional.softplus(z, threshold=100),
    "swish": lambda torch, z: torch.nn.functional.silu(z),
    "gelu": lambda torch, z: torch.nn.functional.gelu(z, approximate="tanh"),
    "mish": lambda torch, z: torch.nn.functional.mish(z),
}


@every
def test_slope_against_central_differences(name):
    activation, step = entry_of(name), 1e-6
    _, slope = value_and_slope(xp, activation, POINTS)
    up, down = (value_and_slope(xp, activation, POINTS + s)[0] for s in (step, -step))
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=0, atol=2e-8)


@every
def test_slope_against_autograd(name):
    """Of the value's own formula."""
    torch = pytest.importorskip("array_api_compat.torch")
    leaf = torch.asarray(POINTS).requires_grad_()
    entry_of(name).forward(torch, leaf)[0].sum().backward()
    _, slope = value_and_slope(xp, entry_of(name), POINTS)
    np.testing.assert_allclose(slope, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("z", [POINTS, EXTREMES], ids=["usual", "extreme"])
def test_torch_has_the_same(name, z):
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(z, requires_grad=True)
    expected = TWINS[name](torch, leaf)
    expected.sum().backward()
    value, slope = value_and_slope(xp, entry_of(name), z)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slope, leaf.grad.numpy(), rtol=1e-12, atol=1e-13)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_are_finite_and_the_dtype_stays(name, dtype):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, slope = value_and_slope(xp, entry_of(name), EXTREMES.astype(dtype))
    assert value.dtype == slope.dtype == dtype
    assert np.isfinite(value).all() and np.isfinite(slope).all()
    assert np.abs(slope).max() <= 2.0


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_namespaces_agree(name, dtype):
    strict = pytest.importorskip("array_api_strict")
    torch = pytest.importorskip("array_api_compat.torch")
    z = POINTS.astype(dtype)
    expected = value_and_slope(xp, entry_of(name), z)
    tol = 1e-13 if dtype == "float64" else 1e-5
    for namespace in (strict, torch):
        for got, want in zip(
            value_and_slope(namespace, entry_of(name), namespace.asarray(z)), expected, strict=True
        ):
            assert got.dtype == getattr(namespace, dtype)
            np.testing.assert_allclose(np.asarray(got), want, rtol=tol, atol=tol)


@every
def test_form_in_place_is_the_text(name):
    activation = entry_of(name)
    in_place = ACTIVATIONS_IN_PLACE.get
    fast = Activation(*(in_place(fn, fn) for fn in (activation.forward, activation.backward)))
    for got, want in zip(
        value_and_slope(xp, fast, POINTS), value_and_slope(xp, activation, POINTS), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_gelu_is_near_the_exact_one():
    """Within 5e-4 of z times the normal distribution function, as its docstring says."""
    z = np.linspace(-8.0, 8.0, 10001)
    error = np.abs(ACTIVATIONS["gelu"].forward(xp, z)[0] - z * np.exp(log_ndtr(z)))
    assert 4e-4 < error.max() < 5e-4


def test_selu_keeps_mean_zero_and_variance_one():
    """What Klambauer et al. (2017) built it for: a standard normal comes out with both."""
    z = np.linspace(-12.0, 12.0, 200001)
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    h, _ = ACTIVATIONS["selu"].forward(xp, z)
    assert (h * density).sum() == pytest.approx(0.0, abs=1e-8)
    assert (h * h * density).sum() == pytest.approx(1.0, abs=1e-8)


def test_step_predicts_and_refuses_to_train():
    step = ACTIVATIONS["step"]
    h, saved = step.forward(xp, np.array([-1e4, -1e-30, 0.0, 2.0], dtype="float32"))
    assert h.tolist() == [0.0, 0.0, 1.0, 1.0] and h.dtype == "float32"
    with pytest.raises(ValueError, match="activation='step' is for prediction only"):
        step.backward(xp, saved, np.ones(4))


@pytest.mark.parametrize("entry", [LeakyReLU(0.2), ELU(0.5)], ids=repr)
def test_entries_with_parameters_are_values(entry):
    again = pickle.loads(pickle.dumps(entry))
    assert again == entry and hash(again) == hash(entry)
    assert entry != type(entry)() and ACTIVATIONS["leaky_relu"] == LeakyReLU(slope=0.01)
    assert clone(MLPClassifier(activation=entry)).activation == entry
    with pytest.raises(AttributeError):
        entry.slope = 1.0


@pytest.mark.parametrize("cls", [LeakyReLU, ELU])
@pytest.mark.parametrize("number", [-0.1, float("nan")])
def test_negative_slopes_are_refused(cls, number):
    with pytest.raises(ValueError, match=f"of {cls.__name__} must not be negative"):
        cls(number)


@pytest.mark.parametrize("entry", [LeakyReLU(0.0), ELU(0.0)], ids=repr)
def test_without_a_slope_they_are_relu(entry):
    z = np.append(POINTS, 0.0)
    for got, want in zip(
        value_and_slope(xp, entry, z), value_and_slope(xp, ACTIVATIONS["relu"], z), strict=True
    ):
        np.testing.assert_array_equal(got, want)
