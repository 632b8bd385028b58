"""Members that each hold out a fold of their own, and smoothing that predictions undo."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.metrics
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import scale

from skdeep.fitting import Fit
from skdeep.neural_network import (
    Autoencoder,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
)
from skdeep.neural_network.classifier import accuracy_of_classes, accuracy_of_labels
from skdeep.neural_network.regressor import r2_scores
from skdeep.regularization import LabelSmoothing
from skdeep.solvers.minibatch import validation
from skdeep.stacking import solve_many

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X, Y = load_iris(return_X_y=True)
X = scale(X)
LABELS = np.c_[Y == 0, Y > 0, X[:, 1] > 0].astype(int)
TARGETS = {"three": Y, "two": (Y == 1).astype(int), "labels": LABELS}
targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
X_REG, Y_REG = load_diabetes(return_X_y=True)
X_REG, Y_REG = scale(X_REG), scale(Y_REG)
COMMON = {"hidden_layer_sizes": (5,), "activation": "tanh", "max_iter": 12, "random_state": 0}
COMMON |= {"learning_rate_init": 0.05, "batch_size": 32, "n_iter_no_change": np.inf}
MEMBERS = {**COMMON, "n_members": 4, "early_stopping": "members"}


def folds_of(model, X, y) -> list:
    """The rows that each member holds out."""
    fit = Fit(clone(model), X, y)
    fit.begin()
    held_out = [one.rows for one in fit.problem.validation]
    for rows, own in zip(fit.problem.rows, held_out, strict=True):
        np.testing.assert_array_equal(np.sort(np.r_[rows, own]), np.arange(len(X)))
    fit.close()
    return held_out


def scores_of(model, m: int, X):
    """Raw scores by one member, by hand."""
    (W, V), (b, c) = model.coefs_, model.intercepts_
    return np.tanh(X @ W[m] + b[m]) @ V[m] + c[m]


def softmax(raw):
    e = np.exp(raw - raw.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_folds_are_of_all_rows_and_classes_are_spread_over_them():
    held_out = folds_of(MLPClassifier(**MEMBERS), X, Y)
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), np.arange(len(X)))
    for rows in held_out:
        assert np.bincount(Y[rows]).min() >= 12


def test_each_member_keeps_the_epoch_of_its_least_loss(backend):
    model = MLPClassifier(backend=backend, **MEMBERS).fit(X, Y)
    for m, rows in enumerate(folds_of(model, X, Y)):
        proba = softmax(scores_of(model, m, X[rows]))
        losses = model.history_[m]["validation_loss"]
        assert min(losses) == pytest.approx(sklearn.metrics.log_loss(Y[rows], proba), rel=1e-9)
        assert -min(losses) == model.best_validation_score_[m]
        np.testing.assert_allclose(model.oof_prediction_[rows], proba, rtol=1e-9)
    predicted = model.classes_[model.oof_prediction_.argmax(axis=1)]
    assert model.oof_score_ == sklearn.metrics.accuracy_score(Y, predicted)


def test_a_regressor_s_members(backend):
    model = MLPRegressor(backend=backend, **MEMBERS).fit(X_REG, Y_REG)
    for m, rows in enumerate(folds_of(model, X_REG, Y_REG)):
        predicted = scores_of(model, m, X_REG[rows])[:, 0]
        np.testing.assert_allclose(model.oof_prediction_[rows], predicted, rtol=1e-8, atol=1e-10)
        half = 0.5 * sklearn.metrics.mean_squared_error(Y_REG[rows], predicted)
        assert min(model.history_[m]["validation_loss"]) == pytest.approx(half, rel=1e-9)
    assert model.oof_score_ == pytest.approx(sklearn.metrics.r2_score(Y_REG, model.oof_prediction_))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_stack_of_members_is_so_many_models(weighted, backend):
    """Although their rows are padded to one length, and validated together."""
    w = RNG.rand(len(X)) + 0.5 if weighted else None
    params = {**MEMBERS, "n_members": 7, "backend": backend}
    fit, again = (Fit(MLPClassifier(**params), X, Y, sample_weight=w) for _ in range(2))
    fit.begin()
    assert len({len(one.y) for one in fit.problem.validation}) == 2
    (whole,) = solve_many(fit.backend, [fit.problem])
    fit.close()
    again.begin()
    for m in range(7):
        (alone,) = solve_many(again.backend, [again.problem.take(slice(m, m + 1))])
        np.testing.assert_allclose(whole.theta[m], alone.theta[0], rtol=1e-8, atol=1e-10)
        for name in ("validation_loss", "validation_score"):
            np.testing.assert_allclose(
                whole.states[m]["history"][name], alone.states[0]["history"][name], rtol=1e-8
            )
    again.close()


@pytest.mark.parametrize("stopping", ["members", True])
@pytest.mark.parametrize("gathered", [2**24, 1])
def test_validation_is_one_pass_for_all_members(stopping, gathered, monkeypatch):
    calls, forward = [], validation.forward

    def counted(xp, net, theta, X):
        calls.append(len(theta))
        return forward(xp, net, theta, X)

    monkeypatch.setattr(validation, "forward", counted)
    monkeypatch.setattr(validation, "GATHERED", gathered)
    params = {**MEMBERS, "early_stopping": stopping}
    X_even, y_even = X[:128], Y[:128]
    MLPClassifier(**params).fit(X_even, y_even)
    one_by_one = stopping == "members" and gathered == 1
    assert calls == [1] * 48 if one_by_one else calls == [4] * 12


@pytest.mark.parametrize(
    "params",
    [{"n_members": 1}, {"loss": "hinge"}, {"scoring": "neg_log_loss"}, {"tol": 0.1}],
    ids=str,
)
def test_with_other_parameters(params, backend):
    settings = {**MEMBERS, "n_iter_no_change": 2 if "tol" in params else np.inf, **params}
    model = MLPClassifier(backend=backend, **settings).fit(X, Y)
    known = ~np.isnan(model.oof_prediction_).any(axis=1)
    assert known.sum() == (15 if settings["n_members"] == 1 else 150)
    guess = model.classes_[model.oof_prediction_[known].argmax(axis=1)]
    if "scoring" in params:
        expected = -sklearn.metrics.log_loss(Y, model.oof_prediction_)
        epochs = [np.argmax(scores) for scores in model.validation_scores_]
        losses = [np.argmin(history["validation_loss"]) for history in model.history_]
        assert epochs == losses
    else:
        expected = sklearn.metrics.accuracy_score(Y[known], guess)
    assert model.oof_score_ == pytest.approx(expected, rel=1e-9)


def test_sparse_rows_and_rows_in_single_precision():
    rows = X * (np.abs(X) > 0.4)
    dense = MLPClassifier(**MEMBERS).fit(rows, Y)
    sparse = MLPClassifier(**MEMBERS).fit(sp.csr_array(rows), Y)
    np.testing.assert_allclose(sparse.oof_prediction_, dense.oof_prediction_, rtol=1e-8)
    single = MLPClassifier(**MEMBERS).fit(rows.astype("float32"), Y)
    np.testing.assert_allclose(single.oof_prediction_, dense.oof_prediction_, atol=0.02)
    assert single.oof_prediction_.dtype == "float64" and single.coefs_[0].dtype == "float32"


def test_few_rows_are_held_out_by_several_members():
    some = np.r_[:3, 50:53, 100]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The least populated class")
        model = MLPClassifier(**{**MEMBERS, "n_members": 5, "batch_size": 4}).fit(X[some], Y[some])
    assert np.isfinite(model.oof_prediction_).all()
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"needs four rows, got n_samples={n}"):
            MLPRegressor(**MEMBERS).fit(X_REG[:n], Y_REG[:n])


def test_rows_given_to_fit_are_validated_on_by_all():
    model = MLPClassifier(**MEMBERS).fit(X[::2], Y[::2], X_val=X[1::2], y_val=Y[1::2])
    for m in range(4):
        proba = softmax(scores_of(model, m, X[1::2]))
        best = -model.best_validation_score_[m]
        assert best == pytest.approx(sklearn.metrics.log_loss(Y[1::2], proba), rel=1e-9)
    assert not hasattr(model, "oof_prediction_")


def test_what_is_not_for_members():
    with pytest.raises(ValueError, match="early_stopping='members'"):
        MLPClassifier(**MEMBERS).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="early_stopping"):
        Autoencoder(early_stopping="members").fit(X)
    model = MLPClassifier(**MEMBERS).fit(X, Y).set_params(early_stopping=False).fit(X, Y)
    assert not hasattr(model, "oof_score_")


# The metrics of a stack


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["classes", "labels", "two"])
def test_accuracies_are_scikit_learn_s(kind, weighted):
    M, n, k = 3, 40, 1 if kind == "two" else 3
    y, predicted = RNG.randint(2, size=(M, n, k)), RNG.rand(M, n, k)
    y = np.eye(k, dtype=int)[RNG.randint(k, size=(M, n))] if kind == "classes" else y
    w = RNG.rand(M, n) if weighted else np.ones((M, n))
    w[0, 30:] = 0.0
    metric = accuracy_of_classes if kind == "classes" else accuracy_of_labels
    for m, score in enumerate(metric(y, predicted, w)):
        rows = slice(30 if m == 0 else n)
        if kind == "classes":
            pair = y[m, rows].argmax(axis=1), predicted[m, rows].argmax(axis=1)
        else:
            pair = y[m, rows], predicted[m, rows] > 0.5
        expected = sklearn.metrics.accuracy_score(*pair, sample_weight=w[m, rows])
        assert score == (pytest.approx(expected, rel=1e-12) if weighted else expected)


@pytest.mark.parametrize("k", [1, 3])
def test_r2_is_scikit_learn_s(k):
    y, predicted, w = RNG.randn(4, 30, k), RNG.randn(4, 30, k), RNG.rand(4, 30)
    y[1] = 2.0  # nothing to explain
    y[2] = predicted[2] = 3.0
    w[3, 20:] = 0.0
    for m, score in enumerate(r2_scores(y, predicted, w)):
        expected = sklearn.metrics.r2_score(y[m], predicted[m], sample_weight=w[m])
        assert score == pytest.approx(expected, rel=1e-12)


@targets
def test_scores_of_a_stack_are_those_of_score(target):
    """What the metrics say of the split-off rows is what ``score`` says of them."""
    model = MLPClassifier(**{**MEMBERS, "early_stopping": True}, solver="sgd").fit(X, target)
    fit = Fit(clone(model), X, target)
    fit.begin()
    rows = fit.problem.validation[0].rows
    fit.close()
    for m in range(4):
        alone = clone(model).set_params(n_members=1, early_stopping=False, max_iter=1)
        alone.fit(X, target)
        alone.coefs_ = [W[m] for W in model.coefs_]
        alone.intercepts_ = [b[m] for b in model.intercepts_]
        assert alone.score(X[rows], target[rows]) == model.best_validation_score_[m]


# Smoothing that predictions undo


def unsmoothed(q, s, k):
    p = np.maximum((q - s / k) / (1 - s), 0.1 * s / k)
    return p / p.sum(axis=1, keepdims=True)


@targets
@pytest.mark.parametrize("n_members", [1, 3])
def test_smoothing_is_undone_by_its_formula(target, n_members, backend):
    """Training is the same, bit by bit; of each label by itself its opposite has the rest."""
    s, params = (
        0.3,
        {**COMMON, "n_members": n_members, "max_iter": 60, "batch_size": 150, "backend": backend},
    )
    kept, undone = (
        MLPClassifier(regularizers=[LabelSmoothing(s, undone=u)], **params).fit(X, target)
        for u in (False, True)
    )
    for one, other in zip(kept.coefs_, undone.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    expected = np.zeros((len(X), 3 if target.max() > 1 or target.ndim > 1 else 2))
    for m in range(n_members):
        raw = scores_of(kept, m, X) if n_members > 1 else _scores(kept, X)
        if target is Y:
            expected += unsmoothed(softmax(raw), s, 3)
            continue
        q, k = 1 / (1 + np.exp(-raw)), max(2, raw.shape[1])
        p = np.maximum((q - s / k) / (1 - s), 0.1 * s / k)
        rest = np.maximum((1 - q - s * (k - 1) / k) / (1 - s), 0.1 * s * (k - 1) / k)
        p = p / (p + rest)
        expected += p if k == 3 else np.c_[1 - p, p]
    np.testing.assert_allclose(undone.predict_proba(X), expected / n_members, rtol=1e-7)
    # The floor is reached, and no class is another's.
    assert undone.predict_proba(X).min() < s / 10 < kept.predict_proba(X).min()
    if n_members == 1:
        np.testing.assert_array_equal(undone.predict(X), kept.predict(X))


def _scores(model, X):
    (W, V), (b, c) = model.coefs_, model.intercepts_
    return np.tanh(X @ W + b) @ V + c


@targets
def test_validation_is_of_what_is_predicted(target, backend):
    smoothing = [LabelSmoothing(0.2, undone=True)]
    params = {**COMMON, "early_stopping": "members", "n_members": 1, "dtype": "float32"}
    model = MLPClassifier(regularizers=smoothing, backend=backend, **params)
    model.fit(X[::2], target[::2], X_val=X[1::2], y_val=target[1::2])
    p, y = model.predict_proba(X[1::2]), target[1::2]
    if y.ndim > 1:
        loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1).mean()
    else:
        loss = sklearn.metrics.log_loss(y, p)
    assert min(model.history_["validation_loss"]) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("amount", [0.0, 1e-6, 0.9])
def test_any_amount_is_undone_to_probabilities(amount):
    model = MLPClassifier(regularizers=[LabelSmoothing(amount, undone=True)], **COMMON)
    p = model.fit(X, Y).predict_proba(X)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


def test_scores_without_probabilities_stay():
    kept, undone = (
        MLPClassifier(loss="hinge", regularizers=[LabelSmoothing(0.2, undone=u)], **COMMON)
        for u in (False, True)
    )
    np.testing.assert_array_equal(
        undone.fit(X, Y).decision_function(X), kept.fit(X, Y).decision_function(X)
    )


def test_networks_of_layers_have_them_too():
    net = NetworkClassifier(
        **{k: v for k, v in MEMBERS.items() if k not in ("hidden_layer_sizes", "activation")}
    )
    assert net.fit(X, Y).oof_score_ > 0.8
    net = NetworkRegressor(early_stopping="members", n_members=2, random_state=0, max_iter=20)
    assert net.fit(X_REG, Y_REG).oof_prediction_.shape == Y_REG.shape
