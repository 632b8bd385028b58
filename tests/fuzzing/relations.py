"""The same answer by another road: what has to hold of a case and its variations."""

import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils import _safe_indexing

from skdeep import fit_many

from .agreements import gap
from .cases import Case, formed, probe
from .data import FORMS, WEIGHTS, Data
from .draws import Draw
from .invariants import raised_by_theirs, said, warns_users_only
from .runs import PATIENCE, Run, answers, at_most, noting


def tolerance(case: Case) -> float | None:
    """How much answers may differ, relative to the largest; None where they are not determined."""
    params = case.all_params
    if not case.tame or params["dtype"] == "bfloat16":
        return None
    if not case.full_batch:  # the same seed is the same answer
        # From zero, rounding decides the sign in the subgradient of an L1 penalty.
        on_a_tie = case.subject.convex and params.get("l1_ratio", 0.0)
        determined = params["random_state"] is not None and not case.single and not on_a_tie
        return 1e-6 if determined else None
    if params["tol"] > 1e-4:
        return None
    C = params.get("C", 1.0)
    if "Cs" in params:
        C = 1e4 if isinstance(params["Cs"], int) else max(params["Cs"])
    weights = params.get("class_weight")
    no_penalty = C > 1e3 or params.get("penalty", "l2") is None
    if no_penalty or (isinstance(weights, dict) and 0.0 in weights.values()):
        return None
    if case.single:
        return 2e-2 if C <= 1 else None
    return 1e-6 if C <= 1 else 1e-4


def settled(case: Case, run: Run) -> bool:
    """Whether iterations went on to the optimum, if that is what makes the answer one."""
    return run.error is None and (run.converged or not case.full_batch)


def compare(case: Case, run: Run, other: Case, what: str, rows=None) -> Iterator[str]:
    """Complaints if another road refuses, or answers otherwise for the rows of the case."""
    allowed = [tolerance(case), tolerance(other)]
    if None in allowed or not settled(case, run):
        return
    second, rows = other.run(), probe(case) if rows is None else rows
    if second.error is not None and not raised_by_theirs(second.error):
        yield f"{what}: {said(second.error)}"
    if settled(other, second):
        apart = gap(answers(second.estimator, rows), answers(run.estimator, rows))
        if not apart <= max(allowed):
            yield f"{what}: answers differ by {apart:.1g}"


def answers_as_theirs(case: Case, run: Run) -> Iterator[str]:
    agrees, allowed = case.subject.agrees, tolerance(case)
    if agrees is None or allowed is None or not settled(case, run):
        return
    if case.twin is not None and case.twin.error is None:
        rows, y, weights = probe(case), case.data.y, case.data.weights
        complaint = agrees(run.estimator, case.twin.estimator, rows, y, weights, allowed)
        if complaint is not None:
            yield complaint


def as_good_as_theirs(case: Case, run: Run) -> Iterator[str]:
    """Whatever the data, scikit-learn's optimum does not classify many more rows rightly."""
    if case.twin is None or case.twin.error is not None or not settled(case, run):
        return
    if case.single and not FORMS[case.form].single:  # scikit-learn computes in double precision
        return
    # On sparse rows these stop far from the optimum, which may classify fewer rows rightly.
    if case.all_params.get("solver") in ("sag", "saga"):
        return
    if case.full_batch and is_classifier(run.estimator) and case.twin.converged and case.usual:
        y = np.asarray(case.data.y)
        ours, theirs = (np.mean(one.outputs["predict"] == y) for one in (run, case.twin))
        if ours < theirs - 0.1 - 2 / len(y):
            yield f"scores {ours:.2f}, scikit-learn {theirs:.2f}"


def any_form(case: Case, run: Run) -> Iterator[str]:
    """The container of X does not matter."""
    if not case.tame or callable(case.all_params.get("loss")):  # which torch alone differentiates
        return
    form = "C order" if case.form != "C order" else Draw(case.seed).one_of("other form", FORMS)
    if FORMS[form].sparse == FORMS[case.form].sparse or case.subject.sparse_is_dense:
        other = case.but(data=replace(case.data, X=probe(case)), form=form)
        yield from compare(case, run, other, f"{case.form} and {form}")


def any_backend(case: Case, run: Run) -> Iterator[str]:
    backend = "torch" if getattr(run.estimator, "backend_", "") == "numpy" else "numpy"
    if not callable(case.all_params.get("loss")):  # which torch differentiates
        other = case.but(params={"backend": backend})
        yield from compare(case, run, other, f"backend={backend!r}")


def any_order(case: Case, run: Run) -> Iterator[str]:
    """The order of the rows does not matter where all are seen at once."""
    if case.tame and case.full_batch and "cv" not in case.all_params:
        order = Draw(case.seed).rng("order").permutation(len(case.data.X))
        other = case.but(data=chosen_rows(case.data, order))
        yield from compare(case, run, other, "rows in another order")


def chosen_rows(data: Data, rows) -> Data:
    weights = None if data.weights is None else np.asarray(data.weights)[rows]
    return replace(data, X=data.X[rows], y=_safe_indexing(data.y, rows), weights=weights)


def weights_are_repetitions(case: Case, run: Run) -> Iterator[str]:
    params = case.all_params
    if not (case.tame and case.full_batch) or "cv" in params:
        return
    if params.get("covariance_estimator") is not None:  # which takes no weights
        return
    counts = WEIGHTS["with zeros"](Draw(case.seed).rng("counts"), len(case.data.X))
    weighted = case.but(data=replace(case.data, weights=counts))
    rows = np.repeat(np.arange(len(counts)), counts.astype(int))
    if case.subject.target == "labels" and set(np.unique(case.data.y)) != set(
        np.unique(np.asarray(case.data.y)[rows])
    ):
        return  # a weight of zero leaves a class, no row does not
    repeated = case.but(data=chosen_rows(replace(case.data, weights=None), rows))
    yield from compare(weighted, weighted.run(), repeated, "repeated rows", probe(case))


def any_stack(case: Case, run: Run) -> Iterator[str]:
    """Models fitted together are those that are fitted alone."""
    if case.road != "fit" or case.extras or not case.tame or run.error is not None:
        return
    # As many models as rows now and then: no array may be taken for one of the other kind.
    n_models = len(case.data.X) if len(case.data.X) < 24 else 3
    varied = case.subject.varied.items()
    cases = [case.but(params={name: f(i) for name, f in varied}) for i in range(1, n_models)]
    cases.append(case)
    ((_, given),) = case.calls()
    together = Run(None)
    with noting(together.warnings), at_most(PATIENCE):
        models = fit_many([one.make() for one in cases], **given, on_error="return")
    yield from warns_users_only(case, together)
    worst, rows = 0.0, probe(case)
    for one, model in zip(cases, models, strict=True):
        alone, allowed = one.run(), tolerance(one)
        if type(alone.error) is not type(model if isinstance(model, Exception) else None):
            yield f"in a stack {model!r}, alone {alone.error!r}"
        elif allowed is not None and settled(one, alone):
            worst = max(worst, gap(answers(model, rows), answers(alone.estimator, rows)) / allowed)
    if not worst <= 1:
        yield f"{n_models} in a stack: answers differ by {worst:.1g} times what is allowed"


def survives_pickling(case: Case, run: Run) -> Iterator[str]:
    if run.error is not None:
        return
    loaded = pickle.loads(pickle.dumps(run.estimator))
    for name, output in run.outputs.items():
        if isinstance(output, np.ndarray) and name != "inverse_transform":
            again = getattr(loaded, name)(formed(case.form, case.data.X))
            if not _same(again, output):
                yield f"a pickled model's {name} differs"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if b.dtype.kind == "f":
        return np.allclose(a, b, rtol=1e-5, equal_nan=True)
    return np.array_equal(a, b)


def fits_again_from_a_clone(case: Case, run: Run) -> Iterator[str]:
    """A clone has the parameters and nothing else, and a second fit gives the same answers."""
    if run.error is not None:
        return
    left = [name for name in vars(clone(run.estimator)) if name.endswith("_")]
    if left:
        yield f"a clone has {', '.join(left)}"
    if case.road == "fit":
        yield from compare(case, run, case, "fitted again")
