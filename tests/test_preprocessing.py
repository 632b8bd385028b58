"""The transformers: scikit-learn's checks, its RobustScaler, and values by hand."""

import pickle

import numpy as np
import pytest
import sklearn.preprocessing
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeep.preprocessing import RobustClip


@parametrize_with_checks([RobustClip()])
def test_estimator_checks(estimator, check):
    check(estimator)


def test_it_is_the_robust_scaler_with_a_bend():
    X = np.random.RandomState(0).standard_t(2, (200, 4)) * [1, 10, 0.1, 1e6] + [0, 5, -3, 1e7]
    z = sklearn.preprocessing.RobustScaler().fit_transform(X)
    np.testing.assert_allclose(
        RobustClip().fit_transform(X), z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-12
    )


def test_half_the_range_where_the_quartiles_are_equal():
    X = np.r_[np.zeros(9), 4.0][:, None]
    model = RobustClip().fit(X)
    assert model.center_ == 0 and model.scale_ == 2
    np.testing.assert_allclose(model.transform([[4.0], [-2.0]])[:, 0],
                               [2 / np.sqrt(1 + 4 / 9), -1 / np.sqrt(1 + 1 / 9)])  # fmt: skip


def test_a_constant_is_zero():
    assert not RobustClip().fit_transform(np.full((5, 1), 7.0)).any()


def test_missing_values_stay_and_count_for_nothing():
    X = np.array([[1.0], [2.0], [np.nan], [3.0], [4.0], [9.0]])
    Z, known = RobustClip().fit_transform(X), ~np.isnan(X)
    np.testing.assert_array_equal(np.isnan(Z), ~known)
    np.testing.assert_array_equal(Z[known], RobustClip().fit_transform(X[known][:, None]).ravel())


@pytest.mark.filterwarnings("error")
def test_a_feature_of_missing_values_alone_says_nothing():
    X = np.array([[np.nan, 1.0], [np.nan, 2.0]])
    assert np.isnan(RobustClip().fit_transform(X)[:, 0]).all()


def test_single_precision_is_kept_and_enormous_numbers_stay_within_three():
    X = np.r_[np.arange(20.0), 1e30, -1e30][:, None].astype("float32")
    Z = RobustClip().fit_transform(X)
    assert Z.dtype == "float32"
    np.testing.assert_array_equal(Z[-2:, 0], np.float32([3, -3]))
    np.testing.assert_allclose(Z[:-2], RobustClip().fit_transform(X.astype(float))[:-2], rtol=1e-5)


def test_names_frames_and_pickles():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 4.0, 7.0]})
    model = RobustClip().set_output(transform="pandas")
    Z = model.fit_transform(X)
    assert list(Z) == ["a", "b"] == list(model.get_feature_names_out())
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).transform(X), Z)


def test_a_sparse_matrix_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="[Ss]parse"):
        RobustClip().fit(sparse.eye_array(3, format="csr"))
