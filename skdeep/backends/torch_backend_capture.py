"""Training steps as CUDA graphs: recorded once, and launched as a whole."""

from collections import Counter
from collections.abc import Callable

import torch

from ..solvers.minibatch.plan import Batch
from ..solvers.minibatch.step import State

# Steps that are made as they are written first: libraries set themselves up in them.
WARM_UP = 3


def leaves(state: State, batch: Batch | tuple = ()) -> list:
    """Tensors, and None, of what a step takes, in a fixed order."""
    return [state.theta, *state.slots, state.total, *batch]


def warm(body: Callable):
    """The result of a body, run on a stream of its own, as before a recording."""
    if not torch.cuda.is_available():
        return body()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = body()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def record(body: Callable[[], None]) -> Callable[[], None]:
    """What launches all that a body launches."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph.replay


class Recorded:
    """A step over buffers that stay where they are."""

    def __init__(self, step, state: State, batch: Batch, record: Callable):
        copies = iter([None if x is None else x.clone() for x in leaves(state, batch)])
        theta, slots = next(copies), [next(copies) for _ in state.slots]
        self.state, self.batch = State(theta, slots, next(copies)), Batch(*copies)
        self.step = step
        self.launch = record(self.body)

    def body(self) -> None:
        self.fill(self.step(self.state, self.batch))

    def fill(self, new: State) -> None:
        for source, target in zip(leaves(new), leaves(self.state), strict=True):
            if source is not target:
                target.copy_(source)

    def __call__(self, state: State, batch: Batch) -> State:
        self.fill(state)
        for source, target in zip(batch, self.batch, strict=True):
            if target is not None:
                target.copy_(source)
        self.launch()
        return self.state


class CapturedStep:
    """Override of ``step.captured``: a graph for each combination of shapes.

    Parameters
    ----------
    xp : namespace
    step : callable
        ``step(state, batch) -> state``.
    record : callable, optional
        From a function without arguments to one that does the same again.
    """

    def __init__(self, xp, step, record: Callable = record):
        self.step, self.record = step, record
        self.seen: Counter = Counter()
        self.recorded: dict[tuple, Recorded] = {}

    def __call__(self, state: State, batch: Batch) -> State:
        key = tuple(None if x is None else (x.shape, x.dtype) for x in leaves(state, batch))
        self.seen[key] += 1
        if self.seen[key] <= WARM_UP:
            return warm(lambda: self.step(state, batch))
        if key not in self.recorded:
            self.recorded[key] = Recorded(self.step, state, batch, self.record)
        return self.recorded[key](state, batch)
