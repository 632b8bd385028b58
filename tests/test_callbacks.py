"""scikit-learn's callbacks see every epoch, score it, and may end a fit."""

import warnings
from collections import Counter

import numpy as np
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Callbacks are only supported"),
]

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0}
MODELS = {
    "MLPClassifier": (MLPClassifier(**SMALL), Y),
    "MLPClassifier, batch norm": (MLPClassifier(**SMALL, batch_norm=True, dropout=0.1), Y),
    "MLPClassifier, lbfgs": (MLPClassifier(**SMALL, solver="lbfgs"), Y),
    "MLPRegressor": (MLPRegressor(**SMALL), X[:, 0]),
    "MLPRegressor, lm": (MLPRegressor(**SMALL, solver="lm"), X[:, 0]),
    "Autoencoder": (Autoencoder(**SMALL), X),
    "Perceptron": (Perceptron(max_iter=5, tol=None), Y == 1),
    "LogisticRegression": (LogisticRegression(max_iter=5, tol=1e-12), Y),
    "LogisticRegression, adam": (LogisticRegression(solver="adam", max_iter=5, random_state=0), Y),
    "LogisticRegression, newton-cg": (
        LogisticRegression(solver="newton-cg", C=1e3, max_iter=5, tol=1e-12),
        Y,
    ),
    "LogisticRegression, newton-cholesky": (
        LogisticRegression(solver="newton-cholesky", C=1e3, max_iter=5, tol=1e-12),
        Y,
    ),
    "LogisticRegression, liblinear": (
        LogisticRegression(solver="liblinear", C=1e3, max_iter=5, tol=1e-12),
        Y == 1,
    ),
    "LogisticRegression, sag": (
        LogisticRegression(solver="sag", C=1e3, max_iter=5, tol=1e-12),
        Y,
    ),
    "LogisticRegression, saga, l1": (
        LogisticRegression(solver="saga", l1_ratio=1.0, C=1e3, max_iter=5, tol=1e-12),
        Y,
    ),
}
each = pytest.mark.parametrize("model, y", MODELS.values(), ids=MODELS)


class Recorder:
    """Keeps what the hooks were called with; ends the fit after ``last`` epochs."""

    def __init__(self, last=None, error=None):
        self.last, self.error = last, error
        self.calls, self.scores, self.depth = [], [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.calls.append(f"end {context.task_name}")
        if context.max_subtasks != 0 or not hasattr(estimator, "n_features_in_"):
            return False
        if fitted_estimator is None or not hasattr(fitted_estimator, "score"):
            return False
        self.scores.append(fitted_estimator.score(X, y))
        if self.error is not None and len(self.scores) == self.last:
            raise self.error
        return len(self.scores) == self.last


class Propagated(Recorder):
    """The same, handed on from a meta-estimator to what it fits."""

    max_propagation_depth = None


def fresh(model, **params):
    return type(model)(**{**model.get_params(), **params})


@each
def test_every_epoch_is_a_task(model, y, backend):
    recorder = Recorder()
    model = fresh(model, backend=backend).set_callbacks(recorder).fit(X, y)
    calls = recorder.calls
    assert calls[:2] == ["setup", "begin fit"] and calls[-2:] == ["end fit", "teardown"]
    inner = calls[2:-2]
    # One task more begins than is done: before the solver has said that it ends.
    n_iter = int(np.max(model.n_iter_))
    assert n_iter == 5 and len(recorder.scores) == 5
    assert len(inner) == 2 * (n_iter + 1)
    assert {call.split()[0] for call in inner[::2]} == {"begin"}
    assert {call.split()[0] for call in inner[1::2]} == {"end"}
    # What the last epoch's task was given is the fitted model.
    assert recorder.scores[-1] == pytest.approx(model.score(X, y))
    assert len(set(recorder.scores)) > 1


@each
def test_watching_changes_nothing(model, y, backend):
    plain = fresh(model, backend=backend).fit(X, y)
    watched = fresh(model, backend=backend).set_callbacks(Recorder()).fit(X, y)
    for name in ("coefs_", "coef_"):
        if hasattr(plain, name):
            for got, expected in zip(getattr(watched, name), getattr(plain, name), strict=True):
                # Not bit by bit: a perceptron that is watched is learnt by another loop.
                np.testing.assert_allclose(got, expected, rtol=1e-12)


@each
def test_true_ends_the_fit_without_a_warning(model, y, backend):
    model = fresh(model, backend=backend).set_callbacks(Recorder(last=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert np.max(model.n_iter_) == 2
    early = fresh(model, max_iter=2, backend=backend).fit(X, y)
    assert model.score(X, y) == pytest.approx(early.score(X, y))


@each
def test_teardown_follows_an_error(model, y):
    """An error in a callback ends the fit, which leaves no trace, and the callback is torn down."""
    recorder = Recorder(last=2, error=KeyError("mine"))
    model = fresh(model).set_callbacks(recorder)
    with pytest.raises(KeyError, match="mine"):
        model.fit(X, y)
    assert recorder.calls[-1] == "teardown" and recorder.calls.count("teardown") == 1
    assert not hasattr(model, "n_iter_") and not hasattr(model, "classes_")
    # The same callback serves the next fit.
    recorder.last = None
    model.fit(X, y)
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 2


def test_teardown_follows_bad_data():
    for data in (X[:, :0], np.full_like(X, np.nan)):
        recorder = Recorder()
        with pytest.raises(ValueError):
            MLPClassifier(**SMALL).set_callbacks(recorder).fit(data, Y)
        assert recorder.calls.count("setup") == recorder.calls.count("teardown")


@each
def test_scoring_monitor(model, y, backend):
    metric = "accuracy" if hasattr(model, "predict_proba") else "neg_mean_squared_error"
    monitor = ScoringMonitor(scoring=metric)
    model = fresh(model, backend=backend).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs()
    rows = [row for row in log.data if len(row["task_id_path"]) == 2]
    assert len(rows) == 5
    assert rows[-1][metric] == pytest.approx(get_scorer(metric)(model, X, y))


def test_scoring_monitor_weighs_rows():
    monitor = ScoringMonitor(scoring="accuracy")
    weight = np.where(Y == 2, 3.0, 1.0)
    model = MLPClassifier(**SMALL).set_callbacks(monitor).fit(X, Y, sample_weight=weight)
    rows = [row for row in monitor.get_logs().data if len(row["task_id_path"]) == 2]
    assert rows[-1]["accuracy"] == pytest.approx(model.score(X, Y, sample_weight=weight))
    assert rows[-1]["accuracy"] != pytest.approx(model.score(X, Y))


@each
def test_progress_bar(model, y, capsys):
    pytest.importorskip("rich")
    fresh(model).set_callbacks(ProgressBar()).fit(X, y)
    assert type(model).__name__ in capsys.readouterr().out


def test_pipeline_hands_callbacks_on():
    recorder = Propagated()
    pipe = make_pipeline(StandardScaler(), MLPClassifier(**SMALL)).set_callbacks(recorder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not support callbacks")
        pipe.fit(X, Y)
    assert recorder.calls.count("end epoch") == 6
    assert recorder.scores[-1] == pytest.approx(pipe.score(X, Y))
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1


def test_search_hands_callbacks_on():
    recorder = Propagated()
    search = GridSearchCV(MLPClassifier(**SMALL), {"dropout": [0.0, 0.2]}, cv=2)
    search.set_callbacks(recorder).fit(X, Y)
    # Two candidates on two folds and the refit, each of five epochs and one that never ran.
    assert recorder.calls.count("end epoch") == 5 * 6
    assert len(recorder.scores) == 5 * 5
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1


def test_members_are_watched_each():
    recorder = Recorder()
    MLPClassifier(**SMALL, n_members=3).set_callbacks(recorder).fit(X, Y)
    assert len(recorder.scores) == 3 * 5


def test_partial_fit_is_one_task():
    recorder = Recorder()
    model = MLPClassifier(**SMALL).set_callbacks(recorder)
    for _ in range(3):
        model.partial_fit(X, Y, classes=range(3))
    assert len(recorder.scores) == 3


def test_layerwise_training_shows_its_last_stage_only():
    """The layers' own trainings are part of the start; their epochs are not the fit's."""
    recorder = Recorder()
    coder = Autoencoder(**{**SMALL, "hidden_layer_sizes": (6, 3)}, layerwise=True)
    coder.set_callbacks(recorder).fit(X, X)
    assert len(recorder.scores) == 5
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1


def test_classes_of_a_perceptron_are_watched_together(backend):
    """Each class is a model of its own; what is scored is the classifier that they make."""
    recorder = Recorder()
    model = Perceptron(max_iter=4, tol=None, backend=backend).set_callbacks(recorder).fit(X, Y)
    assert len(recorder.scores) == 3 * 4
    assert recorder.scores[-1] == model.score(X, Y)
    stopped = Perceptron(max_iter=9, tol=None, backend=backend).set_callbacks(Recorder(last=3))
    assert stopped.fit(X, Y).n_iter_ <= 2


def test_perceptron_that_overflows_is_torn_down():
    recorder = Recorder()
    model = Perceptron(eta0=1e300, max_iter=3, tol=None).set_callbacks(recorder)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="overflow"):
        model.fit(X * 1e200, Y == 1)
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1


def test_a_warning_says_where_scikit_learn_runs_no_callbacks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogisticRegression().set_callbacks(Recorder())
        LogisticRegression(solver="adam").set_callbacks(Recorder())
    with pytest.warns(UserWarning, match="skdeep runs them for solver='newton-cg' too"):
        LogisticRegression(solver="newton-cg").set_callbacks(Recorder())


# Two folds, two ratios and three values of C, those with and without an L1 part in stacks apart.
CV = {
    "solver": "saga",
    "Cs": [0.1, 1.0, 10.0],
    "l1_ratios": [0.0, 0.5],
    "cv": 2,
    "max_iter": 4,
    "tol": 1e-12,
    "scoring": "neg_log_loss",
    "use_legacy_attributes": False,
}


class Tree(Recorder):
    """Keeps the path of task names and ids, the rows and the model of each task that ends."""

    def __init__(self, stop=None):
        super().__init__()
        self.stop, self.ended = stop, []

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        path, task = [], context
        while task is not None:
            path.insert(0, (task.task_id, task.task_name))
            task = task.parent
        self.ended.append((path, X, y, metadata, fitted_estimator))
        return self.stop is not None and self.stop(path)

    def at(self, depth):
        return [entry for entry in self.ended if len(entry[0]) == depth]


def test_cross_validation_has_a_task_for_every_model(backend):
    """Fold by fold, ratio by ratio, C by C; each task has its model's rows and its model."""
    tree, weight = Tree(), np.where(Y == 2, 3.0, 1.0)
    model = LogisticRegressionCV(**CV, backend=backend).set_callbacks(tree)
    model.fit(X, Y, sample_weight=weight)
    assert [path[-1][1] for path, *_ in tree.ended][-1] == "fit"
    assert [path[1][1] for path, *_ in tree.at(2)] == ["search", "refit-with-best-params"]

    models = [entry for entry in tree.at(3) if entry[0][1][1] == "search"]
    names = [f"fold {f}, C={C:g}, l1_ratio={r:g}"
             for f in range(2) for r in CV["l1_ratios"] for C in CV["Cs"]]  # fmt: skip
    assert [path[2] for path, *_ in models] == list(enumerate(names))
    folds = list(StratifiedKFold(2).split(X, Y))
    paths = model.coefs_paths_.reshape(12, 3, -1)
    for (path, rows, y, metadata, fitted), theta in zip(models, paths, strict=True):
        train = folds[path[2][0] // 6][0]
        np.testing.assert_array_equal(rows, X[train])
        np.testing.assert_array_equal(y, Y[train])
        np.testing.assert_array_equal(metadata["sample_weight"], weight[train])
        np.testing.assert_array_equal(np.c_[fitted.coef_, fitted.intercept_], theta)
        assert f"C={fitted.C_:g}, l1_ratio={fitted.l1_ratio_:g}" in path[2][1]

    # Iterations: as many as each model needed, and one that never ran.
    inside = Counter(path[2][0] for path, *_ in tree.at(4))
    assert [inside[i] - 1 for i in range(12)] == model.n_iter_.ravel().tolist()
    refit = [entry for entry in tree.at(3) if entry[0][1][1] != "search"]
    assert refit[-2][0][2][1] == "saga-iter"
    np.testing.assert_array_equal(refit[-2][4].coef_, model.coef_)


@pytest.mark.parametrize("params", [{}, {"refit": False}, {"solver": "lbfgs", "l1_ratios": [0.0]}])
def test_watching_changes_no_cross_validation(params, backend):
    plain = LogisticRegressionCV(**{**CV, **params}, backend=backend).fit(X, Y)
    watched = LogisticRegressionCV(**{**CV, **params}, backend=backend)
    watched.set_callbacks(Recorder(), ScoringMonitor(scoring="accuracy")).fit(X, Y)
    for name in ("coef_", "intercept_", "coefs_paths_", "scores_", "n_iter_", "C_", "l1_ratio_"):
        np.testing.assert_array_equal(getattr(watched, name), getattr(plain, name))


def test_true_ends_one_model_of_a_cross_validation():
    """Iterations are the level that a callback ends: those of one model, or those of all."""
    full = LogisticRegressionCV(**CV).fit(X, Y)

    def third(path):
        return path[2:3] == [(3, "fold 0, C=0.1, l1_ratio=0.5")] and len(path) == 4

    model = LogisticRegressionCV(**CV).set_callbacks(Tree(stop=third)).fit(X, Y)
    expected = full.n_iter_.copy()
    assert expected[0, 1, 0] > 1
    expected[0, 1, 0] = 1
    np.testing.assert_array_equal(model.n_iter_, expected)

    model = LogisticRegressionCV(**CV).set_callbacks(Tree(stop=lambda path: True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, Y)
    assert (model.n_iter_ == 1).all()


def test_monitor_scores_cross_validation():
    monitor = ScoringMonitor(scoring="accuracy")
    model = LogisticRegressionCV(**CV).set_callbacks(monitor).fit(X, Y)
    rows = {row["task_id_path"]: row for row in monitor.get_logs().data}
    assert rows[(0,)]["accuracy"] == pytest.approx(accuracy_score(Y, model.predict(X)))
    train = next(StratifiedKFold(2).split(X, Y))[0]
    theta = model.coefs_paths_[0, 1, 2]
    predicted = np.argmax(X[train] @ theta[:, :-1].T + theta[:, -1], axis=1)
    assert rows[(0, 0, 5)]["accuracy"] == pytest.approx(accuracy_score(Y[train], predicted))
    # Each iteration of each model and of the refit is scored, and each of these on the whole.
    n_iterations = model.n_iter_.sum() + sum(len(path) == 3 and path[1] == 1 for path in rows)
    assert len(rows) == 1 + 12 + 1 + n_iterations


def test_progress_of_cross_validation(capsys):
    pytest.importorskip("rich")
    LogisticRegressionCV(**CV).set_callbacks(ProgressBar()).fit(X, Y)
    shown = capsys.readouterr().out
    for text in ("search", "fold 1, C=10, l1_ratio=0.5", "refit-with-best-params"):
        assert text in shown


def test_cross_validation_is_torn_down_after_an_error():
    recorder = Recorder(last=2, error=KeyError("mine"))
    model = LogisticRegressionCV(**CV).set_callbacks(recorder)
    with pytest.raises(KeyError, match="mine"):
        model.fit(X, Y)
    assert recorder.calls[-1] == "teardown" and recorder.calls.count("teardown") == 1
    assert not hasattr(model, "classes_")
