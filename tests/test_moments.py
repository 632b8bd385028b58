"""Moments against their definitions: parts, folds, weights, sparse rows, cancellation."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skdeep.backends import get_backend
from skdeep.problem import Problem
from skdeep.solvers.discriminant import moments as module
from skdeep.solvers.discriminant.moments import (
    Moments,
    Reader,
    class_moments,
    merge,
    row_sets,
    thin_moments,
    total_scatter,
)

BACKENDS = ["numpy", "torch"]


def make_rows(n=60, p=4, K=3, seed=0):
    rng = np.random.RandomState(seed)
    y = np.r_[np.arange(K), rng.randint(K, size=n - K)]
    return rng.randn(n, p) + rng.randn(K, p)[y], y


def make_problem(X, y, M=1, weights=None, rows=None):
    return Problem(
        solver="discriminant",
        X=X,
        y=y[:, None],
        dtype="float64",
        theta=np.zeros((M, 1)),
        weights=weights,
        rows=rows,
    )


def compute(X, y, K=3, each_class=False, backend="numpy", **chosen):
    """Moments of each model's rows."""
    sets = row_sets(make_problem(X, y, **chosen))
    found = class_moments(Reader(get_backend(backend), X), y, K, sets, each_class)
    return [Moments(*(np.asarray(part) for part in found[d])) for d in sets.which]


def define(X, y, w, K=3, each_class=False):
    """The same, from the definition."""
    counts = np.array([w[y == k].sum() for k in range(K)])
    means = np.array([w[y == k] @ X[y == k] / max(counts[k], 1e-300) for k in range(K)])
    D = X - means[y]
    scatter = np.array([(D[y == k] * w[y == k, None]).T @ D[y == k] for k in range(K)])
    return Moments(counts, means, scatter if each_class else scatter.sum(axis=0, keepdims=True))


def assert_same(found, expected, rtol=1e-10):
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("each_class", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_definition(backend, each_class):
    X, y = make_rows()
    (found,) = compute(X, y, each_class=each_class, backend=backend)
    assert_same(found, define(X, y, np.ones(len(y)), each_class=each_class))


@pytest.mark.parametrize("each_class", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_folds_and_weights_share_a_pass(monkeypatch, each_class, sparse):
    """Training sets of folds overlap; every row is read once, and each set is as if alone."""
    X, y = make_rows(90)
    if sparse:
        X = X * (np.random.RandomState(1).rand(*X.shape) < 0.03)
    w = np.random.RandomState(2).rand(90) * (np.arange(90) % 7 > 0)
    train = [np.flatnonzero(np.arange(90) % 5 != fold) for fold in range(5)] * 2
    data = sp.csr_array(X) if sparse else X
    read = []
    blocks = Reader.blocks
    monkeypatch.setattr(
        Reader, "blocks", lambda self, rows, *rest: read.append(rows) or blocks(self, rows, *rest)
    )
    found = compute(data, y, each_class=each_class, M=10, weights=w, rows=train)
    if not sparse:
        assert len(np.concatenate(read)) == np.count_nonzero(w)
    for moments, rows in zip(found, train):
        inside = np.isin(np.arange(90), rows)
        assert_same(moments, define(X, y, w * inside, each_class=each_class), rtol=1e-9)


def test_sets_without_common_parts():
    """Weights of their own, or sets that cut the rows into too many parts, are read one by one."""
    X, y = make_rows(40)
    rng = np.random.RandomState(0)
    own = rng.rand(3, 40) * (rng.rand(3, 40) < 0.8)
    for moments, w in zip(compute(X, y, M=3, weights=own), own):
        assert_same(moments, define(X, y, w))
    random_sets = [rng.permutation(40)[:20] for _ in range(6)]
    for moments, rows in zip(compute(X, y, M=6, rows=random_sets), random_sets):
        assert_same(moments, define(X, y, np.isin(np.arange(40), rows) * 1.0))


def test_one_set_for_equal_rows():
    X, y = make_rows(30)
    rows = [np.arange(20), np.arange(10, 30), np.arange(20)]
    sets = row_sets(make_problem(X, y, M=3, rows=rows))
    assert_array_equal(sets.which, [0, 1, 0])
    assert_array_equal(sets.sizes(30), [20, 20])
    assert_array_equal(np.sort(sets.rows_of(1)[0]), np.arange(10, 30))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_merging_pieces(seed, pieces, each_class):
    """Pieces merge to the moments of the whole, in which a class may come late."""
    X, y = make_rows(40, seed=seed)
    X, y = X[np.argsort(y)], np.sort(y)
    whole = define(X, y, np.ones(40), each_class=each_class)
    merged = None
    for rows in np.array_split(np.arange(40), pieces):
        piece = define(X[rows], y[rows], np.ones(len(rows)), each_class=each_class)
        merged = piece if merged is None else merge(np, merged, piece)
    assert_same(merged, whole)
    if not each_class:
        assert_allclose(total_scatter(np, merged), np.cov(X.T, bias=True) * 40, rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_far_from_the_origin(offset):
    X, y = make_rows(200)
    (found,) = compute(np.round(X, 1) + offset, y)
    expected = define(np.round(X, 1), y, np.ones(200))
    assert_allclose(found.scatter, expected.scatter, rtol=1e-6 if offset else 1e-12)


def test_first_rows_unlike_the_rest():
    """The origin is a mean of the first rows; where it is far off, a second pass mends it."""
    X, y = make_rows(3000, K=1)
    X[:32] += 1e7
    (found,) = compute(X, y, K=1)
    assert_same(found, define(X, y, np.ones(3000), K=1), rtol=1e-11)
    X[32:] += 1e7  # near the origin now, but most of the first ones' squares would have cancelled
    X[:32] -= 1e7
    (found,) = compute(X, y, K=1)
    assert_same(found, define(X - 1e7, y, np.ones(3000), K=1)._replace(means=found.means), 1e-7)


@pytest.mark.parametrize("sparse", [False, True])
def test_constant_features_have_no_variance(sparse):
    """To the last digit for dense rows, though the values have no exact binary form."""
    X, y = make_rows(500)
    X[:, 1] = 0.1
    X[:, 2] = np.array([0.1, 0.7, 1e5 / 3])[y]
    (found,) = compute(sp.csr_array(X) if sparse else X, y)
    if sparse:
        assert_allclose(found.scatter[0, 1:3], 0.0, atol=1e-18)
    else:
        assert_array_equal(found.scatter[0, 1:3], 0.0)
        assert_array_equal(found.means[:, 2], [0.1, 0.7, 1e5 / 3])


def test_sparse_rows_with_a_large_mean():
    """Where squares about zero cancel, sparse rows are read as dense blocks instead."""
    rng = np.random.RandomState(0)
    X = sp.random_array((2000, 60), density=0.02, rng=rng).toarray()
    X[:, 0] = 1e6 + rng.randn(2000)
    y = rng.randint(3, size=2000)
    assert sp.csr_array(X).nnz < module.SPARSE_DENSITY * X.size
    (found,) = compute(sp.csr_array(X), y)
    assert_same(found, define(X, y, np.ones(2000)), rtol=1e-11)


def test_float32_rows_are_accumulated_in_float64():
    X, y = make_rows(5000)
    X32 = (X + 100).astype(np.float32)
    (found,) = compute(X32, y)
    assert found.scatter.dtype == np.float64
    assert_same(found, define(X32.astype(np.float64), y, np.ones(5000)), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_thin_root(backend):
    X, y = make_rows(10, p=30)
    w = np.arange(1.0, 11.0)
    reader = Reader(get_backend(backend), X)
    found, root = thin_moments(reader, y, 3, None, w)
    expected = define(X, y, w)
    assert found.scatter is None
    assert_allclose(found.means, expected.means, rtol=1e-12)
    root = np.asarray(root)
    assert_allclose(root.T @ root, expected.scatter[0], atol=1e-12)


def test_blocks_cover_the_rows():
    X, y = make_rows(50)
    reader = Reader(get_backend("numpy"), X)
    reader.step = 7
    chosen = [np.arange(50)[rows] for rows, _ in reader.blocks(None, None)]
    assert_array_equal(np.concatenate(chosen), np.arange(50))
    rows, w = np.arange(0, 50, 3), np.arange(17.0)
    pairs = list(reader.blocks(rows, w, at_least=10))
    assert [len(r) for r, _ in pairs] == [10, 7]
    assert_array_equal(np.concatenate([w for _, w in pairs]), np.arange(17.0))


def test_constant_but_for_rows_that_a_set_lacks():
    X, y = make_rows(500)
    X[:, 1] = 0.1
    X[:3, 1] = [5.0, -3.0, 8.0]
    lacks, has = compute(X, y, M=2, rows=[np.arange(3, 500), np.arange(500)])
    assert_array_equal(lacks.scatter[0, 1], 0.0)
    assert has.scatter[0, 1, 1] > 1.0
