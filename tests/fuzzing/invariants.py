"""What has to hold of a run: small functions ``(case, run) -> complaints``.

A complaint is a sentence. Those that begin alike, but for numbers, are one kind of fault.
"""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.linalg import LinAlgWarning
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from .cases import Case, probe
from .data import FORMS
from .runs import OURS, THEIRS, Run, TooLong, Warned

# Refusals

# What a refusal may be about beside a parameter.
ARRAYS = (
    r"\bX\b|\by\b|X_val|y_val|sample_weight|sample weights|coef_init|intercept_init"
    r"|sample|row|feature|column|class|label|input data|target"
)


def comes_to_an_end(case: Case, run: Run) -> Iterator[str]:
    if isinstance(run.error, TooLong):
        yield f"{case.road}: {run.error}"


def refuses_in_words(case: Case, run: Run) -> Iterator[str]:
    """An error was meant, and says which parameter or array it is about."""
    error = run.error
    if error is None or isinstance(error, TooLong) or raised_by_theirs(error):
        return
    allowed = (ValueError, TypeError, NotImplementedError)
    if isinstance(error, np.linalg.LinAlgError) or not isinstance(error, allowed):
        yield said(error)
    elif not (_meant(error) or _as_theirs(case, error)):
        yield f"an accident: {said(error)}"
    elif not re.search("|".join([ARRAYS, *run.estimator.get_params(deep=False)]), str(error)):
        yield f"names nothing: {said(error)}"


def said(error: BaseException) -> str:
    """An error in one line: what, and where it comes from."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first} at {Path(last.filename).name}:{last.name}"


def raised_by_theirs(error: BaseException) -> bool:
    """Whether scikit-learn refuses: by a ``raise``, or anywhere in its tools that validate."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [i for i, frame in enumerate(frames) if frame.filename.startswith(OURS)]
    below = frames[ours[-1] + 1 if ours else 0 :]
    return any(frame.filename.startswith(f"{THEIRS}/utils") for frame in below) or (
        bool(below) and below[-1].filename.startswith(THEIRS) and _raises(below[-1])
    )


def _meant(error: BaseException) -> bool:
    """Whether a ``raise`` of ours raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return last.filename.startswith(OURS) and _raises(last)


def _raises(frame: traceback.FrameSummary) -> bool:
    return frame.line.startswith("raise")


def _as_theirs(case: Case, error: BaseException) -> bool:
    theirs = None if case.twin is None else case.twin.error
    return type(theirs) is type(error) and str(theirs) == str(error)


def refuses_what_is_invalid(case: Case, run: Run) -> Iterator[str]:
    if case.invalid is None:
        return
    value = case.params[case.invalid]
    if run.error is None:
        yield f"takes {case.invalid}={value!r}"
    elif case.invalid not in str(run.error):
        yield f"of {case.invalid}={value!r} says: {said(run.error)}"


def failed_fit_leaves_no_trace(case: Case, run: Run) -> Iterator[str]:
    if run.trace:
        yield f"left {', '.join(run.trace)}; after {said(run.error)}"


# What else a user would notice


def warns_users_only(case: Case, run: Run) -> Iterator[str]:
    for warning in run.warnings:
        if _internal(warning):
            yield f"{warning.category.__name__}: {warning.text} at {_short(warning.origin)}"


def _internal(warning: Warned) -> bool:
    """Whether a warning is of computing, or is shown at a line that is not the user's."""
    if issubclass(warning.category, ConvergenceWarning | DataConversionWarning | FutureWarning):
        return False
    if issubclass(warning.category, LinAlgWarning):  # scikit-learn's Newton solvers warn by it too
        return not warning.origin.startswith(OURS)
    if issubclass(warning.category, UserWarning):
        return any(place in warning.shown_at for place in ("/numpy/", "/scipy/", "/torch/", OURS))
    return not warning.origin.startswith(THEIRS)


def _short(origin: str) -> str:
    return origin.removeprefix(str(Path(OURS).parent) + "/")


def changes_no_input(case: Case, run: Run) -> Iterator[str]:
    for name in run.changed:
        yield f"changed {name}"


# Fitted models

# Attributes that may be infinite or NaN, as the docstrings say.
UNBOUNDED = {"margin_", "mistake_bound_", "n_updates_", "validation_scores_", "history_"} | {
    "oof_prediction_"
}


def attributes_are_finite(case: Case, run: Run) -> Iterator[str]:
    if run.error is not None:
        return
    allowed = UNBOUNDED | ({"intercept_"} if _impossible_class(run) else set())
    for name, value in vars(run.estimator).items():
        if name.endswith("_") and not name.startswith("_") and name not in allowed:
            arrays = map(np.asarray, value if isinstance(value, list) else [value])
            if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
                yield f"{name} is not finite"


def _impossible_class(run: Run) -> bool:
    """Whether a class has prior zero, and so scores of minus infinity."""
    return 0.0 in np.asarray(getattr(run.estimator, "priors_", 1.0))


def outputs_are_finite(case: Case, run: Run) -> Iterator[str]:
    if not FORMS[case.form].taken:  # what is lucky to be fitted
        return
    for name, output in run.outputs.items():
        if isinstance(output, NotImplementedError):  # what this solver has not
            continue
        if isinstance(output, BaseException):
            yield f"{name} raises {said(output)}"
        elif name == "predict_log_proba":
            if np.isnan(output).any():
                yield f"{name} is NaN"
        elif not (_finite(output) or _unbounded(case, run, name)):
            yield f"{name} is not finite"


def _finite(output) -> bool:
    output = np.asarray(output)
    return output.dtype.kind != "f" or bool(np.isfinite(output).all())


def _unbounded(case: Case, run: Run, name: str) -> bool:
    """Whether an output is infinite with reason, or in scikit-learn's class as well."""
    if name == "decision_function" and _impossible_class(run):
        return True
    theirs = None if case.twin is None else case.twin.outputs.get(name)
    return isinstance(theirs, np.ndarray) and not _finite(theirs)


def predicts_for_sound_rows_only(case: Case, run: Run) -> Iterator[str]:
    """Rows that are not finite, or of another width, are refused by the name of X."""
    if run.error is not None or not FORMS[case.form].taken:
        return
    X = probe(case)
    first = np.arange(len(X))[:, None] == 0
    method = "transform" if case.subject.target == "nothing" else "predict"
    for bad in (np.column_stack([X, X[:, :1]]), np.where(first, np.nan, X)):
        try:
            getattr(run.estimator, method)(bad)
        except ValueError as error:
            if not re.search(r"\bX\b", str(error)):
                yield f"{method} of bad rows: {said(error)}"
        else:
            yield f"{method} takes bad rows"


def probabilities_sum_to_one(case: Case, run: Run) -> Iterator[str]:
    p = run.outputs.get("predict_proba")
    if not isinstance(p, np.ndarray) or not _finite(p):
        return
    if p.min(initial=0) < 0 or p.max(initial=0) > 1 + 1e-6:
        yield f"probabilities from {p.min():.3g} to {p.max():.3g}"
    elif run.outputs["predict"].ndim == 1 and np.abs(p.sum(axis=1) - 1).max(initial=0) > 1e-5:
        yield f"probabilities of a row sum to {p.sum(axis=1).min():.6g}"


def label_has_the_highest_score(case: Case, run: Run) -> Iterator[str]:
    labels, classes = run.outputs.get("predict"), getattr(run.estimator, "classes_", ())
    if not isinstance(labels, np.ndarray) or labels.ndim > 1 or len(classes) < 2:
        return
    for name in ("predict_proba", "decision_function"):
        scores = run.outputs.get(name)
        if not isinstance(scores, np.ndarray) or not _finite(scores):
            continue
        if scores.ndim == 1:
            scores = np.column_stack([-scores, scores])
        second, first = np.sort(scores, axis=1)[:, -2:].T
        clear = first - second > 1e-5 * np.abs(first)
        if np.any((classes[scores.argmax(axis=1)] != labels) & clear):
            yield f"predict is not the argmax of {name}"


def logarithms_are_of_probabilities(case: Case, run: Run) -> Iterator[str]:
    p, log_p = (run.outputs.get(name) for name in ("predict_proba", "predict_log_proba"))
    if isinstance(p, np.ndarray) and isinstance(log_p, np.ndarray) and _finite(p):
        likely = p > 1e-30
        if np.abs(log_p[likely] - np.log(p[likely])).max(initial=0) > 1e-4:
            yield "predict_log_proba is not the logarithm of predict_proba"


def shows_itself(case: Case, run: Run) -> Iterator[str]:
    """What displays, pipelines and searches ask works for any parameters, fitted or not."""
    for estimator in (run.estimator, case.make()):
        for question in (repr, is_classifier):
            try:
                question(estimator)
            except Exception as error:
                yield f"{question.__name__}: {said(error)}"


# Next to scikit-learn


# Where we refuse what scikit-learn fits: the deviance of a negative number is none.
STRICTER = r"loss='poisson' needs y >= 0"


def accepts_what_theirs_accepts(case: Case, run: Run) -> Iterator[str]:
    twin = case.twin
    if run.error is None or case.invalid is not None or twin is None or twin.error is not None:
        return
    outputs = twin.outputs.values()
    of_use = all(isinstance(output, np.ndarray) and _finite(output) for output in outputs)
    of_use = of_use and not list(attributes_are_finite(case, twin))
    if of_use and not re.search(STRICTER, str(run.error)):
        yield f"scikit-learn fits, here {said(run.error)}"
