"""What a fit allocates above its data, as NumPy reports it to tracemalloc."""

import gc
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.model_selection import GridSearchCV
from skdeep.neural_network import MLPClassifier
from skdeep.solvers import get_solver
from skdeep.solvers.full_batch import lbfgs, preconditioning
from skdeep.stacking import stack

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

compiled_loops = pytest.mark.parametrize("engine", ["numba", "scikit-learn"], indirect=True)


@pytest.fixture(scope="module")
def data():
    """A million numbers, 8 MB, that overlap in two classes."""
    rng = np.random.RandomState(0)
    y = rng.randint(0, 2, 20_000)
    return rng.randn(len(y), 50) + 0.2 * y[:, None], y


def mapped(X, path):
    np.save(path / "X.npy", X)
    return np.load(path / "X.npy", mmap_mode="r")


def share_allocated(estimator, X, y) -> float:
    """The peak of what ``fit`` allocates, in sizes of X."""
    estimator.fit(X[:200], y[:200])  # imports and compiles
    arrays = (X.data, X.indices, X.indptr) if sp.issparse(X) else (X,)
    return peak_of(estimator.fit, X, y) / sum(array.nbytes for array in arrays)


def peak_of(call, *args) -> float:
    """The peak of what a call allocates, in bytes."""
    gc.collect()
    gc.disable()  # the peak must not depend on when garbage is looked for
    tracemalloc.start()
    try:
        call(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()


@compiled_loops
@pytest.mark.parametrize("form", ["array", "float32", "memmap", "csr"])
def test_a_perceptron_copies_no_rows(engine, form, data, tmp_path):
    X, y = data
    make = {
        "array": np.asarray,
        "float32": np.float32,
        "memmap": lambda X: mapped(X, tmp_path),
        "csr": sp.csr_matrix,
    }
    assert share_allocated(Perceptron(max_iter=3), make[form](X), y) < 0.35


def test_a_memmap_stays_one(data, tmp_path):
    X, y = data
    X = mapped(X, tmp_path)
    for model in (Perceptron(), MLPClassifier()):
        _, problem = next(model._fitting(X, y))
        assert np.shares_memory(problem.X, X)


MAPPED = {
    "lda": LinearDiscriminantAnalysis(),
    "lbfgs": LogisticRegression(tol=1e-8),
    "newton-cg": LogisticRegression(solver="newton-cg", tol=1e-8),
    "sgd": LogisticRegression(solver="sgd", max_iter=2, random_state=0),
    "network": MLPClassifier((8,), max_iter=2, random_state=0),
    "perceptron": Perceptron(max_iter=2, random_state=0),
}


@pytest.mark.parametrize("model", MAPPED.values(), ids=MAPPED)
@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("engine", ["scikit-learn"], indirect=True)
def test_rows_of_a_file_are_read_and_not_copied(engine, form, model, tmp_path, monkeypatch):
    """Where an array in memory is copied in single precision, and sparse rows are squared."""
    monkeypatch.setattr(preconditioning, "STORED_AT_ONCE", 2**16)
    monkeypatch.setattr(preconditioning, "DEVICE_ENTRIES", 2**16)
    monkeypatch.setattr(lbfgs, "LARGE", 2**17)
    rng = np.random.RandomState(0)
    X = rng.randn(30_000, 80)
    y = (X[:, :5].sum(axis=1) + rng.randn(len(X)) > 0).astype(int)
    if form == "dense":
        rows = mapped(X, tmp_path)
    else:
        X[rng.uniform(size=X.shape) > 0.5] = 0.0
        parts = sp.csr_matrix(X)
        names = ("data", "indices", "indptr")
        for name in names:
            np.save(tmp_path / f"{name}.npy", getattr(parts, name))
        read = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in names]
        rows = sp.csr_matrix(tuple(read), shape=X.shape, copy=False)
    with threadpool_limits(1):
        assert share_allocated(clone(model), rows, y) < 0.5
        in_memory = clone(model).fit(np.array(X) if form == "dense" else sp.csr_matrix(X), y)
    scores = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    found, expected = (getattr(m, scores)(X[:50]) for m in (clone(model).fit(rows, y), in_memory))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@compiled_loops
def test_a_search_holds_the_rows_of_one_fold(engine, data):
    model = Perceptron(penalty="l2", max_iter=3)
    search = GridSearchCV(model, {"alpha": [1e-5, 1e-4, 1e-3]}, cv=5, refit=False)
    assert share_allocated(search, *data) < 1.2  # 0.8 are the training rows


@pytest.mark.parametrize(
    ("make", "dtype", "early_stopping", "bound"),
    [
        (np.ascontiguousarray, None, False, 0.3),
        (np.float32, None, False, 0.4),
        (np.ascontiguousarray, "float32", True, 0.8),  # half is X in float32
        (np.asfortranarray, None, True, 1.4),  # 1 is X, row by row in one piece
    ],
)
def test_a_network_copies_rows_once_at_most(make, dtype, early_stopping, bound, data):
    X, y = data
    model = MLPClassifier((8,), max_iter=2, dtype=dtype, early_stopping=early_stopping)
    assert share_allocated(model, make(X), y) < bound


@pytest.mark.parametrize("engine", ["scikit-learn"], indirect=True)
def test_mistakes_are_not_counted_on_large_data(engine, data):
    X, y = data
    large = Perceptron(max_iter=3, tol=None).fit(X, y)
    assert np.isnan(large.n_updates_)
    assert Perceptron(max_iter=3, tol=None).fit(X[:1000], y[:1000]).n_updates_ > 0


@pytest.mark.parametrize(("C", "tol"), [(1.0, 1e-4), (1e6, 1e-10)])
def test_logistic_regression_copies_rows_in_single_precision_only(C, tol):
    """Half of X, and its scores; the weak penalty has Newton's method take its turn."""
    rng = np.random.RandomState(0)
    X = rng.randn(20_000, 100)
    y = np.argmax(X @ rng.randn(100, 5) + 0.5 * rng.gumbel(size=(len(X), 5)), axis=1)
    assert share_allocated(LogisticRegression(C=C, tol=tol, max_iter=200), X, y) < 1.1


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky"])
def test_a_hessian_takes_rows_block_by_block(solver, data):
    assert share_allocated(LogisticRegression(solver=solver), *data) < 1.0


@pytest.mark.parametrize(
    ("solver", "l1_ratio"), [("lbfgs", 0.0), ("newton-cg", 0.0), ("saga", 1.0)]
)
def test_solvers_know_what_they_work_on(solver, l1_ratio):
    rng = np.random.RandomState(0)
    X, y = rng.randn(20_000, 5), rng.randint(0, 4, 20_000)
    models = [LogisticRegression(C=C, l1_ratio=l1_ratio, solver=solver) for C in (0.1, 1.0, 10.0)]
    backend = next(models[0]._fitting(X, y))[0]
    problem = stack([next(model._fitting(X, y))[1] for model in models])
    solver = get_solver(problem.solver)
    solver.solve(backend, problem)  # imports
    share = peak_of(solver.solve, backend, problem) / (len(models) * solver.memory(problem))
    assert 0.4 < share < 1.6
