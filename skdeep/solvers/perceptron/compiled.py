"""The perceptron on NumPy: the sequential loop, compiled.

With numba the loops of ``perceptron_loops`` are compiled, once a machine. Without it, or where
loading them would take longer than the fit, scikit-learn's own compiled loop runs. All give the
same coefficients.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from types import FunctionType

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs

from ...problem import Problem, Result
from . import loops, solve
from .rows import (
    MAX_INT,
    earlier_means,
    intercept_rate,
    labels,
    permutation,
    row_weights,
)

# Multiplications from which loading numba (0.3 s, once a process; compiling takes a second or two,
# once a machine) is worth its while: about as long as scikit-learn's loop would take.
WORTH_COMPILING = 2e8
# ... and from which calling the compiled loops once an epoch is, when they are there.
WORTH_CALLING = 2e6

# Features from which sums may run in any order, many terms at once. With fewer there is little to
# gain, and coarse data has rows exactly on the hyperplane: on which side the rounding puts them
# depends on the order of the sum, so there we keep scikit-learn's.
MANY_FEATURES = 33

# To walk over the nonzeros is as fast as over all features at this share of them, or at several
# times it if as many models, up to eight, go along. To look for them takes seven dense epochs.
EVEN_SHARE, MOST_ALONG = 0.1, 8
LOOKING = 7.0

# Values of X up to which scikit-learn's loop runs on a copy that has a feature more, to count by.
COUNTED = 2**19


def train(backend, problem: Problem) -> Result:
    """Override of ``solve.train``."""
    if problem.options.get("average"):
        # scikit-learn's loop takes the mean as it goes; those compiled here do not.
        if problem.monitors is not None:
            return solve.train.__wrapped__(backend, problem)
        return train_with_scikit_learn(problem)
    loaded = compiled.cache_info().currsize > 0
    worth = min(WORTH_CALLING, WORTH_COMPILING) if loaded else WORTH_COMPILING
    if _work(problem) > worth and find_spec("numba"):
        with threads(problem) as each:
            sweep = Sequence(problem, each)
            return solve.run(problem, sweep, compiled(permutation))
    if problem.monitors is not None:
        return solve.train.__wrapped__(backend, problem)
    return train_with_scikit_learn(problem)


def _work(problem: Problem) -> float:
    return problem.n_models * _n_values(problem.X) * _epochs(problem)


def _n_values(X) -> int:
    return X.nnz if sp.issparse(X) else X.size


def _epochs(problem: Problem) -> float:
    """How many to reckon with."""
    return min(10.0, float(problem.hyper["max_iter"].max()))


@cache
def compiled(loop, any_order=False):
    """A loop compiled by numba; kept on disk where there is a folder to keep it in."""
    from numba import njit

    options = {"nogil": True}
    if any_order:
        # numba's files do not tell the two forms apart, but for the name.
        loop = FunctionType(loop.__code__, loop.__globals__, f"{loop.__name__}_any_order")
        loop.__qualname__ = loop.__name__
        options["fastmath"] = {"reassoc"}
    try:
        return njit(loop, cache=True, **options)
    except RuntimeError:
        return njit(loop, **options)


@contextmanager
def threads(problem: Problem):
    """Gives ``each(fit, items)``: what ``fit`` makes of the items, in ``n_jobs`` threads.

    The thread that asks is one of them, so that short work is not all waiting.
    """
    n_threads = min(effective_n_jobs(problem.options["n_jobs"]), problem.n_models)
    with ThreadPoolExecutor(max(n_threads - 1, 1)) as pool:

        def each(fit, items) -> list:
            results: list = [None] * len(items)
            todo = iter(enumerate(items))

            def work():
                for i, item in todo:
                    results[i] = fit(item)

            helpers = [pool.submit(work) for _ in range(min(n_threads, len(items)) - 1)]
            work()
            for helper in helpers:
                helper.result()
            return results

        yield each


class Sequence:
    """The models of a stack, some at once in threads of their own.

    Where most of a dense X is zero, its other entries alone are walked, and models that visit the
    same rows in the same order go along together.
    """

    def __init__(self, problem: Problem, each):
        self.problem, self.dtype, self.each = problem, np.dtype(problem.dtype), each
        self.models = np.arange(problem.n_models)
        self.y, self.weights = labels(problem), row_weights(problem)
        self.w = np.array(problem.theta[:, :-1], dtype=self.dtype)
        self.paid = np.zeros_like(self.w)
        # As in scikit-learn, only the vectors are ever of single precision.
        self.numbers = np.array(
            [(t[-1], 1.0, t[:-1] @ t[:-1], np.abs(t[:-1]).sum(), 0.0) for t in problem.theta],
            dtype=np.float64,
        )
        names = "eta0", "l2", "l1"
        self.hyper = np.concatenate([problem.hyper[name] for name in names], axis=1, dtype=float)
        self.intercept_rate = intercept_rate(problem)
        self.X = problem.X.astype(self.dtype, copy=False)
        self.n_threads = effective_n_jobs(problem.options["n_jobs"])
        self.learn = None  # a function: a method of this sweep would keep its rows alive
        self.alike = range(problem.n_models)  # models go along together if these are the same

    def _choose(self, n_orders: int):
        """How to learn, once it is known how many models share an order."""
        X = self.X
        if sp.issparse(X):
            self.loop = partial(compiled(loops.learn_sparse), X.data, X.indices, X.indptr)
            return Sequence._learn
        X = np.ascontiguousarray(X)
        # An L1 penalty moves all weights, whatever the row.
        if self._epochs_saved(n_orders) > LOOKING and not self.hyper[:, 2].any():
            self.alike = _alike(self.y, self.weights)
            squares = np.einsum("ij,ij->i", X, X, dtype=np.float64)
            self.loop = partial(compiled(loops.learn_together), *_nonzeros(X), squares)
            return Sequence._learn_together
        self.loop = partial(compiled(loops.learn_dense, X.shape[1] >= MANY_FEATURES), X)
        return Sequence._learn

    def _epochs_saved(self, n_orders: int) -> float:
        """How many dense epochs of a model it would save to walk over the nonzeros."""
        sample, n_models = self.X[:: max(1, len(self.X) // 256)], len(self.models)
        even = EVEN_SHARE * min(n_models // n_orders, MOST_ALONG)
        share = np.count_nonzero(sample) / sample.size
        return _epochs(self.problem) * n_models * (1.0 - share / even)

    def epoch(self, visits) -> np.ndarray:
        tally = np.zeros((self.problem.n_models, 3))
        if self.learn is None:
            self.learn = self._choose(len({id(rows) for rows in visits}))
        self.each(partial(self.learn, self, tally), self._pieces(visits))
        return tally[self.models]

    def _learn(self, tally, piece) -> None:
        (m,), visits = piece
        self.loop(
            *(self.y[m], self.weights[m], visits, self.w[m], self.paid[m], self.numbers[m]),
            *(*self.hyper[m], self.intercept_rate, tally[m]),
        )

    def _pieces(self, visits) -> list:
        """Models that go along together, in several threads only if enough of them are left."""
        groups: dict = {}
        for m, rows in zip(self.models, visits, strict=True):
            groups.setdefault((id(rows), self.alike[m]), (rows, []))[1].append(m)
        pieces = []
        for rows, models in groups.values():
            n = max(1, min(self.n_threads, len(models) // MOST_ALONG))
            pieces += [(models[start::n], rows) for start in range(n)]
        return pieces

    def _learn_together(self, tally, piece) -> None:
        models, visits = piece
        w = np.ascontiguousarray(self.w[models].T)
        numbers, sums = self.numbers[models], np.zeros((len(models), 3))
        y, weights = self.y[models[0]], self.weights[models[0]]
        self.loop(y, weights, visits, w, numbers, self.hyper[models], self.intercept_rate, sums)
        self.w[models], self.numbers[models], tally[models] = w.T, numbers, sums

    def keep(self, going) -> None:
        self.models = self.models[going]

    def theta(self) -> np.ndarray:
        scale = self.numbers[self.models, 1:2].astype(self.dtype)
        w = scale * self.w[self.models]
        return np.concatenate([w, self.numbers[self.models, :1]], axis=1, dtype=np.float64)

    def finite(self) -> np.ndarray:
        w, b = self.w[self.models], self.numbers[self.models, 0]
        return np.isfinite(w).all(axis=1) & np.isfinite(b)

    def scores(self, i, rows) -> np.ndarray:
        m = self.models[i]
        return (self.X[rows] @ self.w[m] + self.numbers[m, 0])[:, None]


def _alike(*arrays) -> list[int]:
    """For each model, the first one whose arrays, each of shape (M, n), are the same."""
    first: dict = {}
    return [
        first.setdefault(tuple(array[m].tobytes() for array in arrays), m)
        for m in range(len(arrays[0]))
    ]


def _nonzeros(X):
    """Data, indices and row starts as those of a CSR matrix, which SciPy makes more slowly."""
    n, index = np.count_nonzero(X), np.int32 if X.size < 2**31 else np.int64
    data, indices = np.empty(n, X.dtype), np.empty(n, index)
    indptr = np.zeros(len(X) + 1, index)
    compiled(loops.nonzeros)(np.ascontiguousarray(X), data, indices, indptr)
    return data, indices, indptr


def train_with_scikit_learn(problem: Problem) -> Result:
    """scikit-learn's compiled loop, model by model.

    It keeps the course of training to itself: the loss is NaN, its curve empty. Mistakes are
    counted by one more feature, to which each adds the same tiny number; its products vanish in
    the rounding, so that the scores are what they were. Penalties would decay that count, and
    large data should not be copied for it: there mistakes are -1.
    """
    from ..._sklearn import Hinge, _plain_sgd32, _plain_sgd64, make_dataset

    dtype = np.dtype(problem.dtype)
    plain_sgd = _plain_sgd32 if dtype == np.float32 else _plain_sgd64
    X, y, weights = problem.X, labels(problem), row_weights(problem)
    X = X.astype(dtype, copy=False)
    constant_rate = 1
    average = bool(problem.options.get("average"))
    means, n_before = earlier_means(problem)
    unused = np.random.RandomState(0)  # of draws with replacement, which are not made here

    def fit(m):
        hyper = {name: values[m, 0].item() for name, values in problem.hyper.items()}
        l2, l1 = hyper["l2"], hyper["l1"]
        # The penalty's kinds there: 0 none, 1 L1, 2 L2, 3 both
        kind = (1 if l1 > 0 else 0) + (2 if l2 > 0 else 0)
        counts = not kind and _n_values(X) <= COUNTED
        rows = slice(None) if problem.rows is None else problem.rows[m]
        held_out = np.zeros(X.shape[0], dtype=np.uint8)
        score = None
        validation = None if problem.validation is None else problem.validation[m]
        if validation is not None:
            held_out[validation.rows] = True

            def score(w, b):
                return validation.score((X[validation.rows] @ w[: X.shape[1]] + b)[:, None])

        x = X if problem.rows is None else X[rows]  # all rows of a sparse X would be a copy
        targets, factors = y[m][rows], weights[m][rows]
        start, mean = problem.theta[m, :-1], means[m, :-1]
        if counts:
            x = _with_tally(x, targets, hyper["eta0"] * factors)
            start, mean = np.append(start, 0.0), np.append(mean, 0.0)
        dataset, rate = make_dataset(
            x, np.ascontiguousarray(targets), np.ascontiguousarray(factors), random_state=unused
        )
        try:
            w, b, mean, mean_b, n_iter = plain_sgd(
                start.astype(dtype),
                problem.theta[m, -1],
                *((mean.astype(dtype), means[m, -1]) if average else (None, 0.0)),
                Hinge(0.0),
                *(kind, l2 + l1, l1 / (l2 + l1) if kind else 0.0),
                dataset,
                held_out[rows],
                *(validation is not None, score),
                *(int(hyper["n_iter_no_change"]), int(hyper["max_iter"]), hyper["tol"]),
                *(int(problem.options["fit_intercept"]), problem.options["verbose"]),
                int(problem.options["shuffle"]),
                problem.rngs[m].randint(MAX_INT),
                *(1.0, 1.0),
                *(constant_rate, hyper["eta0"], 0.5),
                0,
                *(1.0 + n_before[m, 0], rate),
                int(average),
            )
        except ValueError as error:
            # It says where numbers have overflowed: "... occurred at epoch #3. ..."
            epoch = re.search(r"overflow.*#(\d+)", str(error))
            if epoch is None:
                raise
            nothing = np.full(problem.theta.shape[1], np.nan)
            return nothing, nothing, -1, int(epoch[1])
        n_mistakes = round(float(w[-1]) / _tiny(dtype)) if counts else -1
        p = X.shape[1]
        mean = np.append(mean[:p], mean_b) if average else np.zeros(p + 1)
        return np.append(w[:p].astype(np.float64), b), mean, n_mistakes, n_iter

    with threads(problem) as each:
        fits = each(fit, range(problem.n_models))
    thetas, averages, mistakes, n_iter = map(np.array, zip(*fits, strict=True))
    return Result(
        theta=thetas,
        n_iter=n_iter,
        loss=np.full(problem.n_models, np.nan),
        converged=n_iter < problem.hyper["max_iter"][:, 0],
        curve=[[] for _ in fits],
        extra={"mistakes": mistakes} | ({"average": averages} if average else {}),
    )


def _tiny(dtype) -> float:
    """What a mistake adds to the tally: its square is zero in that type."""
    return 2.0**-560 if dtype == np.float64 else 2.0**-100


def _with_tally(X, y, steps):
    """Rows with a feature more, for which an update ``y * step`` of theirs is the tiny number."""
    steps = y.astype(np.float64) * steps
    one = np.where(steps != 0, _tiny(X.dtype) / np.where(steps != 0, steps, 1.0), 0.0)
    one = one.astype(X.dtype)[:, None]
    if sp.issparse(X):
        return sp.hstack([X, one], format="csr", dtype=X.dtype)
    return np.concatenate([X, one], axis=1)
