"""A case: an estimator, its parameters, data in a form, and the calls that are made."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from skdeep.stochastic import STOCHASTIC_SOLVERS

from .data import FORMS, Data, blobs, draw_data, plain
from .draws import Draw
from .parameters import draw_extreme, draw_invalid, draw_parameters
from .runs import Run, observe
from .subjects import SUBJECTS, Subject

# Shares of the cases: with scikit-learn's parameters only, with a parameter far out, with one that
# is not accepted, with more arguments; and of those of dirty data, with rows in a form not taken.
SHARED, EXTREME, INVALID, EXTRAS, REFUSED = 0.4, 0.1, 0.05, 0.1, 0.1


def earlier_data(case: "Case") -> Data:
    """Tame data of the same width, for what came before."""
    rng = np.random.default_rng(7)
    codes = np.arange(24) % 3
    X = blobs(rng, codes, case.data.X.shape[1])
    return Data(X, codes if case.subject.target == "labels" else X.sum(axis=1), None)


# The calls that train: names of methods and data, the last with the case's own.
ROADS: dict[str, Callable] = {
    "fit": lambda case: [("fit", case.data)],
    "fit again": lambda case: [("fit", case.data), ("fit", case.data)],
    "fit after another": lambda case: [("fit", earlier_data(case)), ("fit", case.data)],
    "partial_fit": lambda case: [("partial_fit", case.data)],
    "partial_fit twice": lambda case: [("partial_fit", case.data), ("partial_fit", case.data)],
    "fit, partial_fit": lambda case: [("fit", case.data), ("partial_fit", case.data)],
}


@dataclass(frozen=True)
class Case:
    """What is tried.

    Parameters
    ----------
    subject : Subject
    data : Data
    params : dict
        Of the estimator, where they are not the default.
    form : str
        Of X, an entry of ``data.FORMS``.
    road : str
        An entry of ``ROADS``.
    extras : bool
        Whether `fit` is given the subject's further arguments.
    invalid : str or None
        The parameter with a value that is not accepted.
    usual : bool
        Whether no parameter is far out.
    seed : int
    """

    subject: Subject
    data: Data
    params: dict = field(default_factory=dict)
    form: str = "C order"
    road: str = "fit"
    extras: bool = False
    invalid: str | None = None
    usual: bool = True
    seed: int = 0

    def but(self, **changes) -> "Case":
        """The same but for some fields; ``params`` are added to those there are."""
        return replace(self, params={**self.params, **changes.pop("params", {})}, **changes)

    @cached_property
    def all_params(self) -> dict[str, Any]:
        return {**self.subject.ours().get_params(deep=False), **self.params}

    @property
    def single(self) -> bool:
        """Whether it is computed in single precision."""
        dtype = self.all_params["dtype"]
        if dtype is None:
            return FORMS[self.form].single
        return getattr(dtype, "__name__", dtype) in ("float32", "bfloat16")

    @property
    def full_batch(self) -> bool:
        """Whether the solver sees all rows at once and goes to the one optimum."""
        return self.subject.convex and self.all_params["solver"] not in STOCHASTIC_SOLVERS

    @property
    def tame(self) -> bool:
        """Whether nothing is wrong, and answers are determined well enough to compare."""
        form = FORMS[self.form]
        taken = form.taken and not form.rounded and (self.subject.sparse or not form.sparse)
        return self.data.tame and taken and self.invalid is None and self.usual

    def calls(self) -> list[tuple[str, dict]]:
        """Methods that train, and their arguments."""
        return [(method, self._arguments(method, data)) for method, data in ROADS[self.road](self)]

    def _arguments(self, method: str, data: Data) -> dict:
        y, weights = copy.deepcopy((data.y, data.weights))
        given = {"X": formed(self.form, data.X), "y": y, "sample_weight": weights}
        if self.subject.target == "nothing":
            del given["y"]
        if data.weights is None:
            del given["sample_weight"]
        if self.extras and method == "fit":
            given |= self.subject.extras(formed(self.form, data.X), data)
        if "classes" in signature(getattr(self.subject.ours, method)).parameters:
            given["classes"] = data.classes
        return given

    def make(self):
        return self.subject.ours(**copy.deepcopy(self.params))

    def run(self) -> Run:
        return observe(self.make(), self.calls())

    @cached_property
    def twin(self) -> Run | None:
        """The same calls to scikit-learn's class; None if it lacks what the case is about."""
        cls = self.subject.theirs
        if cls is None or self.extras:
            return None
        calls, theirs = self.calls(), signature(cls).parameters
        own = {name: value for name, value in self.params.items() if name not in theirs}
        defaults = self.subject.ours().get_params(deep=False)
        precisions = ["float32", "float64"] if self.full_batch else ["float64"]
        neutral = {"backend": ["numpy", "torch"], "dtype": precisions}
        if any(
            value not in [defaults[name], *neutral.get(name, [])] for name, value in own.items()
        ):
            return None
        if any(
            not set(given) <= set(signature(getattr(cls, name, cls)).parameters)
            for name, given in calls
        ):
            return None
        shared = {name: value for name, value in self.params.items() if name in theirs}
        shared.pop("verbose", None)  # which prints past Python
        calls = [(name, {**given, "X": _as_numpy(given["X"])}) for name, given in calls]
        return observe(cls(**copy.deepcopy(shared)), calls)

    def __str__(self):
        given = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        more = " with more arguments" if self.extras else ""
        return (
            f"{self.subject.ours.__name__}({given}); {self.road}{more}; X: {self.form}; "
            f"{self.data.recipe}"
        )


def formed(form: str, X: np.ndarray):
    """Rows in a form; making some of them warns, which is not what is tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FORMS[form].make(X.copy())


def _as_numpy(X):
    """A tensor as an array, for scikit-learn."""
    if not is_torch_array(X):
        return X
    return X.float().numpy() if X.element_size() < 8 else X.numpy()


def probe(case: Case) -> np.ndarray:
    """The rows of a case as float64, to compare answers on."""
    return plain(formed(case.form, case.data.X))


def draw_case(seed: int) -> Case:
    """The case of a seed."""
    draw = Draw(seed)
    subject = SUBJECTS[draw.one_of("subject", SUBJECTS)]
    data = draw_data(draw, subject.target)
    params = draw_parameters(subject.ours, draw, subject.always)
    if subject.theirs and draw.chance("shared", SHARED):
        kept = {*signature(subject.theirs).parameters, "backend"}
        params = {name: value for name, value in params.items() if name in kept}
    extreme = draw_extreme(subject.ours, draw) if draw.chance("extreme?", EXTREME) else {}
    invalid = draw_invalid(subject.ours, draw) if draw.chance("invalid?", INVALID) else {}
    refused = not data.tame and draw.chance("refused", REFUSED)
    forms = [name for name, form in FORMS.items() if form.taken != refused]
    case = Case(
        subject,
        data,
        {**params, **extreme, **invalid},
        form=draw.one_of("form", forms),
        road=draw.one_of("road", ["fit", "fit", *ROADS]),
        extras=draw.chance("extras", EXTRAS),
        invalid=next(iter(invalid), None),
        usual=not extreme,
        seed=seed,
    )
    if "partial_fit" in case.road and not hasattr(case.make(), "partial_fit"):
        return case.but(road="fit")
    return case
