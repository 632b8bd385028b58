"""Logistic regression, binary and multinomial."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from .._sklearn import (
    Hidden,
    Interval,
    SparseCoefMixin,
    StrOptions,
    _check_partial_fit_first_call,
    _check_sample_weight,
    _fit_context,
)
from ..array_api import follows_input, namespace_of, numpy_dtype, staying, validate_data
from ..base import (
    Fitting,
    LinearClassifier,
    Model,
    canonical,
    logarithms,
    require_finite,
    to_host,
    unchanged_on_error,
    warn,
)
from ..callbacks import open_checkpoint
from ..losses import sigmoid, softmax
from ..monitoring import watched
from ..network import Network
from ..problem import Problem, Result
from ..processes import active, refuse
from ..solvers.minibatch.training import restarted, without_records
from ..stochastic import CONSTRAINTS, OWN_SOLVERS, OfStochasticSolvers, is_stochastic
from .logistic_problem import (
    ALGORITHMS,
    Penalty,
    algorithm_of,
    check_n_classes,
    check_solver,
    make_net,
    make_problem,
    make_stochastic_problem,
)


@follows_input(reference="coef_")
class LogisticRegression(CallbackSupportMixin, SparseCoefMixin, LinearClassifier):
    """Logistic regression classifier.

    Minimises ``sum_i s_i loss(y_i, w·x_i + b) + penalty(w) / C`` with the log loss (Cox, 1958),
    binary or, for three classes and more, multinomial. The penalty is
    ``l1_ratio ‖w‖₁ + (1 - l1_ratio) / 2 ‖w‖₂²``; the intercept is free.

    Parameters
    ----------
    penalty : {'l1', 'l2', 'elasticnet', None}, default='l2'
        .. deprecated:: scikit-learn 1.8
           Use `l1_ratio` and `C`: ``l1_ratio=0`` for 'l2', ``l1_ratio=1`` for 'l1', a number
           between for 'elasticnet', ``C=np.inf`` for None.

    C : float, default=1.0
        Inverse of the regularisation strength, positive. ``np.inf`` is no penalty.

    l1_ratio : float, default=0.0
        Share of the L1 norm in the penalty, between 0 and 1.

    dual : bool, default=False
        Accepted with ``solver='liblinear'`` and an L2 penalty. The two formulations have one
        solution; the primal one is solved.

    tol : float, default=1e-4
        Bound of the largest entry of the gradient of the objective divided by the sum of the
        sample weights (with L1, of the subgradient of least norm), at which iterations end. Under
        'liblinear' it is relative to the gradient at zero, times the share of the rarer class.
        Without L1, and while `max_iter` lasts, they go on until the scores have settled too, to a
        thousandth of `tol` relative to the largest (beyond two million rows times parameters,
        three times `tol`), so that the answer does not depend on how it was found.

    fit_intercept : bool, default=True
        Whether the decision function has a constant term.

    intercept_scaling : float, default=1
        Under 'liblinear' the intercept is penalised, as the weight of a constant feature of this
        value.

    class_weight : dict or 'balanced', default=None
        Weights of the classes as ``{class_label: weight}``, 1 if not given. 'balanced' is
        ``n_samples / (n_classes * np.bincount(y))``. They multiply `sample_weight`.

    random_state : int, RandomState instance, default=None
        Seed of the shuffles of the mini-batch solvers. No other algorithm here is random.

    solver : {'lbfgs', 'liblinear', 'newton-cg', 'newton-cholesky', 'sag', 'saga', \
            'sgd', 'adam', 'adamw', 'adagrad', 'adadelta', 'rmsprop'}, Optimizer or Solver, \
            default='lbfgs'
        It decides the objective and what is accepted; an entry of your own may be an optimizer
        (see ``skdeep.optimizers``) or a solver that sees all rows (see ``skdeep.solvers``). What
        computes:

        ================= ============== =========== =====================================
        solver            l1_ratio       multinomial computed by
        ================= ============== =========== =====================================
        'lbfgs'           0              yes         Newton's method for few parameters, else
                                                     L-BFGS in whitened coordinates,
                                                     in turns with it
        'newton-cholesky' 0              yes         Newton's method, Cholesky
        'newton-cg'       0              yes         the same; conjugate gradients if large
        'liblinear'       0 or 1         no          the same; proximal Newton for L1
        'sag'             0              yes         as 'lbfgs'
        'saga'            from 0 to 1    yes         the same; proximal Newton for L1
        ================= ============== =========== =====================================

        Many rows of many features begin in float32, and on a part of the rows, whose few iterations
        do not count; the end is always in float64.

        'sag' and 'saga' reach the optimum that scikit-learn's stochastic solvers converge to, by
        faster and deterministic means; `n_iter_` counts the iterations of those.

        The others follow the gradient of the objective, divided by the sum of the sample weights,
        batch by batch from zero: 'sgd' (with momentum, Nesterov's by default), 'adam', 'adagrad',
        'adadelta', 'rmsprop' for any `l1_ratio`, and 'adamw', whose L2 decay is apart from the
        gradient. An L1 penalty acts by its subgradient: coefficients come close to zero, not to
        rest there. Training ends once the loss of an epoch has not fallen by `tol` for more than
        `n_iter_no_change` epochs. :meth:`partial_fit` goes on with other rows.

    max_iter : int, default=100
        Most iterations; of the mini-batch solvers epochs, of which they make at least one.

    verbose : int, default=0
        Whether the mini-batch solvers print the loss of each epoch.

    warm_start : bool, default=False
        Whether `fit` starts from the previous solution. Without effect under 'liblinear'.

    n_jobs : int, default=None
        .. deprecated:: scikit-learn 1.8
           Without effect.

    batch_size : int, default='auto'
        Rows of a batch: 1 is one sample at a time, the number of rows or more is (batch) gradient
        descent, 'auto' is ``min(200, n_samples)``. This parameter and those below are for the
        mini-batch solvers.

    learning_rate : {'constant', 'invscaling', 'adaptive', 'step', 'exponential', 'plateau', \
            'cosine', 'one_cycle', 'flat_cosine', 'coslog4'} or callable, default='constant'
        Schedule of the learning rate: a name, an instance of a class in ``skdeep.schedules``, or
        ``(lr0, progress) -> lr``. 'invscaling' and 'adaptive' act on 'sgd' alone.

    learning_rate_init : float, default=0.001
        Learning rate to begin with.

    power_t : float, default=0.5
        Exponent of 'invscaling'.

    momentum : float, default=0.9
        Momentum of 'sgd', between 0 and 1; 0 is plain gradient descent.

    nesterovs_momentum : bool, default=True
        Whether the momentum of 'sgd' is Nesterov's.

    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the first and second moments of 'adam' and 'adamw', in [0, 1).

    rho : float, default=0.9
        Decay of the squared gradients of 'rmsprop' and 'adadelta', in [0, 1).

    epsilon : float, default=1e-8
        Keeps the adaptive solvers from dividing by zero.

    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch.

    n_iter_no_change : int, default=10
        Epochs without improvement to wait before stopping; ``np.inf`` is never to stop early.

    backend : str, default="auto"
        "numpy", "torch", "torch:cuda" …; "auto" follows the data.

    dtype : {"float32", "float64"}, NumPy's type or dtype, default=None
        Type to compute in; None is that of the data.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients; one row if there are two classes. :meth:`sparsify` makes it sparse.

    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts, zero without `fit_intercept`.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during :term:`fit`, if they are all strings.

    n_iter_ : ndarray of shape (1,)
        Iterations done.

    loss_ : float
        Objective, divided by the sum of the sample weights, as the batches of the last epoch met
        it. This attribute and the two below are there after mini-batch training.

    loss_curve_ : list of float
        The same after every epoch.

    history_ : dict of str to list
        Per epoch 'loss', 'learning_rate', 'gradient_norm' (of the last batch) and 'seconds', among
        others.

    backend_ : str
        What the model was computed on.

    References
    ----------
    Cox (1958), The regression analysis of binary sequences.
    Robbins & Monro (1951), A stochastic approximation method.
    Liu & Nocedal (1989), On the limited memory BFGS method for large scale optimization.
    Lee, Sun & Saunders (2014), Proximal Newton-type methods for minimizing composite functions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression().fit(X, y)
    >>> model.predict(X[:2, :]).tolist()
    [0, 0]
    >>> model.predict_proba(X[:2, :]).shape
    (2, 3)
    >>> round(model.score(X, y), 2)
    0.97
    """

    _parameter_constraints: dict = {
        **Model._parameter_constraints,
        **CONSTRAINTS,
        "penalty": [
            StrOptions({"l1", "l2", "elasticnet"}),
            None,
            Hidden(StrOptions({"deprecated"})),
        ],
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "dual": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions(set(ALGORITHMS)), *OWN_SOLVERS],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        penalty="deprecated",
        *,
        C=1.0,
        l1_ratio=0.0,
        dual=False,
        tol=1e-4,
        fit_intercept=True,
        intercept_scaling=1,
        class_weight=None,
        random_state=None,
        solver="lbfgs",
        max_iter=100,
        verbose=0,
        warm_start=False,
        n_jobs=None,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        momentum=0.9,
        nesterovs_momentum=True,
        beta_1=0.9,
        beta_2=0.999,
        rho=0.9,
        epsilon=1e-8,
        shuffle=True,
        n_iter_no_change=10,
        backend="auto",
        dtype=None,
    ):
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.rho = rho
        self.epsilon = epsilon
        self.shuffle = shuffle
        self.n_iter_no_change = n_iter_no_change
        self.backend = backend
        self.dtype = dtype

    def set_callbacks(self, *callbacks):
        """Set callbacks that run after each iteration or, of mini-batch solvers, epoch.

        Every solver runs them. A warning says where scikit-learn's would not.

        Parameters
        ----------
        *callbacks : callback instances
            As in ``sklearn.callback``.

        Returns
        -------
        self : LogisticRegression
        """
        if self.solver != "lbfgs" and not is_stochastic(self.solver):
            warn(
                f"Callbacks are only supported in {type(self).__name__} for solver='lbfgs' by "
                f"scikit-learn. skdeep runs them for solver='{self.solver}' too; code that is to "
                "run on both cannot rely on that."
            )
        return super().set_callbacks(*callbacks)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 1 if not given.

        Returns
        -------
        self : LogisticRegression

        Raises
        ------
        ValueError
            For a combination of parameters that does not exist, invalid data, a single class, or
            coefficients that are not finite.
        """
        return self._complete(self._fitting(X, y, sample_weight))

    @OfStochasticSolvers
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Go on training for one epoch over the given rows, with a mini-batch solver.

        The objective is that of a fit of these rows: `C` weighs their loss against the penalty.

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
        self : LogisticRegression

        Raises
        ------
        ValueError
            As `fit`; if the first call is without `classes`, or a later one with others; with
            ``class_weight="balanced"``.
        """
        return self._complete(self._fitting(X, y, sample_weight, True, classes))

    def _fitting(self, X, y, sample_weight=None, incremental=False, classes=None) -> Fitting:
        penalty = self._resolve_penalty()
        check_solver(self.solver, penalty.name, self.dual)
        if self.solver == "liblinear":
            refuse("solver='liblinear' cannot be used", "choose 'lbfgs', or 'saga' for L1.")
        if incremental:
            refuse("partial_fit cannot be used", "fit takes the rows of all processes.")
        context = self._init_callback_context(max_subtasks=max(self.max_iter, 1) + 1)
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            X, y = validate_data(
                self,
                staying(backend, X),
                to_host(y),
                accept_sparse="csr",
                dtype=np.float64 if self.solver == "liblinear" else [np.float64, np.float32],
                order="C",
                accept_large_sparse=self.solver not in ("liblinear", "sag", "saga"),
                reset=not (incremental and hasattr(self, "coef_")),
            )
            X = canonical(X)
            check_classification_targets(y)
            codes = self._encode(y, incremental, classes)
            check_n_classes(self.solver, self.classes_)
            if self.solver == "liblinear" and X.max() > 1e30:
                raise ValueError(
                    "Using the 'liblinear' solver while X contains a maximum value > 1e30 results "
                    "in a frozen fit. Please choose another solver or rescale the input X."
                )
            weights = self._row_weights(X, y, codes, sample_weight)
            theta = self._start(X.shape[1], self._compute_dtype(X), incremental)
            stochastic = is_stochastic(self.solver)
            if stochastic:
                rng = active().random_state(self.random_state)
                training = self._training(theta, incremental)
                start = None if theta is None else (theta, [training])
                checkpoint = None
                if not incremental:
                    data = (X, codes, weights)
                    checkpoint = open_checkpoint(self, backend, rng, data, start)
                problem = make_stochastic_problem(
                    self,
                    X,
                    codes,
                    penalty,
                    self._compute_dtype(X),
                    weights=weights,
                    theta=theta,
                    rng=rng,
                    training=training,
                    incremental=incremental,
                    checkpoint=checkpoint,
                )
            else:
                problem = self._problem(X, codes, weights, [penalty], theta=theta)

            def attributes(theta):
                return self._attributes(problem.net, theta.astype(problem.dtype, copy=False))

            del codes  # of no use while a search waits with many of these
            task = "epoch" if stochastic else f"{self.solver}-iter"
            watch = watched(self, context, problem, y, sample_weight, attributes, task)
            with watch as problem:
                if self.max_iter == 0 and problem.monitors and not stochastic:
                    # As in scikit-learn there is always one iteration to look at.
                    problem.monitors[0](0, problem.theta[0], np.nan)
                result = yield backend, problem
                require_finite(result.theta)
                if not result.interrupted:
                    require_finite(result.loss)
                vars(self).update(attributes(result.theta[0]))
                self.n_iter_ = result.n_iter.astype(np.int32)
                if stochastic:
                    self._record(result)
                if not (incremental or result.interrupted):
                    self._warn(result)
            if problem.checkpoint is not None and not result.interrupted:
                problem.checkpoint.remove()

    def _encode(self, y, incremental: bool, classes) -> np.ndarray:
        """Class indices of the rows; sets ``classes_`` unless training goes on."""
        if not incremental:
            self.classes_, codes = active().encode(y)
            return codes
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' cannot be used with partial_fit, which does not see all "
                "rows: pass a dict."
            )
        _check_partial_fit_first_call(self, classes)
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"y has labels {unknown} that classes={self.classes_} does not name.")
        return np.searchsorted(self.classes_, y)

    def _training(self, theta, incremental: bool):
        """What earlier training left to go on from: counters, and the optimizer's state."""
        training = getattr(self, "_trained", None)
        if theta is None or training is None:
            return None
        solver, training = training
        training = {**training, "history": self.history_}
        # Another optimizer's slots mean something else.
        return training if incremental and solver == self.solver else restarted(training)

    def _record(self, result: Result) -> None:
        """The attributes about mini-batch training."""
        (state,), (curve,) = result.states, result.curve
        self._trained = self.solver, without_records(state)
        self.n_iter_ = np.array([state["epoch"]], dtype=np.int32)
        self.loss_ = float(result.loss[0])
        self.loss_curve_, self.history_ = curve, state["history"]

    def _resolve_penalty(self) -> "Penalty":
        """What ``penalty``, ``l1_ratio`` and ``C`` ask for, with scikit-learn's warnings."""
        ratio, name = self.l1_ratio, self.penalty
        if name == "deprecated":
            if ratio is None:
                warn(
                    "'l1_ratio=None' was deprecated in version 1.8 and will trigger an error in "
                    "1.10. Use 0<=l1_ratio<=1 instead.",
                    FutureWarning,
                )
            name = {0: "l2", None: "l2", 1: "l1"}.get(ratio, "elasticnet")
            if np.isinf(self.C):
                name = None
        else:
            warn(
                "'penalty' was deprecated in version 1.8 and will be removed in 1.10. To avoid "
                "this warning, leave 'penalty' set to its default value and use 'l1_ratio' or 'C' "
                "instead. Use l1_ratio=0 instead of penalty='l2', l1_ratio=1 instead of "
                "penalty='l1', l1_ratio set to a float between 0 and 1 instead of "
                "penalty='elasticnet', and C=np.inf instead of penalty=None.",
                FutureWarning,
            )
            if (name, ratio) != ("l2", 0) and (name, ratio) != ("l1", 1) and name in ("l1", "l2"):
                warn(
                    f"Inconsistent values: penalty={name} with l1_ratio={ratio}. penalty is "
                    "deprecated. Please use l1_ratio only."
                )
            if name is None and self.C != 1.0:
                warn("Setting penalty=None will ignore the C and l1_ratio parameters")
        if name == "elasticnet" and ratio is None:
            raise ValueError("l1_ratio must be specified when penalty is elasticnet.")
        if name != "elasticnet" and ratio is not None and 0 < ratio < 1:
            warn(
                "l1_ratio parameter is only used when penalty is 'elasticnet'. Got "
                f"(penalty={name})"
            )
        if self.n_jobs is not None:
            warn(
                "'n_jobs' has no effect since 1.8 and will be removed in 1.10. You provided "
                f"'n_jobs={self.n_jobs}', please leave it unspecified.",
                FutureWarning,
            )
        C = np.inf if name is None else self.C
        return Penalty(name, C, {"l1": 1.0, "elasticnet": ratio}.get(name, 0.0))

    def _row_weights(self, X, y, codes, sample_weight):
        """Sample weights times class weights, or None if all are one."""
        if sample_weight is None and self.class_weight is None:
            return None
        sample_weight = to_host(sample_weight)
        weights = _check_sample_weight(sample_weight, X, dtype=numpy_dtype(X), copy=True)
        if self.class_weight is not None:
            counts = np.bincount(codes, to_host(sample_weight), minlength=len(self.classes_))
            per_class = compute_class_weight(
                self.class_weight,
                classes=self.classes_,
                y=self.classes_,
                sample_weight=active().total(counts),
            )
            weights *= per_class[codes]
        return weights

    def _net(self, n_features: int) -> Network:
        return make_net(n_features, len(self.classes_), self.fit_intercept)

    def _problem(self, X, codes, weights, penalties, rows=None, theta=None) -> Problem:
        """The problem of a stack of models over this estimator's data."""
        return make_problem(
            X,
            codes,
            len(self.classes_),
            penalties,
            solver=self.solver,
            dtype=self._compute_dtype(X),
            tol=self.tol,
            max_iter=self.max_iter,
            fit_intercept=self.fit_intercept,
            intercept_scaling=self.intercept_scaling,
            weights=weights,
            rows=rows,
            theta=theta,
        )

    def _start(self, n_features, dtype, incremental=False) -> np.ndarray | None:
        """The previous solution as parameters (1, P) if training goes on from it, else None."""
        go_on = (self.warm_start and self.solver != "liblinear") or incremental
        if not (go_on and hasattr(self, "coef_")):
            return None
        coef = self.coef_.toarray() if sparse.issparse(self.coef_) else self.coef_
        n_rows = 1 if len(self.classes_) == 2 else len(self.classes_)
        if coef.shape != (n_rows, n_features):
            raise ValueError(
                f"warm_start=True needs coef_ of shape {(n_rows, n_features)}, but the previous "
                f"fit left {coef.shape}: the classes or features have changed."
            )
        parts = [coef.T.ravel(), self.intercept_] if self.fit_intercept else [coef.T.ravel()]
        return np.concatenate(parts)[None].astype(dtype)

    def _attributes(self, net, theta) -> dict:
        """The fitted attributes that predict needs, from parameters (P,)."""
        p, k = net.units
        coef = theta[: p * k].reshape(p, k).T.copy()
        intercept = theta[p * k :].copy() if net.intercept else np.zeros(k, dtype=theta.dtype)
        return {"coef_": coef, "intercept_": intercept}

    def _warn(self, result: Result) -> None:
        """scikit-learn's ConvergenceWarning, once for a stack."""
        left = np.flatnonzero(~result.converged)
        if left.size:
            longest = left[np.argmax(result.n_iter[left])]
            fallback = result.extra.get("singular", np.zeros_like(result.converged))[longest]
            message = algorithm_of("lbfgs" if fallback else self.solver).warning(
                result.n_iter[longest], self.max_iter, result.loss[longest]
            )
            if len(result.converged) > 1:
                message = f"{left.size} of {len(result.converged)} models: {message}"
            warn(message, ConvergenceWarning)

    def decision_function(self, X):
        if sparse.issparse(getattr(self, "coef_", None)):
            X = validate_data(self, to_host(X), accept_sparse="csr", reset=False)
            scores = X @ self.coef_.T
            scores = (scores.toarray() if sparse.issparse(scores) else scores) + self.intercept_
            return scores[:, 0] if scores.shape[1] == 1 else scores
        return super().decision_function(X)

    decision_function.__doc__ = LinearClassifier.decision_function.__doc__

    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        scores = self.decision_function(X)
        if scores.ndim == 1:
            positive = sigmoid(namespace_of(scores), scores)
            return namespace_of(scores).stack([1.0 - positive, positive]).T
        return softmax(namespace_of(scores), scores)

    def predict_log_proba(self, X):
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; minus infinity where a probability vanishes.
        """
        return logarithms(self.predict_proba(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        # Asked before a fit refuses a solver that there is not.
        tags.classifier_tags.multi_class = self.solver != "liblinear"
        return tags
