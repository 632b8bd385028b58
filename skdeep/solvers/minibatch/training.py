"""How far models have been trained: their counters, their records, and when they are done."""

import time

import numpy as np

from ...problem import Problem
from ...schedules import Progress

# What is counted of each model, and from where.
COUNTERS = {
    "step": 0,
    "epoch": 0,
    "samples": 0,
    "plateaus": 0,
    "stalled": 0,
    "learning_rate": 0.0,
    "best_loss": np.inf,
    "best_score": -np.inf,
}
# What else it takes to go on.
OTHERS = {"slots": (), "best_theta": None, "seed": None}


class Trainings:
    """The training of each model of a problem, and what it takes to go on.

    What leaves the solver, to be kept in estimators and files, is a dictionary of arrays, numbers
    and lists for each.

    Parameters
    ----------
    states : list of M dicts or None
        What earlier trainings have left, which stays as it is; None is a new one.

    Attributes
    ----------
    step, epoch, samples, plateaus, stalled : int arrays of shape (M,)
        ``samples`` counts rows, ``stalled`` epochs without improvement, ``plateaus`` how often they
        were too many.
    learning_rate, best_loss, best_score : arrays of shape (M,)
    slots, best_theta, seed : lists of M
        ``seed`` is that of a model's random numbers.
    """

    def __init__(self, states: list):
        states = [state or {} for state in states]
        for name, start in COUNTERS.items():
            values = [state.get(name, start) for state in states]
            setattr(self, name, np.array(values, dtype=type(start)))
        for name, start in OTHERS.items():
            setattr(self, name, [state.get(name, start) for state in states])
        self._earlier = [state.get("history", {}) for state in states]
        self._lasted = np.zeros(len(states), dtype=int)
        self._records: dict[str, list] = {}

    def record(self, models: np.ndarray, **values: np.ndarray) -> None:
        """Note an epoch of some models: arrays that lead with them, by the name of a quantity."""
        self._lasted[models] += 1
        for name, value in values.items():
            row = np.zeros((len(self._lasted), *np.shape(value)[1:]))
            row[models] = value
            self._records.setdefault(name, []).append(row)

    def histories(self) -> list[dict]:
        """A list per quantity, for each model: an entry for each of its epochs."""
        made = {name: np.stack(rows, axis=1).tolist() for name, rows in self._records.items()}
        return [
            {
                name: [*earlier.get(name, ()), *(made[name][m][:n] if name in made else ())]
                for name in {**earlier, **made}
            }
            for m, (earlier, n) in enumerate(zip(self._earlier, self._lasted, strict=True))
        ]

    def states(self) -> list[dict]:
        columns = {name: getattr(self, name).tolist() for name in COUNTERS}
        columns |= {name: getattr(self, name) for name in OTHERS} | {"history": self.histories()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def restarted(state: dict | None) -> dict | None:
    """The same training under a new optimizer, as a warm start begins it."""
    # As in scikit-learn, a warm start that finds no better score ends where it ends.
    anew = {"slots": (), "step": 0, "epoch": 0, "plateaus": 0, "best_theta": None}
    return state and {**state, **anew}


def without_records(state: dict) -> dict:
    """A state without what the estimator shows by other names, or needs no more."""
    return {name: state[name] for name in state.keys() - {"history", "best_theta"}}


# The option that is the schedule of a hyper-parameter.
SCHEDULES_OF = {"learning_rate_init": "schedule", "dropout": "dropout_schedule"}


def scheduled(name: str, problem: Problem, trainings: Trainings, models, n_steps, step=None):
    """A hyper-parameter as its schedule has it in the next steps of the models, or in given ones.

    Parameters
    ----------
    name : str
        One in ``SCHEDULES_OF``, of shape (n_models, k).
    models, n_steps : int arrays of shape (M,)
        Some of the models, and how many steps an epoch of theirs has.
    step : array of shape (..., M, 1), optional
        How many steps were made before.

    Returns
    -------
    rates : array of shape (..., M, k)
    """

    def column(name):
        return getattr(trainings, name)[models, None].astype(float)

    step, epoch = column("step") if step is None else step, column("epoch")
    progress = Progress(
        step=step,
        epoch=epoch,
        # A new optimizer starts from the initial rate, however many rows came before it.
        samples=np.where(epoch > 0, column("samples"), 0.0),
        plateaus=column("plateaus"),
        total=problem.hyper["planned_epochs"][models] * n_steps[:, None],
    )
    initial = problem.hyper[name][models]
    rates = problem.options[SCHEDULES_OF[name]](initial, progress)
    return np.broadcast_to(rates, (*step.shape[:-2], *initial.shape))


def note_progress(problem: Problem, trainings: Trainings, models, loss, score) -> np.ndarray:
    """Count the epochs without improvement; whose score is the best so far, a mask."""
    tol = problem.hyper["tol"][models, 0]
    if score is None:
        best = trainings.best_loss[models]
        stalls, better = loss > best - tol, np.zeros(len(models), dtype=bool)
        trainings.best_loss[models] = np.where(loss < best, loss, best)
    else:
        best = trainings.best_score[models]
        stalls, better = score < best + tol, score > best
        trainings.best_score[models] = np.where(better, score, best)
    trainings.stalled[models] = np.where(stalls, trainings.stalled[models] + 1, 0)
    return better


def finished(problem: Problem, trainings: Trainings, models, n_steps) -> np.ndarray:
    """Which models have met the stopping rule, a mask; some schedules lower the rate first."""
    given = problem.hyper["n_iter_no_change"][models, 0]
    patience = getattr(problem.options["schedule"], "patience", None) or given
    patience = np.broadcast_to(patience, given.shape)
    done = trainings.stalled[models] > patience
    for i in np.flatnonzero(done):
        own = slice(i, i + 1)
        done[i] = not _survives(problem, trainings, models[own], n_steps[own], patience[i])
    return done


def _survives(problem: Problem, trainings: Trainings, model, n_steps, patience: float) -> bool:
    """Whether a model whose progress has stalled goes on at a lower rate."""
    what = "Validation score" if problem.options["early_stopping"] else "Training loss"
    reason = (
        f"{what} did not improve "
        f"more than tol={problem.hyper['tol'][model[0], 0]:f} for {patience:g} consecutive epochs."
    )
    survives = getattr(problem.options["schedule"], "survives_plateau", None)
    if survives is None or not survives(float(trainings.learning_rate[model[0]])):
        too_small = "" if survives is None else " Learning rate too small."
        say(problem, f"{reason}{too_small} Stopping.")
        return False
    trainings.plateaus[model] += 1
    trainings.stalled[model] = 0
    (rate,) = scheduled("learning_rate_init", problem, trainings, model, n_steps)[:, 0]
    trainings.learning_rate[model] = rate
    say(problem, f"{reason} Setting learning rate to {rate:f}")
    return True


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
