"""A ConvergenceWarning comes exactly where a stopping rule is not met, as seen from outside.

The rule is checked by its formula in NumPy on what the fit left: the gradient of the objective for
solvers that minimise it, the curve of losses for those that go through epochs.
"""

import warnings
from functools import cache

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.datasets import load_breast_cancer, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.problem import Result


@cache
def data(n_classes):
    return make_classification(
        150, 6, n_informative=4, n_redundant=0, n_classes=n_classes, flip_y=0.2, random_state=5
    )


def fit(model, X, y, **params):
    """Fit, and say whether it warned, which must be of this line."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.fit(X, y, **params)
    found = [warning for warning in record if issubclass(warning.category, ConvergenceWarning)]
    assert all(warning.filename == __file__ for warning in found)
    return bool(found)


# Solvers that minimise: the largest entry of the gradient, or of the subgradient of least norm


def steepest(gradient, parameter, l1):
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - l1, 0.0)
    return np.abs(np.where(parameter == 0, at_zero, gradient + l1 * np.sign(parameter))).max()


def residuals(coef, intercept, X, codes):
    """Derivatives of the loss with respect to the scores, one column for two classes."""
    scores = X @ coef.T + intercept
    if scores.shape[1] == 1:
        return expit(scores) - codes[:, None]
    return softmax(scores, axis=1) - (codes[:, None] == np.arange(scores.shape[1]))


def slope(coef, intercept, X, codes, C, l1_ratio=0.0, weight=None, scaling=None):
    """Largest entry of the subgradient; ``scaling`` is that of an intercept with a penalty."""
    weight = np.ones(len(X)) if weight is None else weight
    residual = residuals(coef, intercept, X, codes) * (weight / weight.sum())[:, None]
    strength = 1.0 / (C * weight.sum())
    l1, l2 = l1_ratio * strength, (1.0 - l1_ratio) * strength
    at_coef = steepest(residual.T @ X + l2 * coef, coef, l1)
    if scaling is None:
        return max(at_coef, np.abs(residual.sum(axis=0)).max())
    at_intercept = residual.sum(axis=0) + l2 * intercept / scaling**2
    return max(at_coef, steepest(at_intercept, intercept, l1 / scaling))


MINIMISERS = [
    ("lbfgs", {}),
    ("lbfgs", {"C": np.inf}),
    ("newton-cg", {}),
    ("newton-cg", {"C": np.inf}),
    ("newton-cholesky", {}),
    ("sag", {}),
    ("saga", {"l1_ratio": 1.0}),
    ("saga", {"l1_ratio": 0.3, "C": 0.1}),
    ("liblinear", {}),
    ("liblinear", {"l1_ratio": 1.0, "intercept_scaling": 3.0}),
    ("liblinear", {"dual": True}),
]
ITERATIONS = (1, 2, 3, 5, 8, 100)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver, params", MINIMISERS, ids=str)
def test_logistic_regression_warns_above_its_tolerance(
    solver, params, n_classes, container, weighted, backend
):
    liblinear = solver == "liblinear"
    if liblinear and n_classes > 2:
        pytest.skip("liblinear has no multinomial loss")
    X, y = data(n_classes)
    weight = np.random.RandomState(1).randint(0, 4, len(y)) / 2 if weighted else None
    outcomes = set()
    for tol in (1e-1, 1e-3, 1e-8):
        bound = tol
        if liblinear:
            # liblinear's rule: relative to the gradient at zero and the share of the rarer class.
            w = np.full(len(y), 1 / len(y)) if weight is None else weight / weight.sum()
            bound = tol * np.abs((w * (0.5 - y)) @ X).max() * min(np.bincount(y)) / len(y)
        for max_iter in ITERATIONS:
            model = LogisticRegression(
                solver=solver, tol=tol, max_iter=max_iter, backend=backend, **params
            )
            warned = fit(model, container(X), y, sample_weight=weight)
            size = slope(
                *(model.coef_, model.intercept_, X, y, model.C, model.l1_ratio, weight),
                scaling=model.intercept_scaling if liblinear else None,
            )
            assert warned == (size > bound), (tol, max_iter, size)
            assert model.n_iter_[0] <= max_iter
            outcomes.add(warned)
    assert outcomes == {False, True}


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"])
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine], ids=lambda load: load.__name__)
def test_so_it_is_on_unscaled_features(load, solver):
    X, y = load(return_X_y=True)
    outcomes = set()
    for max_iter in (2, 5, 10, 15, 20, 25, 30, 100):
        model = LogisticRegression(solver=solver, max_iter=max_iter)
        warned = fit(model, X, y)
        assert warned == (slope(model.coef_, model.intercept_, X, y, model.C) > model.tol)
        outcomes.add(warned)
    assert outcomes == {False, True}


@pytest.mark.parametrize("solver, ratios", [("lbfgs", [0.0]), ("saga", [0.0, 0.5])], ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_cross_validation_warns_if_a_model_is_above_its_tolerance(
    n_classes, solver, ratios, backend
):
    X, y = data(n_classes)
    Cs, folds = [0.01, 100.0], list(StratifiedKFold(3).split(X, y))
    outcomes = set()
    for tol in (1e-2, 1e-8):
        for max_iter in ITERATIONS:
            model = LogisticRegressionCV(
                Cs=Cs,
                l1_ratios=ratios,
                cv=folds,
                solver=solver,
                tol=tol,
                max_iter=max_iter,
                scoring="neg_log_loss",
                use_legacy_attributes=False,
                backend=backend,
            )
            warned = fit(model, X, y)
            sizes = [slope(model.coef_, model.intercept_, X, y, model.C_, model.l1_ratio_)]
            for (fold, ratio, C), _ in np.ndenumerate(model.scores_):
                theta, (train, _) = model.coefs_paths_[fold, ratio, C], folds[fold]
                sizes.append(
                    slope(theta[:, :-1], theta[:, -1], X[train], y[train], Cs[C], ratios[ratio])
                )
            assert warned == (max(sizes) > tol), (tol, max_iter, sizes)
            outcomes.add(warned)
    assert outcomes == {False, True}


@pytest.mark.parametrize("n_iter", [[10], [4], [4, 10, 3], [4, 3]], ids=str)
def test_more_iterations_are_advised_only_where_they_ran_out(n_iter):
    """A fit may also stop because no step lowers the objective."""
    M = len(n_iter)
    result = Result(
        theta=np.zeros((M, 3)),
        n_iter=np.array(n_iter),
        loss=np.ones(M),
        converged=np.zeros(M, dtype=bool),
    )
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge") as record:
        LogisticRegression(max_iter=10)._warn(result)
    message = str(record[0].message)
    assert f"after {max(n_iter)} iteration(s)" in message
    assert ("Increase the number of iterations" in message) == (max(n_iter) == 10)
    assert "You might also want to scale the data" in message


def network_slope(model, X, Y, output):
    """Largest entry of the gradient of a tanh network by backpropagation written out."""
    hidden = [X]
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        hidden.append(np.tanh(hidden[-1] @ W + b))
    raw = hidden[-1] @ model.coefs_[-1] + model.intercepts_[-1]
    delta, sizes = (output(raw) - Y) / len(X), []
    for i in reversed(range(len(model.coefs_))):
        gradient = hidden[i].T @ delta + model.alpha / len(X) * model.coefs_[i]
        sizes += [np.abs(gradient).max(), np.abs(delta.sum(axis=0)).max()]
        delta = (delta @ model.coefs_[i].T) * (1.0 - hidden[i] ** 2)
    return max(sizes)


@pytest.mark.parametrize("sizes", [(4,), (5, 3)], ids=str)
@pytest.mark.parametrize("kind", ["binary", "classes", "regression", "regression, lm"])
def test_network_warns_above_its_tolerance(kind, sizes, backend):
    X, y = data(3 if kind == "classes" else 2)
    X, Y, cls, output, solver = X / 3, y[:, None], MLPClassifier, expit, "lbfgs"
    if kind == "classes":
        Y, output = np.eye(3)[y], lambda raw: softmax(raw, axis=1)
    elif kind.startswith("regression"):
        Y, cls, output = X[:, :1] ** 2, MLPRegressor, lambda raw: raw
        y = Y[:, 0]
        solver = "lm" if kind.endswith("lm") else "lbfgs"
    outcomes = set()
    for tol in (1e-1, 1e-3):
        for max_iter in (1, 3, 10, 1000):
            model = cls(
                hidden_layer_sizes=sizes,
                activation="tanh",
                solver=solver,
                tol=tol,
                max_iter=max_iter,
                alpha=0.1,
                random_state=0,
                backend=backend,
            )
            warned = fit(model, X, y)
            # Levenberg and Marquardt's rule is on the square.
            bound = tol**2 if solver == "lm" else tol
            size = network_slope(model, X, Y, output)
            assert warned == (size > bound), (tol, max_iter, size)
            outcomes.add(warned)
    assert outcomes == {False, True}


# Solvers that go through epochs: too many of them without an improvement by tol


def met(values, tol, patience):
    """Whether ``patience`` epochs and one more lie without an improvement; losses fall."""
    best, stalled = np.inf, 0
    for value in values:
        stalled = stalled + 1 if value > best - tol else 0
        best = min(best, value)
        if stalled > patience:
            return True
    return False


X2, Y2 = data(2)
EPOCHS = {"n_iter_no_change": 3, "random_state": 0, "learning_rate_init": 0.02}
NETWORK = {"hidden_layer_sizes": (5,), **EPOCHS}
IN_EPOCHS = {
    "MLPClassifier, adam": (MLPClassifier(**NETWORK), Y2),
    "MLPClassifier, sgd": (MLPClassifier(**NETWORK, solver="sgd"), Y2),
    "MLPClassifier, early stopping": (MLPClassifier(**NETWORK, early_stopping=True), Y2),
    "MLPRegressor, adamw": (MLPRegressor(**NETWORK, solver="adamw"), X2[:, 0]),
    "Autoencoder": (Autoencoder(**NETWORK), X2),
    "Autoencoder, rmsprop": (Autoencoder(**NETWORK, solver="rmsprop"), X2),
    "LogisticRegression, adam": (LogisticRegression(solver="adam", **EPOCHS), Y2),
    "LogisticRegression, sgd": (LogisticRegression(solver="sgd", **EPOCHS), Y2),
}


@pytest.mark.parametrize("model, y", IN_EPOCHS.values(), ids=IN_EPOCHS)
def test_training_warns_while_it_improves(model, y, backend):
    model = type(model)(**{**model.get_params(), "backend": backend})
    # Where the rule is met in the last epoch that is allowed, it is met.
    last = int(np.max(fit_to_the_end(model, y).n_iter_))
    outcomes = []
    for max_iter in (1, last - 1, last, last + 1):
        warned = fit(model.set_params(max_iter=max_iter), X2, y)
        values = model.loss_curve_
        if getattr(model, "early_stopping", False):
            values = [-score for score in model.validation_scores_]
        assert warned == (not met(values, model.tol, model.n_iter_no_change)), max_iter
        outcomes.append(warned)
    assert outcomes == [True, True, False, False]


def fit_to_the_end(model, y):
    model.set_params(tol=1e-2, max_iter=500)
    assert not fit(model, X2, y)
    return model


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"n_iter_no_change": 2}], ids=str)
def test_perceptron_warns_when_it_uses_all_epochs(params, n_classes, backend):
    """As scikit-learn's, even if the rule was met in the last of them; never without a rule."""
    X, y = data(n_classes)
    model = Perceptron(**params, random_state=0, backend=backend)
    assert not fit(model, X, y)
    last = model.n_iter_
    assert last < model.max_iter
    assert fit(model.set_params(max_iter=last - 1), X, y)
    assert fit(model.set_params(max_iter=last), X, y)
    assert not fit(model.set_params(max_iter=last + 1), X, y)
    assert not fit(model.set_params(max_iter=2, tol=None), X, y)
