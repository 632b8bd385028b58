"""Linear discriminant analysis against scikit-learn's, closed forms and itself."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import discriminant_analysis as reference
from sklearn.base import clone
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedKFold

import skdeep
from skdeep import threads
from skdeep.backends import get_backend
from skdeep.backends.base import Backend
from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.model_selection import GridSearchCV
from skdeep.solvers.discriminant import solve as discriminant
from skdeep.stacking import solve_many, stack

BACKENDS = ["numpy", "torch"]
SOLVERS = ["svd", "lsqr", "eigen"]
CONFIGURATIONS = [("svd", None)] + [
    (solver, shrinkage) for solver in ("lsqr", "eigen") for shrinkage in (None, 0, 0.3, "auto")
]
WITH_NUMBERS = [(s, a) for s, a in [*CONFIGURATIONS, ("svd", 0.3)] if a != "auto"]


def make_rows(n=80, p=5, K=3, seed=0):
    rng = np.random.RandomState(seed)
    y = np.r_[np.arange(K), np.arange(K), rng.randint(K, size=n - 2 * K)]
    return rng.randn(n, p) * rng.uniform(0.2, 5, p) + 2 * rng.randn(K, p)[y], y


DATA = {
    "three": lambda: make_rows(),
    "two": lambda: make_rows(K=2),
    "one feature": lambda: make_rows(p=1),
    "many classes": lambda: make_rows(n=200, p=3, K=9),
    "offset": lambda: (lambda X, y: (X + 1e3, y))(*make_rows()),
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
}
FITTED = [
    "coef_",
    "intercept_",
    "means_",
    "priors_",
    "covariance_",
    "explained_variance_ratio_",
    "xbar_",
]


def assert_equal_fits(ours, theirs, rtol=1e-8, names=FITTED):
    for name in names:
        assert hasattr(ours, name) == hasattr(theirs, name), name
        if hasattr(theirs, name):
            found, expected = getattr(ours, name), getattr(theirs, name)
            assert found.shape == expected.shape, name
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
            assert_allclose(found, expected, rtol=rtol, atol=rtol * scale, err_msg=name)


def assert_equal_projections(ours, theirs, X, rtol=1e-8):
    """Up to the signs of the axes."""
    found, expected = ours.transform(X), theirs.transform(X)
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(axis=0))
    assert_allclose(found * signs, expected, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("given_priors", [False, True])
@pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
@pytest.mark.parametrize("name", DATA)
def test_equals_scikit_learn(name, solver, shrinkage, given_priors, backend):
    X, y = DATA[name]()
    K = len(np.unique(y))
    priors = np.arange(1, K + 1) / (K * (K + 1) / 2) if given_priors else None
    parameters = {
        "solver": solver,
        "shrinkage": shrinkage,
        "priors": priors,
        "store_covariance": True,
    }
    theirs = reference.LinearDiscriminantAnalysis(**parameters).fit(X, y)
    ours = LinearDiscriminantAnalysis(**parameters, backend=backend).fit(X, y)
    assert_equal_fits(ours, theirs)
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        found, expected = getattr(ours, method)(X), getattr(theirs, method)(X)
        assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * max(1, np.abs(expected).max()))
    assert_array_equal(ours.predict(X), theirs.predict(X))
    if solver != "lsqr":
        assert ours.scalings_.shape == theirs.scalings_.shape
        assert_equal_projections(ours, theirs, X, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_types_of_input(solver, dtype):
    X, y = load_iris(return_X_y=True)
    X = np.round(10 * X).astype(dtype)
    theirs = reference.LinearDiscriminantAnalysis(solver=solver).fit(X, y)
    ours = LinearDiscriminantAnalysis(solver=solver).fit(X, y)
    assert_equal_fits(ours, theirs, rtol=1e-3 if dtype == np.float32 else 1e-8)
    wanted = np.dtype(np.float32 if dtype == np.float32 else np.float64)
    assert {ours.coef_.dtype, ours.predict_proba(X).dtype, ours.means_.dtype} == {wanted}


@pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
def test_float32_is_no_less_accurate_than_scikit_learn(solver, shrinkage):
    X, y = load_breast_cancer(return_X_y=True)
    X32 = X.astype(np.float32)
    parameters = {"solver": solver, "shrinkage": shrinkage}
    exact = reference.LinearDiscriminantAnalysis(**parameters).fit(X32.astype(np.float64), y)
    theirs = reference.LinearDiscriminantAnalysis(**parameters).fit(X32, y)
    ours = LinearDiscriminantAnalysis(**parameters).fit(X32, y)
    error = np.abs(ours.coef_ - exact.coef_).max()
    assert error <= max(
        1.5 * np.abs(theirs.coef_ - exact.coef_).max(), 1e-6 * np.abs(exact.coef_).max()
    )


def test_dtype_parameter():
    X, y = make_rows()
    single = LinearDiscriminantAnalysis(dtype="float32").fit(X, y)
    assert single.coef_.dtype == single.scalings_.dtype == np.float32
    assert_allclose(single.coef_, LinearDiscriminantAnalysis().fit(X, y).coef_, rtol=1e-5)


FAR = {
    "offset": lambda X: X + 1e4,
    "scales": lambda X: X * np.resize([1e8, 1.0, 1e-2], X.shape[1]),
    "both": lambda X: (X + 1e4) * np.resize([1e8, 1.0, 1e-2], X.shape[1]),
}


class TestFloat32FollowsFloat64:
    """On the same rows, however far from zero: scores there are small differences."""

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize(("solver", "shrinkage"), [*CONFIGURATIONS, ("svd", 0.3)])
    @pytest.mark.parametrize("name", FAR)
    def test_fit_and_predictions(self, name, solver, shrinkage, n_classes, backend):
        X, y = make_rows(200, K=n_classes)
        X = FAR[name](X).astype(np.float32)
        lda = LinearDiscriminantAnalysis(solver, shrinkage, backend=backend)
        single, double = clone(lda).fit(X, y), lda.fit(X.astype(np.float64), y)
        scale = np.abs(double.coef_).max(axis=0)
        assert np.all(np.abs(single.coef_ - double.coef_) <= 1e-6 * scale)
        expected = double.decision_function(X.astype(np.float64))
        assert_allclose(single.decision_function(X), expected, rtol=1e-6, atol=1e-3)
        expected = double.predict_proba(X.astype(np.float64))
        assert_allclose(single.predict_proba(X), expected, atol=1e-4)
        if solver != "lsqr":
            assert_allclose(
                single.transform(X), double.transform(X.astype(np.float64)), rtol=1e-6, atol=1e-4
            )

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("name", FAR)
    def test_folds_of_a_search(self, name, solver):
        """They share moments; rows fitted alone in float64 have their own."""
        X, y = make_rows(200)
        X = FAR[name](X).astype(np.float32)
        grid = {"shrinkage": [0.0, 1e-3, 0.5]}
        folds = list(StratifiedKFold(3).split(X, y))
        lda = LinearDiscriminantAnalysis(solver)
        for scoring in ("neg_log_loss", "accuracy"):
            search = GridSearchCV(lda, grid, cv=folds, scoring=scoring, error_score="raise")
            found = search.fit(X, y).cv_results_
            for i, (train, test) in enumerate(folds):
                for j, shrinkage in enumerate(grid["shrinkage"]):
                    alone = clone(lda).set_params(shrinkage=shrinkage, dtype="float64")
                    alone.fit(X[train], y[train])
                    expected = get_scorer(scoring)(alone, X[test].astype(np.float64), y[test])
                    assert_allclose(found[f"split{i}_test_score"][j], expected, atol=1e-4)

    def test_types(self):
        """Single precision holds what is near zero; what is far is kept in double."""
        X, y = make_rows()
        for solver in SOLVERS:
            near = LinearDiscriminantAnalysis(solver).fit(X.astype(np.float32), y)
            far = LinearDiscriminantAnalysis(solver).fit((X + 1e4).astype(np.float32), y)
            for lda, dtype in ((near, np.float32), (far, np.float64)):
                assert lda.coef_.dtype == lda.intercept_.dtype == dtype
                assert lda.means_.dtype == np.float32
                assert lda.decision_function(X.astype(np.float32)).dtype == dtype


class TestUnlikeScales:
    """eigen solves the problem of standardised features, and says so in the features' units."""

    @pytest.mark.parametrize("given_priors", [False, True])
    @pytest.mark.parametrize("shrinkage", [None, "auto"])
    def test_invariance(self, shrinkage, given_priors, backend):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis(
            "eigen", shrinkage, [0.2, 0.3, 0.5] if given_priors else None, backend=backend
        )
        scales = np.array([1e8, 1.0, 1e-2, 1e-8, 1e3])
        plain, scaled = clone(lda).fit(X, y), lda.fit(X * scales, y)
        assert_allclose(scaled.coef_ * scales, plain.coef_, atol=1e-9 * np.abs(plain.coef_).max())
        assert_allclose(scaled.intercept_, plain.intercept_, rtol=1e-9)
        ratio = plain.explained_variance_ratio_
        assert_allclose(scaled.explained_variance_ratio_, ratio, rtol=1e-9)
        assert_allclose(np.abs(scaled.transform(X * scales)), np.abs(plain.transform(X)), rtol=1e-8)

    @pytest.mark.parametrize("shrinkage", [None, 1e-14, 1e-8, 0.1, "auto"])
    def test_equals_scikit_learn(self, shrinkage, backend):
        X, y = make_rows(200)
        X = X * np.array([1e8, 1.0, 1e-2, 1e-2, 1.0])
        theirs = reference.LinearDiscriminantAnalysis("eigen", shrinkage).fit(X, y)
        ours = LinearDiscriminantAnalysis("eigen", shrinkage, backend=backend).fit(X, y)
        scale = np.abs(theirs.coef_).max(axis=0)
        assert_allclose(ours.coef_ / scale, theirs.coef_ / scale, atol=1e-7)
        assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-7)
        if shrinkage != 0.1:  # under which the large feature leaves no second axis but rounding
            assert_equal_projections(ours, theirs, X, rtol=1e-7)

    @pytest.mark.parametrize("solver", ["svd", "eigen"])
    def test_small_shrinkages_in_a_stack(self, solver):
        X, y = make_rows(200)
        X = X * np.array([1e8, 1.0, 1e-2, 1e-2, 1.0])
        shrinkages = [0.0, 1e-14, 1e-13, 1e-3, 0.3]
        ldas = [LinearDiscriminantAnalysis(solver, shrinkage) for shrinkage in shrinkages]
        codes = y[:, None]
        problems = [problem_of(lda, X, codes, np.arange(200)) for lda in ldas]
        for lda, result in zip(ldas, solve_many(get_backend("numpy"), problems), strict=True):
            coef = result.theta[0, :15].reshape(5, 3).T
            scale = np.abs(lda.fit(X, y).coef_).max(axis=0)
            assert_allclose(coef / scale, lda.coef_ / scale, atol=1e-8)


class TestRankDeficient:
    """Collinear and constant features, fewer rows than features."""

    @staticmethod
    def data(name):
        X, y = make_rows()
        rng = np.random.RandomState(1)
        return {
            "collinear": (np.c_[X, X[:, 0] + X[:, 1], 3 * X[:, 2]], y),
            "constant": (np.c_[X, np.zeros(len(X)), np.full(len(X), 2.0)], y),
            "digits": load_digits(return_X_y=True),
            "wide": (rng.randn(30, 100), np.arange(30) % 3),
            "square": (rng.randn(30, 30), np.arange(30) % 3),
            "scales": (np.c_[X * 10.0 ** np.arange(-6, 9, 3), X[:, 0] * 1e4], y),
        }[name]

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("store_covariance", [False, True])
    @pytest.mark.parametrize(
        "name", ["collinear", "constant", "digits", "wide", "square", "scales"]
    )
    def test_svd(self, name, store_covariance, backend):
        X, y = self.data(name)
        parameters = {"solver": "svd", "store_covariance": store_covariance}
        theirs = reference.LinearDiscriminantAnalysis(**parameters).fit(X, y)
        ours = LinearDiscriminantAnalysis(**parameters, backend=backend).fit(X, y)
        assert_equal_fits(ours, theirs)
        assert_equal_projections(ours, theirs, X)

    @pytest.mark.parametrize("name", ["collinear", "constant", "digits"])
    def test_lsqr(self, name):
        X, y = self.data(name)
        theirs = reference.LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
        assert_equal_fits(LinearDiscriminantAnalysis(solver="lsqr").fit(X, y), theirs)

    @pytest.mark.parametrize("shrinkage", [0.1, "auto"])
    @pytest.mark.parametrize("solver", ["lsqr", "eigen"])
    @pytest.mark.parametrize("name", ["collinear", "constant", "digits", "wide"])
    def test_shrunk(self, name, solver, shrinkage):
        X, y = self.data(name)
        parameters = {"solver": solver, "shrinkage": shrinkage}
        theirs = reference.LinearDiscriminantAnalysis(**parameters).fit(X, y)
        assert_equal_fits(LinearDiscriminantAnalysis(**parameters).fit(X, y), theirs)

    @pytest.mark.parametrize("name", ["collinear", "constant", "digits", "wide"])
    def test_eigen_uses_a_pseudo_inverse(self, name):
        """That of svd, which is of standardised features; scikit-learn raises LinAlgError here."""
        X, y = self.data(name)
        ours = LinearDiscriminantAnalysis(solver="eigen").fit(X, y)
        svd = LinearDiscriminantAnalysis(tol=1e-7, store_covariance=True).fit(X, y)
        assert_equal_fits(ours, svd, names=["covariance_"])
        found, expected = (m.coef_ - m.priors_ @ m.coef_ for m in (ours, svd))
        assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())
        assert_allclose(ours.predict_proba(X), svd.predict_proba(X), atol=1e-8)
        inverse = ours.scalings_ @ ours.scalings_.T
        assert_allclose(ours.coef_, ours.means_ @ inverse, atol=1e-8 * np.abs(ours.coef_).max())
        assert np.isfinite(ours.transform(X)).all()

    def test_constant_without_binary_form(self):
        """scikit-learn divides the rounding of 0.1 by itself; the feature has to be ignored."""
        X, y = make_rows(300)
        ours = LinearDiscriminantAnalysis().fit(np.c_[X, np.full(300, 0.1)], y)
        alone = LinearDiscriminantAnalysis().fit(X, y)
        assert_allclose(ours.coef_[:, :-1], alone.coef_, rtol=1e-12)
        assert_array_equal(ours.coef_[:, -1], 0.0)

    @pytest.mark.parametrize("tol", [0.0, 1e-12, 1e-7, 1e-5, 1e-4, 1e-2, 0.5])
    @pytest.mark.parametrize("noise", [1e-7, 1e-5, 2e-4, 1e-3])
    def test_nearly_collinear(self, noise, tol):
        """Where squares drown in rounding, the singular values of the rows decide."""
        X, y = make_rows(400)
        X = np.c_[X, X[:, 0] + noise * np.random.RandomState(2).randn(400)]
        theirs = reference.LinearDiscriminantAnalysis(tol=tol).fit(X, y)
        ours = LinearDiscriminantAnalysis(tol=tol).fit(X, y)
        # Rounding of the class means alone moves them by 1e-15 along an axis of this size.
        assert_equal_fits(ours, theirs, rtol=max(1e-8, 1e-12 / noise))

    def test_wide_rows_of_nearly_equal_content(self):
        rng = np.random.RandomState(0)
        X, y = rng.randn(20, 60), np.arange(20) % 2
        X[10:12] = X[:2] + 1e-6 * rng.randn(2, 60)
        for tol in (1e-4, 1e-8):
            theirs = reference.LinearDiscriminantAnalysis(tol=tol).fit(X, y)
            assert_equal_fits(LinearDiscriminantAnalysis(tol=tol).fit(X, y), theirs, rtol=1e-7)


@pytest.mark.parametrize("doubtful", [False, True])
def test_the_rows_are_decomposed_only_where_needed(monkeypatch, doubtful):
    X, y = make_rows(300)
    X = np.c_[X, X[:, 0] + (1e-3 if doubtful else 1.0) * np.random.RandomState(2).randn(300)]
    calls = []
    original = discriminant._tall_axes
    monkeypatch.setattr(
        discriminant, "_tall_axes", lambda *args: calls.append(1) or original(*args)
    )
    LinearDiscriminantAnalysis().fit(X, y)
    assert bool(calls) == doubtful


def test_axes_from_blocks_of_rows():
    X, y = make_rows(5000, p=3)
    X = np.c_[X, X[:, 0] + 1e-3 * np.random.RandomState(2).randn(5000)]
    w = np.random.RandomState(4).randint(3, size=5000)
    theirs = reference.LinearDiscriminantAnalysis().fit(np.repeat(X, w, axis=0), np.repeat(y, w))
    ours = LinearDiscriminantAnalysis().fit(X, y, sample_weight=w)
    assert_equal_fits(ours, theirs, rtol=1e-9)


class TestClosedForms:
    def test_two_classes(self):
        """``Σ⁻¹(μ₁ - μ₀)``, its bias, and the sigmoid of the score."""
        X, y = make_rows(K=2)
        mu = np.array([X[y == k].mean(axis=0) for k in (0, 1)])
        S = (X - mu[y]).T @ (X - mu[y]) / len(X)
        w = np.linalg.solve(S, mu[1] - mu[0])
        b = -0.5 * (mu[0] + mu[1]) @ w + np.log(np.mean(y) / np.mean(1 - y))
        for solver in SOLVERS:
            lda = LinearDiscriminantAnalysis(solver=solver).fit(X, y)
            assert lda.coef_.shape == (1, X.shape[1])
            assert_allclose(lda.coef_[0], w, rtol=1e-10)
            assert_allclose(lda.intercept_, [b], rtol=1e-10)
            assert_allclose(lda.decision_function(X), X @ w + b, rtol=1e-8)
            assert_allclose(lda.predict_proba(X)[:, 1], 1 / (1 + np.exp(-X @ w - b)), rtol=1e-8)

    def test_projection_whitens(self):
        """Projected, the classes' covariance is the identity and their means lie along the axes."""
        X, y = make_rows()
        for solver in ("svd", "eigen"):
            lda = LinearDiscriminantAnalysis(solver=solver).fit(X, y)
            Z = lda.transform(X)
            mu = np.array([Z[y == k].mean(axis=0) for k in range(3)])
            assert_allclose((Z - mu[y]).T @ (Z - mu[y]) / len(Z), np.eye(2), atol=1e-10)
            spread = np.sqrt(lda.priors_)[:, None] * (mu - lda.priors_ @ mu)
            between = spread.T @ spread
            assert_allclose(between, np.diag(np.diag(between)), atol=1e-10)
            ratio = np.diag(between) / np.trace(between)
            assert_allclose(lda.explained_variance_ratio_, ratio, rtol=1e-10)

    @pytest.mark.parametrize("shrinkage", [1e-3, 0.3, 1.0])
    def test_shrinkage_with_svd(self, shrinkage):
        """The same covariance as the other solvers shrink, so the same rule."""
        for name in ("three", "two", "iris"):
            X, y = DATA[name]()
            svd = LinearDiscriminantAnalysis(shrinkage=shrinkage).fit(X, y)
            eigen = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage).fit(X, y)
            assert_allclose(svd.predict_proba(X), eigen.predict_proba(X), atol=1e-10)
            # The axes whiten the shrunk covariance.
            lda = clone(svd).set_params(store_covariance=True).fit(X, y)
            white = lda.scalings_.T @ lda.covariance_ @ lda.scalings_
            assert_allclose(white, np.eye(len(white)), atol=1e-10)

    def test_shrinkage_zero_is_none(self):
        X, y = make_rows()
        for solver in SOLVERS:
            zero = LinearDiscriminantAnalysis(solver=solver, shrinkage=0.0).fit(X, y)
            none = LinearDiscriminantAnalysis(solver=solver).fit(X, y)
            assert_array_equal(zero.coef_, none.coef_)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_are_repetitions(solver, shrinkage, sparse, seed):
    X, y = make_rows(60, seed=seed % 100)
    rng = np.random.RandomState(seed)
    w = rng.randint(4, size=60)
    w[:6] = 2
    data = sp.csr_array(X * (X > 1)) if sparse else X
    repeated = np.repeat(np.arange(60), w)
    lda = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage)
    expected = clone(lda).fit(data[repeated], y[repeated])
    assert_equal_fits(clone(lda).fit(data, y, sample_weight=w), expected, rtol=1e-7)
    if shrinkage != "auto":  # which knows of the number of rows
        assert_equal_fits(clone(lda).fit(data, y, sample_weight=w / 7), expected, rtol=1e-7)


@pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_rows_does_not_matter(solver, shrinkage, seed):
    X, y = make_rows()
    order = np.random.RandomState(seed).permutation(len(X))
    lda = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage)
    assert_equal_fits(clone(lda).fit(X[order], y[order]), lda.fit(X, y))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("given_priors", [False, True])
@pytest.mark.parametrize(("solver", "shrinkage"), WITH_NUMBERS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), pieces=st.integers(2, 6))
def test_partial_fit_in_pieces(solver, shrinkage, given_priors, backend, seed, pieces):
    X, y = make_rows(seed=seed % 50)
    rng = np.random.RandomState(seed)
    order, w = rng.permutation(len(X)), rng.rand(len(X))
    X, y = X[order], y[order]
    lda = LinearDiscriminantAnalysis(
        solver=solver,
        shrinkage=shrinkage,
        priors=[0.5, 0.3, 0.2] if given_priors else None,
        backend=backend,
    )
    whole = clone(lda).fit(X, y, sample_weight=w)
    for rows in np.array_split(np.arange(len(X)), pieces):
        lda.partial_fit(X[rows], y[rows], classes=[0, 1, 2], sample_weight=w[rows])
    assert_equal_fits(lda, whole)
    lda = clone(lda).fit(X[:50], y[:50], sample_weight=w[:50])
    if len(lda.classes_) == 3:
        lda.partial_fit(X[50:], y[50:], sample_weight=w[50:])
        assert_equal_fits(lda, whole)


class TestPartialFit:
    def test_class_not_seen_yet(self):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lda.partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
            assert lda.coef_.shape == (3, X.shape[1])
            assert set(lda.predict(X)) <= {0, 1}
            assert_allclose(lda.predict_proba(X)[:, 2], 0.0)
            lda.partial_fit(X[y == 2], y[y == 2])
        assert_equal_fits(lda, LinearDiscriminantAnalysis().fit(X, y))

    def test_single_rows(self):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis(solver="lsqr")
        for i in range(len(X)):
            lda.partial_fit(X[i : i + 1], y[i : i + 1], classes=[0, 1, 2])
        assert_equal_fits(lda, LinearDiscriminantAnalysis(solver="lsqr").fit(X, y))

    def test_survives_pickling(self):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis().partial_fit(X[:40], y[:40], classes=[0, 1, 2])
        lda = pickle.loads(pickle.dumps(lda)).partial_fit(X[40:], y[40:])
        assert_equal_fits(lda, LinearDiscriminantAnalysis().fit(X, y))

    def test_errors_leave_the_model_as_it_was(self):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis()
        with pytest.raises(ValueError, match="classes must be passed"):
            lda.partial_fit(X, y)
        assert not hasattr(lda, "classes_")
        lda.partial_fit(X, y, classes=[0, 1, 2])
        before = lda.coef_
        with pytest.raises(ValueError, match="not in classes"):
            lda.partial_fit(X, y + 1)
        with pytest.raises(ValueError, match="not the same"):
            lda.partial_fit(X, y, classes=[0, 1])
        with pytest.raises(ValueError, match="features"):
            lda.partial_fit(X[:, :2], y)
        assert lda.coef_ is before

    def test_what_needs_all_rows(self):
        X, y = make_rows()
        for parameters in ({"shrinkage": "auto"}, {"covariance_estimator": OAS()}):
            lda = LinearDiscriminantAnalysis(solver="lsqr", **parameters)
            with pytest.raises(NotImplementedError, match="all rows at once"):
                lda.partial_fit(X, y, classes=[0, 1, 2])
        wide = LinearDiscriminantAnalysis().fit(X[:8, [0] * 20], y[:8])
        with pytest.raises(ValueError, match="partial_fit from the start"):
            wide.partial_fit(X[:8, [0] * 20], y[:8])
        lda = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
        with pytest.raises(ValueError, match="set priors before"):
            lda.set_params(priors=[0.2, 0.3, 0.5]).partial_fit(X, y)


@pytest.mark.parametrize("density", [0.02, 0.5])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
def test_sparse(solver, shrinkage, backend, density):
    rng = np.random.RandomState(0)
    X, y = rng.randn(600, 30) * (rng.rand(600, 30) < density), rng.randint(3, size=600)
    lda = LinearDiscriminantAnalysis(
        solver=solver, shrinkage=shrinkage, store_covariance=True, backend=backend
    )
    dense = clone(lda).fit(X, y)
    for kind in (sp.csr_array, sp.csc_matrix, sp.coo_array):
        found = clone(lda).fit(kind(X), y)
        assert_equal_fits(found, dense)
        assert_allclose(found.predict_proba(kind(X)), dense.predict_proba(X), rtol=1e-8)
        if solver != "lsqr":
            assert_allclose(np.abs(found.transform(kind(X))), np.abs(dense.transform(X)), atol=1e-8)


@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
class TestCovarianceEstimator:
    @pytest.mark.parametrize("estimator", [OAS(), LedoitWolf(), EmpiricalCovariance()])
    def test_equals_scikit_learn(self, estimator, solver):
        for name in ("three", "two", "one feature"):
            X, y = DATA[name]()
            parameters = {"solver": solver, "covariance_estimator": clone(estimator)}
            theirs = reference.LinearDiscriminantAnalysis(**parameters).fit(X, y)
            assert_equal_fits(LinearDiscriminantAnalysis(**parameters).fit(X, y), theirs)

    def test_is_left_as_it_is(self, solver):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis(solver, covariance_estimator=OAS())
        before = vars(lda.covariance_estimator).copy()
        lda.fit(X, y)
        assert vars(lda.covariance_estimator) == before

    def test_weights(self, solver):
        X, y = make_rows()
        w = np.random.RandomState(0).randint(3, size=len(X))
        lda = LinearDiscriminantAnalysis(solver=solver, covariance_estimator=OAS())
        expected = clone(lda).fit(np.repeat(X, w, axis=0), np.repeat(y, w))
        assert_equal_fits(clone(lda).fit(X, y, sample_weight=w), expected)
        with pytest.raises(ValueError, match="OAS.*sample_weight"):
            lda.fit(X, y, sample_weight=w + 0.5)

        class Weighted(EmpiricalCovariance):
            def fit(self, X, y=None, sample_weight=None):
                self.covariance_ = np.cov(X.T, aweights=sample_weight, bias=True)
                return self

        lda = LinearDiscriminantAnalysis(solver=solver, covariance_estimator=Weighted())
        plain = LinearDiscriminantAnalysis(solver=solver)
        w = w + 0.5
        assert_equal_fits(lda.fit(X, y, sample_weight=w), plain.fit(X, y, sample_weight=w))


@pytest.mark.filterwarnings("error::RuntimeWarning")
class TestDirtyData:
    """Where scikit-learn fits we fit, and elsewhere words say what is wrong with the data."""

    @staticmethod
    def constant(value=0.5):
        """Features that vary between the classes only."""
        y = np.arange(30) % 3
        return value * np.stack([y, 2 - y, np.ones(30)], axis=1), y

    @pytest.mark.parametrize("shrinkage", [None, 0.0, 1e-12, 0.3, 1.0, "auto"])
    def test_no_variance(self, shrinkage, backend):
        X, y = self.constant()
        parameters = {"shrinkage": shrinkage, "priors": [0.5, 0.2, 0.3]}
        theirs = reference.LinearDiscriminantAnalysis("lsqr", **parameters).fit(X, y)
        ours = LinearDiscriminantAnalysis("lsqr", **parameters, backend=backend).fit(X, y)
        assert_array_equal(ours.coef_, theirs.coef_)
        assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
        for solver in ("eigen", "svd"):
            lda = LinearDiscriminantAnalysis(solver, **parameters, backend=backend)
            if (solver, shrinkage) != ("svd", "auto"):
                with pytest.raises(ValueError, match="No feature of X varies.*solver='lsqr'"):
                    lda.fit(X, y)
                assert not hasattr(lda, "coef_")

    @pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
    def test_no_variance_in_a_search(self, scoring):
        X, y = self.constant()
        grid = {"shrinkage": [0.0, 0.1, 0.9]}
        search = GridSearchCV(LinearDiscriminantAnalysis("lsqr"), grid, scoring=scoring)
        assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()
        for solver in ("eigen", "svd"):
            search = GridSearchCV(LinearDiscriminantAnalysis(solver), grid, scoring=scoring)
            with pytest.raises(ValueError, match="No feature of X varies"):
                search.set_params(error_score="raise").fit(X, y)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_no_variance_yet(self, solver, backend):
        """Batches may come in which nothing varies."""
        X, y = self.constant()
        more, labels = make_rows(p=3)
        lda = LinearDiscriminantAnalysis(solver, 0.1, backend=backend)
        lda.partial_fit(X, y, classes=[0, 1, 2])
        assert_array_equal(lda.coef_, 0.0)
        lda.partial_fit(more, labels)
        expected = clone(lda).fit(np.r_[X, more], np.r_[y, labels])
        assert_equal_fits(lda, expected)

    @pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e100, 1e150])
    @pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
    def test_extreme_scales(self, solver, shrinkage, scale, backend):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis(solver, shrinkage, backend=backend)
        plain, scaled = clone(lda).fit(X, y), lda.fit(scale * X, y)
        theirs = reference.LinearDiscriminantAnalysis(solver, shrinkage).fit(X, y)
        assert_allclose(scaled.coef_ * scale, theirs.coef_, rtol=1e-8, atol=1e-8)
        assert_allclose(scaled.predict_proba(scale * X), plain.predict_proba(X), atol=1e-8)
        if solver != "lsqr":
            found, expected = scaled.transform(scale * X), plain.transform(X)
            assert_allclose(np.abs(found), np.abs(expected), atol=1e-8 * np.abs(expected).max())

    @pytest.mark.parametrize("solver", ["lsqr", "eigen"])
    def test_nothing_to_shrink(self, solver):
        """Covariances that are multiples of the identity: there is no spread to compare with."""
        sign = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        for seed in range(40):
            X = np.random.RandomState(seed).rand() * np.tile(sign[:, : 1 + seed % 2], (3, 1))
            X, y = np.r_[X, X + 3.0], np.arange(24) // 12
            theirs = reference.LinearDiscriminantAnalysis(solver, "auto").fit(X, y)
            ours = LinearDiscriminantAnalysis(solver, "auto").fit(X, y)
            assert_equal_fits(ours, theirs)

    @pytest.mark.parametrize("shrinkage", [0.1, "auto"])
    @pytest.mark.parametrize("solver", ["lsqr", "eigen"])
    @pytest.mark.parametrize("rows", ["one of a class", "duplicates", "few"])
    @pytest.mark.filterwarnings("ignore:Only one sample")
    def test_few_rows(self, rows, solver, shrinkage):
        X, y = make_rows(90, p=6)
        chosen = {
            "one of a class": np.flatnonzero((y > 0) | (np.arange(90) == 0)),
            "duplicates": np.repeat(np.arange(12), 3),
            "few": np.arange(9),
        }[rows]
        X, y = X[chosen], y[chosen]
        theirs = reference.LinearDiscriminantAnalysis(solver, shrinkage).fit(X, y)
        assert_equal_fits(LinearDiscriminantAnalysis(solver, shrinkage).fit(X, y), theirs)


def problem_of(lda, X, codes, rows):
    """The problem of a model that trains on some of the rows; codes are shared class indices."""
    lda.classes_ = np.unique(codes)
    return replace(lda.problem(X, codes[:, 0]), y=codes, rows=[rows])


class TestStack:
    """A stack of unlike models is what separate fits are."""

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("given_priors", [False, True])
    @pytest.mark.parametrize("covariance", [None, "auto", "estimator"])
    @pytest.mark.parametrize("rule", SOLVERS)
    def test_folds_shrinkages_priors(self, rule, covariance, given_priors, sparse):
        if covariance and rule == "svd":
            pytest.skip("svd takes no other covariance")
        X, y = make_rows(90)
        X = sp.csr_array(X * (np.abs(X) > 2)) if sparse else X
        rng = np.random.RandomState(0)
        sets = [np.sort(rng.permutation(90)[: 60 + 3 * m]) for m in range(5)]
        estimator = OAS() if covariance == "estimator" else None
        problems, expected = [], []
        for m, rows in enumerate([*sets, sets[0], sets[4]]):
            lda = LinearDiscriminantAnalysis(
                solver=rule,
                shrinkage={None: [None, 0.1, 0.7][m % 3], "auto": "auto"}.get(covariance),
                priors=rng.dirichlet(np.ones(3)) if given_priors else None,
                tol=[1e-4, 0.5][m % 2],
                store_covariance=True,
            )
            expected.append(
                clone(lda).set_params(covariance_estimator=estimator).fit(X[rows], y[rows])
            )
            lda.covariance_estimator = estimator
            problems.append(problem_of(lda, X, problems[0].y if problems else y[:, None], rows))
        assert stack(problems).n_models == 7
        results = solve_many(get_backend("numpy"), problems)
        for result, alone in zip(results, expected):
            k, p = alone.coef_.shape
            coef = result.theta[0, : p * k].reshape(p, k).T
            assert_allclose(coef, alone.coef_, atol=1e-8 * np.abs(alone.coef_).max())
            assert_allclose(result.theta[0, p * k :], alone.intercept_, rtol=1e-8, atol=1e-8)
            assert_allclose(result.extra["covariance"][0], alone.covariance_, atol=1e-9)
            if rule != "lsqr":
                assert result.extra["n_scalings"][0] == alone.scalings_.shape[1]
                leading = [np.abs(a[:, :2]) for a in (result.extra["scalings"][0], alone.scalings_)]
                assert_allclose(leading[0][:, : leading[1].shape[1]], leading[1], atol=1e-7)

    def test_one_eigendecomposition_a_fold(self, monkeypatch):
        X, y = make_rows(100)
        codes = y[:, None]
        problems = [
            problem_of(
                LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage),
                X,
                codes,
                np.flatnonzero(np.arange(100) % 5 != fold),
            )
            for shrinkage in (0.1, 0.2, 0.5, 0.9)
            for fold in range(5)
        ]
        calls = []
        backend = get_backend("numpy")
        eigh = backend.xp.linalg.eigh
        monkeypatch.setattr(backend.xp.linalg, "eigh", lambda a: calls.append(1) or eigh(a))
        solve_many(backend, problems)
        assert len(calls) == 5


class StrictBackend(Backend):
    """The standard and nothing else, on a device that no array is on by accident."""

    def __init__(self, xp):
        super().__init__("strict", "device1", xp)

    def asarray(self, x, dtype=None):
        return self.xp.asarray(np.asarray(x, dtype=dtype), device=self.xp.Device(self.device))

    def to_numpy(self, x):
        return (
            x
            if isinstance(x, np.ndarray)
            else np.from_dlpack(x.to_device(self.xp.Device("CPU_DEVICE")))
        )


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("store_covariance", [False, True])
@pytest.mark.parametrize(("solver", "shrinkage"), [*CONFIGURATIONS, ("svd", 0.3)])
def test_array_api_strict(solver, shrinkage, store_covariance, weighted, wide):
    backend = StrictBackend(pytest.importorskip("array_api_strict"))
    X, y = make_rows(10, p=30) if wide else make_rows()
    if wide and solver != "svd" and not shrinkage:
        pytest.skip("no comparison: the covariance is singular")
    w = np.arange(1.0, 1 + len(X)) if weighted else None
    for priors in (None, [0.5, 0.2, 0.3]):
        lda = LinearDiscriminantAnalysis(
            solver=solver, shrinkage=shrinkage, priors=priors, store_covariance=store_covariance
        ).fit(X, y, sample_weight=w)
        (result,) = solve_many(backend, [lda.problem(X, y, w)])
        coef = result.theta[0, : lda.coef_.size].reshape(lda.coef_.shape[::-1]).T
        assert_allclose(coef, lda.coef_, atol=1e-9 * np.abs(lda.coef_).max())


class TestErrors:
    @pytest.mark.parametrize(
        ("parameters", "error", "message"),
        [
            ({"priors": [0.5, -0.5, 1.0]}, ValueError, "priors must be non-negative"),
            ({"priors": [0.5, np.nan, 0.5]}, ValueError, "priors must be non-negative"),
            ({"priors": [0.5, 0.5]}, ValueError, "priors must have shape"),
            ({"n_components": 3}, ValueError, "n_components cannot be larger than min"),
            ({"shrinkage": "auto"}, NotImplementedError, "shrinkage.*not supported"),
            ({"covariance_estimator": OAS()}, ValueError, "covariance estimator is not supported"),
            (
                {"solver": "lsqr", "shrinkage": 0.1, "covariance_estimator": OAS()},
                ValueError,
                "Only one of the two",
            ),
            ({"shrinkage": 1.5}, ValueError, "'shrinkage' parameter"),
            ({"solver": "qr"}, ValueError, "'solver' parameter"),
            ({"backend": "abacus"}, ValueError, "backend='abacus' is unknown"),
        ],
    )
    def test_parameters(self, parameters, error, message):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis(**parameters)
        before = set(vars(lda))
        with pytest.raises(error, match=message):
            lda.fit(X, y)
        assert set(vars(lda)) == before

    def test_estimator_without_covariance(self):
        class Nothing:
            def fit(self, X):
                pass

        X, y = make_rows()
        lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Nothing())
        with pytest.raises(ValueError, match="Nothing does not have a covariance_ attribute"):
            lda.fit(X, y)

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    @pytest.mark.parametrize("shrinkage", [None, 0.3, 1.0])
    @pytest.mark.parametrize("solver", ["svd", "lsqr", "eigen"])
    def test_overflow(self, solver, shrinkage, backend, monkeypatch):
        monkeypatch.setattr(threads, "WORTH_THREADS", 0.0)
        X, y = load_iris(return_X_y=True)
        lda = LinearDiscriminantAnalysis(solver, shrinkage, backend=backend)
        for scale in (1e154, 1e200, 1e300):  # squares, their sums, and sums of rows overflow
            for fit in (lda.fit, lambda X, y: lda.partial_fit(X, y, classes=[0, 1, 2])):
                with pytest.raises(ValueError, match="overflow.*need to be preprocessed") as error:
                    fit(scale * X, y)
                assert error.type is ValueError
                assert not hasattr(lda, "coef_")
        for n_jobs in (1, 2):
            search = GridSearchCV(lda, {"tol": [1e-4, 1e-3]}, error_score="raise", n_jobs=n_jobs)
            with pytest.raises(ValueError, match="overflow"):
                search.fit(1e200 * X, y)
        lda.fit(1e100 * X, y)
        assert_allclose(lda.score(1e100 * X, y), lda.fit(X, y).score(X, y))

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_coefficients_beyond_single_precision(self):
        X, y = make_rows()
        X = (1e-40 * X).astype(np.float32)
        for solver in SOLVERS:
            lda = LinearDiscriminantAnalysis(solver).fit(X, y)
            assert lda.coef_.dtype == np.float64
            double = clone(lda).fit(X.astype(np.float64), y)
            assert_allclose(lda.predict_proba(X), double.predict_proba(X), atol=1e-6)

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_means_beyond_single_precision(self):
        X, y = make_rows()
        with pytest.raises(ValueError, match="non-finite.*large values"):
            LinearDiscriminantAnalysis(dtype="float32").fit(1e50 * X, y)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_data(self, bad):
        X, y = make_rows()
        lda = LinearDiscriminantAnalysis().fit(X, y)
        before = dict(vars(lda))
        broken = X.copy()
        broken[3, 1] = bad
        with pytest.raises(ValueError, match="NaN|infinity"):
            lda.fit(broken, y)
        with pytest.raises(ValueError, match="one class only"):
            lda.fit(X, np.zeros(len(X)))
        with pytest.raises(ValueError, match="more than the number of classes"):
            lda.fit(X[:3], [0, 1, 2])
        with pytest.raises(ValueError, match="more than the number of classes"):
            lda.fit(X, y, sample_weight=(np.arange(len(X)) < 3) * 1.0)
        with pytest.raises(ValueError, match="Unknown label type"):
            lda.fit(X, X[:, 0])
        with pytest.raises(ValueError, match="(?i)negative"):
            lda.fit(X, y, sample_weight=-np.ones(len(X)))
        with pytest.raises(ValueError, match="No feature of X varies"):
            lda.fit(np.eye(3)[y], y)
        assert vars(lda) == before

    def test_priors_are_normalised(self):
        X, y = make_rows()
        with pytest.warns(UserWarning, match="priors do not sum to 1"):
            lda = LinearDiscriminantAnalysis(priors=[1, 1, 2]).fit(X, y)
        assert_allclose(lda.priors_, [0.25, 0.25, 0.5])

    def test_lsqr_does_not_project(self):
        X, y = make_rows()
        with pytest.raises(NotImplementedError, match="transform not implemented for 'lsqr'"):
            LinearDiscriminantAnalysis(solver="lsqr").fit(X, y).transform(X)


def test_attributes_of_an_earlier_solver_are_dropped():
    X, y = make_rows()
    lda = LinearDiscriminantAnalysis(store_covariance=True).fit(X, y)
    lda.set_params(solver="lsqr").fit(X, y)
    assert not hasattr(lda, "scalings_") and not hasattr(lda, "xbar_")


def test_names_and_components():
    pd = pytest.importorskip("pandas")
    X, y = make_rows(K=4)
    frame = pd.DataFrame(X, columns=list("abcde"))
    lda = skdeep.LDA(n_components=2).set_output(transform="pandas").fit(frame, y)
    assert list(lda.transform(frame)) == [
        "lineardiscriminantanalysis0",
        "lineardiscriminantanalysis1",
    ]
    assert lda.explained_variance_ratio_.shape == (2,)
    assert list(lda.feature_names_in_) == list("abcde")
    assert skdeep.LDA is skdeep.LinearDiscriminantAnalysis is LinearDiscriminantAnalysis


def test_tensors_run_where_they_lie():
    torch = pytest.importorskip("torch")
    X, y = make_rows()
    lda = LinearDiscriminantAnalysis().fit(torch.asarray(X), torch.asarray(y))
    assert lda.backend_ == "torch:cpu"
    assert isinstance(lda.coef_, np.ndarray)
    assert_equal_fits(lda, LinearDiscriminantAnalysis().fit(X, y))


@pytest.mark.gpu
@pytest.mark.parametrize(("solver", "shrinkage"), CONFIGURATIONS)
def test_gpu(solver, shrinkage):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    X, y = make_rows()
    lda = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage, backend="torch:cuda")
    assert_equal_fits(lda.fit(X, y), clone(lda).set_params(backend="numpy").fit(X, y))
