"""scikit-learn's functions, run with other globals: its text stays the only one."""

from collections.abc import Callable
from functools import update_wrapper
from textwrap import dedent, indent
from types import FunctionType

from .._sklearn import validate_params


def rebind(function: Callable, **names) -> Callable:
    """The function with some of its global names bound to other objects.

    Only the copy sees them: scikit-learn's module stays as it is, in every thread.

    Examples
    --------
    >>> def f(x):
    ...     return len(x)
    >>> rebind(f, len=sum)([1, 2])
    3
    """
    raw = getattr(function, "__wrapped__", function)
    missing = names.keys() - set(raw.__code__.co_names)
    if missing:
        raise RuntimeError(
            f"{raw.__module__}.{raw.__name__} of this scikit-learn uses no {sorted(missing)}: "
            "skdeep.model_selection was written for another release."
        )
    scope = raw.__globals__ | names
    copy = FunctionType(raw.__code__, scope, raw.__name__, raw.__defaults__, raw.__closure__)
    copy.__kwdefaults__ = raw.__kwdefaults__
    return update_wrapper(copy, raw)


def rebind_validated(function: Callable, example: str, **names) -> Callable:
    """The same for a function that validates its parameters by scikit-learn's decorator.

    The docstring is scikit-learn's with another example.
    """
    bound = rebind(function, **names)
    text = (function.__doc__ or "").partition("    Examples\n")[0]
    bound.__doc__ = f"{text}    Examples\n    --------\n{indent(dedent(example), '    ')}"
    del bound.__wrapped__
    bound.__module__ = __package__
    constraints = dict(function._skl_parameter_constraints)
    return validate_params(constraints, prefer_skip_nested_validation=False)(bound)
