"""How well hyperplanes separate their rows: Novikoff's theorem (1962) in numbers."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

from ...problem import Problem
from .rows import labels, visited_rows

# Rows looked at together.
BATCH = 1024


class Separation(NamedTuple):
    """Margins of M hyperplanes (NaN where they do not separate), and radii of their rows."""

    margin: np.ndarray
    radius: np.ndarray


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
    for block in gen_batches(n, BATCH):
        X, seen = problem.X[block], visited[:, block]
        distance = np.where(seen, y[:, block] * (X @ w.T + b).T, np.inf)
        size = float(abs(X).max()) or 1.0  # squares must not overflow here either
        length = np.where(seen, size * row_norms(X / size), 0.0)
        least = np.minimum(least, distance.min(axis=1))
        longest = np.maximum(longest, length.max(axis=1))
    norm = np.sqrt((w * w).sum(axis=1) + ((b / constant) ** 2 if constant else 0.0))
    margin = np.full(M, np.nan)
    np.divide(least, norm, out=margin, where=(least > 0) & (norm > 0))
    return Separation(margin, np.hypot(longest, constant))
