"""skdeep's searches against scikit-learn's over the same estimators: same results, together."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn.model_selection
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ProgressBar
from sklearn.datasets import make_classification, make_regression
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skdeep.fitting
import skdeep.model_selection
import skdeep.threads
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from skdeep.neural_network import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*non-finite:UserWarning"),
]

X, y = make_classification(300, 8, n_informative=5, n_classes=3, random_state=0)
X_REGRESSION, Y_REGRESSION = make_regression(200, 4, random_state=0)
WEIGHTS = np.random.RandomState(0).uniform(0.5, 2.0, len(y))


def pair(estimator, grid, X=X, y=y, search="GridSearchCV", fit_params=None, **settings):
    """The fitted searches of both packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        return [
            getattr(package, search)(clone(estimator), grid, **settings).fit(
                X, y, **(fit_params or {})
            )
            for package in (skdeep.model_selection, sklearn.model_selection)
        ]


def assert_same(ours, theirs, atol=1e-12, ranks=True):
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        found = ours.cv_results_[name]
        if name == "params":
            assert [str(p) for p in found] == [str(p) for p in expected]
        elif name.startswith(("split", "mean_test", "mean_train", "std_test", "std_train")):
            assert_allclose(found, expected, atol=atol, rtol=0, err_msg=name)
        elif name.startswith("rank") and ranks:
            assert_array_equal(found, expected, err_msg=name)
        elif name.endswith("_time"):
            assert found.shape == expected.shape and (found >= 0).all()
    assert ours.n_splits_ == theirs.n_splits_ and ours.multimetric_ == theirs.multimetric_
    if hasattr(theirs, "best_score_") and ranks:
        assert ours.best_index_ == theirs.best_index_
        assert_allclose(ours.best_score_, theirs.best_score_, atol=atol)


CASES = {
    "lda-lsqr": (LinearDiscriminantAnalysis("lsqr"), {"shrinkage": np.linspace(0, 1, 6)}),
    "lda-eigen": (
        LinearDiscriminantAnalysis("eigen"),
        {"shrinkage": [0.0, 0.3, "auto"], "priors": [None, [0.2, 0.3, 0.5]]},
    ),
    "lda-svd": (
        LinearDiscriminantAnalysis(),
        {"tol": [1e-4, 1e-2], "solver": ["svd", "lsqr"], "shrinkage": [None]},
    ),
    "logistic": (LogisticRegression(), {"C": np.logspace(-3, 2, 4)}),
    "logistic-solvers": (
        LogisticRegression(tol=1e-6),
        {
            "C": [0.1, 1.0],
            "solver": ["newton-cholesky", "lbfgs"],
            "class_weight": [None, "balanced"],
        },
    ),
    "logistic-l1": (
        LogisticRegression(solver="saga", max_iter=500, tol=1e-6),
        {"C": [0.1, 1.0], "l1_ratio": [0.0, 0.5, 1.0]},
    ),
    "perceptron": (Perceptron(penalty="l2"), {"alpha": [1e-5, 1e-3], "random_state": [0, 1]}),
    "mlp": (
        MLPClassifier((10,), max_iter=5, random_state=0),
        {"alpha": [1e-4, 1e-1], "learning_rate_init": [1e-3, 1e-2], "solver": ["adam", "sgd"]},
    ),
    "mlp-early": (
        MLPClassifier((10,), max_iter=8, random_state=0, early_stopping=True),
        {"alpha": [1e-4, 1e-1], "hidden_layer_sizes": [(5,), (4, 3)]},
    ),
    "mlp-lbfgs": (
        MLPClassifier((5,), "tanh", solver="lbfgs", max_iter=20, random_state=0),
        {"alpha": [0.1, 1.0]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_same_results(case):
    ours, theirs = pair(*CASES[case], return_train_score=True)
    assert_same(ours, theirs)
    assert_array_equal(ours.predict(X), theirs.predict(X))


def test_regression():
    model = MLPRegressor(hidden_layer_sizes=(10,), max_iter=10, random_state=0)
    grid = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}
    ours, theirs = pair(
        model, grid, X_REGRESSION, Y_REGRESSION, scoring=["r2", "neg_max_error"], refit="r2"
    )
    assert_same(ours, theirs, atol=1e-6)


def test_random_search():
    space = {"C": loguniform(1e-3, 1e2)}
    ours, theirs = pair(
        LogisticRegression(), space, search="RandomizedSearchCV", random_state=3, n_iter=5
    )
    assert_same(ours, theirs)


def test_halving():
    grid = {"shrinkage": np.linspace(0, 1, 6)}
    ours, theirs = pair(
        LinearDiscriminantAnalysis("lsqr"), grid, search="HalvingGridSearchCV", random_state=0
    )
    assert_same(ours, theirs)
    assert ours.n_candidates_ == theirs.n_candidates_
    assert isinstance(ours, HalvingGridSearchCV)


@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "perceptron"])
@pytest.mark.parametrize(
    "scoring",
    [
        "accuracy",
        "f1_macro",
        "neg_log_loss",
        make_scorer(accuracy_score, normalize=False),
        lambda estimator, X, y: float(np.mean(estimator.predict(X) == y)),
        lambda estimator, X, y: {"a": estimator.score(X, y), "b": 1.0},
    ],
)
def test_scorers(case, scoring):
    if case == "perceptron" and scoring == "neg_log_loss":
        scoring = "balanced_accuracy"
    refit = "a" if callable(scoring) and "lambda" in repr(scoring) else True
    ours, theirs = pair(*CASES[case], scoring=scoring, cv=3, refit=refit)
    assert_same(ours, theirs, atol=1e-9)


def test_several_scorers_and_a_callable_refit():
    ours, theirs = pair(
        *CASES["logistic"],
        scoring={"acc": "accuracy", "loss": "neg_log_loss"},
        refit=lambda results: int(np.argmax(results["mean_test_loss"])),
        return_train_score=True,
    )
    assert_same(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "perceptron", "mlp"])
@pytest.mark.parametrize(
    "cv", [ShuffleSplit(3, random_state=0), KFold(4, shuffle=True, random_state=0), GroupKFold(3)]
)
def test_splitters(case, cv):
    groups = {"groups": np.arange(len(y)) % 7}
    ours, theirs = pair(*CASES[case], cv=cv, fit_params=groups)
    assert_same(ours, theirs)


def test_sorted_classes_that_folds_miss():
    order = np.argsort(y, kind="stable")
    ours, theirs = pair(*CASES["lda-lsqr"], X=X[order], y=y[order], cv=KFold(3))
    assert_same(ours, theirs)


@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "perceptron", "mlp"])
def test_sample_weight(case):
    ours, theirs = pair(*CASES[case], fit_params={"sample_weight": WEIGHTS})
    assert_same(ours, theirs)


@pytest.mark.parametrize("last", [0.0, np.nan, np.inf])
def test_folds_with_weights_that_give_no_mean_get_error_score(last):
    """Where scikit-learn's own scoring fails, in that split alone."""
    weights = np.where(np.arange(300) < 200, WEIGHTS, last)
    model, grid = LogisticRegression(), {"C": [0.1, 1.0]}
    cv = [(np.arange(100), np.arange(100, 200)), (np.arange(200), np.arange(200, 300))]
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Scoring failed")
        model.set_fit_request(sample_weight=True)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        settings = {"scoring": scorer, "cv": cv, "refit": False}
        weighted = {"fit_params": {"sample_weight": weights}}
        ours, theirs = pair(model, grid, **settings, **weighted, error_score=-1.0)
        with pytest.raises(ValueError, match="weight"):
            GridSearchCV(model, grid, **settings, error_score="raise").fit(
                X, y, sample_weight=weights
            )
    assert_same(ours, theirs)
    assert (ours.cv_results_["split0_test_score"] > 0.0).all()
    assert (ours.cv_results_["split1_test_score"] == -1.0).all()


@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "mlp"])
@pytest.mark.parametrize(
    "kind", ["list", "int", "float32", "pandas", "sparse", "by columns", "strings"]
)
def test_data(case, kind):
    data, target = X, y
    match kind:
        case "list":
            data, target = X.tolist(), y.tolist()
        case "int":
            data = np.round(10 * X).astype(int)
        case "float32":
            data = X.astype(np.float32)
        case "pandas":
            pd = pytest.importorskip("pandas")
            data = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
            target = pd.Series(y)
        case "sparse" | "by columns":
            data = sparse.csr_array(np.where(np.abs(X) > 1, X, 0))
            data = data if kind == "sparse" else data.tocsc()
        case "strings":
            target = np.array(["one", "two", "three"])[y]
    ours, theirs = pair(*CASES[case], data, target)
    assert_same(ours, theirs, atol=1e-12 if kind != "float32" else 0.011, ranks=kind != "float32")
    assert hasattr(ours, "feature_names_in_") == (kind == "pandas")


@pytest.mark.parametrize("n_jobs", [2])
@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "mlp"])
def test_workers(case, n_jobs):
    ours, theirs = pair(*CASES[case], n_jobs=n_jobs)
    assert_same(ours, theirs)


@pytest.mark.parametrize("case", ["lda-lsqr", "lda-eigen", "lda-svd"])
def test_threads(case, monkeypatch):
    started = []

    class Spy(ThreadPoolExecutor):
        def submit(self, *args):
            started.append(1)
            return super().submit(*args)

    monkeypatch.setattr(skdeep.threads, "WORTH_THREADS", 0.0)
    monkeypatch.setattr(skdeep.threads, "ThreadPoolExecutor", Spy)
    ours, theirs = pair(*CASES[case], n_jobs=2)
    assert_same(ours, theirs)
    assert len(started) > 15  # parts of the rows, groups of models and blocks of scores


@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "perceptron", "mlp"])
def test_tight_memory(case):
    estimator, grid = CASES[case]
    free = GridSearchCV(estimator, grid).fit(X, y)
    tight = GridSearchCV(estimator, grid, max_memory=1.0).fit(X, y)
    assert_same(tight, free)


def test_memory_is_handed_on(monkeypatch):
    seen = []
    solve = skdeep.fitting.solve_many

    def spy(backend, problems, limit):
        seen.append(limit)
        return solve(backend, problems, limit)

    monkeypatch.setattr(skdeep.fitting, "solve_many", spy)
    monkeypatch.setattr(skdeep.fitting, "free_memory", lambda backend: 4e6)
    GridSearchCV(*CASES["logistic"], max_memory=123456.0).fit(X, y)
    GridSearchCV(*CASES["logistic"]).fit(X, y)
    assert set(seen) == {123456.0, 1e6}


def stacks(monkeypatch) -> list[int]:
    """Sizes of the stacks that are solved from now on."""
    sizes = []
    solve = skdeep.stacking.solve_stack

    def spy(backend, problem, *rest):
        sizes.append(problem.n_models)
        return solve(backend, problem, *rest)

    monkeypatch.setattr(skdeep.stacking, "solve_stack", spy)
    return sizes


@pytest.mark.parametrize("case", ["lda-lsqr", "logistic", "perceptron", "mlp"])
def test_candidates_share_a_stack(case, monkeypatch):
    sizes = stacks(monkeypatch)
    grids = {"mlp": {"alpha": [1e-4, 1e-1], "learning_rate_init": [1e-3, 1e-2]}}
    estimator, grid = CASES[case]
    search = GridSearchCV(estimator, grids.get(case, grid), cv=3, refit=False).fit(X, y)
    n = len(search.cv_results_["params"])
    per_candidate = 3 if case == "perceptron" else 1
    assert sizes == ([3 * n] if case == "lda-lsqr" else [n * per_candidate] * 3)


NETS = {
    "adam": ({}, {}),
    "integers": ({}, {"X": (10 * X).astype(int)}),
    "early stopping": ({"early_stopping": True, "n_iter_no_change": 2}, {}),
    "weights": ({}, {"fit_params": {"sample_weight": WEIGHTS}}),
    "balanced": ({"class_weight": "balanced"}, {}),
    "missing class": ({}, {"cv": KFold(3), "X": X[np.argsort(y)], "y": np.sort(y)}),
    "strings": ({}, {"y": np.array(["a", "b", "c"])[y]}),
    "bootstrap": ({}, {"cv": [(np.arange(300) // 2, np.arange(200, 300))] * 2}),
    "sgd": ({"solver": "sgd", "dropout": 0.2, "batch_norm": True}, {"return_train_score": True}),
    "lbfgs": ({"solver": "lbfgs"}, {}),
}


@pytest.mark.parametrize("case", NETS)
def test_nets_on_a_device_train_with_all_folds_at_once(case, monkeypatch):
    params, settings = NETS[case]
    settings = {"cv": 3, "refit": False, **settings}
    model = MLPClassifier((6,), max_iter=4, random_state=0, backend="torch", **params)
    grid = {"alpha": [1e-4, 1e-1]}
    if case != "lbfgs":
        grid["learning_rate_init"] = [1e-3, 1e-2]
    sizes = stacks(monkeypatch)
    ours, theirs = pair(model, grid, **settings)
    assert_same(ours, theirs, atol=1e-9, ranks=False)
    n_folds, n = ours.n_splits_, len(ours.cv_results_["params"])
    together = {"missing class": [2 * n], "lbfgs": [n] * n_folds}.get(case, [n_folds * n])
    # Then come scikit-learn's, one by one.
    first = sizes[: len(sizes) - n_folds * n]
    assert sorted(first) == sorted(together) or case == "missing class" and sum(first) == 3 * n


def test_regressors_on_a_device_train_with_all_folds_at_once(monkeypatch):
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=4, random_state=0, backend="torch")
    sizes = stacks(monkeypatch)
    data = {"X": X_REGRESSION, "y": Y_REGRESSION}
    ours, theirs = pair(model, {"alpha": [1e-4, 1e-1]}, **data, cv=4, refit=False)
    assert_same(ours, theirs, atol=1e-9)
    assert sizes[0] == 8


def test_linear_models_on_a_device_begin_fold_by_fold(monkeypatch):
    """They gain nothing by having the rows of all folds in memory at once."""
    begun = []  # fits at each stack
    begin, solve = skdeep.fitting.Fit.begin, skdeep.fitting.solve_many

    def spy(fit, *args, **kwargs):
        begun[-1] += 1
        begin(fit, *args, **kwargs)

    def next_stack(*args):
        begun.append(0)
        return solve(*args)

    monkeypatch.setattr(skdeep.fitting.Fit, "begin", spy)
    monkeypatch.setattr(skdeep.fitting, "solve_many", next_stack)
    for model, expected in [
        (LogisticRegression(backend="torch"), [2, 2, 2, 0]),
        (MLPClassifier((6,), max_iter=2, backend="torch"), [6, 0]),
    ]:
        begun[:] = [0]
        grid = {"C": [0.1, 1.0]} if hasattr(model, "C") else {"alpha": [1e-4, 1e-1]}
        GridSearchCV(model, grid, cv=3, refit=False).fit(X, y)
        assert begun == expected


def test_folds_share_rows_only_where_they_fit_in_memory(monkeypatch):
    model = MLPClassifier((6,), max_iter=4, random_state=0, backend="torch")
    sizes = stacks(monkeypatch)
    search = GridSearchCV(model, {"alpha": [1e-4, 1e-1]}, cv=3, refit=False)
    search.set_params(max_memory=3.0 * 200 * 8 * 8 - 1.0).fit(X, y)
    assert sizes == [2, 2, 2]
    sizes.clear()
    search.set_params(max_memory=3.0 * 200 * 8 * 8).fit(X, y)
    assert sizes[0] > 2


# Failures


def test_failed_candidates_hurt_no_other():
    grid = {"C": [0.1, -1.0, 1.0]}
    with pytest.warns(FitFailedWarning, match="5 fits failed out of a total of 15"):
        search = GridSearchCV(LogisticRegression(), grid, error_score=-2.0).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == -2.0
    alone = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}).fit(X, y)
    assert_array_equal(scores[[0, 2]], alone.cv_results_["mean_test_score"])
    with pytest.raises(ValueError, match="The 'C' parameter"):
        GridSearchCV(LogisticRegression(), grid, error_score="raise").fit(X, y)


def test_divergence_gets_error_score():
    model = MLPRegressor(
        hidden_layer_sizes=(5,), activation="identity", solver="sgd", max_iter=30, random_state=0
    )
    grid = {"learning_rate_init": [1e-4, 1e6]}
    settings = {"cv": 3, "error_score": -9.0}
    with np.errstate(all="ignore"):
        ours, theirs = pair(model, grid, X_REGRESSION, Y_REGRESSION, **settings)
    assert_same(ours, theirs, atol=1e-9)
    assert ours.cv_results_["mean_test_score"][1] == -9.0


@pytest.mark.parametrize("held_out", ["only variation", "overflow"])
def test_folds_that_fail_hurt_no_other(held_out):
    """Whether the result is at fault or no stack can be solved."""
    rng = np.random.RandomState(0)
    labels = np.arange(60) % 2
    rows = rng.randn(60, 4)
    if held_out == "overflow":
        rows[3] = 1e200
    else:
        rows = labels[:, None] + np.zeros((60, 4))
        rows[12:24] += rng.randn(12, 4)
    estimator, grid = LinearDiscriminantAnalysis(), {"tol": [1e-4, 1e-3]}
    with np.errstate(all="ignore"):
        ours, theirs = pair(
            estimator, grid, rows, labels, cv=KFold(5), error_score=-1.0, refit=False
        )
    assert_same(ours, theirs)
    scores = np.stack([ours.cv_results_[f"split{i}_test_score"] for i in range(5)])
    assert 0 < (scores == -1.0).sum() < scores.size


def test_all_fail():
    with pytest.raises(ValueError, match="All the 10 fits failed"):
        GridSearchCV(LogisticRegression(), {"C": [-1.0, -2.0]}).fit(X, y)


def test_invalid_data_is_refused_by_each_fit():
    broken = X.copy()
    broken[0, 0] = np.nan
    for case in ("lda-lsqr", "logistic", "mlp"):
        ours, theirs = pair(*CASES[case], broken, y, error_score=0.0, refit=False, cv=KFold(3))
        assert_same(ours, theirs)


def test_parameters_are_validated():
    with pytest.raises(ValueError, match="max_memory"):
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, max_memory=0).fit(X, y)
    assert clone(GridSearchCV(LogisticRegression(), {}, max_memory=5.0)).max_memory == 5.0


# Pipelines


class Counting(StandardScaler):
    fits = 0

    def fit(self, X, y=None, sample_weight=None):
        Counting.fits += 1
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("final", [LogisticRegression(), LinearDiscriminantAnalysis("lsqr")])
def test_pipeline(final):
    name = "C" if isinstance(final, LogisticRegression) else "shrinkage"
    pipeline = Pipeline([("scale", Counting()), ("pca", PCA(4)), ("model", final)])
    grid = {f"model__{name}": [0.1, 0.5, 1.0], "pca__n_components": [2, 4]}
    Counting.fits = 0
    ours = GridSearchCV(pipeline, grid, return_train_score=True, refit=False).fit(X, y)
    assert Counting.fits == 2 * 5
    theirs = sklearn.model_selection.GridSearchCV(
        pipeline, grid, return_train_score=True, refit=False
    ).fit(X, y)
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "scoring", [None, "neg_log_loss", lambda e, X, y: np.abs(e[-1].coef_).sum()]
)
def test_pipeline_variants(scoring, tmp_path):
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("middle", PCA(4)), ("model", LogisticRegression())],
        memory=str(tmp_path),
    )
    pipeline.set_output(transform="default")
    grid = [
        {"model__C": [0.1, 1.0], "middle": ["passthrough", PCA(3)]},
        {"model": [LinearDiscriminantAnalysis(), RidgeClassifier()]},
    ]
    if scoring == "neg_log_loss":
        grid[1]["model"].pop()
    ours, theirs = pair(pipeline, grid, scoring=scoring)
    assert_same(ours, theirs, atol=1e-9)
    weights = {"model__sample_weight": WEIGHTS, "scale__sample_weight": WEIGHTS}
    ours, theirs = pair(pipeline, grid[0], fit_params=weights)
    assert_same(ours, theirs)


def test_pipeline_with_frames():
    pytest.importorskip("pandas")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    pipeline.set_output(transform="pandas")
    ours, theirs = pair(pipeline, {"logisticregression__C": [0.1, 1.0]})
    assert_same(ours, theirs)


def test_step_that_fails():
    pipeline = make_pipeline(PCA(), LogisticRegression())
    grid = {"pca__n_components": [2, 99], "logisticregression__C": [0.1, 1.0]}
    ours, theirs = pair(pipeline, grid, error_score=-1.0)
    assert_same(ours, theirs)
    assert (ours.cv_results_["mean_test_score"][2:] == -1.0).sum() == 1


# What is not ours


class Halved(LogisticRegression):
    """A user's subclass with a fit of its own."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X[::2], y[::2])


class Stranger(BaseEstimator):
    def __init__(self, a=1):
        self.a = a

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return float(self.a)


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (Halved(), {"C": [0.1, 1.0]}),
        (Stranger(), {"a": [1, 3, 2]}),
        (RidgeClassifier(), {"alpha": [0.1, 1.0]}),
    ],
)
def test_other_estimators_go_their_own_way(estimator, grid, capsys):
    ours, theirs = pair(estimator, grid)
    assert_same(ours, theirs)
    GridSearchCV(estimator, grid, verbose=1).fit(X, y)
    n = 5 * len(next(iter(grid.values())))
    assert capsys.readouterr().out.count(f"{n} of {n} fits are scikit-learn's, one by one") == 1


def test_verbose_lines(capsys):
    def lines(package):
        package.GridSearchCV(*CASES["logistic"], cv=2, verbose=3).fit(X, y)
        out = capsys.readouterr().out.splitlines()
        return [line.partition("total time")[0].replace(".", "") for line in out]

    assert sorted(lines(skdeep.model_selection)) == sorted(lines(sklearn.model_selection))


def test_callbacks_see_every_fit():
    ours = GridSearchCV(*CASES["mlp"], cv=2)
    ours.set_callbacks(Recorder())
    ours.fit(X, y)
    theirs = sklearn.model_selection.GridSearchCV(*CASES["mlp"], cv=2)
    theirs.set_callbacks(Recorder())
    theirs.fit(X, y)
    found, expected = (search._skl_callbacks[0].counts for search in (ours, theirs))
    assert found == expected
    assert found == {} or sum(found.values()) >= 16, found


class Recorder:
    """Counts tasks by name."""

    max_propagation_depth = None

    def __init__(self):
        self.counts = {}

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **data):
        self.counts[context.task_name] = self.counts.get(context.task_name, 0) + 1

    def on_fit_task_end(self, estimator, context, **data):
        return False


def test_progress_bar():
    pytest.importorskip("rich")
    search = GridSearchCV(*CASES["logistic"], cv=2)
    search.set_callbacks(ProgressBar())
    search.fit(X, y)


def test_warnings_of_fits_come_through():
    with pytest.warns(ConvergenceWarning):
        warnings.simplefilter("always", ConvergenceWarning)
        RandomizedSearchCV(
            LogisticRegression(max_iter=1), {"C": [0.1, 1.0]}, n_iter=2, refit=False
        ).fit(X, y)
