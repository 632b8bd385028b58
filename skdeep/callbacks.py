"""Callbacks for ``set_callbacks``, beside those of ``sklearn.callback``."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from numbers import Integral

import joblib
import numpy as np
import sklearn
from sklearn.pipeline import Pipeline

from .array_api import to_host
from .base import Backend, Model, warn
from .solvers.minibatch.training import without_records
from .stochastic import STOCHASTIC_SOLVERS, is_stochastic
from .storage import part_of, read, write
from .version import __version__

__all__ = ["Checkpoint"]

# Parameters that change nothing about the model.
WITHOUT_EFFECT = ("verbose",)

# What representations say about where an object is in memory or in a file.
PLACE = r" at 0x[0-9a-fA-F]+|, line \d+"


class Checkpoint:
    """Writes the state of a mini-batch fit to a file, from which the same fit goes on.

    A script whose process was killed is run again as it is. It comes to the parameters that it
    would have come to undisturbed, to the last bit. A fit that ends removes its file; one that
    Ctrl-C ends does not, and goes on when it is run again.

    The file holds numbers and texts; reading it runs nothing. It is replaced as a whole, by way of
    a second one whose name ends in ``.part``.

    Parameters
    ----------
    path : str or path-like
        The file, taken as it is given. Its folder must exist. Every fit that may run at the same
        time needs one of its own.
    every : int, default=1
        Epochs from one writing to the next.

    Notes
    -----
    What lies before the first epoch is done again: validation, and pre-training, unless that has a
    Checkpoint of its own. What Python objects keep to themselves is not in the file: a schedule or
    loss of your own must depend on its arguments alone, and other callbacks see the epochs of their
    own process only.

    With ``random_state=None`` or a generator, the generator is set to where the killed process had
    it.

    ``partial_fit`` makes a single epoch, and writes nothing.

    A warm start may share its Checkpoint with the fits before it: these are done again then, and
    leave the file to the fit that it is of.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.callbacks import Checkpoint
    >>> from skdeep.neural_network import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> path = os.path.join(tempfile.mkdtemp(), "iris")
    >>> model = MLPClassifier(max_iter=500, random_state=0)
    >>> model = model.set_callbacks(Checkpoint(path, every=10)).fit(X, y)
    >>> os.path.exists(path)
    False
    """

    def __init__(self, path, every: int = 1):
        if not isinstance(every, Integral) or every < 1:
            raise ValueError(f"every={every!r} must be a whole number of epochs, at least 1.")
        self.path, self.every = os.fspath(path), int(every)

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r}, every={self.every})"

    def setup(self, estimator, context) -> None:
        solver = getattr(estimator, "solver", None)
        if not isinstance(estimator, Model) or solver is None or not is_stochastic(solver):
            raise ValueError(
                f"{self!r} is for single fits of skdeep's networks and logistic regression by one "
                f"of {', '.join(STOCHASTIC_SOLVERS)}: {type(estimator).__name__} with "
                f"solver={solver!r} has no epochs to write down."
            )
        while context is not None:
            # What is around has tasks that may run at the same time: a search.
            if not context.sequential_subtasks:
                raise shared(self)
            context = context.parent
        folder = os.path.dirname(self.path) or os.curdir
        if os.path.isdir(self.path) or not os.path.isdir(folder):
            raise ValueError(f"{self!r}: path must name a file in a folder that exists.")

    def teardown(self, estimator, context) -> None:
        pass

    def on_fit_task_begin(self, estimator, context) -> None:
        pass

    def on_fit_task_end(self, estimator, context) -> None:
        pass


@dataclass
class Record:
    """The file of one fit, which ``Problem.checkpoint`` hands to the solver.

    Parameters
    ----------
    path, every
        Of the Checkpoint.
    fit : dict
        What the file has to be of.
    state : dict or None
        Where the solver left off; None at the beginning.
    """

    path: str
    every: int
    fit: dict
    state: dict | None = None

    def after_epoch(self, epoch: int, last: bool, state: Callable[[], dict]) -> None:
        if last or epoch % self.every == 0:
            write(self.path, {**self.fit, "state": state()})

    def remove(self) -> None:
        for path in (self.path, part_of(self.path)):
            if os.path.exists(path):
                os.remove(path)


def open_checkpoint(estimator, backend: Backend, rng, data, start) -> Record | None:
    """What there is to go on from for the fit of an estimator that has a :class:`Checkpoint`.

    Parameters
    ----------
    backend : Backend
    rng : RandomState
        The fit's, before it draws: it is set to where the fit had it that goes on.
    data : sequence of arrays or None
    start : (theta, states) or None
        The parameters and the states of training to go on from.

    Raises
    ------
    ValueError
        If the file is of another fit or damaged.
    """
    callbacks = [c for c in getattr(estimator, "_skl_callbacks", ()) if isinstance(c, Checkpoint)]
    if not callbacks:
        return None
    if len(callbacks) > 1:
        raise ValueError(f"A fit takes one Checkpoint, and not {callbacks}.")
    (callback,) = callbacks
    theta, states = start or (None, [])
    states = [without_records(state) for state in states if state]
    fit = {
        "versions": versions(backend),
        "parameters": parameters(estimator),
        "data": joblib.hash([str(backend), *map(to_host, data)]),
        "start": joblib.hash([theta, states]),
        "seen": sum(state["samples"] for state in states),
        "generator": rng.get_state(legacy=False),
    }
    record = Record(callback.path, callback.every, fit)
    try:
        found = read(callback.path)
    except FileNotFoundError:
        return record
    if found.keys() != fit.keys() | {"state"}:
        raise ValueError(f"{callback.path!r} is no checkpoint.")
    refuse_other(callback.path, found, fit)
    if found["start"] != fit["start"]:
        warn(
            f"The checkpoint {callback.path!r} is of a later fit, to which it is left: this fit "
            "is done again, without one."
        )
        return None
    rng.set_state(found["generator"])
    record.fit["generator"], record.state = found["generator"], found["state"]
    return record


def refuse_other(path: str, found: dict, fit: dict) -> None:
    """Raise unless what was found in a file is of this fit, or of a later warm start."""
    other = [
        f"{name} was {found[kind].get(name)} and is {fit[kind].get(name)}"
        for kind in ("versions", "parameters")
        for name in sorted(fit[kind].keys() | found[kind].keys())
        if found[kind].get(name) != fit[kind].get(name)
    ]
    if not other and found["data"] != fit["data"]:
        other = ["the data (X, y, weights, validation data) or the backend differ"]
    if not other and found["start"] != fit["start"] and found["seen"] <= fit["seen"]:
        other = ["it began from other parameters"]
    if other:
        raise ValueError(
            f"The checkpoint {path!r} is of another fit: {'; '.join(other)}. Remove the file to "
            "begin anew, or give this fit another path."
        )


def versions(backend: Backend) -> dict[str, str]:
    """What the last bits depend on."""
    found = {"skdeep": __version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    return found | ({"torch": version("torch")} if backend.name == "torch" else {})


def parameters(estimator) -> dict[str, str]:
    """The parameters of an estimator in words that are the same in every process."""
    params = estimator.get_params(deep=False)
    found = {name: in_words(params[name]) for name in params if name not in WITHOUT_EFFECT}
    return {"class": type(estimator).__qualname__, **found}


def in_words(value) -> str:
    """A value without its place in memory; a function with a digest of what it does."""
    text, code = re.sub(PLACE, "", repr(value)), getattr(value, "__code__", None)
    if code is None:
        return text
    uses = re.sub(PLACE, "", repr((code.co_names, code.co_consts)))
    return f"{text} {sha256(code.co_code + uses.encode()).hexdigest()[:8]}"


def refuse_shared(estimators: Iterable) -> None:
    """Raise if estimators that are fitted together have a Checkpoint, or its path, in common."""
    paths = set()
    for estimator in estimators:
        steps = estimator.named_steps if isinstance(estimator, Pipeline) else {"": estimator}
        for step in steps.values():
            for callback in getattr(step, "_skl_callbacks", ()):
                if isinstance(callback, Checkpoint):
                    path = os.path.abspath(callback.path)
                    if path in paths:
                        raise shared(callback)
                    paths.add(path)


def shared(callback: Checkpoint) -> ValueError:
    return ValueError(
        f"{callback!r} would be shared by several fits of a search, a cross-validation or "
        "fit_many: it is for one. Call set_callbacks() without it, or give each a path of its own."
    )
