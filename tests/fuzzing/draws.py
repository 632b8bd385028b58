"""Random choices that do not move each other."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np


class Draw:
    """The choices of one case, each by a generator of its own name.

    A parameter or table that is new tomorrow moves nothing that a seed has drawn today.

    Parameters
    ----------
    seed : int
        Not negative.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(name.encode())])

    def chance(self, name: str, probability: float) -> bool:
        return bool(self.rng(name).random() < probability)

    def one_of(self, name: str, options: Sequence):
        options = list(options)
        return options[self.rng(name).integers(len(options))]
