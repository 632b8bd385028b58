"""Faults that are being mended: an entry goes with the change that mends it.

``tests/test_fuzz.py`` fails for an entry whose seed has no such complaint any more.
"""

import re
from typing import NamedTuple


class Known(NamedTuple):
    """What complaints of a fault look like, a seed that has one, and what is to be done."""

    pattern: str
    seed: int
    reason: str


KNOWN = [
    Known(
        "type numpy.longdouble",
        235,
        "rows of longdouble are fitted, and then torch cannot predict for them",
    ),
    Known(
        "warns users only: RuntimeWarning",
        4,
        "warnings of overflow and of log(0) are to stay inside",
    ),
    Known(
        "failed fit leaves no trace: left (_label_binarizer, )?classes_",
        69,
        "the first partial_fit of MLPClassifier keeps the classes of a call that fails",
    ),
    Known(
        "^LogisticRegression.*no end after",
        50,
        "proximal Newton takes many slow iterations where features are far from zero",
    ),
    Known(
        "^MLP.*changed X",
        21,
        "the largest entry of the user's CSR rows is asked of SciPy, which sorts their indices",
    ),
    Known(
        "radius_ is not finite",
        292,
        "the largest norm of a row overflows where its square does",
    ),
]


def is_known(one: str) -> bool:
    """Whether a complaint, after its estimator's name, is of a fault in the list."""
    return any(re.search(known.pattern, one) for known in KNOWN)
