"""How a backend's override of a function is reached.

Generic functions take the array namespace first. A backend's namespace carries its overrides, so
that whoever calls an overridable function with it, at whatever depth, calls the override.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

__all__ = ["OVERRIDABLE", "Namespace", "chosen", "overridable"]

# Every function that :func:`overridable` has marked.
OVERRIDABLE: list[Callable] = []

_NONE: Mapping = {}


class Namespace:
    """An array namespace that carries a backend's overrides.

    Parameters
    ----------
    xp : module
        Namespace of the Python array API standard.
    overrides : dict of callable to callable

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.overrides import Namespace
    >>> Namespace(np, {}).arange(3).tolist()
    [0, 1, 2]
    """

    def __init__(self, xp, overrides: Mapping[Callable, Callable]):
        # Found at once, where a lookup in another namespace would take twice as long.
        self.__dict__ = dict(vars(xp))
        self.wrapped, self._overrides = xp, overrides

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["wrapped"], name)


def chosen(xp, fn: Callable) -> Callable:
    """The override of a function in this namespace; the function itself where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.losses import sigmoid
    >>> from skdeep.overrides import Namespace, chosen
    >>> chosen(np, sigmoid) is sigmoid
    True
    >>> chosen(Namespace(np, {sigmoid: lambda xp, raw: raw}), sigmoid) is sigmoid
    False
    """
    return getattr(xp, "_overrides", _NONE).get(fn, fn)


def overridable(fn: Callable) -> Callable:
    """Let callers reach a backend's override of this function.

    The first argument of ``fn`` is an array namespace, or a backend. An override that serves some
    cases only calls ``fn.__wrapped__`` for the others.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.overrides import Namespace, overridable
    >>> @overridable
    ... def double(xp, x):
    ...     return 2 * x
    >>> double(np, 4), double(Namespace(np, {double: lambda xp, x: x + x + 1}), 4)
    (8, 9)
    """

    @wraps(fn)
    def call(xp, *args, **kwargs):
        return getattr(xp, "_overrides", _NONE).get(call, fn)(xp, *args, **kwargs)

    OVERRIDABLE.append(call)
    return call
