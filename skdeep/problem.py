"""What a solver is given and what it gives back. Both lead with the model axis M."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .network import Network
from .processes import active

__all__ = ["Problem", "Result", "Validation"]


def cancel(weights: np.ndarray) -> bool:
    """Whether weights sum to zero, but for rounding: there is no mean under them."""
    rounding = 100.0 * np.finfo(weights.dtype).eps
    total, size = active().total(np.array([weights.sum(), np.abs(weights).sum()]))
    return bool(abs(total) <= rounding * size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """M models to fit that share everything but numbers and rows.

    Parameters
    ----------
    solver : str or Solver
        Name in ``skdeep.solvers.SOLVERS``, or a solver of the user's own.
    X : array or sparse array of shape (n, p)
        The rows that all models share, on the host or where the backend computes.
    y : array of shape (n, k) or (M, n, k)
        Encoded targets: indicator columns for classes, numbers for regression.
    dtype : str
        Floating-point type of the computation.
    theta : ndarray of shape (M, P)
        Where each model starts.
    net : Network, optional
        The shape of the models.
    hyper : dict of str to ndarray of shape (M, 1)
        Numeric hyper-parameters, which may differ from model to model.
    options : dict of str to hashable
        What shapes and control flow depend on; a stack shares it.
    weights : ndarray of shape (n,) or (M, n), optional
        Sample weights.
    rows : list of M int arrays, optional
        The rows that each model trains on, in order; all of them if None.
    rngs : list of M RandomState, optional
    validation : list of M Validation, optional
    states : list of M solver-specific objects, optional
        Where earlier training of each model stopped, to go on from there.
    monitors : list of M callables or None, optional
        ``monitor(epoch, theta, loss) -> bool`` runs after each epoch; True ends that model's fit.
    elsewhere : int, default=0
        Rows that other processes hold, where several fit together.
    checkpoint : Record, optional
        Its ``state`` is where the solver left this problem in another process, or None;
        ``after_epoch(epoch, last, state)`` may call ``state()`` and write it down.
    """

    solver: Any
    X: Any
    y: Any
    dtype: str
    theta: np.ndarray
    net: Network | None = None
    hyper: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: np.ndarray | None = None
    rows: list | None = None
    rngs: list | None = None
    validation: list | None = None
    states: list | None = None
    monitors: list | None = None
    checkpoint: Any = None
    elsewhere: int = 0

    @property
    def n_rows(self) -> int:
        """Rows of all processes."""
        return self.X.shape[0] + self.elsewhere

    @property
    def n_models(self) -> int:
        return self.theta.shape[0]

    @cached_property
    def largest_entry(self) -> float:
        """The largest size of an entry of X; a pass over it."""
        return float(max(self.X.max(), -self.X.min()))

    def take(self, models) -> "Problem":
        """The problem of some of the models, a slice or an array of their positions."""
        places = np.arange(self.n_models)[models]

        def cut(items):
            return None if items is None else [items[m] for m in places]

        shared = self.weights is None or self.weights.ndim == 1
        return replace(
            self,
            y=self.y if self.y.ndim == 2 else self.y[models],
            theta=self.theta[models],
            hyper={name: values[models] for name, values in self.hyper.items()},
            weights=self.weights if shared else self.weights[models],
            rows=cut(self.rows),
            rngs=cut(self.rngs),
            validation=cut(self.validation),
            states=cut(self.states),
            monitors=cut(self.monitors),
        )

    def row_weights(self) -> np.ndarray:
        """Sample weights of shape (M, n), zero for the rows that a model does not train on.

        Where all models weigh all rows alike the shape is (M, 1), which broadcasts.
        """
        if self.weights is None and self.rows is None:
            return np.ones((self.n_models, 1))
        shape = (self.n_models, self.X.shape[0])
        weights = np.ones(shape) if self.weights is None else np.broadcast_to(self.weights, shape)
        if self.rows is not None:
            kept = np.zeros(shape, dtype=bool)
            for mask, rows in zip(kept, self.rows, strict=True):
                mask[rows] = True
            weights = np.where(kept, weights, 0.0)
        return np.ascontiguousarray(weights, dtype="float64")


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """Rows held out of a model's training, and how to score its predictions on them.

    ``rows`` picks rows of ``X``, or all of them if None; ``y`` (len(rows), k) and ``weights`` go
    with them, for solvers that compute a loss on them too. ``score`` takes predictions of the
    shape (len(rows), k); where it is None, minus that loss is the score. ``metric``, if there is
    one, gives the same scores of many models, (M,), from ``y`` and predictions (M, n, k) and
    weights (M, n), zero for rows that do not count; there may be one of each for all.
    """

    X: Any
    rows: np.ndarray | None
    score: Callable[[np.ndarray], float] | None = None
    y: np.ndarray | None = None
    weights: np.ndarray | None = None
    metric: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a solver found.

    Parameters
    ----------
    theta : ndarray of shape (M, P)
    n_iter : ndarray of shape (M,)
        Iterations or epochs done.
    loss : ndarray of shape (M,)
        Final value of the objective; NaN if an interrupt came before any.
    converged : ndarray of bool of shape (M,)
        Whether the stopping rule was met.
    curve : list of M lists, optional
        The objective after each iteration.
    states : list of M objects, optional
        What ``Problem.states`` takes to go on from here.
    extra : dict of str to array, optional
        What else a solver found; each array leads with M.
    interrupted : bool, default=False
        Whether this is what an interrupt has left.
    """

    theta: np.ndarray
    n_iter: np.ndarray
    loss: np.ndarray
    converged: np.ndarray
    curve: list | None = None
    states: list | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False
