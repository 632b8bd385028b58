"""What all estimators share: choosing a backend, validating input, solving, and staying whole."""

from contextlib import contextmanager

import numpy as np
from array_api_compat import is_torch_array
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions

from .backends import get_backend
from .backends.base import Backend
from .batch import solve_many
from .problem import Problem, Result

DTYPES = ("float32", "float64", "bfloat16")


@contextmanager
def unchanged_on_error(estimator):
    """Give the estimator back its attributes if the block raises: a failed fit leaves no trace."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class Model(BaseEstimator):
    """Base of the estimators that are fitted by a solver on a backend.

    A subclass turns its data into a :class:`~skdeep.problem.Problem` and takes the
    :class:`~skdeep.problem.Result` in; ``_solve`` lies between.
    """

    _parameter_constraints: dict = {
        "backend": [str],
        "dtype": [StrOptions(set(DTYPES)), None],
    }

    def _get_backend(self, X) -> Backend:
        """The backend asked for, or under "auto" the one where the data lives."""
        name = self.backend
        if name == "auto":
            name = f"torch:{X.device}" if is_torch_array(X) else "numpy"
        return get_backend(name, self.dtype)

    def _compute_dtype(self, X) -> str:
        """Name of the type to compute in, given validated data.

        Parameters are kept in float32 under bfloat16: only products are rounded.
        """
        if self.dtype == "bfloat16":
            return "float32"
        return self.dtype or str(X.dtype)

    def _solve(self, backend: Backend, problem: Problem) -> Result:
        self.backend_ = str(backend)
        return solve_many(backend, [problem])[0]


def to_host(X):
    """Host data for validation: a torch tensor becomes an ndarray, anything else stays."""
    if is_torch_array(X):
        return X.detach().cpu().numpy()
    return X


def require_finite(*arrays: np.ndarray) -> None:
    """Raise scikit-learn's error if training has diverged."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large values "
            "and need to be preprocessed."
        )
