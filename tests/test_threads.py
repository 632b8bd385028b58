"""Work spread over threads, and what becomes of the threads of the BLAS."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread

import numpy as np
import pytest
from sklearn.utils.parallel import _get_threadpool_controller

from skdeep.threads import WORTH_THREADS, in_threads


@pytest.fixture(autouse=True)
def two_threads():
    """A BLAS of two threads, on whatever machine."""
    before = max(blas_threads())
    limit_blas(2)
    if blas_threads() != {2}:
        pytest.skip("this BLAS has no threads")
    yield
    limit_blas(before)


def limit_blas(n):
    """In a thread that ends: threadpoolctl lets no other set limits while the last one lives."""
    controller = _get_threadpool_controller()
    thread = Thread(target=controller.limit, kwargs={"limits": n, "user_api": "blas"})
    thread.start()
    thread.join()


def blas_threads(_=None) -> set[int]:
    libraries = _get_threadpool_controller().info()
    return {library["num_threads"] for library in libraries if library["user_api"] == "blas"}


@pytest.mark.parametrize("work", [0.0, 2 * WORTH_THREADS])
@pytest.mark.parametrize(
    ("n_items", "n_threads", "expected"), [(1, 1, 2), (3, 1, 2), (1, 3, 2), (3, 3, 1)]
)
def test_only_items_that_share_the_cores_have_a_blas_of_one_thread(
    n_items, n_threads, expected, work
):
    found = in_threads(blas_threads, range(n_items), n_threads, work)
    assert found == [{expected}] * n_items
    assert blas_threads() == {2}


def test_no_items():
    assert in_threads(abs, [], 2, 1e9) == []


def test_results_keep_their_order_and_errors_come_through():
    barrier = Barrier(2, timeout=60)  # which nobody passes alone

    def negated(i):
        barrier.wait()
        return -i

    assert in_threads(negated, range(6), 2, 2 * WORTH_THREADS) == [0, -1, -2, -3, -4, -5]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda i: 1 / i, [1, 0, 2], 2, 2 * WORTH_THREADS)
    assert blas_threads() == {2}


def test_calls_that_overlap_leave_the_blas_as_it_was():
    """The first to come in is the first to leave."""
    first_is_in, second_is_in, first_is_out = Event(), Event(), Event()

    def first(_):
        first_is_in.set()
        assert second_is_in.wait(20)

    def second(_):
        second_is_in.set()
        assert first_is_out.wait(20)

    with ThreadPoolExecutor(2) as users:
        one = users.submit(in_threads, first, range(2), 2, 0.0)
        assert first_is_in.wait(20)
        other = users.submit(in_threads, second, range(2), 2, 0.0)
        one.result(20)
        first_is_out.set()
        other.result(20)
    assert blas_threads() == {2}


def test_the_callers_context_holds_in_threads():
    """NumPy's error state is one of what it holds."""
    with np.errstate(over="raise"):
        states = in_threads(lambda _: np.geterr()["over"], [1, 2, 3], 2, work=2 * WORTH_THREADS)
    assert states == ["raise"] * 3
