"""How well hyperplanes separate their rows: Novikoff's theorem (1962) in numbers."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

from ...array_api import is_torch_array, namespace_of, numpy_dtype, to_host
from ...problem import Problem
from .rows import labels, visited_rows

# Rows looked at together, on the host and on a device.
BATCH, DEVICE_BATCH = 1024, 2**16


class Separation(NamedTuple):
    """Margins of M hyperplanes (NaN where they do not separate), and radii of their rows."""

    margin: np.ndarray
    radius: np.ndarray


def _measured(X, w) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, M) and norms (n,) of rows, on the host."""
    size = float(abs(X).max()) or 1.0  # squares must not overflow here either
    if not is_torch_array(X):
        return X @ w.T, size * row_norms(X / size)
    norms = namespace_of(X).linalg.vector_norm(X / size, axis=1)
    return to_host(X @ X.new_tensor(w.T.astype(numpy_dtype(X)))), size * to_host(norms)


def separation(problem: Problem, theta: np.ndarray, constant: float) -> Separation:
    """Margins and radii over the training rows, each followed by a constant feature.

    Parameters
    ----------
    theta : ndarray of shape (M, p + 1)
        ``[w, b]``
    constant : float
        The constant feature c: its weight is ``b / c``. Zero for hyperplanes without it.
    """
    # Their squares must not overflow, and to scale a hyperplane by a power of two changes nothing.
    _, exponents = np.frexp(np.abs(theta).max(axis=1, keepdims=True))
    theta = np.ldexp(theta, -exponents)
    (n, _), M, w, b = problem.X.shape, len(theta), theta[:, :-1], theta[:, -1]
    y, visited = labels(problem), np.ones((1, 1), dtype=bool)
    if problem.rows is not None or problem.validation is not None:
        visited = np.stack([visited_rows(problem, m) for m in range(M)])
    visited = np.broadcast_to(visited, (M, n))
    least, longest = np.full(M, np.inf), np.zeros(M)
    for block in gen_batches(n, DEVICE_BATCH if is_torch_array(problem.X) else BATCH):
        (scores, norms), seen = _measured(problem.X[block], w), visited[:, block]
        distance = np.where(seen, y[:, block] * (scores + b).T, np.inf)
        length = np.where(seen, norms, 0.0)
        least = np.minimum(least, distance.min(axis=1))
        longest = np.maximum(longest, length.max(axis=1))
    norm = np.sqrt((w * w).sum(axis=1) + ((b / constant) ** 2 if constant else 0.0))
    margin = np.full(M, np.nan)
    np.divide(least, norm, out=margin, where=(least > 0) & (norm > 0))
    return Separation(margin, np.hypot(longest, constant))
