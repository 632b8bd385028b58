"""Many problems as few: group what can share a stack, solve each stack, hand the results back."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from .problem import Problem, Result
from .processes import agree, refuse
from .solvers import get_solver

__all__ = ["solve_many", "solve_stack", "stack", "unstack"]


# Solvers that sum over processes.
SUMMING = {"minibatch", "lbfgs", "lm", "newton", "proximal", "discriminant"}


def shared(processes, problem: Problem) -> Problem:
    """The problem as part of one that several processes solve together.

    Raises
    ------
    ValueError
        If they cannot, or if their problems differ in more than rows.
    """
    if processes.size == 1:
        return problem
    if problem.solver not in SUMMING:
        refuse(f"solver={problem.solver!r} cannot be used", "it does not sum over processes.")
    if problem.monitors or problem.checkpoint:
        refuse("callbacks cannot be used", "they would run in each process.")
    theirs = processes.gather((problem.X.shape[0], _signature(problem)))
    for name in theirs[0][1]:
        agree(name, [signature[name] for _, signature in theirs])
    return replace(problem, elsewhere=sum(n for n, _ in theirs) - problem.X.shape[0])


def _signature(problem: Problem) -> dict:
    """What must be the same in all processes, by name."""
    plain = {k: v for k, v in problem.options.items() if isinstance(v, str | int | float)}
    return {
        "solver and dtype": (problem.solver, problem.dtype),
        "the number of features": problem.X.shape[1],
        "whether X is sparse": hasattr(problem.X, "toarray"),
        "the number of outputs": problem.y.shape[-1],
        "numeric parameters": {k: v.tobytes() for k, v in problem.hyper.items()},
        "parameters": plain,
        "whether there is sample_weight": problem.weights is None,
        "whether there are rows to validate on": problem.validation is None,
        "where the fit starts": sha256(problem.theta.tobytes()).digest(),
    }


def _key(problem: Problem):
    """What the models of a stack must have in common."""
    return (
        problem.solver,
        problem.net,
        problem.dtype,
        id(problem.X),
        problem.y.shape[-2:],
        problem.theta.shape[1],
        frozenset(problem.hyper),
        frozenset(problem.options.items()),
        problem.rngs is None,
        problem.validation is None,
        id(problem.checkpoint),  # a file is of one problem
    )


def _rows_of(problem: Problem) -> list:
    return problem.rows or [np.arange(problem.X.shape[0])] * problem.n_models


def _weights_of(problem: Problem) -> np.ndarray:
    shape = (problem.n_models, problem.X.shape[0])
    weights = np.ones(shape) if problem.weights is None else problem.weights
    return np.broadcast_to(weights, shape)


def _of_each(values: np.ndarray, n: int) -> np.ndarray:
    """Values that lead with n models, or with one for all of them."""
    return values if len(values) == n else np.broadcast_to(values, (n, *values.shape[1:]))


def _shared(problems, name: str, ndim: int) -> bool:
    """Whether all problems hold one array, or none, that leads with the rows."""
    array = getattr(problems[0], name)
    return (array is None or array.ndim == ndim) and all(
        getattr(problem, name) is array for problem in problems
    )


def _chain(problems, name: str) -> list | None:
    """Concatenate a per-model list, None standing for M times None."""
    lists = [getattr(problem, name) for problem in problems]
    if all(item is None for item in lists):
        return None
    return [x for p, item in zip(problems, lists, strict=True) for x in item or [None] * p.n_models]


def stack(problems: Sequence[Problem]) -> Problem:
    """One problem with the models of all; they must have the same key."""
    first = problems[0]
    if len(problems) == 1:
        return first
    y, weights = first.y, first.weights
    if not _shared(problems, "y", 2):
        y = np.concatenate(
            [np.broadcast_to(p.y, (p.n_models, *p.y.shape[-2:])) for p in problems], axis=0
        )
    if not _shared(problems, "weights", 1):
        weights = np.concatenate([_weights_of(p) for p in problems])
    chosen = any(problem.rows is not None for problem in problems)
    return replace(
        first,
        y=y,
        theta=np.concatenate([problem.theta for problem in problems]),
        hyper={
            name: np.concatenate([_of_each(p.hyper[name], p.n_models) for p in problems])
            for name in first.hyper
        },
        weights=weights,
        rows=[rows for p in problems for rows in _rows_of(p)] if chosen else None,
        rngs=_chain(problems, "rngs"),
        validation=_chain(problems, "validation"),
        states=_chain(problems, "states"),
        monitors=_chain(problems, "monitors"),
    )


def unstack(result: Result, sizes: Sequence[int]) -> list[Result]:
    """Results of consecutive groups of models of the given sizes."""
    stops = np.cumsum(sizes)
    return [_take_result(result, slice(b - n, b)) for b, n in zip(stops, sizes, strict=True)]


def _take_result(result: Result, models: slice) -> Result:
    def cut(items):
        return None if items is None else items[models]

    return Result(
        theta=result.theta[models],
        n_iter=result.n_iter[models],
        loss=result.loss[models],
        converged=result.converged[models],
        curve=cut(result.curve),
        states=cut(result.states),
        extra={name: values[models] for name, values in result.extra.items()},
    )


def _join(results: Sequence[Result]) -> Result:
    def chain(name):
        lists = [getattr(result, name) for result in results]
        return None if lists[0] is None else [item for items in lists for item in items]

    def concatenate(arrays):
        return np.concatenate(list(arrays))

    return Result(
        theta=concatenate(r.theta for r in results),
        n_iter=concatenate(r.n_iter for r in results),
        loss=concatenate(r.loss for r in results),
        converged=concatenate(r.converged for r in results),
        curve=chain("curve"),
        states=chain("states"),
        extra={name: concatenate(r.extra[name] for r in results) for name in results[0].extra},
    )


def solve_stack(backend, problem: Problem, max_memory: float = float("inf")) -> Result:
    """Solve a stack in pieces that each work on at most ``max_memory`` bytes.

    One that is written down is a single piece.
    """
    solver = get_solver(problem.solver)
    solver.check(problem)
    at_once = max(1, int(min(max_memory / max(solver.memory(problem), 1.0), problem.n_models)))
    if at_once >= problem.n_models or problem.checkpoint is not None:
        return solver.solve(backend, problem)
    starts = range(0, problem.n_models, at_once)
    return _join([solver.solve(backend, problem.take(slice(i, i + at_once))) for i in starts])


@np.errstate(all="ignore")  # of numbers that overflow the results tell
def solve_many(
    backend, problems: Sequence[Problem], max_memory: float = float("inf")
) -> list[Result]:
    """Solve problems of any kinds, those alike as one stack; results come in the given order."""
    problems = [shared(backend.processes, problem) for problem in problems]
    groups = defaultdict(list)
    for i, problem in enumerate(problems):
        groups[_key(problem)].append(i)
    results: list = [None] * len(problems)
    for members in groups.values():
        together = [problems[i] for i in members]
        result = solve_stack(backend, stack(together), max_memory)
        parts = unstack(result, [problem.n_models for problem in together])
        for i, part in zip(members, parts, strict=True):
            results[i] = part
    return results
