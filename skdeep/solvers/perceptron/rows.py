"""The rows of a perceptron: their labels and weights, and in which order they are visited."""

import numpy as np
import scipy.sparse as sp

from ...problem import Problem

# Intercepts learn more slowly on sparse rows: each weight sees few of them, the intercept all.
SPARSE_INTERCEPT_RATE = 0.01

MAX_INT = np.iinfo(np.int32).max


def permutation(seed, n):
    """scikit-learn's shuffle: Fisher and Yates, with draws from Marsaglia's xorshift (2003).

    Each epoch applies it once more to the order of the epoch before.
    """
    state = seed if seed != 0 else 1
    order = np.arange(n)
    for i in range(n - 1):
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        j = i + (state & 0x7FFFFFFF) % (n - i)
        order[i], order[j] = order[j], order[i]
    return order


def intercept_rate(problem: Problem) -> float:
    if not problem.options["fit_intercept"]:
        return 0.0
    return SPARSE_INTERCEPT_RATE if sp.issparse(problem.X) else 1.0


def labels(problem: Problem) -> np.ndarray:
    """Of shape ``(M, n)``, in the type of the computation."""
    return _per_model(np.asarray(problem.y)[..., 0], problem)


def row_weights(problem: Problem) -> np.ndarray:
    return _per_model(1.0 if problem.weights is None else problem.weights, problem)


def _per_model(array, problem: Problem) -> np.ndarray:
    shape = (problem.n_models, problem.X.shape[0])
    return np.broadcast_to(np.asarray(array, dtype=problem.dtype), shape)


def visited_rows(problem: Problem, m: int) -> np.ndarray:
    """Mask of the rows that model m trains on."""
    mask = np.zeros(problem.X.shape[0], dtype=bool)
    mask[slice(None) if problem.rows is None else problem.rows[m]] = True
    if problem.validation is not None and problem.validation[m] is not None:
        mask[problem.validation[m].rows] = False
    return mask


class Order:
    """The rows that a model visits, epoch after epoch.

    Parameters
    ----------
    rows : ndarray of int
    visited : ndarray of bool
        Mask of all rows of X; the others are skipped where the order comes to them.
    permutation : ndarray of int or None
        What each epoch applies to the order of the epoch before.
    """

    def __init__(self, rows, visited, permutation):
        self.rows, self.visited, self.permutation = rows, visited, permutation
        self.n_visited = np.count_nonzero(visited[rows])

    def next_epoch(self) -> np.ndarray:
        if self.permutation is not None:
            self.rows = self.rows[self.permutation]
        if self.n_visited == len(self.rows):
            return self.rows
        return self.rows[self.visited[self.rows]]


def make_orders(problem: Problem, shuffle) -> list[Order]:
    """One for each model; models with the same seed and rows share theirs."""
    found: dict = {}
    orders, every = [], np.arange(problem.X.shape[0])
    for m, rng in enumerate(problem.rngs):
        seed, visited = int(rng.randint(MAX_INT)), visited_rows(problem, m)
        rows = every if problem.rows is None else np.asarray(problem.rows[m])
        key = seed, b"" if rows is every else rows.tobytes(), visited.tobytes()
        if key not in found:
            permutation = shuffle(seed, len(rows)) if problem.options["shuffle"] else None
            found[key] = Order(rows, visited, permutation)
        orders.append(found[key])
    return orders


def next_visits(orders: list[Order]) -> list[np.ndarray]:
    """The rows of the next epoch; those of a shared order are one array."""
    visits = {order: order.next_epoch() for order in dict.fromkeys(orders)}
    return [visits[order] for order in orders]


def earlier_means(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Means of theta (M, P) over rows visited before, and how many those were, (M, 1)."""
    states = problem.states or [None] * problem.n_models
    means = [np.zeros(problem.theta.shape[1]) if s is None else s[0] for s in states]
    return np.stack(means), np.array([[0.0 if s is None else float(s[1])] for s in states])
