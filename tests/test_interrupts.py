"""Ctrl-C ends a fit with what it has, and a search or ``fit_many`` as a whole."""

import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle

from skdeep import fit_many, optimizers
from skdeep.activations import ACTIVATIONS, Activation
from skdeep.backends import numpy_elementwise
from skdeep.linear_model import LogisticRegression
from skdeep.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.solvers.minibatch import step as minibatch

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = shuffle(*load_iris(return_X_y=True), random_state=0)
X = StandardScaler().fit_transform(X)
B = 50  # rows of a batch: three batches
SMALL = {"hidden_layer_sizes": (6,), "batch_size": B, "random_state": 0, "tol": 0.0}
interrupted = pytest.warns(UserWarning, match="Training interrupted by user.")


class Press:
    """Ctrl-C at the n-th call."""

    def __init__(self, at):
        self.left = at

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


class Pressing:
    """A constant schedule that presses Ctrl-C once some epochs are done."""

    def __init__(self, epochs):
        self.epochs, self.pressed = epochs, False

    def __call__(self, lr0, progress):
        if not self.pressed and np.max(progress.epoch) >= self.epochs:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return lr0 + 0.0 * progress.step


def raising(lr0, progress):
    """A schedule that ends the fit by itself."""
    raise KeyboardInterrupt


def pressing_tanh(at):
    press, tanh = Press(at), ACTIVATIONS["tanh"]

    def forward(xp, z):
        press()
        return tanh.forward(xp, z)

    return Activation(forward, tanh.backward)


@pytest.fixture
def in_batch(monkeypatch):
    """Press Ctrl-C in the n-th batch from now, whatever the model."""

    def arm(at):
        press, take = Press(at), minibatch.Table.take

        def pressed(self, *args):
            press()
            return take(self, *args)

        monkeypatch.setattr(minibatch.Table, "take", pressed)

    return arm


def assert_same(got, expected, rtol=0.0):
    names = ("coefs_", "intercepts_") if hasattr(expected, "coefs_") else ("coef_", "intercept_")
    for name in names:
        for a, b in zip(getattr(got, name), getattr(expected, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_the_batches_done_are_kept(solver, backend):
    """Interrupted in the second batch, a model is the one that the first batch makes."""
    params = {**SMALL, "solver": solver, "shuffle": False}
    model = MLPClassifier(**params, activation=pressing_tanh(2), backend=backend)
    with interrupted as found:
        model.fit(X, Y)
    assert len(found) == 1
    first = theirs.MLPClassifier(**params, activation="tanh", max_iter=1).fit(X[:B], Y[:B])
    assert_same(model, first, rtol=1e-12)
    assert model.loss_ == pytest.approx(first.loss_)
    assert (model.n_iter_, model.t_, model.loss_curve_) == (0, 0, [])
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("make", [lambda: Pressing(0), lambda: raising])
def test_before_the_first_batch_the_initial_weights_are_the_model(make, backend):
    params = {**SMALL, "solver": "sgd", "shuffle": False, "max_iter": 3}
    model = MLPClassifier(**params, learning_rate=make(), warm_start=True, backend=backend)
    with interrupted:
        model.fit(X, Y)
    still = {**params, "learning_rate_init": 1e-300, "max_iter": 1}
    assert_same(model, theirs.MLPClassifier(**still).fit(X, Y), rtol=1e-15)
    assert model.n_iter_ == 0 and model.loss_curve_ == []
    assert model.predict(X).shape == Y.shape
    # It goes on from there as if nothing had been.
    model.set_params(learning_rate="constant").fit(X, Y)
    assert_same(model, theirs.MLPClassifier(**params).fit(X, Y), rtol=1e-12)


@pytest.mark.parametrize("more", [{}, {"solver": "adamw"}, {"max_norm": 0.5}])
def test_a_step_is_made_whole(more, monkeypatch):
    """Ctrl-C in the midst of an update in place waits until it is done."""
    params = {**SMALL, "solver": "adam", "shuffle": False, "learning_rate_init": 0.1, **more}
    expected = MLPClassifier(**params, max_iter=1).fit(X[: 2 * B], Y[: 2 * B])
    step = getattr(optimizers, params["solver"])
    in_place, press = numpy_elementwise.OPTIMIZER_OVERRIDES[step], Press(2)

    def by_halves(xp, theta, grad, slots, t, lr, **hyper):
        half = theta.shape[1] // 2
        for part in (slice(half), slice(half, None)):
            decay = {k: np.asarray(v)[:, part] for k, v in hyper.items() if k == "weight_decay"}
            views = [slot[:, part] for slot in slots]
            in_place(xp, theta[:, part], grad[:, part], views, t, lr, **{**hyper, **decay})
            press()
        return theta, slots

    monkeypatch.setitem(numpy_elementwise.OPTIMIZER_OVERRIDES, step, by_halves)
    press.left = 3  # between the halves of the second batch's step
    model = MLPClassifier(**params)
    with interrupted:
        model.fit(X, Y)
    assert_same(model, expected)
    (training,), (same,) = model._trainings, expected._trainings
    assert training["step"] == same["step"] == 2
    np.testing.assert_array_equal(training["slots"], same["slots"])


def test_the_epochs_done_are_counted(backend):
    """Ctrl-C in the second batch of the third epoch."""
    params = {**SMALL, "max_iter": 9}
    model = MLPClassifier(**params, activation=pressing_tanh(2 * 4 + 2), backend=backend)
    with interrupted, warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, Y)
    full = theirs.MLPClassifier(**params, activation="tanh").fit(X, Y)
    assert model.n_iter_ == 2 and model.t_ == 2 * len(X)
    np.testing.assert_allclose(model.loss_curve_, full.loss_curve_[:2], rtol=1e-10)
    assert model.loss_ == model.loss_curve_[-1]
    assert {len(values) for values in model.history_.values()} == {2}


FORMS = {
    "members": (MLPClassifier(**SMALL, n_members=3), Y),
    "early stopping": (MLPClassifier(**SMALL, early_stopping=True), Y),
    "dropout, batch norm": (MLPClassifier(**SMALL, dropout=0.2, batch_norm=True), Y),
    "regressor": (MLPRegressor(**SMALL), X[:, 0]),
    "autoencoder": (Autoencoder(**SMALL, noise="masking", noise_level=0.1), None),
    "logistic, sgd": (LogisticRegression(solver="sgd", batch_size=B, random_state=0, tol=0.0), Y),
    "logistic, adamw": (
        LogisticRegression(solver="adamw", batch_size=B, random_state=0, tol=0.0),
        Y,
    ),
}
forms = pytest.mark.parametrize("model, y", FORMS.values(), ids=FORMS)


def fresh(model, **params):
    return type(model)(**{**model.get_params(), **params})


@forms
def test_every_form_in_its_first_epoch(model, y, in_batch, backend):
    model = fresh(model, backend=backend)
    in_batch(2)
    with interrupted:
        model.fit(X, y)
    assert np.max(model.n_iter_) == 0 and np.isfinite(model.loss_)
    assert np.isfinite(model.predict(X).astype(float)).all()


@forms
def test_every_form_between_epochs(model, y, backend):
    """Ctrl-C after three epochs gives the model of three epochs."""
    expected = fresh(model, max_iter=3, backend=backend).fit(X, y)
    model = fresh(model, learning_rate=Pressing(3), backend=backend)
    with interrupted:
        model.fit(X, y)
    assert_same(model, expected)
    assert model.n_iter_ == expected.n_iter_
    assert model.loss_curve_ == expected.loss_curve_


@forms
def test_partial_fit(model, y, in_batch, backend):
    model = fresh(model, backend=backend)
    if model.get_params().get("early_stopping"):
        pytest.skip("partial_fit has no early stopping")
    classes = {"classes": np.unique(y)} if y is Y else {}
    model.partial_fit(X, y, **classes)
    in_batch(2)
    with interrupted:
        model.partial_fit(X, y)
    assert np.isfinite(model.predict(X).astype(float)).all()
    model.partial_fit(X, y)


def test_the_best_weights_are_restored():
    params = {**SMALL, "early_stopping": True, "learning_rate_init": 0.5, "n_iter_no_change": 20}
    model = MLPClassifier(**params, learning_rate=Pressing(9))
    with interrupted:
        model.fit(X, Y)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < 9  # or there would be nothing to restore
    assert_same(model, MLPClassifier(**params, max_iter=best).fit(X, Y))


class Callback:
    """Presses Ctrl-C at the end of an epoch, and counts."""

    def __init__(self, at):
        self.press, self.ended, self.open = Press(at), 0, 0

    def setup(self, estimator, context):
        self.open += 1

    def teardown(self, estimator, context):
        self.open -= 1

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended += context.task_name == "epoch"
        if context.task_name == "epoch":
            self.press()


def test_in_a_callback(backend):
    callback = Callback(at=3)
    model = MLPClassifier(**SMALL, backend=backend).set_callbacks(callback)
    with interrupted:
        model.fit(X, Y)
    assert model.n_iter_ == callback.ended == 3 and callback.open == 0
    assert_same(model, MLPClassifier(**SMALL, max_iter=3, backend=backend).fit(X, Y))


def test_in_a_scorer():
    press = Press(3)

    def scorer(estimator, X, y):
        press()
        return estimator.score(X, y)

    model = MLPClassifier(**SMALL, early_stopping=True, scoring=scorer)
    with interrupted:
        model.fit(X, Y)
    # The third epoch's weights have not been scored, and so cannot be the best.
    assert model.n_iter_ == 2 and len(model.validation_scores_) == 2
    assert {len(values) for values in model.history_.values()} == {2}


@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": (6, 4)}])
def test_pretraining_and_what_follows_end_together(params, in_batch):
    coder = Autoencoder(max_iter=4, batch_size=B)
    model = MLPClassifier(**{**SMALL, **params}, pretraining=coder)
    in_batch(5)
    with interrupted as found:
        model.fit(X, Y)
    assert len(found) == 1
    assert model.n_iter_ == 0 and model.pretraining_.n_iter_ == 1
    for W, trained in zip(model.coefs_[:-1], model.pretraining_.coefs_, strict=False):
        np.testing.assert_array_equal(W, trained)
    assert model.predict(X).shape == Y.shape


def test_layers_end_together(in_batch):
    coder = Autoencoder((6, 3), layerwise=True, max_iter=4, batch_size=B, random_state=0)
    in_batch(5)
    with interrupted as found:
        coder.fit(X)
    assert len(found) == 1 and coder.n_iter_ == 0
    assert np.isfinite(coder.predict(X)).all()


def test_no_other_solver_goes_on_from_interrupted_pretraining(in_batch):
    model = MLPClassifier((6,), solver="lbfgs", pretraining=Autoencoder(batch_size=B))
    in_batch(5)
    with pytest.raises(KeyboardInterrupt), interrupted:
        model.fit(X, Y)
    assert not hasattr(model, "coefs_")


def test_a_handler_of_the_users_is_asked_and_kept():
    asked = []

    def handler(signum, frame):
        asked.append(signum)

    before = signal.signal(signal.SIGINT, handler)
    try:
        model = MLPClassifier(**SMALL, max_iter=3, activation=pressing_tanh(2)).fit(X, Y)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == [signal.SIGINT] and model.n_iter_ == 3


# What is stopped as a whole


HALVING = ("_n_samples_orig", "_checked_cv_orig")


def snapshot(estimator):
    return dict(vars(estimator))


def assert_untouched(estimators, before):
    for estimator, attributes in zip(estimators, before, strict=True):
        # scikit-learn's halving begins to note things before it hands over.
        now = {k: v for k, v in vars(estimator).items() if k not in HALVING}
        assert now.keys() == attributes.keys()
        assert all(now[name] is attributes[name] for name in now)


@pytest.mark.parametrize("at", [0, 2])
def test_fit_many_stops_as_a_whole(at, backend):
    callback = Callback(at=0)
    fitted = MLPClassifier(**SMALL, max_iter=2).fit(X, Y)
    many = [
        LogisticRegression(),
        fitted,
        make_pipeline(PCA(2), MLPClassifier(**SMALL, max_iter=2)),
        MLPClassifier(**SMALL, max_iter=3, backend=backend).set_callbacks(callback),
        MLPClassifier(**SMALL, backend=backend, learning_rate=Pressing(at)),
        MLPClassifier(**SMALL, backend=backend, alpha=1.0, learning_rate=Pressing(at)),
    ]
    before = [snapshot(estimator) for estimator in many]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(KeyboardInterrupt):
            fit_many(many, X, Y)
    assert_untouched(many, before)
    assert callback.open == 0


def test_fit_many_stops_in_a_fit_of_its_own():
    """... which alone would have kept what it had."""
    pipe = make_pipeline(PCA(2), MLPClassifier(**SMALL, learning_rate=Pressing(1)))
    many = [LogisticRegression(), pipe, MLPClassifier(**SMALL)]
    before = [snapshot(estimator) for estimator in many]
    with pytest.raises(KeyboardInterrupt):
        fit_many(many, X, Y)
    assert_untouched(many, before)


def pressing(**params):
    return MLPClassifier(**{**SMALL, "max_iter": 3, **params})


SEARCHES = {
    "grid": lambda: GridSearchCV(pressing(learning_rate=Pressing(1)), {"alpha": [0.0, 1.0]}, cv=2),
    "halving": lambda: HalvingGridSearchCV(
        pressing(learning_rate=Pressing(1)), {"alpha": [0.0, 1.0]}, cv=2
    ),
    "a step before the last": lambda: GridSearchCV(
        make_pipeline(Autoencoder(**SMALL, learning_rate=Pressing(1)), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=2,
    ),
    "pre-training": lambda: GridSearchCV(
        pressing(pretraining=Autoencoder(max_iter=2, learning_rate=Pressing(1))),
        {"alpha": [0.0, 1.0]},
        cv=2,
    ),
    "one by one": lambda: GridSearchCV(
        BaggingClassifier(pressing(learning_rate=Pressing(1)), n_estimators=2),
        {"max_samples": [0.5, 0.9]},
        cv=2,
    ),
}


@pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)
def test_search_stops_as_a_whole(make):
    search = make()
    before = snapshot(search)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(KeyboardInterrupt):
            search.fit(X, Y)
    assert_untouched([search], [before])


def test_refit_stops_the_search(in_batch):
    """Two folds, of two batches each, come before the refit."""
    search = GridSearchCV(pressing(max_iter=1), {"alpha": [0.0]}, cv=2)
    before = snapshot(search)
    in_batch(2 * 2 + 2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert_untouched([search], [before])


def test_cross_validation_stops_and_tears_callbacks_down():
    callback = Callback(at=2)
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(pressing().set_callbacks(callback), X, Y, cv=3)
    assert callback.open == 0


# Signals from outside

SCRIPT = """
import os
import warnings
import numpy as np
from skdeep.model_selection import GridSearchCV
from skdeep.neural_network import MLPClassifier

warnings.simplefilter("ignore")

def schedule(lr0, progress):
    if np.max(progress.epoch) == 2:
        os.write(1, b"training\\n")  # in one piece, whoever else writes
    return lr0 + 0.0 * progress.step

X = np.random.RandomState(0).randn(300, 5)
y = (X[:, 0] > 0).astype(int)
model = MLPClassifier((20, 20), max_iter=10**6, tol=0, n_iter_no_change=np.inf, batch_size=10,
                      learning_rate=schedule)
"""
FIT = """
model.fit(X, y)
print("usable", model.n_iter_ >= 2, np.isfinite(model.predict_proba(X)).all())
"""
SEARCH = """
search = GridSearchCV(model, {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2)
try:
    search.fit(X, y)
except KeyboardInterrupt:
    print("as before", not hasattr(search, "n_splits_"), flush=True)
    raise
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")
@pytest.mark.parametrize(
    "code, said", [(FIT, "usable True True"), (SEARCH, "as before True")], ids=["fit", "search"]
)
def test_a_signal_from_outside(code, said, tmp_path):
    """Ctrl-C goes to the process group, workers included; none of them is left."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + code)
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline() == "training\n"
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert said in output
        assert process.returncode == (0 if code is FIT else -signal.SIGINT)
        deadline = time.monotonic() + 30
        while group_lives(process.pid):
            assert time.monotonic() < deadline, "a worker is left"
            time.sleep(0.1)
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
