"""The stack of models behind a cross-validated logistic regression, and its callbacks' tasks."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ..monitoring import ModelTask
from ..problem import Result
from ..stacking import solve_many

# Bytes that a stack works on at once.
MAX_MEMORY = 2.0**30


class Stack:
    """Solves models over one estimator's data, those with and without an L1 part apart."""

    def __init__(self, estimator, backend, X, codes, weights):
        self.estimator = estimator
        self.backend = backend
        self.data = X, codes, weights
        self.net = estimator._net(X.shape[1])

    def __call__(self, penalties, tasks, rows=None, theta=None) -> Result:
        """Results in the order of the penalties; ends their tasks, if there are any.

        Parameters
        ----------
        penalties : list of M Penalty
        tasks : list of M ModelTask
            Empty if nobody watches.
        rows : list of M int arrays, optional
            The rows of each model; all of them if None.
        theta : array of shape (M, P), optional
            Where to start; zero if None.
        """
        sparse = np.asarray([penalty.l1_ratio > 0 for penalty in penalties])
        problems, places = [], []
        for kind in (False, True):
            members = np.flatnonzero(sparse == kind)
            if members.size:
                places.append(members)
                problem = self.estimator._problem(
                    *self.data,
                    [penalties[i] for i in members],
                    rows=None if rows is None else [rows[i] for i in members],
                    theta=theta,
                )
                if tasks:
                    problem = replace(problem, monitors=[tasks[i].monitor for i in members])
                problems.append(problem)
        results = solve_many(self.backend, problems, MAX_MEMORY)
        order = np.argsort(np.concatenate(places))

        def join(name):
            return np.concatenate([getattr(result, name) for result in results])[order]

        result = Result(**{name: join(name) for name in ("theta", "n_iter", "loss", "converged")})
        for i, task in enumerate(tasks):
            task.end(result.theta[i])
        return result


class Watch:
    """The tasks of the callbacks: a search with one for each of its models, and the refit."""

    def __init__(self, estimator, context, net, X, y, sample_weight):
        self.estimator, self.context, self.net = estimator, context, net
        self.data = X, y, None if sample_weight is None else np.asarray(sample_weight)
        context.call_on_fit_task_begin(estimator=estimator, **self._of(slice(None)))

    def _of(self, rows) -> dict:
        """What callbacks may ask for, cut only if they do."""
        X, y, weights = self.data
        metadata = None if weights is None else lambda: {"sample_weight": weights[rows]}
        return {"X": lambda: X[rows], "y": lambda: y[rows], "metadata": metadata}

    def _model(self, parent, rows, C, ratio, **task) -> ModelTask:
        def attributes(theta):
            fitted = self.estimator._attributes(self.net, theta)
            return {**fitted, "C_": C, "l1_ratio_": ratio}

        context = parent.subcontext(max_subtasks=self.estimator.max_iter + 1, **task)
        name = f"{self.estimator.solver}-iter"
        return ModelTask(self.estimator, context, name, self._of(rows), attributes)

    @contextmanager
    def search(self, grid, folds):
        """The tasks of the stack, none if nobody watches."""
        search = self.context.subcontext(
            "search", max_subtasks=len(grid), sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self.estimator)
        tasks = []
        for i, (fold, ratio, C) in enumerate(grid if self.on else []):
            name = f"fold {fold}, C={C:.3g}" + ("" if ratio is None else f", l1_ratio={ratio:g}")
            rows = folds[fold][0]
            tasks.append(self._model(search, rows, C, ratio, task_name=name, task_id=i))
        yield tasks
        search.call_on_fit_task_end(estimator=self.estimator)

    def refit(self, C, ratio) -> list[ModelTask]:
        """The refit's task in a list of its own, empty if nobody watches."""
        if not self.on:
            return []
        name = "refit-with-best-params"
        return [self._model(self.context, slice(None), C, ratio, task_name=name)]

    @property
    def on(self) -> bool:
        return hasattr(self.estimator, "_skl_callbacks")

    def end(self) -> None:
        self.context.call_on_fit_task_end(
            estimator=self.estimator, **self._of(slice(None)), reconstruction_attributes={}
        )
