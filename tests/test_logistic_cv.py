"""LogisticRegressionCV ends where scikit-learn's does: every model, every score, the choice."""

import warnings

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.model_selection
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from skdeep import fit_many
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV
from skdeep.model_selection import GridSearchCV

COMMON = {
    "Cs": [0.05, 1.0, 20.0],
    "cv": 3,
    "scoring": "neg_log_loss",
    "use_legacy_attributes": False,
    "l1_ratios": (0.0,),
    "max_iter": 10_000,
}
CASES = [
    ("lbfgs", {}),
    ("lbfgs", {"fit_intercept": False}),
    ("lbfgs", {"scoring": "accuracy", "class_weight": "balanced"}),
    ("lbfgs", {"Cs": 3, "refit": False}),
    ("newton-cg", {"use_legacy_attributes": True}),
    ("newton-cholesky", {"use_legacy_attributes": True, "refit": False}),
    ("sag", {"scoring": "neg_brier_score"}),
    ("saga", {"Cs": [1.0, np.inf]}),
    # Their refit forgets intercept_scaling.
    ("liblinear", {"intercept_scaling": 3.0, "refit": False}),
    ("liblinear", {"dual": True}),
    ("liblinear", {"l1_ratios": (1.0,)}),
]


def data(n_classes):
    return make_classification(
        120, 6, n_informative=4, n_redundant=0, n_classes=n_classes, flip_y=0.2, random_state=3
    )


def close(ours, theirs):
    """Equal to 1e-6 of the largest, in dicts from classes to arrays too."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
    assert_allclose(ours, theirs, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("container, weighted", [(np.asarray, False), (sparse.csr_array, True)])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver, params", CASES, ids=str)
def test_it_is_scikit_learns(solver, params, n_classes, container, weighted, backend):
    if solver == "liblinear" and n_classes > 2:
        pytest.skip("liblinear has no multinomial loss")
    X, y = data(n_classes)
    weight = np.random.RandomState(1).randint(1, 4, len(y)) / 2 if weighted else None
    params = {**COMMON, **params}
    # Their most exact solver of what is smooth. Their saga stops a path of L1 models far too soon.
    exact = "liblinear" if solver == "liblinear" else "newton-cg"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sklearn.linear_model.LogisticRegressionCV(
            solver=exact, tol=1e-11, random_state=0, **params
        ).fit(X, y, sample_weight=weight)
        ours = LogisticRegressionCV(solver=solver, tol=1e-10, backend=backend, **params)
        ours.fit(container(X), y, sample_weight=weight)
    for name in ("Cs_", "l1_ratios_", "C_", "l1_ratio_", "scores_"):
        close(getattr(ours, name), getattr(theirs, name))
    assert np.shape(ours.n_iter_) == np.shape(theirs.n_iter_)
    assert_array_equal(ours.classes_, theirs.classes_)
    close(ours.predict_proba(container(X)), theirs.predict_proba(X))
    close(ours.score(container(X), y), theirs.score(X, y))
    if n_classes == 2:  # no penalty decides the sum of the intercepts of several classes
        close(ours.coefs_paths_, theirs.coefs_paths_)
        close(ours.coef_, theirs.coef_)
        close(ours.intercept_, theirs.intercept_)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("ratios", [None, (0.0,), (0.3, 0.9)])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_shapes_are_scikit_learns(n_classes, ratios, refit, legacy):
    if ratios == (0.3, 0.9) and not refit:
        pytest.skip("scikit-learn raises a TypeError; the next test has the definition")
    X, y = data(n_classes)
    params = {**COMMON, "l1_ratios": ratios, "use_legacy_attributes": legacy, "refit": refit}
    params |= {"solver": "saga", "max_iter": 20}
    theirs = sklearn.linear_model.LogisticRegressionCV(**params).fit(X, y)
    ours = LogisticRegressionCV(**params).fit(X, y)
    for name, value in vars(theirs).items():
        if not name.endswith("_"):
            continue
        found = getattr(ours, name)
        assert type(found) is type(value), name
        pairs = [(found, value)]
        if isinstance(value, dict):
            assert found.keys() == value.keys()
            pairs = list(zip(found.values(), value.values(), strict=True))
        for mine, other in pairs:
            assert np.shape(mine) == np.shape(other), name


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_refit_it_averages_the_best_of_each_fold(n_classes):
    # By the definition: with several ratios scikit-learn raises a TypeError here.
    X, y = data(n_classes)
    params = {**COMMON, "l1_ratios": (0.3, 0.9), "solver": "saga", "refit": False}
    model = LogisticRegressionCV(**params).fit(X, y)
    n_folds, _, n_Cs = model.scores_.shape
    best = [np.unravel_index(scores.argmax(), scores.shape) for scores in model.scores_]
    assert len(set(best)) > 1
    paths = [model.coefs_paths_[fold, r, c] for fold, (r, c) in enumerate(best)]
    assert n_folds == 3 and n_Cs == 3
    assert_allclose(model.C_, np.mean([model.Cs_[c] for _, c in best]))
    assert_allclose(model.l1_ratio_, np.mean([model.l1_ratios_[r] for r, _ in best]))
    mean = np.mean(paths, axis=0).reshape(len(model.coef_), -1)
    assert_allclose(np.c_[model.coef_, model.intercept_], mean)


@pytest.mark.parametrize("solver, ratios", [("lbfgs", [0.0]), ("saga", [0.0, 0.4])], ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_stack_is_separate_fits(n_classes, solver, ratios, backend):
    X, y = data(n_classes)
    folds = list(StratifiedKFold(3).split(X, y))
    params = {"solver": solver, "tol": 1e-10, "max_iter": 10_000, "backend": backend}
    model = LogisticRegressionCV(**{**COMMON, **params, "l1_ratios": ratios, "cv": folds})
    model.fit(X, y)
    for (fold, r, c), score in np.ndenumerate(model.scores_):
        train, test = folds[fold]
        alone = LogisticRegression(C=model.Cs_[c], l1_ratio=ratios[r], **params)
        alone.fit(X[train], y[train])
        theta = np.column_stack([alone.coef_, alone.intercept_])
        assert_allclose(model.coefs_paths_[fold, r, c], theta, atol=1e-7)
        chosen = alone.predict_proba(X[test])[np.arange(len(test)), y[test]]
        assert score == pytest.approx(np.log(chosen).mean())
    best = np.unravel_index(np.argmax(model.scores_.mean(axis=0)), model.scores_.shape[1:])
    assert (model.l1_ratio_, model.C_) == (ratios[best[0]], model.Cs_[best[1]])
    final = LogisticRegression(C=model.C_, l1_ratio=model.l1_ratio_, **params).fit(X, y)
    assert_allclose(model.coef_, final.coef_, atol=1e-7)


def test_others_fit_it_by_its_own_fit():
    """Its fit solves twice, for the folds and for all rows: no stack can take it in."""
    X, y = data(3)
    plain = LogisticRegressionCV(**COMMON).fit(X, y)
    (together,) = fit_many([LogisticRegressionCV(**COMMON)], X, y)
    assert_array_equal(together.coef_, plain.coef_)
    found = [
        search(LogisticRegressionCV(**COMMON), {"fit_intercept": [True, False]}, cv=2).fit(X, y)
        for search in (GridSearchCV, sklearn.model_selection.GridSearchCV)
    ]
    assert_array_equal(*(search.cv_results_["mean_test_score"] for search in found))
