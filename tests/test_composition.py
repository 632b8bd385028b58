"""The estimators work inside everything that scikit-learn builds around an estimator.

Where both are fitted to the end, what scikit-learn's own class scores in the same place is what
ours must score.
"""

import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    load_wine,
    make_multilabel_classification,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skdeep import discriminant_analysis, linear_model, neural_network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODULES = {
    "Perceptron": "linear_model",
    "LogisticRegression": "linear_model",
    "LinearDiscriminantAnalysis": "discriminant_analysis",
    "MLPClassifier": "neural_network",
    "MLPRegressor": "neural_network",
}
MLP = {"hidden_layer_sizes": (8,), "max_iter": 15, "learning_rate_init": 0.05, "random_state": 0}
PARAMS = {
    "Perceptron": {"random_state": 0},
    # At the optimum the path there leaves no trace in the scores.
    "LogisticRegression": {"tol": 1e-8, "max_iter": 1000},
    "LinearDiscriminantAnalysis": {},
    "MLPClassifier": MLP,
    "MLPRegressor": MLP,
}
OURS = (linear_model, discriminant_analysis, neural_network)
CLASSIFIERS = [name for name in MODULES if name != "MLPRegressor"]
PROBABILISTIC = [name for name in CLASSIFIERS if name != "Perceptron"]
WEIGHTED = [name for name in CLASSIFIERS if name != "LinearDiscriminantAnalysis"]


def ours(name, backend, **params):
    cls = next(getattr(module, name) for module in OURS if hasattr(module, name))
    return cls(backend=backend, **{**PARAMS[name], **params})


def theirs(name, **params):
    module = __import__(f"sklearn.{MODULES[name]}", fromlist=[name])
    return getattr(module, name)(**{**PARAMS[name], **params})


def pair(name, backend, **params):
    return ours(name, backend, **params), theirs(name, **params)


def data(load=load_iris):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def assert_same_fit(build, name, backend, X, y, fit_params=None):
    """Build around ours and around theirs: the same predictions come out."""
    fitted = [build(m).fit(X, y, **(fit_params or {})) for m in pair(name, backend)]
    assert_array_equal(fitted[0].predict(X), fitted[1].predict(X))
    if hasattr(fitted[1], "predict_proba"):
        assert_allclose(fitted[0].predict_proba(X), fitted[1].predict_proba(X), atol=1e-5)
    return fitted[0]


each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


@each_classifier
def test_pipeline(name, backend):
    X, y = load_wine(return_X_y=True)

    def build(model):
        return make_pipeline(StandardScaler(), model)

    model = assert_same_fit(build, name, backend, X, y)
    assert model.score(X, y) > 0.9
    assert model[-1].backend_ == {"numpy": "numpy", "torch": "torch:cpu"}[backend]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@each_classifier
def test_column_transformer(name, library, backend):
    frames = pytest.importorskip(library, reason=f"{library} is not installed")
    rng = np.random.RandomState(0)
    X, y = load_breast_cancer(return_X_y=True)
    X = X[:200, :4]
    columns = {f"x{i}": X[:, i] for i in range(4)}
    columns["kind"] = np.where(rng.rand(200) < 0.5, "a", "b").tolist()
    frame = frames.DataFrame(columns)
    target = frames.Series(np.where(y[:200] == 1, "benign", "malignant").tolist())

    def build(model):
        numbers = [f"x{i}" for i in range(4)]
        transformer = ColumnTransformer(
            [("scale", StandardScaler(), numbers), ("encode", OneHotEncoder(), ["kind"])]
        )
        return make_pipeline(transformer, model)

    model = assert_same_fit(build, name, backend, frame, target)
    assert set(model.classes_) == {"benign", "malignant"}
    assert model.score(frame, target) > 0.8


@each_classifier
def test_data_frame_gives_feature_names(name, backend):
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame, y = load_iris(return_X_y=True, as_frame=True)
    model = ours(name, backend).fit(frame, y)
    assert_array_equal(model.feature_names_in_, frame.columns)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="X does not have valid feature names")
        assert_array_equal(
            model.predict(frame), ours(name, backend).fit(frame.values, y).predict(frame.values)
        )


GRIDS = {
    "Perceptron": {"penalty": [None, "l2"], "alpha": [1e-4, 1e-2]},
    "LogisticRegression": {"C": [0.01, 1.0, 100.0]},
    "LinearDiscriminantAnalysis": {"solver": ["lsqr"], "shrinkage": [None, 0.1, "auto"]},
    "MLPClassifier": {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (8, 4)]},
}
SEARCHES = {
    "grid": lambda model, grid: GridSearchCV(model, grid, cv=3),
    "randomized": lambda model, grid: RandomizedSearchCV(
        model, grid, n_iter=3, cv=3, random_state=0
    ),
    "halving": lambda model, grid: HalvingGridSearchCV(
        model, grid, cv=3, random_state=0, min_resources=60
    ),
}


@pytest.mark.parametrize("search", SEARCHES)
@each_classifier
def test_search(name, search, backend):
    X, y = data()
    fitted = [SEARCHES[search](m, GRIDS[name]).fit(X, y) for m in pair(name, backend)]
    assert_allclose(
        fitted[0].cv_results_["mean_test_score"], fitted[1].cv_results_["mean_test_score"]
    )
    assert fitted[0].best_params_ == fitted[1].best_params_
    assert_array_equal(fitted[0].predict(X), fitted[1].predict(X))


def test_search_over_backends():
    """`backend` is a string, hence a parameter like any other."""
    pytest.importorskip("torch", reason="torch is not installed")
    X, y = data()
    grid = {"backend": ["numpy", "torch"]}
    search = GridSearchCV(ours("MLPClassifier", "auto"), grid, cv=3).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_cross_validate_with_several_scorers(name, backend):
    X, y = data()
    scoring = ["accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"]
    results = [
        cross_validate(m, X, y, cv=3, scoring=scoring, return_train_score=True)
        for m in pair(name, backend)
    ]
    for key in results[1]:
        if not key.endswith("time"):
            assert_allclose(results[0][key], results[1][key], atol=1e-5, err_msg=key)


@pytest.mark.parametrize("parallel", ["loky", "threading"])
@each_classifier
def test_two_jobs(name, parallel, backend):
    X, y = data()
    alone = cross_val_score(ours(name, backend), X, y, cv=4)
    with joblib.parallel_config(backend=parallel, n_jobs=2):
        together = cross_val_score(ours(name, backend), X, y, cv=4, n_jobs=2)
    assert_allclose(together, alone)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@each_classifier
def test_calibrated_classifier(name, method, backend):
    X, y = data(load_breast_cancer)

    def build(model):
        return CalibratedClassifierCV(model, method=method, cv=3)

    model = assert_same_fit(build, name, backend, X, y)
    assert model.score(X, y) > 0.95


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting_classifier(voting, backend):
    X, y = data()
    names = PROBABILISTIC if voting == "soft" else CLASSIFIERS
    models = [
        VotingClassifier([(n, pair(n, backend)[i]) for n in names], voting=voting).fit(X, y)
        for i in range(2)
    ]
    assert_array_equal(models[0].predict(X), models[1].predict(X))
    if voting == "soft":
        assert_allclose(models[0].predict_proba(X), models[1].predict_proba(X), atol=1e-5)


def test_stacking_classifier(backend):
    X, y = data()
    models = [
        StackingClassifier(
            [(n, pair(n, backend)[i]) for n in CLASSIFIERS],
            final_estimator=pair("LogisticRegression", backend)[i],
            cv=3,
        ).fit(X, y)
        for i in range(2)
    ]
    assert_allclose(models[0].transform(X), models[1].transform(X), atol=1e-5)
    assert_allclose(models[0].predict_proba(X), models[1].predict_proba(X), atol=1e-5)


@each_classifier
def test_bagging_classifier(name, backend):
    X, y = data()

    def build(model):
        return BaggingClassifier(
            model, n_estimators=3, max_samples=0.7, max_features=0.8, random_state=0
        )

    assert_same_fit(build, name, backend, X, y)


@pytest.mark.parametrize("name", WEIGHTED)
def test_ada_boost_classifier(name, backend):
    X, y = data()

    def build(model):
        return AdaBoostClassifier(model, n_estimators=4, random_state=0)

    model = assert_same_fit(build, name, backend, X, y)
    assert len(model.estimators_) > 1


@each_classifier
def test_one_vs_rest_classifier(name, backend):
    X, y = data()
    model = assert_same_fit(OneVsRestClassifier, name, backend, X, y)
    assert len(model.estimators_) == 3


@each_classifier
def test_multi_output_classifier(name, backend):
    X, Y = make_multilabel_classification(100, 6, n_classes=3, random_state=0)
    fitted = [MultiOutputClassifier(m).fit(X, Y) for m in pair(name, backend)]
    assert_array_equal(fitted[0].predict(X), fitted[1].predict(X))
    assert fitted[0].predict(X).shape == Y.shape


@pytest.mark.parametrize("name", ["Perceptron", "LogisticRegression", "LinearDiscriminantAnalysis"])
def test_rfe(name, backend):
    X, y = data(load_wine)
    selected = [RFE(m, n_features_to_select=5).fit(X, y) for m in pair(name, backend)]
    assert_array_equal(selected[0].ranking_, selected[1].ranking_)


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_self_training_classifier(name, backend):
    X, y = data()
    hidden = np.random.RandomState(0).rand(len(y)) < 0.6
    partly = np.where(hidden, -1, y)

    def build(model):
        return SelfTrainingClassifier(model, max_iter=3, threshold=0.6)

    model = assert_same_fit(build, name, backend, X, partly)
    assert (model.labeled_iter_ > 0).any()
    assert accuracy_score(y, model.predict(X)) > 0.8


def test_transformed_target_regressor(backend):
    X, y = data(load_diabetes)
    models = [
        TransformedTargetRegressor(m, func=np.log1p, inverse_func=np.expm1).fit(X, y)
        for m in pair("MLPRegressor", backend, max_iter=100)
    ]
    assert_allclose(models[0].predict(X), models[1].predict(X), rtol=1e-5)
    assert models[0].score(X, y) > 0.3


def test_set_output_pandas(backend):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame, y = load_iris(return_X_y=True, as_frame=True)
    lda = ours("LinearDiscriminantAnalysis", backend).set_output(transform="pandas")
    scores = lda.fit(frame, y).transform(frame)
    assert isinstance(scores, pandas.DataFrame)
    assert scores.columns.tolist() == ["lineardiscriminantanalysis0", "lineardiscriminantanalysis1"]
    assert scores.index.equals(frame.index)
    plain = ours("LinearDiscriminantAnalysis", backend).fit(frame, y).transform(frame)
    assert isinstance(plain, np.ndarray)
    assert_allclose(scores, plain)


@pytest.mark.parametrize("name", WEIGHTED)
def test_metadata_routing_of_sample_weight(name, backend):
    X, y = data()
    weights = np.random.RandomState(0).rand(len(y)) * 3
    with sklearn.config_context(enable_metadata_routing=True):
        results = []
        for routed in (True, False):
            model = ours(name, backend).set_fit_request(sample_weight=routed)
            scorer = make_scorer(accuracy_score).set_score_request(sample_weight=False)
            search = GridSearchCV(
                make_pipeline(StandardScaler().set_fit_request(sample_weight=True), model),
                {f"{name.lower()}__random_state": [0]},
                cv=3,
                scoring=scorer,
            )
            results.append(search.fit(X, y, sample_weight=weights).best_estimator_[-1])
    scaled = StandardScaler().fit_transform(X, sample_weight=weights)
    expected = [
        ours(name, backend, random_state=0).fit(scaled, y, sample_weight=w) for w in (weights, None)
    ]
    method = "predict_proba" if hasattr(expected[0], "predict_proba") else "decision_function"
    for fitted, direct in zip(results, expected, strict=True):
        assert_allclose(getattr(fitted, method)(scaled), getattr(direct, method)(scaled))
    assert not np.allclose(getattr(results[0], method)(scaled), getattr(results[1], method)(scaled))


@pytest.mark.parametrize("name", MODULES)
def test_clone(name, backend):
    X, y = data()
    model = ours(name, backend, dtype="float32").fit(X, y)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.backend == backend
    assert copy.dtype == "float32"
    assert not [key for key in vars(copy) if key.endswith("_")]
    assert_array_equal(copy.fit(X, y).predict(X), model.predict(X))


@pytest.mark.parametrize("way", ["pickle", "joblib"])
@pytest.mark.parametrize("name", MODULES)
def test_round_trip(name, way, backend, tmp_path):
    X, y = data()
    model = ours(name, backend).fit(X, y)
    if way == "pickle":
        back = pickle.loads(pickle.dumps(model))
    else:
        joblib.dump(model, tmp_path / "model.joblib")
        back = joblib.load(tmp_path / "model.joblib")
        # Workers get large arrays as read-only maps.
        mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
        assert_array_equal(mapped.predict(X), model.predict(X))
    assert back.get_params() == model.get_params()
    assert_array_equal(back.predict(X), model.predict(X))
    # Unpickled without torch, a model still predicts: what it learned are NumPy arrays.
    assert "torch" not in {
        type(value).__module__.partition(".")[0] for value in vars(back).values()
    }
    if hasattr(model, "partial_fit"):
        for either in (model, back):
            either.partial_fit(X, y)
        assert_array_equal(back.predict(X), model.predict(X))


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_fixed_threshold_classifier(name, backend):
    X, y = data(load_breast_cancer)

    def build(model):
        return FixedThresholdClassifier(model, threshold=0.9, response_method="predict_proba")

    model = assert_same_fit(build, name, backend, X, y)
    assert model.predict(X).sum() < model.estimator_.predict(X).sum()


@pytest.mark.parametrize("name", MODULES)
def test_html_repr(name, backend):
    X, y = data()
    model = ours(name, backend)
    assert name in model._repr_html_()
    assert "Not fitted" in model._repr_html_()
    html = make_pipeline(StandardScaler(), model).fit(X, y)._repr_html_()
    assert name in html
    assert "<span>Fitted</span>" in html
    # What differs from the defaults is what the text shows.
    assert f"backend='{backend}'" in repr(model).replace("\n", "")
    assert "dtype" not in repr(model)
