"""The algorithms, a folder for each family: ``solve(backend, problem) -> Result`` over a stack."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..problem import Problem, Result

__all__ = ["SOLVERS", "Solver", "get_solver"]


def passes_over_rows(problem: Problem) -> float:
    """Bytes that one model works on if its solver keeps scores and some vectors of parameters."""
    scores = problem.X.shape[0] * sum(problem.net.units[1:])
    return np.dtype(problem.dtype).itemsize * (8.0 * scores + 8.0 * problem.theta.shape[1])


class Solver(NamedTuple):
    """An algorithm and what it needs.

    Parameters
    ----------
    solve : callable
        ``solve(backend, problem) -> Result``.
    memory : callable, optional
        ``memory(problem) -> float``: bytes that one model of the stack works on; stacks are cut so
        that they fit.
    reads : callable, optional
        ``reads(problem) -> (hyper, options)``: the names of all hyper-parameters and options that
        it reads. Others are refused.
    needs : tuple of str, optional
        What it calls of a loss, as "hessian".
    """

    solve: Callable[[Any, Problem], Result]
    memory: Callable[[Problem], float] = passes_over_rows
    reads: Callable[[Problem], tuple[set[str], set[str]]] | None = None
    needs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Solver({self.solve.__module__}.{self.solve.__qualname__})"

    def check(self, problem: Problem) -> None:
        """Raise ValueError for a problem that does not fit, before anything is computed."""
        name, net = problem.solver, problem.net
        for part in self.needs:
            if net is not None and getattr(net.loss, part, None) is None:
                raise ValueError(
                    f"solver={name!r} needs a loss with {part}: {net.loss!r} has none."
                )
        if self.reads is None:
            return
        for kind, given, known in zip(
            ("hyper-parameter", "option"), (problem.hyper, problem.options), self.reads(problem)
        ):
            # How many threads there are is for whoever looks.
            for unknown in sorted(set(given) - set(known) - {"n_jobs"}):
                raise ValueError(
                    f"solver={name!r} has no {kind} {unknown!r}: it reads "
                    f"{', '.join(sorted(known)) or 'none'}."
                )


# Name in Problem.solver -> module here with `solve`, and perhaps `memory`, `reads` and `NEEDS`.
SOLVERS: dict[str, str | Solver] = {
    "minibatch": "minibatch.loop",
    "lbfgs": "full_batch.lbfgs",
    "lm": "full_batch.levenberg_marquardt",
    "newton": "full_batch.newton",
    "proximal": "full_batch.proximal",
    "perceptron": "perceptron.solve",
    "discriminant": "discriminant.solve",
}


def get_solver(name: str | Solver) -> Solver:
    """Look up a solver, or pass one on; modules are imported when first used."""
    if isinstance(name, Solver):
        return name
    if name not in SOLVERS:
        raise ValueError(f"solver={name!r} is unknown: there are {', '.join(SOLVERS)}.")
    solver = SOLVERS[name]
    if isinstance(solver, str):
        module = import_module(f".{solver}", __name__)
        found = {"memory": "memory", "reads": "reads", "needs": "NEEDS"}
        found = {key: getattr(module, at) for key, at in found.items() if hasattr(module, at)}
        solver = SOLVERS[name] = Solver(module.solve, **found)
    return solver
