"""scikit-learn's checks of an estimator hold for every estimator, on both backends.

The array-API checks skip here, for SciPy reads ``SCIPY_ARRAY_API`` once, when it is imported:
``upstream/test_array_api.py`` runs them, out of this module, in a process that has it set.
"""

import importlib

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

pytest.importorskip("torch", reason="half of the estimators under test run on torch")

from skdeep import discriminant_analysis, linear_model, neural_network

ESTIMATORS = [
    linear_model.Perceptron,
    linear_model.LogisticRegression,
    discriminant_analysis.LinearDiscriminantAnalysis,
    neural_network.MLPClassifier,
    neural_network.MLPRegressor,
]
LAYERED = [neural_network.NetworkClassifier, neural_network.NetworkRegressor]
BACKENDS = ("numpy", "torch")
INSTANCES = [cls(backend=backend) for cls in ESTIMATORS + LAYERED for backend in BACKENDS]
# scikit-learn checks its own with three folds too: some of the data have no five rows of a class.
INSTANCES += [linear_model.LogisticRegressionCV(cv=3, backend=backend) for backend in BACKENDS]

SEQUENTIAL = (
    "a row of weight two is one long step, the same row twice is two steps, of which the second "
    "sees what the first did: no sequential rule makes them equal, scikit-learn's Perceptron "
    "included"
)


def expected_failures(estimator):
    if not isinstance(estimator, linear_model.Perceptron):
        return {}
    return {
        "check_sample_weight_equivalence_on_dense_data": SEQUENTIAL,
        "check_sample_weight_equivalence_on_sparse_data": SEQUENTIAL,
    }


@parametrize_with_checks(INSTANCES, expected_failed_checks=expected_failures, xfail_strict=True)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_same_parameters_as_scikit_learn(cls):
    """scikit-learn's names and defaults in its order, then ours, keyword-only."""
    from inspect import Parameter, signature

    module = importlib.import_module(f"sklearn.{cls.__module__.split('.')[1]}")
    theirs = list(signature(getattr(module, cls.__name__)).parameters.values())
    ours = list(signature(cls).parameters.values())
    assert [(p.name, p.default, p.kind) for p in ours[: len(theirs)]] == [
        (p.name, p.default, p.kind) for p in theirs
    ]
    added = {p.name: p for p in ours[len(theirs) :]}
    assert added["backend"].default == "auto"
    assert added["dtype"].default is None
    assert all(p.kind is Parameter.KEYWORD_ONLY for p in added.values())
