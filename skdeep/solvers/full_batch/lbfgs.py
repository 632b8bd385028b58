"""L-BFGS over a stack of models, whitened where they are linear, and then in turns with Newton.

Linear problems of few parameters are Newton's from the start. Large ones begin on a part of the
rows and in single precision.
"""

from dataclasses import replace

import numpy as np

from ...losses import has_hessian
from ...problem import Problem, Result
from . import exact_newton, truncated_newton
from .bookkeeping import FULL_BATCH, SHARE, SHARE_LARGE, Run, largest
from .objective import make_objective, without_common_part
from .precision import in_double, needs_double, tells_apart
from .quasi_newton import IDENTITY, MEMORY, History, State, advance
from .scaling import limit, moderated
from .whitening import MAX_FEATURES, MIN_ROWS, whitening

# Rows times parameters from which on passes over the rows are what an iteration costs. A fit then
# begins in single precision, which halves that.
LARGE = 2**21
# Features may be so many deviations from zero for it.
DEVIATIONS = 1e3
# Iterations that are made over a part of the rows first, where there are several times as many.
REHEARSAL = 12
# Iterations after which a linear model's curvature has moved too far from where it was whitened.
HANDOVER, HANDOVER_LARGE = 12, 8


def solve(backend, problem) -> Result:
    """Minimise the objective of every model by L-BFGS, of linear ones in turns with Newton.

    Parameters
    ----------
    backend : Backend
    problem : Problem
        ``hyper`` has, each of shape (M, 1), "l2", "tol" (bound of the gradient's largest entry)
        and "max_iter"; it may have "max_fun" (evaluations of the objective), "ftol" (relative
        decrease of the objective that also ends the iterations) and, for linear models,
        "l2_intercept".

    Returns
    -------
    Result
        ``converged`` where the gradient came within ``tol``, or no step could lower the objective
        or the gradient any further in this floating-point type.

    References
    ----------
    Liu & Nocedal (1989), On the limited memory BFGS method for large scale optimization.
    Byrd, Nocedal & Schnabel (1994), Representations of quasi-Newton matrices and their use in
    limited memory methods.
    """
    if problem.net.activations:
        return _descend(backend, problem, make_objective(backend, problem), IDENTITY)
    reach = largest(problem.X)
    if reach > limit(problem.dtype):
        return moderated(solve, backend, problem)
    if needs_double(backend, problem):
        return in_double(solve, backend, problem)
    if has_hessian(problem.net.loss) and exact_newton.pays(problem):
        return exact_first(backend, problem)
    return _many_parameters(backend, problem, reach)


def exact_first(backend, problem: Problem) -> Result:
    """Newton's method with the Hessian formed, and L-BFGS for the models that it leaves behind."""
    result = exact_newton.descend(backend, problem)
    models = np.flatnonzero(result.extra["singular"] | result.extra["stuck"])
    if models.size == 0:
        return result
    part = problem.take(models)
    left = np.maximum(part.hyper["max_iter"] - result.n_iter[models, None], 0)
    # Where the Hessian is singular there are many optima: a small gradient is all to ask for.
    settles = ~result.extra["singular"][models, None]
    hyper = {**part.hyper, "max_iter": left, "settles": settles}
    part = replace(part, theta=result.theta[models], hyper=hyper)
    rest = _many_parameters(backend, part, largest(part.X))
    # The iteration in which Newton's method gave up does not count.
    result.n_iter[models] += rest.n_iter - 1
    for name in ("theta", "loss", "converged"):
        getattr(result, name)[models] = getattr(rest, name)
    result.extra["n_fun"][models] += rest.extra["n_fun"]
    for model, curve in zip(models, rest.curve, strict=True):
        result.curve[model] += curve
    return result


def _many_parameters(backend, problem: Problem, reach: float) -> Result:
    problem = without_common_part(problem)
    objective = make_objective(backend, problem)
    space = whitening(backend, problem, objective.data)
    if problem.dtype != "float64" or not _large(problem):
        return _descend(backend, problem, objective, space)
    if not (1e-30 < reach < 1e30 and tells_apart(problem.X, DEVIATIONS)):
        return _descend(backend, problem, objective, space)
    course = Course(problem)
    draft = _draft(course.part(), reach)
    single = space.astype(backend.xp, backend.xp.float32)
    run = make_run(draft)
    first = take_turns(backend, draft, single, run, _rehearsed(backend, draft, single), 0)
    sound = np.isfinite(first.theta).all(axis=1, keepdims=True)
    theta = np.where(sound, first.theta, problem.theta)
    rest = replace(course.part(first.n_iter), theta=theta)
    error = np.where(sound[:, 0], first.extra["error"], np.inf)
    return _joined(first, _descend(backend, rest, objective, space, error=error), course.ended)


class Course:
    """A problem that is solved in parts, whose monitors see one course of iterations."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.ended = np.zeros(problem.n_models, dtype=bool)  # by their monitor

    def part(self, n_iter=None) -> Problem:
        """The problem of what is left after ``n_iter`` (M,) iterations of each model."""
        whole = self.problem
        done = np.zeros(whole.n_models, dtype=int) if n_iter is None else n_iter
        left = np.maximum(whole.hyper["max_iter"] - done[:, None], 0)
        left[self.ended] = 0
        monitors = whole.monitors and [
            monitor and self._continued(m, monitor, int(done[m]))
            for m, monitor in enumerate(whole.monitors)
        ]
        return replace(whole, hyper={**whole.hyper, "max_iter": left}, monitors=monitors)

    def _continued(self, m: int, monitor, done: int):
        def call(iteration, theta, value):
            theta = theta.astype(self.problem.dtype, copy=False)
            self.ended[m] |= bool(monitor(done + iteration, theta, value))
            return self.ended[m]

        return call


def _large(problem: Problem) -> bool:
    """Whether passes over the rows are what an iteration costs."""
    return problem.X.shape[0] * problem.theta.shape[1] >= LARGE


def _draft(problem: Problem, reach: float) -> Problem:
    """The problem in single precision, down to a gradient safely above its rounding."""
    rounding = 4.0 * float(np.finfo("float32").eps) * reach
    tol = np.maximum(problem.hyper["tol"] - rounding, rounding)
    return replace(problem, dtype="float32", hyper={**problem.hyper, "tol": tol})


def _joined(first: Result, rest: Result, ended) -> Result:
    """The result of a descent in two parts; ``ended`` (M,) were told to stop."""
    curve = [a + b for a, b in zip(first.curve, rest.curve, strict=True)]
    n_fun = first.extra["n_fun"] + rest.extra["n_fun"]
    return replace(
        rest,
        n_iter=first.n_iter + rest.n_iter,
        converged=rest.converged | ended,
        curve=curve,
        extra={**rest.extra, "n_fun": n_fun},
    )


def _rehearsed(backend, problem: Problem, space):
    """The state after some iterations over every so many rows.

    A model that they mislead starts where it was to start, as do all where rows are few.
    """
    xp, theta = backend.xp, backend.asarray(problem.theta, problem.dtype)
    found = _rehearse(backend, problem, space, theta)
    objective = make_objective(backend, problem)
    if found is None:
        return State.start(xp, objective, space, objective.at(theta))
    value, rehearsed, history = found
    point = objective.at(rehearsed)
    misled = ~(point.value < value)
    if bool(xp.any(misled)):
        point = objective.at(xp.where(misled[:, None], theta, point.theta))
        history = History(*(xp.where(misled[:, None, None], 0.0, x) for x in history))
    return State.start(xp, objective, space, point, history)


def _rehearse(backend, problem: Problem, space, theta):
    """The objective at theta, and theta and history some iterations later, over a part of the rows.

    They do not count: a dozen of them take less than two over all rows. None where rows are few.
    There is no copy of all rows yet, and what the part takes is gone when there is.
    """
    xp, n = backend.xp, problem.X.shape[0]
    step = n // max(MIN_ROWS, 16 * problem.net.units[0])
    n_iter = min(REHEARSAL, int(problem.hyper["max_iter"].min()))
    if step < 3 or n_iter == 0 or problem.theta.any():
        return None
    weights = problem.row_weights()
    some = np.arange(n) if weights.shape[1] == 1 else np.flatnonzero(weights.any(axis=0))
    some = some[::step]
    weights = np.broadcast_to(weights, (weights.shape[0], n))[:, some]
    if not weights.any(axis=1).all():  # a model has none of these rows
        return None
    y = problem.y[..., some, :]
    part = replace(problem, X=problem.X[some], y=y, weights=weights, rows=None, monitors=None)
    run, sample = Run(part), make_objective(backend, part)
    state = State.start(xp, sample, space, sample.at(theta))
    value = state.point.value
    for iteration in range(n_iter):
        state = advance(backend, run, state, iteration)
    return value, state.point.theta, state.history


def _descend(backend, problem: Problem, objective, space, error=None) -> Result:
    """Walk from the problem's theta; ``error`` (M,) is what is known of the scores' error there."""
    theta, run = backend.asarray(problem.theta, problem.dtype), make_run(problem)
    if error is not None:
        run.error = error
    # Nobody else holds the start: its scores go when the walk leaves it.
    return take_turns(
        backend,
        problem,
        space,
        run,
        State.start(backend.xp, objective, space, objective.at(theta)),
        0,
    )


def make_run(problem: Problem) -> Run:
    """The bookkeeping, and how far a fit goes beyond a small gradient."""
    if problem.net.activations or not has_hessian(problem.net.loss):
        return Run(problem)
    large = _large(problem)
    return Run(problem, SHARE_LARGE if large else SHARE, any_step=large)


def take_turns(backend, problem: Problem, space, run: Run, state: State, iteration: int) -> Result:
    """Walk until every model has stopped: by L-BFGS, for linear models in turns with Newton.

    Newton's method needs the loss's Hessian: without one L-BFGS goes on alone. The state is of the
    models that have not stopped, the space of all.
    """
    xp = backend.xp
    alone = problem.net.activations or not has_hessian(problem.net.loss)
    turn = np.inf if alone else _handover(problem)
    first = True

    def walk():
        """Make ``turn`` iterations of L-BFGS, the first time until all gradients are small.

        It rebinds the state rather than returns one, so that no caller holds the scores of another.
        """
        nonlocal state, iteration
        end = iteration + turn
        while iteration < end:
            left = run.judge(backend, iteration, state.point)
            if left.size == 0 or (first and not run.any_step and run.met.all()):
                break
            if left.size < state.g.shape[0]:
                state = state.take(xp, backend.asarray(left))
            state = advance(backend, run, state, iteration)
            iteration += 1

    while True:
        walk()
        if run.models.size == 0:
            return run.result()
        objective, point, iteration = truncated_newton.walk(
            backend, state.objective, run, state.point, iteration
        )
        if run.models.size == 0:
            return run.result()
        left = space.take(xp, backend.asarray(run.models))
        state, first = State.start(xp, objective, left, point), False


def _handover(problem: Problem) -> int:
    """The iteration at which Newton's method takes over: the later, the more its blocks cost.

    Two thirds of the iterations at most go by before its turn.
    """
    n, p = problem.X.shape[0], problem.net.units[0]
    gram = p * p // (6 * n) if p <= MAX_FEATURES else 0
    late = HANDOVER + gram + (HANDOVER_LARGE if _large(problem) else 0)
    return min(late, max(HANDOVER, int(problem.hyper["max_iter"].min()) * 2 // 3))


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P = problem.X.shape[0], problem.theta.shape[1]
    units = sum(problem.net.units[1:])
    p = problem.net.units[0]
    basis = p * p if not problem.net.activations and p <= MAX_FEATURES else 0
    if not problem.net.activations and exact_newton.pays(problem):
        basis += 4 * P * P + n * units * (units + 1) / 2
    return np.dtype(problem.dtype).itemsize * (n * (8.0 * units + 2) + (2 * MEMORY + 8) * P + basis)


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    return FULL_BATCH, set()
