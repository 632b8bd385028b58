"""Learning-rate schedules: pure functions of the progress; the training loop owns the counters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


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


Schedule = Callable[[Any, Progress], Any]

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "invscaling": InvScaling,
    "adaptive": Adaptive,
}
