"""A fit that was killed goes on to the bits that it would have come to undisturbed."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn import model_selection as theirs
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeep import callbacks, fit_many, schedules, storage
from skdeep.callbacks import Checkpoint
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.model_selection import GridSearchCV, cross_val_score, learning_curve
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.stochastic import STOCHASTIC_SOLVERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Callbacks are only supported"),
]

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
WEIGHT = np.random.RandomState(0).uniform(0.5, 2.0, len(X))
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 12, "batch_size": 40, "random_state": 0}


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


@pytest.fixture
def kill(monkeypatch):
    """Kill the process after the n-th writing from now; 0 is never."""
    left = [0]

    def writing(path, content):
        storage.write(path, content)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(callbacks, "write", writing)
    return lambda n: left.__setitem__(0, n)


def fitted(make, y=Y, path=None, **params):
    """A new model, as the script makes it, fitted."""
    model = make()
    if path is not None:
        model.set_callbacks(Checkpoint(path))
    return model.fit(X, y, **params)


def left_by(model) -> dict:
    """What training has left on a model, without the time that it took."""
    names = vars(model).keys() - set(model.get_params()) - {"history_", "_random_state"}
    names -= {"_skl_callbacks", "_label_binarizer", "pretraining_"}
    found = {name: getattr(model, name) for name in names}
    histories = model.history_ if isinstance(model.history_, list) else [model.history_]
    without_time = [{k: v for k, v in h.items() if k != "seconds"} for h in histories]
    return {**found, "history": without_time}


def finish(kill, run, at=(3, 4)):
    """Run a script that is killed some times, until it ends."""
    for n in at:
        kill(n)
        with pytest.raises(Killed):
            run()
    kill(0)
    return run()


def network(**params):
    return lambda: MLPClassifier(**{**SMALL, **params})


def logistic(**params):
    return lambda: LogisticRegression(max_iter=12, batch_size=40, random_state=0, **params)


stalling = {"solver": "sgd", "learning_rate_init": 0.5, "tol": 0.05, "n_iter_no_change": 2}
ending = {**stalling, "tol": 0.01, "n_iter_no_change": 1}
FORMS = {
    **{solver: (network(solver=solver), Y) for solver in STOCHASTIC_SOLVERS},
    "sgd": (network(solver="sgd", nesterovs_momentum=False), Y),
    "nesterov": (network(solver="sgd"), Y),
    **{
        name: (network(solver="sgd", learning_rate=name), Y)
        for name in ("invscaling", "step", "exponential", "cosine", "one_cycle")
    },
    "adaptive": (network(**stalling, learning_rate="adaptive"), Y),
    "plateau": (network(**stalling, learning_rate=schedules.Plateau(patience=1)), Y),
    "early stopping": (network(early_stopping=True, learning_rate_init=0.3), Y),
    "dropout": (network(dropout=[0.1, 0.3]), Y),
    "batch norm": (network(batch_norm=True), Y),
    "bounds": (network(l1_ratio=0.5, clip_norm=0.1, max_norm=0.5, label_smoothing=0.1), Y),
    "single precision": (network(dtype="float32"), Y),
    "members that end": (network(**ending, n_members=3, dropout=0.4), Y),
    "members, early stopping": (network(n_members=2, early_stopping=True), Y),
    "in order": (network(shuffle=False), Y),
    "pre-training": (network(pretraining=Autoencoder(max_iter=2)), Y),
    "regressor": (lambda: MLPRegressor(**SMALL), X[:, 0]),
    "masking": (lambda: Autoencoder(**SMALL, noise="masking", noise_level=0.2), None),
    "gaussian": (lambda: Autoencoder(**SMALL, noise="gaussian", noise_level=0.2), None),
    "logistic, sgd": (logistic(solver="sgd"), Y),
    "logistic, adam, l1": (logistic(solver="adam", l1_ratio=1.0), Y),
}


@pytest.mark.parametrize("make, y", FORMS.values(), ids=FORMS)
def test_the_same_bits(make, y, kill, tmp_path, backend):
    def there():
        return make().set_params(backend=backend)

    path = tmp_path / "state"
    expected = fitted(there, y)
    model = finish(kill, lambda: fitted(there, y, path))
    np.testing.assert_equal(left_by(model), left_by(expected))
    assert not list(tmp_path.iterdir())


def test_members_do_end_at_different_epochs():
    """... or the form above would not show that those that have ended are kept."""
    model = FORMS["members that end"][0]().fit(X, Y)
    assert min(map(len, model.loss_curve_)) < 7 < model.n_iter_


def test_weights_validation_data_and_sparse_rows(kill, tmp_path):
    rows = sparse.csr_array(np.where(np.abs(X) > 0.5, X, 0.0))
    params = {"sample_weight": WEIGHT, "X_val": X[:30], "y_val": Y[:30]}

    def run(path=None):
        model = MLPClassifier(**SMALL, early_stopping=True, class_weight="balanced")
        if path:
            model.set_callbacks(Checkpoint(path))
        return model.fit(rows, Y, **params)

    model = finish(kill, lambda: run(tmp_path / "state"))
    np.testing.assert_equal(left_by(model), left_by(run()))


@pytest.mark.parametrize("random_state", [None, np.random.RandomState])
@pytest.mark.parametrize("form", [{}, {"early_stopping": True, "dropout": 0.2, "n_members": 2}])
def test_without_a_seed_the_saved_generator_goes_on(random_state, form, kill, tmp_path):
    """The first process draws the seed; what others draw makes no difference."""
    draws = iter([5, 6, 7])
    after = []

    def run(seed, path=None):
        np.random.seed(seed)
        generator = np.random.mtrand._rand
        if random_state is not None:
            generator = random_state(seed)
        given = generator if random_state else None
        model = fitted(network(**form, random_state=given), path=path)
        after.append(generator.randint(2**31))  # as the script draws on
        return left_by(model)

    expected = run(5)
    found = finish(kill, lambda: run(next(draws), tmp_path / "state"))
    np.testing.assert_equal(found, expected)
    assert after[0] == after[1]


@pytest.mark.parametrize("at", [(3, 4), (9,), (9, 9, 5), (12, 3), (20,)])
def test_warm_start(at, kill, tmp_path):
    """Two fits with one checkpoint, killed in the first, the second or both."""

    def run(path=None):
        model = network(warm_start=True, max_iter=8, solver="sgd", dropout=0.2)()
        if path:
            model.set_callbacks(Checkpoint(path))
        return model.fit(X, Y).fit(X, Y)

    expected = run()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is of a later fit")
        kill(at[0])
        for n in (*at[1:], 0):
            try:
                model = run(tmp_path / "state")
            except Killed:
                kill(n)
                model = None
        model = model or run(tmp_path / "state")
    np.testing.assert_equal(left_by(model), left_by(expected))
    assert model.t_ == 16 * len(X) and not list(tmp_path.iterdir())


def test_every_other_fit_of_a_chain_leaves_the_file(kill, tmp_path):
    path = tmp_path / "state"

    def run():
        model = network(warm_start=True, max_iter=8)().set_callbacks(Checkpoint(path))
        return model.fit(X, Y).fit(X, Y)

    kill(8 + 3)
    with pytest.raises(Killed):
        run()
    kill(0)
    with pytest.warns(UserWarning, match="is of a later fit"):
        run()


def test_a_fit_that_was_killed_at_its_very_end(kill, tmp_path):
    path = tmp_path / "state"
    kill(12)
    with pytest.raises(Killed):
        fitted(network(), path=path)
    kill(1)  # nothing is left to be written
    model = fitted(network(), path=path)
    np.testing.assert_equal(left_by(model), left_by(fitted(network())))


def test_every(kill, tmp_path):
    written, write = [], callbacks.write

    def counting(path, content):
        written.append(int(content["state"]["n_iter"].max()))
        write(path, content)

    callbacks.write = counting  # the fixture puts it back
    network()().set_callbacks(Checkpoint(tmp_path / "state", every=5)).fit(X, Y)
    assert written == [5, 10, 12]


def test_the_path_is_kept_as_given(kill, tmp_path):
    for name in ("state", "state.ckpt", "state.npz", "state.npz.json"):
        kill(2)
        with pytest.raises(Killed):
            fitted(network(), path=str(tmp_path / name))
        assert [file.name for file in tmp_path.iterdir()] == [name]
        kill(0)
        fitted(network(), path=tmp_path / name)
        assert not list(tmp_path.iterdir())


def test_a_relative_path(kill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = finish(kill, lambda: fitted(network(), path="state"))
    np.testing.assert_equal(left_by(model), left_by(fitted(network())))


def test_ctrl_c_leaves_the_file(tmp_path):
    path = tmp_path / "state"

    def schedule(lr0, progress):
        if pressing and np.max(progress.epoch) == 7:
            signal.raise_signal(signal.SIGINT)
        return lr0 + 0.0 * progress.step

    pressing = True
    with pytest.warns(UserWarning, match="interrupted"):
        fitted(network(learning_rate=schedule), path=path)
    assert path.exists()
    pressing = False
    model = fitted(network(learning_rate=schedule), path=path)
    np.testing.assert_equal(left_by(model), left_by(fitted(network())))
    assert not path.exists()


def test_beside_other_callbacks(kill, tmp_path):
    class Last:
        """Ends the fit once the loss is low enough."""

        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, X=None, y=None):
            if context.task_name == "epoch" and fitted_estimator is not None:
                return fitted_estimator.score(X, y) > 0.75
            return False

    def run(*more):
        return network(learning_rate_init=0.005)().set_callbacks(Last(), *more).fit(X, Y)

    expected = run()
    assert 4 < expected.n_iter_ < 12
    checkpoint = Checkpoint(tmp_path / "state")
    model = finish(kill, lambda: run(checkpoint), at=(2, 2))
    np.testing.assert_equal(left_by(model), left_by(expected))
    assert not list(tmp_path.iterdir())


def test_in_a_pipeline(kill, tmp_path):
    def run(*callbacks):
        model = network()().set_callbacks(*callbacks)
        return make_pipeline(StandardScaler(), model).fit(X, Y)[-1]

    checkpoint = Checkpoint(tmp_path / "state")
    model = finish(kill, lambda: run(checkpoint))
    np.testing.assert_equal(left_by(model), left_by(run()))


# One fit, one file


@pytest.mark.parametrize(
    "fit",
    [
        lambda model: GridSearchCV(model, {"alpha": [0.0, 1.0]}, cv=2).fit(X, Y),
        lambda model: GridSearchCV(
            make_pipeline(StandardScaler(), model), {"mlpclassifier__alpha": [0.0, 1.0]}, cv=2
        ).fit(X, Y),
        lambda model: theirs.GridSearchCV(model, {"alpha": [0.0, 1.0]}, cv=2).fit(X, Y),
        lambda model: theirs.GridSearchCV(
            make_pipeline(StandardScaler(), model), {"mlpclassifier__alpha": [0.0, 1.0]}, cv=2
        ).fit(X, Y),
        lambda model: cross_val_score(model, X, Y, cv=2),
        lambda model: learning_curve(model, X, Y, cv=2, train_sizes=[0.5, 1.0]),
        lambda model: fit_many([model, network()().set_callbacks(*model._skl_callbacks)], X, Y),
        lambda model: fit_many(
            [model, network()().set_callbacks(Checkpoint(model._skl_callbacks[0].path))], X, Y
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:(?s).*fits failed")
def test_what_would_share_a_checkpoint_refuses(fit, tmp_path):
    model = network()().set_callbacks(Checkpoint(tmp_path / "state"))
    with pytest.raises(ValueError, match="would be shared"):
        fit(model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "model",
    [
        Perceptron(),
        LogisticRegression(),
        LogisticRegressionCV(cv=2, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False),
        MLPClassifier(solver="lbfgs"),
        MLPRegressor(solver="lm"),
        GridSearchCV(MLPClassifier(), {"alpha": [1.0]}),
    ],
)
def test_what_has_no_epochs_refuses(model, tmp_path):
    with pytest.raises(ValueError, match="no epochs to write down"):
        model.set_callbacks(Checkpoint(tmp_path / "state")).fit(X, Y)


def test_one_checkpoint_a_fit(tmp_path):
    pair = Checkpoint(tmp_path / "a"), Checkpoint(tmp_path / "b")
    with pytest.raises(ValueError, match="one Checkpoint"):
        network()().set_callbacks(*pair).fit(X, Y)


def test_fit_many_with_a_checkpoint_each(kill, tmp_path):
    """Alike but for a number: without files they would be a stack."""

    def run(*names):
        models = [network(alpha=alpha)() for alpha in (0.0, 1.0, 2.0)]
        for model, name in zip(models, names):
            model.set_callbacks(Checkpoint(tmp_path / name))
        return fit_many(models, X, Y)

    expected = [left_by(model) for model in run()]
    models = finish(kill, lambda: run("a", "b"), at=(5, 12))
    # Of a stack of three and a fit alone products may be rounded differently.
    for model, other in zip(models, expected, strict=True):
        for W, same in zip(model.coefs_, other["coefs_"], strict=True):
            np.testing.assert_allclose(W, same, rtol=1e-9)
    assert not list(tmp_path.iterdir())


# Refusals


@pytest.fixture
def killed(kill, tmp_path):
    """The file of a fit that was killed after three epochs."""
    path = tmp_path / "state"
    kill(3)
    with pytest.raises(Killed):
        fitted(network(), path=path)
    kill(0)
    return path


@pytest.mark.parametrize(
    "params, said",
    [
        ({"alpha": 0.5}, "alpha was 0.0001 and is 0.5"),
        ({"hidden_layer_sizes": (7,)}, r"hidden_layer_sizes was \(6,\) and is \(7,\)"),
        ({"random_state": 1}, "random_state was 0 and is 1"),
        ({"max_iter": 13}, "max_iter was 12 and is 13"),
        ({"learning_rate": schedules.Step(every=3)}, "learning_rate was 'constant' and is Step"),
        ({"learning_rate": lambda lr0, progress: lr0}, "learning_rate was 'constant' and is <f"),
        ({"dtype": "float32"}, "dtype was None and is 'float32'"),
        ({"backend": "torch"}, "backend was 'auto' and is 'torch'"),
    ],
)
def test_other_parameters_are_refused(params, said, killed):
    before = killed.read_bytes()
    model = network(**params)().set_callbacks(Checkpoint(killed))
    with pytest.raises(ValueError, match=said):
        model.fit(X, Y)
    assert not hasattr(model, "coefs_") and killed.read_bytes() == before


def test_functions_are_told_apart_by_what_they_do(kill, tmp_path):
    path = tmp_path / "state"
    for function in (lambda lr0, progress: lr0 / 2, lambda lr0, progress: lr0 / 3):
        kill(3)
        with pytest.raises(Killed if not path.exists() else ValueError):
            fitted(network(learning_rate=function), path=path)


def test_partial_fit_neither_writes_nor_reads(killed):
    """Its epoch would be taken for one of the fit that was killed."""
    before = killed.read_bytes()
    for make in (network(), logistic(solver="sgd")):
        model, alone = make().set_callbacks(Checkpoint(killed)), make()
        for _ in range(2):
            model.partial_fit(X, Y, classes=range(3))
            alone.partial_fit(X, Y, classes=range(3))
        np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))
    assert killed.read_bytes() == before


def test_verbosity_makes_no_difference(killed, capsys):
    model = fitted(network(verbose=True), path=killed)
    np.testing.assert_equal(left_by(model), left_by(fitted(network())))
    assert "Iteration 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "data",
    [
        (X + 1e-12, Y, None),
        (X[:-1], Y[:-1], None),
        (X, (Y + 1) % 3, None),
        (X, Y, WEIGHT),
        (X.astype(np.float32), Y, None),
    ],
)
def test_other_data_are_refused(data, killed):
    rows, y, weight = data
    model = network()().set_callbacks(Checkpoint(killed))
    with pytest.raises(ValueError, match="the data .* differ"):
        model.fit(rows, y, sample_weight=weight)


def test_another_estimator_is_refused(killed):
    with pytest.raises(ValueError, match="class was MLPClassifier and is MLPRegressor"):
        fitted(lambda: MLPRegressor(**SMALL), path=killed)


def test_another_version_is_refused(killed, monkeypatch):
    monkeypatch.setattr(callbacks, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"skdeep was .* and is 9\.9"):
        fitted(network(), path=killed)


def test_another_start_is_refused(kill, tmp_path):
    path = tmp_path / "state"

    def run(rows):
        model = network(warm_start=True)().fit(X[rows], Y[rows])
        model.set_callbacks(Checkpoint(path)).fit(X, Y)

    kill(3)
    with pytest.raises(Killed):
        run(slice(None))
    with pytest.raises(ValueError, match="began from other parameters"):
        run(slice(None, None, -1))


def test_a_refusal_draws_nothing(killed):
    generator, same = np.random.RandomState(3), np.random.RandomState(3)
    with pytest.raises(ValueError, match="of another fit"):
        fitted(network(random_state=generator), path=killed)
    assert generator.randint(2**31) == same.randint(2**31)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"more",
        lambda data: b"a text",
        lambda data: pickle.dumps({"state": 1}),
        lambda data: b"\x93NUMPY" + data,
    ],
)
def test_a_damaged_file_is_refused(spoil, killed):
    killed.write_bytes(spoil(killed.read_bytes()))
    before = killed.read_bytes()
    try:
        model = fitted(network(), path=killed)
    except ValueError as error:
        assert "is damaged" in str(error)
        assert killed.read_bytes() == before
    else:  # what follows the end of an archive does not count
        np.testing.assert_equal(left_by(model), left_by(fitted(network())))


def test_a_flipped_bit_never_changes_the_model(killed):
    """Anywhere in the file: it is noticed, or it is of no consequence."""
    data, rng, refused = killed.read_bytes(), random.Random(0), 0
    expected = left_by(fitted(network()))
    for _ in range(60):
        place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        killed.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        try:
            model = fitted(network(), path=killed)
        except ValueError as error:
            assert str(killed) in str(error)
            refused += 1
        else:
            np.testing.assert_equal(left_by(model), expected)
    assert refused > 30


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "numbers.npz"
    np.savez(path, X=X)
    with pytest.raises(ValueError, match="is damaged"):
        fitted(network(), path=path)
    storage.write(str(path), {"a": 1})
    with pytest.raises(ValueError, match="is no checkpoint"):
        fitted(network(), path=path)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_reading_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("state.npz", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is damaged"):
        fitted(network(), path="state.npz")
    Path("state.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="is damaged"):
        fitted(network(), path="state.npz")
    assert not Path("exploded").exists()


def test_bad_arguments(tmp_path):
    for every in (0, -1, 1.5, "1"):
        with pytest.raises(ValueError, match="every="):
            Checkpoint(tmp_path / "state", every=every)
    with pytest.raises(TypeError):
        Checkpoint(None)
    for path in (tmp_path, tmp_path / "nowhere" / "state"):
        with pytest.raises(ValueError, match="a folder that exists"):
            fitted(network(), path=path)


# Writing


def test_the_file_is_whole_whenever_the_process_ends(killed, monkeypatch):
    """Killed while it writes, a process leaves the file of the epoch before."""
    savez, calls = np.savez, []

    def half(file, *arrays):
        calls.append(1)
        savez(file, *arrays[: len(arrays) // 2])
        if len(calls) == 2:
            raise Killed

    monkeypatch.setattr(np, "savez", half)
    monkeypatch.setattr(os, "replace", lambda part, path: None)
    before = killed.read_bytes()
    with pytest.raises(Killed):
        fitted(network(), path=killed)
    assert killed.read_bytes() == before and Path(f"{killed}.part").exists()
    monkeypatch.undo()
    model = fitted(network(), path=killed)
    np.testing.assert_equal(left_by(model), left_by(fitted(network())))
    assert not list(killed.parent.iterdir())


def test_written_flushed_renamed(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (done.append((n, a)), f(*a))[1])
    path = str(tmp_path / "state")
    storage.write(path, {"a": np.arange(3), "b": [np.inf, -0.0, 0.1, None, "ü"], "c": 2**127})
    assert [name for name, _ in done] == ["fsync", "replace"]
    assert done[1][1] == (f"{path}.part", path)
    found = storage.read(path)
    np.testing.assert_array_equal(found["a"], np.arange(3))
    assert found["b"] == [np.inf, -0.0, 0.1, None, "ü"] and found["c"] == 2**127
    assert np.signbit(found["b"][1])


# Real processes, killed at random moments. They fork from one that has imported the package.

SCRIPT = """
import json, os, random, signal, sys, time, warnings
from importlib.util import find_spec
import numpy as np
from sklearn.datasets import load_iris
from skdeep.callbacks import Checkpoint
from skdeep.linear_model import LogisticRegression
from skdeep.neural_network import MLPClassifier

warnings.simplefilter("ignore")
X, y = load_iris(return_X_y=True)
rng = random.Random(int(sys.argv[1]))
common = {"max_iter": 60, "batch_size": 10, "tol": 0.0, "random_state": 0}
MODELS = [
    lambda: MLPClassifier((8,), dropout=0.2, batch_norm=True, n_members=2, **common),
    lambda: MLPClassifier((8,), early_stopping=True, learning_rate="cosine", **common),
    lambda: LogisticRegression(solver="sgd", **common),
]
if find_spec("torch"):
    import torch
    torch.set_num_threads(1)  # threads do not survive a fork
    MODELS.append(lambda: MLPClassifier((8,), dropout=0.2, backend="torch", **common))

def numbers(model):
    arrays = getattr(model, "coefs_", None) or [model.coef_, model.intercept_]
    return [a.tobytes().hex() for a in (*arrays, *getattr(model, "intercepts_", ()))]

for make in MODELS:
    began = time.perf_counter()
    expected = numbers(make().set_callbacks(Checkpoint("other")).fit(X, y))
    duration = time.perf_counter() - began
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                found = numbers(make().set_callbacks(Checkpoint("state")).fit(X, y))
                code = 0 if found == expected else 2
            finally:
                os._exit(code)
        if kills < 12:
            time.sleep(rng.uniform(0.0, 0.4 * duration))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    print(json.dumps([kills, os.waitstatus_to_exitcode(status), os.listdir(".")]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "here").mkdir()
    lines = subprocess.run(
        [sys.executable, script, "0"],
        cwd=tmp_path / "here",
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    ).stdout.splitlines()
    assert len(lines) == 3 + bool(find_spec("torch"))
    for kills, code, files in map(json.loads, lines):
        assert kills > 0 and code == 0 and files == []
