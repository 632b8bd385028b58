"""What the steps of an epoch need of the host: planned at once, and sent to the device at once."""

import pickle
from collections import Counter
from itertools import islice
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...draws import DRAWS, streams, threshold
from ...optimizers import OPTIMIZERS, Optimizer
from ...problem import Problem
from ...regularization import put_together
from .training import Trainings, scheduled

# Numbers of masks that are drawn at once at most.
MASKS = 2**21


def optimizer_of(problem: Problem) -> Optimizer:
    """The entry of the table, or the user's own."""
    optimizer = problem.options["optimizer"]
    return OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer


class Batch(NamedTuple):
    """What a step needs, on the device.

    Parameters
    ----------
    rows : int array of shape (M, b)
    w : array of shape (M, b) or (M, 1)
        Row weights that sum to one; zero for padding.
    l2, per : arrays of shape (M, 1)
        Weight decay, and the weight of rows that a penalty is divided by.
    share : array of shape (M,)
        Of the epoch's rows.
    present : array of shape (M, b), or None
        Where some rows are padding, ones for the others over how many they are.
    t, rate : floats, or arrays of shape (M, 1)
        The number of the step in the training, and the learning rate.
    keys : int array of shape (M, n_draws), or None
    dropout : array of shape (2, M, n_layers), or None
        Where the rates of dropout follow a schedule, their numbers (see ``Layout.dropout``).
    """

    rows: Any
    w: Any
    l2: Any
    per: Any
    share: Any
    present: Any
    t: Any
    rate: Any
    keys: Any
    dropout: Any


def send(backend, arrays: list[np.ndarray], dtype: str) -> list:
    """The arrays on the device, sent in one piece."""
    flat = backend.asarray(np.concatenate([array.ravel() for array in arrays]), dtype)
    ends = np.cumsum([array.size for array in arrays]).tolist()
    return [
        backend.xp.reshape(flat[end - array.size : end], array.shape)
        for array, end in zip(arrays, ends, strict=True)
    ]


def _numbered(keys) -> np.ndarray:
    """A number for each key, the same for equal ones; the first is 0."""
    known: dict = {}
    return np.array([known.setdefault(key, len(known)) for key in keys])


class Orders:
    """The order of each model's rows, anew for each epoch, as scikit-learn draws it.

    Models with generators in the same state and as many rows are twins: what one of them draws is
    what the others would.

    Parameters
    ----------
    problem : Problem
    models : int array of shape (M,)
    rows : list of M int arrays
        Where to begin.

    Attributes
    ----------
    lengths : int array of shape (M,)
    rows : list of C int arrays
        The orders that there are.
    of_model : int array of shape (M,)
        Which of them is a model's.
    """

    def __init__(self, problem: Problem, models, rows: list):
        self.shuffles, self.rngs = problem.options["shuffle"], problem.rngs
        self.models, self.lengths = models, np.array([len(own) for own in rows])
        self.twins = _numbered(zip(self._states(), self.lengths.tolist(), strict=True))
        self.of_model = _numbered(zip(self.twins.tolist(), map(id, rows), strict=True))
        places = self.of_model.tolist()
        self.rows = list(dict(zip(places, rows, strict=True)).values())
        self.drawn_by = list(dict(zip(places, self.twins.tolist(), strict=True)).values())

    def _states(self) -> list:
        """Of the models' generators."""
        if not self.shuffles:
            return [None] * len(self.models)
        rngs = [self.rngs[m] for m in self.models]
        users = Counter(map(id, rngs))
        # From one that several models have each draws in turn.
        return [
            m if users[id(rng)] > 1 else pickle.dumps(rng.get_state(legacy=False))
            for m, rng in enumerate(rngs)
        ]

    def shuffle(self, live: np.ndarray) -> None:
        """Permute the orders of models that train on, a mask of shape (M,)."""
        drawn: dict = {}
        for i in np.flatnonzero(live & self.shuffles).tolist():
            if self.twins[i] not in drawn:
                drawn[self.twins[i]] = self.rngs[self.models[i]].permutation(self.lengths[i])
        for c, twins in enumerate(self.drawn_by):
            if twins in drawn:
                self.rows[c] = self.rows[c][drawn[twins]]

    def keep_up(self, live: np.ndarray) -> None:
        """Bring the generators of models that train on to where that of their twin is."""
        first: dict = {}
        states: dict = {}
        for i in np.flatnonzero(live & self.shuffles).tolist():
            twins, rng = self.twins[i], self.rngs[self.models[i]]
            if first.setdefault(twins, rng) is not rng:
                states[twins] = states.get(twins) or first[twins].get_state(legacy=False)
                rng.set_state(states[twins])

    def keep(self, kept: np.ndarray) -> None:
        """Forget all models but those of a mask of shape (M,)."""
        self.models, self.lengths = self.models[kept], self.lengths[kept]
        self.twins = self.twins[kept]
        used, self.of_model = np.unique(self.of_model[kept], return_inverse=True)
        self.rows = [self.rows[c] for c in used]
        self.drawn_by = [self.drawn_by[c] for c in used]


def of_dropout(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two numbers of each rate of dropout, by which masks are made."""
    return threshold(rates), 1.0 / (1.0 - rates)


class Layout:
    """How a stack's epochs are cut into batches, and what stays as it is while its models do.

    A model with fewer rows than another has short or empty batches at the end: they are padded. On
    a backend with ``fixed_shapes`` the last batch is, too, so that all steps are alike.

    Parameters
    ----------
    backend : Backend
    problem : Problem
    models : int array of shape (M,)
    orders : Orders
        Of their rows.

    Attributes
    ----------
    lengths : int array of shape (M,)
        Rows of each.
    counts : int array of shape (S, M)
        Rows of each batch.
    n_steps : int array of shape (M,)
    padded : bool array of shape (S,)
    last, still : dict of int to bool array of shape (M, 1)
        By step: the models that make their last one (None for all), and those without a batch.
    hyper : dict
        The optimizer's numbers.
    rate_factors : array of shape (M, P), or None
        What the learning rate of each parameter is multiplied by.
    regularizers : list of Regularizer
    dropout : list of pairs of arrays of shape (M,)
        Of each rate: its threshold (see ``draws``), and what is left is multiplied by.
    """

    def __init__(self, backend, problem: Problem, models, orders: Orders):
        self.backend, self.problem, self.models = backend, problem, models
        self.orders, lengths = orders, orders.lengths
        self.lengths = lengths
        self.size, longest = problem.options["batch_size"], int(lengths.max())
        self.starts = np.arange(0, longest, self.size)
        self.counts = np.minimum(np.maximum(lengths - self.starts[:, None], 0), self.size)
        self.n_steps = -(-lengths // self.size)
        self.width = len(self.starts) * self.size if backend.fixed_shapes else longest
        self.widths = np.minimum(self.size, self.width - self.starts)
        self.padded = (self.counts < self.widths[:, None]).any(axis=1)
        self.made = np.cumsum(self.counts > 0, axis=0)[..., None]
        self.places = backend.asarray(models)
        apart = len(orders.rows) == len(models)
        self.of_model = None if apart else backend.asarray(orders.of_model)
        self.last = {
            s: self._mask(self.n_steps - 1 == s) for s in np.unique(self.n_steps - 1).tolist()
        }
        idle = self.counts == 0
        self.still = {s: self._mask(idle[s]) for s in np.flatnonzero(idle.any(axis=1)).tolist()}
        self.own = {name: values[models] for name, values in problem.hyper.items()}
        self._place_numbers()
        # Without sample weights what follows from them is the same in every epoch.
        self.weighed = None
        if problem.weights is None:
            _, first, kind = np.unique(self.counts, axis=0, return_index=True, return_inverse=True)
            placed = self._weighed({s: self._present(s) for s in first.tolist()})
            self.weighed = [placed[s] for s in first[kind.ravel()].tolist()]

    def _mask(self, which: np.ndarray):
        """A mask of models on the device, (M, 1), or None for all."""
        return None if which.all() else self.backend.asarray(which[:, None])

    def _place_numbers(self) -> None:
        """Send the numbers of the models that are the same in every step."""
        own, of_optimizer = self.own, optimizer_of(self.problem).hyper
        names = [*of_optimizer, *(name for name in own if name.startswith("regularizer_"))]
        names += ["rate_factors"] if "rate_factors" in own else []
        rates = own.get("dropout", np.zeros((len(self.models), 0)))
        placed = send(
            self.backend,
            [*(own[name] for name in names), *of_dropout(rates.T)],
            self.problem.dtype,
        )
        self.dropout = [
            (placed[-2][i, :], placed[-1][i, :]) if rate.any() else None
            for i, rate in enumerate(rates.T)
        ]
        numbers = dict(zip(names, placed, strict=False))
        self.hyper = {name: numbers[name] for name in of_optimizer}
        self.rate_factors = numbers.get("rate_factors")
        if len(self.models) == 1:  # a plain number is quicker where arrays are small
            self.hyper |= {n: float(own[n][0, 0]) for n in self.hyper if own[n].size == 1}
        kinds = self.problem.options.get("regularizers", ())
        self.regularizers = put_together(kinds, numbers)
        self.n_draws = len(self.dropout) + DRAWS * sum(one.random for one in self.regularizers)
        # Masks are made for many steps at once where that saves launches, else while in the cache.
        of_step = len(self.models) * self.size * sum(map(prod, self.problem.net.masked))
        many = MASKS if self.backend.fixed_shapes and not self.backend.captures else 0
        self.at_once = min(max(many // max(of_step, 1), 1), len(self.starts))

    def _present(self, s: int) -> np.ndarray:
        """Ones for the rows of a batch that are no padding, (M, b)."""
        return (np.arange(self.widths[s]) < self.counts[s][:, None]).astype(self.problem.dtype)

    def _weighed(self, weights: dict[int, np.ndarray]) -> dict[int, tuple]:
        """Of steps whose rows have such weights what follows from them: ``w`` to ``present``."""
        own, dtype, columns = self.own, self.problem.dtype, []
        for s, w in weights.items():
            n = self.counts[s][:, None].astype(float)
            even = self.problem.weights is None and not self.padded[s]
            size = n if even else np.asarray(w, dtype=float).sum(axis=1, keepdims=True)
            # A batch without weight teaches nothing; it must not divide by zero either.
            size = np.where(size != 0, size, np.inf)
            per = np.broadcast_to(own.get("penalty_rows", size), size.shape)
            present = [self._present(s) / np.maximum(n, 1.0)] if self.padded[s] else []
            w = 1.0 / size if even else w / size.astype(dtype)
            columns += [w, own["l2"] / per, per, n[:, 0] / self.lengths, *present]
        placed = iter(send(self.backend, [np.asarray(c, dtype=dtype) for c in columns], dtype))
        return {s: (*islice(placed, 4), next(placed) if self.padded[s] else None) for s in weights}

    def batches(self, step, trainings: Trainings) -> list[Batch]:
        """The batches of an epoch; so many steps, (M, 1), were made before."""
        order, S, t = self._stacked(), len(self.starts), step + self.made
        rates = self._scheduled("learning_rate_init", trainings, t)
        dropout = self._scheduled_dropout(trainings, t)
        weighed = self.weighed or self._own_weights(order)
        rows, keys = self._placed(order, t, trainings)
        if len(self.models) == 1 and not self.backend.captures:
            t, rates = t[:, 0, 0].tolist(), np.asarray(rates)[:, 0, 0].tolist()
        else:
            t, rates = send(self.backend, [t, np.asarray(rates)], self.problem.dtype)
            t, rates = ([x[s, :, :] for s in range(S)] for x in (t, rates))
        return [
            Batch(
                rows[s],
                *weighed[s],
                t[s],
                rates[s],
                None if keys is None else keys[s, :, :],
                None if dropout is None else dropout[s, ...],
            )
            for s in range(S)
        ]

    def _scheduled(self, name: str, trainings, t) -> np.ndarray:
        """A hyper-parameter (S, M, k) in the steps of these numbers, (S, M, 1), counted from 1."""
        return scheduled(name, self.problem, trainings, self.models, self.n_steps, t - 1.0)

    def _scheduled_dropout(self, trainings, t):
        """Numbers of the dropout layers, (S, 2, M, n_layers); None where they stay the same."""
        if self.problem.options.get("dropout_schedule") is None or not any(self.dropout):
            return None
        rates = self._scheduled("dropout", trainings, t)
        if not ((rates >= 0) & (rates < 1)).all():
            raise ValueError("dropout_schedule must give rates in [0, 1).")
        return send(self.backend, [np.stack(of_dropout(rates), axis=1)], self.problem.dtype)[0]

    def _stacked(self) -> np.ndarray:
        """The orders there are (C, width); what is padded is the first row there is."""
        order = np.zeros((len(self.orders.rows), self.width), dtype=np.intp)
        for padded, rows in zip(order, self.orders.rows, strict=True):
            padded[: len(rows)] = rows
        return order

    def _cut(self, order):
        """Rows of each step."""
        ends = zip(self.starts.tolist(), self.widths.tolist(), strict=True)
        return [order[:, start : start + width] for start, width in ends]

    def _own_weights(self, order) -> dict[int, tuple]:
        """What follows from sample weights in each step."""
        given, weights = self.problem.weights, {}
        for s, rows in enumerate(self._cut(order[self.orders.of_model])):
            own = given[self.models[:, None], rows] if given.ndim == 2 else given[rows]
            weights[s] = self._present(s) * own.astype(self.problem.dtype)
        return self._weighed(weights)

    def _placed(self, order, t, trainings):
        """Rows of each step, and keys of its random numbers, on the device."""
        S, keys = len(self.starts), []
        if self.n_draws:
            seeds = np.array([trainings.seed[m] for m in self.models])
            keys = [streams(seeds, t[..., 0], self.n_draws)]
        if not self.backend.fixed_shapes:
            rows = self._cut(self._of_models(self.backend.asarray(order), axis=0))
            return rows, self.backend.asarray(keys[0]) if keys else None
        each = order.reshape(len(order), S, self.size).swapaxes(0, 1)
        rows, *keys = send(self.backend, [each, *keys], "int64")
        rows = self._of_models(rows, axis=1)
        return [rows[s, :, :] for s in range(S)], keys[0] if keys else None

    def _of_models(self, order, axis: int):
        """Each model's, of the orders there are."""
        if self.of_model is None:
            return order
        return self.backend.xp.take(order, self.of_model, axis=axis)
