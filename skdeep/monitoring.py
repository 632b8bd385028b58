"""scikit-learn's callbacks around a solver's iterations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from .problem import Problem


class IterationMonitor:
    """A ``Problem.monitors`` entry that turns each iteration into a task of the callbacks.

    The next iteration's task begins when one ends; ``close`` ends the last, which never ran.
    """

    def __init__(self, estimator, context, task_name: str, data: dict, attributes: Callable):
        self.estimator = estimator
        self.context = context
        self.task_name = task_name
        self.data = data
        self.attributes = attributes
        self.task = self._begin(None)

    def _begin(self, theta):
        return self.context.subcontext(task_name=self.task_name).call_on_fit_task_begin(
            estimator=self.estimator, **self.data, reconstruction_attributes=self._fitted(theta)
        )

    def _fitted(self, theta):
        return None if theta is None else lambda: self.attributes(theta)

    def __call__(self, iteration: int, theta: np.ndarray, loss: float) -> bool:
        # A callback may be interrupted; its task has ended all the same.
        task, self.task = self.task, None
        stop = task.call_on_fit_task_end(
            estimator=self.estimator, **self.data, reconstruction_attributes=self._fitted(theta)
        )
        self.task = self._begin(theta)
        return stop

    def close(self) -> None:
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.estimator)


class ModelTask:
    """The task of one model of a stack, with its iterations inside.

    Parameters
    ----------
    estimator, task_name, attributes
        As in :func:`watched`.
    context : CallbackContext
        The model's own.
    data : dict
        ``X``, ``y`` and ``metadata`` of the model, or functions that return them.

    Attributes
    ----------
    monitor : IterationMonitor
        For ``Problem.monitors``.
    """

    def __init__(self, estimator, context, task_name: str, data: dict, attributes: Callable):
        self.context = context.call_on_fit_task_begin(estimator=estimator, **data)
        self.monitor = IterationMonitor(estimator, context, task_name, data, attributes)

    def end(self, theta: np.ndarray) -> None:
        """End the task with the parameters (P,) that the model came to."""
        monitor = self.monitor
        monitor.close()
        self.context.call_on_fit_task_end(
            estimator=monitor.estimator,
            **monitor.data,
            reconstruction_attributes=lambda: monitor.attributes(theta),
        )


@contextmanager
def watched(
    estimator,
    context,
    problem: Problem,
    y,
    sample_weight,
    attributes: Callable[[np.ndarray], dict],
    task_name: str = "epoch",
) -> Iterator[Problem]:
    """The problem under the estimator's callbacks, if it has any.

    Parameters
    ----------
    estimator : estimator with scikit-learn's CallbackSupportMixin
    context : CallbackContext
        What ``_init_callback_context`` returned.
    problem : Problem
    y, sample_weight : array-like
        As the user gave them; callbacks may score with them.
    attributes : callable
        ``attributes(theta) -> dict`` of the fitted attributes that parameters (P,) amount to.
    task_name : str
        What an iteration is called.

    Yields
    ------
    problem : Problem
        To be solved inside the block, where the result must be taken in too.
    """
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    data = {"X": problem.X, "y": y, "metadata": metadata}
    context.call_on_fit_task_begin(estimator=estimator, **data)
    if hasattr(estimator, "_skl_callbacks"):
        monitor = IterationMonitor(estimator, context, task_name, data, attributes)
        yield replace(problem, monitors=[monitor] * problem.n_models)
        monitor.close()
    else:
        yield problem
    context.call_on_fit_task_end(estimator=estimator, **data, reconstruction_attributes={})
