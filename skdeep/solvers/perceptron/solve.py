"""Rosenblatt's perceptron: one row after another, and every mistake moves the hyperplane.

A row x with label y of -1 or 1 and score ``p = w x + b`` is a mistake if ``y p <= 0``. Then
``w += eta weight y x`` and ``b += eta weight y``. After every row, mistaken or not, the penalties
take their share of w, and rows come in the order in which scikit-learn's SGD visits them.

The rule is sequential, and its results here are those of the sequential rule. What runs at once
are the models of a stack and, in :class:`sweeps.Blocks`, the products of a block of rows.
"""

import numpy as np
import scipy.sparse as sp

from ...overrides import overridable
from ...problem import Problem, Result
from .batch import Batch
from .rows import intercept_rate, make_orders, next_visits, permutation
from .separation import separation
from .sweeps import BLOCK_ROWS, Blocks, Rows


def solve(backend, problem: Problem) -> Result:
    """Fit every model until its objective, or its validation score, has stalled.

    Hyper-parameters: ``eta0``, ``l2`` and ``l1`` (the weights of half the squared L2 norm and of
    the L1 norm), ``max_iter``, ``tol`` (``-inf`` never to stop early), ``n_iter_no_change``.
    Options: ``fit_intercept``, ``shuffle``, ``verbose``, ``n_jobs`` (threads, where a backend
    fits the models one by one), ``batch`` (whether an epoch is one step, see
    :class:`perceptron_batch.Batch`) and ``average``. Targets are -1 and 1; ``theta`` is
    ``[w, b]``. Rows held out for validation are among ``rows``, and skipped where the order comes
    to them. A model whose numbers overflow stops; its ``theta`` is NaN.

    ``extra["mistakes"]`` counts the updates, -1 where the count is not known. Under ``average``
    ``extra["average"]`` is the mean of theta over all rows visited (Freund and Schapire, 1999);
    ``states`` may hold, for each model, an earlier mean and the rows that it is of. ``extra`` also
    has the ``margin`` and ``radius`` of :func:`separation.separation`, the margin of the mean if
    that is wider, and whether theta itself has ``separated`` its rows.
    """
    if problem.options.get("batch"):
        result = run(problem, Batch(backend, problem), permutation)
        constant = float(problem.options["fit_intercept"])
    else:
        result = train(backend, problem)
        # An intercept that learns more slowly is the weight of a smaller constant.
        constant = intercept_rate(problem) ** 0.5
    margin, radius = separation(problem, result.theta, constant)
    separated = ~np.isnan(margin)
    if "average" in result.extra:
        mean = separation(problem, result.extra["average"], constant)
        margin = np.fmax(margin, mean.margin)
    result.extra.update(margin=margin, radius=radius, separated=separated)
    return result


@overridable
def train(backend, problem: Problem) -> Result:
    """The generic form of ``solve``."""
    lasso = bool((problem.hyper["l1"] > 0).any())
    # A sparse row has scikit-learn see the norms of its own features only (see Rows).
    partial_norms = sp.issparse(problem.X) and bool((problem.hyper["l2"] > 0).any())
    # Blocks take the mean of theta where no penalty shrinks it.
    shrinking = problem.options.get("average") and bool((problem.hyper["l2"] > 0).any())
    sweep = (Rows if lasso or partial_norms or shrinking else Blocks)(backend, problem)
    return run(problem, sweep, permutation)


def memory(problem: Problem) -> float:
    n_rows, n_features = problem.X.shape
    return np.dtype(problem.dtype).itemsize * (
        BLOCK_ROWS * (n_features + 4 * BLOCK_ROWS) + 4 * n_features + 5 * n_rows
    )


def run(problem: Problem, sweep, shuffle) -> Result:
    """Sweep over the rows until each model has stopped.

    Parameters
    ----------
    sweep : object
        The models still going. ``epoch(visits)`` passes over the rows of each and returns their
        sums of objective and loss and their mistakes, of shape ``(models, 3)``. ``theta()`` are
        the parameters on the host, and ``finite()`` says of which models all are finite;
        ``scores(i, rows)`` predicts held-out rows; ``keep(going)`` drops models.
    shuffle : callable
        ``permutation``, or a faster form of it.
    """
    M = problem.n_models
    orders = make_orders(problem, shuffle)
    hyper = {name: np.broadcast_to(values, (M, 1))[:, 0] for name, values in problem.hyper.items()}
    theta = np.array(problem.theta, dtype=np.float64)
    average, averages = theta.copy(), problem.options.get("average")
    best, stalled = np.full(M, np.inf), np.zeros(M, dtype=int)
    n_iter, mistakes = np.zeros(M, dtype=int), np.zeros(M, dtype=int)
    loss, curve = np.full(M, np.nan), [[] for _ in range(M)]
    going = np.arange(M)
    while len(going):
        tally = sweep.epoch(next_visits([orders[m] for m in going]))
        finite = sweep.finite() & ~np.isnan(tally).any(axis=1)
        means = tally[:, :2] / np.array([[max(orders[m].n_visited, 1)] for m in going])
        n_iter[going] += 1
        mistakes[going] += np.nan_to_num(tally[:, 2]).astype(int)
        value = loss[going] = means[:, 0]
        if problem.validation is not None:
            # A higher score is better, a lower value too.
            held_out = [problem.validation[m] for m in going]
            value = -np.array([v.score(sweep.scores(i, v.rows)) for i, v in enumerate(held_out)])
        stalled[going] = np.where(value > best[going] - hyper["tol"][going], stalled[going] + 1, 0)
        best[going] = np.minimum(best[going], value)
        done = (stalled >= hyper["n_iter_no_change"])[going]
        done |= (n_iter >= hyper["max_iter"])[going] | ~finite
        for i, m in enumerate(going):
            curve[m].append(float(means[i, 0]))
            say(problem, n_iter[m], means[i, 1], means[i, 0], value[i])
            monitor = None if problem.monitors is None else problem.monitors[m]
            if monitor is not None:
                done[i] |= bool(monitor(n_iter[m], sweep.theta()[i], loss[m]))
        if done.any():
            theta[going[done]] = sweep.theta()[done]
            if averages:
                average[going[done]] = sweep.average()[done]
            theta[going[~finite]] = np.nan
            going = going[~done]
            sweep.keep(~done)
    return Result(
        theta=theta,
        n_iter=n_iter,
        loss=loss,
        converged=stalled >= hyper["n_iter_no_change"],
        curve=curve,
        extra={"mistakes": mistakes, **({"average": average} if averages else {})},
    )


def say(problem: Problem, epoch, loss, objective, value) -> None:
    if problem.options["verbose"]:
        score = "" if problem.validation is None else f", Validation score: {-value:f}"
        print(f"-- Epoch {epoch}\nAvg. loss: {loss:f}, Objective: {objective:f}{score}")


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    hyper = {"eta0", "l2", "l1", "max_iter", "tol", "n_iter_no_change"}
    return hyper, {"fit_intercept", "shuffle", "verbose", "batch", "average"}
