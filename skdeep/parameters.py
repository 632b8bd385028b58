"""Parameters of constructors, each said once: constraints, signatures and docstrings follow.

A class has its rows in ``_parameters``. ``python tests/signatures.py --write`` copies names,
defaults and texts from there into the source, where editors and type checkers look for them.
"""

from inspect import Parameter as Argument
from typing import Any, NamedTuple

__all__ = ["REQUIRED", "Parameter", "constraints", "store", "without"]

REQUIRED = Argument.empty


class Parameter(NamedTuple):
    """A row of a table whose keys are the names.

    Parameters
    ----------
    default : object
        ``REQUIRED`` if there is none.
    constraints : list
        What scikit-learn validates values against.
    type : str, default=""
        What the docstring has between the name and the default.
    text : str, default=""
        What stands below, in lines that fit there. Without any the docstring passes over it.
    positional : bool, default=False
        Whether it may be given without its name, as those before it.
    """

    default: Any
    constraints: list
    type: str = ""
    text: str = ""
    positional: bool = False


def constraints(rows: dict[str, Parameter]) -> dict[str, list]:
    """The rows as scikit-learn's ``_parameter_constraints``."""
    return {name: row.constraints for name, row in rows.items()}


def without(rows: dict[str, Parameter], *names: str) -> dict[str, Parameter]:
    """The rows but for some."""
    return {name: row for name, row in rows.items() if name not in names}


def store(self, **given) -> None:
    """All that a constructor does here: ``store(**locals())`` sets what it was given."""
    for name, value in given.items():
        setattr(self, name, value)
