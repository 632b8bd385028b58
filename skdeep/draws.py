"""Random numbers by counting: the same on every backend, made where they are used.

A number is a hash of its place: the seed of a model, the step, the layer, and which number it is of
those. There is no generator to advance, nothing to upload, and nothing to keep but the seed. The
hash is SplitMix64, in integers of 64 bits with a sign, which wrap alike everywhere.

References
----------
J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from math import pi, prod
from typing import Any

import numpy as np

from .overrides import overridable

__all__ = ["Draws", "streams"]

WORD = 2**64
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# Numbers of 16 bits: finer than anyone tunes a rate of dropout, and cheap to make.
LEVELS = 2**16
# Draws of a regulariser in a step, at most.
DRAWS = 2


def _signed(word: int) -> int:
    return word - WORD if word >= WORD // 2 else word


def _after(x, k: int):
    """The bits of x shifted to the right, zeros moving in."""
    return (x >> k) & ((1 << (64 - k)) - 1)


def mixed(x):
    """SplitMix64's finaliser: each bit of the result depends on all of x."""
    x = (x ^ _after(x, 30)) * _signed(FIRST)
    x = (x ^ _after(x, 27)) * _signed(SECOND)
    return x ^ _after(x, 31)


def streams(seeds: np.ndarray, steps: np.ndarray, n: int) -> np.ndarray:
    """Keys of the numbers that are drawn in some steps, on the host.

    Parameters
    ----------
    seeds : int array of shape (M,)
        Of the models.
    steps : int array of shape (S, M)
        The number of each step in the training of each model.
    n : int
        Draws in a step.

    Returns
    -------
    keys : int64 array of shape (S, M, n)

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.draws import streams
    >>> keys = streams(np.array([7, 8]), np.array([[1, 1], [2, 2]]), 3)
    >>> keys.shape, len(np.unique(keys))
    ((2, 2, 3), 12)
    """
    key = np.asarray(seeds, dtype=np.int64)[None, :, None]
    for place in (np.asarray(steps, dtype=np.int64)[..., None], np.arange(n, dtype=np.int64)):
        key = mixed(key + _signed(GAMMA) * (place + 1))
    return key


@overridable
def words(xp, keys, n: int):
    """Random words of 64 bits: an int64 array of shape (*keys.shape, n)."""
    places = xp.arange(1, n + 1, dtype=xp.int64, device=keys.device) * _signed(GAMMA)
    return mixed(keys[..., None] + places)


@overridable
def levels(xp, keys, n: int):
    """Random whole numbers from -2**15 to 2**15 - 1, an array of shape (*keys.shape, n)."""
    four = words(xp, keys, -(-n // 4))
    parts = xp.stack([(four << by) >> 48 for by in (48, 32, 16, 0)], axis=-1)
    return xp.reshape(parts, (*keys.shape, -1))[..., :n]


@overridable
def normals(xp, keys, n: int, dtype):
    """Standard normal variates of shape (*keys.shape, n) (Box and Muller, 1958)."""
    word = words(xp, keys, -(-n // 2))
    # Halves of a word, in (0, 1).
    u, v = ((xp.astype(half & (2**32 - 1), dtype) + 0.5) / 2.0**32 for half in (word >> 32, word))
    length, angle = xp.sqrt(-2.0 * xp.log(u)), 2.0 * pi * v
    both = xp.stack([length * xp.cos(angle), length * xp.sin(angle)], axis=-1)
    return xp.reshape(both, (*keys.shape, -1))[..., :n]


def threshold(rate):
    """Levels below it have the chance ``rate``; a whole number."""
    return np.minimum(np.ceil(rate * LEVELS), LEVELS - 1) - LEVELS // 2


@overridable
def masks(xp, keys, numbers: Any, shape: tuple[int, ...], n_rows: int):
    """Masks of a dropout layer: 0 with the chance of the rate, else 1 / (1 - rate).

    Parameters
    ----------
    keys : int array of shape (..., M)
    numbers : pair of arrays of the same shape
        :func:`threshold` of the rates, and 1 / (1 - rate).
    shape : tuple of int
        Of a row of what they multiply.
    n_rows : int
        Rows of a whole batch.

    Returns
    -------
    masks : array of shape (..., M, n_rows, *shape)
        Units before rows in memory, as activations are.
    """
    below, scale = (number[..., None] for number in numbers)
    drawn = levels(xp, keys, prod(shape) * n_rows)
    kept = xp.where(drawn >= below, scale, xp.zeros_like(scale))
    kept = xp.matrix_transpose(xp.reshape(kept, (*keys.shape, prod(shape), n_rows)))
    return kept if len(shape) == 1 else xp.reshape(kept, (*keys.shape, n_rows, *shape))


class Draws:
    """Random numbers for the rows of a batch in one step, each model's from streams of its own.

    Parameters
    ----------
    xp : namespace
    keys : int array of shape (M, n)
        A stream for each draw to come; see :func:`streams`.
    n_rows : int
        Rows of a whole batch: in a shorter one they have the same numbers.
    dtype : dtype of ``xp``

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.draws import Draws, streams
    >>> draws = Draws(np, streams(np.array([7]), np.array([[1]]), 2)[0], 4, np.float64)
    >>> draws.kept(np.array([[0.5]]), (3, 2)).shape, draws.normal((4, 2)).shape
    ((1, 3, 2), (1, 4, 2))
    """

    def __init__(self, xp, keys, n_rows: int, dtype):
        self.xp, self.keys, self.n_rows, self.dtype = xp, keys, n_rows, dtype
        self.drawn = 0

    def _next(self):
        if self.keys is None or self.drawn == self.keys.shape[1]:
            raise ValueError(
                "A regularizer draws random numbers that it has not asked for: its class says "
                f"random = True, for {DRAWS} draws in a step."
            )
        self.drawn += 1
        return self.keys[:, self.drawn - 1]

    def _of_rows(self, numbers, shape):
        """Numbers (M, p * n_rows) as (M, *shape), for shape (n, p)."""
        n, p = shape
        numbers = self.xp.reshape(numbers, (numbers.shape[0], p, self.n_rows))
        return self.xp.matrix_transpose(numbers[:, :, :n])

    def vector(self, n: int):
        """Normal variates (M, n), of no rows."""
        return normals(self.xp, self._next(), n, self.dtype)

    def normal(self, shape: tuple[int, int]):
        """Normal variates (M, *shape), of rows and columns."""
        return self._of_rows(
            normals(self.xp, self._next(), shape[1] * self.n_rows, self.dtype), shape
        )

    def kept(self, rates, shape: tuple[int, int]):
        """Ones, (M, *shape), and zeros with the chance ``rates`` (M, 1)."""
        drawn = self._of_rows(levels(self.xp, self._next(), shape[1] * self.n_rows), shape)
        return self.xp.astype(drawn >= (rates * LEVELS - LEVELS // 2)[..., None], self.dtype)
