"""Many estimators fitted as one: each goes as far as its problem, and all are solved together."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from numbers import Real

import numpy as np
from sklearn import config_context, get_config

from ._sklearn import Interval, StrOptions, callback_management_context, validate_params
from .base import Model, finish, unchanged_on_error
from .callbacks import refuse_shared
from .interrupts import scope
from .processes import refuse
from .stacking import solve_many

# Share of the free memory that a stack may work on unless the user sets a limit.
MEMORY_SHARE = 0.25
# What the limit may be; infinity is none.
MAX_MEMORY = [Interval(Real, 0, None, closed="right"), None]


def can_wait(estimator) -> bool:
    """Whether the fit can stop at its problem: it is one of ours, and nobody has overridden it."""
    if not isinstance(estimator, Model) or getattr(estimator, "_fitting", None) is None:
        return False
    owner = next((cls for cls in type(estimator).__mro__ if "fit" in vars(cls)), None)
    return owner is not None and owner.__module__.partition(".")[0] == __package__


class Fit:
    """One estimator's fit, begun and waiting for the result of its problem.

    Parameters
    ----------
    estimator : estimator for which :func:`can_wait` holds
    X, y : array-like
    **fit_params : dict
        Keywords of the estimator's ``fit``.

    Attributes
    ----------
    backend, problem
        What there is to solve, None if the fit has failed.
    error : Exception or None
        What the fit raised, before its problem or after.
    """

    def __init__(self, estimator, X, y=None, **fit_params):
        self.estimator = estimator
        self.backend = self.problem = self.error = None
        self._arguments = (X, y, fit_params)
        self._fitting = None
        self._open = ExitStack()

    def begin(self, valid: bool = False) -> None:
        """Go as far as the problem; the parameters are validated, if it is not known of them."""
        X, y, fit_params = self._arguments
        self._arguments = None

        def run():
            self._open.enter_context(callback_management_context(self.estimator))
            if not (valid or get_config()["skip_parameter_validation"]):
                self.estimator._validate_params()
            self._fitting = self.estimator._fitting(X, y, **fit_params)
            with config_context(skip_parameter_validation=True):
                self.backend, self.problem = next(self._fitting)

        self._guarded(run)

    def follow(self, leader: "Fit") -> None:
        """Take the data as another fit of the same kind and data has validated them."""
        X, y, fit_params = self._arguments
        self._arguments = X, y, {**fit_params, "leader": (leader.estimator, leader.problem)}

    def end(self, result) -> None:
        """Take the result in."""
        self.estimator.backend_ = str(self.backend)
        self._guarded(lambda: self._finish(result))
        if self.error is None:
            self._guarded(self._open.close)

    def fail(self, error: Exception) -> None:
        """Raise an error inside the fit, in place of a result."""
        self._guarded(lambda: self._fitting.throw(error))

    def close(self) -> None:
        """Leave the estimator as it was if the fit has not come to its end."""
        if self._fitting is not None:
            self._fitting.close()
        self._open.close()

    def _finish(self, result) -> None:
        with config_context(skip_parameter_validation=True):
            finish(self._fitting, result)

    def _guarded(self, step: Callable) -> None:
        try:
            step()
        except Exception as error:
            self.error, self.problem = error, None
            try:
                self._open.close()
            except Exception as second:
                second.__context__ = error
                self.error = second


def follow(fit: Fit, leaders: dict) -> None:
    """Let a fit take its data as another has validated them; the first of a kind is the leader."""
    kind = fit.estimator._kind()
    leader = fit if kind is None else leaders.setdefault(kind, fit)
    if leader is not fit and leader.problem is not None:
        fit.follow(leader)


def share(fits: Sequence[Fit]) -> None:
    """Let problems of fits on the same data hold the same arrays, so that they can be stacked.

    The fits must have been given the same X and y: what each validated is then equal, or differs
    in its type.
    """
    rows: dict = {}
    targets: list = []
    for fit in fits:
        problem = fit.problem
        if problem is None:
            continue
        X = problem.X
        form = (type(X), X.dtype, X.shape, getattr(getattr(X, "flags", None), "f_contiguous", None))
        common = rows.setdefault(form, X)
        changes = {}
        if common is not X:
            changes["X"] = common
            if problem.validation is not None:
                changes["validation"] = [
                    replace(v, X=common) if v is not None and v.X is X else v
                    for v in problem.validation
                ]
        for name in ("y", "weights"):
            array = getattr(problem, name)
            if isinstance(array, np.ndarray) and array.ndim == (2 if name == "y" else 1):
                changes[name] = _same(array, targets)
        changes = {k: v for k, v in changes.items() if v is not getattr(problem, k)}
        fit.problem = replace(problem, **changes) if changes else problem


def _same(array: np.ndarray, known: list) -> np.ndarray:
    """The array among those known that equals this one; itself, from now on known, if none does."""
    for other in known:
        if other is array:
            return other
        if other.dtype == array.dtype and np.array_equal(other, array):
            return other
    known.append(array)
    return array


def complete(fits: Sequence[Fit], max_memory: float | None = None) -> None:
    """Solve the problems of all fits, those of a backend together, and end the fits.

    A problem that the solver refuses fails its own fit and no other.
    """
    by_backend = defaultdict(list)
    for fit in fits:
        if fit.problem is not None:
            by_backend[str(fit.backend)].append(fit)
    for together in by_backend.values():
        backend = together[0].backend
        limit = free_memory(backend) * MEMORY_SHARE if max_memory is None else max_memory
        try:
            results = solve_many(backend, [fit.problem for fit in together], limit)
        except Exception:
            results = [None] * len(together)
        for fit, result in zip(together, results, strict=True):
            if result is None:
                result = _alone(backend, fit, limit)
            if result is not None:
                fit.end(result)


def _alone(backend, fit: Fit, limit: float):
    """The result of a problem whose stack failed; None if it was the one to fail."""
    try:
        return solve_many(backend, [fit.problem], limit)[0]
    except Exception as error:
        fit.fail(error)
        return None


def free_memory(backend) -> float:
    """Bytes that are free where the backend computes."""
    on_device = backend.free_memory()
    return free_host_memory() if on_device is None else on_device


def free_host_memory() -> float:
    """Bytes that are free on the host; no limit if the system does not say."""
    try:
        with open("/proc/meminfo") as lines:
            found = {name: value for name, _, value in (line.partition(":") for line in lines)}
        return 1024.0 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


@validate_params(
    {"max_memory": MAX_MEMORY, "on_error": [StrOptions({"raise", "return"})]},
    prefer_skip_nested_validation=False,
)
def fit_many(
    estimators: Sequence,
    X,
    y=None,
    sample_weight=None,
    *,
    max_memory: float | None = None,
    on_error: str = "raise",
) -> list:
    """Fit estimators on the same data, those that are alike as one computation.

    Parameters
    ----------
    estimators : sequence of estimators
        Of any kinds and parameters. Models of skdeep that differ in numbers only (``alpha``,
        ``C``, ``shrinkage``, seeds …) are solved together; any other estimator is fitted by its
        own ``fit``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
    sample_weight : array-like of shape (n_samples,), default=None
        Passed to every ``fit`` if given.
    max_memory : float, default=None
        Bytes that the computation may work on at a time, more than zero; None is a quarter of the
        free memory.
    on_error : {"raise", "return"}, default="raise"
        An estimator that fails hurts no other. Once the others are fitted its error is raised,
        several as an ExceptionGroup; or it stands in the estimator's place in the returned list.

    Returns
    -------
    estimators : list
        The given estimators, fitted.

    Raises
    ------
    ValueError
        For another `max_memory` or `on_error`, before anything is fitted; or what a fit raised.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdeep import fit_many
    >>> from skdeep.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> models = fit_many([LogisticRegression(C=C) for C in (0.01, 1.0, 100.0)], X, y)
    >>> [round(model.score(X, y), 2) for model in models]
    [0.87, 0.97, 0.98]
    """
    refuse("fit_many cannot be used", "call each estimator's fit.")
    estimators = list(estimators)
    if len({id(estimator) for estimator in estimators}) < len(estimators):
        raise ValueError("An estimator stands in the list twice: pass a clone of it.")
    refuse_shared(estimators)
    params = {} if sample_weight is None else {"sample_weight": sample_weight}
    stackable = not get_config()["array_api_dispatch"]
    outcome: list = [None] * len(estimators)
    fits: dict = {}
    leaders: dict = {}
    with scope(keeps=False), ExitStack() as undo:
        for i, estimator in enumerate(estimators):
            undo.enter_context(unchanged_on_error(estimator))
            if stackable and can_wait(estimator):
                fits[i] = Fit(estimator, X, y, **params)
                undo.callback(fits[i].close)
                follow(fits[i], leaders)
                fits[i].begin()
                continue
            try:
                estimator.fit(X, y, **params) if y is not None else estimator.fit(X, **params)
            except Exception as error:
                outcome[i] = error
        share(list(fits.values()))
        complete(list(fits.values()), max_memory)
    for i, fit in fits.items():
        outcome[i] = fit.error
    errors = [error for error in outcome if error is not None]
    if on_error == "return":
        return [e if error is None else error for e, error in zip(estimators, outcome, strict=True)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(estimators)} fits failed", errors)
    return estimators
