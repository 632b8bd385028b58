"""scikit-learn's callbacks see every epoch, score it, and may end a fit."""

import warnings

import numpy as np
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

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
