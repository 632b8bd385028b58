"""The algorithms, one a file: ``solve(backend, problem) -> Result`` over a stack of models."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from ..problem import Problem, Result


class Solver(NamedTuple):
    """An algorithm and what it needs.

    Parameters
    ----------
    solve : callable
        ``solve(backend, problem) -> Result``.
    memory : callable
        ``memory(problem) -> float``: bytes that one model of the stack works on; stacks are cut so
        that they fit.
    """

    solve: Callable[[Any, Problem], Result]
    memory: Callable[[Problem], float]


# Name in Problem.solver -> module here with functions `solve` and `memory`.
SOLVERS: dict[str, str | Solver] = {
    "minibatch": "minibatch",
    "lbfgs": "lbfgs",
    "lm": "lm",
    "newton": "newton",
    "proximal": "proximal",
    "perceptron": "perceptron",
    "discriminant": "discriminant",
}


def get_solver(name: str) -> Solver:
    """Look up a solver; modules are imported when first used."""
    solver = SOLVERS[name]
    if isinstance(solver, str):
        module = import_module(f".{solver}", __name__)
        solver = SOLVERS[name] = Solver(module.solve, module.memory)
    return solver
