"""Arrays in, the same kind of arrays out, where scikit-learn dispatches on the array API.

A torch tensor stays where it is if the backend computes there, dispatch or not; any other data are
brought to the host. Under dispatch fitted attributes and outputs follow the caller's namespace and
device; else they are NumPy's.
"""

import copy
from collections.abc import Callable
from functools import partial, wraps
from mmap import mmap

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from scipy.sparse import issparse
from sklearn import config_context, get_config
from sklearn.utils import assert_all_finite, validation

from ._sklearn import _is_numpy_namespace, check_same_namespace, get_namespace_and_device, move_to

__all__ = [
    *("check_array", "follows_input", "is_torch_array", "mapped", "mean_rows", "namespace_of"),
    *("numpy_dtype", "staying", "to_host", "validate_data"),
]

FITTING = ("fit", "partial_fit")
PREDICTING = (
    "decision_function",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "transform",
    "inverse_transform",
)


def _space(X):
    """Namespace and device of X where they matter: under dispatch, and not NumPy's; else None."""
    if not get_config()["array_api_dispatch"]:
        return None
    xp, is_array_api, device = get_namespace_and_device(X)
    return (xp, device) if is_array_api and not _is_numpy_namespace(xp) else None


def to_host(X):
    """Host data for validation: a torch tensor becomes an ndarray, anything else stays."""
    if not is_torch_array(X):
        return X
    # NumPy has no bfloat16.
    return (X.float() if str(X.dtype) == "torch.bfloat16" else X).detach().cpu().numpy()


def numpy_dtype(X) -> np.dtype:
    """The type that X has on the host."""
    return to_host(X.new_empty(0)).dtype if is_torch_array(X) else X.dtype


def namespace_of(X):
    """That of a tensor, or NumPy for anything on the host."""
    return array_namespace(X) if is_torch_array(X) else np


def mapped(X) -> bool:
    """Whether the numbers of X are those of a file, and may be more than memory holds."""
    array = X.data if issparse(X) else X
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap | mmap)


def mean_rows(weights: np.ndarray, X):
    """``weights @ X`` on the host; a tensor is read where it lies."""
    if not is_torch_array(X):
        return weights @ X
    return to_host(X.new_tensor(weights.astype(numpy_dtype(X))) @ X)


def staying(backend, X):
    """X as it is where the backend computes on it in its place, else on the host."""
    return X if backend.holds(X) else to_host(X)


def validate_data(estimator, X, y="no_validation", **how):
    """scikit-learn's ``validate_data``, which a tensor passes where it lies.

    scikit-learn sees its shape and type, and the targets; its values are looked at on the device.
    """
    if not is_torch_array(X):
        return validation.validate_data(estimator, X, y, **how)
    X, found = _checked(partial(validation.validate_data, estimator, y=y), estimator, X, **how)
    return (X, found[1]) if isinstance(found, tuple) else X


def check_array(estimator, X, **how):
    """scikit-learn's ``check_array`` likewise, for other columns than those of a fit."""
    if not is_torch_array(X):
        return validation.check_array(X, input_name="X", **how)
    return _checked(validation.check_array, estimator, X, **how)[0]


def _checked(check: Callable, estimator, X, dtype="numeric", order=None, **how):
    """A tensor in the type asked for, and what scikit-learn found in an array of its shape.

    The order does not matter on a device.
    """
    seen = np.broadcast_to(np.zeros((), numpy_dtype(X)), tuple(X.shape))
    found = check(seen, **how, dtype=None, ensure_all_finite=False)
    X = _of_type(X.detach() if X.requires_grad else X, dtype, estimator._kept_dtype)
    _require_finite(estimator, X)
    return X, found


def _of_type(X, dtype, kept: str | None):
    """X in the type that scikit-learn would give it, or in that in which parameters are kept."""
    name, xp = numpy_dtype(X).name, array_namespace(X)
    if dtype not in (None, "numeric"):
        accepted = [np.dtype(one).name for one in np.atleast_1d(dtype)]
        name = name if name in accepted else kept or accepted[0]
    return xp.astype(X, getattr(xp, name), copy=False)


def _require_finite(estimator, X) -> None:
    """Raise scikit-learn's error for NaN and infinity; where there is none a sum tells."""
    xp = array_namespace(X)
    if not xp.isdtype(X.dtype, "real floating") or bool(xp.isfinite(xp.sum(X))):
        return
    if bool(xp.all(xp.isfinite(X))):
        return
    found = np.asarray([np.nan if bool(xp.any(xp.isnan(X))) else np.inf], numpy_dtype(X))
    assert_all_finite(found, estimator_name=type(estimator).__name__, input_name="X")


def _to_host(value):
    """An array of any namespace as NumPy's, in a list too; anything else as it is."""
    if isinstance(value, list) and value and hasattr(value[0], "__dlpack__"):
        return [_to_host(item) for item in value]
    value = to_host(value)
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        if get_config()["array_api_dispatch"]:
            return move_to(value, xp=np, device="cpu")
        return np.asarray(value)
    return value


def _to_data(X):
    """X as a fit takes it: a tensor as it is, for it may stay."""
    return X if is_torch_array(X) else _to_host(X)


def _to_space(value, space, kept: str | None = None):
    """A numeric array in the given namespace, in a list too; anything else as it is.

    Where parameters are kept in single precision the device may have no other.
    """
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [_to_space(item, space, kept) for item in value]
    xp, device = space
    if is_torch_array(value):
        same = value.device == device
        return value if same else xp.asarray(_to_host(value), device=device)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        dtype = "float32" if kept == "float32" and value.dtype == "float64" else value.dtype
        return xp.asarray(np.ascontiguousarray(value, dtype), device=device)
    return value


def _attributes_to_host(estimator) -> None:
    for name, value in vars(estimator).items():
        host = _to_host(value)
        if host is not value:
            setattr(estimator, name, host)


def _fit(method: Callable) -> Callable:
    @wraps(method)
    def fit(self, X, *args, **kwargs):
        space = _space(X)
        args = [_to_host(value) for value in args]
        to = {"X_val": _to_data}
        kwargs = {name: to.get(name, _to_host)(value) for name, value in kwargs.items()}
        if space is None:
            return method(self, X, *args, **kwargs)
        _attributes_to_host(self)
        parameters, X = self.get_params(deep=False), _to_data(X)
        with config_context(array_api_dispatch=False):
            method(self, X, *args, **kwargs)
        for name, value in vars(self).items():
            if name not in parameters:
                kept = None if name == "classes_" else self._kept_dtype
                setattr(self, name, _to_space(value, space, kept))
        return self

    return fit


def _predict(method: Callable, reference: str) -> Callable:
    @wraps(method)
    def predict(self, X, *args, **kwargs):
        fitted, space = getattr(self, reference, None), _space(X)
        as_is = space is None and (fitted is None or isinstance(fitted, np.ndarray))
        if vars(self).get("_stand_in") or (as_is and not is_torch_array(X)):
            return method(self, X, *args, **kwargs)
        if not (as_is or fitted is None):
            check_same_namespace(X, self, attribute=reference, method=method.__name__)
        # What the stand-in computes from a tensor stays on its device, from method to method.
        host = copy.copy(self)
        host._stand_in = True
        _attributes_to_host(host)
        X = _to_data(X)
        with config_context(array_api_dispatch=False):
            result = method(host, X, *args, **kwargs)
        return _to_host(result) if space is None else _to_space(result, space)

    return predict


def follows_input(reference: str) -> Callable[[type], type]:
    """Class decorator: fitted attributes and outputs follow the namespace and device of X.

    Parameters
    ----------
    reference : str
        A fitted array, whose namespace later inputs must share.
    """

    def decorate(cls: type) -> type:
        for name in (*FITTING, *PREDICTING):
            raw = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
            if raw is None:
                continue

            def wrap(method, name=name):
                return _fit(method) if name in FITTING else _predict(method, reference)

            # What is available under a condition stays so.
            conditional = hasattr(raw, "check") and hasattr(raw, "fn")
            wrapped = type(raw)(wrap(raw.fn), raw.check, name) if conditional else wrap(raw)
            setattr(cls, name, wrapped)
        return cls

    return decorate
