"""Ctrl-C: where it breaks in, and what it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import current_thread, main_thread


class Whole:
    """A block at whose end an interrupt waits, so that what the block changes is changed whole."""

    def __init__(self, handler):
        self._handler, self._inside, self._waiting = handler, False, None

    def interrupt(self, signum, frame) -> None:
        """The handler of the signal: now, or where the block ends."""
        if self._inside:
            self._waiting = signum, frame
        else:
            self._handler(signum, frame)

    def __enter__(self) -> None:
        self._inside = True

    def __exit__(self, *error) -> None:
        self._inside = False
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._handler(*waiting)


@contextmanager
def interruptible() -> Iterator[Whole]:
    """Let Ctrl-C through, except into blocks of the object that is yielded.

    Examples
    --------
    >>> a = b = 1
    >>> with interruptible() as whole:
    ...     with whole:
    ...         a, b = 2, 2
    """
    handler = signal.getsignal(signal.SIGINT)
    whole = Whole(handler)
    if current_thread() is not main_thread() or not callable(handler):
        # No signal arrives in other threads; without a handler there is nothing to put off.
        yield whole
        return
    signal.signal(signal.SIGINT, whole.interrupt)
    try:
        yield whole
    finally:
        signal.signal(signal.SIGINT, handler)


@dataclass
class Scope:
    """What an interrupt ends: a fit and those inside it, or a search and all of its own.

    ``keeps`` says whether the fits that it meets keep what they have come to.
    """

    keeps: bool
    interrupted: bool = False


_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


@contextmanager
def scope(keeps: bool) -> Iterator[Scope]:
    """The outermost scope around the block, which is a new one if there is none."""
    outer = _scope.get()
    token = None if outer else _scope.set(Scope(keeps))
    try:
        yield _scope.get()
    finally:
        if token:
            _scope.reset(token)


def check() -> None:
    """Raise if the fit around has been interrupted already, in its pre-training say."""
    around = _scope.get()
    if around is not None and around.interrupted:
        raise KeyboardInterrupt
