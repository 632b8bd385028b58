"""Mini-batch gradient descent with any optimizer and schedule, for a stack of networks at once.

Each model draws its own permutations, so a stack trains as separate fits would. The loop owns the
counters; the mathematics is in ``network``, ``optimizers``, ``schedules`` and ``regularization``.
"""

from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ...interrupts import Whole, check, interruptible
from ...network import backpropagate, forward, hidden_layers, matrices
from ...optimizers import OPTIMIZERS, Optimizer
from ...overrides import chosen, overridable
from ...problem import Problem, Result
from ...regularization import Draws, names_of, put_together
from .training import Clock, Training, finished, learning_rates, note_progress, rate_now, say

# Share of the old running means and variances that a batch leaves in place.
MOMENTUM = 0.9

HYPER = {
    *("l2", "penalty_rows", "learning_rate_init", "max_iter", "planned_epochs", "tol"),
    *("n_iter_no_change", "dropout"),
}
OPTIONS = {
    *("optimizer", "regularizers", "schedule", "batch_size", "shuffle", "loss_scale"),
    *("early_stopping", "verbose"),
}

# What there is of each model of a stack, whether it trains on or has ended.
COUNTED = ("theta", "n_iter", "loss", "converged")


@overridable
def gather(xp, A, idx):
    """Rows ``idx`` (M, b) of ``A`` (n, ...), of shape (M, b, ...)."""
    return xp.reshape(xp.take(A, xp.reshape(idx, (-1,)), axis=0), (*idx.shape, *A.shape[1:]))


class Table(NamedTuple):
    """What there is for each row of X, on the device.

    Parameters
    ----------
    rows : array of shape (n, ...) or (M * n, ...)
        Those that all models share, or those of one model after another.
    stride : int
        How far each model's begin behind those of the model before: 0 or n.
    """

    rows: Any
    stride: int

    def take(self, xp, idx, models):
        """Rows ``idx`` (M, b) for the given models."""
        return gather(xp, self.rows, idx + models[:, None] * self.stride if self.stride else idx)


class Data(NamedTuple):
    """Rows on the device, with a table of targets and one of weights or None."""

    X: Any
    y: Table
    weights: Table | None


def load(backend, problem: Problem) -> Data:
    def put(A):
        # A row in one piece: to gather rows of a transposed array is to copy all of it.
        A = A if sp.issparse(A) else np.ascontiguousarray(A)
        return backend.asarray(A, problem.dtype)

    def table(A, own: bool):
        return Table(put(A.reshape(-1, *A.shape[2:])), A.shape[1]) if own else Table(put(A), 0)

    y, weights = problem.y, problem.weights
    return Data(
        put(problem.X),
        table(y, own=y.ndim == 3),
        None if weights is None else table(weights, own=weights.ndim == 2),
    )


def batches(orders: list[np.ndarray], batch_size: int):
    """Cut each model's row order into batches.

    Yields ``(idx, n)``: indices (M, b) and how many of them count for each model. A model with
    fewer rows than another has short or empty batches at the end; its indices are padded.
    """
    lengths = np.array([len(order) for order in orders])
    longest = int(lengths.max())
    if (lengths == longest).all():
        order = np.stack(orders)
    else:
        order = np.zeros((len(orders), longest), dtype=np.intp)
        for padded, rows in zip(order, orders, strict=True):
            padded[: len(rows)] = rows
    starts = np.arange(0, longest, batch_size)[:, None]
    counts = np.minimum(np.maximum(lengths - starts, 0), batch_size)
    for start, n in zip(starts[:, 0].tolist(), counts, strict=True):
        yield order[:, start : start + batch_size], n


def _permute(problem: Problem, m: int, order: np.ndarray) -> np.ndarray:
    """The next epoch's order, as scikit-learn draws it: a permutation of the last one."""
    if not problem.options["shuffle"]:
        return order
    return order[problem.rngs[m].permutation(len(order))]


def optimizer_of(problem: Problem) -> Optimizer:
    """The entry of the table, or the user's own."""
    optimizer = problem.options["optimizer"]
    return OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer


class _Stack:
    """The models still in training: their parameters and slots on the device."""

    def __init__(self, backend, problem: Problem, trainings: list[Training]):
        self.backend, self.xp = backend, backend.xp
        self.optimizer = optimizer_of(problem)
        self.models = np.arange(problem.n_models)
        self.trainings = trainings
        dtype = problem.dtype
        # A copy: the optimizer may work in place.
        self.theta = backend.asarray(np.array(problem.theta, dtype=dtype), dtype)
        self.slots = [
            backend.asarray(
                np.stack(
                    [
                        t.slots[i].astype(dtype) if len(t.slots) else np.zeros_like(theta)
                        for t, theta in zip(trainings, problem.theta.astype(dtype), strict=True)
                    ]
                ),
                dtype,
            )
            for i in range(self.optimizer.slots)
        ]
        self.step = np.array([[float(t.step)] for t in trainings])

    def keep(self, going: np.ndarray) -> None:
        """Drop the models that have finished."""
        index = self.backend.asarray(np.flatnonzero(going))
        self.theta = self.xp.take(self.theta, index, axis=0)
        self.slots = [self.xp.take(slot, index, axis=0) for slot in self.slots]
        self.models, self.step = self.models[going], self.step[going]

    def snapshot(self) -> list:
        return [self.xp.asarray(array, copy=True) for array in (self.theta, *self.slots)]

    def restore(self, before: list, models: np.ndarray) -> None:
        """Undo what has happened to some of the models, a mask of shape (M, 1)."""
        undo = self.backend.asarray(models)
        self.theta, *self.slots = (
            self.xp.where(undo, old, new)
            for old, new in zip(before, (self.theta, *self.slots), strict=True)
        )

    def theta_of(self, i: int) -> np.ndarray:
        return np.array(self.backend.to_numpy(self.theta[i, :]))

    def save_slots(self) -> None:
        """Leave with each model what it needs to go on."""
        slots = [self.backend.to_numpy(slot) for slot in self.slots]
        for i, m in enumerate(self.models):
            self.trainings[m].slots = np.array([slot[i] for slot in slots])
            self.trainings[m].step = int(self.step[i, 0])


class _Epoch:
    """One pass of every model in the stack over its rows."""

    def __init__(self, backend, problem: Problem, data: Data, stack: _Stack, orders: list):
        self.backend, self.problem, self.data, self.stack = backend, problem, data, stack
        self.xp, self.net = backend.xp, problem.net
        self.hyper = {name: values[stack.models] for name, values in problem.hyper.items()}
        self.models = backend.asarray(stack.models)
        self.steps = list(batches(orders, problem.options["batch_size"]))
        self.n_steps = np.array([-(-len(o) // problem.options["batch_size"]) for o in orders])
        self.lengths = np.array([len(order) for order in orders])
        self.gradient_norms = np.zeros((len(orders), len(self.net.weights)))
        self.activations = np.zeros((len(orders), len(self.net.activations)))
        # The objective of the batches so far, and how many they are.
        self.total, self.done = 0.0, 0

    def run(self, whole: Whole) -> np.ndarray:
        """Train, and return the mean objective of the batches, shape (M,)."""
        problem, stack, xp, dtype = self.problem, self.stack, self.xp, self.problem.dtype
        update = chosen(xp, stack.optimizer.step)
        hyper = {
            name: _numbers(self.backend, self.hyper[name], dtype) for name in stack.optimizer.hyper
        }
        trainings = [stack.trainings[m] for m in stack.models]
        rates = learning_rates(problem, stack.models, trainings, stack.step, len(self.steps))
        scale = problem.options["loss_scale"]
        regularizers = self.regularizers()
        draws = Draws(self.backend, [training.noise for training in trainings], dtype)

        last_n = None
        for step, ((idx, n), rate) in enumerate(zip(self.steps, rates, strict=True), start=1):
            idx = self.backend.asarray(idx)
            # Batches are alike but for the last, unless samples have weights.
            if self.data.weights is not None or last_n is None or (n != last_n).any():
                w, size = self.batch_weights(idx, n)
                per = self.hyper.get("penalty_rows", size)
                l2 = self.backend.asarray(self.hyper["l2"] / per, dtype)
                per = self.backend.asarray(np.broadcast_to(per, l2.shape), dtype)
                share = self.backend.asarray(n / self.lengths, dtype)
                training, last_n = n[:, None] > 0, n
                everyone = training.all()
            X = gather(xp, self.data.X, idx)
            y = self.data.y.take(xp, idx, self.models)
            for one in regularizers:
                X, y = one.input(xp, X, draws), one.target(xp, y)
            masks = self.masks(draws, idx.shape[1])
            value, penalty, grad, moments = backpropagate(
                xp, self.net, stack.theta, X, y, w, l2, masks
            )
            for one in regularizers:
                added = one.penalty(xp, self.net, stack.theta, per)
                if added is not None:
                    penalty, grad = penalty + added[0], _plus(xp, grad, added[1])
            if (self.n_steps == step).any():
                self.note(self.n_steps == step, X, grad)
            for one in regularizers:
                grad = one.gradient(xp, grad)
            with whole:
                stack.step += training
                before = None if everyone else stack.snapshot()
                stack.theta, stack.slots = update(
                    xp,
                    stack.theta,
                    grad,
                    stack.slots,
                    _numbers(self.backend, stack.step, dtype),
                    _numbers(self.backend, rate, dtype),
                    **hyper,
                )
                for one in regularizers:
                    stack.theta = one.theta(xp, self.net, stack.theta)
                if moments is not None:
                    self.average_moments(moments)
                if before:
                    # Even a zero gradient would move Adam: a model out of batches stands still.
                    stack.restore(before, ~training)
                self.total = self.total + (scale * value + penalty) * share
                self.done = step
        return self.backend.to_numpy(self.total)

    def mean_so_far(self) -> np.ndarray:
        """The mean objective of the batches done, shape (M,); NaN if there is none."""
        share = sum(n for _, n in self.steps[: self.done]) / self.lengths
        return self.backend.to_numpy(self.total) / share

    def batch_weights(self, idx, n):
        """Row weights of a batch that sum to one for each model, and what they summed to before.

        ``n`` of the rows ``idx`` are real for each model.
        """
        dtype, batch_size = self.problem.dtype, idx.shape[1]
        if self.data.weights is None and (n == batch_size).all():
            size = n[:, None].astype(float)
            return self.backend.asarray(1.0 / size, dtype), size
        w = self.backend.asarray(np.arange(batch_size) < n[:, None], dtype)
        if self.data.weights is not None:
            w = w * self.data.weights.take(self.xp, idx, self.models)
        size = np.asarray(self.backend.to_numpy(w), dtype=float).sum(axis=1, keepdims=True)
        # A batch without weight teaches nothing; it must not divide by zero either.
        size = np.where(size != 0, size, np.inf)
        return w / self.backend.asarray(size, dtype), size

    def regularizers(self) -> list:
        """Those of the problem, with the numbers of the models for the device."""
        numbers = {
            name: self.backend.asarray(values, self.problem.dtype)
            for name, values in self.hyper.items()
            if name.startswith("regularizer_")
        }
        return put_together(self.problem.options.get("regularizers", ()), numbers)

    def masks(self, draws: Draws, n_rows: int):
        """Masks of the dropout layers; None without any, or where all rates are zero."""
        rates = self.hyper.get("dropout")
        return None if rates is None else draws.masks(rates, self.net.masked, n_rows)

    def average_moments(self, moments):
        """Move the running means and variances, the end of theta, towards the batch's."""
        start = self.stack.theta.shape[1] - self.net.n_running
        learned, running = self.stack.theta[:, :start], self.stack.theta[:, start:]
        running = MOMENTUM * running + (1.0 - MOMENTUM) * moments
        self.stack.theta = self.xp.concat([learned, running], axis=1)

    def note(self, last: np.ndarray, X, grad) -> None:
        """Record gradient norms and mean activations on the last batch of some of the models."""
        xp, net = self.xp, self.net
        norms = [xp.sqrt(xp.sum(W * W, axis=_but_first(W))) for W in matrices(xp, net, grad)]
        hidden = hidden_layers(xp, net, self.stack.theta, X)
        means = [xp.mean(xp.abs(h), axis=_but_first(h)) for h in hidden]
        for record, found in ((self.gradient_norms, norms), (self.activations, means)):
            for i, values in enumerate(found):
                record[last, i] = self.backend.to_numpy(values)[last]


def _plus(xp, grad, slope):
    """The gradient with that of a penalty of the weights."""
    n_weights = slope.shape[1]
    return xp.concat([grad[:, :n_weights] + slope, grad[:, n_weights:]], axis=1)


def _but_first(A) -> tuple[int, ...]:
    return tuple(range(1, A.ndim))


def _numbers(backend, values: np.ndarray, dtype):
    """Per-model numbers for the device; those of a single model as a plain float."""
    if values.size == 1:
        return float(values[0, 0])
    return backend.asarray(values, dtype)


class _Validation:
    """The held-out rows of each model, on the device."""

    def __init__(self, backend, problem: Problem, data: Data):
        self.backend, self.problem = backend, problem
        arrays = {id(v.X): v.X for v in problem.validation}
        self.X = {
            key: data.X if X is problem.X else backend.asarray(X, problem.dtype)
            for key, X in arrays.items()
        }

    def __call__(self, theta, m: int) -> tuple[float, float]:
        """Loss and score of model m; NaN if its predictions are not finite."""
        xp, net, held_out = self.backend.xp, self.problem.net, self.problem.validation[m]
        X = self.X[id(held_out.X)]
        if held_out.rows is not None:
            X = gather(xp, X, self.backend.asarray(held_out.rows[None]))
        raw = forward(xp, net, theta, X)
        predicted = self.backend.to_numpy(chosen(xp, net.loss.predict)(xp, raw))[0]
        if not np.isfinite(predicted).all():
            return np.nan, np.nan
        y, w = held_out.y[None], held_out.weights
        w = np.ones(len(predicted)) if w is None else w
        y, w = (self.backend.asarray(A, self.problem.dtype) for A in (y, w[None] / w.sum()))
        loss, _ = chosen(xp, net.loss.value_and_grad)(xp, raw, y, w)
        loss = self.problem.options["loss_scale"] * loss
        return float(self.backend.to_numpy(loss)[0]), float(held_out.score(predicted))


def _begin(problem: Problem) -> list[Training]:
    trainings = [Training.resume(state) for state in problem.states or [None] * problem.n_models]
    random = any(one.random for one in problem.options.get("regularizers", ()))
    if random or "dropout" in problem.hyper:
        for training, rng in zip(trainings, problem.rngs, strict=True):
            if training.noise is None:
                training.noise = np.random.Generator(np.random.SFC64(rng.randint(2**31)))
    return trainings


class _Run:
    """The bookkeeping of a stack: who trains on, over which rows, and what the others came to."""

    def __init__(self, backend, problem: Problem, whole: Whole):
        M = problem.n_models
        self.backend, self.problem, self.whole = backend, problem, whole
        self.trainings = _begin(problem)
        self.stack = _Stack(backend, problem, self.trainings)
        self.data = load(backend, problem)
        self.validate = (
            None if problem.validation is None else _Validation(backend, problem, self.data)
        )
        self.orders = problem.rows or [np.arange(problem.X.shape[0])] * M
        self.theta = np.array(problem.theta, dtype=problem.dtype)
        self.n_iter, self.loss = np.zeros(M, dtype=int), np.full(M, np.nan)
        self.converged = np.zeros(M, dtype=bool)
        self.epoch, self.clock = None, Clock()
        if problem.checkpoint is not None and problem.checkpoint.state is not None:
            self.restore(problem.checkpoint.state)

    def train(self) -> None:
        """Epoch after epoch, until every model is done."""
        while len(self.stack.models):
            check()
            models, orders = self.stack.models, self.orders
            orders = [_permute(self.problem, m, o) for m, o in zip(models, orders, strict=True)]
            self.orders = orders
            self.epoch = _Epoch(self.backend, self.problem, self.data, self.stack, orders)
            losses = self.epoch.run(self.whole).tolist()
            records = [self.observe(i, m, loss) for i, (m, loss) in enumerate(zip(models, losses))]
            with self.whole:
                for i, (m, record) in enumerate(zip(models, records)):
                    self.note(i, m, record)
            going = np.array([self.goes_on(i, m) for i, m in enumerate(models)])
            if not going.all():
                with self.whole:
                    self.collect()
                    self.stack.keep(going)
                    self.orders = [order for order, goes in zip(orders, going, strict=True) if goes]
            if self.problem.checkpoint is not None:
                last = not len(self.stack.models)
                self.problem.checkpoint.after_epoch(int(self.n_iter.max()), last, self.state)

    def state(self) -> dict:
        """What it takes to go on in another process: arrays, numbers and texts."""
        self.collect()
        return {
            **{name: getattr(self, name) for name in COUNTED},
            "models": self.stack.models,
            "orders": self.orders,
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
        self.stack, self.orders = _Stack(self.backend, problem, self.trainings), state["orders"]
        self.stack.keep(np.isin(self.stack.models, state["models"]))

    def observe(self, i: int, m: int, loss: float) -> dict:
        """What there is to record of the epoch of model m, the i-th in training."""
        epoch, problem = self.epoch, self.problem
        record = {
            "loss": loss,
            # Of the epoch's first step: the counters are still those from before it.
            "learning_rate": rate_now(problem, self.trainings[m], m, int(epoch.n_steps[i])),
            "gradient_norm": epoch.gradient_norms[i].tolist(),
            "mean_activation": epoch.activations[i].tolist(),
        }
        say(problem, f"Iteration {self.n_iter[m] + 1}, loss = {loss:.8f}")
        if self.validate:
            held_out_loss, score = self.validate(self.stack.theta[i : i + 1, :], m)
            record |= {"validation_loss": held_out_loss, "validation_score": score}
            say(problem, f"Validation score: {score:f}")
        return record

    def note(self, i: int, m: int, record: dict) -> None:
        """Move the counters of model m past the epoch."""
        training, score = self.trainings[m], record.get("validation_score")
        self.n_iter[m] += 1
        self.loss[m] = record["loss"]
        training.step = int(self.stack.step[i, 0])
        training.epoch += 1
        training.samples += int(self.epoch.lengths[i])
        training.record(**record, seconds=self.clock.lap())
        criterion = score if self.problem.options["early_stopping"] else None
        note_progress(
            self.problem, training, m, record["loss"], criterion, lambda: self.stack.theta_of(i)
        )

    def goes_on(self, i: int, m: int) -> bool:
        """Whether another epoch of model m follows."""
        problem, training, n_steps = self.problem, self.trainings[m], int(self.epoch.n_steps[i])
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

    def collect(self) -> None:
        """Take the models in training as they are now."""
        self.theta[self.stack.models] = self.backend.to_numpy(self.stack.theta)
        self.stack.save_slots()

    def interrupted(self) -> Result:
        """What the models have come to."""
        models = self.stack.models
        self.collect()
        first = self.n_iter[models] == 0
        if first.any() and self.epoch is not None:
            self.loss[models] = np.where(first, self.epoch.mean_so_far(), self.loss[models])
        return replace(self.result(), interrupted=True)

    def result(self) -> Result:
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
    wanted, ``dropout`` (M, n_layers). Options: ``optimizer`` (a name or an entry),
    ``regularizers``, ``schedule``, ``batch_size``, ``shuffle``, ``loss_scale`` (of the reported
    loss), ``early_stopping``, ``verbose``. A model whose loss is no longer finite stops;
    its result says so with a loss that is not finite.

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
