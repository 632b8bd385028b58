"""The perceptron, binary and one-versus-rest."""

from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from .._sklearn import (
    Interval,
    LinearClassifierMixin,
    SparseCoefMixin,
    StrOptions,
    _check_partial_fit_first_call,
    _check_sample_weight,
    _fit_context,
    attach_unique,
    cached_unique,
)
from ..array_api import follows_input, numpy_dtype, staying, validate_data
from ..base import Fitting, LinearClassifier, Model, to_host, unchanged_on_error, warn
from ..monitoring import watched
from ..problem import Problem, Result, Validation
from ..processes import refuse

MAX_INT = np.iinfo(np.int32).max
ONE_AFTER_ANOTHER = (
    "Perceptron cannot be used",
    "its rule takes one row after another. LogisticRegression can be.",
)


@follows_input(reference="coef_")
class Perceptron(CallbackSupportMixin, SparseCoefMixin, LinearClassifier):
    """Perceptron classifier.

    Rosenblatt's rule: rows come one by one, and a row x of label y = -1 or 1 on the wrong side of
    the hyperplane moves it, ``w += eta0 y x`` and ``b += eta0 y``. On separable data it makes at
    most ``(R / gamma)**2`` mistakes, R the largest norm of a row and gamma the margin. More than
    two classes are learnt one versus the rest.

    The same `random_state` gives scikit-learn's coefficients.

    Parameters
    ----------
    penalty : {'l2', 'l1', 'elasticnet'}, default=None
        The penalty, of which each row takes its share from the weights.

    alpha : float, default=0.0001
        Factor of the penalty, if there is one.

    l1_ratio : float, default=0.15
        Share of the L1 norm in the elastic net, between 0 and 1. The rest is half the squared L2
        norm.

    fit_intercept : bool, default=True
        Whether to learn the intercept. Without, the data should be centred.

    max_iter : int, default=1000
        Most passes over the training data (epochs) of `fit`; :meth:`partial_fit` makes one.

    tol : float, default=1e-3
        An epoch is an improvement if the mean objective falls short of the best so far by `tol`
        or, with `early_stopping`, if the validation score exceeds it by as much. None: never stop
        before `max_iter`.

    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch.

    verbose : int, default=0
        Print the loss after each epoch.

    eta0 : float, default=1
        Factor of the updates.

    n_jobs : int, default=None
        Threads for the classes of a multi-class problem, on NumPy. None is 1 unless in a
        :obj:`joblib.parallel_backend` context, -1 all processors.

    random_state : int, RandomState instance or None, default=0
        Seed of the shuffles and of the validation split.

    early_stopping : bool, default=False
        Whether to hold a stratified part of the training data out, and to stop when its score no
        longer improves.

    validation_fraction : float, default=0.1
        Part of the training data to hold out for `early_stopping`, between 0 and 1.

    n_iter_no_change : int, default=5
        Epochs without improvement to wait before stopping.

    class_weight : dict, {class_label: weight} or "balanced", default=None
        Weights of the classes, 1 if not given. "balanced" is
        ``n_samples / (n_classes * np.bincount(y))``. They multiply `sample_weight`.

    warm_start : bool, default=False
        Whether `fit` starts from the previous solution.

    update : {'sequential', 'batch'}, default='sequential'
        'sequential' is Rosenblatt's rule. 'batch' makes an epoch one step over all rows and
        classes, ``W -= eta0 Xᵀ (Y - T)`` with ``Y = step(X W + b)`` and targets T of 0 and 1; it
        has no penalty, no shuffles and no average.

    average : bool, default=False
        Whether the hyperplane is the mean of those after each row visited (Freund & Schapire,
        1999), and not the last. It is the same as in scikit-learn's
        ``SGDClassifier(loss="perceptron", learning_rate="constant", eta0=1, average=True)``
        after `fit`. Not with an L1 penalty.

    backend : str, default="auto"
        "numpy", "torch", "torch:cuda" …; "auto" follows the data.

    dtype : {"float32", "float64"}, NumPy's type or dtype, default=None
        Type to compute in; None is that of the data.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights of the features; one row if there are two classes. :meth:`sparsify` makes it
        sparse.

    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during :term:`fit`, if they are all strings.

    n_iter_ : int
        Epochs until the stopping criterion; of several classes, the most.

    n_updates_ : int or ndarray of shape (n_classes,)
        Mistakes made, each of which moved the hyperplane; this and the attributes below are
        arrays if there are more than two classes, with an entry for each. :meth:`partial_fit`
        adds to it, `fit` starts from zero. NaN where the loop does not say: small fits on NumPy,
        and all without numba, run in scikit-learn's, which is made to count on up to half a
        million values of X without a penalty. In float32 that count is exact up to some thousands
        of mistakes, then to about six digits.

    converged_ : bool or ndarray of shape (n_classes,)
        Whether the last hyperplane makes no mistake on the training rows (of the last call, for
        :meth:`partial_fit`): another epoch would not change it.

    margin_ : float or ndarray of shape (n_classes,)
        Smallest distance of these rows to the best separating hyperplane found, which is the last
        one or, with `average`, the better of the last and the mean: a lower bound of the best
        margin there is. The intercept counts as the weight of a constant feature 1:
        ``min_i y_i (w·x_i + b) / ‖(w, b)‖``. For sparse rows, on which intercepts learn at a
        hundredth of the rate, that feature is 0.1. NaN if the rows are not separated.

    radius_ : float or ndarray of shape (n_classes,)
        Largest norm of these rows, the constant feature included.

    mistake_bound_ : float or ndarray of shape (n_classes,)
        ``(radius_ / margin_) ** 2``, infinite if the rows are not separated. The sequential rule
        from a zero start, without penalty and with equal weights, makes no more mistakes
        (Novikoff, 1962).

    t_ : float
        Rows seen in training and 1: ``n_iter_ * n_samples + 1`` after `fit`.

    backend_ : str
        What the model was computed on.

    See Also
    --------
    LogisticRegression : A linear classifier with probabilities.

    References
    ----------
    Rosenblatt (1958), The perceptron: a probabilistic model for information storage and
    organization in the brain. Psychological Review 65.
    Novikoff (1962), On convergence proofs on perceptrons. Symposium on the Mathematical Theory of
    Automata 12.
    Freund & Schapire (1999), Large margin classification using the perceptron algorithm. Machine
    Learning 37.
    Tsuruoka, Tsujii & Ananiadou (2009), Stochastic gradient descent training for L1-regularized
    log-linear models with cumulative penalty. ACL.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.linear_model import Perceptron
    >>> X, y = load_digits(return_X_y=True)
    >>> model = Perceptron(tol=1e-3, random_state=0).fit(X, y)
    >>> round(model.score(X, y), 3)
    0.939
    """

    _parameter_constraints: dict = {
        **Model._parameter_constraints,
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean"],
        "verbose": ["verbose"],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "warm_start": ["boolean"],
        "update": [StrOptions({"sequential", "batch"})],
        "average": ["boolean"],
    }

    # scikit-learn's attributes that are no parameters, which converters read.
    loss = "perceptron"
    learning_rate = "constant"
    epsilon = 0.1
    power_t = 0.5

    def __init__(
        self,
        *,
        penalty=None,
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        eta0=1.0,
        n_jobs=None,
        random_state=0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight=None,
        warm_start=False,
        update="sequential",
        average=False,
        backend="auto",
        dtype=None,
    ):
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.update = update
        self.average = average
        self.backend = backend
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Class labels.
        coef_init : array-like of shape (n_classes, n_features), default=None
            Weights to start from; one row if there are two classes.
        intercept_init : array-like of shape (n_classes,), default=None
            Intercepts to start from.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 1 if not given.

        Returns
        -------
        self : Perceptron

        Raises
        ------
        ValueError
            For invalid data, a single class, a start of another shape, or weights that overflow.
        """
        refuse(*ONE_AFTER_ANOTHER)
        return self._complete(self._fitting(X, y, coef_init, intercept_init, sample_weight))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Make one pass over the given rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows of the training data.
        y : array-like of shape (n_samples,)
            Their labels, not necessarily of all classes.
        classes : array-like of shape (n_classes,), default=None
            All classes; the first call needs them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 1 if not given.

        Returns
        -------
        self : Perceptron

        Raises
        ------
        ValueError
            As `fit`; if the first call is without `classes`, or a later one with others; with
            `early_stopping` or ``class_weight="balanced"``.
        """
        refuse(*ONE_AFTER_ANOTHER)
        return self._complete(self._fitting_partially(X, y, classes, sample_weight))

    # From data to a problem, and from its result to a fitted estimator

    def _fitting(self, X, y, coef_init=None, intercept_init=None, sample_weight=None) -> Fitting:
        # How many epochs there will be depends on the classes.
        context = self._init_callback_context(max_subtasks=None)
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            X, y, seen = self._validate(staying(backend, X), y, reset=True)
            self.classes_ = seen
            if self.warm_start and hasattr(self, "coef_"):
                coef_init = self.coef_ if coef_init is None else coef_init
                intercept_init = self.intercept_ if intercept_init is None else intercept_init
            self.t_ = 1.0
            start = self._start(X, coef_init, intercept_init)
            problem = self._problem(X, y, seen, sample_weight, start, self.max_iter)
            with self._watched(context, problem, y, sample_weight) as problem:
                self._accept(problem, (yield backend, problem), n_updates=0)
            if self.tol is not None and self.n_iter_ == self.max_iter:
                warn(
                    "Maximum number of iteration reached before convergence. Consider increasing "
                    "max_iter to improve the fit.",
                    ConvergenceWarning,
                )

    def _fitting_partially(self, X, y, classes, sample_weight) -> Fitting:
        context = self._init_callback_context(max_subtasks=None)
        with unchanged_on_error(self):
            first_call = not hasattr(self, "classes_")
            if first_call:
                self._check_can_be_partial()
            backend = self._get_backend(X)
            X, y, seen = self._validate(staying(backend, X), y, reset=first_call)
            _check_partial_fit_first_call(self, classes)
            own = (self.coef_, self.intercept_) if hasattr(self, "coef_") else (None, None)
            self.t_ = getattr(self, "t_", 1.0)
            start, states = self._start(X, *own), None
            if self.average and getattr(self, "_last_and_mean", None) is not None:
                start, means = self._last_and_mean
                states = [(mean, self.t_ - 1.0) for mean in means]
            problem = self._problem(X, y, seen, sample_weight, start, 1, states)
            n_updates = getattr(self, "n_updates_", 0)
            with self._watched(context, problem, y, sample_weight) as problem:
                self._accept(problem, (yield backend, problem), n_updates)

    @contextmanager
    def _watched(self, context, problem, y, sample_weight):
        """The problem under the callbacks, to which an epoch of any class is a task.

        They see the estimator as it then is, of all classes, and end the fit of all.
        """
        rows, stopped = np.array(problem.theta), []

        def attributes(theta):
            return {"coef_": rows[:, :-1].astype(problem.dtype), "intercept_": rows[:, -1].copy()}

        def of_class(m, monitor):
            def note(epoch, theta, loss):
                rows[m] = theta
                if monitor(epoch, theta, loss):
                    stopped.append(m)
                return bool(stopped)

            return note

        with watched(self, context, problem, y, sample_weight, attributes) as problem:
            if problem.monitors is not None:
                monitors = [of_class(m, monitor) for m, monitor in enumerate(problem.monitors)]
                problem = replace(problem, monitors=monitors)
            yield problem

    def _check_can_be_partial(self) -> None:
        if self.early_stopping:
            raise ValueError("early_stopping should be False with partial_fit")
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use "
                "'balanced' weights, use compute_class_weight('balanced', classes=classes, y=y). "
                "In place of y you can use a large enough sample of the full training set target "
                "to properly estimate the class frequency distributions. Pass the resulting "
                "weights as the class_weight parameter."
            )

    def _validate(self, X, y, reset):
        """X, y and the different labels in y, looked for once."""
        X, y = validate_data(
            self,
            X,
            to_host(y),
            accept_sparse="csr",
            dtype=self._dtype_name or [np.float64, np.float32],
            order="C",
            accept_large_sparse=False,
            reset=reset,
        )
        with_labels = attach_unique(y)
        check_classification_targets(with_labels)
        return X, y, cached_unique(with_labels)

    def _n_models(self) -> int:
        """One per class; the second class against the first if there are two."""
        n_classes = len(self.classes_)
        return 1 if n_classes == 2 else n_classes

    def _start(self, X, coef, intercept) -> np.ndarray:
        """``theta`` of shape (M, n_features + 1) to start from."""
        n_models, n_features = self._n_models(), X.shape[1]
        theta = np.zeros((n_models, n_features + 1))
        if coef is not None:
            coef = coef.toarray() if sparse.issparse(coef) else np.asarray(coef)
            coef = coef.astype(numpy_dtype(X), copy=False)
            if n_models == 1:
                coef = coef.reshape(1, -1)
            if coef.shape != (n_models, n_features):
                raise ValueError("Provided coef_init does not match dataset.")
            theta[:, :-1] = coef
        if intercept is not None:
            intercept = np.asarray(intercept)
            if n_models == 1:
                intercept = intercept.reshape(-1)
            if intercept.shape != (n_models,):
                raise ValueError("Provided intercept_init does not match dataset.")
            theta[:, -1] = intercept
        return theta

    def _check_update(self) -> None:
        if self.update == "batch" and (self.penalty is not None or self.average):
            raise ValueError(
                "update='batch' takes neither a penalty nor average=True: choose "
                "update='sequential'."
            )
        if self.average and self.penalty in ("l1", "elasticnet"):
            raise ValueError("average=True takes penalty='l2' or None, for a mean has no zeros.")

    def _problem(self, X, y, seen, sample_weight, theta, max_iter, states=None) -> Problem:
        """The problem of rows with the labels y, of which ``seen`` are the different ones."""
        self._check_update()
        n_classes, n_models, dtype = len(self.classes_), self._n_models(), numpy_dtype(X)
        if n_classes < 2:
            raise ValueError(
                f"The number of classes has to be greater than one; got {n_classes} class"
            )
        class_weight = compute_class_weight(
            self.class_weight,
            classes=self.classes_,
            y=y if self.class_weight == "balanced" else seen,
        )
        sample_weight = _check_sample_weight(
            to_host(sample_weight), X, dtype=dtype, allow_all_zero_weights=self.early_stopping
        )
        codes = np.searchsorted(self.classes_, y)
        positive = codes == (1 if n_classes == 2 else np.arange(n_classes)[:, None])
        positive = np.atleast_2d(positive)
        labels = np.where(positive, 1.0, -1.0).astype(dtype)[:, :, None]
        weights = sample_weight
        if self.class_weight is not None:
            # Against the rest, a class is weighted and the rest is not.
            of_class = class_weight[1:] if n_classes == 2 else class_weight
            of_others = class_weight[0] if n_classes == 2 else 1.0
            factors = np.where(positive, of_class[:, None], of_others).astype(dtype)
            weights = factors * sample_weight

        penalty = 0.0 if self.penalty is None else self.alpha
        share = {"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty, 0.0)
        hyper = {
            "eta0": self.eta0,
            "l2": (1.0 - share) * penalty,
            "l1": share * penalty,
            "max_iter": max_iter,
            "tol": -np.inf if self.tol is None else self.tol,
            "n_iter_no_change": self.n_iter_no_change,
        }
        rngs, held_out = self._draw(codes, sample_weight)
        validation = None
        if held_out is not None:
            validation = [
                Validation(
                    X=X, rows=held_out, score=_Accuracy(up[held_out], sample_weight[held_out])
                )
                for up in positive
            ]
        return Problem(
            solver="perceptron",
            X=X,
            y=labels[0] if n_models == 1 else labels,
            dtype=str(dtype),
            theta=theta,
            hyper={name: np.full((n_models, 1), float(value)) for name, value in hyper.items()},
            options={
                "fit_intercept": bool(self.fit_intercept),
                "shuffle": bool(self.shuffle) and self.update == "sequential",
                "verbose": int(self.verbose),
                "n_jobs": self.n_jobs,
                "batch": self.update == "batch",
                "average": bool(self.average),
            },
            weights=weights,
            rngs=rngs,
            validation=validation,
            states=states,
        )

    def _draw(self, codes, sample_weight):
        """Each model's generator and the rows held out, drawn in scikit-learn's order.

        scikit-learn draws a number before each seed, for a use that the perceptron does not have.
        """
        n_models = self._n_models()
        random_state = check_random_state(self.random_state)
        if n_models == 1:
            random_state.randint(1, MAX_INT)
            return [random_state], self._split(codes, sample_weight)
        held_out = self._split(codes, sample_weight)
        rngs = [np.random.RandomState(s) for s in random_state.randint(MAX_INT, size=n_models)]
        for rng in rngs:
            rng.randint(1, MAX_INT)
        return rngs, held_out

    def _split(self, codes, sample_weight):
        """Rows to hold out for early stopping, or None."""
        if not self.early_stopping:
            return None
        split = StratifiedShuffleSplit(
            test_size=self.validation_fraction, random_state=self.random_state
        )
        rows, held_out = next(split.split(np.zeros((len(codes), 1)), codes))
        if not sample_weight[held_out].any():
            raise ValueError(
                "The sample weights for validation set are all zero, consider using a different "
                "random state."
            )
        if len(rows) == 0 or len(held_out) == 0:
            raise ValueError(
                f"Splitting {len(codes)} samples into a train set and a validation set with "
                f"validation_fraction={self.validation_fraction!r} led to an empty set "
                f"({len(rows)} and {len(held_out)} samples). Please either change "
                "validation_fraction, increase number of samples, or disable early_stopping."
            )
        return held_out

    def _accept(self, problem: Problem, result: Result, n_updates) -> None:
        finite = np.isfinite(result.theta).all(axis=1)
        if not finite.all():
            raise ValueError(
                "Floating-point under-/overflow occurred at epoch "
                f"#{result.n_iter[~finite].min()}. Scaling input data with StandardScaler or "
                "MinMaxScaler might help."
            )
        theta = result.extra["average"] if self.average else result.theta
        self._last_and_mean = (result.theta, theta) if self.average else None
        self.coef_ = theta[:, :-1].astype(problem.dtype)
        # As in scikit-learn, a single intercept keeps the type in which it is summed.
        intercept = theta[:, -1]
        self.intercept_ = intercept.astype(problem.dtype if len(intercept) > 1 else float)
        self.n_iter_ = int(result.n_iter.max())
        self.t_ += self.n_iter_ * problem.X.shape[0]
        self._record(result, n_updates)

    def _record(self, result: Result, n_updates) -> None:
        """The attributes about convergence."""
        extra = result.extra
        mistakes, margin, radius = extra["mistakes"], extra["margin"], extra["radius"]
        with np.errstate(over="ignore"):
            bound = (radius / margin) ** 2
        if (mistakes < 0).any():
            mistakes = np.where(mistakes < 0, np.nan, mistakes)
        values = {
            "n_updates_": n_updates + mistakes,
            "converged_": extra["separated"],
            "margin_": margin,
            "radius_": radius,
            "mistake_bound_": np.where(np.isnan(margin), np.inf, bound),
        }
        for name, value in values.items():
            setattr(self, name, value if len(value) > 1 else value[0])

    # Prediction

    def decision_function(self, X):
        if sparse.issparse(getattr(self, "coef_", None)):
            check_is_fitted(self)
            return LinearClassifierMixin.decision_function(self, to_host(X))
        return super().decision_function(X)

    decision_function.__doc__ = LinearClassifier.decision_function.__doc__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class _Accuracy:
    """Weighted share of the held-out rows that lie on their side."""

    def __init__(self, positive, weights):
        self.positive, self.weights = positive, weights

    def __call__(self, scores: np.ndarray) -> float:
        return float(np.average((scores[:, 0] > 0) == self.positive, weights=self.weights))
