"""How close our fitted model is to scikit-learn's, where the answer is determined.

Each function takes both models, rows, labels, weights and the tolerance, and says what is wrong, or
returns None if nothing is.
"""

import numpy as np
from scipy.special import logsumexp
from sklearn.utils.class_weight import compute_sample_weight


def gap(ours, theirs) -> float:
    """Largest difference, relative to the largest entry."""
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if ours.shape != theirs.shape:
        return np.inf
    differ = ours != theirs  # equal infinities do not
    scale = max(np.abs(theirs[np.isfinite(theirs)]).max(initial=0), 1e-3)
    return float(np.abs(ours[differ] - theirs[differ]).max(initial=0) / scale)


def coefficients(ours, theirs, X, y, weights, tolerance):
    for name in ("coef_", "intercept_"):
        if gap(getattr(ours, name), getattr(theirs, name)) > tolerance:
            return f"{name} differs by {gap(getattr(ours, name), getattr(theirs, name)):.1g}"
    return None


def layers(ours, theirs, X, y, weights, tolerance):
    if ours.solver not in ("sgd", "adam"):
        return None
    if ours.loss_curve_[0] > 1.001 * theirs.loss_curve_[0]:
        return None  # scikit-learn's log loss of a row has a bound, and it may stop earlier for it
    pairs = zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True)
    worst = max(gap(a, b) for a, b in pairs)
    return f"weights differ by {worst:.1g}" if worst > tolerance else None


def scores(ours, theirs, X, y, weights, tolerance):
    worst = gap(ours.decision_function(X), theirs.decision_function(X))
    return f"decision_function differs by {worst:.1g}" if worst > tolerance else None


def optimum(ours, theirs, X, y, weights, tolerance):
    """The objective is no larger than scikit-learn's, but for what ``tol`` leaves open.

    For convex F, ``F(a) - F(b) <= grad F(a)·(a - b)``, and the entries of the gradient are at most
    ``tol`` times the sum of the weights.
    """
    if not getattr(ours, "refit", True):
        return None  # coefficients are a mean over folds
    weights = np.ones(len(X)) if weights is None else np.asarray(weights, dtype=float)
    weights = weights * compute_sample_weight(ours.class_weight, np.asarray(y))
    C, ratio = (
        np.ravel(getattr(ours, f"{name}_", getattr(ours, name, 0)))[0] for name in ("C", "l1_ratio")
    )
    penalty = (
        {"l1": 1.0, "l2": 0.0}.get(ours.penalty, ratio or 0.0),
        np.inf if ours.penalty is None else C,
    )
    best, given = (objective(m, *penalty, X, np.asarray(y), weights) for m in (ours, theirs))
    both = ((getattr(ours, name), getattr(theirs, name)) for name in ("coef_", "intercept_"))
    slope = ours.tol * weights.sum()
    if ours.solver == "liblinear":  # relative to the gradient at zero
        slope *= max(1.0, np.abs(X).max())
    excess = best - given
    if excess > slope * sum(np.abs(a - b).sum() for a, b in both) + tolerance * max(1.0, given):
        return f"the objective is {excess:.2g} above scikit-learn's {given:.4g}"
    return None


def objective(model, ratio, C, X, y, weights) -> float:
    """What logistic regression minimises, at a fitted model."""
    codes = np.searchsorted(model.classes_, y)
    raw = X @ model.coef_.T + model.intercept_
    raw = np.column_stack([np.zeros(len(X)), raw]) if raw.shape[1] == 1 else raw
    loss = weights @ (logsumexp(raw, axis=1) - raw[np.arange(len(X)), codes])
    penalised = model.coef_.ravel()
    if model.solver == "liblinear":
        penalised = np.append(penalised, model.intercept_ / model.intercept_scaling)
    penalty = ratio * np.abs(penalised).sum() + 0.5 * (1.0 - ratio) * penalised @ penalised
    return loss + penalty / C
