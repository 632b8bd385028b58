"""Random numbers that are hashes of their places."""

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from skdeep import draws
from skdeep.backends import get_backend
from skdeep.neural_network import MLPClassifier

KEYS = draws.streams(np.array([7, 8]), np.array([[1, 1], [2, 2], [3, 3]]), 4)


def splitmix64(key: int, n: int) -> list[int]:
    """The published generator, in Python's whole numbers, from a state."""
    words, state = [], key % 2**64
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        words.append(z ^ (z >> 31))
    return words


def test_words_are_those_of_the_generator():
    found = draws.words(np, KEYS, 5).astype(np.uint64)
    for place in np.ndindex(KEYS.shape):
        assert found[place].tolist() == splitmix64(int(KEYS[place]), 5)
    # Of the authors' own program, from the state 1234567.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert draws.words(np, np.array([1234567]), 3).astype(np.uint64)[0].tolist() == known


def test_the_same_bits_on_every_backend():
    strict = pytest.importorskip("array_api_strict")
    torch = pytest.importorskip("array_api_compat.torch")
    for n in (1, 7, 1001, 40_000):
        expected = draws.levels(np, KEYS, n)
        assert expected.shape == (*KEYS.shape, n)
        backend = get_backend("numpy")
        np.testing.assert_array_equal(draws.levels(backend.xp, KEYS, n), expected)
        for xp in (strict, torch):
            np.testing.assert_array_equal(draws.levels(xp, xp.asarray(KEYS), n), expected)
    normal = draws.normals(np, KEYS, 1001, np.float64)
    other = draws.normals(torch, torch.asarray(KEYS), 1001, torch.float64)
    np.testing.assert_allclose(other, normal, rtol=1e-12)


def test_distributions():
    levels = draws.levels(np, KEYS[0, 0, :1], 2**18)[0]
    assert chisquare(np.bincount((levels + 2**15) // 256, minlength=256)).pvalue > 1e-3
    normal = draws.normals(np, KEYS[0, 0, :1], 2**16, np.float64)[0]
    assert kstest(normal, "norm").pvalue > 1e-3
    for dtype in (np.float32, np.float64):
        assert np.isfinite(draws.normals(np, KEYS, 2**16, dtype)).all()
    # Neighbours in a stream, streams of a step, steps, and models know nothing of each other.
    others = draws.normals(np, KEYS, 2**14, np.float64)
    pairs = [(others[0, 0, 0, 1:], others[0, 0, 0, :-1]), (others[0, 0, 0], others[0, 0, 1])]
    pairs += [(others[0, 0, 0], others[1, 0, 0]), (others[0, 0, 0], others[0, 1, 0])]
    for one, other in pairs:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.04


def test_masks():
    rates = np.array([0.2, 0.5])
    numbers = draws.threshold(rates), 1.0 / (1.0 - rates)
    for shape in ((400,), (15, 20)):
        mask = draws.masks(np, KEYS[0, :, 1], numbers, shape, 200)
        assert mask.shape == (2, 200, *shape)
        for one, rate in zip(mask, rates, strict=True):
            assert set(np.unique(one)) == {0.0, 1.0 / (1.0 - rate)}
            assert (one == 0).mean() == pytest.approx(rate, abs=0.01)
        # A model's draws do not depend on the stack it is in.
        alone = draws.masks(np, KEYS[0, 1:, 1], [x[1:] for x in numbers], shape, 200)
        np.testing.assert_array_equal(alone[0], mask[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_are_the_same_on_every_backend(dtype):
    torch = pytest.importorskip("array_api_compat.torch")
    rates = np.array([0.3, 0.9999999])
    numbers = [x.astype(dtype) for x in (draws.threshold(rates), 1.0 / (1.0 - rates))]
    for shape in ((7,), (3, 5)):
        expected = draws.masks(np, KEYS[:, :, 2], numbers, shape, 11)
        backend = get_backend("numpy")
        found = draws.masks(backend.xp, KEYS[:, :, 2], numbers, shape, 11)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype == dtype
        tensors = [torch.asarray(x) for x in numbers]
        found = draws.masks(torch, torch.asarray(KEYS[:, :, 2]), tensors, shape, 11)
        np.testing.assert_array_equal(found, expected)


def test_shorter_batches_have_the_numbers_of_their_rows():
    whole, part = (draws.Draws(np, KEYS[0], 50, np.float64) for _ in range(2))
    for draw in (lambda d, n: d.normal((n, 3)), lambda d, n: d.kept(np.full((2, 1), 0.4), (n, 3))):
        np.testing.assert_array_equal(draw(part, 20), draw(whole, 50)[:, :20])


def test_a_mask_is_of_a_model_and_a_step():
    """Nets that see the same rows in the same order differ by their dropout alone."""
    X, y = np.random.RandomState(0).randn(60, 5), np.arange(60) % 2
    fits = [
        MLPClassifier(dropout=0.5, shuffle=False, random_state=seed, max_iter=2, tol=0.0)
        for seed in (0, 0, 1)
    ]
    for net in fits:
        net.set_params(
            weight_init=lambda rng, *shape: (np.full(shape[:2], 0.1), np.zeros(shape[1]))
        )
        with pytest.warns(match="Maximum|converge"):
            net.fit(X, y)
    first, again, other = (net.coefs_[0] for net in fits)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
