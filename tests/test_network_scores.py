"""What a network's outputs mean: probabilities where the loss has them, else scores."""

import warnings

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import StandardScaler

from skdeep import losses
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
