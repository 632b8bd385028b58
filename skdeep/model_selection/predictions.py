"""Predictions of many fitted networks for the same rows, those alike as one stack."""

from collections import defaultdict
from math import prod

import numpy as np

from ..base import dtype_to_predict
from ..neural_network.base import averaged
from ..neural_network.classifier import BaseNetworkClassifier
from ..neural_network.regressor import BaseNetworkRegressor
from .shared_rows import Resident, places

# Bytes of the activations that are computed at once.
AT_ONCE = 2**26


def are_networks(estimators) -> bool:
    """Whether all predict as the networks of this package do."""
    return all(
        isinstance(estimator, BaseNetworkClassifier | BaseNetworkRegressor)
        and type(estimator).__module__.partition(".")[0] == __package__.partition(".")[0]
        for estimator in estimators
    )


def are_rows(X, estimator) -> bool:
    """Whether X is a plain array of finite rows, with the features that were fitted on."""
    return (
        isinstance(X, np.ndarray)
        and X.ndim == 2
        and X.dtype.kind in "iuf"
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and bool(np.isfinite(X.sum()) or np.isfinite(X).all())
    )


def predictions(estimators, resident: Resident, rows=None) -> list[np.ndarray]:
    """What each network predicts, (n, k), for rows of a resident X, all if None."""
    alike = defaultdict(list)
    for i, estimator in enumerate(estimators):
        kind = estimator._kind()
        alike[id(estimator) if kind is None else kind].append(i)
    found: list = [None] * len(estimators)
    for members in alike.values():
        predicted = _of_a_kind([estimators[i] for i in members], resident, rows)
        for i, own in zip(members, predicted, strict=True):
            found[i] = own
    return found


def _of_a_kind(estimators, resident: Resident, rows) -> list[np.ndarray]:
    first = estimators[0]
    backend, net = first._get_backend_to_predict(resident.X), first._fitted_network()
    dtype = dtype_to_predict(backend, resident.X, first.coefs_[0])
    X = resident.on(backend, dtype)
    if rows is not None:
        X = backend.xp.take(X, backend.asarray(places(rows, X.shape[0])), axis=0)
    of_model = first.n_members * X.shape[0] * sum(map(prod, net.shapes)) * dtype.itemsize
    # Where a launch costs nothing, the activations of one stay in the cache.
    step = max(1, AT_ONCE // of_model) if backend.fixed_shapes else 1
    found = []
    for start in range(0, len(estimators), step):
        some = estimators[start : start + step]
        theta = backend.asarray(np.concatenate([one._theta(net) for one in some]), dtype)
        predicted = backend.to_numpy(first._of_each(backend, net, theta, X, dtype))
        found += [averaged(own) for own in np.split(predicted, len(some))]
    return found
