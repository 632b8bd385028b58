"""Class-wise moments of rows. They add up, so folds share one pass and batches can be streamed.

Deviations are taken from an origin near each class mean before anything is squared: squares of raw
values cancel, and a feature that is constant within the classes would keep a variance of rounding.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ...array_api import to_host
from ...threads import in_threads

# Elements of a block of rows: in the cache of a CPU core, or enough to keep an accelerator busy.
ENTRIES, DEVICE_ENTRIES = 2**17, 2**24

# The most of a device's free memory that rows are sent to as a whole.
SHARE_OF_MEMORY = 0.5

# Rows that a block has at least, so that its product outweighs adding it up.
LEAST_ROWS = 1024

# Rows of each class whose median is the first origin.
SAMPLE = 32

# The least share of a second moment that may be left once the origin has moved to the mean; under
# it more than three digits would cancel, and a second pass starts from the mean itself.
LEAST_SHARE = 1e-3

# Below this share of non-zeros a product of sparse matrices is faster than one of dense blocks.
SPARSE_DENSITY = 0.05


class Moments(NamedTuple):
    """Weight, mean and scatter of each class.

    Parameters
    ----------
    counts : array of shape (K,)
        Sum of the weights of the rows of each class.
    means : array of shape (K, p)
        Zero for a class without rows.
    scatter : array of shape (1, p, p) or (K, p, p)
        Weighted sum of ``(x - mean)(x - mean)ᵀ``, over all classes or of each.

    Examples
    --------
    >>> import numpy as np
    >>> a = Moments(np.array([2.0]), np.array([[1.0]]), np.array([[[2.0]]]))  # rows 0 and 2
    >>> b = Moments(np.array([2.0]), np.array([[4.0]]), np.array([[[0.0]]]))  # row 4, twice
    >>> [m.tolist() for m in merge(np, a, b)]  # rows 0, 2, 4 and 4
    [[4.0], [[2.5]], [[[11.0]]]]
    """

    counts: object
    means: object
    scatter: object


def merge(xp, a: Moments, b: Moments) -> Moments:
    """Moments of the rows of both (Chan, Golub and LeVeque, 1983)."""
    counts = a.counts + b.counts
    share = b.counts / xp.where(counts > 0, counts, xp.ones_like(counts))
    step = b.means - a.means
    means = a.means + share[:, None] * step
    # A class that only b has seen starts from b's mean, not from the zero that stands for none.
    means = xp.where((a.counts > 0)[:, None], means, b.means)
    spread = xp.sqrt(a.counts * share)[:, None] * step
    return Moments(counts, means, a.scatter + b.scatter + _products(xp, spread, a.scatter.shape[0]))


def total_scatter(xp, moments: Moments):
    """Scatter of all rows about their common mean: within the classes plus between them."""
    n = xp.sum(moments.counts)
    mean = (moments.counts / n) @ moments.means
    return xp.sum(moments.scatter, axis=0) + between_scatter(
        xp, moments.counts, moments.means, mean
    )


def between_scatter(xp, counts, means, mean):
    spread = xp.sqrt(counts)[:, None] * (means - mean)
    return xp.matrix_transpose(spread) @ spread


def _products(xp, rows, groups: int):
    """Outer products of the rows with themselves: their sum as (1, p, p), or each as (K, p, p)."""
    if groups == 1:
        return (xp.matrix_transpose(rows) @ rows)[None, ...]
    return rows[:, :, None] * rows[:, None, :]


def wide_dtype(backend) -> str:
    """The widest float of the device: a Gram matrix in float32 would lose half of few digits."""
    return "float64" if backend.has_double else "float32"


class RowSets(NamedTuple):
    """The distinct weighted sets of rows that the models of a stack train on.

    Parameters
    ----------
    parts : list of (rows, weights)
        Disjoint parts of the rows (indices, or None for all) with the weights of those rows, or
        None. Where sets overlap, as the training sets of folds do, each row is read once.
    members : ndarray of shape (D, C)
        1 where set d contains part c.
    which : int ndarray of shape (M,)
        The set of each model.
    """

    parts: list
    members: np.ndarray
    which: np.ndarray

    def sizes(self, n: int):
        """How many of the n rows each set has."""
        return self.members @ [n if rows is None else len(rows) for rows, _ in self.parts]

    def rows_of(self, d: int):
        """Rows of set d and their weights, either of them None as in ``parts``."""
        parts = [part for part, inside in zip(self.parts, self.members[d]) if inside]
        if len(parts) == 1:
            return parts[0]
        weights = None if parts[0][1] is None else np.concatenate([w for _, w in parts])
        return np.concatenate([rows for rows, _ in parts]), weights


def row_sets(problem) -> RowSets:
    """Find the models that train on the same rows, and cut the rows into parts that sets share."""
    M = problem.n_models
    rows = [None] * M if problem.rows is None else problem.rows
    own = problem.weights is not None and problem.weights.ndim == 2
    weights = [problem.weights[m] if own else problem.weights for m in range(M)]
    first: dict = {}
    content: dict = {}

    def token(array):
        """Equal for equal arrays; folds are mostly the same object in every candidate."""
        if array is None:
            return None
        if id(array) not in content:
            content[id(array)] = (array, array.tobytes())  # holds the array, so that ids stay apart
        return content[id(array)][1]

    which = np.array(
        [first.setdefault((token(r), token(w)), len(first)) for r, w in zip(rows, weights)]
    )
    models = [int(np.argmax(which == d)) for d in range(len(first))]
    sets = [_clean(rows[m], weights[m]) for m in models]
    if not own and len(sets) > 1:
        cut = _cut([rows[m] for m in models], problem.weights, problem.X.shape[0])
        if cut is not None:
            return RowSets(*cut, which)
    return RowSets(sets, np.eye(len(sets)), which)


def _clean(rows, weights):
    """A part without the rows of weight zero; rows are a set, so repeated indices count once."""
    if rows is not None and not np.all(rows[1:] > rows[:-1]):
        rows = np.unique(rows)
    if weights is not None and not np.all(weights):
        rows = np.flatnonzero(weights) if rows is None else rows[weights[rows] != 0]
    if weights is not None and rows is not None:
        weights = weights[rows]
    return rows, weights


def _cut(sets, weights, n: int):
    """Disjoint parts of overlapping sets; None if there would be many more parts than sets."""
    if len(sets) > 62:
        return None
    code = np.zeros(n, dtype=np.int64)
    for d, rows in enumerate(sets):
        code[slice(None) if rows is None else rows] |= 1 << d
    codes, part_of = np.unique(code, return_inverse=True)
    if len(codes) > 4 * len(sets):
        return None
    kept = np.flatnonzero(codes)
    parts = [_clean(np.flatnonzero(part_of == c), weights) for c in kept]
    members = (codes[None, kept] >> np.arange(len(sets))[:, None]) & 1
    return parts, members.astype(float)


def class_moments(reader, y, n_classes: int, sets: RowSets, each_class: bool) -> list[Moments]:
    """Moments of every set of rows, in one pass over the rows.

    Parameters
    ----------
    reader : Reader
    y : int ndarray of shape (n,)
    each_class : bool
        Whether to keep the classes' scatter matrices apart.

    Returns
    -------
    moments : list of D Moments
    """
    backend, xp, X = reader.backend, reader.backend.xp, reader.X
    groups = [(c, 0, rows, weights) for c, (rows, weights) in enumerate(sets.parts)]
    if each_class:
        groups = [
            (c, k, *of_class(rows, weights, y, k))
            for c, _, rows, weights in groups
            for k in range(n_classes)
        ]
    members = reader.place(sets.members)

    processes = backend.processes
    n_nonzero, n = processes.total(np.array([X.nnz if sp.issparse(X) else 0, X.shape[0]]))
    sparse = sp.issparse(X) and n_nonzero < SPARSE_DENSITY * n * X.shape[1]
    origin = np.zeros((n_classes, X.shape[1]))
    if not sparse:
        origin = _common_origin(processes, _first_origin(X, y, n_classes), y)
    sums = (_sparse_sums if sparse else _dense_sums)(reader, y, origin, groups, len(sets.parts))
    sums = [backend.sum(each) for each in sums]
    moments, share = _centre(xp, *(_combine(xp, members, s) for s in sums), reader.place(origin))
    cancels = backend.to_numpy(share) < LEAST_SHARE
    if cancels.any():
        counts = np.stack([backend.to_numpy(m.counts) for m in moments])
        means = np.stack([backend.to_numpy(m.means) for m in moments])
        common = (counts[..., None] * means).sum(axis=0) / np.maximum(counts.sum(0), 1e-300)[
            :, None
        ]
        origin = np.where(cancels, common, origin)
        sums = _dense_sums(reader, y, origin, groups, len(sets.parts))
        sums = [backend.sum(each) for each in sums]
        moments, _ = _centre(xp, *(_combine(xp, members, s) for s in sums), reader.place(origin))
    return moments


def _label(rows, y):
    return y if rows is None else y[rows]


def of_class(rows, weights, y, k):
    """The rows of a part that belong to class k, and their weights."""
    chosen = np.flatnonzero(_label(rows, y) == k)
    return chosen if rows is None else rows[chosen], None if weights is None else weights[chosen]


class Reader:
    """Reads rows of data, dense or sparse, as dense blocks on the device.

    What is dense is sent as a whole where there is room for it, for it may be read again.
    """

    def __init__(self, backend, X, n_threads: int = 1):
        free = backend.free_memory()
        fits = free is not None and not sp.issparse(X) and X.nbytes < SHARE_OF_MEMORY * free
        # float32 is widened block by block, and float64 sent where there is such a type.
        self.own = None if backend.has_double else "float32"
        self.X = backend.place(X, self.own) if fits and not backend.holds(X) else X
        self.backend, self.n_threads = backend, n_threads
        self.dtype = wide_dtype(backend)
        size = ENTRIES if backend.device == "cpu" else DEVICE_ENTRIES
        self.step = max(LEAST_ROWS, size // max(1, X.shape[1]))

    def place(self, array):
        return self.backend.asarray(array, self.dtype)

    def rows(self, rows):
        if self.backend.holds(self.X) and not isinstance(rows, slice):
            rows = self.backend.asarray(rows)
            return self.backend.asarray(self.backend.xp.take(self.X, rows, axis=0), self.own)
        block = self.X[rows]
        block = block.toarray() if sp.issparse(block) else block
        return self.backend.asarray(block, self.own)

    def blocks(self, rows, weights, at_least: int = 1):
        """Yield (selector of rows of X, weights of them or None), block by block."""
        n = self.X.shape[0] if rows is None else len(rows)
        step = max(self.step, at_least)
        for start in range(0, n, step):
            cut = slice(start, min(start + step, n))
            yield cut if rows is None else rows[cut], None if weights is None else weights[cut]


def _deviations(reader, chosen, weights, origin, labels, classes):
    """Rows less the origin of their class, and 0/1 for their classes, times roots of weights."""
    xp = reader.backend.xp
    d = xp.take(-origin, labels, axis=0)
    d += reader.rows(chosen)
    belongs = xp.astype(labels[:, None] == classes, d.dtype)
    if weights is None:
        return d, belongs
    root = reader.place(np.sqrt(weights))[:, None]
    return d * root, belongs * root


def thin_moments(reader, y, n_classes: int, rows, weights):
    """Moments of fewer rows than features: in place of the scatter its root, the deviations.

    Returns
    -------
    moments : Moments
        With ``scatter`` None.
    root : array of shape (n_rows, p)
        Deviations from the class means times roots of the weights: ``rootᵀ root`` is the scatter.
    """
    backend, xp = reader.backend, reader.backend.xp
    chosen, of = slice(None) if rows is None else rows, _label(rows, y)
    origin = reader.place(_first_origin(reader.X, y, n_classes))
    labels, classes = backend.asarray(of), backend.asarray(np.arange(n_classes))
    d, belongs = _deviations(reader, chosen, weights, origin, labels, classes)
    counts = reader.place(np.bincount(of, weights, minlength=n_classes).astype(float))
    safe = xp.where(counts > 0, counts, xp.ones_like(counts))
    step = xp.matrix_transpose(belongs) @ d / safe[:, None]
    means = xp.where((counts > 0)[:, None], origin + step, xp.zeros_like(origin))
    return Moments(counts, means, None), d - belongs @ step


def _first_origin(X, y, n_classes):
    """Medians of a few rows of each class.

    They are exact where a feature is constant within the class, or within one of the sets but for
    few rows that it lacks.
    """
    order = np.argsort(y.astype(np.min_scalar_type(n_classes)), kind="stable")
    starts = np.searchsorted(y, np.arange(n_classes), sorter=order)
    stops = np.searchsorted(y, np.arange(n_classes), side="right", sorter=order)
    origin = np.zeros((n_classes, X.shape[1]))
    for k, (start, stop) in enumerate(zip(starts, stops)):
        if start < stop:
            few = to_host(X[order[start : stop : -((start - stop) // SAMPLE)]])
            few = few.toarray() if sp.issparse(few) else few
            origin[k] = np.partition(few, len(few) // 2, axis=0)[len(few) // 2]
    return origin


def _common_origin(processes, origin, y):
    """The origin of each class in the first process that has rows of it."""
    if processes.size == 1:
        return origin
    for known, other in reversed(processes.gather((np.unique(y), origin))):
        origin[known] = other[known]
    return origin


def _dense_sums(reader, y, origin, groups, n_parts):
    """Weighted counts, sums and squares of deviations: (C, K), (C, K, p) and (C, G, p, p)."""
    backend, xp = reader.backend, reader.backend.xp
    K, p = origin.shape
    origin, labels = reader.place(origin), backend.asarray(y)
    classes = backend.asarray(np.arange(K))

    def of_group(group):
        _, _, rows, weights = group
        counts = np.bincount(_label(rows, y), weights, minlength=K).astype(float)
        sums, squares = reader.place(np.zeros((K, p))), reader.place(np.zeros((p, p)))
        for chosen, w in reader.blocks(rows, weights):
            of = labels[chosen] if isinstance(chosen, slice) else backend.asarray(y[chosen])
            d, belongs = _deviations(reader, chosen, w, origin, of, classes)
            sums += xp.matrix_transpose(belongs) @ d
            squares += xp.matrix_transpose(d) @ d
        return reader.place(counts), sums, squares

    found = in_threads(of_group, groups, reader.n_threads, work=len(y) * p * p)
    counts, sums, squares = (
        xp.reshape(_stack(xp, each), (n_parts, -1, *each[0].shape)) for each in zip(*found)
    )
    return xp.sum(counts, axis=1), xp.sum(sums, axis=1), squares


def _stack(xp, arrays):
    """``xp.stack``, without a copy of a single array."""
    return xp.stack(arrays) if len(arrays) > 1 else arrays[0][None, ...]


def _sparse_sums(reader, y, origin, groups, n_parts):
    """The same about the origin zero, by sparse products on the host."""
    K, p = origin.shape
    G = 1 + max(g for _, g, _, _ in groups)
    counts, sums = np.zeros((n_parts, K)), np.zeros((n_parts, K, p))
    squares = np.zeros((n_parts, G, p, p))
    for c, g, rows, weights in groups:
        x = sp.csr_array(reader.X if rows is None else reader.X[rows]).astype(np.float64)
        of = _label(rows, y)
        w = np.ones(len(of)) if weights is None else weights
        belongs = sp.csr_array((w, (of, np.arange(len(of)))), shape=(K, len(of)))
        counts[c] += belongs.sum(axis=1)
        sums[c] += (belongs @ x).toarray()
        squares[c, g] += (x.T @ (sp.diags_array(w) @ x)).toarray()
    return reader.place(counts), reader.place(sums), reader.place(squares)


def _combine(xp, members, sums):
    """Sums of the sets from those of their parts."""
    if sums.shape[0] == 1:
        return sums
    flat = members @ xp.reshape(sums, (sums.shape[0], -1))
    return xp.reshape(flat, (members.shape[0], *sums.shape[1:]))


def _centre(xp, counts, sums, squares, origin):
    """Move the origin to the means; also the least share of each feature's squares that is left."""
    safe = xp.where(counts > 0, counts, xp.ones_like(counts))
    seen = xp.astype(counts > 0, sums.dtype)[..., None]
    means = origin * seen + sums / safe[..., None]
    moved = sums / xp.sqrt(safe)[..., None]
    moments, share = [], xp.ones_like(means[0, 0, :])
    for d in range(counts.shape[0]):
        scatter = squares[d, ...] - _products(xp, moved[d, ...], squares.shape[1])
        before = xp.linalg.diagonal(squares[d, ...])
        after = xp.linalg.diagonal(scatter)
        left = xp.where(before > 0, after / xp.where(before > 0, before, xp.ones_like(before)), 1.0)
        share = xp.minimum(share, xp.min(left, axis=0))
        moments.append(Moments(counts[d, ...], means[d, ...], scatter))
    return moments, share
