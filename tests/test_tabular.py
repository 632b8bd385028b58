"""Networks for tables: frames of any kind, scikit-learn's checks, and what the recipe promises."""

import io
import pickle
from contextlib import redirect_stdout

import numpy as np
import pytest
import sklearn.metrics
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeep import fit_many
from skdeep.model_selection import GridSearchCV, cross_val_score
from skdeep.neural_network import MLPClassifier, TabularClassifier, TabularRegressor
from skdeep.preprocessing import RobustClip

FAST = {"n_members": 2, "max_iter": 12, "hidden_layer_sizes": 16, "random_state": 0}

EQUIVALENCE = (
    "rows of weight zero are in batches and folds, as those of HistGradientBoosting, for which "
    "scikit-learn expects this, are in bins"
)


@parametrize_with_checks(
    [
        cls(n_members=2, max_iter=25, hidden_layer_sizes=16)
        for cls in (TabularClassifier, TabularRegressor)
    ],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": EQUIVALENCE},
    xfail_strict=True,
)
def test_estimator_checks(estimator, check):
    check(estimator)


def table(n=120, seed=0):
    """Numbers, counts, truths, texts and categories, all with something missing; and targets."""
    pd, rng = pytest.importorskip("pandas"), np.random.RandomState(seed)
    colours, sizes = rng.choice(["red", "green", "blue"], n), rng.choice(["S", "M", "L"], n)
    x, count = rng.randn(n), rng.randint(5, size=n)
    y = (x + 2.0 * (colours == "red") + 0.3 * count > 1.2).astype(int)
    frame = pd.DataFrame(
        {
            "x": np.where(rng.rand(n) < 0.2, np.nan, x),
            "count": pd.array(np.where(rng.rand(n) < 0.1, None, count), dtype="Int64"),
            "true": rng.rand(n) < 0.5,
            "colour": np.where(rng.rand(n) < 0.1, None, colours),
            "size": pd.Categorical(sizes),
            "same": 3.0,
        }
    )
    return frame, y


def _none(column) -> list:
    return [
        None if missing else value for value, missing in zip(column, column.isna(), strict=True)
    ]


def as_objects(frame):
    return np.array([_none(frame[name]) for name in frame], dtype=object).T


def test_frames_of_all_kinds_are_one_table():
    pl, (X, y) = pytest.importorskip("polars"), table()
    X_polars = pl.from_pandas(X)
    models = [TabularClassifier(**FAST).fit(rows, y) for rows in (X, X_polars, as_objects(X))]
    expected = models[0].predict_proba(X)
    assert models[0].is_categorical_.tolist() == [False, False, False, True, True, False]
    for model, rows in zip(models, (X, X_polars, as_objects(X)), strict=True):
        np.testing.assert_array_equal(model.predict_proba(rows), expected)
    # The one that was fitted on pandas predicts for polars, too.
    np.testing.assert_array_equal(models[0].predict_proba(X_polars), expected)


def test_what_the_networks_see():
    """Medians, an indicator where many are missing, one-hot categories, no constant; clipped."""
    X, y = table()
    model = TabularClassifier(**FAST).fit(X, y)
    numbers = X[["x", "count", "true"]].astype(float)
    filled = numbers.fillna(numbers.median()).to_numpy()
    missing = numbers[["x", "count"]].isna().to_numpy()
    categories = OneHotEncoder(sparse_output=False).fit_transform(
        X[["colour", "size"]].astype(object)
    )
    expected = RobustClip().fit_transform(np.hstack([filled, missing, categories]))
    np.testing.assert_allclose(model._encode(X), expected)
    assert model.network_.coefs_[0].shape == (2, expected.shape[1], 16)


def test_rare_categories_are_one_and_unseen_ones_none():
    pd, rng = pytest.importorskip("pandas"), np.random.RandomState(0)
    city = np.array(["a"] * 40 + ["b"] * 40 + ["c", "d", "e"] * 2)
    X = pd.DataFrame({"city": city, "x": rng.randn(86)})
    model = TabularClassifier(**FAST).fit(X, city == "a")
    assert model._encode(X).shape == (86, 4)
    p = model.predict_proba(pd.DataFrame({"city": ["c", "d", "never seen"], "x": [0.3] * 3}))
    assert p[0].tolist() == p[1].tolist() == p[2].tolist()
    many = pd.DataFrame({"city": rng.permutation(np.repeat(np.arange(100), 6).astype(str))})
    assert (
        TabularClassifier(**FAST).fit(many, rng.randint(2, size=600))._encode(many).shape[1] == 50
    )


def test_numbers_that_stand_for_categories():
    X, y = load_iris(return_X_y=True)
    X = np.c_[X, np.random.RandomState(0).randint(3, size=len(X))]
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcde"))
    masks = [
        TabularClassifier(categorical_features=asked, **FAST).fit(rows, y).is_categorical_.tolist()
        for asked, rows in (([4], X), ([False] * 4 + [True], X), (["e"], frame), ([4], frame))
    ]
    assert masks == [[False] * 4 + [True]] * 4
    model = TabularClassifier(categorical_features=["e"], **FAST).fit(frame, y)
    whole = frame.astype({"e": int})  # a number is the same category in any type
    np.testing.assert_array_equal(model.predict_proba(whole), model.predict_proba(frame))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ([7], "from 0 to 5"),
        ([True], "mask of 1 features"),
        (["weight"], "names \\['weight'\\]"),
        (["size"], "Feature 'colour' is taken for numbers"),
        (None, "Feature 'colour' is taken for numbers"),
    ],
)
def test_features_that_do_not_fit_are_named(asked, text):
    with pytest.raises(ValueError, match=text):
        TabularClassifier(categorical_features=asked).fit(*table())


def test_what_cannot_be_learned_from_is_refused_and_leaves_no_trace():
    X, y = table()
    model = TabularClassifier(**FAST)
    with pytest.raises(ValueError, match="variance"):
        model.fit(X[["same"]], y)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(X.assign(x=np.inf), y)
    with pytest.raises(ValueError, match="four rows"):
        model.fit(X[["x", "true"]][:3], y[:3])
    assert not any(name.endswith("_") for name in vars(model))
    assert not hasattr(model, "partial_fit")


def test_single_columns_of_each_kind():
    X, y = table()
    for name in ("x", "colour"):
        p = TabularClassifier(**FAST).fit(X[[name]], y).predict_proba(X[[name]])
        assert np.isfinite(p).all()


def test_missing_values_that_training_had_not():
    X, y = load_iris(return_X_y=True)
    model = TabularClassifier(**FAST).fit(X, y)
    gone = X.copy()
    gone[::2, 1] = np.nan
    median = X.copy()
    median[::2, 1] = np.median(X[:, 1])
    np.testing.assert_array_equal(model.predict_proba(gone), model.predict_proba(median))


# What the recipe promises


def test_it_classifies_and_knows_how_well():
    X, y = load_breast_cancer(return_X_y=True)
    train, test = train_test_split(np.arange(len(X)), random_state=0, stratify=y)
    model = TabularClassifier(random_state=0).fit(X[train], y[train])
    p = model.predict_proba(X[test])
    assert sklearn.metrics.log_loss(y[test], p) < 0.12 and model.score(X[test], y[test]) > 0.95
    assert model.oof_score_ == pytest.approx(model.score(X[test], y[test]), abs=0.04)
    guess = model.classes_[model.oof_prediction_.argmax(axis=1)]
    assert model.oof_score_ == sklearn.metrics.accuracy_score(y[train], guess)
    # 50 epochs of 6 batches are fewer than 400 steps.
    assert model.n_iter_ == 67 and model.network_.batch_size == 63
    assert model.network_.coefs_[0].dtype == "float32"


def test_it_predicts_within_what_it_has_seen():
    X, y = load_diabetes(return_X_y=True)
    model = TabularRegressor(random_state=0).fit(X, 1e4 + 100.0 * y)
    assert 0.38 < model.oof_score_ < 0.6
    far = model.predict(50.0 * X)
    assert far.min() == 1e4 + 100.0 * y.min() and far.max() == 1e4 + 100.0 * y.max()
    assert model.oof_score_ == pytest.approx(
        sklearn.metrics.r2_score(1e4 + 100.0 * y, model.oof_prediction_)
    )
    # Units are nothing to it.
    plain = TabularRegressor(random_state=0).fit(X, y)
    np.testing.assert_allclose(1e4 + 100.0 * plain.predict(X), model.predict(X), rtol=1e-3)


def test_several_outputs():
    X, y = load_diabetes(return_X_y=True)
    both = np.c_[y, -3.0 * y + 5.0]
    model = TabularRegressor(**FAST).fit(X, both)
    assert model.predict(X).shape == model.oof_prediction_.shape == both.shape
    assert model.n_outputs_ == 2 and model.score(X, both) > 0.3
    X, y = load_iris(return_X_y=True)
    labels = np.c_[y > 0, y > 1].astype(int)
    model = TabularClassifier(**{**FAST, "max_iter": 60, "n_members": 8}).fit(X, labels)
    assert model.predict(X).shape == labels.shape and model.score(X, labels) > 0.9


def test_weights_of_rows_and_classes():
    X, y = load_wine(return_X_y=True)
    plain = TabularClassifier(**FAST).fit(X, y)
    weighed = TabularClassifier(class_weight={0: 20.0}, **FAST).fit(X, y)
    by_row = TabularClassifier(**FAST).fit(X, y, sample_weight=np.where(y == 0, 20.0, 1.0))
    np.testing.assert_allclose(by_row.predict_proba(X), weighed.predict_proba(X), rtol=1e-5)
    assert weighed.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.01
    X, y = load_diabetes(return_X_y=True)
    up = TabularRegressor(**FAST).fit(X, y, sample_weight=np.where(y > 150, 10.0, 1.0))
    assert up.predict(X).mean() > TabularRegressor(**FAST).fit(X, y).predict(X).mean() + 10


# Among the others


def test_torch_agrees_with_numpy():
    pytest.importorskip("torch")
    X, y = table()
    one, other = (
        TabularClassifier(backend=name, dtype="float64", **FAST).fit(X, y)
        for name in ("numpy", "torch")
    )
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-6)
    assert other.backend_ == other.network_.backend_ == "torch:cpu"


def test_many_as_one_are_as_alone():
    X, y = load_wine(return_X_y=True)
    alone = [TabularClassifier(**{**FAST, "learning_rate_init": r}).fit(X, y) for r in (0.02, 0.04)]
    together = fit_many([clone(model) for model in alone], X, y)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-3)
        assert not hasattr(other, "_callback_fit_ctx")
        assert not hasattr(other.network_, "_callback_fit_ctx")


def test_in_searches_and_pipelines():
    X, y = table()
    search = GridSearchCV(TabularClassifier(**FAST), {"dropout": [0.0, 0.3]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.6
    assert len(cross_val_score(make_pipeline(TabularClassifier(**FAST)), X, y, cv=2)) == 2


def test_pickles_predict_the_same_and_know_no_class_of_ours_but_public_ones():
    X, y = table()
    model = TabularClassifier(**FAST).fit(X, y)
    data = pickle.dumps(model)
    np.testing.assert_array_equal(pickle.loads(data).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("n_members", [1, 3, 8])
@pytest.mark.parametrize("n", [5, 13, 200])
@pytest.mark.filterwarnings("error::UserWarning")
def test_any_number_of_rows_and_members(n, n_members):
    X, y = load_diabetes(return_X_y=True)
    model = TabularRegressor(**{**FAST, "n_members": n_members})
    if n == 5 and n_members == 1:
        with pytest.raises(ValueError, match="validation set is too small"):
            model.fit(X[:n], y[:n])
        return
    assert np.isfinite(model.fit(X[:n], y[:n]).predict(X)).all()


def test_it_draws_what_its_seed_says():
    X, y = load_wine(return_X_y=True)
    one, again = (TabularClassifier(**FAST).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(one, again)


def test_verbose_says_how_it_goes():
    X, y = load_wine(return_X_y=True)
    with redirect_stdout(io.StringIO()) as said:
        TabularClassifier(verbose=True, **FAST).fit(X, y)
    assert said.getvalue().count("Validation score") == 2 * 12


def test_it_is_the_network_that_it_names():
    """The same parts, put together by hand, are the same model."""
    X, y = load_wine(return_X_y=True)
    model = TabularClassifier(random_state=0, max_iter=5).fit(X, y)
    by_hand = clone(model.network_).fit(RobustClip().fit_transform(X).astype("float32"), y)
    np.testing.assert_array_equal(by_hand.oof_prediction_, model.oof_prediction_)
    assert not isinstance(model, MLPClassifier)
