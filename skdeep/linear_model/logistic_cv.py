"""Logistic regression that chooses its penalty by cross-validation."""

import inspect
from itertools import product
from numbers import Integral, Number

import numpy as np
from sklearn import config_context
from sklearn.metrics import get_scorer, get_scorer_names, make_scorer
from sklearn.model_selection import check_cv
from sklearn.utils import compute_class_weight, metadata_routing
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets

from .._sklearn import (
    Hidden,
    Interval,
    StrOptions,
    _check_method_params,
    _check_sample_weight,
    _deprecate_positional_args,
    _fit_context,
    _manual_routing,
    _raise_for_params,
    _routing_enabled,
)
from ..array_api import follows_input, numpy_dtype, staying, validate_data
from ..base import canonical, require_finite, to_host, unchanged_on_error, warn
from ..processes import refuse
from ..solvers import Solver
from ..stochastic import CONSTRAINTS, STOCHASTIC_SOLVERS
from .logistic import LogisticRegression
from .logistic_problem import ALGORITHMS, Penalty, check_n_classes, check_solver
from .logistic_stack import Stack, Watch


@follows_input(reference="coef_")
class LogisticRegressionCV(LogisticRegression):
    """Logistic regression that chooses `C` and `l1_ratio` by cross-validation.

    All folds, all `Cs` and all `l1_ratios` are solved as one stack over one copy of the data, each
    model on its own training rows.

    Parameters
    ----------
    Cs : int or list of floats, default=10
        Inverses of the regularisation strength; a number of them is so many on a logarithmic grid
        from 1e-4 to 1e4.

    l1_ratios : array-like of shape (n_l1_ratios,), default=None
        Shares of the L1 norm in the penalty, between 0 and 1.

        .. deprecated:: scikit-learn 1.8
           None will be an error in 1.10, when the default becomes ``(0.0,)``.

    fit_intercept : bool, default=True
        Whether the decision function has a constant term.

    cv : int or cross-validation generator, default=None
        Folds, stratified; None stands for 5.

    dual : bool, default=False
        See :class:`LogisticRegression`.

    penalty : {'l1', 'l2', 'elasticnet'}, default='l2'
        .. deprecated:: scikit-learn 1.8
           Use `l1_ratios` and `Cs`.

    scoring : str or callable, default=None
        What the folds are scored by; None is accuracy.

        .. versionchanged:: scikit-learn 1.11
           The default becomes 'neg_log_loss'.

    solver : {'lbfgs', 'liblinear', 'newton-cg', 'newton-cholesky', 'sag', 'saga'} or Solver, \
            default='lbfgs'
        See :class:`LogisticRegression`.

    tol : float, default=1e-4
        See :class:`LogisticRegression`.

    max_iter : int, default=100
        Most iterations of a model.

    class_weight : dict or 'balanced', default=None
        Weights of the classes; 'balanced' goes by the whole of `y`.

    n_jobs : int, default=None
        Accepted for scikit-learn's sake: the stack uses all cores that the backend uses.

    verbose : int, default=0
        Accepted for scikit-learn's sake.

    refit : bool, default=True
        Whether to fit all data with the penalty of the best mean score. If False, coefficients and
        `C` are averages of those that were best in each fold.

    intercept_scaling : float, default=1
        See :class:`LogisticRegression`.

    random_state : int, RandomState instance, default=None
        Accepted for scikit-learn's sake: no algorithm here is random.

    use_legacy_attributes : bool, default=True
        Whether attributes have the shapes of scikit-learn before 1.10; see below.

    backend : str, default="auto"
        "numpy", "torch", "torch:cuda" …; "auto" follows the data.

    dtype : {"float32", "float64"}, NumPy's type or dtype, default=None
        Type to compute in; None is float64, as in scikit-learn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients; one row if there are two classes.

    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts, zero without `fit_intercept`.

    Cs_ : ndarray of shape (n_cs,)
        Values of `C` tried.

    l1_ratios_ : ndarray of shape (n_l1_ratios,)
        Shares tried; ``[None]`` if none were given.

    coefs_paths_ : ndarray of shape (n_folds, n_l1_ratios, n_cs, n_classes, n_dof)
        Coefficients, and intercepts last, of every model. Under `use_legacy_attributes` a dict from
        class to arrays of shape (n_folds, n_cs, n_l1_ratios, n_dof), without the third axis if
        `l1_ratios` is None. Two classes count as one, the second.

    scores_ : ndarray of shape (n_folds, n_l1_ratios, n_cs)
        Scores of every model. Under `use_legacy_attributes` a dict from class to arrays of shape
        (n_folds, n_cs, n_l1_ratios), the same for all, or (n_folds, n_cs).

    C_ : float or ndarray of shape (n_classes,)
        The chosen `C`, repeated under `use_legacy_attributes`.

    l1_ratio_ : float or ndarray of shape (n_classes,)
        The chosen share, repeated under `use_legacy_attributes`.

    n_iter_ : ndarray of shape (n_folds, n_l1_ratios, n_cs)
        Iterations of every model; of shape (1, n_folds, n_cs, n_l1_ratios) or (1, n_folds, n_cs)
        under `use_legacy_attributes`.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during :term:`fit`, if they are all strings.

    backend_ : str
        What the models were computed on.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.linear_model import LogisticRegressionCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegressionCV(
    ...     l1_ratios=(0,), scoring="neg_log_loss", use_legacy_attributes=False
    ... ).fit(X, y)
    >>> model.scores_.shape
    (5, 1, 10)
    >>> model.predict(X[:2, :]).tolist()
    [0, 0]
    """

    # As in scikit-learn until 1.11: `sample_weight` of score is keyword-only and routed.
    __metadata_request__score = {"sample_weight": metadata_routing.UNUSED}

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in LogisticRegression._parameter_constraints.items()
            if name not in ("C", "warm_start", "l1_ratio", *CONSTRAINTS)
        },
        "solver": [StrOptions(set(ALGORITHMS) - set(STOCHASTIC_SOLVERS)), Solver],
        "Cs": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "l1_ratios": ["array-like", None, Hidden(StrOptions({"warn"}))],
        "cv": ["cv_object"],
        "scoring": [
            StrOptions(set(get_scorer_names())),
            callable,
            None,
            Hidden(StrOptions({"warn"})),
        ],
        "refit": ["boolean"],
        "penalty": [
            StrOptions({"l1", "l2", "elasticnet"}),
            Hidden(StrOptions({"deprecated"})),
        ],
        "use_legacy_attributes": ["boolean", Hidden(StrOptions({"warn"}))],
    }

    # A fit solves twice, for the folds and for all rows: it cannot wait at one problem.
    _fitting = None

    def __init__(
        self,
        *,
        Cs=10,
        l1_ratios="warn",
        fit_intercept=True,
        cv=None,
        dual=False,
        penalty="deprecated",
        scoring="warn",
        solver="lbfgs",
        tol=1e-4,
        max_iter=100,
        class_weight=None,
        n_jobs=None,
        verbose=0,
        refit=True,
        intercept_scaling=1.0,
        random_state=None,
        use_legacy_attributes="warn",
        backend="auto",
        dtype=None,
    ):
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.solver = solver
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes
        self.backend = backend
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Fit the models of all folds, then the final one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 1 if not given.
        **params : dict
            Metadata for the splitter and the scorer, if metadata routing is on.

        Returns
        -------
        self : LogisticRegressionCV

        Raises
        ------
        ValueError
            For a combination of parameters that does not exist, invalid data, a single class, or
            coefficients that are not finite.
        """
        refuse("LogisticRegressionCV cannot be used", "fit LogisticRegression for each C.")
        _raise_for_params(params, self, "fit")
        penalty, ratios = self._resolve_penalties()
        legacy = self._resolve_legacy()
        scoring = self._resolve_scoring()
        check_solver(self.solver, penalty, self.dual)
        context = self._init_callback_context(max_subtasks=1 + self.refit)
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            X, y = validate_data(
                self,
                staying(backend, X),
                to_host(y),
                accept_sparse="csr",
                dtype=np.float64,
                order="C",
                accept_large_sparse=self.solver not in ("liblinear", "sag", "saga"),
            )
            X = canonical(X)
            check_classification_targets(y)
            self.classes_, codes = np.unique(y, return_inverse=True)
            check_n_classes(self.solver, self.classes_)
            sample_weight = to_host(sample_weight)
            routed = self._route(sample_weight, params)
            cv = check_cv(self.cv, y, classifier=True)
            folds = list(cv.split(X, y, **routed.splitter.split))
            weights = self._row_weights(X, y, codes, sample_weight)

            self.backend_ = str(backend)
            self.Cs_ = np.logspace(-4, 4, self.Cs) if isinstance(self.Cs, Integral) else self.Cs
            self.Cs_ = np.asarray(self.Cs_)
            rows = backend.place(X, self._compute_dtype(X))
            solve = Stack(self, backend, rows, codes, weights)
            watch = Watch(self, context, solve.net, X, y, sample_weight)
            grid = list(product(range(len(folds)), ratios, self.Cs_))
            penalties = [_penalty(penalty, C, ratio) for _, ratio, C in grid]
            with watch.search(grid, folds) as tasks:
                result = solve(penalties, tasks, [folds[fold][0] for fold, _, _ in grid])
            self._warn(result)

            shape = (len(folds), len(ratios), len(self.Cs_))
            theta = result.theta.reshape(*shape, -1)
            with config_context(array_api_dispatch=False):  # targets are on the host
                scores = self._scores(rows, y, folds, theta, scoring, routed.scorer.score)
            theta = self._choose(solve, watch, penalty, ratios, theta, scores)
            require_finite(theta)
            vars(self).update(self._attributes(solve.net, theta))
            self.l1_ratios_ = np.asarray(ratios)
            self._record(result.theta, scores, result.n_iter.reshape(shape), solve.net, legacy)
            watch.end()
        return self

    # What the parameters ask for

    def _resolve_penalties(self):
        """Name of the penalty and list of L1 ratios, with scikit-learn's warnings and errors."""
        ratios = self.l1_ratios
        if isinstance(ratios, str):
            ratios = None
            warn(
                "The default value for l1_ratios will change from None to (0.0,) in version 1.10. "
                "From version 1.10 onwards, only array-like with values in [0, 1] will be allowed, "
                "None will be forbidden. To avoid this warning, explicitly set a value, e.g. "
                "l1_ratios=(0,).",
                FutureWarning,
            )
        name = self.penalty
        if name == "deprecated":
            if self.l1_ratios is None:
                warn(
                    "'l1_ratios=None' was deprecated in version 1.8 and will trigger an error in "
                    "1.10. Use an array-like with values in [0, 1] instead.",
                    FutureWarning,
                )
            if ratios is None or np.all(np.asarray(ratios) == 0):
                name = "l2"
            else:
                name = "l1" if np.all(np.asarray(ratios) == 1) else "elasticnet"
        else:
            warn(
                "'penalty' was deprecated in version 1.8 and will be removed in 1.10. To avoid "
                "this warning, leave 'penalty' set to its default value and use 'l1_ratios' and "
                "'Cs' instead. Use l1_ratios=(0,) instead of penalty='l2', l1_ratios=(1,) instead "
                "of penalty='l1', l1_ratios set to floats between 0 and 1 instead of "
                "penalty='elasticnet', and Cs=(np.inf,) instead of penalty=None.",
                FutureWarning,
            )
            if name != "elasticnet" and ratios is not None:
                warn(
                    "l1_ratios parameter is only used when penalty is 'elasticnet'. Got "
                    f"(penalty={name})"
                )
        if name == "elasticnet":
            given = [] if ratios is None else list(ratios)
            if not given or not all(isinstance(r, Number) and 0 <= r <= 1 for r in given):
                raise ValueError(
                    "l1_ratios must be an array-like of numbers between 0 and 1; got "
                    f"(l1_ratios={ratios!r})"
                )
        return name, [None] if ratios is None else list(ratios)

    def _resolve_scoring(self):
        if isinstance(self.scoring, str) and self.scoring == "warn":
            warn(
                "The default value of the parameter 'scoring' will change from None, i.e. "
                "accuracy, to 'neg_log_loss' in version 1.11. To silence this warning, explicitly "
                "set the scoring parameter: scoring='neg_log_loss' for the new, scoring='accuracy' "
                "or scoring=None for the old default.",
                FutureWarning,
            )
            return None
        return self.scoring

    def _resolve_legacy(self) -> bool:
        if self.use_legacy_attributes == "warn":
            warn(
                f"The fitted attributes of {type(self).__name__} will be simplified in "
                "scikit-learn 1.10 to remove redundancy. Set `use_legacy_attributes=False` to "
                "enable the new behavior now, or set it to `True` to silence this warning during "
                "the transition period while keeping the deprecated behavior for the time being. "
                "The default value of use_legacy_attributes will change from True to False in "
                f"scikit-learn 1.10. See the docstring of {type(self).__name__} for more details.",
                FutureWarning,
            )
            return True
        return self.use_legacy_attributes

    def _row_weights(self, X, y, codes, sample_weight):
        """Sample weights times class weights, or None if all are one."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, dtype=numpy_dtype(X), copy=True)
        if isinstance(self.class_weight, dict) and not set(self.class_weight) <= set(self.classes_):
            raise ValueError(
                "The given class_weight dict must have the class labels as keys; "
                f"classes={self.classes_} but key={self.class_weight.keys()}"
            )
        if self.class_weight is not None:
            weights *= compute_class_weight(
                self.class_weight, classes=self.classes_, y=y, sample_weight=sample_weight
            )[codes]
        return weights

    # Scores and the choice

    def _scores(self, X, y, folds, theta, scoring, params) -> np.ndarray:
        """Scores of shape (n_folds, n_l1_ratios, n_cs) on the held-out rows."""
        scores = np.empty(theta.shape[:3])
        scorer = self._labelled(scoring)
        model = LogisticRegression(solver=self.solver, backend=self.backend, dtype=self.dtype)
        model.classes_ = self.classes_
        net = self._net(X.shape[1])
        for fold, (_, test) in enumerate(folds):
            X_test, y_test = X[test], y[test]
            some = _check_method_params(X=X, params=params or {}, indices=test)
            for at in np.ndindex(scores.shape[1:]):
                vars(model).update(self._attributes(net, theta[fold][at]))
                model.C = self.Cs_[at[1]]
                scores[(fold, *at)] = scorer(model, X_test, y_test, **some)
        return scores

    def _labelled(self, scoring):
        """The scorer; it is told all classes, for a fold may lack some."""
        scorer = get_scorer("accuracy" if scoring is None else scoring)
        function = getattr(scorer, "_score_func", None)
        known = inspect.signature(function).parameters if function is not None else {}
        if "labels" not in known:
            return scorer
        labels = {"labels": self.classes_}
        if len(self.classes_) <= 2 and "pos_label" in known:
            labels["pos_label"] = self.classes_[-1]
        return make_scorer(
            function,
            greater_is_better=scorer._sign == 1,
            response_method=scorer._response_method,
            **{**labels, **scorer._kwargs},
        )

    def _choose(self, solve, watch, penalty, ratios, theta, scores) -> np.ndarray:
        """Parameters (P,) of the final model; sets ``C_`` and ``l1_ratio_``."""
        if self.refit:
            # scikit-learn breaks ties by the order of C before that of the ratio.
            i_C, i_ratio = np.unravel_index(np.argmax(scores.sum(axis=0).T), scores.shape[:0:-1])
            C, ratio = self.Cs_[i_C], ratios[i_ratio]
            start = theta[:, i_ratio, i_C].mean(axis=0)
            task = watch.refit(C, ratio)
            result = solve([_penalty(penalty, C, ratio)], task, theta=start[None])
            self._warn(result)
            self.C_, self.l1_ratio_ = C, ratio
            return result.theta[0]
        best = [np.unravel_index(np.argmax(s.T), s.T.shape) for s in scores]
        self.C_ = np.mean([self.Cs_[i_C] for i_C, _ in best])
        self.l1_ratio_ = 0.0
        if penalty == "elasticnet":
            self.l1_ratio_ = np.mean([ratios[i_ratio] for _, i_ratio in best])
        return np.mean([t[i_ratio, i_C] for t, (i_C, i_ratio) in zip(theta, best, strict=True)], 0)

    def _record(self, theta, scores, n_iter, net, legacy: bool) -> None:
        """The attributes about all models, in scikit-learn's shapes."""
        p, k = net.units
        # (n_folds, n_l1_ratios, n_cs, n_classes, n_dof)
        paths = np.swapaxes(theta.reshape(*scores.shape, -1, k), -1, -2)
        given = self.l1_ratios is not None and not isinstance(self.l1_ratios, str)
        if not legacy:
            self.coefs_paths_, self.scores_, self.n_iter_ = (
                np.ascontiguousarray(paths),
                scores,
                n_iter,
            )
            self.C_ = float(self.C_)
            if not given:
                self.l1_ratio_ = 1.0 if self.penalty == "l1" else 0.0
            self.l1_ratio_ = float(self.l1_ratio_)
            return
        names = self.classes_[1:] if k == 1 else self.classes_

        def last(array):
            array = np.swapaxes(array, 1, 2)
            return array if given else array[:, :, 0]

        self.coefs_paths_ = {c: last(paths[:, :, :, i]) for i, c in enumerate(names)}
        self.scores_ = {c: last(scores) for c in names}
        self.n_iter_ = last(n_iter)[None]
        self.C_, self.l1_ratio_ = np.tile(self.C_, k), np.tile(self.l1_ratio_, k)

    # Scoring from outside, and metadata

    @_deprecate_positional_args(version="1.11")
    def score(self, X, y, *, sample_weight=None, **score_params):
        """Score of the predictions by `scoring`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
        **score_params : dict
            Metadata for the scorer, if metadata routing is on.

        Returns
        -------
        score : float
        """
        _raise_for_params(score_params, self, "score")
        if sample_weight is not None:
            score_params["sample_weight"] = sample_weight
        if _routing_enabled():
            routed = process_routing(self, "score", **score_params)
        else:
            routed = _manual_routing({"scorer": {"score": score_params}})
        return self._get_scorer()(self, X, y, **routed.scorer.score)

    def _route(self, sample_weight, params):
        if _routing_enabled():
            return process_routing(self, "fit", sample_weight=sample_weight, **params)
        if sample_weight is not None:
            params = {**params, "sample_weight": sample_weight}
        return _manual_routing({"splitter": {}, "scorer": {"score": params}})

    def get_metadata_routing(self):
        """What metadata goes to the splitter and the scorer.

        Returns
        -------
        routing : MetadataRouter
        """
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                splitter=self.cv,
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
            .add(
                scorer=self._get_scorer(),
                method_mapping=MethodMapping()
                .add(caller="score", callee="score")
                .add(caller="fit", callee="score"),
            )
        )

    def _get_scorer(self):
        default = self.scoring is None or (isinstance(self.scoring, str) and self.scoring == "warn")
        return get_scorer("accuracy" if default else self.scoring)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # As in scikit-learn: ``l1_ratio_`` may hold None, which no other namespace has.
        tags.array_api_support = False
        return tags


def _penalty(name: str, C: float, ratio: float | None) -> Penalty:
    return Penalty(name, C, {"l1": 1.0, "l2": 0.0}.get(name, ratio))
