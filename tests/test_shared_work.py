"""What fits that are solved together do once for all of them, counted; and that it changes none."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import sklearn.model_selection
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep import fit_many
from skdeep.backends import get_backend
from skdeep.losses import LOSSES
from skdeep.model_selection import GridSearchCV
from skdeep.model_selection.predictions import predictions
from skdeep.model_selection.shared_rows import Resident
from skdeep.network import build
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.neural_network.base import BaseNetwork
from skdeep.problem import Problem
from skdeep.regularization import LabelSmoothing
from skdeep.stacking import solve_many

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = make_classification(300, 40, n_informative=5, n_classes=3, random_state=0)
SHORT = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}
GRID = {"alpha": [1e-4, 1e-1], "learning_rate_init": [1e-3, 1e-2]}


class Generator(np.random.RandomState):
    """A generator that counts its permutations, those of all together."""

    drawn = 0

    def permutation(self, x):
        Generator.drawn += 1
        return super().permutation(x)

    def __reduce__(self):
        return in_state, (self.get_state(legacy=False),)


def in_state(state) -> Generator:
    generator = Generator()
    generator.set_state(state)
    return generator


@pytest.fixture
def drawn(monkeypatch):
    """How many permutations were drawn from generators of seeds, a function."""
    monkeypatch.setattr(np.random, "RandomState", Generator)
    Generator.drawn = 0
    return lambda: Generator.drawn


@pytest.fixture
def uploads(monkeypatch) -> list:
    """Shapes of the arrays of floating point that are sent to torch, without views of tensors."""
    torch = pytest.importorskip("torch")
    from skdeep.backends.torch_backend import TorchBackend

    sent, asarray = [], TorchBackend.asarray

    def spy(backend, x, dtype=None):
        if not isinstance(x, torch.Tensor) and np.asarray(x).dtype.kind == "f":
            sent.append(np.shape(x))
        return asarray(backend, x, dtype)

    monkeypatch.setattr(TorchBackend, "asarray", spy)
    return sent


def search(model, grid=GRID, cv=3, X=X, y=y, package=None, **settings):
    cls = GridSearchCV if package is None else package.GridSearchCV
    return cls(clone(model), grid, cv=cv, refit=False, **settings).fit(X, y)


def assert_same(ours, theirs, atol=1e-9):
    for name, expected in theirs.cv_results_.items():
        if name.startswith(("split", "mean_test", "mean_train")):
            assert_allclose(ours.cv_results_[name], expected, atol=atol, rtol=0, err_msg=name)


# Permutations


@pytest.mark.parametrize(("seeds", "expected"), [([0], 4), ([0, 1], 8)], ids=str)
def test_equal_seeds_draw_one_permutation_an_epoch(seeds, expected, drawn):
    pytest.importorskip("torch")
    model = MLPClassifier(backend="torch", **SHORT)
    search(model, GRID | {"random_state": seeds})
    assert drawn() == expected


def test_folds_of_unequal_length_draw_their_own(drawn):
    pytest.importorskip("torch")
    search(MLPClassifier(backend="torch", **SHORT), cv=KFold(3), X=X[:299], y=y[:299])
    assert drawn() == 2 * 4


def problem(seeds, max_iter) -> Problem:
    """Networks that differ in their seeds and last epochs."""
    M, net = len(seeds), build((40, 3, 1), LOSSES["squared_error"], "tanh")
    numbers = {"l2": 0.0, "learning_rate_init": 0.01, "tol": 0.0, "n_iter_no_change": 100}
    numbers |= {"planned_epochs": 9, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    return Problem(
        solver="minibatch",
        X=X,
        y=X[:, :1],
        dtype="float64",
        theta=np.tile(np.linspace(-1, 1, net.n_parameters), (M, 1)),
        net=net,
        hyper={name: np.full((M, 1), float(value)) for name, value in numbers.items()}
        | {"max_iter": np.array(max_iter, dtype=float)[:, None]},
        options={
            "optimizer": "adam",
            "regularizers": (),
            "schedule": schedule,
            "batch_size": 100,
            "shuffle": True,
            "loss_scale": 1.0,
            "early_stopping": False,
            "verbose": False,
        },
        rngs=[Generator(seed) for seed in seeds],
    )


def schedule(lr0, progress):
    return lr0 + 0.0 * progress.step


def test_twins_end_where_they_would_alone(backend):
    """Those that end early draw no more; each generator is left where its model has ended."""
    seeds, max_iter = [0, 0, 1, 0], [2, 5, 3, 5]
    alone = [problem([seed], [most]) for seed, most in zip(seeds, max_iter, strict=True)]
    expected = [solve_many(get_backend(backend), [one])[0] for one in alone]
    together = problem(seeds, max_iter)
    Generator.drawn = 0
    (found,) = solve_many(get_backend(backend), [together])
    assert Generator.drawn == 5 + 3
    for m, one in enumerate(alone):
        assert_allclose(found.theta[m], expected[m].theta[0], rtol=1e-9)
        assert_array_equal(
            together.rngs[m].get_state()[1], one.rngs[0].get_state()[1], err_msg=str(m)
        )
        assert together.rngs[m].get_state()[2] == one.rngs[0].get_state()[2]


def test_models_that_share_a_generator_draw_in_turn(backend):
    shared = Generator(0)
    together = replace(problem([0, 0], [3, 3]), rngs=[shared, shared])
    Generator.drawn = 0
    (found,) = solve_many(get_backend(backend), [together])
    assert Generator.drawn == 6
    assert not np.array_equal(found.theta[0], found.theta[1])


@pytest.mark.parametrize(
    "scheduled",
    [{"learning_rate": "cosine"}, {"dropout": 0.3, "dropout_schedule": "cosine"}],
    ids=str,
)
def test_rates_of_models_with_fewer_steps(scheduled, backend):
    """In a stack with longer epochs a schedule over all steps is still that of the model alone."""
    model = MLPClassifier(
        (5,), backend=backend, batch_size=50, max_iter=6, learning_rate_init=0.05, random_state=0,
        **scheduled,
    )  # fmt: skip
    few = {"cv": KFold(2), "X": X[:201], "y": y[:201]}  # 100 rows are two batches, 101 are three
    packages = (None, sklearn.model_selection)
    assert_same(*[search(model, scoring="neg_log_loss", package=p, **few) for p in packages])


def test_a_schedule_is_not_asked_for_steps_that_there_are_not(backend):
    """Nor for those that only models with longer epochs make."""
    shares = []

    def line(rate, progress):
        shares.append(np.max(progress.step / progress.total))
        return rate * (1.0 - progress.step / progress.total)

    model = MLPClassifier(
        backend=backend, batch_size=50, dropout=0.3, dropout_schedule=line, **SHORT
    )
    folds = [(np.arange(n), np.arange(200, 300)) for n in (50, 200)]
    search(model, cv=folds, error_score="raise")
    assert 0.5 < max(shares) < 1.0


# Validation and what is drawn first


@pytest.mark.parametrize("model", [MLPClassifier(**SHORT), MLPRegressor(**SHORT)], ids=type)
@pytest.mark.parametrize("seeds", [[0], [None], [0, 1]], ids=str)
def test_data_are_validated_once_a_fold(backend, model, seeds, monkeypatch):
    calls, validate = Counter(), type(model)._validate_input

    def spy(self, *args, **kwargs):
        calls["validated"] += 1
        return validate(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "_validate_input", spy)
    model = clone(model).set_params(backend=backend, dropout=0.5)
    numbers = {"alpha": [1e-4, 1e-1], "layer_rates": [None, "ntk"]}
    numbers |= {"dropout_schedule": ["constant", "flat_cosine"], "random_state": seeds}
    search(model, numbers, y=y.astype(float))
    assert calls["validated"] == 3


def test_parameters_of_a_candidate_are_validated_once(backend, monkeypatch):
    calls, validate = Counter(), MLPClassifier._validate_params

    def spy(self):
        calls[self.alpha] += 1
        validate(self)

    monkeypatch.setattr(MLPClassifier, "_validate_params", spy)
    model, grid = MLPClassifier(backend=backend, **SHORT), {"alpha": [1e-4, 1e-1]}
    if backend == "numpy":  # which deals with the folds one by one
        search(model, grid)
        assert calls == {1e-4: 3, 1e-1: 3}
    else:
        search(model, grid)
        assert calls == {1e-4: 1, 1e-1: 1}


FOLLOWING = {
    "numbers": ({"alpha": 0.1}, {"learning_rate_init": 0.01, "batch_size": 20}),
    "seeds": ({"random_state": 1}, {"random_state": None}, {"random_state": 0}),
    "shapes": ({"hidden_layer_sizes": (4,)}, {"activation": "tanh"}, {"hidden_layer_sizes": [6]}),
    "weights": ({"class_weight": "balanced"}, {"label_smoothing": 0.1}, {"class_weight": {0: 2}}),
    "early": ({"early_stopping": True}, {"early_stopping": True, "random_state": 1, "tol": 0.1}),
    "solvers": ({"solver": "sgd"}, {"solver": "lbfgs"}, {"solver": "lbfgs", "alpha": 0.1}),
    "rates": ({"dropout": 0.5}, {"dropout": 0.2}, {"max_norm": 1.0}, {"clip_norm": 1.0}),
    "members": ({"n_members": 2}, {"n_members": 2, "alpha": 0.1}),
    "folds": (
        {"n_members": 2, "early_stopping": "members"},
        {"n_members": 2, "early_stopping": "members", "alpha": 0.1},
        {"n_members": 2, "early_stopping": "members", "random_state": 1},
    ),
    "layers": (
        {"layer_rates": "ntk"},
        {"dropout": 0.5},
        {"dropout": 0.5, "dropout_schedule": "flat_cosine"},
    ),
    "smoothing": (
        {"regularizers": [LabelSmoothing(0.2, undone=True)]},
        {"regularizers": [LabelSmoothing(0.2, undone=True)], "alpha": 0.1},
        {"regularizers": [LabelSmoothing(0.3, undone=True)]},
    ),
}


@pytest.mark.parametrize("case", FOLLOWING)
def test_fits_that_follow_are_as_alone(case, backend):
    """Whatever another model has begun with."""
    models = [
        MLPClassifier(backend=backend, **{**SHORT, **params}) for params in ({}, *FOLLOWING[case])
    ]
    weights = np.linspace(0.5, 2.0, len(y))
    for model in fit_many(models, X, y, sample_weight=weights):
        if model.random_state is None:
            continue
        expected = clone(model).fit(X, y, sample_weight=weights)
        assert vars(model).keys() == vars(expected).keys()
        assert_allclose(model.predict_proba(X), expected.predict_proba(X), atol=1e-9)
        assert model.n_iter_ == expected.n_iter_
        assert_array_equal(model.classes_, expected.classes_)


def test_a_follower_forgets_the_names_of_earlier_data():
    pd = pytest.importorskip("pandas")
    first, second = (MLPClassifier(alpha=alpha, **SHORT) for alpha in (0.1, 0.2))
    second.fit(pd.DataFrame(X[:, :2], columns=["a", "b"]), y)
    fit_many([first, second], X, y)
    assert not hasattr(second, "feature_names_in_")
    assert second.n_features_in_ == 40


def test_a_follower_has_the_pretraining_of_its_start():
    coder = Autoencoder(max_iter=2, random_state=0)
    models = [MLPClassifier(pretraining=coder, alpha=alpha, **SHORT) for alpha in (0.1, 0.2)]
    fit_many(models, X, y)
    alone = clone(models[1]).fit(X, y)
    assert_array_equal(models[1].pretraining_.coefs_[0], alone.pretraining_.coefs_[0])


# Rows on the device, and scores


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_x_is_sent_once_for_all_fits_and_scores(dtype, early_stopping, uploads):
    model = MLPClassifier(backend="torch", early_stopping=early_stopping, **SHORT)
    search(model, X=X.astype(dtype), return_train_score=True)
    assert [shape for shape in uploads if shape[-1:] == (40,)] == [X.shape]


def test_x_is_sent_once_for_solvers_of_all_rows(uploads):
    search(MLPClassifier(backend="torch", solver="lbfgs", **SHORT), {"alpha": [1e-4, 1e-1]})
    of_x = [shape for shape in uploads if shape[-1:] == (40,)]
    assert sorted(of_x) == [(200, 40)] * 3 + [(300, 40)]  # each fold's to train on, all to score


X_NUMBERS, Y_NUMBERS = make_regression(200, 4, random_state=0)
BINARY = (y > 0).astype(int)
LABELS = np.c_[y > 0, X[:, 0] > 0].astype(int)
SCORED = {
    "accuracy": (MLPClassifier(**SHORT), {}),
    "binary": (MLPClassifier(**SHORT), {"y": BINARY}),
    "strings": (MLPClassifier(**SHORT), {"y": np.array(["a", "b", "c"])[y]}),
    "labels": (MLPClassifier(**SHORT), {"y": LABELS}),
    "members": (MLPClassifier(n_members=2, **SHORT), {}),
    "folds": (MLPClassifier(n_members=2, early_stopping="members", **SHORT), {}),
    "smoothing undone": (
        MLPClassifier(**SHORT),
        {
            "grid": {
                "regularizers": [[LabelSmoothing(s, undone=True)] for s in (0.2, 0.4)],
                "alpha": [1e-4, 1e-1],
            },
            "scoring": "neg_log_loss",
        },
    ),
    "integers": (MLPClassifier(**SHORT), {"X": (10 * X).astype(int)}),
    "shapes": (
        MLPClassifier(**SHORT),
        {"grid": {"hidden_layer_sizes": [(3,), (5, 4)], "activation": ["relu", "tanh"]}},
    ),
    "log loss": (MLPClassifier(**SHORT), {"scoring": "neg_log_loss"}),
    "area": (MLPClassifier(**SHORT), {"scoring": "roc_auc_ovr"}),
    "hinge": (MLPClassifier(loss="hinge", **SHORT), {"scoring": "roc_auc", "y": BINARY}),
    "several": (MLPClassifier(**SHORT), {"scoring": ["accuracy", "f1_macro"]}),
    "lbfgs": (MLPClassifier(solver="lbfgs", **SHORT), {"grid": {"alpha": [1e-4, 1e-1]}}),
    "numbers": (MLPRegressor(**SHORT), {"X": X_NUMBERS, "y": Y_NUMBERS}),
    "absolute": (
        MLPRegressor(**SHORT),
        {"X": X_NUMBERS, "y": np.c_[Y_NUMBERS, -Y_NUMBERS], "scoring": "neg_mean_absolute_error"},
    ),
}


@pytest.mark.parametrize("case", SCORED)
def test_scores_of_stacks_are_those_of_one_by_one(case, backend, monkeypatch):
    model, settings = SCORED[case]
    model = clone(model).set_params(backend=backend)
    expected = search(model, **settings, return_train_score=True, package=sklearn.model_selection)

    def alone(self, X):
        raise AssertionError("asked alone")

    monkeypatch.setattr(BaseNetwork, "_predict_raw", alone)
    assert_same(search(model, **settings, return_train_score=True), expected)


def test_scores_after_other_steps(backend):
    model = make_pipeline(StandardScaler(), MLPClassifier(backend=backend, **SHORT))
    grid = {"mlpclassifier__alpha": [1e-4, 1e-1]}
    assert_same(*[search(model, grid, package=p) for p in (None, sklearn.model_selection)])


def test_rows_counted_from_the_end(backend):
    """As NumPy has them, in folds of the user's own."""
    folds = [(np.arange(-200, 0), np.arange(100)), (np.arange(200), np.arange(-100, 0))]
    model = MLPClassifier(backend=backend, **SHORT)
    assert_same(*[search(model, cv=folds, package=p) for p in (None, sklearn.model_selection)])


def test_classifiers_of_ones_own_predict_for_themselves(backend):
    model = Contrary(backend=backend, **SHORT)
    assert_same(*[search(model, package=p) for p in (None, sklearn.model_selection)])


class Contrary(MLPClassifier):
    """It predicts the last class of what it is sure, and else the first."""

    _parameter_constraints = MLPClassifier._parameter_constraints

    def predict(self, X):
        return self.classes_[np.where(self.predict_proba(X).max(axis=1) > 0.5, -1, 0)]


def test_predictions_are_cut_into_stacks_that_fit(backend, monkeypatch):
    models = [MLPClassifier(alpha=alpha, **SHORT) for alpha in (0.1, 1.0, 10.0)]
    fit_many([model.set_params(backend=backend) for model in models], X, y)
    monkeypatch.setattr("skdeep.model_selection.predictions.AT_ONCE", 2 * 100 * 49 * 8 + 1)
    rows = np.arange(100, 200)
    for model, found in zip(models, predictions(models, Resident(X), rows), strict=True):
        assert_allclose(found, model.predict_proba(X[rows]), atol=1e-12)


def test_folds_without_rows_to_score_get_error_score(backend):
    model = MLPClassifier(backend=backend, **SHORT)
    folds = [(np.arange(200), np.arange(200, 300)), (np.arange(200), np.arange(0))]
    with pytest.warns(UserWarning, match="Scoring failed"):
        found = search(model, cv=folds, error_score=-1.0).cv_results_
    assert (found["split0_test_score"] > 0).all() and (found["split1_test_score"] == -1.0).all()
