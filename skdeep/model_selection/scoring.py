"""Scores of many fitted estimators on the same rows."""

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import (
    _BaseScorer,
    _MultimetricScorer,
    _PassthroughScorer,
    _Scorer,
)
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import type_of_target

from ..base import LinearClassifier

# Scores computed at once, in elements.
AT_ONCE = 2**25


def asks_only_methods(scorer) -> bool:
    """Whether the scorer looks at the predictions of the estimator it is given and nothing else.

    It can then be given the last step of a pipeline with transformed rows.
    """
    if isinstance(scorer, _MultimetricScorer):
        return all(asks_only_methods(each) for each in scorer._scorers.values())
    return isinstance(scorer, (_BaseScorer, _PassthroughScorer))


def is_accuracy(scorer, estimator) -> bool:
    """Whether the scorer gives the plain accuracy of this estimator."""
    if isinstance(scorer, _PassthroughScorer):
        return type(estimator).score is ClassifierMixin.score
    return (
        isinstance(scorer, _Scorer)
        and scorer._score_func is accuracy_score
        and scorer._sign == 1
        and not scorer._kwargs
    )


def accuracies(estimators, X, y, sample_weight=None) -> list[float] | None:
    """Accuracies of fitted linear classifiers on the same rows, from one product; None if unfit.

    It is the share of equal labels that ``accuracy_score`` computes from ``predict``, digit for
    digit.
    """
    first = estimators[0]
    if not all(_is_plain(estimator, first) for estimator in estimators):
        return None
    if not (isinstance(X, np.ndarray) or sparse.issparse(X)) or X.ndim != 2:
        return None
    kind = X.dtype.kind
    if kind not in "biuf" or X.shape[1] != first.n_features_in_ or X.shape[0] == 0:
        return None
    if not isinstance(y, np.ndarray) or y.ndim != 1 or y.dtype.kind not in "biufUSO":
        return None
    try:
        if kind == "f":
            assert_all_finite(X.data if sparse.issparse(X) else X)
        if y.dtype.kind in "fO" and type_of_target(y) not in ("binary", "multiclass"):
            return None
        codes = _codes(first.classes_, y)
    except (TypeError, ValueError):
        return None  # scikit-learn's own way has the right words
    dtype = np.result_type(X.dtype if kind == "f" else "float64", first.coef_.dtype)
    X, n_models = X.astype(dtype, copy=False), len(estimators)
    hits = np.empty((n_models, X.shape[0]), dtype=bool)
    k = first.coef_.shape[0]
    step = max(1, AT_ONCE // (X.shape[0] * k))
    for start in range(0, n_models, step):
        some = estimators[start : start + step]
        coef = np.concatenate([e.coef_ for e in some]).astype(dtype, copy=False)
        intercept = np.concatenate([np.broadcast_to(e.intercept_, k) for e in some])
        # Class-major: a pass over the classes is a pass over rows of memory.
        raw = coef @ X.T if not sparse.issparse(X) else (X @ coef.T).T
        raw = raw + intercept[:, None].astype(dtype)
        raw = raw.reshape(len(some), k, -1)
        predicted = (raw[:, 0] > 0).astype(np.intp) if k == 1 else raw.argmax(axis=1)
        hits[start : start + step] = predicted == codes
    if sample_weight is None:
        return [float(np.average(row)) for row in hits]
    sample_weight = np.asarray(sample_weight)
    return [float(np.average(row, weights=sample_weight)) for row in hits]


def _is_plain(estimator, first) -> bool:
    """Whether scikit-learn's linear rule on ``coef_`` is what ``predict`` computes."""
    cls = type(estimator)
    rule = LinearClassifierMixin.predict
    return (
        cls is type(first)
        and isinstance(estimator, LinearClassifier)
        and getattr(cls.predict, "__wrapped__", cls.predict) in (rule, cls.predict)
        and _own(cls, "predict").startswith(("sklearn.", "skdeep."))
        and _own(cls, "decision_function").startswith("skdeep.")
        and isinstance(estimator.coef_, np.ndarray)
        and estimator.backend in ("auto", "numpy")
        and estimator.coef_.shape == first.coef_.shape
        and estimator.coef_.dtype == first.coef_.dtype
        and (estimator.classes_ is first.classes_ or _equal(estimator.classes_, first.classes_))
    )


def _own(cls, name: str) -> str:
    """The module of the class that a method comes from."""
    return next(base.__module__ for base in cls.__mro__ if name in vars(base))


def _equal(a, b) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def _codes(classes, y):
    """Position of each label among the classes; -1 for one that is not there."""
    if len(classes) == 0 or classes.dtype.kind != y.dtype.kind:
        raise TypeError("labels of another kind")
    codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return np.where(classes[codes] == y, codes, -1)
