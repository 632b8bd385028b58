"""What the multi-layer perceptrons add to scikit-learn's: each parameter does what it says."""

import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.neural_network
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep import fit_many, losses, network
from skdeep.activations import ACTIVATIONS, ELU, LeakyReLU
from skdeep.backends import get_backend
from skdeep.initializers import INITIALIZERS, Normal
from skdeep.layers import Dense, Dropout
from skdeep.neural_network import MLPClassifier, MLPRegressor, NetworkClassifier
from skdeep.neural_network.parameters import OF_NUMBERS
from skdeep.optimizers import OPTIMIZERS, Optimizer
from skdeep.rates import NTK, RATES
from skdeep.regularization import LabelSmoothing
from skdeep.schedules import Cosine, Exponential, FlatCosine, OneCycle, Plateau, Progress
from skdeep.schedules import Step as StepSchedule
from skdeep.solvers.minibatch.step import Step
from skdeep.stochastic import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
BINARY = (Y == 1).astype(int)
X_REG, Y_REG = make_regression(n_samples=90, n_features=4, noise=1.0, random_state=0)
Y_REG = Y_REG / Y_REG.std()
SMALL = {"hidden_layer_sizes": (7, 5), "max_iter": 4, "batch_size": 32, "random_state": 0}
SMALL["learning_rate_init"] = 0.01


def classifier(**params):
    return MLPClassifier(**{**SMALL, **params})


def regressor(**params):
    return MLPRegressor(**{**SMALL, **params})


def numbers(model):
    """Everything that prediction depends on, as one vector."""
    names = ("coefs_", "intercepts_", "scales_", "running_means_", "running_variances_")
    return np.concatenate([a.ravel() for name in names for a in getattr(model, name, [])])


def start(model, data=X, y=Y):
    """The weights and intercepts that training starts from: those after steps of no length."""
    model = clone(model).set_params(solver="sgd", learning_rate_init=1e-300, max_iter=1)
    model.fit(data, y)
    return model.coefs_, model.intercepts_


def assert_close(got, expected, rtol=1e-8, atol=1e-10):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def draw_ones(rng, fan_in, fan_out, activation):
    return np.full((fan_in, fan_out), 0.5), np.full(fan_out, 0.25 if activation == "relu" else 0.5)


def by_depth(parameter):
    return 0.5**parameter.layer


def halve(lr0, progress):
    return lr0 * 0.5**progress.epoch + 0.0 * progress.step


def absolute(raw, y):
    return (raw - y).abs().sum(-1)


def cross_entropy(raw, y):
    return -(y * raw.log_softmax(-1)).sum(-1)


def macro_recall(estimator, X, y):
    assert len(X) == len(y), "a scorer gets the rows that it scores"
    predicted = estimator.predict(X)
    return np.mean([(predicted[y == k] == k).mean() for k in np.unique(y)])


CLASSIFIERS = {
    "weight_init": {"weight_init": "he_normal"},
    "weight_init of one's own": {"weight_init": draw_ones, "dropout": 0.2},
    "layer_rates": {"weight_init": "ntk", "layer_rates": "ntk"},
    "layer_rates of one's own": {"layer_rates": by_depth, "solver": "sgd", "n_members": 2},
    "dropout": {"dropout": 0.3},
    "dropout per layer": {"dropout": [0.3, 0.0]},
    "dropout of the input": {"dropout": [0.2, 0.3, 0.1]},
    "dropout_schedule": {"dropout": [0.3, 0.0], "dropout_schedule": "flat_cosine"},
    "dropout_schedule of one's own": {
        "dropout": 0.5,
        "dropout_schedule": halve,
        "n_members": 2,
        "batch_norm": True,
    },
    "batch_norm": {"batch_norm": True},
    "batch_norm and dropout": {"batch_norm": True, "dropout": 0.2},
    "label_smoothing": {"label_smoothing": 0.1},
    "l1_ratio": {"l1_ratio": 0.5, "alpha": 0.1},
    "clip_norm": {"clip_norm": 0.1, "solver": "sgd"},
    "max_norm": {"max_norm": 0.8},
    "class_weight": {"class_weight": {1: 3.0, 2: 0.5}},
    "hinge": {"loss": "hinge"},
    "squared_error": {"loss": "squared_error"},
    "step": {"learning_rate": StepSchedule(2.0, 1)},
    "plateau": {"learning_rate": "plateau", "solver": "sgd", "early_stopping": True},
    "cosine": {"learning_rate": "cosine"},
    "one_cycle": {"learning_rate": "one_cycle", "solver": "rmsprop"},
    "exponential": {"learning_rate": "exponential", "solver": "adamw"},
    "schedule of one's own": {"learning_rate": halve, "solver": "adagrad"},
    "activation": {"activation": LeakyReLU(0.2), "solver": "adadelta", "learning_rate_init": 1.0},
    "activations": {"activation": ["mish", ELU(0.5)]},
    "early_stopping": {"early_stopping": True, "scoring": "neg_log_loss"},
    "n_members": {"n_members": 3},
    "members that hold out": {"n_members": 3, "early_stopping": "members"},
    "smoothing undone": {"regularizers": [LabelSmoothing(0.1, undone=True)], "n_members": 2},
    "n_members with all": {
        "n_members": 2,
        "dropout": [0.1, 0.2, 0.0],
        "batch_norm": True,
        "label_smoothing": 0.1,
        "max_norm": 1.0,
        "clip_norm": 1.0,
        "l1_ratio": 0.5,
        "early_stopping": True,
    },
}


def plain(value) -> str:
    """An id that every worker of a parallel run gives: without the addresses of functions."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


every = pytest.mark.parametrize("params", CLASSIFIERS.values(), ids=CLASSIFIERS)


# The same for every parameter


@every
def test_torch_agrees_with_numpy(params):
    pytest.importorskip("torch")
    one, other = (classifier(backend=b, **params).fit(X, Y) for b in ("numpy", "torch"))
    assert_close(numbers(other), numbers(one))
    assert_close(other.loss_curve_, one.loss_curve_)
    assert_close(other._predict_raw(X), one._predict_raw(X))


@every
def test_the_parameter_changes_the_fit(params):
    base = {"solver": "adam"} | {k: v for k, v in params.items() if k in ("solver", "alpha")}
    plain = classifier(**base).fit(X, Y)
    assert not np.array_equal(classifier(**params).fit(X, Y)._predict_raw(X), plain._predict_raw(X))


@every
def test_predictions_draw_nothing(params, backend):
    model = classifier(backend=backend, **params).fit(X, Y)
    before = pickle.dumps(numbers(model))
    first = model._predict_raw(X)
    np.testing.assert_array_equal(model._predict_raw(X), first)
    # Row by row, too: no statistic is taken over the rows of a prediction.
    assert_close(np.concatenate([model._predict_raw(row[None]) for row in X[:5]]), first[:5])
    assert pickle.dumps(numbers(model)) == before


@every
def test_clone_and_pickle(params):
    model = classifier(**params)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    fitted = copy.fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again._predict_raw(X), fitted._predict_raw(X))
    # Going on from the pickle is going on from the original: dropout's generator is in it.
    if not params.get("early_stopping"):
        np.testing.assert_array_equal(
            numbers(again.partial_fit(X, Y)), numbers(fitted.partial_fit(X, Y))
        )


@every
def test_partial_fit_is_an_epoch_of_fit(params):
    """Without shuffling, epochs made by one call or by several are the same epochs."""
    params = {**params, "early_stopping": False}
    # The stopping rule is fit's alone, and a plateau is no part of this.
    params = {**params, "shuffle": False, "n_iter_no_change": np.inf, "tol": 0.0}
    whole = classifier(**params).fit(X, Y)
    pieces = classifier(**params).partial_fit(X, Y, classes=np.unique(Y))
    for _ in range(3):
        pieces.partial_fit(X, Y)
    assert_close(numbers(pieces), numbers(whole))
    assert_close(pieces.loss_curve_, whole.loss_curve_)


@every
def test_warm_start_goes_on_from_the_weights(params):
    # Steps of no length leave the weights where the first fit left them, but for the norms' bound.
    model = classifier(warm_start=True, **params).fit(X, Y)
    before = [W.copy() for W in model.coefs_]
    model.set_params(solver="sgd", learning_rate_init=1e-300, max_iter=2).fit(X, Y)
    for W, W_before in zip(model.coefs_, before, strict=True):
        assert_close(W, W_before)
    # The curve goes on, as scikit-learn's does.
    curves = model.loss_curve_ if model.n_members > 1 else [model.loss_curve_]
    assert {len(curve) for curve in curves} == {6}


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": [0.0, 0.0], "batch_norm": False},
        {"dropout": np.zeros(3)},
        {"dropout_schedule": "coslog4"},
        {"clip_norm": 1e30, "max_norm": 1e30},
        {"class_weight": {0: 1.0, 1: 1.0, 2: 1.0}},
        {"weight_init": "auto", "label_smoothing": 0.0, "l1_ratio": 0.0},
        {"activation": ["relu", "relu"]},
        {"activation": ACTIVATIONS["relu"]},
        {"loss": losses.LOSSES["log_loss"]},
    ],
    ids=plain,
)
def test_what_is_off_changes_no_bit(params, backend):
    plain = classifier(backend=backend).fit(X, Y)
    np.testing.assert_array_equal(
        numbers(classifier(backend=backend, **params).fit(X, Y)), numbers(plain)
    )
    reference = sklearn.neural_network.MLPClassifier(**SMALL).fit(X, Y)
    for got, expected in zip(plain.coefs_, reference.coefs_, strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize(
    "params", [v for v in CLASSIFIERS.values() if "early_stopping" not in v], ids=plain
)
def test_sparse_rows_are_the_dense_ones(params, backend):
    rows = X * (np.abs(X) > 0.4)
    dense = classifier(backend=backend, **params).fit(rows, Y)
    for kind in (sp.csr_array, sp.csc_matrix):
        sparse = classifier(backend=backend, **params).fit(kind(rows), Y)
        assert_close(numbers(sparse), numbers(dense))
        assert_close(sparse._predict_raw(kind(rows)), dense._predict_raw(rows))


def test_pipeline_and_search(backend):
    pipe = make_pipeline(StandardScaler(), classifier(backend=backend, max_iter=15))
    grid = {
        "mlpclassifier__hidden_layer_sizes": [3, (8, 8)],
        "mlpclassifier__dropout": [0.0, [0.0, 0.1]],
    }
    search = GridSearchCV(pipe, grid, cv=2, error_score=np.nan).fit(X, Y)
    scores = dict(
        zip(
            [str(sorted(p.items())) for p in search.cv_results_["params"]],
            search.cv_results_["mean_test_score"],
            strict=True,
        )
    )
    # A list of two rates is an input's and a layer's of one layer, two layers' of two.
    assert len(scores) == 4 and np.isfinite(list(scores.values())).all()
    for params in (
        {"batch_norm": [False, True]},
        {"weight_init": ["he_normal", draw_ones]},
        {"activation": ["tanh", LeakyReLU(0.1), ["tanh", "relu"]]},
        {"learning_rate": ["constant", OneCycle(warmup=0.5), halve]},
        {"n_members": [1, 2]},
        {"class_weight": [None, "balanced", {0: 2.0}]},
    ):
        params = {f"mlpclassifier__{name}": values for name, values in params.items()}
        found = GridSearchCV(pipe, params, cv=2, error_score="raise").fit(X, Y)
        assert found.best_score_ > 1 / 3


# Initial weights


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initial_weights(name, backend):
    rng, sizes = np.random.RandomState(0), (4, 7, 5, 3)
    coefs, intercepts = start(classifier(weight_init=name, backend=backend))
    for W, b, *fans in zip(coefs, intercepts, sizes, sizes[1:], strict=False):
        draw = INITIALIZERS[name]
        draw = getattr(draw, "output", draw) if fans[1] == 3 else draw
        W_drawn, b_drawn = draw(rng, *fans, "relu")
        np.testing.assert_allclose(W, W_drawn, rtol=1e-15, atol=1e-200)
        np.testing.assert_allclose(b, b_drawn, rtol=1e-15, atol=1e-200)


def test_initial_weights_of_ones_own(backend):
    coefs, intercepts = start(classifier(weight_init=draw_ones, backend=backend))
    assert all((W == 0.5).all() for W in coefs) and all((b == 0.25).all() for b in intercepts)
    coefs, _ = start(classifier(weight_init=Normal(3.0), hidden_layer_sizes=400, backend=backend))
    assert coefs[0].std() == pytest.approx(3.0, rel=0.1)


def test_initializer_gets_the_name_of_each_activation():
    names = []

    def draw(rng, fan_in, fan_out, activation):
        names.append(activation)
        return draw_ones(rng, fan_in, fan_out, activation)

    classifier(weight_init=draw, activation=["tanh", "elu"]).fit(X, Y)
    assert names == ["tanh", "elu", "elu"]


# Regularisation


def test_max_norm_holds_after_training(backend):
    model = classifier(max_norm=0.5, max_iter=10, backend=backend).fit(X, Y)
    lengths = np.concatenate([np.linalg.norm(W, axis=0) for W in model.coefs_])
    assert lengths.max() <= 0.5 * (1 + 1e-12)
    free = classifier(max_iter=10, backend=backend).fit(X, Y)
    assert max(np.linalg.norm(W, axis=0).max() for W in free.coefs_) > 0.6


def test_clip_norm_bounds_a_step(backend):
    """Plain gradient descent moves by the rate times the norm of the gradient."""
    one_step = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False, "max_iter": 1}
    one_step |= {"batch_size": len(X), "learning_rate_init": 0.5, "backend": backend}
    coefs, intercepts = start(classifier())
    before = np.concatenate([a.ravel() for a in (*coefs, *intercepts)])
    clipped = numbers(classifier(clip_norm=0.01, **one_step).fit(X, Y)) - before
    free = numbers(classifier(**one_step).fit(X, Y)) - before
    assert np.linalg.norm(clipped) == pytest.approx(0.5 * 0.01, rel=1e-8)
    assert np.linalg.norm(free) > 10 * np.linalg.norm(clipped)
    assert_close(clipped / np.linalg.norm(clipped), free / np.linalg.norm(free))


def test_l1_shrinks_more_weights_to_almost_nothing():
    fits = [
        classifier(l1_ratio=ratio, alpha=1.0, max_iter=60, hidden_layer_sizes=30).fit(X, Y)
        for ratio in (0.0, 1.0)
    ]
    ridge, lasso = ((np.abs(m.coefs_[0]) < 0.01).mean() for m in fits)
    assert lasso > ridge + 0.3


def test_l1_penalty_is_in_the_loss():
    one = {"batch_size": len(X), "l1_ratio": 0.25, "solver": "sgd", "alpha": 2.0}
    one["n_iter_no_change"] = 5
    model = classifier(learning_rate_init=1e-300, max_iter=1, **one).fit(X, Y)
    weights = np.concatenate([W.ravel() for W in model.coefs_])
    penalty = 2.0 * (0.25 * np.abs(weights).sum() + 0.75 * 0.5 * (weights**2).sum()) / len(X)
    assert model.loss_ == pytest.approx(log_loss(Y, model.predict_proba(X)) + penalty)


@pytest.mark.parametrize("factor", ["ntk", NTK(intercept=0.5), by_depth], ids=plain)
@pytest.mark.parametrize("solver", ["adam", "sgd", "rmsprop", "adagrad"])
def test_layer_rates_are_torch_s_parameter_groups(factor, solver, backend):
    """Five steps on all rows, in torch with a group of its own for each array."""
    torch = pytest.importorskip("torch")
    steps = {"alpha": 0.0, "batch_size": len(X), "max_iter": 5, "activation": "tanh"}
    own = {"momentum": 0.0, "nesterovs_momentum": False, "epsilon": 1e-3, "rho": 0.9}
    begin = classifier(learning_rate_init=1e-300, **{**steps, "max_iter": 1}).fit(X, Y)
    leaves, groups = [], []
    for i, arrays in enumerate(zip(begin.coefs_, begin.intercepts_, strict=True)):
        for role, array in zip(("weight", "intercept"), arrays, strict=True):
            parameter = SimpleNamespace(role=role, shape=array.shape, layer=2 * i)
            leaves.append(torch.tensor(array, requires_grad=True))
            lr = 0.05 * RATES.get(factor, factor)(parameter)
            groups.append({"params": [leaves[-1]], "lr": lr})
    optimizer = {
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "rmsprop": lambda groups: torch.optim.RMSprop(groups, alpha=0.9, eps=1e-3),
        "adagrad": lambda groups: torch.optim.Adagrad(groups, eps=1e-3),
    }[solver](groups)
    for t in range(1, 6):
        for group in optimizer.param_groups if solver == "adam" else ():
            group["eps"] = 1e-3 / (1 - 0.999**t) ** 0.5  # ours stands outside of a correction
        h = torch.tensor(X)
        for i in range(0, len(leaves), 2):
            h = (torch.tanh(h) if i else h) @ leaves[i] + leaves[i + 1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(h, torch.tensor(Y)).backward()
        optimizer.step()
    own |= {"solver": solver, "learning_rate_init": 0.05, "layer_rates": factor}
    model = classifier(backend=backend, **own, **steps).fit(X, Y)
    arrays = [*model.coefs_, *model.intercepts_]
    for got, expected in zip(arrays, leaves[::2] + leaves[1::2], strict=True):
        assert_close(got, expected.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("n_members", [1, 3])
def test_a_schedule_of_dropout_that_stays_is_none(n_members, backend):
    stays = classifier(dropout=[0.2, 0.4, 0.0], n_members=n_members, backend=backend)
    moves = clone(stays).set_params(dropout_schedule=lambda rate, progress: rate)
    np.testing.assert_array_equal(numbers(moves.fit(X, Y)), numbers(stays.fit(X, Y)))


def test_a_schedule_of_dropout_at_zero_is_no_dropout(backend):
    plain = classifier(shuffle=False, backend=backend)
    never = clone(plain).set_params(dropout=0.5, dropout_schedule=lambda rate, _: 0.0 * rate)
    np.testing.assert_array_equal(numbers(never.fit(X, Y)), numbers(plain.fit(X, Y)))


def test_units_are_dropped_as_the_schedule_has_it(backend, monkeypatch):
    """The zeros of the masks, counted; a layer's own dropout and a stack follow it too."""
    shares, masks = [], Step.masks

    def counted(step, batches):
        found = masks(step, batches)
        arrays = np.asarray(found[0])  # (S, M, n, units)
        shares.extend((arrays == 0).mean(axis=(2, 3)))
        return found

    monkeypatch.setattr(Step, "masks", counted)
    rates, schedule = (0.6, 0.3), FlatCosine(0.25)
    fit_many(
        [
            NetworkClassifier(
                [Dense(200, "tanh"), Dropout(rate)],
                dropout_schedule=schedule,
                max_iter=4,
                batch_size=75,
                random_state=0,
                backend=backend,
            )
            for rate in rates
        ],
        X,
        Y,
    )
    expected = [schedule(np.array(rates), Progress(i, 0, 0, 0, total=8)) for i in range(8)]
    np.testing.assert_allclose(shares, expected, rtol=0, atol=5 * 0.5 / np.sqrt(75 * 200))


def test_a_schedule_of_dropout_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"dropout_schedule must give rates in \[0, 1\)"):
        classifier(dropout=0.5, dropout_schedule=lambda rate, _: 2.0 * rate).fit(X, Y)


def test_an_initializer_may_have_its_own_for_the_output(backend):
    model = classifier(weight_init="ntk", learning_rate_init=1e-300, max_iter=1, backend=backend)
    model.fit(X, Y)
    assert max(np.abs(model.coefs_[-1]).max(), np.abs(model.intercepts_[-1]).max()) < 1e-200
    assert all(array.all() for array in (*model.coefs_[:-1], *model.intercepts_[:-1]))


def test_label_smoothing_is_a_mixture_of_targets():
    """The loss of smoothed labels is the mean of the losses of all labels, in those shares."""
    model = classifier(
        label_smoothing=0.3, alpha=0.0, batch_size=len(X), learning_rate_init=1e-300, max_iter=1
    ).fit(X, Y)
    log_p = model.predict_log_proba(X)
    expected = -0.7 * log_p[np.arange(len(Y)), Y].mean() - 0.3 * log_p.mean()
    assert model.loss_ == pytest.approx(expected)


def test_label_smoothing_tames_the_probabilities(backend):
    params = {"max_iter": 150, "backend": backend, "alpha": 0.0}
    sharp = classifier(**params).fit(X, Y).predict_proba(X).max(axis=1)
    smooth = classifier(label_smoothing=0.2, **params).fit(X, Y).predict_proba(X).max(axis=1)
    assert sharp.max() > 0.999 > 0.95 > np.median(smooth)


def test_batch_norm_attributes(backend):
    model = classifier(batch_norm=True, max_iter=30, backend=backend).fit(X, Y)
    for name in ("scales_", "running_means_", "running_variances_"):
        assert [a.shape for a in getattr(model, name)] == [(7,), (5,)]
    # The running moments have come near those of the layer's input over all rows.
    z = X @ model.coefs_[0]
    assert_close(model.running_means_[0], z.mean(axis=0), rtol=0, atol=0.3)
    assert_close(model.running_variances_[0], z.var(axis=0), rtol=0.5)
    assert model.score(X, Y) > 0.9


def test_dropout_of_everything_but_one_layer_trains():
    assert classifier(dropout=[0.2, 0.0], max_iter=60).fit(X, Y).score(X, Y) > 0.9


# Weights


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_class_weight_is_sample_weight(solver, backend):
    weight_of = {0: 1.0, 1: 3.0, 2: 0.5}
    params = {"solver": solver, "backend": backend}
    by_class = classifier(class_weight=weight_of, **params).fit(X, Y)
    by_row = classifier(**params).fit(X, Y, sample_weight=np.take([1.0, 3.0, 0.5], Y))
    np.testing.assert_array_equal(numbers(by_class), numbers(by_row))
    # Both at once multiply.
    rows = np.random.RandomState(0).rand(len(Y))
    both = classifier(class_weight=weight_of, **params).fit(X, Y, sample_weight=rows)
    product = classifier(**params).fit(X, Y, sample_weight=rows * np.take([1.0, 3.0, 0.5], Y))
    np.testing.assert_array_equal(numbers(both), numbers(product))


def test_balanced_class_weight_finds_the_rare_class():
    kept = np.flatnonzero((Y == 1) | ((Y == 2) & (np.arange(150) % 5 == 0)))
    rows, labels = X[kept, :2], Y[kept] == 2
    recall = [
        classifier(class_weight=w, max_iter=60).fit(rows, labels).predict(rows)[labels].mean()
        for w in (None, "balanced")
    ]
    assert recall[1] > recall[0] + 0.2


def test_class_weight_of_names_and_in_partial_fit():
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    weight_of = {"setosa": 1.0, "versicolor": 3.0, "virginica": 0.5}
    model = classifier(class_weight=weight_of).partial_fit(X, names, classes=np.unique(names))
    by_row = classifier().partial_fit(X, Y, np.take([1.0, 3.0, 0.5], Y), classes=range(3))
    np.testing.assert_array_equal(numbers(model), numbers(by_row))
    with pytest.raises(ValueError, match="class_weight='balanced'.*partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=range(3))


# Members


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"dropout": 0.2},
        {"early_stopping": True},
        {"solver": "lbfgs"},
        {"weight_init": "normal"},
    ],
    ids=plain,
)
def test_first_member_is_the_single_model(params, backend):
    single = classifier(backend=backend, **params).fit(X, Y)
    stack = classifier(backend=backend, n_members=3, **params).fit(X, Y)
    for name in ("coefs_", "intercepts_"):
        for mine, alone in zip(getattr(stack, name), getattr(single, name), strict=True):
            assert mine.shape == (3, *alone.shape)
            assert_close(mine[0], alone)
            assert not np.allclose(mine[1], mine[2])


def test_members_are_averaged(backend):
    stack = classifier(backend=backend, n_members=3).fit(X, Y)
    of_members = []
    for m in range(3):
        one = classifier(backend=backend, max_iter=1).fit(X, Y)
        one.coefs_ = [W[m] for W in stack.coefs_]
        one.intercepts_ = [b[m] for b in stack.intercepts_]
        of_members.append(one.predict_proba(X))
    assert_close(stack.predict_proba(X), np.mean(of_members, axis=0))
    np.testing.assert_array_equal(stack.predict(X), np.mean(of_members, axis=0).argmax(axis=1))
    assert stack.loss_ == pytest.approx(np.mean([curve[-1] for curve in stack.loss_curve_]))
    assert len(stack.history_) == 3 and stack.history_[2]["loss"] == stack.loss_curve_[2]


def test_members_go_on(backend):
    model = classifier(backend=backend, n_members=2, warm_start=True).fit(X, Y)
    first = [curve[0] for curve in model.loss_curve_]
    model.fit(X, Y).partial_fit(X, Y)
    assert [len(curve) for curve in model.loss_curve_] == [9, 9]
    assert all(curve[-1] < f for curve, f in zip(model.loss_curve_, first, strict=True))


def test_members_of_a_regressor():
    stack = regressor(n_members=4, solver="lbfgs", max_iter=30).fit(X_REG, Y_REG)
    single = regressor(solver="lbfgs", max_iter=30).fit(X_REG, Y_REG)
    assert_close(stack.coefs_[0][0], single.coefs_[0])
    assert stack.predict(X_REG).shape == Y_REG.shape


# Losses


REGRESSION = [*sorted(OF_NUMBERS - {"poisson"}), losses.Huber(2.0)]


@pytest.mark.parametrize("loss", [*REGRESSION, "poisson", losses.Quantile(0.9)], ids=plain)
def test_regression_losses(loss):
    pytest.importorskip("torch")
    y = np.abs(Y_REG)
    fits = [regressor(loss=loss, backend=b, alpha=0.0).fit(X_REG, y) for b in ("numpy", "torch")]
    assert_close(numbers(fits[1]), numbers(fits[0]))
    entry = losses.LOSSES[loss] if isinstance(loss, str) else loss
    # What is reported is the loss: that of the last epoch's start, for a full batch.
    still = regressor(
        loss=loss, alpha=0.0, learning_rate_init=1e-300, max_iter=1, batch_size=len(y)
    ).fit(X_REG, y)
    net = network.build((4, 7, 5, 1), entry, "relu")
    raw = network.forward(np, net, still._theta(net), X_REG)
    value = entry.value_and_grad(np, raw, y[None, :, None], np.full((1, 1), 1 / len(y)))[0]
    assert still.loss_ == pytest.approx(value.item())


@pytest.mark.parametrize("loss", [*REGRESSION, "poisson"], ids=plain)
def test_lbfgs_minimises_every_loss(loss, backend):
    y = np.abs(Y_REG)
    model = regressor(loss=loss, solver="lbfgs", max_iter=60, backend=backend).fit(X_REG, y)
    assert mean_absolute_error(y, model.predict(X_REG)) < 0.5 * mean_absolute_error(
        y, np.full_like(y, np.median(y))
    )


def test_quantiles_lie_in_order():
    predicted = [
        regressor(loss=losses.Quantile(q), max_iter=200).fit(X_REG, Y_REG).predict(X_REG)
        for q in (0.1, 0.9)
    ]
    below = [(p >= Y_REG).mean() for p in predicted]
    assert below[0] < 0.3 < 0.7 < below[1]


def test_plain_function_is_the_loss_it_computes():
    pytest.importorskip("torch")
    mine = regressor(loss=absolute, backend="torch").fit(X_REG, Y_REG)
    builtin = regressor(loss="absolute_error", backend="torch").fit(X_REG, Y_REG)
    assert_close(numbers(mine), numbers(builtin))
    assert_close(mine.predict(X_REG), builtin.predict(X_REG))
    again = pickle.loads(pickle.dumps(clone(mine).fit(X_REG, Y_REG)))
    assert_close(again.predict(X_REG), builtin.predict(X_REG))


def test_plain_function_classifies():
    pytest.importorskip("torch")
    mine = classifier(loss=cross_entropy, backend="torch", max_iter=60).fit(X, Y)
    builtin = classifier(backend="torch", max_iter=60).fit(X, Y)
    assert_close(numbers(mine), numbers(builtin))
    np.testing.assert_array_equal(mine.predict(X), builtin.predict(X))


def test_plain_function_needs_torch():
    with pytest.raises(ValueError, match="loss=.*backend='torch'"):
        regressor(loss=absolute, backend="numpy").fit(X_REG, Y_REG)
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="must return one loss for each"):
        regressor(loss=lambda raw, y: (raw - y) ** 2, backend="torch").fit(X_REG, Y_REG)


@pytest.mark.parametrize("target", [Y, BINARY, np.eye(3, dtype=int)[Y]], ids=["3", "2", "labels"])
@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_error"])
def test_classification_losses(loss, target, backend):
    model = classifier(loss=loss, max_iter=100, backend=backend).fit(X, target)
    assert model.score(X, target) > 0.9
    if loss == "hinge":
        assert not hasattr(model, "predict_proba")
        return
    proba = model.predict_proba(X)
    assert ((proba >= 0) & (proba <= 1)).all()
    if target.ndim == 1:
        assert_close(proba.sum(axis=1), 1.0)
        np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(X))


# Schedules


@pytest.mark.parametrize(
    "schedule, rates",
    [
        (StepSchedule(factor=2.0, every=2), [1, 1, 1 / 2, 1 / 2]),
        (Exponential(0.5), [1, 1 / 2, 1 / 4, 1 / 8]),
        (halve, [1, 1 / 2, 1 / 4, 1 / 8]),
    ],
    ids=["step", "exponential", "own"],
)
def test_schedule_sets_the_rate(schedule, rates, backend):
    """With plain gradient descent, epochs of one step each are steps at those rates."""
    plain = {"solver": "sgd", "momentum": 0.0, "batch_size": len(X), "backend": backend}
    scheduled = classifier(learning_rate=schedule, **plain).fit(X, Y)
    by_hand = classifier(**plain)
    for rate in rates:
        by_hand.set_params(learning_rate_init=0.01 * rate)
        by_hand.partial_fit(X, Y, classes=range(3))
    assert_close(numbers(scheduled), numbers(by_hand))


def test_instances_equal_names():
    for name, instance in (("cosine", Cosine()), ("plateau", Plateau()), ("one_cycle", OneCycle())):
        np.testing.assert_array_equal(
            numbers(classifier(learning_rate=name).fit(X, Y)),
            numbers(classifier(learning_rate=instance).fit(X, Y)),
        )


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_every_optimizer_learns(solver, backend):
    rate = {"sgd": 0.1, "adadelta": 10.0, "adagrad": 0.1}.get(solver, 0.01)
    model = classifier(solver=solver, learning_rate_init=rate, max_iter=80, backend=backend)
    assert model.fit(X, Y).score(X, Y) > 0.93


def test_decay_of_adamw_is_decoupled():
    """Where the gradient is nought, the weights shrink by the rate times alpha and no more."""
    zeros = np.zeros((40, 4))
    model = regressor(solver="adamw", alpha=0.5, max_iter=1, batch_size=40, activation="tanh")
    before, _ = start(regressor(activation="tanh"), zeros, np.zeros(40))
    after = model.fit(zeros, np.zeros(40)).coefs_
    assert_close(after[0], before[0] * (1 - 0.01 * 0.5))


def test_an_entry_is_what_its_name_is():
    """Decoupled decay too, which is not to be in the gradient as well."""
    for name in STOCHASTIC_SOLVERS:
        entry = OPTIMIZERS["nesterov" if name == "sgd" else name]
        fits = [regressor(solver=s, alpha=0.5).fit(X_REG, Y_REG) for s in (name, entry)]
        assert_close(numbers(fits[1]), numbers(fits[0]), rtol=1e-15)
    with pytest.raises(ValueError, match="decoupled from the gradient: choose 'adam'"):
        regressor(solver=OPTIMIZERS["adamw"], l1_ratio=0.5).fit(X_REG, Y_REG)


def test_an_optimizer_takes_the_numbers_of_its_estimator():
    lost = Optimizer(0, lambda xp, theta, grad, slots, t, lr, friction: (theta, []), ("friction",))
    with pytest.raises(ValueError, match="takes 'friction', which MLPRegressor has not"):
        regressor(solver=lost).fit(X_REG, Y_REG)


# Activations and sizes


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"step"}))
def test_every_activation_learns(activation, backend):
    model = classifier(activation=activation, max_iter=80, backend=backend).fit(X, Y)
    assert model.score(X, Y) > 0.9


def test_activations_layer_by_layer():
    model = regressor(activation=["tanh", LeakyReLU(0.2)]).fit(X_REG, Y_REG)
    h = np.tanh(X_REG @ model.coefs_[0] + model.intercepts_[0])
    h = h @ model.coefs_[1] + model.intercepts_[1]
    h = np.where(h > 0, h, 0.2 * h)
    expected = (h @ model.coefs_[2] + model.intercepts_[2])[:, 0]
    assert_close(model.predict(X_REG), expected)


def test_width_as_a_number():
    for width in (6, np.int64(6)):
        np.testing.assert_array_equal(
            numbers(classifier(hidden_layer_sizes=width).fit(X, Y)),
            numbers(classifier(hidden_layer_sizes=(6,)).fit(X, Y)),
        )


# Validation


def test_given_validation_rows(backend):
    rows, held_out = np.arange(0, 150, 2), np.arange(1, 150, 2)
    model = classifier(early_stopping=True, max_iter=30, backend=backend)
    model.fit(X[rows], Y[rows], X_val=X[held_out], y_val=Y[held_out])
    assert model.best_validation_score_ == max(model.validation_scores_)
    # All the rows train, and the weights are those of the best epoch.
    assert model.t_ == len(rows) * model.n_iter_
    assert model.score(X[held_out], Y[held_out]) == model.best_validation_score_


def test_validation_rows_without_early_stopping_only_watch():
    plain = classifier().fit(X, Y)
    watched = classifier().fit(X, Y, X_val=X[:30], y_val=Y[:30])
    np.testing.assert_array_equal(numbers(watched), numbers(plain))
    assert watched.validation_scores_[-1] == watched.score(X[:30], Y[:30])
    expected = log_loss(Y[:30], watched.predict_proba(X[:30]), labels=[0, 1, 2])
    assert watched.history_["validation_loss"][-1] == pytest.approx(expected)


def test_validation_rows_need_not_have_every_class():
    for params in ({}, {"warm_start": True}):
        model = classifier(early_stopping=True, **params)
        model.fit(X, Y, X_val=X[Y < 2], y_val=Y[Y < 2])
        assert model.best_validation_score_ == model.score(X[Y < 2], Y[Y < 2])


@pytest.mark.parametrize("model", [classifier, regressor])
def test_early_stopping_returns_to_the_best_weights(model, backend):
    """A rate at which training wanders: the best epoch is not the last."""
    data = (X, Y) if model is classifier else (X_REG, Y_REG)
    net = model(
        early_stopping=True,
        learning_rate_init=0.3,
        max_iter=25,
        n_iter_no_change=25,
        validation_fraction=0.4,
        batch_norm=True,
        random_state=0 if model is classifier else 1,
        backend=backend,
    )
    net.fit(data[0][::2], data[1][::2], X_val=data[0][1::2], y_val=data[1][1::2])
    best, last = max(net.validation_scores_), net.validation_scores_[-1]
    assert last < best
    assert net.score(data[0][1::2], data[1][1::2]) == pytest.approx(best, rel=1e-12)


def test_early_stopping_stops():
    model = classifier(early_stopping=True, max_iter=200, n_iter_no_change=3).fit(X, Y)
    assert model.n_iter_ < 200 and len(model.validation_scores_) == model.n_iter_
    # The epochs after the best that are one too many.
    scores = np.array(model.validation_scores_)
    assert (scores[-4:] < scores[:-4].max() + model.tol).all()


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "balanced_accuracy", macro_recall])
def test_scoring(scoring, backend):
    params = {"early_stopping": True, "scoring": scoring, "max_iter": 6, "backend": backend}
    model = classifier(**params).fit(X[::2], Y[::2], X_val=X[1::2], y_val=Y[1::2])
    metric = {
        "accuracy": lambda m: accuracy_score(Y[1::2], m.predict(X[1::2])),
        "neg_log_loss": lambda m: -log_loss(Y[1::2], m.predict_proba(X[1::2])),
    }.get(scoring, lambda m: macro_recall(m, X[1::2], Y[1::2]))
    assert model.best_validation_score_ == pytest.approx(metric(model))
    # And on a split, whose rows the scorer gets too.
    assert len(classifier(**params).fit(X, Y).validation_scores_) == 6


def test_scoring_of_a_regressor():
    params = {"early_stopping": True, "scoring": "neg_mean_absolute_error", "max_iter": 6}
    model = regressor(**params).fit(X_REG, Y_REG, X_val=X_REG[:20], y_val=Y_REG[:20])
    expected = -mean_absolute_error(Y_REG[:20], model.predict(X_REG[:20]))
    assert model.best_validation_score_ == pytest.approx(expected)


def test_plateau_on_the_validation_score():
    """A score that never improves brings the rate down to the smallest, and ends training."""
    model = classifier(
        solver="sgd",
        learning_rate=Plateau(factor=10.0, patience=2, min_rate=1e-4),
        learning_rate_init=0.01,
        early_stopping=True,
        scoring=lambda estimator, X, y: 0.0,
        max_iter=100,
    ).fit(X, Y)
    rates = model.history_["learning_rate"]
    assert_close(sorted(set(np.round(rates, 12))), [1e-4, 1e-3, 1e-2])
    assert model.n_iter_ < 20


# Types


def test_bfloat16():
    torch = pytest.importorskip("torch")
    assert torch.bfloat16 is not None
    half = classifier(dtype="bfloat16", backend="torch", max_iter=80).fit(X, Y)
    full = classifier(dtype="float32", backend="torch", max_iter=80).fit(X, Y)
    assert {W.dtype for W in half.coefs_} == {np.dtype("float32")}
    assert half.score(X, Y) > 0.93
    # Its products are rounded: near the full ones and not the same.
    gap = np.abs(half.coefs_[0] - full.coefs_[0]).max()
    assert 0 < gap < 0.5
    for params in ({"batch_norm": True}, {"dropout": 0.1}, {"n_members": 2}):
        fitted = classifier(dtype="bfloat16", backend="torch", **params).fit(X, Y)
        assert np.isfinite(fitted.predict_proba(X)).all()


@every
def test_float32(params, backend):
    model = classifier(backend=backend, **params).fit(X.astype("float32"), Y)
    assert {a.dtype for a in (*model.coefs_, *model.intercepts_)} == {np.dtype("float32")}
    assert np.isfinite(model._predict_raw(X.astype("float32"))).all()


# Levenberg and Marquardt


def test_lm_fits_a_tiny_regression(backend):
    x = np.linspace(-1, 1, 40)[:, None]
    y = np.tanh(2 * x[:, 0] + 1) - 0.5 * np.tanh(5 * x[:, 0])
    model = MLPRegressor(
        hidden_layer_sizes=4,
        activation="tanh",
        solver="lm",
        alpha=0.0,
        tol=1e-12,
        max_iter=500,
        random_state=0,
        backend=backend,
    ).fit(x, y)
    assert np.abs(model.predict(x) - y).max() < 1e-6
    adam = regressor(max_iter=500).fit(x, y)
    assert np.abs(adam.predict(x) - y).max() > 1e-4


def test_lm_is_for_squared_errors():
    with pytest.raises(ValueError, match="'lm'.*squared"):
        regressor(solver="lm", loss="huber").fit(X_REG, Y_REG)
    with pytest.raises(ValueError, match="'solver' parameter"):
        classifier(solver="lm").fit(X, Y)


# Errors


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": 0.1},
        {"layer_rates": "ntk"},
        {"dropout": [0.0, 0.1]},
        {"dropout_schedule": "cosine"},
        {"batch_norm": True},
        {"l1_ratio": 0.5},
        {"clip_norm": 1.0},
        {"max_norm": 1.0},
        {"label_smoothing": 0.1},
    ],
    ids=plain,
)
@pytest.mark.parametrize("solver", ["lbfgs", "lm"])
def test_full_batch_solvers_refuse_what_they_have_not(params, solver, backend):
    (name,) = params
    if name == "label_smoothing":
        if solver == "lm":
            pytest.skip("a classifier's parameter, a regressor's solver")
        model, data = classifier(solver=solver, backend=backend, **params), (X, Y)
    else:
        model, data = regressor(solver=solver, backend=backend, **params), (X_REG, Y_REG)
    with pytest.raises(ValueError, match=f"{name}.*solver='{solver}'"):
        model.fit(*data)


def test_full_batch_solvers_take_rates_of_zero():
    plain = regressor(solver="lbfgs").fit(X_REG, Y_REG)
    zeros = regressor(solver="lbfgs", dropout=[0.0, 0.0]).fit(X_REG, Y_REG)
    np.testing.assert_array_equal(numbers(zeros), numbers(plain))


def test_full_batch_solvers_refuse_validation_rows():
    with pytest.raises(ValueError, match="X_val.*solver='lbfgs'"):
        regressor(solver="lbfgs").fit(X_REG, Y_REG, X_val=X_REG, y_val=Y_REG)


def test_adamw_has_no_l1():
    """Its decay is decoupled from the gradient; half a penalty would be dropped silently."""
    with pytest.raises(ValueError, match="l1_ratio.*solver='adamw'"):
        classifier(solver="adamw", l1_ratio=0.5).fit(X, Y)


@pytest.mark.parametrize(
    "params",
    [
        {"weight_init": "xavier"},
        {"layer_rates": "mup"},
        {"layer_rates": lambda parameter: -1.0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": [0.1]},
        {"dropout": [0.1, 0.1, 0.1, 0.1]},
        {"dropout": [0.1, 1.0]},
        {"dropout": [0.1, np.nan]},
        {"dropout_schedule": "linear"},
        {"batch_norm": "yes"},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"l1_ratio": 1.1},
        {"clip_norm": 0.0},
        {"max_norm": -1.0},
        {"class_weight": "even"},
        {"n_members": 0},
        {"n_members": 1.5},
        {"scoring": "acuracy"},
        {"loss": "cross-entropy"},
        {"learning_rate": "decay"},
        {"rho": 1.0},
        {"activation": ["relu"]},
        {"activation": ["relu", "stairs"]},
        {"activation": ["relu", "step"]},
        {"activation": "step"},
        {"solver": "adamax"},
        {"hidden_layer_sizes": 0},
        {"pretraining": "autoencoder"},
    ],
    ids=plain,
)
def test_bad_values_are_named(params):
    (name,) = params
    with pytest.raises((ValueError, TypeError), match=name):
        classifier(**params).fit(X, Y)


def test_bad_validation_rows():
    for given in ({"X_val": X}, {"y_val": Y}):
        with pytest.raises(ValueError, match="X_val.*y_val|y_val.*X_val"):
            classifier().fit(X, Y, **given)
    with pytest.raises(ValueError, match="features"):
        classifier().fit(X, Y, X_val=X[:, :2], y_val=Y)
    with pytest.raises(ValueError, match="inconsistent"):
        classifier().fit(X, Y, X_val=X[:9], y_val=Y[:8])
    with pytest.raises(ValueError, match="classes"):
        classifier().fit(X, Y, X_val=X, y_val=Y + 1)


def test_other_shape_on_a_warm_start_is_an_error():
    """What is fitted cannot be gone on from with another number of members or of units."""
    for params in ({"n_members": 3}, {"hidden_layer_sizes": (7, 6)}, {"batch_norm": True}):
        model = classifier(warm_start=True).fit(X, Y).set_params(**params)
        with pytest.raises(ValueError, match=f"{next(iter(params))}.*warm_start"):
            model.fit(X, Y)


def test_failed_training_leaves_the_dropout_generator_as_it_was():
    model = classifier(dropout=0.2, solver="sgd").partial_fit(X, Y, classes=range(3))
    twin = pickle.loads(pickle.dumps(model))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite"):
        model.set_params(learning_rate_init=1e200).partial_fit(X, Y)
    model.set_params(learning_rate_init=0.01).partial_fit(X, Y)
    np.testing.assert_array_equal(numbers(model), numbers(twin.partial_fit(X, Y)))


def test_backends_of_the_tests_are_there():
    """The suite compares two backends: that of torch must be the one that ran."""
    pytest.importorskip("torch")
    assert classifier(backend="torch").fit(X, Y).backend_ == str(get_backend("torch"))
