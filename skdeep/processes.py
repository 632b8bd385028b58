"""What the processes that fit one model together ask of each other, and its answers for one alone.

Rows of all processes are numbered in the order of the processes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from .overrides import overridable

__all__ = ["Alone", "Shares", "active", "refuse", "summed"]


class Shares(NamedTuple):
    """Which rows of all processes are this one's: from ``start`` to ``stop``, of ``total``."""

    start: int
    stop: int
    total: int

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Of numbers of rows of all processes those that are here, as numbers of rows here."""
        if self.stop - self.start == self.total:
            return rows
        return rows[(rows >= self.start) & (rows < self.stop)] - self.start

    def every(self, step: int) -> slice:
        """The rows here of every so many rows of all processes."""
        return slice(-self.start % step, None, step)


class Alone:
    """One process: nobody to ask. :mod:`skdeep.distributed` has the answers of several.

    Examples
    --------
    >>> from skdeep.processes import Alone
    >>> Alone().sum(3.0), Alone().gather("here"), Alone().shares(5)
    (3.0, ['here'], Shares(start=0, stop=5, total=5))
    """

    size, rank = 1, 0

    def sum(self, x):
        """The sum of an array over the processes."""
        return x

    def largest(self, x):
        """The elementwise maximum of an array over the processes."""
        return x

    def gather(self, value) -> list:
        """The values of all processes, in their order."""
        return [value]

    def leave(self, error: BaseException) -> None:
        """Tell the others that this process goes no further."""

    def joined(self, rows, axis: int = 0):
        """The rows of all processes, of a NumPy array; None if there are none."""
        parts = self.gather(rows)
        return rows if rows is None or len(parts) == 1 else np.concatenate(parts, axis=axis)

    def total(self, number):
        """The sum of numbers, or of NumPy arrays of numbers or truth values."""
        if self.size == 1:
            return number
        total = self.sum(np.asarray(number) + 0)
        return total if total.ndim else total.item()

    def shares(self, n: int) -> Shares:
        """Whose rows are which, where there are n of them here."""
        sizes = self.total(np.where(np.arange(self.size) == self.rank, n, 0)).tolist()
        start = sum(sizes[: self.rank])
        return Shares(start, start + n, sum(sizes))

    def encode(self, labels) -> tuple[np.ndarray, np.ndarray]:
        """The labels that occur, in order, and which of them each row here has."""
        classes, codes = np.unique(labels, return_inverse=True)
        if self.size == 1:
            return classes, codes
        known = np.unique(np.concatenate(self.gather(classes)))
        return known, np.searchsorted(known, classes)[codes]

    def labels(self, y):
        """Targets with all the labels that occur."""
        if self.size == 1:
            return y
        return self.joined(np.unique(y) if y.ndim == 1 else y[:1])

    def random_state(self, seed) -> np.random.RandomState:
        """A generator that is in the same state in all processes."""
        rng = check_random_state(seed)
        if self.size == 1:
            return rng
        if seed is None:  # NumPy's own, which is not ours to set
            return np.random.RandomState(self.gather(rng.randint(2**31))[0])
        rng.set_state(self.gather(rng.get_state())[0])
        return rng


ALONE = Alone()
_ACTIVE: ContextVar[Any] = ContextVar("processes", default=None)


def active() -> Alone:
    """The processes that fit together here."""
    return _ACTIVE.get() or ALONE


def refuse(what: str, instead: str) -> None:
    """Raise ValueError where several processes fit together."""
    if active().size > 1:
        raise ValueError(f"{what} in skdeep.distributed.data_parallel(): {instead}")


@contextmanager
def telling() -> Iterator[None]:
    """Tell the other processes if the block raises."""
    try:
        yield
    except BaseException as error:
        active().leave(error)
        raise


def agree(what: str, values: Iterable) -> None:
    """Raise ValueError unless the processes have the same."""
    first, *others = values
    if any(other != first for other in others):
        raise ValueError(
            f"The processes differ in {what}: all must call the same fits with the same parameters."
        )


@overridable
def summed(xp, x):
    """The sum of an array over the processes, where there is a namespace and no backend."""
    return x
