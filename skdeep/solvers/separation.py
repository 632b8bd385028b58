"""How well hyperplanes separate their rows: Novikoff's theorem (1962) in numbers."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..problem import Problem
from .perceptron import labels, visited_rows


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
    X, w, b = problem.X, theta[:, :-1], theta[:, -1]
    distance = labels(problem) * (X @ w.T + b).T
    squares = X.multiply(X).sum(axis=1) if sp.issparse(X) else np.einsum("ij,ij->i", X, X)
    squares = np.broadcast_to(np.asarray(squares, dtype=np.float64).ravel(), distance.shape)
    if problem.rows is not None or problem.validation is not None:
        visited = np.stack([visited_rows(problem, m) for m in range(len(theta))])
        distance, squares = np.where(visited, distance, np.inf), np.where(visited, squares, 0.0)
    least = distance.min(axis=1)
    norm = np.sqrt((w * w).sum(axis=1) + ((b / constant) ** 2 if constant else 0.0))
    margin = np.full(len(theta), np.nan)
    np.divide(least, norm, out=margin, where=(least > 0) & (norm > 0))
    return Separation(margin, np.sqrt(squares.max(axis=1) + constant**2))
