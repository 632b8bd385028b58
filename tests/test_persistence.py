"""What a fitted model is when it comes back from a file, here or on another machine."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import InconsistentVersionWarning

from skdeep import LDA, base
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.model_selection import GridSearchCV, HalvingGridSearchCV
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0}
MODELS = {
    "MLPClassifier": MLPClassifier(**SMALL),
    "members": MLPClassifier(**SMALL, n_members=2, dropout=0.1, early_stopping=True),
    "pre-training": MLPClassifier(**SMALL, pretraining=Autoencoder(max_iter=2)),
    "MLPRegressor": MLPRegressor(**SMALL, solver="lm"),
    "Autoencoder": Autoencoder(**SMALL, noise="masking", noise_level=0.1),
    "LogisticRegression": LogisticRegression(),
    "LogisticRegression, adam": LogisticRegression(solver="adam", max_iter=5),
    "LogisticRegressionCV": LogisticRegressionCV(
        cv=2, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False
    ),
    "Perceptron": Perceptron(early_stopping=True),
    "LDA": LDA(),
    "LDA, lsqr": LDA(solver="lsqr", shrinkage=0.1),
    "GridSearchCV": GridSearchCV(LDA(), {"tol": [1e-4, 1e-3]}, cv=2),
    "HalvingGridSearchCV": HalvingGridSearchCV(LDA(), {"tol": [1e-4, 1e-3]}, cv=2),
}
each = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def fit(model):
    return clone(model).fit(X, X[:, 0] if isinstance(model, MLPRegressor) else Y)


@each
def test_the_versions_are_kept(model, tmp_path, monkeypatch):
    model = fit(model)
    data = pickle.dumps(model)
    joblib.dump(model, tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for back in (pickle.loads(data), joblib.load(tmp_path / "model"), copy.deepcopy(model)):
            assert vars(back).keys() == vars(model).keys()
            np.testing.assert_array_equal(back.predict(X), model.predict(X))
    for name in base.VERSIONS:
        monkeypatch.setitem(base.VERSIONS, name, "99.1")
        with pytest.warns(InconsistentVersionWarning) as found:
            pickle.loads(data)
        said = [str(warning.message) for warning in found]
        assert any(f"{type(model).__name__} (of {name})" in text for text in said)
        assert all("when using version 99.1" in text for text in said)
        monkeypatch.undo()


def test_a_pickle_without_versions_warns():
    state = vars(fit(LDA())).copy()
    with pytest.warns(InconsistentVersionWarning, match="from version unknown") as found:
        LDA().__setstate__(state)
    assert len(found) == 2 and "_skdeep_version" not in state


@each
def test_nothing_internal_is_in_a_pickle(model):
    """Safe formats, such as that of skops, have to be told to trust each class of ours."""
    found = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            found.add((module, name))
            return super().find_class(module, name)

    model = fit(model)
    Recorder(io.BytesIO(pickle.dumps(model))).load()
    inside = [getattr(model, name, None) for name in ("estimator", "pretraining")]
    known = {type(estimator).__name__ for estimator in (model, *inside)}
    assert {name for module, name in found if module.startswith("skdeep")} <= known


def size(model):
    return len(pickle.dumps(model))


def test_size():
    rows, y = make_classification(n_samples=150, random_state=0)
    params = {"hidden_layer_sizes": (10,), "random_state": 0}
    model = MLPClassifier(**params, max_iter=10).fit(rows, y)
    weights = sum(a.nbytes for a in (*model.coefs_, *model.intercepts_))
    assert 1700 < weights < 1900
    # Twice the weights are Adam's moments, without which partial_fit would not go on.
    assert size(model) <= weights + 6 * 1024
    assert size(model) <= 3 * weights + 3 * 1024
    # An epoch is seven numbers, to which a pickle adds a byte or two each.
    longer = MLPClassifier(**params, max_iter=110).fit(rows, y)
    assert size(longer) - size(model) <= 100 * 7 * 10
    for n in (10, 110):
        other = theirs.MLPClassifier(**params, max_iter=n).fit(rows, y)
        assert size(MLPClassifier(**params, max_iter=n).fit(rows, y)) < size(other)


GOING_ON = {
    "dropout": MLPClassifier(**SMALL, dropout=0.2, batch_norm=True),
    "members": MLPClassifier(**SMALL, n_members=2, solver="sgd"),
    "autoencoder": Autoencoder(**SMALL, noise="gaussian", noise_level=0.1),
    "logistic": LogisticRegression(solver="adam", max_iter=5, random_state=0),
}


@pytest.mark.parametrize("model", GOING_ON.values(), ids=GOING_ON)
@pytest.mark.parametrize("way", ["partial_fit", "fit"])
def test_training_goes_on_as_if_it_had_stayed(model, way, backend):
    model = clone(model).set_params(backend=backend, warm_start=way == "fit").fit(X, Y)
    back = pickle.loads(pickle.dumps(model))
    for one in (model, back):
        getattr(one, way)(X, Y)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert back.loss_ == model.loss_ and back.loss_curve_ == model.loss_curve_
    assert np.shape(back.loss_curve_)[-1] == (6 if way == "partial_fit" else 10)


def test_a_pickle_of_an_unfitted_model_is_that_model():
    model = pickle.loads(pickle.dumps(MLPClassifier(alpha=0.5)))
    assert model.alpha == 0.5 and not hasattr(model, "coefs_")


# Trained with torch, used where there is none

ABSENT = """
import pickle, sys, warnings

class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import numpy as np

with open(sys.argv[1], "rb") as file:
    entries = pickle.load(file)
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    for model, X, expected in entries:
        for method, values in expected.items():
            np.testing.assert_allclose(getattr(model, method)(X), values, rtol=1e-6, atol=1e-9)
print(len(found), found[0].category.__name__, found[0].filename == sys.argv[0])
print(found[0].message)
try:
    entries[0][0].fit(X, X)
except ValueError as error:
    print(error)
print("torch" in sys.modules)
"""


def test_a_model_of_torch_predicts_where_torch_is_absent(tmp_path):
    pytest.importorskip("torch")
    methods = ("predict", "predict_proba", "decision_function", "transform")
    models = {
        "network": MLPClassifier(**SMALL),
        "half": MLPClassifier(**SMALL, dtype="bfloat16"),
        "members": MLPClassifier(**SMALL, batch_norm=True, n_members=2),
        "regressor": MLPRegressor(**SMALL),
        "autoencoder": Autoencoder(**SMALL),
        "logistic": LogisticRegression(),
        "perceptron": Perceptron(),
        "lda": LDA(),
        "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    }
    entries = []
    for model in models.values():
        model = clone(model)
        inner = {"estimator__backend": "torch"} if hasattr(model, "estimator") else {}
        model = fit(model.set_params(**(inner or {"backend": "torch"})))
        rows = X.astype(np.float32) if model.get_params().get("dtype") == "bfloat16" else X
        found = {name: getattr(model, name)(rows) for name in methods if hasattr(model, name)}
        if rows is not X:  # products in bfloat16 have three digits
            found = {"predict": found["predict"]}
        entries.append((model, rows, found))
    script, data = tmp_path / "script.py", tmp_path / "data"
    script.write_text(ABSENT)
    data.write_bytes(pickle.dumps(entries))
    lines = subprocess.run(
        [sys.executable, script, data], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    assert lines[0] == "1 UserWarning True"
    assert "Fitted models predict with NumPy here" in lines[1]
    assert "needs PyTorch" in lines[2] and "predict with NumPy" not in lines[2]
    assert lines[3] == "False"
