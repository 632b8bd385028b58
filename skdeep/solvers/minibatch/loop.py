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
from .plan import Layout, optimizer_of, permute
from .stack import Stack
from .step import Step, load
from .training import Clock, Training, finished, note_progress, rate_now, say
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


def _begin(problem: Problem) -> list[Training]:
    trainings = [Training.resume(state) for state in problem.states or [None] * problem.n_models]
    random = any(one.random for one in problem.options.get("regularizers", ()))
    if random or "dropout" in problem.hyper:
        for training, rng in zip(trainings, problem.rngs, strict=True):
            if training.seed is None:
                training.seed = int(rng.randint(2**31))
    return trainings


class _Run:
    """The bookkeeping of a stack: who trains on, over which rows, and what the others came to."""

    def __init__(self, backend, problem: Problem, whole: Whole):
        M = problem.n_models
        self.backend, self.problem, self.whole = backend, problem, whole
        self.trainings = _begin(problem)
        self.stack = Stack(backend, problem, self.trainings)
        self.data = load(backend, problem)
        held_out = problem.validation is not None
        self.validate = HeldOut(backend, problem, self.data.X) if held_out else None
        self.orders = problem.rows or [np.arange(problem.X.shape[0])] * M
        self.theta = np.array(problem.theta, dtype=problem.dtype)
        self.n_iter, self.loss = np.zeros(M, dtype=int), np.full(M, np.nan)
        self.converged = np.zeros(M, dtype=bool)
        self.epoch, self.step, self.clock = None, None, Clock()
        if problem.checkpoint is not None and problem.checkpoint.state is not None:
            self.restore(problem.checkpoint.state)

    def train(self) -> None:
        """Epoch after epoch, until every model is done."""
        while self.stack.live.any():
            check()
            self.shuffle()
            if self.step is None:
                lengths = np.array([len(order) for order in self.orders])
                layout = Layout(self.backend, self.problem, self.stack.models, lengths)
                self.step = Step(self.backend, self.problem, self.data, layout)
            self.epoch = Epoch(self.backend, self.problem, self.stack, self.step, self.orders)
            records = self.observe(self.epoch.run(self.whole))
            with self.whole:
                better = np.zeros(len(self.stack.models), dtype=bool)
                for i, record in records.items():
                    better[i] = self.note(i, self.stack.models[i], record)
                self.stack.remember(better)
            ended = np.zeros(len(self.stack.models), dtype=bool)
            for i in records:
                ended[i] = not self.goes_on(i, self.stack.models[i])
            if ended.any():
                with self.whole:
                    self.end(ended)
            if self.problem.checkpoint is not None:
                last = not self.stack.live.any()
                self.problem.checkpoint.after_epoch(int(self.n_iter.max()), last, self.state)

    def shuffle(self) -> None:
        """Draw the rows' order for the epoch to come, of the models that train on."""
        self.orders = [
            permute(self.problem, m, order) if live else order
            for m, order, live in zip(self.stack.models, self.orders, self.stack.live, strict=True)
        ]

    def end(self, ended: np.ndarray) -> None:
        """Let go of models, a mask of those in the stack."""
        models = self.stack.models
        if self.stack.end(ended):
            kept = np.isin(models, self.stack.models)
            self.orders = [order for order, keep in zip(self.orders, kept, strict=True) if keep]
            self.step = None

    def state(self) -> dict:
        """What it takes to go on in another process: arrays, numbers and texts."""
        self.stack.collect(self.theta)
        live = self.stack.live
        return {
            **{name: getattr(self, name) for name in COUNTED},
            "models": self.stack.models[live],
            "orders": [order for order, on in zip(self.orders, live, strict=True) if on],
            "generators": [rng.get_state(legacy=False) for rng in self.problem.rngs],
            "trainings": [training.state() for training in self.trainings],
        }

    def restore(self, state: dict) -> None:
        """Go on where :meth:`state` was called."""
        for name in COUNTED:
            setattr(self, name, state[name])
        for rng, left in zip(self.problem.rngs, state["generators"], strict=True):
            rng.set_state(left)
        self.trainings = [Training.resume(training) for training in state["trainings"]]
        problem = replace(self.problem, theta=self.theta)
        self.stack, self.orders = Stack(self.backend, problem, self.trainings), state["orders"]
        self.stack.keep(np.isin(self.stack.models, state["models"]))

    def observe(self, noted: np.ndarray) -> dict[int, dict]:
        """What there is to record of the epoch of each model that trains on, by place."""
        problem, n_weights = self.problem, len(self.problem.net.weights)
        records = {}
        for i in np.flatnonzero(self.stack.live).tolist():
            m, (loss, *notes) = self.stack.models[i], noted[i].tolist()
            records[i] = {
                "loss": loss,
                # Of the epoch's first step: the counters are still those from before it.
                "learning_rate": rate_now(
                    problem, self.trainings[m], m, int(self.step.layout.n_steps[i])
                ),
                "gradient_norm": notes[:n_weights],
                "mean_activation": notes[n_weights:],
            }
        held_out = self.held_out(list(records))
        for (i, record), found in zip(records.items(), held_out, strict=True):
            n_iter = self.n_iter[self.stack.models[i]] + 1
            say(problem, f"Iteration {n_iter}, loss = {record['loss']:.8f}")
            if found is not None:
                record |= {"validation_loss": found[0], "validation_score": found[1]}
                say(problem, f"Validation score: {found[1]:f}")
        return records

    def held_out(self, places: list[int]) -> list:
        """Loss and score on held-out rows of models of the stack; None where there are no rows."""
        if self.validate is None:
            return [None] * len(places)
        theta = self.stack.theta
        if len(places) < theta.shape[0]:
            theta = self.backend.xp.take(theta, self.backend.asarray(np.array(places)), axis=0)
        return self.validate(theta, self.stack.models[places])

    def note(self, i: int, m: int, record: dict) -> bool:
        """Move the counters of model m past the epoch; whether it is better than before."""
        training, score = self.trainings[m], record.get("validation_score")
        self.n_iter[m] += 1
        self.loss[m] = record["loss"]
        training.step = int(self.stack.step[i, 0])
        training.epoch += 1
        training.samples += int(self.step.layout.lengths[i])
        training.record(**record, seconds=self.clock.lap())
        criterion = score if self.problem.options["early_stopping"] else None
        return note_progress(self.problem, training, m, record["loss"], criterion)

    def goes_on(self, i: int, m: int) -> bool:
        """Whether another epoch of model m follows."""
        problem, training = self.problem, self.trainings[m]
        n_steps = int(self.step.layout.n_steps[i])
        training.learning_rate = rate_now(problem, training, m, n_steps)
        self.converged[m] = finished(problem, training, m, n_steps)
        stopped = self.monitor(i, m)
        going = np.isfinite(self.loss[m]) and self.n_iter[m] < problem.hyper["max_iter"][m, 0]
        going &= not (self.converged[m] or stopped)
        self.converged[m] |= stopped
        return bool(going)

    def monitor(self, i: int, m: int) -> bool:
        monitor = self.problem.monitors[m] if self.problem.monitors else None
        if monitor is None:
            return False
        return bool(monitor(self.n_iter[m], self.stack.theta_of(i), self.loss[m]))

    def interrupted(self) -> Result:
        """What the models have come to."""
        models = self.stack.models[self.stack.live]
        first = self.n_iter[models] == 0
        if first.any() and self.epoch is not None:
            so_far = self.epoch.mean_so_far()[self.stack.live]
            self.loss[models] = np.where(first, so_far, self.loss[models])
        return replace(self.result(), interrupted=True)

    def result(self) -> Result:
        self.stack.collect(self.theta)
        if self.problem.options["early_stopping"]:
            for theta, training in zip(self.theta, self.trainings, strict=True):
                if training.best_theta is not None:
                    theta[:] = training.best_theta
        return Result(
            theta=self.theta,
            n_iter=self.n_iter,
            loss=self.loss,
            converged=self.converged,
            curve=[training.history.get("loss", []) for training in self.trainings],
            states=[training.state() for training in self.trainings],
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
