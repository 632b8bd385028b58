"""The bookkeeping of full-batch solvers."""

from functools import cached_property

import numpy as np

from ...interrupts import check
from ...problem import Problem, Result

# Iterations in which neither the objective nor the gradient's best size improved measurably, after
# which a model stops. It counts as converged if its gradient is at the rounding of its type.
PATIENCE = 10
# What is left of the scores' error where Newton's method ends, relative to the largest score and as
# a share of the tolerance. Within a tolerance of the gradient alone scores may be far off: any two
# ways to the optimum would end at different answers.
SHARE, SHARE_LARGE = 1e-3, 3.0
# A penalty is as good as none below this share of the largest curvature, X's size squared.
NEGLIGIBLE = float(np.finfo("float64").eps)


# What all full-batch solvers read.
FULL_BATCH = {"l2", "l2_intercept", "tol", "max_iter", "max_fun", "ftol", "settles"}


def largest(X) -> float:
    """The largest size of an entry."""
    return float(max(X.max(), -X.min()))


class Run:
    """The bookkeeping of a stack on the host: who goes on, who has stopped and with what.

    Parameters
    ----------
    problem : Problem
    share : float, optional
        Models whose gradient is within their tolerance go on until the error of their scores is
        within this share of it, as far as Newton's steps tell; see :meth:`note_newton`.
    any_step : bool, default=False
        Whether quasi-Newton steps may tell it too, as where that much is too dear to know.
    """

    def __init__(self, problem: Problem, share: float | None = None, any_step: bool = False):
        check()
        M = problem.n_models
        hyper = {name: problem.hyper[name][:, 0] for name in ("tol", "max_iter")}
        for name, default in (("max_fun", np.inf), ("ftol", -np.inf)):
            hyper[name] = np.broadcast_to(problem.hyper.get(name, default), (M, 1))[:, 0]
        self.hyper = hyper
        self.any_step = any_step
        self.problem = problem
        self.eps = float(np.finfo(problem.dtype).eps)
        self.n_models = M
        self.models = np.arange(M)  # those still walking
        self.n_fun = 1
        self.value = np.full(M, np.inf)
        self.best = np.full(M, np.inf)
        self.idle = np.zeros(M, dtype=int)
        self.failed = np.zeros(M, dtype=bool)
        self.met = np.zeros(M, dtype=bool)
        error = np.inf if share is None else np.maximum(share * hyper["tol"], 100.0 * self.eps)
        settles = np.broadcast_to(problem.hyper.get("settles", True), (M, 1))[:, 0]
        self.hyper["error"] = np.where(settles, error, np.inf)
        penalty = problem.hyper["l2"] + problem.hyper.get("l1", 0.0)
        self.hyper["penalty"] = np.broadcast_to(penalty, (M, 1))[:, 0]
        self.begin_newton()
        self.theta = np.array(problem.theta, dtype=problem.dtype)
        self.n_iter = np.zeros(M, dtype=int)
        self.loss = np.zeros(M)
        self.converged = np.zeros(M, dtype=bool)
        self.evaluations = np.zeros(M, dtype=int)
        self.errors = np.full(M, np.inf)
        self.curve: list[list[float]] = [[] for _ in range(M)]

    @cached_property
    def reach(self) -> float:
        """What entries of a gradient are of the order of, at most: those of X, or one."""
        return max(largest(self.problem.X), 1.0)

    def tol(self):
        """The tolerances of the models still walking."""
        return self.hyper["tol"][self.models]

    def judge(self, backend, iteration, point):
        """Take in where the models stand; positions in the stack of those that go on."""
        xp, models = backend.xp, self.models
        steepest = xp.max(xp.abs(point.grad), axis=1)
        value, size = backend.to_numpy(xp.stack([point.value, steepest])).astype("float64")
        tol, ftol, max_iter, max_fun = (
            self.hyper[name][models] for name in ("tol", "ftol", "max_iter", "max_fun")
        )
        scale = np.maximum(np.maximum(np.abs(value), np.abs(self.value)), 1.0)
        fall = (self.value - value) / scale
        # Below its rounding a gradient comes and goes.
        less = (size < 0.99 * self.best) & (self.best > 4.0 * self.eps)
        self.idle = np.where((fall > 4.0 * self.eps) | less, 0, self.idle + 1)
        self.best = np.minimum(self.best, size)
        self.value = value

        idle = self.idle >= PATIENCE
        met = (size <= tol) | (fall <= ftol)
        if idle.any():
            met |= idle & (size <= self.eps**0.5 * self.reach)
        self.met = met
        stop = (met & self.settled()) | idle | self.failed | ~np.isfinite(size)
        stop |= (iteration >= max_iter) | (self.n_fun >= max_fun)
        if iteration > 0:
            for model, loss in zip(models, value, strict=True):
                self.curve[model].append(float(loss))
            told = self._monitor(backend, iteration, point)
            met, stop = met | told, stop | told
        if stop.any():
            done = models[stop]
            self.theta[done] = backend.to_numpy(point.theta)[stop]
            self.n_iter[done], self.loss[done], self.converged[done] = (
                iteration,
                value[stop],
                met[stop],
            )
            self.evaluations[done], self.errors[done] = self.n_fun, self.error[stop]
            for name in ("models", "value", "best", "idle", "failed", "met", "moved", "error"):
                setattr(self, name, getattr(self, name)[~stop])
        return np.flatnonzero(~stop)

    def settled(self):
        """Whether the scores are as near to the optimum as asked for, or as rounding allows."""
        return (self.error <= self.hyper["error"][self.models]) | (self.idle > 1)

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
            free = self.hyper["penalty"][self.models] <= NEGLIGIBLE * self.reach**2
            self.error = np.where(growing & free, 0.0, self.error)
        self.moved = moved

    def _monitor(self, backend, iteration, point):
        if self.problem.monitors is None:
            return False
        thetas, monitors = (
            backend.to_numpy(point.theta),
            [self.problem.monitors[m] for m in self.models],
        )
        return np.asarray(
            [
                monitor is not None and bool(monitor(iteration, theta, value))
                for monitor, theta, value in zip(monitors, thetas, self.value, strict=True)
            ]
        )

    def note_failure(self, backend, ok, slope, steepest=True):
        """Stop models that find no lower point in the best direction they have.

        Where the decrease to expect is below the rounding of the objective they have come to rest.
        """
        ok, slope = backend.to_numpy(ok), backend.to_numpy(slope).astype("float64")
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
            extra={"n_fun": self.evaluations, "error": self.errors},
        )
