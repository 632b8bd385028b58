"""``fit_many``: a list of unlike estimators in, the same list fitted."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdeep.stacking
from skdeep import fit_many
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = make_classification(200, 6, n_informative=4, n_classes=3, random_state=0)


def models():
    return [
        *(LogisticRegression(C=C, tol=1e-8) for C in (0.01, 1.0, 10.0)),
        Perceptron(),
        Perceptron(penalty="l2", alpha=1e-3, random_state=2),
        *(LinearDiscriminantAnalysis("lsqr", shrinkage=s) for s in (0.0, 0.5)),
        *(MLPClassifier((5,), alpha=a, max_iter=5, random_state=0) for a in (1e-4, 1.0)),
        MLPClassifier((7,), max_iter=5, random_state=1, early_stopping=True),
        RidgeClassifier(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("max_memory", [None, 1.0])
def test_as_fitted_alone(weighted, max_memory):
    estimators = models()[:-1]
    weights = {"sample_weight": np.linspace(0.5, 2, len(y))} if weighted else {}
    fitted = fit_many(estimators, X, y, max_memory=max_memory, **weights)
    assert all(a is b for a, b in zip(fitted, estimators, strict=True))
    for model in fitted:
        alone = clone(model).fit(X, y, **weights)
        assert set(vars(alone)) == set(vars(model)), model
        for name in ("coef_", "intercept_", "classes_", "n_iter_"):
            if getattr(alone, name, None) is not None:
                assert_allclose(getattr(model, name), getattr(alone, name), atol=1e-6)
        assert_array_equal(model.predict(X), alone.predict(X))


def test_numbers_share_a_stack(monkeypatch):
    sizes = []
    solve = skdeep.stacking.solve_stack
    monkeypatch.setattr(
        skdeep.stacking,
        "solve_stack",
        lambda backend, problem, *rest: (
            sizes.append(problem.n_models),
            solve(backend, problem, *rest),
        )[1],
    )
    fit_many([LogisticRegression(C=C) for C in (0.1, 1.0, 10.0)], X, y)
    assert sizes == [3]


def test_any_estimator_and_any_data():
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    fit_many([pipeline, RidgeClassifier(), LogisticRegression()], X.tolist(), y.tolist())
    assert pipeline.score(X, y) > 0.5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_failures_hurt_no_other():
    bad = LogisticRegression(C=-1.0)
    diverging = MLPClassifier((3,), solver="sgd", learning_rate_init=1e300, max_iter=5)
    good = LogisticRegression()
    with pytest.raises(ExceptionGroup, match="2 of 3 fits failed") as caught:
        fit_many([bad, diverging, good], X, y)
    assert all(isinstance(error, ValueError) for error in caught.value.exceptions)
    assert good.score(X, y) > 0.5 and not hasattr(bad, "coef_")
    assert not hasattr(diverging, "coefs_")
    with pytest.raises(ValueError, match="'C' parameter"):
        fit_many([bad, good], X, y)
    found = fit_many([good, bad], X, y, on_error="return")
    assert found[0] is good and isinstance(found[1], ValueError)


def test_what_solvers_refuse(monkeypatch):
    solve = skdeep.fitting.solve_many

    def refuse(backend, problems, limit):
        if any(problem.hyper["l2"][0, 0] > 0.01 for problem in problems):
            raise FloatingPointError("no")
        return solve(backend, problems, limit)

    monkeypatch.setattr(skdeep.fitting, "solve_many", refuse)
    weak, strong = LogisticRegression(), LogisticRegression(C=1e-3)
    with pytest.raises(FloatingPointError):
        fit_many([weak, strong], X, y)
    assert hasattr(weak, "coef_") and not hasattr(strong, "coef_")


def test_wrong_arguments():
    model = LogisticRegression()
    with pytest.raises(ValueError, match="twice"):
        fit_many([model, model], X, y)
    with pytest.raises(ValueError, match="'on_error' parameter of fit_many"):
        fit_many([model], X, y, on_error="ignore")


@pytest.mark.parametrize("max_memory", ["1GB", np.nan, -1, 0, 0.0, -np.inf, [1e9]], ids=str)
def test_memory_that_is_none_is_refused_before_anything_is_fitted(max_memory):
    model = LogisticRegression()
    with pytest.raises(ValueError, match="'max_memory' parameter of fit_many"):
        fit_many([model], X, y, max_memory=max_memory)
    assert not hasattr(model, "coef_")


def test_memory_without_limit():
    (model,) = fit_many([LogisticRegression()], X, y, max_memory=np.inf)
    assert_array_equal(model.coef_, LogisticRegression().fit(X, y).coef_)
    assert fit_many([], X, y) == []
