"""What a user would notice of some calls: answers, errors, warnings, and what else was changed."""

import contextlib
import io
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import sklearn
from array_api_compat import is_torch_array
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

import skdeep

OURS, THEIRS = (str(Path(module.__file__).parent) for module in (skdeep, sklearn))

# Seconds of computing after which calls count as ones that never end.
PATIENCE = 10

# What is asked of a fitted model.
OUTPUTS = ("decision_function", "predict_proba", "predict_log_proba", "predict", "transform")


class TooLong(BaseException):
    """Calls that did not come to their end. Nothing that catches errors may catch it."""


class Warned(NamedTuple):
    """A warning: what it says, the file it names, and the innermost line of a package's own."""

    category: type
    text: str
    shown_at: str
    origin: str


@dataclass
class Run:
    """What happened.

    Parameters
    ----------
    estimator : estimator
        As it was left.
    error : BaseException or None
        Of a call that trains.
    warnings : list of Warned
    changed : list of str
        Inputs and parameters that were not left as they were.
    trace : list of str
        Attributes that the failed call left changed.
    outputs : dict of str to array or BaseException
        What each of the methods returns for the rows of the last call.
    """

    estimator: Any
    error: BaseException | None = None
    warnings: list[Warned] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        return not any(issubclass(w.category, ConvergenceWarning) for w in self.warnings)


def observe(estimator, calls: list[tuple[str, dict]]) -> Run:
    """Make calls that train, and then ask the fitted model for everything that it has."""
    run = Run(estimator)
    with noting(run.warnings), contextlib.redirect_stdout(io.StringIO()):
        try:
            with at_most(PATIENCE):
                for method, given in calls:
                    _train(run, method, given)
        except (Exception, TooLong) as error:
            run.error = error
            return run
        for name in OUTPUTS:
            if hasattr(estimator, name):
                run.outputs[name] = _ask(run, name, given["X"])
        codes = run.outputs.get("transform")
        if hasattr(estimator, "inverse_transform") and isinstance(codes, np.ndarray):
            run.outputs["inverse_transform"] = _ask(run, "inverse_transform", codes)
    return run


def _train(run: Run, method: str, given: dict) -> None:
    """One call, and what it changed that it should not."""
    inputs = {**run.estimator.get_params(deep=False), **given}
    state, before = fingerprints(vars(run.estimator)), fingerprints(inputs)
    try:
        getattr(run.estimator, method)(**given)
    except (Exception, TooLong):
        run.trace = differences(state, fingerprints(vars(run.estimator)))
        raise
    finally:
        run.changed += differences(before, fingerprints(inputs))


def _ask(run: Run, name: str, X):
    """What a method returns, or the error that it raises."""
    before = fingerprint(X)
    try:
        with at_most(PATIENCE):
            return getattr(run.estimator, name)(X)
    except (Exception, TooLong) as error:
        return error
    finally:
        if fingerprint(X) != before:
            run.changed.append(f"X of {name}")


def fingerprint(value) -> str:
    """What changes if the content of an array or container does, bit by bit."""
    if sparse.issparse(value):
        parts = ("format", "shape", "data", "indices", "indptr", "coords")
        value = {name: getattr(value, name) for name in parts if hasattr(value, name)}
    if is_torch_array(value):
        value = (str(value.dtype), value.double().numpy())
    return joblib.hash(value)


def fingerprints(values: dict) -> dict[str, str]:
    """Of each value but generators of random numbers, which are made to change."""
    return {
        name: fingerprint(value)
        for name, value in values.items()
        if not isinstance(value, np.random.RandomState)
    }


def differences(before: dict, after: dict) -> list[str]:
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]


@contextlib.contextmanager
def noting(noted: list[Warned]) -> Iterator[None]:
    """Add every warning to a list, with the place in a package that it comes from."""

    def note(message, category, filename, lineno, *_):
        frame = sys._getframe(1)
        while frame and not frame.f_code.co_filename.startswith((OURS, THEIRS)):
            frame = frame.f_back
        origin = f"{frame.f_code.co_filename}:{frame.f_code.co_name}" if frame else filename
        noted.append(Warned(category, str(message), filename, origin))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLong after so many seconds of computing, where the system has such an alarm."""

    def ring(*_):
        raise TooLong(f"no end after {seconds} seconds of computing")

    if not hasattr(signal, "SIGPROF"):
        yield
        return
    previous = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def answers(estimator, X: np.ndarray) -> np.ndarray:
    """The scores, probabilities or predictions of rows, labels as indicators."""
    methods = ("decision_function", "predict_proba", "predict")
    method = next(name for name in methods if hasattr(estimator, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(estimator, method)(X)
    if method == "predict" and hasattr(estimator, "classes_"):
        answer = np.asarray(answer).reshape(len(X), -1)[:, :, None] == estimator.classes_
    return np.asarray(answer, dtype=float)
