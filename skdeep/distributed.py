"""One model fitted by several processes, each on rows of its own.

torch starts the processes and carries their sums. Estimators are used as ever inside
:func:`data_parallel`.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np

from .processes import _ACTIVE, Alone

__all__ = ["ProcessError", "data_parallel"]

# Seconds between signs of life; without one a process counts as ended after so many, or after so
# many once a sum has failed; and what is granted a process to end by an error of its own.
BEAT, SILENT, SILENT_AFTER_FAILURE, GRACE = 1.0, 30.0, 5.0, 15.0


class ProcessError(RuntimeError):
    """Another process has ended; the text says which and, if it could tell, why."""


@contextmanager
def data_parallel() -> Iterator[Alone]:
    """Fit one model in several processes: each passes its own rows, and all get the same model.

    It is that of one process with the rows of all. Every process runs the same program: the same
    fits, in the same order, with the same parameters, on rows of the same features. Shares may be
    unequal, and lack classes; each has one row at least. ``batch_size`` counts the rows of all
    processes. Only ``fit`` talks to the others, not ``predict`` or ``score``.

    torch's process group is joined if the program has not done so, as the variables say that
    ``torchrun`` sets: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Sums of host arrays go by
    gloo, those of CUDA tensors by NCCL; ``backend="torch:cuda"`` is the GPU that LOCAL_RANK says.

    Yields
    ------
    processes : object
        With ``rank``, ``size``, and ``gather(value)``, a list of the values of all processes.

    Raises
    ------
    ValueError
        If no process group can be joined. Within the block, for estimators that cannot be fitted
        this way, and where processes differ in parameters.
    ProcessError
        Within the block, if another process has failed or ended, which is noticed in half a minute.

    Examples
    --------
    >>> from skdeep.distributed import data_parallel
    >>> from skdeep.linear_model import LogisticRegression
    >>> def train(X, y):  # in each process, with the rows of its own
    ...     with data_parallel():
    ...         return LogisticRegression().fit(X, y)
    """
    dist = _joined()
    if dist.get_world_size() == 1:
        yield Alone()
        return
    group = Group(dist)
    token = _ACTIVE.set(group)
    try:
        yield group
        group.meet()
    except BaseException as error:
        group.leave(error)
        raise
    finally:
        _ACTIVE.reset(token)
        group.close()


def _joined():
    """``torch.distributed``, its process group joined."""
    try:
        import torch
        from torch import distributed as dist
    except ModuleNotFoundError as error:
        raise ValueError(
            "data_parallel() needs PyTorch, which is not installed: pip install 'skdeep[torch]'"
        ) from error
    if not dist.is_available():
        raise ValueError("data_parallel() needs a PyTorch that was built with torch.distributed.")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if not dist.is_initialized():
        missing = [
            name
            for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
            if name not in os.environ
        ]
        if missing:
            raise ValueError(
                f"data_parallel() finds no process group, and {', '.join(missing)} not set to "
                "join one: start the program by torchrun, or set these variables."
            )
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    return dist


class Group(Alone):
    """The processes of a block of :func:`data_parallel`, with connections of its own."""

    def __init__(self, dist):
        self.dist, self.rank, self.size = dist, dist.get_rank(), dist.get_world_size()
        self.host, self.device = dist.new_group(backend="gloo"), None
        self.signs = None
        self.signs = Signs(dist, self.rank, self.size, self.gather)

    def sum(self, x):
        return self._reduced(x, self.dist.ReduceOp.SUM)

    def largest(self, x):
        return self._reduced(x, self.dist.ReduceOp.MAX)

    def gather(self, value) -> list:
        values = [None] * self.size
        self._call(lambda: self.dist.all_gather_object(values, value, group=self.host))
        return values

    def _reduced(self, x, op):
        import torch

        if isinstance(x, torch.Tensor):
            total = x.clone(memory_format=torch.contiguous_format)
            group = self.host if x.device.type == "cpu" else self._on_device()
            self._call(lambda: self.dist.all_reduce(total, op, group=group))
            return total
        if not isinstance(x, np.ndarray | np.generic | int | float):
            raise TypeError(
                f"data_parallel() sums arrays of NumPy and of torch, not {type(x).__name__}."
            )
        total = np.array(x, order="C")
        # The tensor shares the array's memory.
        tensor = torch.from_numpy(total.reshape(-1))
        self._call(lambda: self.dist.all_reduce(tensor, op, group=self.host))
        return total

    def _on_device(self):
        if self.device is None:
            self.device = self.dist.new_group(backend="nccl")
        return self.device

    def _call(self, exchange: Callable[[], None]) -> None:
        """Exchange something with the others; ProcessError if one of them has ended."""
        if self.host is None:
            raise ProcessError(f"{self.signs.cause}: the block of data_parallel() is over.")
        try:
            exchange()
        except RuntimeError as error:
            if self.signs is None:
                raise
            raise ProcessError(self.signs.why(error)) from error

    def meet(self) -> None:
        """Wait for the others."""
        if self.host is not None:
            self.gather(None)

    def leave(self, error: BaseException) -> None:
        """Say why, and close the connections: whoever waits for this process waits no longer."""
        if self.host is None:
            return
        self.signs.failed = True
        if not isinstance(error, ProcessError):
            self.signs.tell(f"rank {self.rank} has failed: {type(error).__name__}: {error}")
        self._disconnect()

    def _disconnect(self) -> None:
        for group in filter(None, (self.device, self.host)):
            self.dist.destroy_process_group(group)
        self.host = self.device = None

    def close(self) -> None:
        self.signs.close()
        if self.host is not None:
            self._disconnect()


class Signs:
    """Signs of life of all processes, in a store that rank 0 holds, and why the first one ended.

    Attributes
    ----------
    cause : str or None
        Which process ended first, and why.
    """

    def __init__(self, dist, rank: int, size: int, gather: Callable):
        self.rank, self.size = rank, size
        self.cause, self.known, self.over = None, Event(), Event()
        # Whether an exchange has failed, so that the main thread knows that something is wrong.
        self.failed = False
        here = None
        if rank == 0:
            name = os.environ.get("MASTER_ADDR") or socket.gethostname()
            self.store = dist.TCPStore(name, 0, is_master=True, wait_for_workers=False)
            here = name, self.store.port
            self.store.set("cause", "")
        name, port = gather(here)[0]
        if rank > 0:
            self.store = dist.TCPStore(name, port, is_master=False, wait_for_workers=False)
        self.thread = Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        heard = [(-1, time.monotonic())] * self.size
        while not self.over.wait(BEAT):
            try:
                self.store.add(f"beat {self.rank}", 1)
                self._note(self.store.get("cause").decode())
                for rank, (beats, then) in enumerate(heard):
                    now, new = time.monotonic(), self.store.add(f"beat {rank}", 0)
                    if new > beats:
                        heard[rank] = new, now
                    elif now - then > (SILENT_AFTER_FAILURE if self.failed else SILENT):
                        self.tell(f"rank {rank} has ended")
            except RuntimeError:  # of the store
                self._note("rank 0 has ended")
            if self.cause and not self.failed and not self.over.wait(GRACE) and not self.failed:
                # The main thread waits for a connection that does not tell.
                print(f"ProcessError: {self.cause}, and this process with it.", file=sys.stderr)
                sys.stderr.flush()
                os._exit(1)

    def _note(self, cause: str) -> None:
        if cause and self.cause is None:
            self.cause = cause
            self.known.set()

    def tell(self, cause: str) -> None:
        """Write down which process has ended, unless another was the first."""
        try:
            self._note(self.store.compare_set("cause", "", cause).decode())
        except RuntimeError:
            self._note("rank 0 has ended")

    def why(self, error: Exception) -> str:
        """Which process has made an exchange fail."""
        self.failed = True
        if not self.known.wait(SILENT):
            return f"An exchange between processes has failed, though all live: {error}"
        return f"{self.cause}. A fit in data_parallel() needs all processes."

    def close(self) -> None:
        """Let go of the store; who holds it waits a little for the others, who read the cause."""
        self.over.set()
        self.thread.join()
        try:
            left, end = self.store.add("left", 1), time.monotonic() + 3.0 * BEAT
            while self.rank == 0 and left < self.size and time.monotonic() < end:
                time.sleep(0.01)
                left = self.store.add("left", 0)
        except RuntimeError:
            pass  # rank 0 has ended, and the store with it
