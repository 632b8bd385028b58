"""Initial weights against the variances and bounds of their papers."""

import copy
import pickle

import numpy as np
import pytest

from skdeep.activations import ACTIVATIONS
from skdeep.initializers import INITIALIZERS, Normal

IN, OUT = 400, 250
VARIANCES = {
    "auto": 2.0 / (IN + OUT),
    "normal": 1e-4,
    "lecun_normal": 1.0 / IN,
    "glorot_uniform": 2.0 / (IN + OUT),
    "glorot_normal": 2.0 / (IN + OUT),
    "he_uniform": 2.0 / IN,
    "he_normal": 2.0 / IN,
    "orthogonal": 1.0 / IN,
    "ntk": 1.0 / IN,
}


def draw(name, fan_in=IN, fan_out=OUT, seed=0, activation="relu"):
    return INITIALIZERS[name](np.random.RandomState(seed), fan_in, fan_out, activation)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_mean_and_variance(name):
    W, b = draw(name)
    assert W.shape == (IN, OUT) and b.shape == (OUT,) and W.dtype == b.dtype == "float64"
    sigma = np.sqrt(VARIANCES[name])
    # four standard errors of 100,000 draws
    assert W.mean() == pytest.approx(0.0, abs=4 * sigma / np.sqrt(W.size))
    assert W.var() == pytest.approx(sigma**2, rel=4 * np.sqrt(2.0 / W.size))
    assert (b == 0).all() == (name not in ("auto", "ntk"))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_same_seed_same_weights(name):
    for got, want in zip(draw(name, 5, 3), draw(name, 5, 3), strict=True):
        np.testing.assert_array_equal(got, want)
    assert (draw(name, 5, 3)[0] != draw(name, 5, 3, seed=1)[0]).all()


@pytest.mark.parametrize(
    ("name", "bound"),
    [("glorot_uniform", np.sqrt(6.0 / (IN + OUT))), ("he_uniform", np.sqrt(6.0 / IN))],
)
def test_uniform_fills_its_bounds(name, bound):
    W, _ = draw(name)
    assert np.abs(W).max() == pytest.approx(bound, rel=1e-3) and np.abs(W).max() <= bound
    # the fourth moment of a uniform variate is 9/5 of its squared variance, of a normal one 3
    assert (W**4).mean() / W.var() ** 2 == pytest.approx(1.8, rel=0.02)


@pytest.mark.parametrize("name", ["normal", "lecun_normal", "glorot_normal", "he_normal", "ntk"])
def test_normal_has_the_normal_kurtosis(name):
    W, _ = draw(name)
    assert (W**4).mean() / W.var() ** 2 == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(30, 30), (40, 7), (7, 40), (1, 5), (5, 1)])
def test_orthogonal_exactly(fan_in, fan_out):
    W, _ = draw("orthogonal", fan_in, fan_out)
    assert W.shape == (fan_in, fan_out)
    product = W @ W.T if fan_in < fan_out else W.T @ W
    np.testing.assert_allclose(product, np.eye(min(fan_in, fan_out)), rtol=0, atol=1e-14)


def test_orthogonal_prefers_no_direction():
    """Without the signs of R the first entry would never be positive."""
    first = np.array([draw("orthogonal", 3, 3, seed=seed)[0][0, 0] for seed in range(1000)])
    assert first.mean() == pytest.approx(0.0, abs=0.08)
    assert first.var() == pytest.approx(1.0 / 3.0, rel=0.1)


@pytest.mark.parametrize(("name", "activation"), [("he_normal", "relu"), ("lecun_normal", "selu")])
def test_ten_layers_keep_the_scale(name, activation):
    """What these two are for: the second moment neither fades nor grows."""
    h = np.random.RandomState(1).randn(500, 300)
    before = (h**2).mean()
    forward = ACTIVATIONS[activation].forward
    for seed in range(10):
        h, _ = forward(np, h @ draw(name, 300, 300, seed=seed)[0])
    # He et al. keep that of the pre-activations: half of it comes through the ReLU.
    assert (h**2).mean() / before == pytest.approx(1.0, rel=0.5)


def test_the_intercepts_of_ntk_are_standard_normal():
    _, b = draw("ntk", 1, 100_000)
    assert b.mean() == pytest.approx(0.0, abs=0.015) and b.var() == pytest.approx(1.0, rel=0.02)


def test_normal_is_a_value():
    entry = Normal(scale=0.3)
    for again in (pickle.loads(pickle.dumps(entry)), copy.deepcopy(entry)):
        assert again == entry and hash(again) == hash(entry)
    assert INITIALIZERS["normal"] == Normal(0.01) != entry
    W, _ = entry(np.random.RandomState(0), IN, OUT, "tanh")
    assert W.std() == pytest.approx(0.3, rel=0.01)
    with pytest.raises(ValueError, match="of Normal must not be negative"):
        Normal(-1.0)
