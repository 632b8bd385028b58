"""Random numbers on NumPy: hashed in place, a block at a time, which stays in the cache."""

from math import prod

import numpy as np

from .. import draws

# Words that are made at once.
CACHED_WORDS = 4096
# What is added to a key for each of them; unsigned, as shifts of such words need no masking.
PLACES = np.arange(1, CACHED_WORDS + 1, dtype=np.uint64) * np.uint64(draws.GAMMA)


def levels(xp, keys, n: int):
    """Override of ``draws.levels``."""
    n_words = -(-n // 4)
    out = np.empty((keys.size, n_words), dtype=np.uint64)
    word, moved = np.empty((2, min(CACHED_WORDS, n_words)), dtype=np.uint64)
    for row, key in zip(out, keys.ravel().tolist(), strict=True):
        for start in range(0, n_words, CACHED_WORDS):
            part = row[start : start + CACHED_WORDS]
            x, y = word[: len(part)], moved[: len(part)]
            first = (key + start * draws.GAMMA) % draws.WORD
            np.add(PLACES[: len(part)], np.uint64(first), out=x)
            for by, factor in ((30, draws.FIRST), (27, draws.SECOND)):
                np.bitwise_xor(x, np.right_shift(x, np.uint64(by), out=y), out=x)
                x *= np.uint64(factor)
            np.bitwise_xor(x, np.right_shift(x, np.uint64(31), out=y), out=part)
    # Of a word the lowest bits come first.
    parts = out.astype("<u8", copy=False).view("<i2")
    return parts.reshape(*keys.shape, -1)[..., :n]


def masks(xp, keys, numbers, shape, n_rows):
    """Override of ``draws.masks``: levels are compared as the short whole numbers that they are."""
    below, scale = (np.asarray(number)[..., None] for number in numbers)
    kept = levels(xp, keys, prod(shape) * n_rows) >= below.astype(np.int16)
    kept = (kept * scale).reshape(*keys.shape, prod(shape), n_rows).mT
    return kept if len(shape) == 1 else kept.reshape(*keys.shape, n_rows, *shape)
