"""Work spread over threads: NumPy and its BLAS let go of the interpreter while they compute."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sklearn.utils.parallel import _get_threadpool_controller

# Multiplications from which threads are worth starting: some milliseconds.
WORTH_THREADS = 2e8


def in_threads(function: Callable, items: Sequence, n_threads: int, work: float) -> list:
    """``[function(item) for item in items]``, of ``work`` multiplications in all, by threads.

    Each calls a BLAS of one thread then. Threads of the BLAS wait for each other at every product,
    which costs a multiple of the time where other processes want the cores too. A single thread
    has all of the BLAS.

    Examples
    --------
    >>> in_threads(abs, [-1, 2, -3], n_threads=2, work=1e9)
    [1, 2, 3]
    """
    if n_threads == 1:
        return [function(item) for item in items]
    with _get_threadpool_controller().limit(limits=1, user_api="blas"):
        if work < WORTH_THREADS or len(items) < 2:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(n_threads, len(items))) as threads:
            return list(threads.map(function, items))
