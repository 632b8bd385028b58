"""The models in training: their parameters and slots on the device."""

from typing import NamedTuple

import numpy as np

from ...problem import Problem
from .plan import optimizer_of
from .training import Trainings


class Left(NamedTuple):
    """Models that have ended, as they were then: on the device, until somebody asks."""

    models: np.ndarray
    arrays: list


class Stack:
    """The models of a problem that train on.

    Where shapes are fixed, those that end stay in the stack, unheeded, until half of it has ended.

    Attributes
    ----------
    models : int array of shape (M,)
    live : bool array of shape (M,)
        Which of them train on.
    theta : array of shape (M, P)
    slots : list of arrays of shape (M, P)
    step : float array of shape (M, 1)
    """

    def __init__(self, backend, problem: Problem, trainings: Trainings):
        self.backend, self.xp, self.trainings = backend, backend.xp, trainings
        dtype, M = problem.dtype, problem.n_models
        self.models, self.live = np.arange(M), np.ones(M, dtype=bool)
        self.left: list[Left] = []
        # A copy: the optimizer may work in place.
        self.theta = backend.asarray(np.array(problem.theta, dtype=dtype), dtype)
        self.slots = [self._slot(i, dtype) for i in range(optimizer_of(problem).slots)]
        self.step = trainings.step[:, None].astype(float)
        # Whose best there is: a warm start that finds no better score ends where it ends.
        self.known = np.array([best is not None for best in trainings.best_theta])
        self.best = None
        if problem.options["early_stopping"]:
            best = zip(trainings.best_theta, problem.theta, strict=True)
            best = [theta if b is None else b for b, theta in best]
            self.best = backend.asarray(np.array(best, dtype=dtype), dtype)

    def _slot(self, i: int, dtype: str):
        """What earlier trainings have left in a slot, zeros where there is none."""
        earlier = self.trainings.slots
        if not any(map(len, earlier)):
            return self.xp.zeros_like(self.theta)
        zeros = np.zeros(self.theta.shape[1])
        slots = np.stack([slots[i] if len(slots) else zeros for slots in earlier])
        return self.backend.asarray(slots, dtype)

    @property
    def arrays(self) -> list:
        """All that belongs to the models, each with an axis of them."""
        return [self.theta, *self.slots] + ([] if self.best is None else [self.best])

    def nothing(self):
        """Zeros of shape (M,)."""
        return self.xp.zeros_like(self.theta[:, 0])

    def end(self, ended: np.ndarray) -> bool:
        """Let go of models, a mask of shape (M,); whether the stack has become another."""
        self.left.append(Left(self.models[ended], self._some(ended)))
        self.live &= ~ended
        if self.backend.fixed_shapes and 2 * self.live.sum() > len(self.live):
            return False
        self.keep(self.live)
        return True

    def keep(self, going: np.ndarray) -> None:
        """Leave no others in the stack."""
        self.theta, *slots = self._some(going)
        if self.best is not None:
            self.best = slots.pop()
        self.slots = slots
        self.models, self.step, self.live = self.models[going], self.step[going], self.live[going]

    def _some(self, which: np.ndarray) -> list:
        """The arrays of some models, a mask of shape (M,): of all and of none, no copies."""
        if which.all() or not which.any():
            return [array if which.all() else array[:0, :] for array in self.arrays]
        index = self.backend.asarray(np.flatnonzero(which))
        return [self.xp.take(array, index, axis=0) for array in self.arrays]

    def snapshot(self) -> list:
        return [self.xp.asarray(array, copy=True) for array in (self.theta, *self.slots)]

    def restore(self, before: list, still) -> None:
        """Undo what has happened to some of the models, a mask of shape (M, 1)."""
        self.theta, *self.slots = (
            self.xp.where(still, old, new)
            for old, new in zip(before, (self.theta, *self.slots), strict=True)
        )

    def remember(self, better: np.ndarray) -> None:
        """Keep the parameters of models that are better than before, a mask of shape (M,)."""
        self.known[self.models[better]] = True
        if better.all():
            self.best = self.xp.asarray(self.theta, copy=True)
        elif better.any():
            mask = self.backend.asarray(better[:, None])
            self.best = self.xp.where(mask, self.theta, self.best)

    def theta_of(self, i: int) -> np.ndarray:
        return np.array(self.backend.to_numpy(self.theta[i, :]))

    def collect(self, theta: np.ndarray) -> None:
        """Write the parameters into theta (n_models, P), and leave with each model its own."""
        here = [self.backend.to_numpy(array)[self.live] for array in self.arrays]
        for models, arrays in (*self.left, Left(self.models[self.live], here)):
            own, *slots = (self.backend.to_numpy(array) for array in arrays)
            theta[models] = own
            best = None if self.best is None else slots.pop()
            for i, m in enumerate(models):
                self.trainings.slots[m] = np.array([slot[i] for slot in slots])
                if best is not None and self.known[m]:
                    self.trainings.best_theta[m] = np.array(best[i])
        self.trainings.step[self.models[self.live]] = self.step[self.live, 0]
