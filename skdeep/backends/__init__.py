"""Backends by name, those of other packages included.

A package offers its backend through the entry-point group ``skdeep.backends``, or a program calls
:func:`register_backend`.
"""

from collections.abc import Callable
from importlib.metadata import entry_points

from .base import Backend

__all__ = ["Backend", "NotInstalled", "backend_names", "get_backend", "register_backend"]


class NotInstalled(ValueError):
    """The package that a backend needs is not there."""


Factory = Callable[[str | None, str | None], Backend]

ENTRY_POINT_GROUP = "skdeep.backends"


def _numpy(device: str | None, dtype: str | None) -> Backend:
    from .numpy_backend import make_backend

    return make_backend(device, dtype)


def _torch(device: str | None, dtype: str | None) -> Backend:
    try:
        from .torch_backend import make_backend
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise NotInstalled(
            "backend='torch' needs PyTorch, which is not installed: pip install 'skdeep[torch]'"
        ) from error
    return make_backend(device, dtype)


_FACTORIES: dict[str, Factory] = {"numpy": _numpy, "torch": _torch}


def register_backend(name: str, factory: Factory) -> None:
    """Make a backend known by name.

    Parameters
    ----------
    name : str
        What users pass as ``backend``, without a colon: a device may follow one.
    factory : callable
        ``factory(device, dtype) -> Backend``. ``device`` is the text after the first colon or
        None; ``dtype`` the floating-point type asked for or None. It raises ValueError, naming
        what there is, if either is not available.

    Raises
    ------
    ValueError
        If the name is empty, is "auto" or has a colon.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep import register_backend
    >>> from skdeep.backends.base import Backend
    >>> register_backend("plain", lambda device, dtype: Backend("plain", "cpu", np))
    """
    if not name or name == "auto" or ":" in name:
        raise ValueError(
            f"name={name!r} cannot name a backend: it must be a non-empty string without a colon, "
            "and not 'auto'."
        )
    _FACTORIES[name] = factory


def backend_names() -> list[str]:
    """Names that ``backend`` takes, without devices."""
    offered = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return sorted(offered | set(_FACTORIES))


def get_backend(backend: str, dtype: str | None = None) -> Backend:
    """Make a backend from its name, such as ``"numpy"`` or ``"torch:cuda:1"``.

    Raises
    ------
    ValueError
        If the backend is unknown, not installed, or lacks the device or dtype.
    """
    name, _, device = backend.partition(":")
    if name not in _FACTORIES:
        for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
            _FACTORIES[name] = point.load()
    if name not in _FACTORIES:
        raise ValueError(
            f"backend={backend!r} is unknown: use 'auto' or one of {backend_names()}, followed by "
            "':' and a device where it has several."
        )
    return _FACTORIES[name](device or None, dtype)
