"""How far a model has been trained: its counters, its record, and when it is done."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...problem import Problem
from ...schedules import Progress


@dataclass(eq=False)
class Training:
    """The training of one model, and what it takes to go on.

    ``samples`` counts rows, ``stalled`` epochs without improvement, ``plateaus`` how often they
    were too many; ``seed`` is that of its random numbers; ``history`` holds a list per quantity.
    What leaves the solver, to be kept in estimators and files, is a dictionary of arrays, numbers
    and lists.
    """

    slots: Sequence = ()
    step: int = 0
    epoch: int = 0
    samples: int = 0
    plateaus: int = 0
    stalled: int = 0
    learning_rate: float = 0.0
    best_loss: float = np.inf
    best_score: float = -np.inf
    best_theta: np.ndarray | None = None
    seed: int | None = None
    history: dict = field(default_factory=dict)

    @classmethod
    def resume(cls, state: dict | None) -> "Training":
        """The training that left this state; it leaves the state as it is. None is a new one."""
        training = cls(**(state or {}))
        training.history = {name: list(values) for name, values in training.history.items()}
        return training

    def state(self) -> dict:
        return dict(vars(self))

    def record(self, **values) -> None:
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)


def restarted(state: dict | None) -> dict | None:
    """The same training under a new optimizer, as a warm start begins it."""
    # As in scikit-learn, a warm start that finds no better score ends where it ends.
    anew = {"slots": (), "step": 0, "epoch": 0, "plateaus": 0, "best_theta": None}
    return state and {**state, **anew}


def without_records(state: dict) -> dict:
    """A state without what the estimator shows by other names, or needs no more."""
    return {name: state[name] for name in state.keys() - {"history", "best_theta"}}


def scheduled(schedule, initial, total, trainings, step, n_steps: int) -> np.ndarray:
    """Rates of shape (n_steps, M, k) for the epoch to come.

    ``initial`` (M, k) are the first ones; ``total`` (M, 1) epochs are planned, of which ``step``
    (M, 1) steps have been made.
    """

    def column(name):
        return np.array([[float(getattr(t, name))] for t in trainings])

    progress = Progress(
        step=step + np.arange(n_steps, dtype=float)[:, None, None],
        epoch=column("epoch"),
        # A new optimizer starts from the initial rate, however many rows came before it.
        samples=np.where(column("epoch") > 0, column("samples"), 0.0),
        plateaus=column("plateaus"),
        total=total * n_steps,
    )
    return np.broadcast_to(schedule(initial, progress), (n_steps, *initial.shape))


def rate_now(problem: Problem, training: Training, m: int, n_steps: int) -> float:
    """The rate of the next step of model m."""
    total = problem.hyper["planned_epochs"][m, 0] * n_steps
    samples = training.samples if training.epoch else 0
    progress = Progress(training.step, training.epoch, samples, training.plateaus, total)
    return float(problem.options["schedule"](problem.hyper["learning_rate_init"][m, 0], progress))


def note_progress(problem: Problem, training: Training, m: int, loss, score) -> bool:
    """Count the epochs without improvement; whether the score is the best so far."""
    tol = problem.hyper["tol"][m, 0]
    if score is None:
        training.stalled = training.stalled + 1 if loss > training.best_loss - tol else 0
        training.best_loss = min(training.best_loss, loss)
        return False
    training.stalled = training.stalled + 1 if score < training.best_score + tol else 0
    better = score > training.best_score
    training.best_score = score if better else training.best_score
    return better


def finished(problem: Problem, training: Training, m: int, n_steps: int) -> bool:
    """Whether model m has met the stopping rule; some schedules lower the rate first."""
    schedule = problem.options["schedule"]
    patience = getattr(schedule, "patience", None) or problem.hyper["n_iter_no_change"][m, 0]
    if training.stalled <= patience:
        return False
    what = "Validation score" if problem.options["early_stopping"] else "Training loss"
    reason = (
        f"{what} did not improve "
        f"more than tol={problem.hyper['tol'][m, 0]:f} for {patience:g} consecutive epochs."
    )
    survives = getattr(schedule, "survives_plateau", None)
    if survives is None or not survives(training.learning_rate):
        too_small = "" if survives is None else " Learning rate too small."
        say(problem, f"{reason}{too_small} Stopping.")
        return True
    training.plateaus += 1
    training.stalled = 0
    training.learning_rate = rate_now(problem, training, m, n_steps)
    say(problem, f"{reason} Setting learning rate to {training.learning_rate:f}")
    return False


def say(problem: Problem, text: str) -> None:
    if problem.options["verbose"]:
        print(text)


class Clock:
    """Seconds since it was last asked."""

    def __init__(self):
        self.last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        return passed
