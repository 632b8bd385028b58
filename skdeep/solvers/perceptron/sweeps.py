"""Walks over the rows of a perceptron in the order of visits: by blocks, or one at a time."""

import numpy as np
import scipy.sparse as sp

from ...problem import Problem
from .rows import earlier_means, intercept_rate, labels, row_weights

# Rows of a block. Its Gram matrix costs this many times what the scores cost; its other costs fall
# with it.
BLOCK_ROWS = 64


class _Sweep:
    """A stack on a backend: what :class:`Blocks` and :class:`Rows` have in common."""

    state: tuple[str, ...] = ("w", "b", "eta", "l2", "l1", "decay", "sum_w", "sum_b", "n_summed")

    def __init__(self, backend, problem: Problem):
        self.backend, self.xp, self.dtype = backend, backend.xp, problem.dtype
        self.sparse = sp.issparse(problem.X)
        X = problem.X.toarray() if self.sparse else problem.X
        self.X = backend.asarray(X, self.dtype)
        self.intercept_rate = intercept_rate(problem)
        self.w = self.array(problem.theta[:, :-1])
        self.b = self.array(problem.theta[:, -1:])
        eta, l2, l1 = (
            np.broadcast_to(problem.hyper[name], (problem.n_models, 1))
            for name in ("eta0", "l2", "l1")
        )
        self.eta, self.l2, self.l1 = self.array(eta), self.array(l2), self.array(l1)
        # However large the rate, shrinking does not turn a weight's sign.
        self.decay = self.array(np.maximum(0.0, 1.0 - eta * l2))
        # On the host: picked in the order of visits, and sent once an epoch.
        self.y = labels(problem)
        self.step = eta * row_weights(problem) * self.y
        self.n_seen = np.zeros(problem.n_models, dtype=int)
        self.averages = problem.options.get("average")
        means, n = earlier_means(problem)
        self.sum_w, self.sum_b = self.array(n * means[:, :-1]), self.array(n * means[:, -1:])
        self.n_summed = self.array(n)

    def array(self, x):
        return self.backend.asarray(np.array(x, dtype=self.dtype))

    def keep(self, going) -> None:
        index = self.backend.asarray(np.flatnonzero(going))
        for name in self.state:
            setattr(self, name, self.xp.take(getattr(self, name), index, axis=0))
        self.y, self.step, self.n_seen = self.y[going], self.step[going], self.n_seen[going]

    def gather(self, visits):
        """Rows, labels and steps in the order of visits, padded with zeros to one length.

        Models that visit the same rows in the same order share an order; ``each`` deals them out.
        """
        lengths = [len(rows) for rows in visits]
        keys = [rows.tobytes() for rows in visits]
        orders = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        index = np.zeros((len(orders), max(lengths)), dtype=np.int64)
        y, step = np.zeros((2, len(visits), max(lengths)))
        for m, (rows, n) in enumerate(zip(visits, lengths, strict=True)):
            index[orders[keys[m]], :n] = rows
            y[m, :n] = self.y[m, rows]
            step[m, :n] = self.step[m, rows]
        self.n_seen += lengths
        # A single order needs no dealing out, for it broadcasts; nor do orders of one model each.
        self.order_of = None
        if 1 < len(orders) < len(visits):
            self.order_of = self.backend.asarray(np.array([orders[key] for key in keys]))
        return self.backend.asarray(index), self.array(y), self.array(step)

    def rows(self, index):
        flat = self.xp.take(self.X, self.xp.reshape(index, (-1,)), axis=0)
        return self.xp.reshape(flat, (*index.shape, self.X.shape[1]))

    def each(self, of_orders):
        """From an array that leads with the orders, one that leads with the models."""
        if self.order_of is None:
            return of_orders
        return self.xp.take(of_orders, self.order_of, axis=0)

    def theta(self) -> np.ndarray:
        theta = self.xp.concat([self.w, self.b], axis=1)
        return np.array(self.backend.to_numpy(theta), dtype=np.float64)

    def average(self) -> np.ndarray:
        sums = self.xp.concat([self.sum_w, self.sum_b], axis=1) / self.n_summed
        return np.array(self.backend.to_numpy(sums), dtype=np.float64)

    def finite(self) -> np.ndarray:
        largest = self.xp.max(self.xp.abs(self.w), axis=1) + self.xp.abs(self.b[:, 0])
        return np.isfinite(self.backend.to_numpy(largest))

    def scores(self, i, rows) -> np.ndarray:
        """Scores of held-out rows, of shape ``(n, 1)``."""
        X = self.xp.take(self.X, self.backend.asarray(rows), axis=0)
        lag = unscaled(float(self.decay[i, 0]), int(self.n_seen[i]), self.dtype)
        return self.backend.to_numpy(X @ self.w[i, :, None] / lag + self.b[i, :])


def unscaled(decay: float, n_steps: int, dtype) -> float:
    """What scikit-learn leaves out of w when it scores the held-out rows in mid-training.

    It keeps w as a scale times a vector, folds the one into the other when the scale becomes tiny
    or training ends, and scores with the vector alone; to stop where it does, so do we.
    """
    tiny = 1e-9 if dtype == "float64" else 1e-6
    if decay < tiny or decay == 1.0:
        return 1.0
    until_folded = int(np.floor(np.log(tiny) / np.log(decay))) + 1
    return decay ** (n_steps % until_folded)


class Blocks(_Sweep):
    """Learn block by block, for models without an L1 penalty.

    Let s be the block's scores before it is learnt, less the intercept, and c what a step leaves
    of w. Then row j is met with the score ``p_j = b + c^j s_j + sum_{i<j} u_i c^(j-1-i) x_i.x_j``,
    where u_i is the step taken on row i: 0 if it was no mistake. (Each u_i adds to b, too.)
    """

    state = (*_Sweep.state, "remains")

    def __init__(self, backend, problem):
        super().__init__(backend, problem)
        xp, steps = self.xp, np.arange(BLOCK_ROWS)
        self.later = self.array(steps > steps[:, None])
        gap = self.array(np.maximum(steps - 1 - steps[:, None], 0))
        self.remains = self.later * self.decay[:, :, None] ** gap
        self.at = self.array(steps[None])
        self.penalised = bool(xp.any(self.l2 > 0))

    def epoch(self, visits) -> np.ndarray:
        index, y, step = self.gather(visits)
        tally = 0.0
        length = y.shape[1]
        for start in range(0, length, BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, length))
            tally = tally + self.learn(self.rows(index[:, part]), y[:, part], step[:, part])
        return np.array(self.backend.to_numpy(tally), dtype=np.float64)

    def learn(self, X, y, step):
        xp, c, n = self.xp, self.decay, y.shape[1]
        remains, later, at = self.remains[:, :n, :n], self.later[:n, :n], self.at[:, :n]
        gram = self.each(X @ xp.matrix_transpose(X))
        X = self.each(X)
        pull = remains * gram + self.intercept_rate * later
        p, u = settle(xp, c**at * (X @ self.w[:, :, None])[:, :, 0] + self.b, y, step, pull)

        visited = xp.abs(y)  # 0 in the padding
        loss = xp.clip(-y * p, min=0.0)
        objective = loss
        if self.penalised:
            # |c w + u x|^2 = c^2 |w|^2 + 2 c u w.x + u^2 |x|^2, row after row
            wx = p - self.b - self.intercept_rate * (u @ later)
            diagonal = xp.sum(X * X, axis=2)
            growth = 2.0 * c * u * wx + u * u * diagonal
            norm_2 = xp.sum(self.w * self.w, axis=1, keepdims=True)
            norms_2 = c ** (2.0 * at) * norm_2 + (growth[:, None, :] @ remains**2)[:, 0, :]
            objective = loss + visited * (0.5 * self.l2 * norms_2)

        n_visited = xp.sum(visited, axis=1, keepdims=True)
        if self.averages:
            # What row i adds to theta is in it from then on.
            lasting = xp.clip(n_visited - at, min=0.0) * u
            added = xp.sum(lasting, axis=1, keepdims=True)
            self.sum_w = self.sum_w + n_visited * self.w + (lasting[:, None, :] @ X)[:, 0, :]
            self.sum_b = self.sum_b + n_visited * self.b + self.intercept_rate * added
            self.n_summed = self.n_summed + n_visited
        kept = c ** xp.clip(n_visited - 1.0 - at, min=0.0)
        self.w = c**n_visited * self.w + ((u * kept)[:, None, :] @ X)[:, 0, :]
        self.b = self.b + self.intercept_rate * xp.sum(u, axis=1, keepdims=True)
        mistakes = xp.astype(u != 0, visited.dtype)
        return xp.stack([xp.sum(part, axis=1) for part in (objective, loss, mistakes)], axis=1)


def settle(xp, before, y, step, pull):
    """Scores p that agree with the mistakes they make: ``p_j = before_j + sum_{i<j} u_i pull_ij``.

    Returns p and u, both of shape ``(M, n)``. Each round settles one more row for good, and mostly
    many: decisions that rest on the same mistakes do not change. A score that has overflowed to NaN
    is a mistake, and stays one: it would be none in one round, and undo what made it in the next.
    """
    nothing = xp.zeros_like(step)
    right = y * before > 0
    while True:
        u = xp.where(right, nothing, step)
        p = before + (u[:, None, :] @ pull)[:, 0, :]
        settled = right
        right = y * p > 0
        if not bool(xp.any(right != settled)):
            return p, u


class Rows(_Sweep):
    """Learn row by row, the models of the stack at once: any penalty.

    The L1 penalty is cumulative (Tsuruoka, Tsujii and Ananiadou, 2009): ``owed`` is what a weight
    should have paid by now, ``paid`` what it has, and it pays the rest when a row has its feature,
    at most down to zero.
    """

    state = (*_Sweep.state, "norm_2", "norm_1", "owed", "paid")

    def __init__(self, backend, problem):
        super().__init__(backend, problem)
        xp = self.xp
        self.norm_2 = xp.sum(self.w * self.w, axis=1, keepdims=True)
        self.norm_1 = xp.sum(xp.abs(self.w), axis=1, keepdims=True)
        self.owed, self.paid = xp.zeros_like(self.b), xp.zeros_like(self.w)

    def epoch(self, visits) -> np.ndarray:
        index, y, step = self.gather(visits)
        tally = 0.0
        for t in range(y.shape[1]):
            row = slice(t, t + 1)
            x = self.each(self.rows(index[:, row])[:, 0, :])
            tally = tally + self.learn(x, y[:, row], step[:, row])
        return np.array(self.backend.to_numpy(tally), dtype=np.float64)

    def learn(self, x, y, step):
        xp = self.xp
        visited = xp.abs(y)  # 0 in the padding
        p = xp.sum(self.w * x, axis=1, keepdims=True) + self.b
        mistaken = y * p <= 0
        loss = xp.clip(-y * p, min=0.0)
        objective = loss + visited * (0.5 * self.l2 * self.norm_2 + self.l1 * self.norm_1)

        u = xp.where(mistaken, step, xp.zeros_like(step))
        c = 1.0 - visited * (1.0 - self.decay)
        w = c * self.w + u * x
        self.b = self.b + self.intercept_rate * u
        # A sparse row has its own features only, and scikit-learn takes the norms over these.
        has = xp.astype(x != 0, w.dtype) if self.sparse else xp.ones_like(x)
        moved = u != 0
        self.norm_2 = xp.where(
            moved, xp.sum(has * w * w, axis=1, keepdims=True), c * c * self.norm_2
        )
        self.norm_1 = xp.where(
            moved, xp.sum(has * xp.abs(w), axis=1, keepdims=True), c * self.norm_1
        )

        self.owed = self.owed + visited * self.eta * self.l1
        down = xp.clip(w - (self.owed + self.paid), min=0.0)
        up = xp.clip(w + (self.owed - self.paid), max=0.0)
        clipped = xp.where(w > 0, down, xp.where(w < 0, up, w))
        self.w = xp.where(visited * has > 0, clipped, w)
        self.paid = self.paid + (self.w - w)
        if self.averages:
            self.sum_w = self.sum_w + visited * self.w
            self.sum_b = self.sum_b + visited * self.b
            self.n_summed = self.n_summed + visited
        mistakes = xp.astype(moved, visited.dtype)
        return xp.concat([objective, loss, mistakes], axis=1)
