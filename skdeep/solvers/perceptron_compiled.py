"""The perceptron on NumPy: the sequential loop, compiled.

With numba the loops below are compiled, once a machine. Without it, or where compiling would take
longer than the fit, scikit-learn's own compiled loop runs. All give the same coefficients.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from types import FunctionType

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs

from ..problem import Problem, Result
from . import perceptron

# Multiplications from which compiling (some seconds, once a machine) or loading numba (half a
# second, once a process) is worth its while: about as long as scikit-learn's loop would take.
WORTH_COMPILING = 5e8
# ... and from which calling the compiled loops once an epoch is, when they are there.
WORTH_CALLING = 2e6

# Features from which sums may run in any order, many terms at once. With fewer there is little to
# gain, and coarse data has rows exactly on the hyperplane: on which side the rounding puts them
# depends on the order of the sum, so there we keep scikit-learn's.
MANY_FEATURES = 33


def train(backend, problem: Problem) -> Result:
    """Twin of ``perceptron.train``."""
    if problem.options.get("average"):
        # scikit-learn's loop takes the mean as it goes; those compiled here do not.
        if problem.monitors is not None:
            return perceptron.train(backend, problem)
        return train_with_scikit_learn(problem)
    loaded = compiled.cache_info().currsize > 0
    worth = min(WORTH_CALLING, WORTH_COMPILING) if loaded else WORTH_COMPILING
    if _work(problem) > worth and find_spec("numba"):
        return perceptron.run(problem, Sequence(problem), compiled(perceptron.permutation))
    if problem.monitors is not None:
        return perceptron.train(backend, problem)
    return train_with_scikit_learn(problem)


def _work(problem: Problem) -> float:
    n_values = problem.X.nnz if sp.issparse(problem.X) else problem.X.size
    return problem.n_models * n_values * min(10, float(problem.hyper["max_iter"].max()))


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


def each(fit, models, n_jobs) -> list:
    """What ``fit`` makes of each model, in as many threads as ``n_jobs`` means."""
    n_threads = min(effective_n_jobs(n_jobs), len(models))
    if n_threads < 2:
        return [fit(m) for m in models]
    with ThreadPoolExecutor(n_threads) as threads:
        return list(threads.map(fit, models))


class Sequence:
    """The models of a stack one by one, or some at once in threads of their own."""

    def __init__(self, problem: Problem):
        self.problem, self.dtype = problem, np.dtype(problem.dtype)
        self.models = np.arange(problem.n_models)
        self.y, self.weights = perceptron.labels(problem), perceptron.row_weights(problem)
        self.w = np.array(problem.theta[:, :-1], dtype=self.dtype)
        self.paid = np.zeros_like(self.w)
        # As in scikit-learn, only the vectors are ever of single precision.
        self.numbers = np.array(
            [(t[-1], 1.0, t[:-1] @ t[:-1], np.abs(t[:-1]).sum(), 0.0) for t in problem.theta],
            dtype=np.float64,
        )
        X = problem.X.astype(self.dtype, copy=False)
        if sp.issparse(X):
            self.loop = partial(compiled(learn_sparse), X.data, X.indices, X.indptr)
        else:
            any_order = X.shape[1] >= MANY_FEATURES
            self.loop = partial(compiled(learn_dense, any_order), np.ascontiguousarray(X))
        self.X = X
        self.n_jobs = problem.options["n_jobs"]

    def epoch(self, visits) -> np.ndarray:
        tally = np.zeros((len(visits), 3))

        def learn(i):
            m = self.models[i]
            hyper = (float(self.problem.hyper[name][m, 0]) for name in ("eta0", "l2", "l1"))
            self.loop(
                *(self.y[m], self.weights[m], visits[i], self.w[m], self.paid[m]),
                *(self.numbers[m], *hyper),
                *(perceptron.intercept_rate(self.problem), tally[i]),
            )

        learn(0)  # the first call compiles
        each(learn, range(1, len(visits)), self.n_jobs)
        return tally

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


def learn_dense(X, y, weights, visits, w, paid, numbers, eta, l2, l1, intercept_rate, tally):
    """One pass over the rows ``visits`` of X.

    The weight vector is ``scale * w``: shrinking is one multiplication. ``numbers`` are intercept,
    scale, squared L2 norm, L1 norm and L1 penalty owed; ``tally`` the sums of objective and loss,
    and the mistakes.
    """
    rounded = np.empty(2, w.dtype)  # what is put in is rounded to the type of w
    intercept, scale, norm_2, norm_1, owed = numbers
    n_features = w.shape[0]
    tiny = 1e-9 if w.itemsize == 8 else 1e-6
    rounded[0] = max(0.0, 1.0 - eta * l2)
    shrink = np.float64(rounded[0])
    penalised = l1 > 0.0 or l2 > 0.0
    for row in visits:
        x = X[row]
        score = 0.0
        for j in range(n_features):
            score += w[j] * x[j]
        rounded[0] = score * scale
        score = rounded[0] + intercept

        mistaken = y[row] * score <= 0.0
        if mistaken:
            loss = -y[row] * score
            tally[0] += loss
            tally[1] += loss
            tally[2] += 1.0 if weights[row] != 0.0 else 0.0
        if penalised:
            tally[0] += 0.5 * l2 * norm_2 + l1 * norm_1
            scale *= shrink
            norm_2 *= shrink * shrink
            norm_1 *= shrink
            if scale < tiny:
                for j in range(n_features):
                    w[j] *= scale
                scale = 1.0

        step = eta * y[row] * weights[row] if mistaken else 0.0
        if step != 0.0:
            rounded[0], rounded[1] = step, scale
            rounded[0] = rounded[0] / rounded[1]
            each = np.float64(rounded[0])
            for j in range(n_features):
                w[j] += x[j] * each
            if penalised:
                norm_2 = norm_1 = 0.0
                for j in range(n_features):
                    norm_2 += w[j] * w[j]
                    norm_1 += abs(w[j])
                norm_2 *= scale * scale
                norm_1 *= scale
            intercept += step * intercept_rate

        if l1 > 0.0:
            owed += eta * l1
            for j in range(n_features):
                before = np.float64(w[j])
                if before > 0.0:
                    w[j] = max(0.0, before - (owed + paid[j]) / scale)
                elif before < 0.0:
                    w[j] = min(0.0, before + (owed - paid[j]) / scale)
                paid[j] += scale * (w[j] - before)
    numbers[:] = intercept, scale, norm_2, norm_1, owed


def learn_sparse(
    data, indices, indptr, y, weights, visits, w, paid, numbers, eta, l2, l1, intercept_rate, tally
):  # fmt: skip
    """``learn_dense`` for the rows of a CSR matrix; norms are those of the row's features only."""
    rounded = np.empty(2, w.dtype)
    intercept, scale, norm_2, norm_1, owed = numbers
    tiny = 1e-9 if w.itemsize == 8 else 1e-6
    rounded[0] = max(0.0, 1.0 - eta * l2)
    shrink = np.float64(rounded[0])
    penalised = l1 > 0.0 or l2 > 0.0
    for row in visits:
        stored = range(indptr[row], indptr[row + 1])
        score = 0.0
        for k in stored:
            score += w[indices[k]] * data[k]
        rounded[0] = score * scale
        score = rounded[0] + intercept

        mistaken = y[row] * score <= 0.0
        if mistaken:
            loss = -y[row] * score
            tally[0] += loss
            tally[1] += loss
            tally[2] += 1.0 if weights[row] != 0.0 else 0.0
        if penalised:
            tally[0] += 0.5 * l2 * norm_2 + l1 * norm_1
            scale *= shrink
            norm_2 *= shrink * shrink
            norm_1 *= shrink
            if scale < tiny:
                for j in range(w.shape[0]):
                    w[j] *= scale
                scale = 1.0

        step = eta * y[row] * weights[row] if mistaken else 0.0
        if step != 0.0:
            rounded[0], rounded[1] = step, scale
            rounded[0] = rounded[0] / rounded[1]
            each = np.float64(rounded[0])
            norm_2 = norm_1 = 0.0
            for k in stored:
                j = indices[k]
                w[j] += data[k] * each
                norm_2 += w[j] * w[j]
                norm_1 += abs(w[j])
            norm_2 *= scale * scale
            norm_1 *= scale
            intercept += step * intercept_rate

        if l1 > 0.0:
            owed += eta * l1
            for k in stored:
                j = indices[k]
                before = np.float64(w[j])
                if before > 0.0:
                    w[j] = max(0.0, before - (owed + paid[j]) / scale)
                elif before < 0.0:
                    w[j] = min(0.0, before + (owed - paid[j]) / scale)
                paid[j] += scale * (w[j] - before)
    numbers[:] = intercept, scale, norm_2, norm_1, owed


def train_with_scikit_learn(problem: Problem) -> Result:
    """scikit-learn's compiled loop, model by model.

    It keeps the course of training to itself: the loss is NaN, its curve empty. Mistakes are
    counted by one more feature, to which each adds the same tiny number; its products vanish in
    the rounding, so that the scores are what they were. Penalties would shrink that count: under
    one, mistakes are -1.
    """
    from sklearn.linear_model._base import make_dataset
    from sklearn.linear_model._sgd_fast import Hinge, _plain_sgd32, _plain_sgd64

    dtype = np.dtype(problem.dtype)
    plain_sgd = _plain_sgd32 if dtype == np.float32 else _plain_sgd64
    X, y, weights = problem.X, perceptron.labels(problem), perceptron.row_weights(problem)
    X = X.astype(dtype, copy=False)
    constant_rate = 1
    average = bool(problem.options.get("average"))
    means, n_before = perceptron.earlier_means(problem)
    unused = np.random.RandomState(0)  # of draws with replacement, which are not made here

    def fit(m):
        hyper = {name: values[m, 0].item() for name, values in problem.hyper.items()}
        l2, l1 = hyper["l2"], hyper["l1"]
        # The penalty's kinds there: 0 none, 1 L1, 2 L2, 3 both
        kind = (1 if l1 > 0 else 0) + (2 if l2 > 0 else 0)
        rows = slice(None) if problem.rows is None else problem.rows[m]
        held_out = np.zeros(X.shape[0], dtype=np.uint8)
        score = None
        validation = None if problem.validation is None else problem.validation[m]
        if validation is not None:
            held_out[validation.rows] = True

            def score(w, b):
                return validation.score((X[validation.rows] @ w[: X.shape[1]] + b)[:, None])

        x, targets, factors = X[rows], y[m][rows], weights[m][rows]
        start, mean = problem.theta[m, :-1], means[m, :-1]
        if not kind:
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
                problem.rngs[m].randint(perceptron.MAX_INT),
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
        n_mistakes = -1 if kind else round(float(w[-1]) / _tiny(dtype))
        p = X.shape[1]
        mean = np.append(mean[:p], mean_b) if average else np.zeros(p + 1)
        return np.append(w[:p].astype(np.float64), b), mean, n_mistakes, n_iter

    fits = each(fit, range(problem.n_models), problem.options["n_jobs"])
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
