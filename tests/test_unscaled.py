"""The default logistic regression meets its tolerance on features that nobody has scaled."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning

from skdeep.linear_model import LogisticRegression


def largest_gradient(model, X, y):
    """Of the mean loss plus the penalty divided by C n, by its formula."""
    codes = np.searchsorted(model.classes_, y)
    scores = X @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:
        residual = expit(scores) - codes[:, None]
    else:
        residual = softmax(scores, axis=1) - (codes[:, None] == np.arange(scores.shape[1]))
    weights = residual.T @ X / len(X) + model.coef_ / (model.C * len(X))
    return max(np.abs(weights).max(), np.abs(residual.mean(axis=0)).max())


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize(
    ("load", "scale"), [(load_breast_cancer, 1.0), (load_wine, 1.0), (load_digits, 16.0)]
)
def test_default_meets_its_tolerance(load, scale, container):
    X, y = load(return_X_y=True)
    X = scale * X
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = LogisticRegression().fit(container(X), y)
    assert (model.n_iter_ < model.max_iter).all()
    assert largest_gradient(model, X, y) <= model.tol


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csr_matrix])
def test_a_sparse_fit_takes_the_path_of_a_dense_fit(n_classes, container):
    """Under the default tolerance too, where two paths to one optimum stop apart."""
    X, y = make_classification(1000, 130, n_informative=10, n_classes=n_classes, random_state=0)
    dense = LogisticRegression().fit(X, y)
    from_sparse = LogisticRegression().fit(container(X), y)
    np.testing.assert_array_equal(from_sparse.n_iter_, dense.n_iter_)
    np.testing.assert_allclose(from_sparse.coef_, dense.coef_, rtol=0, atol=1e-10)
