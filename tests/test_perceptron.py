"""The perceptron's loops are one rule: compiled, by blocks, row by row, stacked or not.

``test_against_sklearn.py`` compares the estimator with scikit-learn's parameter by parameter; here
every way of computing is, and the properties that a perceptron has of itself.
"""

import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris, make_blobs, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron as Theirs
from sklearn.utils._seq_dataset import ArrayDataset64

from skdeep.backends import get_backend
from skdeep.backends.base import Backend
from skdeep.linear_model import Perceptron
from skdeep.problem import Problem
from skdeep.solvers.perceptron import compiled as perceptron_compiled
from skdeep.solvers.perceptron import loops as perceptron_loops
from skdeep.solvers.perceptron import solve as perceptron
from skdeep.solvers.perceptron import sweeps
from skdeep.solvers.perceptron.rows import make_orders, next_visits, permutation
from skdeep.stacking import solve_many

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_what_converters_read_is_there():
    """Attributes of scikit-learn's that are not parameters, and say how it is trained."""
    theirs, ours = Theirs(), Perceptron()
    for name, value in vars(theirs).items():
        assert getattr(ours, name) == value
    added = {"update", "average", "backend", "dtype"}
    assert ours.get_params().keys() - added == theirs.get_params().keys()


def few_features():
    return make_classification(130, 10, n_informative=5, n_classes=4, random_state=0)


def many_features():
    return make_classification(130, 40, n_informative=8, flip_y=0.1, random_state=1)


def sparse_rows():
    X, y = few_features()
    return sp.csr_matrix(np.where(np.abs(X) > 0.8, X, 0.0)), y


def mostly_zeros():
    """Dense, but its nonzeros are what is walked over."""
    rng = np.random.RandomState(0)
    X = np.where(rng.rand(130, 120) < 0.08, rng.randn(130, 120), 0.0)
    return X, (X.sum(axis=1) + rng.randn(130) > 0).astype(int)


DATA = {
    "few_features": few_features,
    "many_features": many_features,
    "sparse_rows": sparse_rows,
    "mostly_zeros": mostly_zeros,
    # In tenths: some rows lie on a hyperplane exactly.
    "coarse": lambda: load_iris(return_X_y=True),
}

PARAMS = [
    {},
    {"shuffle": False, "fit_intercept": False},
    {"penalty": "l2", "alpha": 0.01, "eta0": 0.3},
    {"penalty": "l1", "alpha": 0.003},
    {"penalty": "elasticnet", "alpha": 0.01, "eta0": 0.7, "l1_ratio": 0.4},
    {"penalty": "l2", "alpha": 2.0, "max_iter": 4},
    {"class_weight": "balanced", "tol": None, "max_iter": 5},
    {"early_stopping": True, "class_weight": {0: 2.0, 1: 0.5}},
    # scikit-learn scores w without its scale there, and this is strong enough to matter
    {"early_stopping": True, "penalty": "l2", "alpha": 0.05},
    {"early_stopping": True, "penalty": "elasticnet", "alpha": 0.05, "n_iter_no_change": 8},
]


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("data", DATA)
def test_every_engine_gives_scikit_learns_coefficients(data, params, engine):
    X, y = DATA[data]()
    ours = Perceptron(backend=engine, **params).fit(X, y)
    theirs = Theirs(**params).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-9, atol=1e-9)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    assert ours.intercept_.dtype == theirs.intercept_.dtype
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_single_precision(params, engine):
    X, y = few_features()
    X = X.astype(np.float32)
    ours = Perceptron(backend=engine, **params).fit(X, y)
    theirs = Theirs(**params).fit(X, y)
    assert ours.coef_.dtype == np.float32
    if engine == "numpy" and perceptron_compiled.train is not perceptron.train.__wrapped__:
        np.testing.assert_array_equal(ours.coef_, theirs.coef_)
    else:  # rounded in another order, a row near the hyperplane can fall on its other side
        assert np.mean(ours.predict(X) == theirs.predict(X)) > 0.8


def test_random_state_is_drawn_from_as_often(engine):
    X, y = few_features()
    ours, theirs = np.random.RandomState(5), np.random.RandomState(5)
    for params in ({"early_stopping": True}, {"shuffle": False}):
        for target in (y, y > 1):
            a = Perceptron(random_state=ours, backend=engine, **params).fit(X, target)
            b = Theirs(random_state=theirs, **params).fit(X, target)
            np.testing.assert_allclose(a.coef_, b.coef_, atol=1e-9)
    assert ours.randint(1 << 30) == theirs.randint(1 << 30)


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**31 - 2])
def test_permutation_is_scikit_learns(seed):
    X = np.zeros((17, 1))
    rows = ArrayDataset64(X, X[:, 0].copy(), X[:, 0].copy())
    rows._shuffle_py(seed)
    expected = [rows._next_py()[3] for _ in range(17)]
    assert permutation(seed, 17).tolist() == expected


def test_partial_fit_goes_on_and_takes_missing_classes(engine):
    X, y = few_features()
    models = Perceptron(penalty="l2", backend=engine), Theirs(penalty="l2")
    for model in models:
        model.partial_fit(X[y < 3], y[y < 3], classes=range(4))
        model.partial_fit(X, y, sample_weight=np.linspace(0, 2, len(y)))
    np.testing.assert_allclose(models[0].coef_, models[1].coef_, atol=1e-9)
    assert models[0].t_ == models[1].t_ == 1 + sum(y < 3) + len(y)


# Stacks


def make_problem(X, y, *, alphas=(0.0,), l1=0.0, seeds=None, rows=None, shuffle=True):
    M = len(alphas)

    def column(values):
        return np.broadcast_to(np.asarray(values, dtype=float).reshape(-1, 1), (M, 1))

    return Problem(
        solver="perceptron",
        X=X,
        y=np.where(y == 0, -1.0, 1.0)[:, None],
        dtype="float64",
        theta=np.zeros((M, X.shape[1] + 1)),
        hyper={
            "eta0": column(1.0),
            "l2": column(alphas),
            "l1": column(l1),
            "max_iter": column(12),
            "tol": column(1e-3),
            "n_iter_no_change": column(3),
        },
        options={"fit_intercept": True, "shuffle": shuffle, "verbose": 0, "n_jobs": None},
        rows=rows,
        rngs=[np.random.RandomState(seed) for seed in (seeds or range(M))],
    )


def unlike_problems(X, y, l1=0.0):
    """Seven models with other seeds, penalties and rows; two share an order, three the rows."""
    rng = np.random.RandomState(0)
    few, most = rng.permutation(len(y))[:50], rng.permutation(len(y))[:120]
    rows = [few, few, most, np.arange(len(y)), np.arange(len(y)), few, most[::-1]]
    seeds, alphas = [3, 3, 0, 1, 2, 4, 5], [0.0, 0.02, 0.1, 0.0, 0.01, 0.0, 0.001]
    return [
        make_problem(X, y, alphas=[alpha], l1=l1, seeds=[seed], rows=[r])
        for alpha, seed, r in zip(alphas, seeds, rows, strict=True)
    ]


@pytest.mark.parametrize("l1", [0.0, 0.003])
@pytest.mark.parametrize("data", [many_features, sparse_rows, mostly_zeros])
def test_stack_is_separate_fits(data, l1, engine):
    X, y = data()
    backend = get_backend(engine)
    together = solve_many(backend, unlike_problems(X, y, l1))
    alone = [solve_many(backend, [problem])[0] for problem in unlike_problems(X, y, l1)]
    assert len({int(result.n_iter[0]) for result in alone}) > 2
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.theta, b.theta, atol=1e-10)
        assert a.n_iter == b.n_iter
        assert a.converged == b.converged


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_models_along_one_order_differ_in_all_else(engine, n_jobs, monkeypatch):
    """The same rows in the same order; other labels, weights of rows, penalties."""
    monkeypatch.setattr(perceptron_compiled, "MOST_ALONG", 1)  # enough for a thread
    X, y = mostly_zeros()
    problems = [
        replace(
            make_problem(X, target, alphas=[alpha], seeds=[3]),
            weights=np.where(y == 0, weight, 1.0),
            options={"fit_intercept": True, "shuffle": True, "verbose": 0, "n_jobs": n_jobs},
        )
        for target in (y, X[:, 0] > 0)
        for weight in (1.0, 0.5)
        for alpha in (0.0, 0.03, 1.5)
    ]
    backend = get_backend(engine)
    together = solve_many(backend, problems)
    for problem, found in zip(problems, together, strict=True):
        fresh = [replace(problem, rngs=[np.random.RandomState(3)]) for _ in range(2)]
        expected = perceptron_compiled.train_with_scikit_learn(fresh[0])
        np.testing.assert_allclose(found.theta, expected.theta, atol=1e-10)
        assert found.n_iter == expected.n_iter
        if found.curve[0]:  # scikit-learn does not tell
            text = perceptron.train.__wrapped__(backend, fresh[1])
            np.testing.assert_allclose(found.curve, text.curve, rtol=1e-9)
            assert found.extra["mistakes"] == text.extra["mistakes"]


def test_rows_of_a_fold_are_a_data_set(engine):
    X, y = many_features()
    rows = np.flatnonzero(np.arange(len(y)) % 3)
    backend = get_backend(engine)
    (fold,) = solve_many(backend, [make_problem(X, y, rows=[rows])])
    (whole,) = solve_many(backend, [make_problem(X[rows], y[rows])])
    np.testing.assert_allclose(fold.theta, whole.theta, atol=1e-10)


@pytest.mark.parametrize("shuffle", [False, True])
def test_models_with_one_order_share_its_gram_matrix(shuffle):
    X, y = many_features()
    problem = make_problem(X, y, alphas=[0.0, 0.1, 0.2], seeds=[1, 1, 2], shuffle=shuffle)
    sweep = sweeps.Blocks(Backend("plain", "cpu", get_backend("numpy").xp), problem)
    orders = make_orders(problem, permutation)
    index, *_ = sweep.gather(next_visits(orders))
    assert index.shape == ((2 if shuffle else 1), len(y))


def test_generic_text_is_array_api():
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    X, y = few_features()
    y = y % 2
    strict, numpy = Backend("strict", "cpu", xp), get_backend("numpy")
    for l1 in (0.0, 0.01):
        problem = make_problem(X, y, alphas=[0.0, 0.02], l1=l1)
        problem = replace(problem, hyper={**problem.hyper, "max_iter": np.array([[2.0], [3.0]])})
        ours = perceptron.train(strict, problem)
        rngs = [np.random.RandomState(seed) for seed in range(2)]
        expected = perceptron.train.__wrapped__(numpy, replace(problem, rngs=rngs))
        np.testing.assert_allclose(ours.theta, expected.theta, atol=1e-12)


# What there is to see of a fit


def test_mistakes_are_counted_alike(monkeypatch):
    pytest.importorskip("numba", reason="numba is not installed")
    monkeypatch.setattr(perceptron_compiled, "WORTH_COMPILING", 0)
    X, y = make_blobs(80, centers=[[-2, 0], [2, 1]], random_state=0)
    compiled = perceptron_compiled.train(get_backend("numpy"), make_problem(X, y, alphas=[0, 0.1]))
    generic = perceptron.train.__wrapped__(
        get_backend("numpy"), make_problem(X, y, alphas=[0, 0.1])
    )
    assert compiled.extra["mistakes"].tolist() == generic.extra["mistakes"].tolist()
    np.testing.assert_allclose(sum(compiled.curve, []), sum(generic.curve, []), rtol=1e-10)
    signed = np.where(y == 0, -1.0, 1.0)[:, None] * np.c_[X, np.ones(len(y))]
    # Novikoff (1962): at most (R / margin)^2 mistakes, with any separator's margin
    w = generic.theta[0] / np.linalg.norm(generic.theta[0])
    assert (signed @ w).min() > 0
    bound = (np.linalg.norm(signed, axis=1).max() / (signed @ w).min()) ** 2
    assert 0 < generic.extra["mistakes"][0] <= bound


@pytest.mark.parametrize("numba", [True, False])
def test_monitor_sees_each_epoch_and_may_stop(numba, monkeypatch):
    if not numba:
        monkeypatch.setitem(sys.modules, "numba", None)
    X, y = many_features()
    seen = []

    def monitor(epoch, theta, loss):
        seen.append((epoch, theta.shape, loss))
        return epoch == 3

    problem = replace(make_problem(X, y, alphas=[0, 0]), monitors=[monitor, None])
    (result,) = solve_many(get_backend("numpy"), [problem])
    assert [epoch for epoch, *_ in seen] == [1, 2, 3]
    assert result.n_iter[0] == 3 < result.n_iter[1]


def test_verbose_prints(capsys, engine):
    X, y = few_features()
    Perceptron(verbose=1, backend=engine, early_stopping=True, max_iter=2).fit(X, y)
    printed = capsys.readouterr().out
    assert "-- Epoch 2" in printed
    assert "Validation score" in printed


def test_threads_change_nothing(engine):
    X, y = few_features()
    alone = Perceptron(backend=engine).fit(X, y)
    threaded = Perceptron(backend=engine, n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(alone.coef_, threaded.coef_)


def test_overflow_leaves_the_estimator_as_it_was(engine):
    X, y = few_features()
    model = Perceptron(backend=engine).fit(X, y)
    before = {name: np.copy(value) for name, value in vars(model).items()}
    model.set_params(eta0=1e308)
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match="overflow occurred at epoch #1"),
    ):
        model.fit(1e6 * X, y)
    model.set_params(eta0=1.0)
    for name, value in vars(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_no_convergence_is_warned_of(backend):
    X, y = few_features()
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached"):
        Perceptron(max_iter=2, backend=backend).fit(X, y)


def test_sparsified_coefficients_predict_and_go_on(backend):
    X, y = few_features()
    model = Perceptron(penalty="l1", alpha=0.02, backend=backend).fit(X, y)
    scores, twin = model.decision_function(X), Perceptron(penalty="l1", alpha=0.02, backend=backend)
    assert (model.coef_ == 0).any()
    assert sp.issparse(model.sparsify().coef_)
    np.testing.assert_allclose(model.decision_function(X), scores, rtol=1e-12)
    np.testing.assert_allclose(model.decision_function(sp.csr_matrix(X)), scores, rtol=1e-12)
    model.partial_fit(X, y)
    twin.fit(X, y).partial_fit(X, y)
    np.testing.assert_allclose(model.coef_, twin.coef_, rtol=1e-12)


def test_compiled_forms_do_not_share_a_file():
    """numba names its files by function and line, whatever the options."""
    pytest.importorskip("numba", reason="numba is not installed")
    loop = perceptron_loops.learn_dense
    in_order = perceptron_compiled.compiled(loop)
    any_order = perceptron_compiled.compiled(loop, any_order=True)
    assert in_order.py_func.__qualname__ != any_order.py_func.__qualname__
    assert in_order is perceptron_compiled.compiled(loop)


# Properties


@given(seed=st.integers(0, 10_000), exponent=st.integers(-8, 8))
@settings(max_examples=15, deadline=None)
def test_scale_of_steps_is_scale_of_weights(seed, exponent):
    """Without a penalty the learning rate, or all sample weights, only scale the result."""
    X, y = make_classification(60, 5, flip_y=0.2, random_state=seed)
    scale = 2.0**exponent
    reference = Perceptron(tol=None, max_iter=4, random_state=seed).fit(X, y)
    faster = Perceptron(tol=None, max_iter=4, random_state=seed, eta0=scale).fit(X, y)
    heavier = Perceptron(tol=None, max_iter=4, random_state=seed)
    heavier.fit(X, y, sample_weight=np.full(60, scale))
    for model in (faster, heavier):
        np.testing.assert_array_equal(model.coef_, scale * reference.coef_)
        np.testing.assert_array_equal(model.intercept_, scale * reference.intercept_)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 150),
    alpha=st.sampled_from([0.0, 1e-3, 0.3, 5.0]),
    l1=st.sampled_from([0.0, 1e-3]),
)
@settings(max_examples=25, deadline=None)
def test_blocks_are_the_rule(seed, n, alpha, l1):
    """The text by blocks and rows gives what the plain loop gives, which scikit-learn's is."""
    rng = np.random.RandomState(seed)
    X, y = rng.randn(n, 3), rng.randint(2, size=n)
    numpy = get_backend("numpy")
    result = perceptron.train.__wrapped__(
        numpy, make_problem(X, y, alphas=[alpha], l1=l1, seeds=[seed])
    )
    expected = perceptron_compiled.train_with_scikit_learn(
        make_problem(X, y, alphas=[alpha], l1=l1, seeds=[seed])
    )
    np.testing.assert_allclose(result.theta, expected.theta, atol=1e-9)
    assert result.n_iter == expected.n_iter
