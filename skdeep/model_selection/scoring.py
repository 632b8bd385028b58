"""Scores of many fitted estimators on the same rows."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import type_of_target

from .._sklearn import (
    _BaseScorer,
    _MultimetricScorer,
    _PassthroughScorer,
    _Scorer,
)
from ..base import LinearClassifier, dtype_to_predict
from ..threads import in_threads

# Scores computed at once, in elements, and the least rows of a product.
AT_ONCE, LEAST_ROWS = 2**17, 64


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


def accuracies(
    estimators, X, y, sample_weight=None, rows=None, n_threads: int = 1
) -> list[float] | None:
    """Accuracies of fitted linear classifiers on the same rows, from one product; None if unfit.

    It is the share of equal labels that ``accuracy_score`` computes from ``predict``, digit for
    digit. ``rows`` are those of ``X`` that ``y`` belongs to, all if None.
    """
    first = estimators[0]
    if not _are_plain(estimators):
        return None
    if not (isinstance(X, np.ndarray) or sparse.issparse(X)) or X.ndim != 2:
        return None
    X = X.tocsr() if sparse.issparse(X) else X  # of which blocks of rows can be read
    kind = X.dtype.kind
    if kind not in "biuf" or X.shape[1] != first.n_features_in_ or X.shape[0] == 0:
        return None

    def hits(codes):
        chosen = np.arange(len(codes)) if rows is None else rows
        return _hits(estimators, X, codes, chosen, n_threads)

    return _shares(hits, first.classes_, y, sample_weight)


def _shares(hits: Callable, classes, y, sample_weight) -> list[float] | None:
    """Shares of the labels y that are met; None where y holds something else.

    ``hits(codes)`` tells which models meet which class, (M, n), from the places of the classes.
    """
    if not isinstance(y, np.ndarray) or y.ndim != 1 or y.dtype.kind not in "biufUSO":
        return None
    try:
        if y.dtype.kind in "fO" and type_of_target(y) not in ("binary", "multiclass"):
            return None
        met = hits(_codes(classes, y))
        if sample_weight is None:
            return (np.count_nonzero(met, axis=1) / len(y)).tolist()
        sample_weight = np.asarray(sample_weight)
        assert_all_finite(sample_weight)
        return [float(np.average(row, weights=sample_weight)) for row in met]
    except (TypeError, ValueError, ZeroDivisionError):
        return None  # scikit-learn's own way has the right words


def accuracies_of(estimators, predicted, y, sample_weight=None) -> list[float] | None:
    """The same of fitted networks, from their predictions (n, k) for the rows of y."""
    first = estimators[0]
    if not all(_has_classes(one) and _equal(one.classes_, first.classes_) for one in estimators):
        return None

    def hits(codes):
        return np.stack([_chosen(each) == codes for each in predicted])

    return _shares(hits, first.classes_, y, sample_weight)


def _has_classes(network) -> bool:
    """Whether a network has learned classes of which each row has one."""
    binarizer = getattr(network, "_label_binarizer", None)
    return getattr(binarizer, "y_type_", None) in ("binary", "multiclass")


def _chosen(predicted):
    """Places of the classes that predictions (n, k) mean."""
    return predicted[:, 0] > 0.5 if predicted.shape[1] == 1 else predicted.argmax(axis=1)


def _hits(estimators, X, codes, rows, n_threads: int):
    """Whether each estimator predicts the class of the code; shape (M, n).

    Rows are taken class by class, in blocks whose scores stay in the cache: a row is right if no
    score exceeds that of its class, and none before it, which a tie would go to, equals it.
    """
    first, n_models = estimators[0], len(estimators)
    dtype = dtype_to_predict(first._get_backend_to_predict(X), X, first.coef_)
    coef = np.concatenate([e.coef_ for e in estimators]).astype(dtype, copy=False)
    k = len(coef) // n_models
    intercept = np.empty((n_models, k), dtype)
    for own, estimator in zip(intercept, estimators, strict=True):
        own[:] = estimator.intercept_
    hits = np.zeros((n_models, len(codes)), dtype=bool)
    order = np.argsort(codes.astype(np.min_scalar_type(-max(k, 2))), kind="stable")
    starts = np.searchsorted(codes[order], np.arange(max(k, 2) + 1))
    step = max(LEAST_ROWS, AT_ONCE // len(coef))

    def score(block):
        c, chosen = block
        x = X[rows[chosen]].astype(dtype, copy=False)
        assert_all_finite(x.data if sparse.issparse(x) else x)
        # Class-major: a pass over the classes is a pass over rows of memory.
        raw = (x @ coef.T).T if sparse.issparse(x) else coef @ x.T
        raw += intercept.reshape(-1, 1)
        hits[:, chosen] = _right(raw.reshape(n_models, k, -1), c)

    blocks = [
        (c, order[begin : min(begin + step, stop)])
        for c, (start, stop) in enumerate(pairwise(starts))
        for begin in range(start, stop, step)
    ]
    in_threads(score, blocks, n_threads, work=len(codes) * coef.size)
    return hits


def _right(raw, c: int):
    """Whether class ``c`` has the first of the largest scores (M, k, n); of two the sign tells."""
    if raw.shape[1] == 1:
        return raw[:, 0] > 0 if c else raw[:, 0] <= 0
    own = raw[:, c : c + 1]
    return (own > raw[:, :c]).all(axis=1) & (own >= raw[:, c + 1 :]).all(axis=1)


def _are_plain(estimators) -> bool:
    """Whether scikit-learn's linear rule on ``coef_`` is what ``predict`` computes."""
    first, cls = estimators[0], type(estimators[0])
    rule = LinearClassifier.predict
    return (
        issubclass(cls, LinearClassifier)
        and getattr(cls.predict, "__wrapped__", cls.predict) in (rule, cls.predict)
        and _own(cls, "predict").startswith(("sklearn.", "skdeep."))
        and _own(cls, "decision_function").startswith("skdeep.")
        and all(
            type(estimator) is cls
            and isinstance(estimator.coef_, np.ndarray)
            and estimator.backend in ("auto", "numpy")
            and estimator.coef_.shape == first.coef_.shape
            and estimator.coef_.dtype == first.coef_.dtype
            and _equal(estimator.classes_, first.classes_)
            for estimator in estimators
        )
    )


def _own(cls, name: str) -> str:
    """The module of the class that a method comes from."""
    return next(base.__module__ for base in cls.__mro__ if name in vars(base))


def _equal(a, b) -> bool:
    return a is b or a.dtype == b.dtype and np.array_equal(a, b)


def _codes(classes, y):
    """Position of each label among the classes; -1 for one that is not there."""
    if len(classes) == 0 or classes.dtype.kind != y.dtype.kind:
        raise TypeError("labels of another kind")
    codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return np.where(classes[codes] == y, codes, -1)
