"""What the lectures show by example, shown with the estimators."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep.activations import ACTIVATIONS
from skdeep.datasets import make_xor
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier, MLPRegressor

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# A neuron by hand


def test_neuron_by_hand(backend):
    """Bias 1 and weights (3, -2): the input (-1, 2) has the score -6, and sigmoid(-6) = 0.002."""
    x = np.array([[-1.0, 2.0]])
    neuron = LogisticRegression(max_iter=1, backend=backend).fit([[0, 0], [1, 1]], [0, 1])
    neuron.coef_, neuron.intercept_ = np.array([[3.0, -2.0]]), np.array([1.0])
    assert neuron.decision_function(x) == pytest.approx(-6)
    assert neuron.predict_proba(x)[0, 1] == pytest.approx(1 / (1 + np.exp(6)))
    assert neuron.predict_proba(x)[0, 1].round(3) == 0.002 and neuron.predict(x) == 0


def test_threshold_unit_by_hand():
    """The same neuron that fires or does not; one at the threshold fires."""
    fires, _ = ACTIVATIONS["step"].forward(np, np.array([-6.0, 0.0, 0.5]))
    assert fires.tolist() == [0.0, 1.0, 1.0]


def test_net_for_exclusive_or_by_hand(backend):
    """x or y, but not both: the hidden units are the sum, and what of it exceeds one."""
    X, y = make_xor(4, noise=0)
    net = MLPRegressor(hidden_layer_sizes=2, max_iter=1, backend=backend).fit(X, y)
    net.coefs_ = [np.ones((2, 2)), np.array([[1.0], [-2.0]])]
    net.intercepts_ = [np.array([0.0, -1.0]), np.zeros(1)]
    np.testing.assert_array_equal(net.predict(X), y)


# What one neuron cannot, and one hidden layer can


def test_neuron_cannot_learn_exclusive_or(backend):
    X, y = make_xor(4, noise=0)
    for seed in range(20):
        model = Perceptron(random_state=seed, tol=None, max_iter=100, backend=backend).fit(X, y)
        assert model.score(X, y) <= 0.75
    assert LogisticRegression(backend=backend).fit(X, y).score(X, y) <= 0.75


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": 4, "activation": "tanh", "solver": "lbfgs"},
        {"hidden_layer_sizes": 6, "activation": "logistic", "solver": "lbfgs"},
        {"hidden_layer_sizes": 8, "activation": "relu", "solver": "lbfgs"},
    ],
    ids=lambda params: params["activation"],
)
def test_hidden_layer_learns_exclusive_or(params):
    X, y = make_xor(4, noise=0)
    nets = [MLPClassifier(random_state=seed, **params).fit(X, y) for seed in range(20)]
    assert [net.score(X, y) for net in nets] == [1.0] * 20


def test_linear_layers_are_one_layer():
    """Without non-linearities depth is of no use: three layers learn no more than a neuron."""
    X, y = make_xor(4, noise=0)
    net = MLPClassifier((8, 8), "identity", solver="lbfgs", random_state=0).fit(X, y)
    assert net.score(X, y) <= 0.75


# The perceptron converges where a hyperplane separates


def separable(margin, n_samples=200):
    rng = np.random.RandomState(0)
    direction = np.array([0.6, -0.8])
    X = rng.uniform(-1, 1, (n_samples, 2))
    y = X @ direction > 0.1
    return X + margin * np.where(y, 1, -1)[:, None] * direction, y


@pytest.mark.parametrize("margin", [0.02, 0.2])
def test_perceptron_converges_on_separable_data(margin, backend):
    X, y = separable(margin)
    model = Perceptron(tol=None, max_iter=300, random_state=0, backend=backend).fit(X, y)
    assert model.score(X, y) == 1.0
    # Nothing is left to correct: another pass moves nothing.
    before = model.coef_.copy(), model.intercept_.copy()
    model.partial_fit(X, y)
    np.testing.assert_array_equal(model.coef_, before[0])
    np.testing.assert_array_equal(model.intercept_, before[1])


def test_perceptron_never_settles_otherwise():
    X, y = make_xor(4, noise=0)
    model = Perceptron(tol=None, max_iter=300, random_state=0).fit(X, y)
    assert max(model.partial_fit(X, y).score(X, y) for _ in range(50)) <= 0.75
    # Row by row it runs in a circle: each pass corrects some and spoils others.
    moves = []
    for row, label in zip(X, y, strict=True):
        before = model.coef_.copy(), model.intercept_.copy()
        model.partial_fit(row[None], [label])
        moves.append(np.any(model.coef_ != before[0]) or np.any(model.intercept_ != before[1]))
    assert any(moves)


# Iris


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_iris_by_ten_fold_cross_validation(activation):
    X, y = load_iris(return_X_y=True)
    net = MLPClassifier(10, activation, solver="lbfgs", alpha=3.0, random_state=0, max_iter=100)
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    assert cross_val_score(make_pipeline(StandardScaler(), net), X, y, cv=folds).mean() >= 0.96


# Universal approximation


def hinges(rng, fan_in, fan_out, activation):
    """ReLUs that open to either side, one somewhere in each of as many parts of [-3, 3]."""
    if fan_in > 1:
        return np.zeros((fan_in, fan_out)), np.zeros(fan_out)
    side = rng.choice([-1.0, 1.0], fan_out)
    places = 6 * (np.arange(fan_out) + rng.rand(fan_out)) / fan_out - 3
    return side[None], -side * places


CURVES = {  # and the largest second derivatives on [-3, 3]
    "sin t": (np.sin, 1.0),
    "sin 3t": (lambda t: np.sin(3 * t), 9.0),
    "exp t": (np.exp, np.exp(3)),
}


@pytest.mark.parametrize("units", [10, 20, 40, 80])
@pytest.mark.parametrize("f, bend", CURVES.values(), ids=CURVES)
def test_sums_of_relus_approximate_curves_the_better_the_wider(f, bend, units, backend):
    """Lines between places at most h apart err by h² / 8 times the second derivative at most.

    A sum of ReLUs that open there can be those lines, and fitted to least squares it is no worse.
    """
    x, between = (np.linspace(-3, 3, n)[:, None] for n in (600, 5001))
    for seed in range(3):
        net = MLPRegressor(
            hidden_layer_sizes=units,
            solver="lm",
            alpha=0.0,
            weight_init=hinges,
            max_iter=20,
            random_state=seed,
            backend=backend,
        ).fit(x, f(x[:, 0]))
        error = np.sqrt(np.mean((net.predict(between) - f(between[:, 0])) ** 2))
        assert error < bend * (12 / units) ** 2 / 8


def test_what_can_be_approximated_need_not_be_found():
    """From scikit-learn's initial weights ReLUs open near zero: training misses the outer waves."""
    x = np.linspace(-3, 3, 200)[:, None]
    wave = np.sin(3 * x[:, 0])
    for seed in range(3):
        wide = MLPRegressor(hidden_layer_sizes=80, solver="lm", alpha=0.0, random_state=seed)
        assert np.abs(wide.fit(x, wave).predict(x) - wave).max() > 0.4


# Pre-training


def test_example_of_pretraining_shows_its_lesson(capsys):
    """Six saturating layers hardly learn when begun at random, and do from autoencoders."""
    accuracies = runpy.run_path(str(ROOT / "examples" / "pretraining.py"))["main"](["--seeds", "2"])
    assert max(accuracies["random"]) < 0.7 < 0.85 < min(accuracies["denoising autoencoders"])
    assert "vanishes" in capsys.readouterr().out
