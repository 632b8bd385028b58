"""Mini-batch gradient descent with any optimizer and schedule, for a stack of networks at once.

Each model draws its own permutations, so a stack trains as separate fits would. The loop owns the
counters; the mathematics is in ``network``, ``optimizers``, ``schedules`` and ``regularization``.
"""

from dataclasses import replace
from math import prod

import numpy as np

from ...interrupts import Whole, check, interruptible
from ...problem import Problem, Result
from ...regularization import names_of
from .epoch import Epoch
from .plan import Layout, Orders, optimizer_of
from .shared import SharedLayout
from .stack import Stack
from .step import Step, load
from .training import Clock, Trainings, finished, note_progress, say, scheduled
from .validation import HeldOut

HYPER = {
    *("l2", "penalty_rows", "learning_rate_init", "max_iter", "planned_epochs", "tol"),
    *("n_iter_no_change", "dropout", "rate_factors"),
}
OPTIONS = {
    *("optimizer", "regularizers", "schedule", "batch_size", "shuffle", "loss_scale"),
    *("dropout_schedule", "early_stopping", "verbose"),
}

# What there is of each model of a stack, whether it trains on or has ended.
COUNTED = ("theta", "n_iter", "loss", "converged")


def _begin(problem: Problem) -> Trainings:
    trainings = Trainings(problem.states or [None] * problem.n_models)
    random = any(one.random for one in problem.options.get("regularizers", ()))
    if random or "dropout" in problem.hyper:
        for m, rng in enumerate(problem.rngs):
            if trainings.seed[m] is None:
                trainings.seed[m] = int(rng.randint(2**31))
    return trainings


class _Run:
    """The bookkeeping of a stack: who trains on, over which rows, and what the others came to."""

    layout = Layout

    def __init__(self, backend, problem: Problem, whole: Whole):
        M = problem.n_models
        if backend.processes.size > 1:
            # Orders of rows and their weights are those of all processes.
            weights = backend.processes.joined(problem.weights, axis=-1)
            problem, self.layout = replace(problem, weights=weights), SharedLayout
        self.backend, self.problem, self.whole = backend, problem, whole
        self.trainings = _begin(problem)
        self.stack = Stack(backend, problem, self.trainings)
        self.data = load(backend, problem)
        held_out = problem.validation is not None
        self.validate = HeldOut(backend, problem, self.data.X) if held_out else None
        rows = problem.rows or [np.arange(problem.n_rows)] * M
        self.orders = Orders(problem, self.stack.models, rows)
        self.theta = np.empty(problem.theta.shape, problem.dtype)
        self.n_iter, self.loss = np.zeros(M, dtype=int), np.full(M, np.nan)
        self.converged = np.zeros(M, dtype=bool)
        self.epoch, self.step, self.clock = None, None, Clock()
        if problem.checkpoint is not None and problem.checkpoint.state is not None:
            self.restore(problem.checkpoint.state)

    def train(self) -> None:
        """Epoch after epoch, until every model is done."""
        while self.stack.live.any():
            check()
            self.orders.shuffle(self.stack.live)
            if self.step is None:
                layout = self.layout(self.backend, self.problem, self.stack.models, self.orders)
                self.step = Step(self.backend, self.problem, self.data, layout)
            self.epoch = Epoch(self.backend, self.problem, self.stack, self.step)
            places = np.flatnonzero(self.stack.live)
            record = self.observe(places, self.epoch.run(self.whole)[places, :])
            better, ended = np.zeros((2, len(self.stack.models)), dtype=bool)
            with self.whole:
                better[places] = self.note(places, record)
                self.stack.remember(better)
            ended[places] = ~self.go_on(places)
            if ended.any():
                with self.whole:
                    self.end(ended)
            if self.problem.checkpoint is not None:
                last = not self.stack.live.any()
                self.problem.checkpoint.after_epoch(int(self.n_iter.max()), last, self.state)

    def end(self, ended: np.ndarray) -> None:
        """Let go of models, a mask of those in the stack."""
        models = self.stack.models
        self.orders.keep_up(self.stack.live)
        if self.stack.end(ended):
            self.orders.keep(np.isin(models, self.stack.models))
            self.step = None

    def state(self) -> dict:
        """What it takes to go on in another process: arrays, numbers and texts."""
        self.collect()
        live = self.stack.live
        return {
            **{name: getattr(self, name) for name in COUNTED},
            "models": self.stack.models[live],
            "orders": [self.orders.rows[c] for c in self.orders.of_model[live]],
            "generators": [rng.get_state(legacy=False) for rng in self.problem.rngs],
            "trainings": self.trainings.states(),
        }

    def collect(self) -> None:
        """Leave parameters, counters and generators where the models that train on are."""
        self.orders.keep_up(self.stack.live)
        self.stack.collect(self.theta)

    def restore(self, state: dict) -> None:
        """Go on where :meth:`state` was called."""
        for name in COUNTED:
            setattr(self, name, state[name])
        for rng, left in zip(self.problem.rngs, state["generators"], strict=True):
            rng.set_state(left)
        self.trainings = Trainings(state["trainings"])
        problem = replace(self.problem, theta=self.theta)
        self.stack = Stack(self.backend, problem, self.trainings)
        self.stack.keep(np.isin(self.stack.models, state["models"]))
        self.orders = Orders(problem, self.stack.models, state["orders"])

    def observe(self, places: np.ndarray, noted: np.ndarray) -> dict[str, np.ndarray]:
        """What there is to record of the epoch of some models of the stack, which they lead."""
        problem, noted = self.problem, noted.astype(float)
        norms, activations = np.split(noted[:, 1:], [len(problem.net.weights)], axis=1)
        record = {
            "loss": noted[:, 0],
            # Of the epoch's first step: the counters are still those from before it.
            "learning_rate": self.rates(places),
            "gradient_norm": norms,
            "mean_activation": activations,
        }
        if self.validate is not None:
            loss, score = self.held_out(places)
            record |= {"validation_loss": loss, "validation_score": score}
        for i, m in enumerate(self.stack.models[places] if problem.options["verbose"] else ()):
            say(problem, f"Iteration {self.n_iter[m] + 1}, loss = {record['loss'][i]:.8f}")
            if self.validate is not None:
                say(problem, f"Validation score: {record['validation_score'][i]:f}")
        return record

    def rates(self, places: np.ndarray) -> np.ndarray:
        """Of the next step of some models of the stack."""
        models, n_steps = self.stack.models[places], self.step.layout.n_steps[places]
        rates = scheduled("learning_rate_init", self.problem, self.trainings, models, n_steps)
        return rates[:, 0]

    def held_out(self, places: np.ndarray) -> np.ndarray:
        """Losses and scores, (2, M), on held-out rows of some models of the stack."""
        theta = self.stack.theta
        if len(places) < theta.shape[0]:
            theta = self.backend.xp.take(theta, self.backend.asarray(places), axis=0)
        return self.validate(theta, self.stack.models[places])

    def note(self, places: np.ndarray, record: dict) -> np.ndarray:
        """Move the counters past the epoch; which models are better than before, a mask."""
        models, trainings = self.stack.models[places], self.trainings
        self.n_iter[models] += 1
        self.loss[models] = record["loss"]
        trainings.step[models] = self.stack.step[places, 0]
        trainings.epoch[models] += 1
        trainings.samples[models] += self.step.layout.lengths[places]
        shares = np.full(len(models), self.clock.lap() / len(models))
        trainings.record(models, **record, seconds=shares)
        score = record["validation_score"] if self.problem.options["early_stopping"] else None
        return note_progress(self.problem, trainings, models, record["loss"], score)

    def go_on(self, places: np.ndarray) -> np.ndarray:
        """Which models make another epoch, a mask."""
        problem, trainings, models = self.problem, self.trainings, self.stack.models[places]
        trainings.learning_rate[models] = self.rates(places)
        n_steps = self.step.layout.n_steps[places]
        self.converged[models] = finished(problem, trainings, models, n_steps)
        self.converged[models] |= self.monitored(places)
        going = np.isfinite(self.loss[models]) & ~self.converged[models]
        return going & (self.n_iter[models] < problem.hyper["max_iter"][models, 0])

    def monitored(self, places: np.ndarray) -> np.ndarray:
        """Which models their monitors stop, a mask."""
        stopped = np.zeros(len(places), dtype=bool)
        for i, m in enumerate(self.stack.models[places] if self.problem.monitors else ()):
            if self.problem.monitors[m] is not None:
                theta = self.stack.theta_of(places[i])
                stopped[i] = self.problem.monitors[m](self.n_iter[m], theta, self.loss[m])
        return stopped

    def interrupted(self) -> Result:
        """What the models have come to."""
        models = self.stack.models[self.stack.live]
        first = self.n_iter[models] == 0
        if first.any() and self.epoch is not None:
            so_far = self.epoch.mean_so_far()[self.stack.live]
            self.loss[models] = np.where(first, so_far, self.loss[models])
        return replace(self.result(), interrupted=True)

    def result(self) -> Result:
        self.collect()
        if self.problem.options["early_stopping"]:
            for theta, best in zip(self.theta, self.trainings.best_theta, strict=True):
                if best is not None:
                    theta[:] = best
        states = self.trainings.states()
        return Result(
            theta=self.theta,
            n_iter=self.n_iter,
            loss=self.loss,
            converged=self.converged,
            curve=[state["history"].get("loss", []) for state in states],
            states=states,
        )


def solve(backend, problem: Problem) -> Result:
    """Train every model until its loss or validation score stalls, or for ``max_iter`` epochs.

    Hyper-parameters: ``l2`` (divided by the batch's weight, as scikit-learn's alpha, or by
    ``penalty_rows`` where that is given, so that all batches have the objective of all rows),
    ``learning_rate_init``, ``max_iter``, ``planned_epochs``, ``tol``, ``n_iter_no_change`` and the
    optimizer's own; those of the regularisers (see ``regularization.taken_apart``) and, where
    wanted, ``dropout`` (M, n_layers) and ``rate_factors`` (M, P) of the learning rate. Options:
    ``optimizer`` (a name or an entry), ``regularizers``, ``schedule``, ``batch_size``, ``shuffle``,
    ``loss_scale`` (of the reported loss), ``dropout_schedule``, ``early_stopping``, ``verbose``. A
    model whose loss is no longer finite stops; its result says so with a loss that is not finite.

    A KeyboardInterrupt has the Result so far as its attribute ``result``. Epochs that were not
    finished are in its ``theta`` only; the loss is the last whole epoch's, or the mean over the
    batches of a first one, or NaN before the first batch.
    """
    with interruptible() as whole:
        run = _Run(backend, problem, whole)
        try:
            run.train()
        except KeyboardInterrupt as interrupt:
            with whole:
                interrupt.result = run.interrupted()
            raise
    return run.result()


def memory(problem: Problem) -> float:
    """Bytes of one model: parameters, gradient and slots, and the activations of a batch."""
    itemsize = np.dtype(problem.dtype).itemsize
    slots = optimizer_of(problem).slots
    units = sum(map(prod, problem.net.shapes)) * 3
    rows = problem.options["batch_size"]
    return itemsize * ((3 + slots) * problem.net.n_parameters + rows * units)


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    numbers = {*getattr(optimizer_of(problem), "hyper", ())}
    return HYPER | numbers | names_of(problem.options.get("regularizers", ())), OPTIONS
