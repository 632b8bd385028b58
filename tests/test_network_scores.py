"""What a network's outputs mean: probabilities where the loss has them, else scores."""

import warnings

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.preprocessing import StandardScaler

from skdeep import losses
from skdeep.model_selection import GridSearchCV
from skdeep.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
TARGETS = {"three": Y, "two": (Y == 1).astype(int), "labels": np.eye(3, dtype=int)[Y]}
targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def network(loss, backend="auto", **params):
    numbers = {"max_iter": 30, "learning_rate_init": 0.02, "random_state": 0}
    return MLPClassifier((7,), loss=loss, backend=backend, **{**numbers, **params})


def squares(xp, raw, y, w):
    """Least squares on the scores themselves (Widrow and Hoff, 1960)."""
    return losses.squared_error(xp, raw, y, w)


def cross_entropy(raw, y):
    return -(y * raw.log_softmax(-1)).sum(-1)


def binary_cross_entropy(raw, y):
    return (raw.clamp(min=0) + (-raw.abs()).exp().log1p() - y * raw).sum(-1)


def in_unit_interval(proba, target):
    assert ((proba >= 0) & (proba <= 1)).all()
    if target.ndim == 1:
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)


# Losses of the user's own


@targets
def test_function_of_scores_has_the_probabilities_of_the_loss_it_is(target):
    """Softmax for classes, sigmoid for two or for labels, as under the loss of the same formula."""
    pytest.importorskip("torch")
    own = cross_entropy if target is Y else binary_cross_entropy
    mine = network(own, "torch").fit(X, target)
    builtin = network("log_loss", "torch").fit(X, target)
    np.testing.assert_allclose(mine.predict_proba(X), builtin.predict_proba(X), rtol=1e-6)
    np.testing.assert_array_equal(mine.predict(X), builtin.predict(X))
    assert mine.out_activation_ == builtin.out_activation_
    in_unit_interval(mine.predict_proba(X), target)
    assert np.isfinite(mine.predict_log_proba(X)).all()


def test_function_of_scores_votes_softly():
    pytest.importorskip("torch")
    voters = [("mine", network(lambda raw, y: ((raw - y) ** 2).sum(-1), "torch"))]
    voters.append(("other", sklearn.linear_model.LogisticRegression()))
    vote = VotingClassifier(voters, voting="soft").fit(X, Y)
    in_unit_interval(vote.predict_proba(X), Y)


@targets
def test_loss_without_probabilities_has_no_predict_proba(target, backend):
    own = losses.Loss(squares, losses.identity, "identity")
    model = network(own, backend, max_iter=100).fit(X, target)
    assert model.score(X, target) > (0.7 if target.ndim == 1 else 0.5)
    for name in ("predict_proba", "predict_log_proba"):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=name) as raised:
            getattr(model, name)
        assert "out_activation is 'logistic' or 'softmax'" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    "target, fn, predict, out_activation",
    [
        (TARGETS["three"], losses.log_loss, losses.softmax, "softmax"),
        *((t, losses.binary_log_loss, losses.sigmoid, "logistic") for t in TARGETS.values()),
    ],
    ids=["softmax", *(f"logistic-{name}" for name in TARGETS)],
)
def test_loss_that_says_so_has_probabilities(target, fn, predict, out_activation, backend):
    model = network(losses.Loss(fn, predict, out_activation), backend).fit(X, target)
    in_unit_interval(model.predict_proba(X), target)
    if target.ndim == 1:
        chosen = model.classes_[model.predict_proba(X).argmax(axis=1)]
        np.testing.assert_array_equal(chosen, model.predict(X))


def test_sigmoids_that_all_vanish_are_even_odds():
    """Far from all classes every sigmoid rounds to zero: nothing tells the classes apart."""
    model = network("squared_error").fit(X, Y)
    model.coefs_ = [np.zeros_like(W) for W in model.coefs_]
    model.intercepts_[-1] = np.full(3, -800.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.predict_proba(X), np.full((len(X), 3), 1 / 3))


# Scores, where there are no probabilities


def raw_scores(model):
    h = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    return h @ model.coefs_[1] + model.intercepts_[1]


@targets
def test_hinge_has_a_decision_function(target, backend):
    model = network("hinge", backend).fit(X, target)
    scores = model.decision_function(X)
    expected = raw_scores(model)
    np.testing.assert_allclose(scores.reshape(len(X), -1), expected, rtol=1e-8, atol=1e-10)
    if target.ndim == 2:
        np.testing.assert_array_equal(model.predict(X), scores > 0)
    elif target is Y:
        np.testing.assert_array_equal(model.predict(X), scores.argmax(axis=1))
    else:
        assert scores.shape == (len(X),)
        np.testing.assert_array_equal(model.predict(X), scores > 0)


def test_loss_of_the_users_own_has_a_decision_function():
    """Least squares on indicators: one half is the border, and a score of zero."""
    own = losses.Loss(squares, losses.identity, "identity")
    model = network(own).fit(X, TARGETS["two"])
    expected = 2 * raw_scores(model)[:, 0] - 1
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(model.predict(X), model.decision_function(X) > 0)


def test_members_agree_on_a_score():
    model = network("hinge", n_members=2).fit(X, Y)
    of_members = np.einsum("mik,mkj->mij", np.maximum(
        X @ model.coefs_[0] + model.intercepts_[0][:, None], 0
    ), model.coefs_[1]) + model.intercepts_[1][:, None]  # fmt: skip
    np.testing.assert_allclose(model.decision_function(X), of_members.mean(axis=0), atol=1e-10)


@pytest.mark.parametrize("loss", ["log_loss", "squared_error", cross_entropy])
def test_networks_with_probabilities_have_no_decision_function(loss):
    """As scikit-learn's: its tools would take scores where they should take probabilities."""
    assert not hasattr(MLPClassifier(loss=loss), "decision_function")
    assert hasattr(MLPClassifier(loss=loss), "predict_proba")


def test_ranking_and_calibration_of_a_hinge_network(backend):
    y = TARGETS["two"]
    model = network("hinge", backend, early_stopping=True, scoring="roc_auc").fit(X, y)
    area = roc_auc_score(y, raw_scores(model)[:, 0])
    assert get_scorer("roc_auc")(model, X, y) == pytest.approx(area, abs=1e-3)
    assert np.isfinite(model.validation_scores_).all()
    search = GridSearchCV(network("hinge", backend), {"alpha": [1e-4]}, scoring="roc_auc", cv=2)
    assert np.isfinite(search.fit(X, y).best_score_)
    for target in (y, Y):
        calibrated = CalibratedClassifierCV(network("hinge", backend, max_iter=150), cv=3)
        in_unit_interval(calibrated.fit(X, target).predict_proba(X), target)
        assert calibrated.score(X, target) > 0.8
