"""Covariance estimates that need the rows themselves and not only their moments."""

import numpy as np
import scipy.sparse as sp
from array_api_compat import device
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from ...array_api import to_host
from ...processes import refuse
from .moments import of_class, total_scatter


def ledoit_wolf(reader, labels, moments, priors, rows, weights, total: bool):
    """Covariance within the classes, each shrunk by Ledoit and Wolf's rule, and that of all rows.

    Returns
    -------
    covariance : array of shape (p, p)
        Mean of the classes' covariances, weighted by the priors.
    total : array of shape (p, p) or None
    """
    xp = reader.backend.xp
    counts, means, scatter = moments
    shares, levels = [], []
    for k in range(means.shape[0]):
        # A class without rows has nothing to say, whatever its prior.
        part = of_class(rows, weights, labels, k)
        n = counts[k] if float(counts[k]) > 0.0 else xp.ones_like(counts[k])
        share, level = _standardised(reader, *part, n, means[k, ...], scatter[k, ...])
        shares.append(priors[k] * share / n)
        levels.append(priors[k] * level)
    covariance = xp.tensordot(xp.stack(shares), scatter, axes=1)
    covariance = covariance + identity_like(xp, covariance) * sum(levels)
    if not total:
        return covariance, None
    n = xp.sum(counts)
    mean, whole = (counts / n) @ means, total_scatter(xp, moments)
    share, level = _standardised(reader, rows, weights, n, mean, whole)
    return covariance, share * whole / n + identity_like(xp, whole) * level


def _standardised(reader, rows, weights, n, mean, scatter):
    """Ledoit and Wolf's estimate (2004) on standardised features, in the features' own units.

    Returns
    -------
    share : float
        What it keeps of the empirical covariance.
    level : array of shape (p,)
        What it adds to the diagonal.
    """
    xp, p = reader.backend.xp, mean.shape[0]
    variance = xp.linalg.diagonal(scatter) / n
    eps = xp.finfo(variance.dtype).eps
    varies = variance > n * eps * variance + (n * eps * mean) ** 2
    scale = xp.sqrt(xp.where(varies, variance, xp.ones_like(variance)))

    correlation = scatter / n / scale[:, None] / scale
    squares, trace = xp.sum(correlation * correlation), xp.linalg.trace(correlation)
    fourth = _sum_of_fourth_powers(reader, rows, weights, mean, scale)
    spread = float((squares - trace * trace / p) / p)
    error = min(float((fourth / n - squares) / (p * n)), spread)
    shrinkage = error / spread if spread > 0.0 else 0.0
    return 1.0 - shrinkage, shrinkage * trace / p * scale * scale


def _sum_of_fourth_powers(reader, rows, weights, mean, scale):
    """Weighted sum over the rows of the fourth power of their standardised distance to the mean."""
    xp, factor = reader.backend.xp, 1.0 / scale
    total = xp.zeros_like(mean[0])
    for chosen, w in reader.blocks(rows, weights):
        deviation = (reader.rows(chosen) - mean) * factor
        squared = xp.sum(deviation * deviation, axis=1)
        squared = squared * squared
        total = total + xp.sum(squared if w is None else squared * reader.place(w))
    return reader.backend.sum(total)


def identity_like(xp, matrix):
    """The identity of a square matrix's size, type and device."""
    return xp.eye(matrix.shape[0], dtype=matrix.dtype, device=device(matrix))


def estimated(reader, estimator, labels, priors, rows, weights, total: bool):
    """The same two covariances by a covariance estimator of scikit-learn's kind, on the host."""
    refuse("covariance_estimator cannot be used", "it needs all rows: choose shrinkage instead.")
    X = to_host(reader.X if rows is None else reader.X[rows])
    X = X.toarray() if sp.issparse(X) else X
    of = labels if rows is None else labels[rows]
    fit_kwargs = {}
    if weights is not None:
        if np.all(weights == np.round(weights)):
            repeated = np.repeat(np.arange(len(of)), weights.astype(int))
            X, of = X[repeated], of[repeated]
        elif has_fit_parameter(estimator, "sample_weight"):
            fit_kwargs = {"sample_weight": weights}
        else:
            raise ValueError(
                f"{type(estimator).__name__}, the covariance_estimator, takes no sample_weight: "
                "use integer weights, shrinkage or no weights."
            )

    def estimate(chosen):
        fitted = clone(estimator, safe=False)  # the user's own stays as it is
        fitted.fit(X[chosen], **{name: w[chosen] for name, w in fit_kwargs.items()})
        if not hasattr(fitted, "covariance_"):
            raise ValueError(f"{type(fitted).__name__} does not have a covariance_ attribute")
        return np.atleast_2d(fitted.covariance_)

    covariance = 0.0
    for k in range(priors.shape[0]):
        if np.any(of == k):
            covariance = covariance + float(priors[k]) * estimate(of == k)
    whole = reader.place(estimate(np.ones(len(of), dtype=bool))) if total else None
    return reader.place(covariance), whole
