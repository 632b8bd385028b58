"""The bookkeeping of full-batch solvers."""

from functools import cached_property

import numpy as np

from ..interrupts import check
from ..problem import Problem, Result

# Iterations in which neither the objective nor the gradient's best size improved measurably, after
# which a model stops. It counts as converged if its gradient is at the rounding of its type.
PATIENCE = 10


def largest(X) -> float:
    """The largest size of an entry."""
    return float(max(X.max(), -X.min()))


class Run:
    """The bookkeeping of a stack on the host: who goes on, who has stopped and with what."""

    def __init__(self, problem: Problem):
        check()
        M = problem.n_models
        hyper = {name: problem.hyper[name][:, 0] for name in ("tol", "max_iter")}
        for name, default in (("max_fun", np.inf), ("ftol", -np.inf)):
            hyper[name] = np.broadcast_to(problem.hyper.get(name, default), (M, 1))[:, 0]
        self.hyper = hyper
        self.problem = problem
        self.eps = float(np.finfo(problem.dtype).eps)
        self.n_models = M
        self.models = np.arange(M)  # those still walking
        self.n_fun = 1
        self.value = np.full(M, np.inf)
        self.best = np.full(M, np.inf)
        self.idle = np.zeros(M, dtype=int)
        self.failed = np.zeros(M, dtype=bool)
        self.theta = np.array(problem.theta, dtype=problem.dtype)
        self.n_iter = np.zeros(M, dtype=int)
        self.loss = np.zeros(M)
        self.converged = np.zeros(M, dtype=bool)
        self.evaluations = np.zeros(M, dtype=int)
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
        with np.errstate(invalid="ignore"):
            fall = (self.value - value) / scale
        self.idle = np.where((fall > 4.0 * self.eps) | (size < 0.99 * self.best), 0, self.idle + 1)
        self.best = np.minimum(self.best, size)
        self.value = value

        idle = self.idle >= PATIENCE
        met = (size <= tol) | (fall <= ftol)
        if idle.any():
            met |= idle & (size <= self.eps**0.5 * self.reach)
        stop = met | idle | self.failed | ~np.isfinite(size) | (iteration >= max_iter)
        stop |= self.n_fun >= max_fun
        if iteration > 0:
            for model, loss in zip(models, value, strict=True):
                self.curve[model].append(float(loss))
            met |= self._monitor(backend, iteration, point)
            stop |= met
        if stop.any():
            done = models[stop]
            self.theta[done] = backend.to_numpy(point.theta)[stop]
            self.n_iter[done], self.loss[done], self.converged[done] = (
                iteration,
                value[stop],
                met[stop],
            )
            self.evaluations[done] = self.n_fun
            for name in ("models", "value", "best", "idle", "failed"):
                setattr(self, name, getattr(self, name)[~stop])
        return np.flatnonzero(~stop)

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
            extra={"n_fun": self.evaluations},
        )
