"""Rows that a network does not train on, but is scored on after each epoch."""

import copy
import warnings

import numpy as np
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from ..base import canonical, to_host, warn
from ..problem import Validation, cancel
from ..processes import active, refuse
from ..stochastic import is_stochastic

# Ranges and shares are known from so many values on. Of large data so many entries are looked at.
LEAST_VALUES, ENTRIES = 30, 2**18
# X_val is far from X if of the first one's values more than a share lie beyond the other's ranges,
# by more than a part of their widths. Of rows from one distribution a few in a hundred do.
FAR = (("X_val", "X", 0.25, 0.25), ("X", "X_val", 2.0, 0.5))


def warn_of_another_scale(X, X_val) -> None:
    """Warn if X_val cannot have been scaled as X was: the trap of a Pipeline's fit parameters."""
    if min(X.shape[0], X_val.shape[0]) < LEAST_VALUES:
        return
    some = {"X": _some(X), "X_val": _some(X_val)}
    for one, other, part, most in FAR:
        share = beyond(some[one], some[other], part)
        if share > most:
            warn(
                f"X_val seems to be on another scale than X: of the nonzero values of {one} "
                f"{share:.0%} lie beyond the ranges of {other} by more than {part:g} times their "
                "widths. A Pipeline leaves X_val as it is unless transform_input=['X_val'] is "
                "passed to it."
            )
            return


def _some(X):
    """Evenly spread rows, as coordinates of their nonzero values."""
    n, p = X.shape
    of_row = max(1, X.nnz // n if sparse.issparse(X) else p)
    return sparse.coo_array(X[:: max(1, n // max(LEAST_VALUES, ENTRIES // of_row))])


@np.errstate(over="ignore")  # of the widths of ranges
def beyond(rows, others, part: float) -> float:
    """Share of the nonzero values of rows that lie beyond the ranges of other rows.

    Whatever the distribution of rows and others, if it is the same, few do. A feature counts if the
    others have nonzero values enough in it, and not all the same: no one-hot column does that they
    lack.

    Parameters
    ----------
    rows, others : coo_array
    part : float
        Of a range's width, by which a value has to be off.
    """
    low, high = (end(axis=0).toarray().ravel() for end in (others.min, others.max))
    width = high - low
    known = np.bincount(others.col, minlength=others.shape[1]) >= LEAST_VALUES
    known &= width > 1e-9 * (np.abs(low) + np.abs(high))
    values, j = rows.data[known[rows.col]], rows.col[known[rows.col]]
    off = (values < low[j] - part * width[j]) | (values > high[j] + part * width[j])
    return float(off.mean()) if off.size >= LEAST_VALUES else 0.0


def knowing(estimator, predicted):
    """The estimator for a scorer to ask, which knows its predictions (n, k) beforehand."""
    stand_in = copy.copy(estimator)
    stand_in._predict_raw = lambda X: predicted
    return stand_in


class ScoredOnHeldOutRows:
    """Part of the networks: rows to validate on, given to ``fit`` or split off."""

    def _hold_out(self, X, y, sample_weight, incremental, X_val, y_val, rng):
        """Of each member the training rows and the validation on others.

        None stands for all rows, and for no validation.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together: pass both or neither.")
        if X_val is not None:
            validation = self._given_validation(X_val, y_val)
            warn_of_another_scale(X, validation.X)
            return None, [validation] * self.n_members
        if not (self.early_stopping and is_stochastic(self.solver)):
            return None, None
        if incremental:
            raise ValueError(f"partial_fit does not support early_stopping={self.early_stopping!r}")
        if self.early_stopping == "members":
            refuse("early_stopping='members' cannot be used", "early_stopping=True can.")
        splits = self._splits(y, rng)
        each = [self._validation(X, y, sample_weight, held_out) for _, held_out in splits]
        turns = [m % len(each) for m in range(self.n_members)]
        return [splits[turn][0] for turn in turns], [each[turn] for turn in turns]

    def _splits(self, y, rng) -> list:
        """Rows to train on and others to validate on: one pair for all members, or folds.

        Where several processes fit together the pair is of the rows of all.
        """
        rows = np.arange(active().total(len(y)))
        classes = active().joined(y) if is_classifier(self) and y.shape[1] == 1 else None
        if self.early_stopping != "members" or self.n_members == 1:
            pair = train_test_split(
                rows, random_state=rng, test_size=self.validation_fraction, stratify=classes
            )
            return [pair]
        if is_classifier(self) and self._single_label:
            classes = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
        return folds(classes, rows, self.n_members, rng)

    def _validation(self, X, y, sample_weight, held_out) -> Validation:
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        held_out = active().shares(len(y)).own(held_out)
        weights = None if sample_weight is None else sample_weight[held_out]
        if weights is not None and cancel(weights):
            raise ValueError(
                "The sample_weight of the validation set sums to zero: use another random_state."
            )
        return self._scored(X, held_out, y[held_out], weights)

    def _scored(self, X, rows, y, weights) -> Validation:
        """The validation on rows of X (None for all), with targets and weights of their own."""
        y = to_host(y)
        own = {"X": X, "rows": rows, "y": y, "weights": weights}
        if self.scoring is None and self.early_stopping == "members":
            return Validation(**own)
        score = self._scorer(X, rows, self._truth(y), weights)
        return Validation(**own, score=score, metric=self._metric if self.scoring is None else None)

    # The same as the default metric of a stack, from encoded targets; None where there is none.
    _metric = None

    def _given_validation(self, X_val, y_val) -> Validation:
        checker = copy.copy(self)
        # A warm start needs all classes in the rows that train; these rows may lack some.
        checker.warm_start = False
        X_val, y = checker._validate_input(X_val, y_val, incremental=True, reset=False)
        return self._scored(canonical(X_val), None, y.reshape(len(y), -1), None)

    def _truth(self, y):
        """Targets as the scorer takes them, from encoded ones."""
        return y

    def _scorer(self, X, rows, truth, sample_weight):
        """Function that scores predictions (n_samples, n_outputs) for rows of X (None for all).

        Predictions are those of all processes.
        """
        truth, sample_weight = active().joined(truth), active().joined(sample_weight)
        if self.scoring is None:
            metric = self._default_metric
            return lambda predicted: metric(
                truth, self._decode(predicted), sample_weight=sample_weight
            )
        if not isinstance(self.scoring, str):
            refuse("a scorer of your own cannot be used", "name one of scikit-learn's in scoring.")
        scorer = check_scoring(self, self.scoring)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}

        def score(predicted):
            return scorer(
                knowing(self, predicted), X if rows is None else X[rows], truth, **weights
            )

        return score

    def _out_of_fold(self, backend, problem) -> dict:
        """Predictions for the rows that members have held out, by those, and their score."""
        X, n_seen = problem.X, np.zeros(len(problem.y))
        predicted = np.zeros(problem.y.shape)
        for m, held_out in enumerate(problem.validation):
            predicted[held_out.rows] += self._predicted(backend, X[held_out.rows], slice(m, m + 1))
            n_seen[held_out.rows] += 1
        known = np.flatnonzero(n_seen)
        with np.errstate(invalid="ignore"):
            predicted /= n_seen[:, None]
        weights = None if problem.weights is None else problem.weights[known]
        score = self._scorer(X, known, self._truth(problem.y[known]), weights)
        stand_in = knowing(self, predicted[known])
        names = ("predict_proba", "decision_function", "predict")
        shown = getattr(stand_in, next(name for name in names if hasattr(self, name)))(X[known])
        whole = np.full((len(predicted), *shown.shape[1:]), np.nan, shown.dtype)
        whole[known] = shown
        return {"oof_prediction_": whole, "oof_score_": float(score(predicted[known]))}


def folds(classes, rows, n: int, rng) -> list:
    """n folds of the rows, or as many as leave two rows in each; ``classes`` spread over them."""
    n = min(n, len(rows) // 2)
    if n < 2:
        raise ValueError(f"early_stopping='members' needs four rows, got n_samples={len(rows)}.")
    kind = KFold
    if classes is not None and np.unique(classes, return_counts=True)[1].max() >= n:
        kind = StratifiedKFold
    with warnings.catch_warnings():
        # A class of few rows is in as many folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(kind(n, shuffle=True, random_state=rng).split(rows, classes))
