"""The data sets against values by hand, closed-form integrals and the truth table."""

import pickle
from itertools import product
from math import cos, erf, exp, factorial, pi, sin, sqrt

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skdeep.datasets import Genz, make_genz, make_xor

SUMS = {
    "oscillatory": 1.5,
    "product_peak": 3.0,
    "corner_peak": 1.85,
    "gaussian": 7.03,
    "continuous": 20.4,
    "discontinuous": 4.3,
}

# At x = (0.2, 0.5) with w = (0.25, 0.75) and c = (2, 1), worked out on paper:
# c·x = 0.9, x - w = (-0.05, -0.25).
BY_HAND = {
    "oscillatory": cos(pi / 2 + 0.9),
    "product_peak": 1 / (0.25 + 0.0025) / (1 + 0.0625),
    "corner_peak": 1 / 1.9**3,
    "gaussian": exp(-(4 * 0.0025 + 0.0625)),
    "continuous": exp(-(2 * 0.05 + 0.25)),
    "discontinuous": exp(0.9),
}


@pytest.mark.parametrize("family", BY_HAND)
def test_genz_by_hand(family):
    function = Genz(family, w=[0.25, 0.75], c=[2.0, 1.0])
    assert function([[0.2, 0.5]])[0] == pytest.approx(BY_HAND[family], rel=1e-14)


def test_discontinuous_is_zero_beyond_either_jump():
    function = Genz("discontinuous", w=[0.25, 0.75, 0.0], c=[2.0, 1.0, 1.0])
    X = [[0.25, 0.75, 1.0], [0.3, 0.5, 0.5], [0.2, 0.8, 0.5], [0.3, 0.8, 0.5]]
    np.testing.assert_allclose(function(X), [exp(2.25), 0, 0, 0])


def integral(function):
    """Over the unit cube, in closed form."""
    w, c = function.w, function.c
    if function.family == "oscillatory":
        # The real part of exp(2πi w₁) Π (exp(i cⱼ) - 1) / (i cⱼ).
        return cos(2 * pi * w[0] + c.sum() / 2) * np.prod([2 * sin(a / 2) / a for a in c])
    if function.family == "gaussian":
        each = [erf(a * (1 - b)) + erf(a * b) for a, b in zip(c, w, strict=True)]
        return np.prod([sqrt(pi) * e / (2 * a) for e, a in zip(each, c, strict=True)])
    if function.family == "product_peak":
        each = [np.arctan(a * (1 - b)) + np.arctan(a * b) for a, b in zip(c, w, strict=True)]
        return np.prod(c * each)
    if function.family == "continuous":
        each = [2 - exp(-a * b) - exp(-a * (1 - b)) for a, b in zip(c, w, strict=True)]
        return np.prod(each / c)
    if function.family == "corner_peak":
        corners = np.array(list(product([0, 1], repeat=len(c))))
        signs = (-1.0) ** corners.sum(axis=1)
        return np.sum(signs / (1 + corners @ c)) / factorial(len(c)) / np.prod(c)
    top = [*w[:2], 1.0]
    return np.prod([(exp(a * b) - 1) / a for a, b in zip(c, top, strict=True)])


@pytest.mark.parametrize("family", SUMS)
@pytest.mark.parametrize("seed", range(3))
def test_genz_integrals(family, seed):
    n = 200_000
    _, y, function = make_genz(family, n, 3, random_state=seed, return_function=True)
    assert abs(y.mean() - integral(function)) < 4 * y.std() / sqrt(n)


@pytest.mark.parametrize("family", SUMS)
def test_genz_constants_and_points(family):
    X, y, function = make_genz(family, 40, 3, random_state=1, return_function=True)
    assert function.w.sum() == pytest.approx(1) and function.c.sum() == pytest.approx(SUMS[family])
    assert (function.w >= 0).all() and (function.c >= 0).all()
    assert X.shape == (40, 3) and y.shape == (40,) and X.min() >= 0 and X.max() <= 1
    np.testing.assert_array_equal(y, function(X))
    again = make_genz(family, 90, 3, random_state=1)
    np.testing.assert_array_equal(again[1], function(again[0]))
    np.testing.assert_array_equal(make_genz(family, 40, 3, 1)[0], X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(function))(X), y)


@pytest.mark.parametrize("family", SUMS)
def test_genz_in_one_dimension(family):
    X, y = make_genz(family, 20, 1, random_state=0)
    assert X.shape == (20, 1) and np.isfinite(y).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"family": "peak"}, "family"),
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 2.5}, "n_samples"),
        ({"n_features": 0}, "n_features"),
        ({"random_state": "seed"}, "random_state"),
    ],
)
def test_genz_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        make_genz(**arguments)


def test_genz_function_refuses():
    with pytest.raises(ValueError, match="'peak' is unknown"):
        Genz("peak", w=[1.0], c=[1.0])
    with pytest.raises(ValueError, match="one entry for each feature"):
        Genz("gaussian", w=[0.5, 0.5], c=[1.0])
    with pytest.raises(ValueError, match="2 features, but this function takes 1"):
        Genz("gaussian", w=[1.0], c=[1.0])([[0.1, 0.2]])


def test_xor_is_the_truth_table():
    X, y = make_xor(4, noise=0)
    assert dict(zip(map(tuple, X.tolist()), y.tolist(), strict=True)) == {
        (0.0, 0.0): 0,
        (0.0, 1.0): 1,
        (1.0, 0.0): 1,
        (1.0, 1.0): 0,
    }


def test_xor_clusters():
    X, y = make_xor(4000, noise=0.2, random_state=3)
    assert np.bincount(y).tolist() == [2000, 2000]
    for corner, label in zip([(0, 0), (0, 1), (1, 0), (1, 1)], (0, 1, 1, 0), strict=True):
        at = 2 * corner[0] + corner[1]
        assert (y[at::4] == label).all()
        np.testing.assert_allclose(X[at::4].mean(axis=0), corner, atol=0.03)
        np.testing.assert_allclose(X[at::4].std(axis=0), 0.2, rtol=0.1)
    np.testing.assert_array_equal(make_xor(4000, noise=0.2, random_state=3)[0], X)
    # No line does better than three corners of four; the product of the coordinates does it.
    assert LogisticRegression().fit(X, y).score(X, y) < 0.76
    assert ((np.prod(X - 0.5, axis=1) < 0) == y).mean() > 0.97


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"n_samples": 0}, "n_samples"), ({"noise": -0.1}, "noise"), ({"random_state": "a"}, "rand")],
)
def test_xor_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        make_xor(**arguments)
