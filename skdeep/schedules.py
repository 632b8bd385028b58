"""Schedules of a rate, of learning or of dropout: pure functions of the progress.

The training loop owns the counters.

A schedule is any ``(lr0, progress) -> lr``. Two attributes are optional: ``survives_plateau(rate)``
says whether training goes on at a lower rate when progress stalls, and ``patience``, for how many
epochs it may stall before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "SCHEDULES",
    "Adaptive",
    "Constant",
    "CosLog",
    "Cosine",
    "Exponential",
    "FlatCosine",
    "InvScaling",
    "OneCycle",
    "Plateau",
    "Progress",
    "Step",
]


class Progress(NamedTuple):
    """How far a training has come. Each field is a number or an array of shape ``(M, 1)``.

    ``step`` counts updates, ``epoch`` passes over the data, ``samples`` the rows seen up to the
    last epoch's end, ``plateaus`` how often progress has stalled, ``total`` the updates planned.
    """

    step: Any
    epoch: Any
    samples: Any
    plateaus: Any
    total: Any = None


@dataclass(frozen=True)
class Constant:
    """The initial rate throughout."""

    def __call__(self, lr0, progress):
        return lr0 + 0.0 * progress.step


@dataclass(frozen=True)
class InvScaling:
    """``lr0 / (samples + 1) ** power_t``, updated once an epoch."""

    power_t: float = 0.5

    def __call__(self, lr0, progress):
        return lr0 / (progress.samples + 1.0) ** self.power_t + 0.0 * progress.step


@dataclass(frozen=True)
class Adaptive:
    """The rate divided by ``factor`` at each plateau; training ends once it is ``min_rate``."""

    factor: float = 5.0
    min_rate: float = 1e-6

    def __call__(self, lr0, progress):
        return lr0 / self.factor**progress.plateaus + 0.0 * progress.step

    def survives_plateau(self, rate):
        return rate > self.min_rate


@dataclass(frozen=True)
class Step:
    """The rate divided by ``factor`` every so many epochs.

    Parameters
    ----------
    factor : float, default=10.0
    every : int, default=50
        Epochs from one division to the next.
    """

    factor: float = 10.0
    every: int = 50

    def __post_init__(self):
        _check(self, self.factor > 0 and self.every > 0, "factor and every must be positive")

    def __call__(self, lr0, progress):
        return lr0 / self.factor ** (progress.epoch // self.every) + 0.0 * progress.step


@dataclass(frozen=True)
class Exponential:
    """The rate times ``gamma`` after each epoch.

    Parameters
    ----------
    gamma : float, default=0.98
    """

    gamma: float = 0.98

    def __post_init__(self):
        _check(self, self.gamma > 0, "gamma must be positive")

    def __call__(self, lr0, progress):
        return lr0 * self.gamma**progress.epoch + 0.0 * progress.step


@dataclass(frozen=True)
class Plateau:
    """The rate divided by ``factor`` at each plateau, down to ``min_rate``.

    The validation score tells a plateau where there is one, else the training loss. Training ends
    at the first plateau at ``min_rate``.

    Parameters
    ----------
    factor : float, default=10.0
    patience : int or None, default=5
        Epochs without improvement that are not a plateau yet, in place of ``n_iter_no_change``;
        None leaves it to that.
    min_rate : float, default=1e-6
    """

    factor: float = 10.0
    patience: int | None = 5
    min_rate: float = 1e-6

    def __post_init__(self):
        _check(self, self.factor > 1, "factor must be greater than 1, or rates would never end")

    def __call__(self, lr0, progress):
        floor = np.minimum(lr0, self.min_rate)
        return np.maximum(lr0 / self.factor**progress.plateaus, floor) + 0.0 * progress.step

    def survives_plateau(self, rate):
        return rate > self.min_rate


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the initial rate to ``min_rate`` once the planned steps are done.

    Loshchilov and Hutter (2017), without restarts.

    Parameters
    ----------
    min_rate : float, default=0.0

    Examples
    --------
    >>> from skdeep.schedules import Cosine, Progress
    >>> half_way = Progress(step=50, epoch=5, samples=500, plateaus=0, total=100)
    >>> round(float(Cosine()(0.1, half_way)), 6)
    0.05
    """

    min_rate: float = 0.0

    def __call__(self, lr0, progress):
        return _half_cosine(lr0, self.min_rate, _share(self, progress))


@dataclass(frozen=True)
class FlatCosine:
    """The initial rate for a share of the planned steps, then half a cosine to zero.

    Parameters
    ----------
    flat : float, default=0.5
        That share, less than 1.

    Examples
    --------
    >>> from skdeep.schedules import FlatCosine, Progress
    >>> steps = (Progress(step, 0, 0, 0, total=100) for step in (0, 50, 75, 100))
    >>> [round(float(FlatCosine()(0.2, progress)), 6) for progress in steps]
    [0.2, 0.2, 0.1, 0.0]
    """

    flat: float = 0.5

    def __post_init__(self):
        _check(self, 0 <= self.flat < 1, "flat must be at least 0 and less than 1")

    def __call__(self, lr0, progress):
        share = (_share(self, progress) - self.flat) / (1.0 - self.flat)
        return _half_cosine(lr0, 0.0, np.clip(share, 0.0, 1.0))


@dataclass(frozen=True)
class CosLog:
    """Cosines from zero to the initial rate and back, each twice as long as the one before.

    ``lr0 / 2 * (1 - cos(2 * pi * log2(1 + (2 ** cycles - 1) * t)))``, where t goes from 0 to 1 over
    the planned steps (Holzmüller, Grinsztajn and Steinwart, 2024).

    Parameters
    ----------
    cycles : int, default=4

    Examples
    --------
    >>> from skdeep.schedules import CosLog, Progress
    >>> steps = (Progress(step, 0, 0, 0, total=15) for step in (0, 1, 3, 7, 15))
    >>> [round(float(CosLog()(0.2, progress)), 6) for progress in steps]  # between its cycles
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    cycles: int = 4

    def __post_init__(self):
        _check(self, self.cycles >= 1, "cycles must be at least 1")

    def __call__(self, lr0, progress):
        turns = np.log2(1.0 + (2.0**self.cycles - 1.0) * _share(self, progress))
        return _half_cosine(0.0, lr0, 2.0 * turns)


@dataclass(frozen=True)
class OneCycle:
    """Up to the initial rate and down to almost nothing, along half cosines (Smith, 2018).

    The peak is the initial rate itself, so that ``learning_rate_init`` is the largest rate under
    every schedule; to try a peak ten times as high, raise it.

    Parameters
    ----------
    warmup : float, default=0.3
        Share of the planned steps before the peak, less than 1.
    start_factor : float, default=25.0
        The peak over the first rate.
    end_factor : float, default=1e4
        The first rate over the last.

    Examples
    --------
    >>> from skdeep.schedules import OneCycle, Progress
    >>> first, peak, last = (Progress(step, 0, 0, 0, total=100) for step in (0, 29, 99))
    >>> [round(float(OneCycle()(0.5, progress)), 9) for progress in (first, peak, last)]
    [0.02, 0.5, 2e-06]
    """

    warmup: float = 0.3
    start_factor: float = 25.0
    end_factor: float = 1e4

    def __post_init__(self):
        _check(self, 0 <= self.warmup < 1, "warmup must be at least 0 and less than 1")
        positive = self.start_factor > 0 and self.end_factor > 0
        _check(self, positive, "start_factor and end_factor must be positive")

    def __call__(self, lr0, progress):
        # Steps count from 0: the peak is step peak, and the end is step total - 1.
        total = np.asarray(_planned(self, progress))
        peak = self.warmup * total - 1.0
        up = np.clip(progress.step / np.where(peak > 0, peak, 1.0), 0.0, 1.0)
        down = np.clip((progress.step - peak) / (total - 1.0 - peak), 0.0, 1.0)
        first = lr0 / self.start_factor
        return np.where(
            progress.step <= peak,
            _half_cosine(first, lr0, up),
            _half_cosine(lr0, first / self.end_factor, down),
        )


def _half_cosine(start, end, share):
    return end + (start - end) * 0.5 * (1.0 + np.cos(np.pi * share))


def _share(schedule, progress):
    """How much of the planned steps is done, at most all."""
    return np.clip(progress.step / _planned(schedule, progress), 0.0, 1.0)


def _planned(schedule, progress):
    if progress.total is None:
        raise ValueError(f"{schedule} needs progress.total, the planned number of steps.")
    return progress.total


def _check(schedule, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{schedule}: {what}.")


Schedule = Callable[[Any, Progress], Any]

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "invscaling": InvScaling,
    "adaptive": Adaptive,
    "step": Step,
    "exponential": Exponential,
    "plateau": Plateau,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "flat_cosine": FlatCosine,
    "coslog4": CosLog,
}
