"""An optimizer's step as one kernel, where passes over the parameters take time."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch

from ..optimizers import OPTIMIZERS

# Numbers of theta from which a pass through memory costs more than its launch; an estimate, from
# 4 MB at 3 TB/s and a microsecond between the launches of a CUDA graph.
MANY = 2**20


@cache
def one_kernel(fn: Callable) -> Callable:
    """The function compiled, for which torch takes a second or more at the first call."""
    return torch.compile(fn, dynamic=False)


def compiled(fn: Callable, many: int = MANY) -> Callable:
    """An optimizer's step that is compiled for a theta of so many numbers."""

    def step(xp, theta, *args, **hyper):
        run = one_kernel(fn) if theta.numel() >= many else fn
        return run(xp, theta, *args, **hyper)

    return step


def compiled_optimizers(overrides: dict[Callable, Callable]) -> dict[Callable, Callable]:
    """Overrides of the table's steps; none where there is no Triton, which writes the kernels."""
    if find_spec("triton") is None:
        return {}
    steps = [optimizer.step for optimizer in OPTIMIZERS.values()]
    return {step: compiled(overrides.get(step, step)) for step in steps}
