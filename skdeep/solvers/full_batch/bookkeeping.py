"""The one loop of full-batch solvers, and the bookkeeping of a stack in it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ...interrupts import check
from ...problem import Problem, Result
from .objective import make_objective, take

# Iterations in which neither the objective nor the gradient's best size improved measurably, after
# which a model stops. It counts as converged if its gradient is at the rounding of its type.
PATIENCE = 10
# What is left of the scores' error where Newton's method ends, relative to the largest score and as
# a share of the tolerance. Within a tolerance of the gradient alone scores may be far off: any two
# ways to the optimum would end at different answers.
SHARE, SHARE_LARGE = 1e-3, 3.0
# A penalty is as good as none below this share of the largest curvature, X's size squared.
NEGLIGIBLE = float(np.finfo("float64").eps)

# The hyper-parameters that all full-batch solvers read.
FULL_BATCH = {"l2", "l2_intercept", "tol", "max_iter", "max_fun", "ftol"}
# What a run holds for each model on its way.
OWN = ("models", "value", "best", "idle", "failed", "met", "moved", "error")


def largest(backend, X) -> float:
    """The largest size of an entry."""
    return float(backend.largest(max(X.max(), -X.min())))


class Run:
    """A stack of models on their way: where those stand that go on, and what the others came to.

    A fit may have several stages, each with the problem in a form of its own (:meth:`enter`).
    Iterations, evaluations, curves and monitors go on through all of them.

    Parameters
    ----------
    backend : Backend
    problem : Problem
    share : float, optional
        Models whose gradient is within their tolerance go on until the error of their scores is
        within this share of it, as far as Newton's steps tell; see :meth:`note_newton`.
    any_step : bool, default=False
        Whether quasi-Newton steps may tell it too, as where that much is too dear to know.

    Attributes
    ----------
    models : ndarray of int
        Those on their way.
    objective : Objective
        Theirs.
    point : Point
        Where they stand. A step puts it further on.
    n_steps : int
        Iterations in this stage.
    n_fun : int
        Evaluations of the objective in this stage.
    settles : ndarray of bool of shape (n_models,)
        Those that ``share`` is for; a small gradient is enough for the others.
    singular : ndarray of bool of shape (n_models,)
        Those whose Hessian was singular.
    waiting : ndarray of bool of shape (n_models,)
        Those that wait for a stage. A step lets a model wait for the next one where it finds no way
        on: such an iteration is spent, but as in scikit-learn no part of ``n_iter``.
    """

    def __init__(self, backend, problem: Problem, share: float | None = None, any_step=False):
        M = problem.n_models
        # Stages read the rows where they are computed on, in whatever type.
        X = backend.place(problem.X, problem.dtype)
        problem = replace(problem, X=X, y=X if problem.y is problem.X else problem.y)
        self.backend, self.xp, self.problem = backend, backend.xp, problem
        self.n_models, self.share, self.any_step = M, share, any_step
        self.theta = np.array(problem.theta, dtype=problem.dtype)
        self.n_iter, self.in_vain, self.evaluations = np.zeros((3, M), dtype=int)
        self.converged, self.told = np.zeros((2, M), dtype=bool)
        self.waiting, self.singular = np.ones(M, dtype=bool), np.zeros(M, dtype=bool)
        self.loss, self.errors = np.zeros(M), np.full(M, np.inf)
        self.curve: list[list[float]] = [[] for _ in range(M)]
        self.settles = np.ones(M, dtype=bool)

    def enter(self, problem: Problem | None = None, error=None) -> None:
        """Begin a stage with the models that wait, from where they are.

        Parameters
        ----------
        problem : Problem, optional
            Another form of the problem, of another type or with other tolerances.
        error : ndarray of shape (M,), optional
            What is known of the error of all models' scores.
        """
        check()
        problem = self.problem if problem is None else problem
        self.models = np.flatnonzero(self.waiting)
        self.waiting[:] = False
        m = len(self.models)
        self.eps = float(np.finfo(problem.dtype).eps)
        self.limits = self._limits(problem)
        self.n_steps, self.n_fun = 0, 1
        self.value, self.best = np.full((2, m), np.inf)
        self.idle, (self.failed, self.met) = np.zeros(m, dtype=int), np.zeros((2, m), dtype=bool)
        self.begin_newton()
        if error is not None:
            self.error = error[self.models]
        # Nothing of the stage before is held while this one is loaded.
        self.objective = self.point = None
        part = problem if m == self.n_models else problem.take(self.models)
        self.objective = make_objective(self.backend, part)
        theta = self.backend.asarray(self.theta[self.models], problem.dtype)
        self.point = self.objective.at(theta)
        self.judge()

    def _limits(self, problem: Problem) -> dict[str, np.ndarray]:
        """Where models stop, each of shape (M,)."""
        hyper, M = problem.hyper, self.n_models
        limits = {name: hyper[name][:, 0] for name in ("tol", "max_iter")}
        for name, default in (("max_fun", np.inf), ("ftol", -np.inf)):
            limits[name] = np.broadcast_to(hyper.get(name, default), (M, 1))[:, 0]
        if self.share is not None:
            error = np.maximum(self.share * limits["tol"], 100.0 * self.eps)
            limits["error"] = np.where(self.settles, error, np.inf)
        else:
            limits["error"] = np.full(M, np.inf)
        penalty = hyper["l2"] + hyper.get("l1", 0.0)
        return limits | {"penalty": np.broadcast_to(penalty, (M, 1))[:, 0]}

    @cached_property
    def size(self) -> float:
        """The largest size of an entry of X; a pass over it."""
        return largest(self.backend, self.problem.X)

    @property
    def scale(self) -> float:
        """What entries of a gradient are of the order of, at most: those of X, or one."""
        return max(self.size, 1.0)

    def unpenalised(self):
        """Which models (M,) have no penalty that tells."""
        return self.limits["penalty"] <= NEGLIGIBLE * self.scale**2

    def limit(self, name: str):
        """A limit of the models on their way."""
        return self.limits[name][self.models]

    def measure(self) -> tuple[Any, Any]:
        """The objective, and what vanishes at its minimum, where the models stand."""
        return self.point.value, self.point.grad

    def judge(self, state: Any = None) -> Any:
        """Take in where the models stand, and let go of those that stop.

        Parameters
        ----------
        state : named tuple of arrays, optional
            What a method carries from step to step.

        Returns
        -------
        state
            Of the models that go on.
        """
        xp, models = self.xp, self.models
        value, grad = self.measure()
        size = xp.max(xp.abs(grad), axis=1)
        value, size = self.backend.to_numpy(xp.stack([value, size])).astype("float64")
        scale = np.maximum(np.maximum(np.abs(value), np.abs(self.value)), 1.0)
        fall = (self.value - value) / scale
        # Below its rounding a gradient comes and goes.
        less = (size < 0.99 * self.best) & (self.best > 4.0 * self.eps)
        self.idle = np.where((fall > 4.0 * self.eps) | less, 0, self.idle + 1)
        self.best = np.minimum(self.best, size)
        self.value = value

        idle = self.idle >= PATIENCE
        met = (size <= self.limit("tol")) | (fall <= self.limit("ftol"))
        if idle.any():
            met |= idle & (size <= self.eps**0.5 * self.scale)
        if self.n_steps > 0:
            self._report()
        told = self.told[models]
        self.met = met | told
        stop = (met & self.settled()) | idle | self.failed | told | ~np.isfinite(size)
        spent = self.n_iter[models] + self.in_vain[models] + self.n_steps
        stop |= spent >= self.limit("max_iter")
        stop |= self.evaluations[models] + self.n_fun >= self.limit("max_fun")
        return self._let_go(stop, state) if stop.any() else state

    def _let_go(self, stop, state):
        """Write down what models came to; the state of the others."""
        done = self.models[stop]
        self.theta[done] = self.backend.to_numpy(self.point.theta)[stop]
        self.n_iter[done] += self.n_steps - self.waiting[done]
        self.in_vain[done] += self.waiting[done]
        self.evaluations[done] += self.n_fun
        self.loss[done], self.converged[done] = self.value[stop], self.met[stop]
        self.errors[done] = self.error[stop]
        for name in OWN:
            setattr(self, name, getattr(self, name)[~stop])
        if self.models.size == 0:
            return state
        left = self.backend.asarray(np.flatnonzero(~stop))
        self.objective, self.point = (take(self.xp, x, left) for x in (self.objective, self.point))
        return take(self.xp, state, left)

    def settled(self):
        """Whether the scores are as near to the optimum as asked for, or as rounding allows."""
        return (self.error <= self.limit("error")) | (self.idle > 1)

    def begin_newton(self) -> None:
        """Forget Newton's steps: what comes next starts anywhere."""
        self.moved = np.full(len(self.models), np.inf)
        self.error = np.full(len(self.models), np.inf)

    def note_newton(self, moved, step, order: int, least: float = 0.0) -> None:
        """Estimate the error of the scores from how Newton's steps contract.

        Parameters
        ----------
        moved : array of shape (M,)
            How far a whole step moves the scores, relative to the largest.
        step : array of shape (M,)
            The share of it that was gone.
        order : int
            2 where each error is of the order of the square of the one before, else 1.
        least : float, default=0.0
            A rate of contraction below which there is no relying on: what directions are exact to.

        References
        ----------
        Hairer & Wanner (1996), Solving Ordinary Differential Equations II, section IV.8.
        """
        rate = np.where(np.isfinite(self.moved), np.maximum(moved / self.moved, least), 1.0)
        rest = np.where(rate < 1.0, rate**order / (1.0 - rate), np.inf)
        self.error = np.where(moved > 0, moved * (np.abs(1.0 - step) + rest), 0.0)
        # Without a penalty that tells there need be no optimum: scores that grow do not settle.
        growing = np.isfinite(self.moved) & (rate > 0.5)
        if growing.any():
            self.error = np.where(growing & self.unpenalised()[self.models], 0.0, self.error)
        self.moved = moved

    def _report(self) -> None:
        """Lengthen the curves, and show parameters to monitors, which may end a fit."""
        monitors = self.problem.monitors or [None] * self.n_models
        theta = None
        for i, (model, value) in enumerate(zip(self.models, self.value, strict=True)):
            if self.waiting[model]:
                continue
            self.curve[model].append(float(value))
            if monitors[model] is not None:
                if theta is None:
                    theta = self.backend.to_numpy(self.point.theta).astype(self.problem.dtype)
                n_iter = int(self.n_iter[model]) + self.n_steps
                self.told[model] = bool(monitors[model](n_iter, theta[i], value))

    def note_failure(self, ok, slope, steepest=True) -> None:
        """Stop models that find no lower point in the best direction they have.

        Where the decrease to expect is below the rounding of the objective they have come to rest.
        """
        ok, slope = self.backend.to_numpy(ok), self.backend.to_numpy(slope).astype("float64")
        self.failed |= ~ok & steepest
        rounding = 100.0 * self.eps * np.maximum(np.abs(self.value), 1.0)
        self.idle = np.where(~ok & steepest & (-slope <= rounding), PATIENCE, self.idle)

    def result(self) -> Result:
        return Result(
            theta=self.theta,
            n_iter=self.n_iter,
            loss=self.loss,
            converged=self.converged,
            curve=self.curve,
            extra={"n_fun": self.evaluations, "singular": self.singular},
        )


def iterate(
    run: Run, step: Callable, state: Any = None, enough: Callable[[Run], bool] | None = None
) -> Any:
    """Make steps until no model is left on its way, or it is enough.

    Parameters
    ----------
    run : Run
    step : callable
        ``step(run, state) -> state`` puts ``run.point`` further on.
    state : named tuple of arrays, optional
        What the method carries from step to step. All lead with the model axis, but for fields
        that its attribute ``shared`` names.
    enough : callable, optional
        Whether another method is to go on from there.

    Returns
    -------
    state
    """
    while run.models.size and not (enough and enough(run)):
        state = step(run, state)
        run.n_steps += 1
        state = run.judge(state)
    return state
