"""Features as networks like them: around zero, of about one unit's spread, and without outliers."""

import warnings

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from .base import Versioned, to_host

__all__ = ["RobustClip"]


class RobustClip(OneToOneFeatureMixin, TransformerMixin, Versioned):
    """Features centred at their medians, scaled by their quartiles, and bent to lie within ±3.

    With ``z = (x - median) / (third quartile - first quartile)``, or over half the range where the
    quartiles are equal, the result is ``z / sqrt(1 + (z / 3)²)``: about ``z`` near zero, and never
    beyond 3 (Holzmüller, Grinsztajn and Steinwart, 2024). A constant feature becomes zero. Missing
    values (NaN) are left out of the statistics, and stay.

    Attributes
    ----------
    center_ : ndarray of shape (n_features,)
        Medians.
    scale_ : ndarray of shape (n_features,)
        What is divided by; one for constant features.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    See Also
    --------
    sklearn.preprocessing.RobustScaler : The same without the bend.

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> from skdeep.preprocessing import RobustClip
    >>> X = [[1.0], [2.0], [3.0], [4.0], [5.0], [1e9]]
    >>> RobustClip().fit_transform(X).ravel().round(2).tolist()
    [-0.95, -0.59, -0.2, 0.2, 0.59, 3.0]
    """

    def fit(self, X, y=None):
        """Find medians and quartiles.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where a value is missing.
        y : None
            Ignored.

        Returns
        -------
        self : RobustClip

        Raises
        ------
        TypeError
            If ``X`` is sparse: to centre it is to make it dense.
        """
        X = self._validated(X, reset=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            low, first, median, third, high = np.nanquantile(X, (0, 0.25, 0.5, 0.75, 1), axis=0)
        scale = np.where(third > first, third - first, (high - low) / 2.0)
        self.center_ = np.nan_to_num(median, nan=0.0).astype(X.dtype, copy=False)
        self.scale_ = np.where(scale > 0, scale, 1.0).astype(X.dtype, copy=False)
        return self

    def transform(self, X):
        """Centre, scale and bend.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where a value is missing.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features)
            Within ±3; NaN where X is.
        """
        check_is_fitted(self)
        z = (self._validated(X, reset=False) - self.center_) / self.scale_
        return z / np.hypot(1.0, z / 3.0, dtype=z.dtype)

    def _validated(self, X, reset: bool):
        X = to_host(X)
        return validate_data(
            self, X, dtype=FLOAT_DTYPES, ensure_all_finite="allow-nan", reset=reset
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
