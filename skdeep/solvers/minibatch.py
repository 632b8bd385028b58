"""Mini-batch gradient descent with any optimizer and schedule, for a stack of networks at once.

Each model draws its own permutations, so a stack trains as separate fits would. The loop owns the
counters; the mathematics is in ``network``, ``optimizers`` and ``schedules``.
"""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np

from ..network import n_parameters, predict, value_and_grad
from ..optimizers import OPTIMIZERS
from ..problem import Problem, Result
from ..schedules import Progress


@dataclass(eq=False)
class Training:
    """How far one model has been trained, and what it takes to go on."""

    slots: list = field(default_factory=list)
    step: int = 0
    epoch: int = 0
    samples: int = 0
    plateaus: int = 0
    stalled: int = 0
    learning_rate: float = 0.0
    best_loss: float = np.inf
    best_score: float = -np.inf
    best_theta: np.ndarray | None = None
    curve: list = field(default_factory=list)
    scores: list = field(default_factory=list)

    def copy(self) -> "Training":
        return replace(self, curve=list(self.curve), scores=list(self.scores))

    def restart(self) -> "Training":
        """The same training under a new optimizer, as a warm start begins it."""
        # As in scikit-learn, a warm start that finds no better score ends where it ends.
        return replace(self.copy(), slots=[], step=0, epoch=0, plateaus=0, best_theta=None)


def gather(xp, A, idx):
    """Rows ``idx`` (M, b) of ``A`` (n, ...), of shape (M, b, ...)."""
    return xp.reshape(xp.take(A, xp.reshape(idx, (-1,)), axis=0), (*idx.shape, *A.shape[1:]))


def _gather_own(take, xp, A, idx, models, n_rows):
    """Like gather, for ``A`` (n, ...) shared or (M * n, ...) with n rows for each model."""
    return take(xp, A, idx if A.shape[0] == n_rows else idx + models[:, None] * n_rows)


def _flat(A, n_rows):
    """Per-model arrays (M, n, ...) as (M * n, ...); shared ones as they are."""
    return A if A.shape[0] == n_rows else A.reshape(-1, *A.shape[2:])


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


class _Stack:
    """The models still in training: their parameters and slots on the device."""

    def __init__(self, backend, problem: Problem, trainings: list[Training]):
        self.backend, self.xp = backend, backend.xp
        self.optimizer = OPTIMIZERS[problem.options["optimizer"]]
        self.models = np.arange(problem.n_models)
        self.trainings = trainings
        dtype = problem.dtype
        # A copy: the optimizer may work in place.
        self.theta = backend.asarray(np.array(problem.theta, dtype=dtype), dtype)
        self.slots = [
            backend.asarray(
                np.stack(
                    [
                        t.slots[i].astype(dtype) if t.slots else np.zeros_like(theta)
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
        return np.array(self.backend.to_numpy(self.theta[i]))

    def save_slots(self) -> None:
        """Leave with each model what it needs to go on."""
        slots = [self.backend.to_numpy(slot) for slot in self.slots]
        for i, m in enumerate(self.models):
            self.trainings[m].slots = [np.array(slot[i]) for slot in slots]
            self.trainings[m].step = int(self.step[i, 0])


def _learning_rates(problem: Problem, stack: _Stack, n_steps: int) -> np.ndarray:
    """Rates of shape (n_steps, M, 1) for the epoch to come."""
    trainings = [stack.trainings[m] for m in stack.models]

    def column(name):
        return np.array([[float(getattr(t, name))] for t in trainings])

    started = column("epoch") > 0
    progress = Progress(
        step=stack.step + np.arange(n_steps, dtype=float)[:, None, None],
        epoch=column("epoch"),
        # A new optimizer starts from the initial rate, however many rows came before it.
        samples=np.where(started, column("samples"), 0.0),
        plateaus=column("plateaus"),
    )
    rates = problem.options["schedule"](problem.hyper["learning_rate_init"][stack.models], progress)
    return np.broadcast_to(rates, (n_steps, len(trainings), 1))


def _train_epoch(backend, problem: Problem, data, stack: _Stack, orders: list) -> np.ndarray:
    """One pass over each model's rows. Returns the mean objective of the batches, shape (M,)."""
    xp, dtype = backend.xp, problem.dtype
    X, y, weights = data
    n_rows = X.shape[0]
    take, gradient = backend.kernel(gather), backend.kernel(value_and_grad)
    update = backend.kernel(stack.optimizer.step)
    hyper = {
        name: _numbers(backend, problem.hyper[name][stack.models], dtype)
        for name in stack.optimizer.hyper
    }
    l2 = problem.hyper["l2"][stack.models]
    models = backend.asarray(stack.models)
    loss_scale = problem.options["loss_scale"]
    lengths = np.array([len(order) for order in orders])
    steps = list(batches(orders, problem.options["batch_size"]))
    rates = _learning_rates(problem, stack, len(steps))

    total, last_n = 0.0, None
    for (idx, n), rate in zip(steps, rates, strict=True):
        idx = backend.asarray(idx)
        # Batches are alike but for the last, unless samples have weights.
        if weights is not None or last_n is None or (n != last_n).any():
            own = None if weights is None else _gather_own(take, xp, weights, idx, models, n_rows)
            w, size = _batch_weights(backend, own, n, idx.shape[1], dtype)
            decay = backend.asarray(l2 / size, dtype)
            share = backend.asarray(n / lengths, dtype)
            training, last_n = n[:, None] > 0, n
            everyone = training.all()
        value, penalty, grad = gradient(
            xp,
            problem.net,
            stack.theta,
            take(xp, X, idx),
            _gather_own(take, xp, y, idx, models, n_rows),
            w,
            decay,
        )
        stack.step += training
        step, rate = _numbers(backend, stack.step, dtype), _numbers(backend, rate, dtype)
        before = None if everyone else stack.snapshot()
        stack.theta, stack.slots = update(xp, stack.theta, grad, stack.slots, step, rate, **hyper)
        if before:
            # Even a zero gradient would move Adam: a model out of batches stands still.
            stack.restore(before, ~training)
        total = total + (loss_scale * value + penalty) * share
    return backend.to_numpy(total)


def _batch_weights(backend, weights, n, batch_size, dtype):
    """Row weights of a batch that sum to one for each model, and what they summed to before.

    ``n`` of the ``batch_size`` rows are real for each model; ``weights`` (M, b) are those of the
    samples, or None.
    """
    if weights is None and (n == batch_size).all():
        size = n[:, None].astype(float)
        return backend.asarray(1.0 / size, dtype), size
    w = backend.asarray(np.arange(batch_size) < n[:, None], dtype)
    if weights is not None:
        w = w * weights
    size = np.asarray(backend.to_numpy(w), dtype=float).sum(axis=1, keepdims=True)
    # A batch without weight teaches nothing; it must not divide by zero either.
    size = np.where(size > 0, size, 1.0)
    return w / backend.asarray(size, dtype), size


def _numbers(backend, values: np.ndarray, dtype):
    """Per-model numbers for the device; those of a single model as a plain float."""
    return float(values[0, 0]) if values.shape[0] == 1 else backend.asarray(values, dtype)


def _validation_score(backend, problem: Problem, X, theta, m: int) -> float:
    """Score of model m on its held-out rows of X; NaN if its predictions are not finite."""
    held_out = problem.validation[m]
    if held_out.rows is not None:
        X = backend.kernel(gather)(backend.xp, X, backend.asarray(held_out.rows[None]))
    predicted = backend.to_numpy(predict(backend.xp, problem.net, theta, X))[0]
    return float(held_out.score(predicted)) if np.isfinite(predicted).all() else np.nan


def _note_progress(problem: Problem, training: Training, m: int, loss, score, theta) -> None:
    """Count the epochs without improvement, and keep the best."""
    tol = problem.hyper["tol"][m, 0]
    training.curve.append(loss)
    if score is None:
        training.stalled = training.stalled + 1 if loss > training.best_loss - tol else 0
        training.best_loss = min(training.best_loss, loss)
        return
    training.scores.append(score)
    training.stalled = training.stalled + 1 if score < training.best_score + tol else 0
    if score > training.best_score:
        training.best_score, training.best_theta = score, theta()


def _finished(problem: Problem, training: Training, m: int) -> bool:
    """Whether model m has met the stopping rule; an adaptive schedule lowers its rate first."""
    patience = problem.hyper["n_iter_no_change"][m, 0]
    if training.stalled <= patience:
        return False
    reason = (
        f"{'Training loss' if problem.validation is None else 'Validation score'} did not improve "
        f"more than tol={problem.hyper['tol'][m, 0]:f} for {patience:g} consecutive epochs."
    )
    schedule = problem.options["schedule"]
    survives = getattr(schedule, "survives_plateau", None)
    if survives is None or not survives(training.learning_rate):
        too_small = "" if survives is None else " Learning rate too small."
        _say(problem, f"{reason}{too_small} Stopping.")
        return True
    training.plateaus += 1
    training.stalled = 0
    training.learning_rate = _rate_after(problem, training, m)
    _say(problem, f"{reason} Setting learning rate to {training.learning_rate:f}")
    return False


def _rate_after(problem: Problem, training: Training, m: int) -> float:
    progress = Progress(training.step, training.epoch, training.samples, training.plateaus)
    return float(problem.options["schedule"](problem.hyper["learning_rate_init"][m, 0], progress))


def _say(problem: Problem, text: str) -> None:
    if problem.options["verbose"]:
        print(text)


def solve(backend, problem: Problem) -> Result:
    """Train every model until its loss or validation score stalls, or for ``max_iter`` epochs.

    Hyper-parameters: ``l2`` (divided by the batch's weight, as scikit-learn's alpha),
    ``learning_rate_init``, ``max_iter``, ``tol``, ``n_iter_no_change`` and the optimizer's own.
    Options: ``optimizer`` (a name), ``schedule``, ``batch_size``, ``shuffle``, ``loss_scale``
    (of the reported loss), ``verbose``. A model whose loss is no longer finite stops; its result
    says so with a loss that is not finite.
    """
    M, n_rows = problem.n_models, problem.X.shape[0]
    trainings = [t.copy() if t else Training() for t in problem.states or [None] * M]
    stack = _Stack(backend, problem, trainings)
    data = (
        backend.asarray(problem.X, problem.dtype),
        backend.asarray(_flat(problem.y, n_rows), problem.dtype),
        None
        if problem.weights is None
        else backend.asarray(_flat(np.asarray(problem.weights), n_rows), problem.dtype),
    )
    orders = problem.rows or [np.arange(n_rows)] * M
    theta = np.array(problem.theta, dtype=problem.dtype)
    n_iter, loss = np.zeros(M, dtype=int), np.full(M, np.nan)
    converged = np.zeros(M, dtype=bool)
    max_iter = problem.hyper["max_iter"][:, 0]
    held_out = {}
    if problem.validation is not None:
        arrays = {id(v.X): v.X for v in problem.validation}
        held_out = {key: backend.asarray(X, problem.dtype) for key, X in arrays.items()}

    try:
        while len(stack.models):
            orders = [_permute(problem, m, o) for m, o in zip(stack.models, orders, strict=True)]
            losses = _train_epoch(backend, problem, data, stack, orders)
            going = np.ones(len(stack.models), dtype=bool)
            for i, m in enumerate(stack.models):
                training = trainings[m]
                loss[m] = losses[i]
                n_iter[m] += 1
                training.step = int(stack.step[i, 0])
                training.epoch += 1
                training.samples += len(orders[i])
                training.learning_rate = _rate_after(problem, training, m)
                _say(problem, f"Iteration {n_iter[m]}, loss = {loss[m]:.8f}")
                score = None
                if problem.validation is not None:
                    X_val = held_out[id(problem.validation[m].X)]
                    score = _validation_score(backend, problem, X_val, stack.theta[i : i + 1], m)
                    _say(problem, f"Validation score: {score:f}")
                _note_progress(
                    problem, training, m, float(losses[i]), score, lambda i=i: stack.theta_of(i)
                )
                converged[m] = _finished(problem, training, m)
                stopped = _monitor(problem, m, n_iter[m], stack, i, loss[m])
                going[i] = not (
                    converged[m] or stopped or n_iter[m] >= max_iter[m] or not np.isfinite(loss[m])
                )
                converged[m] |= stopped
                if not going[i]:
                    theta[m] = stack.theta_of(i)
            if not going.all():
                stack.save_slots()
                stack.keep(going)
                orders = [order for order, goes in zip(orders, going, strict=True) if goes]
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
        converged[stack.models] = True
        for i, m in enumerate(stack.models):
            theta[m] = stack.theta_of(i)
        stack.save_slots()

    if problem.validation is not None:
        for m, training in enumerate(trainings):
            if training.best_theta is not None:
                theta[m] = training.best_theta
    return Result(
        theta=theta,
        n_iter=n_iter,
        loss=loss,
        converged=converged,
        curve=[training.curve for training in trainings],
        states=trainings,
    )


def _monitor(problem: Problem, m: int, epoch: int, stack: _Stack, i: int, loss: float) -> bool:
    monitor = problem.monitors[m] if problem.monitors else None
    return bool(monitor(epoch, stack.theta_of(i), loss)) if monitor else False


def memory(problem: Problem) -> float:
    """Bytes of one model: parameters, gradient and slots, and the activations of a batch."""
    itemsize = np.dtype(problem.dtype).itemsize
    slots = OPTIMIZERS[problem.options["optimizer"]].slots
    units = sum(problem.net.units) * 3
    rows = problem.options["batch_size"]
    return itemsize * ((3 + slots) * n_parameters(problem.net) + rows * units)
