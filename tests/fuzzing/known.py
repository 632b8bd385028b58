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


KNOWN: list[Known] = []


def is_known(one: str) -> bool:
    """Whether a complaint, after its estimator's name, is of a fault in the list."""
    return any(re.search(known.pattern, one) for known in KNOWN)
