"""Fuzzing: some hundred cases hold, and each invariant notices what it is there for.

Any number of cases: ``python tests/fuzz.py --cases 20000``.
"""

import re
from itertools import count

import numpy as np
import pytest
import sklearn.linear_model
from scipy import sparse
from sklearn.utils._param_validation import make_constraint

from skdeep.linear_model import LogisticRegression

pytest.importorskip("torch", reason="half of the cases are of torch, which is not installed")

from fuzzing import agreements, check, relations, runs
from fuzzing.cases import ROADS, Case, draw_case
from fuzzing.data import (
    BAD_LABELS,
    BAD_TARGETS,
    BAD_WEIGHTS,
    DIRT,
    FORMS,
    ROWS,
    Data,
    plain,
)
from fuzzing.draws import Draw
from fuzzing.known import KNOWN, is_known
from fuzzing.parameters import draw_extreme, draw_invalid, draw_value
from fuzzing.subjects import SUBJECTS, Subject

N_CASES, N_TESTS = 500, 25


@pytest.mark.parametrize("part", range(N_TESTS))
def test_cases_hold(part):
    failures = []
    for seed in range(part, N_CASES, N_TESTS):
        case = draw_case(seed)
        found = [one for one in check.check(case) if not is_known(one)]
        failures += [f"seed {seed}: {case}\n    {one}" for one in found]
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.pattern)
def test_known_fault_is_still_there(known):
    complaints = check.check(draw_case(known.seed))
    assert any(re.search(known.pattern, one) for one in complaints), (
        f"mended, take it out of the list in fuzzing/known.py: {known.reason}"
    )


# The fuzzer itself: one that notices nothing would pass as well.

RNG = np.random.default_rng(0)
CODES = np.arange(30) % 3
X = RNG.normal(size=(30, 3)) + RNG.normal(size=(3, 3))[CODES]
SOUND = Data(X, CODES, None)
EXACT = {"tol": 1e-10, "max_iter": 1000}


def case_of(cls, **changes) -> Case:
    subject = Subject(
        cls,
        sklearn.linear_model.LogisticRegression,
        agrees=agreements.optimum,
        varied={"C": lambda i: 2.0**-i},
        convex=True,
    )
    return Case(subject, changes.pop("data", SOUND), EXACT).but(**changes)


def test_sound_estimator_has_no_complaints():
    assert check.check(case_of(LogisticRegression)) == []
    assert check.check(case_of(LogisticRegression, form="CSR")) == []
    assert check.check(case_of(LogisticRegression, params={"C": -1.0}, invalid="C")) == []


class Endless(LogisticRegression):
    def fit(self, X, y):
        while True:
            pass


class Accident(LogisticRegression):
    def fit(self, X, y):
        return X + "y"


class Singular(LogisticRegression):
    def fit(self, X, y):
        raise np.linalg.LinAlgError("X is singular")


class Undocumented(LogisticRegression):
    def fit(self, X, y):
        raise KeyError("X")


class Unchecked(LogisticRegression):
    def fit(self, X, y):
        C, self.C = self.C, 1.0
        super().fit(X, y)
        self.C = C
        return self


class OffTopic(LogisticRegression):
    def fit(self, X, y):
        raise ValueError("fit_intercept is wrong")


class Tracing(LogisticRegression):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        raise ValueError("X is refused")


class Noisy(LogisticRegression):
    def fit(self, X, y):
        np.log(np.zeros(1))
        return super().fit(X, y)


class Spoiling(LogisticRegression):
    def fit(self, X, y):
        super().fit(X, y)
        X *= 2.0
        return self


class SpoilingInPrediction(LogisticRegression):
    def predict(self, X):
        X[0] = 0.0
        return super().predict(X)


class Sorting(LogisticRegression):
    def fit(self, X, y):
        X.sort_indices()
        return super().fit(X, y)


class Infinite(LogisticRegression):
    def fit(self, X, y):
        super().fit(X, y)
        self.history_, self.loss_ = [np.nan], np.inf
        return self


class Unsure(LogisticRegression):
    def decision_function(self, X):
        return super().decision_function(X) * np.nan


class Speechless(LogisticRegression):
    def predict_proba(self, X):
        raise AttributeError("scales_")


class Credulous(LogisticRegression):
    def predict(self, X):
        return self.classes_[np.zeros(len(X), dtype=int)]


class Improper(LogisticRegression):
    def predict_proba(self, X):
        return 0.5 + super().predict_proba(X)


class Unnormalised(LogisticRegression):
    def predict_proba(self, X):
        return 0.5 * super().predict_proba(X)


class WrongBase(LogisticRegression):
    def predict_log_proba(self, X):
        return np.log2(self.predict_proba(X))


class Shy(LogisticRegression):
    def __sklearn_tags__(self):
        raise KeyError(self.solver)


class Picky(LogisticRegression):
    def fit(self, X, y):
        raise ValueError("X is not to our taste")


class Rough(LogisticRegression):
    def fit(self, X, y):
        super().fit(X, y)
        self.coef_ *= 1.01
        return self


class Contrary(LogisticRegression):
    def fit(self, X, y):
        super().fit(X, y)
        self.coef_ *= -1.0
        return self


class Formal(LogisticRegression):
    def fit(self, X, y):
        super().fit(X, y)
        self.intercept_ += isinstance(X, np.ndarray) and X.flags.c_contiguous
        return self


class Partial(LogisticRegression):
    def fit(self, X, y):
        super().fit(X, y)
        self.intercept_ += self.backend == "torch"
        return self


class Orderly(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.intercept_ += X[0, 0] * np.arange(3)
        return self


class Weightless(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


class Forgetful(LogisticRegression):
    def __getstate__(self):
        return {**super().__getstate__(), "intercept_": np.zeros(3)}


class Moody(LogisticRegression):
    fits = count()

    def fit(self, X, y):
        super().fit(X, y)
        self.intercept_[0] += next(self.fits)
        return self


class Hoarding(LogisticRegression):
    def __sklearn_clone__(self):
        return self


# Estimator with a fault, the invariant that notices it, and what the case has to be for that.
FAULTS = [
    (Endless, "comes to an end", {}),
    (Accident, "refuses in words", {}),
    (Singular, "refuses in words", {}),
    (Undocumented, "refuses in words", {}),
    (Unchecked, "refuses what is invalid", {"params": {"C": -1.0}, "invalid": "C"}),
    (OffTopic, "refuses what is invalid", {"params": {"C": -1.0}, "invalid": "C"}),
    (Tracing, "failed fit leaves no trace", {}),
    (Tracing, "failed fit leaves no trace", {"road": "fit after another"}),
    (Noisy, "warns users only", {}),
    (Spoiling, "changes no input", {}),
    (SpoilingInPrediction, "changes no input", {}),
    (Sorting, "changes no input", {"form": "CSR, unsorted"}),
    (Infinite, "attributes are finite", {}),
    (Unsure, "outputs are finite", {}),
    (Speechless, "outputs are finite", {}),
    (Credulous, "predicts for sound rows only", {}),
    (Improper, "probabilities sum to one", {}),
    (Unnormalised, "probabilities sum to one", {}),
    (Credulous, "label has the highest score", {}),
    (WrongBase, "logarithms are of probabilities", {}),
    (Shy, "shows itself", {}),
    (Picky, "accepts what theirs accepts", {}),
    (Rough, "answers as theirs", {}),
    (Contrary, "as good as theirs", {"data": Data(1e4 * X, CODES, None, tame=False)}),
    (Formal, "any form", {"form": "CSR"}),
    (Partial, "any backend", {}),
    (Orderly, "any order", {}),
    (Weightless, "weights are repetitions", {}),
    (Forgetful, "survives pickling", {}),
    (Moody, "fits again from a clone", {}),
    (Hoarding, "fits again from a clone", {}),
]


@pytest.mark.parametrize(
    "cls, name, changes", FAULTS, ids=lambda value: getattr(value, "__name__", None)
)
def test_fault_is_noticed(cls, name, changes, monkeypatch):
    monkeypatch.setattr(runs, "PATIENCE", 0.5)
    assert check.check(case_of(cls, **changes), [name])


def test_unlike_stack_is_noticed(monkeypatch):
    def wrong(models, **given):
        return fit_many(models[::-1], **given)

    fit_many = relations.fit_many
    monkeypatch.setattr(relations, "fit_many", wrong)
    complaints = check.check(case_of(LogisticRegression))
    assert [one.split(": ")[1] for one in complaints] == ["any stack"]


def test_each_invariant_has_a_fault():
    assert {name for _, name, _ in FAULTS} | {"any stack"} == set(check.INVARIANTS)


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_every_parameter_is_drawn(subject):
    """A new parameter that this cannot draw gets an entry in ``parameters.VALUES``."""
    defaults = subject.ours().get_params(deep=False)
    assert set(subject.always) <= set(defaults)
    for name, default in defaults.items():
        constraints = subject.ours._parameter_constraints[name]
        known = [make_constraint(one) for one in constraints]
        drawn = [draw_value(Draw(seed), name, constraints, default) for seed in range(40)]
        drawn += subject.always.get(name, [])
        assert all(any(one.is_satisfied_by(value) for one in known) for value in drawn), name
        assert len({repr(value) for value in drawn}) > 1, name


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_bounds_are_drawn_on_both_sides(subject):
    for seed in range(40):
        for draw, refused in ((draw_extreme, False), (draw_invalid, True)):
            ((name, value),) = draw(subject.ours, Draw(seed)).items()
            known = map(make_constraint, subject.ours._parameter_constraints[name])
            assert refused != any(one.is_satisfied_by(value) for one in known), (name, value)


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.taken])
def test_forms_hold_the_same_rows(form):
    made = FORMS[form].make(X.copy())
    assert FORMS[form].sparse == sparse.issparse(made)
    assert FORMS[form].rounded or np.abs(plain(made) - X).max() < 1e-6


def test_a_seed_is_a_case():
    first, second = (str(draw_case(seed)) for seed in (11, 11))
    assert first == second
    assert len({str(draw_case(seed)) for seed in range(50)}) == 50


def test_every_kind_of_data_is_drawn():
    cases = [draw_case(seed) for seed in range(1500)]
    assert {case.form for case in cases} == set(FORMS)
    assert {case.road for case in cases} == set(ROADS)
    assert {type(case.make()).__name__ for case in cases} == set(SUBJECTS)
    recipes = " ".join(case.data.recipe for case in cases)
    assert all(name in recipes for name in (*ROWS, *DIRT, *BAD_LABELS, *BAD_TARGETS, *BAD_WEIGHTS))
    assert 0.3 < np.mean([case.tame for case in cases]) < 0.6
