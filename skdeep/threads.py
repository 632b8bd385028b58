"""Work spread over threads: NumPy and its BLAS let go of the interpreter while they compute."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Lock

from ._sklearn import _get_threadpool_controller

# Multiplications from which threads are worth starting: some milliseconds.
WORTH_THREADS = 2e8


_limiting = Lock()


@contextmanager
def _single_threaded_blas():
    """Hold the BLAS, which is one for the whole process, at one thread.

    A call that overlaps another leaves the limit to it: it would take the other's for what was
    there before, and restore that.
    """
    if not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with _get_threadpool_controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        _limiting.release()


def in_threads(function: Callable, items: Sequence, n_threads: int, work: float) -> list:
    """``[function(item) for item in items]``, of ``work`` multiplications in all, by threads.

    Each calls a BLAS of one thread then. Threads of the BLAS wait for each other at every product,
    which costs a multiple of the time where other processes want the cores too. A single thread
    or item has all of the BLAS. What the caller's context sets, as ``numpy.errstate`` does, holds
    in the threads.

    Examples
    --------
    >>> in_threads(abs, [-1, 2, -3], n_threads=2, work=1e9)
    [1, 2, 3]
    """
    if n_threads == 1 or len(items) < 2:
        return [function(item) for item in items]
    with _single_threaded_blas():
        if work < WORTH_THREADS:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(n_threads, len(items))) as threads:
            contexts = [copy_context() for _ in items]
            return list(threads.map(lambda c, item: c.run(function, item), contexts, items))
