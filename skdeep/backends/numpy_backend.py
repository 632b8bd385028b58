"""NumPy on the CPU, the reference and the default."""

import array_api_compat.numpy as xp
import numpy as np
import scipy.sparse as sp

from .base import Backend


class NumpyBackend(Backend):
    def asarray(self, x, dtype=None):
        if sp.issparse(x):
            return x if dtype is None else x.astype(dtype, copy=False)
        return np.asarray(x, dtype=dtype)


def make_backend(device: str | None, dtype: str | None) -> Backend:
    if device not in (None, "cpu"):
        raise ValueError(f"backend='numpy:{device}' has no such device: NumPy runs on the CPU only.")
    if dtype not in (None, "float32", "float64"):
        raise ValueError(
            f"dtype={dtype!r} is not available on backend='numpy': use 'float32' or 'float64', or "
            "backend='torch'."
        )
    return NumpyBackend("numpy", "cpu", xp)
