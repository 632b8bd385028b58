"""Searches over hyper-parameters in which candidates and folds are one computation."""

from inspect import signature

import numpy as np
import sklearn.experimental.enable_halving_search_cv  # noqa: F401
from sklearn import model_selection

from .._sklearn import BaseSearchCV, _fit_context
from ..base import Versioned, unchanged_on_error
from ..fitting import MAX_MEMORY
from ..interrupts import scope
from ..parameters import REQUIRED, Parameter, constraints
from .parallel import StackedParallel
from .rebinding import rebind

AS_IN_SCIKIT_LEARN = "As in scikit-learn, like all others but the last."
MEMORY_OF_STACKS = """
    Bytes that the stack of models may work on at a time; None is a quarter of what is free on
    the host or, for models on a GPU, on the device."""


def with_max_memory(theirs: type) -> dict[str, Parameter]:
    """The parameters of a search of scikit-learn's, of the version that is installed, and ours."""
    rows = {
        name: Parameter(
            argument.default,
            theirs._parameter_constraints[name],
            text=AS_IN_SCIKIT_LEARN if argument.default is REQUIRED else "",
            positional=argument.kind is argument.POSITIONAL_OR_KEYWORD,
        )
        for name, argument in signature(theirs).parameters.items()
    }
    return {**rows, "max_memory": Parameter(None, MAX_MEMORY, "float", MEMORY_OF_STACKS)}


def construct(self, max_memory, **given) -> None:
    """Let scikit-learn's constructor have all that it knows."""
    self._theirs.__init__(self, **given)
    self.max_memory = max_memory


class StackedSearch(Versioned, BaseSearchCV):
    """scikit-learn's search, whose fits of our models run together."""

    _fit = rebind(BaseSearchCV.fit, Parallel=StackedParallel)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        with scope(keeps=False), unchanged_on_error(self):
            return self._fit(X, y, **params)

    fit.__doc__ = BaseSearchCV.fit.__doc__


class GridSearchCV(model_selection.GridSearchCV, StackedSearch):
    """Exhaustive search over a grid of parameters.

    It is ``sklearn.model_selection.GridSearchCV`` with one parameter more: same
    parameters, attributes and ``cv_results_``. Candidates that end in a model of skdeep, alone or
    as the last step of a Pipeline, are fitted together with all their folds; steps before the last
    are fitted once for each fold and set of their own parameters. ``fit_time`` and ``score_time``
    are then shares of the common time. Any other estimator is fitted by scikit-learn's own code,
    which ``verbose=1`` says.

    Parameters
    ----------
    estimator, param_grid
        As in scikit-learn, like all others but the last.
    max_memory : float, default=None
        Bytes that the stack of models may work on at a time; None is a quarter of what is free on
        the host or, for models on a GPU, on the device.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_ and all others
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
    >>> from skdeep.model_selection import GridSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> lda = LinearDiscriminantAnalysis(solver="lsqr")
    >>> search = GridSearchCV(lda, {"shrinkage": [0.0, 0.1, 0.5]}).fit(X, y)
    >>> search.best_params_
    {'shrinkage': 0.0}
    >>> round(float(search.best_score_), 2)
    0.98
    """

    _theirs = model_selection.GridSearchCV
    _parameters = with_max_memory(_theirs)
    _parameter_constraints: dict = constraints(_parameters)

    def __init__(
        self, estimator, param_grid, *, scoring=None, n_jobs=None, refit=True, cv=None, verbose=0,
        pre_dispatch="2*n_jobs", error_score=np.nan, return_train_score=False, max_memory=None,
    ):  # fmt: skip
        construct(**locals())


class RandomizedSearchCV(model_selection.RandomizedSearchCV, StackedSearch):
    """Search over randomly drawn parameters.

    It is ``sklearn.model_selection.RandomizedSearchCV`` with one parameter more: same
    parameters, attributes and ``cv_results_``. Candidates that end in a model of skdeep, alone or
    as the last step of a Pipeline, are fitted together with all their folds; steps before the last
    are fitted once for each fold and set of their own parameters. ``fit_time`` and ``score_time``
    are then shares of the common time. Any other estimator is fitted by scikit-learn's own code,
    which ``verbose=1`` says.

    Parameters
    ----------
    estimator, param_distributions
        As in scikit-learn, like all others but the last.
    max_memory : float, default=None
        Bytes that the stack of models may work on at a time; None is a quarter of what is free on
        the host or, for models on a GPU, on the device.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_ and all others
        As in scikit-learn.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.linear_model import LogisticRegression
    >>> from skdeep.model_selection import RandomizedSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression()
    >>> search = RandomizedSearchCV(model, {"C": loguniform(0.1, 10)}, random_state=0).fit(X, y)
    >>> len(search.cv_results_["params"])
    10
    """

    _theirs = model_selection.RandomizedSearchCV
    _parameters = with_max_memory(_theirs)
    _parameter_constraints: dict = constraints(_parameters)

    def __init__(
        self, estimator, param_distributions, *, n_iter=10, scoring=None, n_jobs=None, refit=True,
        cv=None, verbose=0, pre_dispatch="2*n_jobs", random_state=None, error_score=np.nan,
        return_train_score=False, max_memory=None,
    ):  # fmt: skip
        construct(**locals())


class HalvingGridSearchCV(model_selection.HalvingGridSearchCV, StackedSearch):
    """Search over a grid by successive halving: ever fewer candidates on ever more samples.

    It is ``sklearn.model_selection.HalvingGridSearchCV`` with one parameter more: same
    parameters, attributes and ``cv_results_``. Candidates that end in a model of skdeep, alone or
    as the last step of a Pipeline, are fitted together with all their folds; steps before the last
    are fitted once for each fold and set of their own parameters. ``fit_time`` and ``score_time``
    are then shares of the common time. Any other estimator is fitted by scikit-learn's own code,
    which ``verbose=1`` says.

    Parameters
    ----------
    estimator, param_grid
        As in scikit-learn, like all others but the last.
    max_memory : float, default=None
        Bytes that the stack of models may work on at a time; None is a quarter of what is free on
        the host or, for models on a GPU, on the device.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_ and all others
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.linear_model import LogisticRegression
    >>> from skdeep.model_selection import HalvingGridSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> grid = {"C": [0.01, 0.1, 1, 10]}
    >>> search = HalvingGridSearchCV(LogisticRegression(), grid, random_state=0).fit(X, y)
    >>> search.n_candidates_
    [4, 2]
    """

    _theirs = model_selection.HalvingGridSearchCV
    _parameters = with_max_memory(_theirs)
    _parameter_constraints: dict = constraints(_parameters)

    def __init__(
        self, estimator, param_grid, *, factor=3, resource="n_samples", max_resources="auto",
        min_resources="exhaust", aggressive_elimination=False, cv=5, scoring=None, refit=True,
        error_score=np.nan, return_train_score=True, random_state=None, n_jobs=None, verbose=0,
        max_memory=None,
    ):  # fmt: skip
        construct(**locals())


class HalvingRandomSearchCV(model_selection.HalvingRandomSearchCV, StackedSearch):
    """Successive halving over randomly drawn parameters.

    It is ``sklearn.model_selection.HalvingRandomSearchCV`` with one parameter more: same
    parameters, attributes and ``cv_results_``. Candidates that end in a model of skdeep, alone or
    as the last step of a Pipeline, are fitted together with all their folds; steps before the last
    are fitted once for each fold and set of their own parameters. ``fit_time`` and ``score_time``
    are then shares of the common time. Any other estimator is fitted by scikit-learn's own code,
    which ``verbose=1`` says.

    Parameters
    ----------
    estimator, param_distributions
        As in scikit-learn, like all others but the last.
    max_memory : float, default=None
        Bytes that the stack of models may work on at a time; None is a quarter of what is free on
        the host or, for models on a GPU, on the device.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_ and all others
        As in scikit-learn.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from skdeep.linear_model import LogisticRegression
    >>> from skdeep.model_selection import HalvingRandomSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> space = {"C": loguniform(0.1, 10)}
    >>> search = HalvingRandomSearchCV(LogisticRegression(), space, random_state=0).fit(X, y)
    >>> len(search.n_candidates_)
    2
    """

    _theirs = model_selection.HalvingRandomSearchCV
    _parameters = with_max_memory(_theirs)
    _parameter_constraints: dict = constraints(_parameters)

    def __init__(
        self, estimator, param_distributions, *, n_candidates="exhaust", factor=3,
        resource="n_samples", max_resources="auto", min_resources="smallest",
        aggressive_elimination=False, cv=5, scoring=None, refit=True, error_score=np.nan,
        return_train_score=True, random_state=None, n_jobs=None, verbose=0, max_memory=None,
    ):  # fmt: skip
        construct(**locals())
