"""Arrays in, the same kind of arrays out, where scikit-learn dispatches on the array API.

Fits compute on the host's copy of the data or on the device that the backend names; this module
brings inputs to the host before and fitted attributes and outputs to the caller's namespace after.
"""

import copy
from collections.abc import Callable
from functools import wraps

import numpy as np
from array_api_compat import is_torch_array
from sklearn import config_context, get_config

from ._sklearn import _is_numpy_namespace, check_same_namespace, get_namespace_and_device, move_to

__all__ = ["follows_input", "to_host"]

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
    """X as a fit takes it: tensors as they are, for ``backend="auto"`` follows their device."""
    return X if is_torch_array(X) else _to_host(X)


def _to_space(value, space):
    """A numeric NumPy array in the given namespace, in a list too; anything else as it is."""
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [_to_space(item, space) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        xp, device = space
        return xp.asarray(np.ascontiguousarray(value), device=device)
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
        kwargs = {name: _to_host(value) for name, value in kwargs.items()}
        if space is None:
            return method(self, X, *args, **kwargs)
        _attributes_to_host(self)
        parameters, X = self.get_params(deep=False), _to_data(X)
        with config_context(array_api_dispatch=False):
            method(self, X, *args, **kwargs)
        for name, value in vars(self).items():
            if name not in parameters:
                setattr(self, name, _to_space(value, space))
        return self

    return fit


def _predict(method: Callable, reference: str) -> Callable:
    @wraps(method)
    def predict(self, X, *args, **kwargs):
        fitted = getattr(self, reference, None)
        if _space(X) is None and (fitted is None or isinstance(fitted, np.ndarray)):
            return method(self, X, *args, **kwargs)
        if fitted is not None:
            check_same_namespace(X, self, attribute=reference, method=method.__name__)
        space, host = _space(X), copy.copy(self)
        _attributes_to_host(host)
        X = _to_data(X)
        with config_context(array_api_dispatch=False):
            result = method(host, X, *args, **kwargs)
        return result if space is None else _to_space(result, space)

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
