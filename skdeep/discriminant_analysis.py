"""Linear discriminant analysis."""

from functools import partial
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    _check_partial_fit_first_call,
    _check_sample_weight,
    _fit_context,
)
from .array_api import follows_input, namespace_of, staying, validate_data
from .base import (
    Fitting,
    LinearClassifier,
    dtype_to_predict,
    require_finite,
    take_over,
    to_host,
    unchanged_on_error,
    warn,
)
from .losses import sigmoid, softmax
from .network import build
from .problem import Problem
from .processes import active, refuse

__all__ = ["LinearDiscriminantAnalysis"]

# Rounding that scores may have at the mean, in units of log odds.
ROUNDING = 1e-4


@follows_input(reference="coef_")
class LinearDiscriminantAnalysis(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, LinearClassifier
):
    """Linear discriminant analysis.

    Classes are Gaussians that share one covariance; Bayes' rule between them is linear. The
    directions that separate the class means best, measured by that covariance, also project the
    data to at most ``n_classes - 1`` dimensions.

    It takes the place of :class:`sklearn.discriminant_analysis.LinearDiscriminantAnalysis`, is
    computed from the classes' moments, and adds sample weights, ``partial_fit``, sparse input,
    shrinkage with the solver "svd" and backends.

    Parameters
    ----------
    solver : {'svd', 'lsqr', 'eigen'}, default='svd'
        - 'svd': whitens by the principal axes of the standardised features and discards those
          that are not significant (``tol``). Projects.
        - 'lsqr': solves for the coefficients only. Takes ``covariance_estimator``.
        - 'eigen': solves the generalised eigenvalue problem between the covariances between and
          within the classes. Projects. Takes ``covariance_estimator``.

        Where the covariance is singular, 'lsqr' uses its pseudo-inverse, and 'eigen' that of the
        standardised features, as 'svd' does: their units do not matter to either.
    shrinkage : 'auto' or float, default=None
        Share in [0, 1] of a multiple of the identity in the covariance: ``(1 - shrinkage) * C +
        shrinkage * trace(C) / n_features * I``; 'auto' chooses it for each class by the rule of
        Ledoit and Wolf on standardised features, with 'lsqr' and 'eigen'. Leave it None if
        ``covariance_estimator`` is used. With 'svd' and a positive number ``tol`` discards
        nothing within the classes, for no direction is without variance.
    priors : array-like of shape (n_classes,), default=None
        Prior probabilities of the classes; their weights in the data if None.
    n_components : int, default=None
        Number of components that ``transform`` gives, at most ``min(n_classes - 1, n_features)``,
        which is the default.
    store_covariance : bool, default=False
        Whether 'svd' stores ``covariance_``. The other solvers always do.
    tol : float, default=1e-4
        Singular values of the standardised rows, divided by the root of their number, are
        significant above it; those of the class means above ``tol`` times the largest. For 'svd'.
    covariance_estimator : covariance estimator, default=None
        Object with ``fit`` and then ``covariance_``, like those of :mod:`sklearn.covariance`. For
        'lsqr' and 'eigen'.
    backend : str, default='auto'
        "numpy", "torch", "torch:cuda" and so on; "auto" follows the data: torch tensors are worked
        on by torch where they lie, anything else by NumPy.
    dtype : {'float32', 'float64'}, NumPy's type or dtype, default=None
        Type of the fitted attributes; that of the input if None. Moments are accumulated in
        float64 wherever the device has it, and ``covariance_`` is in that. So are coefficients,
        intercepts, axes and the scores, where features are so far from zero next to their spread
        that float32 would round the scores to fewer than four decimals.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights; with two classes ``Σ⁻¹(μ₁ - μ₀)``.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance within the classes, ``sum_k priors_[k] * C_k``, shrunk. With 'svd' only if
        ``store_covariance``.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance between the classes along each component. Not with 'lsqr'.
    means_ : ndarray of shape (n_classes, n_features)
        Zero for a class that ``partial_fit`` has not seen yet.
    priors_ : ndarray of shape (n_classes,)
    scalings_ : ndarray of shape (n_features, n_axes)
        Axes to project on, most separating first; columns have arbitrary signs. Not with 'lsqr'.
    xbar_ : ndarray of shape (n_features,)
        Mean of the class means, weighted by the priors. Only with 'svd'.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        If the features of X have names that are all strings.
    backend_ : str
        Backend that computed, with its device.

    Notes
    -----
    Fitted models keep their moments, a matrix of shape (n_features, n_features) and, with given
    ``priors``, one for each class under 'lsqr' and 'eigen', so that ``partial_fit`` can go on. Only
    'svd' on fewer rows than features makes none, and cannot go on.

    References
    ----------
    .. [1] R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of
       Eugenics 7 (1936), 179-188.
    .. [2] T. Hastie, R. Tibshirani, J. Friedman, "The Elements of Statistical Learning", 2nd
       edition (2009), section 4.3.
    .. [3] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
       matrices", Journal of Multivariate Analysis 88 (2004), 365-411.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
    >>> X = np.array([[-1, -1], [-2, -1], [-3, -2], [1, 1], [2, 1], [3, 2]])
    >>> y = np.array([1, 1, 1, 2, 2, 2])
    >>> lda = LinearDiscriminantAnalysis().fit(X, y)
    >>> print(lda.predict([[-0.8, -1]]))
    [1]
    """

    _parameter_constraints: dict = {
        **LinearClassifier._parameter_constraints,
        "solver": [StrOptions({"svd", "lsqr", "eigen"})],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both"), None],
        "priors": ["array-like", None],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "store_covariance": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "covariance_estimator": [HasMethods("fit"), None],
    }

    def __init__(
        self,
        solver="svd",
        shrinkage=None,
        priors=None,
        n_components=None,
        store_covariance=False,
        tol=1e-4,
        covariance_estimator=None,
        *,
        backend="auto",
        dtype=None,
    ):
        self.solver = solver
        self.shrinkage = shrinkage
        self.priors = priors
        self.n_components = n_components
        self.store_covariance = store_covariance
        self.tol = tol
        self.covariance_estimator = covariance_estimator
        self.backend = backend
        self.dtype = dtype

    # The covariance estimator is not known to be valid itself.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows: a whole number counts as that many equal rows, zero as none.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X has NaN or infinite values, y has one class only, there are no more rows than
            classes, no feature varies within the classes (not with 'lsqr', which goes by the
            priors then), or parameters do not fit the data or each other.
        NotImplementedError
            If ``shrinkage='auto'`` is asked of 'svd'.
        """
        return self._complete(self._fitting(X, y, sample_weight))

    def _kind(self):
        return type(self), self._dtype_name, self.backend

    def _fitting(self, X, y, sample_weight=None, leader=None) -> Fitting:
        """A fit up to its problem, on its own data or, shared, on those of a leader's."""
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            if leader is None:
                X, codes, weights = self._training_data(staying(backend, X), y, sample_weight)
            else:
                X, codes, weights = self._data_of(*leader)
            for name in ("covariance_", "explained_variance_ratio_", "scalings_", "xbar_"):
                vars(self).pop(name, None)  # an earlier fit by another solver may have left it
            self._take((yield backend, self.problem(X, codes, weights)))

    def _training_data(self, X, y, sample_weight):
        """Validated rows, class indices and weights."""
        X, y, weights = self._validate(X, y, sample_weight, reset=True, at_least=2)
        processes = active()
        self.classes_, codes = processes.encode(y)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(
                "y has one class only: the number of classes must be at least 2 to "
                "discriminate between them."
            )
        n_rows = processes.total(len(y))
        total = n_rows if weights is None else processes.total(weights.sum())
        if n_classes in (n_rows, total):
            raise ValueError("The number of samples must be more than the number of classes.")
        return X, codes, weights

    def _data_of(self, other, problem):
        """The same from another estimator that was given the same data, and its problem."""
        take_over(self, other, ("classes_", "n_features_in_", "feature_names_in_"))
        return problem.X, problem.y[:, 0], problem.weights

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Fit on the rows seen before and these: exactly what ``fit`` gives on all of them.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), default=None
            All classes there will be; needed in the first call. A class not seen yet has prior
            zero, unless ``priors`` are given, and coefficients zero.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            As ``fit``, and if y has a class that ``classes`` lacks.
        NotImplementedError
            If the covariance needs all rows at once: with ``shrinkage='auto'`` or
            ``covariance_estimator``.
        """
        if self.shrinkage == "auto" or self.covariance_estimator is not None:
            raise NotImplementedError(
                "partial_fit knows earlier rows by their moments only, and shrinkage='auto' and "
                "covariance_estimator need all rows at once: use a number as shrinkage."
            )
        refuse("partial_fit cannot be used", "fit takes the rows of all processes.")
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            first = _check_partial_fit_first_call(self, classes)
            X = staying(backend, X)
            X, y, weights = self._validate(X, y, sample_weight, reset=first, at_least=1)
            if len(self.classes_) < 2:
                raise ValueError("The number of classes must be at least 2; classes has one.")
            codes = np.searchsorted(self.classes_, y)
            codes[codes == len(self.classes_)] = 0
            if np.any(self.classes_[codes] != y):
                unknown = np.setdiff1d(y, self.classes_)
                raise ValueError(f"y has labels {unknown} that are not in classes {self.classes_}.")
            problem = self.problem(X, codes, weights, [None if first else self._state()])
            self._store(self._solve(backend, problem))
        return self

    def _state(self):
        each_class = self.priors is not None and (self.solver != "svd" or self.store_covariance)
        if self._moments is None:
            raise ValueError(
                "This model was fitted by solver='svd' on fewer rows than features, which keeps no "
                "moments to go on from: use partial_fit from the start."
            )
        counts, means, scatter = self._moments
        if each_class and len(scatter) == 1:
            raise ValueError(
                "With priors the scatter of each class is needed, and the earlier rows were fitted "
                "without: set priors before the first call."
            )
        return counts, means, scatter if each_class else scatter.sum(axis=0, keepdims=True)

    def _validate(self, X, y, sample_weight, reset, at_least):
        """X, and on the host y and weights, without the rows of weight zero."""
        X, y = validate_data(
            self,
            X,
            to_host(y),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_min_samples=at_least,
            reset=reset,
        )
        if y.dtype.kind not in "iub":  # whole numbers are classes, and the check takes its time
            check_classification_targets(y)
        if sample_weight is None:
            return X, y, None
        weights = _check_sample_weight(
            to_host(sample_weight), X, dtype=np.float64, ensure_non_negative=True
        )
        if not weights.all():
            kept = np.flatnonzero(weights)
            X, y, weights = X[kept], y[kept], weights[kept]
        return X, y, weights

    def _checked_priors(self, n_classes):
        """Priors of shape (n_classes,), or None for the classes' shares of the data."""
        if self.priors is None:
            return None
        priors = np.asarray(self.priors, dtype=float)
        if priors.shape != (n_classes,):
            raise ValueError(
                f"priors must have shape (n_classes,) = ({n_classes},), not {priors.shape}."
            )
        if not np.all(priors >= 0):
            raise ValueError("priors must be non-negative")
        if abs(priors.sum() - 1.0) > 1e-5:
            warn("The priors do not sum to 1. Renormalizing", UserWarning)
            priors = priors / priors.sum()
        return priors

    def problem(self, X, codes, weights=None, states=None) -> Problem:
        """What there is to solve, for validated rows and class indices."""
        n_classes, p = len(self.classes_), X.shape[1]
        priors = self._checked_priors(n_classes)
        if self._max_components_for(p) < (self.n_components or 0):
            raise ValueError("n_components cannot be larger than min(n_features, n_classes - 1).")
        if self.solver == "svd" and self.covariance_estimator is not None:
            raise ValueError(
                "covariance estimator is not supported with svd solver. Try another solver"
            )
        if self.solver == "svd" and self.shrinkage == "auto":
            raise NotImplementedError(
                "shrinkage='auto' is not supported with 'svd' solver: use a number, or 'lsqr' or "
                "'eigen'."
            )
        if self.covariance_estimator is not None and self.shrinkage not in (None, 0):
            raise ValueError(
                "covariance_estimator and shrinkage parameters are not None. Only one of the two "
                "can be set."
            )
        fixed = isinstance(self.shrinkage, Real)
        hyper = {"shrinkage": [[float(self.shrinkage) if fixed else 0.0]], "tol": [[self.tol]]}
        if priors is not None:
            hyper["priors"] = [priors]
        k = 1 if n_classes == 2 else n_classes
        net = build((p, k), "binary_log_loss" if k == 1 else "log_loss")
        return Problem(
            solver="discriminant",
            X=X,
            y=codes.astype(np.int64, copy=False)[:, None],
            dtype=self._compute_dtype(X),
            theta=np.zeros((1, net.n_parameters)),
            net=net,
            hyper={name: np.asarray(value, dtype=float) for name, value in hyper.items()},
            options={
                "rule": self.solver,
                "n_classes": n_classes,
                "covariance": "auto" if self.shrinkage == "auto" else self.covariance_estimator,
                "store_covariance": self.store_covariance or self.solver != "svd",
                "project": True,
                "n_jobs": None,
            },
            weights=weights,
            states=states,
        )

    def _max_components_for(self, n_features):
        return min(len(self.classes_) - 1, n_features)

    def _take(self, result):
        """Take a fit's result in, unless it says that there is nothing to discriminate by."""
        if result.extra.get("rank", [1])[0] == 0:
            tol = " by more than tol" if self.solver == "svd" else ""
            raise ValueError(
                f"No feature of X varies within the classes{tol}: there is no covariance to "
                "discriminate by. Use solver='lsqr', which then predicts by the priors."
            )
        self._store(result)

    def _store(self, result):
        """Turn the result of a stack of one into fitted attributes."""
        theta, p = result.theta[0], self.n_features_in_
        found = {name: values[0] for name, values in result.extra.items()}
        k = len(theta) // (p + 1)
        self.means_, self.priors_ = found["means"], found["priors"]
        self._moments = None if result.states is None else tuple(result.states[0])
        self._max_components = self.n_components or self._max_components_for(p)
        self._n_features_out = self._max_components

        coef, intercept = theta[: p * k].reshape(p, k).T, theta[p * k :]
        require_finite(coef, self.means_)  # intercepts are infinite where a prior is zero
        typed = partial(np.array, dtype=self._type_for(coef), order="C")
        self.coef_, self.intercept_ = typed(coef), typed(intercept)
        if "covariance" in found:
            self.covariance_ = found["covariance"]
        if "xbar" in found:
            self.xbar_ = typed(found["xbar"])
        if "scalings" in found:
            self.scalings_ = typed(found["scalings"][:, : found["n_scalings"]])
            ratio = found["explained_variance_ratio"][: min(found["rank"], self._max_components)]
            self.explained_variance_ratio_ = typed(ratio)

    def _type_for(self, coef):
        """The model's type, or the solver's where scores in the model's would be too rough.

        Far from zero they are small differences of large products.
        """
        dtype, size = self.means_.dtype, np.abs(coef)
        terms = size @ np.abs(self.priors_ @ self.means_)
        limits = np.finfo(dtype)
        fits = terms.max() * limits.eps <= ROUNDING and size.max() <= limits.max
        return dtype if fits else coef.dtype

    def transform(self, X):
        """Project on the directions that separate the classes best.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components)
            With 'svd' at most as many columns as the class means have significant directions.

        Raises
        ------
        NotImplementedError
            With 'lsqr', which finds no directions.
        """
        if self.solver == "lsqr":
            raise NotImplementedError(
                "transform not implemented for 'lsqr' solver (use 'svd' or 'eigen')."
            )
        check_is_fitted(self)
        backend = self._get_backend_to_predict(X)
        X = validate_data(
            self,
            staying(backend, X),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=False,
        )
        dtype, rows = dtype_to_predict(backend, X, self.scalings_), X
        axes = self.scalings_[:, : self._max_components]
        if self.solver == "svd" and not sp.issparse(X):
            # Before the product: far from the origin, projections of X and of the mean cancel.
            mean = backend.asarray(self.xbar_, dtype) if backend.holds(X) else self.xbar_
            rows = X - mean
        projected = backend.asarray(rows, dtype) @ backend.asarray(axes, dtype)
        projected = self._given(backend, X, projected)
        if self.solver == "svd" and sp.issparse(X):
            projected = projected - self.xbar_ @ axes
        return projected

    def predict_proba(self, X):
        """Posterior probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            With two classes the sigmoid of the score.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            positive = sigmoid(namespace_of(scores), scores)
            return namespace_of(scores).stack([1 - positive, positive], axis=1)
        return softmax(namespace_of(scores), scores)

    def predict_log_proba(self, X):
        """Logarithms of the posterior probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities that underflow count as the smallest normal number, as scikit-learn's.
        """
        probabilities = self.predict_proba(X)
        xp = namespace_of(probabilities)
        probabilities[probabilities == 0.0] += xp.finfo(probabilities.dtype).smallest_normal
        return xp.log(probabilities)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
