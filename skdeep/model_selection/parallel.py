"""Where scikit-learn hands out fits one by one, ours are taken out and evaluated as stacks."""

from importlib.util import find_spec

import numpy as np
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.utils.parallel import Parallel, delayed

from .._sklearn import _fit_and_score
from ..callbacks import refuse_shared
from ..interrupts import scope
from ..linear_model import Perceptron
from ..processes import refuse
from .discriminants import is_discriminant
from .evaluation import Task, evaluate, folds
from .pipelines import final_step, prefix_key


class StackedParallel(Parallel):
    """scikit-learn's Parallel, but calls of ``_fit_and_score`` on our models run together.

    Other calls go their usual way, one by one. The results come in the order of the calls.
    """

    @scope(keeps=False)
    def __call__(self, iterable):
        refuse("searches and cross-validation cannot be used", "their scores are of own rows.")
        calls = list(iterable)
        refuse_shared(args[0] for _, args, _ in calls if args)
        tasks = [self._task(i, *call) for i, call in enumerate(calls)]
        stacked = [task for task in tasks if task is not None]
        alone = [call for call, task in zip(calls, tasks, strict=True) if task is None]
        self._say(calls, stacked)
        if not stacked:
            return super().__call__(iter(alone))
        outcome: list = [None] * len(calls)
        chunks = self._chunks(stacked)
        if len(chunks) == 1:
            parts = [evaluate(chunks[0], effective_n_jobs(self.n_jobs))]
        else:
            parts = super().__call__(delayed(evaluate)(chunk) for chunk in chunks)
        for chunk, part in zip(chunks, parts, strict=True):
            for task, result in zip(chunk, part, strict=True):
                outcome[task.index] = result
        if alone:
            rest = iter(super().__call__(iter(alone)))
            outcome = [next(rest) if task is None else r for task, r in zip(tasks, outcome)]
        return outcome

    def _task(self, index, function, args, kwargs) -> Task | None:
        """What to evaluate with others; None for a call that has to go its own way."""
        if getattr(function, "function", None) is not _fit_and_score:
            return None
        if get_config()["array_api_dispatch"]:
            return None
        estimator, X, y = args
        error_score = kwargs.get("error_score", np.nan)
        if not isinstance(error_score, (int, float, np.number)) and error_score != "raise":
            return None
        task = Task(index=index, estimator=estimator, X=X, y=y, **kwargs)
        return task if task.prepare() else None

    def _say(self, calls, stacked) -> None:
        alone = len(calls) - len(stacked)
        if alone == 0 or not calls or calls[0][2].get("verbose", 0) < 1:
            return
        if getattr(calls[0][0], "function", None) is _fit_and_score:
            print(f"{alone} of {len(calls)} fits are scikit-learn's, one by one")

    def _chunks(self, tasks: list[Task]) -> list[list[Task]]:
        """Tasks that share a fold stay together, unless that leaves a worker idle.

        Discriminants need no workers: their stack takes less time than to start one. Compiled
        perceptrons have threads of their own, which read the same rows.
        """
        n_jobs = effective_n_jobs(self.n_jobs)
        if n_jobs == 1 or all(is_discriminant(task.estimator) for task in tasks):
            return [tasks]
        if find_spec("numba") and all(
            isinstance(final_step(task.estimator), Perceptron) for task in tasks
        ):
            return [tasks]
        groups = list(folds(tasks))
        # Halves of a fold leave no worker waiting at the end. Each would fit the steps before the
        # last again.
        halve = len(groups) < 4 * n_jobs and all(prefix_key(task) is None for task in tasks)
        while len(groups) < n_jobs or (halve and len(groups) % n_jobs):
            groups.sort(key=len)
            if len(groups[-1]) == 1:
                break
            last = groups.pop()
            groups += [last[::2], last[1::2]]
        groups.sort(key=len, reverse=True)
        return groups
