"""Data of the lectures: the XOR problem, and Genz's test functions for multi-dimensional fits."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array, check_random_state

from ._sklearn import Interval, StrOptions, validate_params

__all__ = ["Genz", "make_genz", "make_xor"]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_xor(n_samples=200, noise=0.1, random_state=None):
    """Clusters at the corners of the unit square, of class 1 where the coordinates differ.

    No line separates the classes: one neuron cannot learn them, one hidden layer can.

    Parameters
    ----------
    n_samples : int, default=200
        Number of points. They visit the corners (0, 0), (0, 1), (1, 0) and (1, 1) in turn, so that
        any four neighbours are one of each.
    noise : float, default=0.1
        Standard deviation of the Gaussian noise around the corners. With ``n_samples=4`` and
        ``noise=0`` the data are the truth table of "exclusive or".
    random_state : int, RandomState instance or None, default=None
        Determines the noise.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
    y : ndarray of int of shape (n_samples,)
        The class of the corner that a point was drawn around: 0 or 1.

    References
    ----------
    M. Minsky, S. Papert, "Perceptrons", MIT Press, 1969.

    Examples
    --------
    >>> from skdeep.datasets import make_xor
    >>> X, y = make_xor(4, noise=0)
    >>> X.tolist(), y.tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
    """
    corner = np.arange(n_samples) % 4
    bits = np.stack([corner // 2, corner % 2], axis=1)
    X = bits + noise * check_random_state(random_state).standard_normal(bits.shape)
    return X, bits[:, 0] ^ bits[:, 1]


def _oscillatory(X, w, c):
    return np.cos(2 * np.pi * w[0] + X @ c)


def _product_peak(X, w, c):
    # 1 / (1/c² + (x - w)²), without the division by c.
    return np.prod(c**2 / (1 + (c * (X - w)) ** 2), axis=1)


def _corner_peak(X, w, c):
    return (1 + X @ c) ** -(X.shape[1] + 1.0)


def _gaussian(X, w, c):
    return np.exp(-((X - w) ** 2) @ c**2)


def _continuous(X, w, c):
    return np.exp(-np.abs(X - w) @ c)


def _discontinuous(X, w, c):
    return np.where((X[:, :2] > w[:2]).any(axis=1), 0.0, np.exp(X @ c))


# Family -> its function, and the sum of the constants c in d dimensions.
_FAMILIES = {
    "oscillatory": (_oscillatory, lambda d: 1.5),
    "product_peak": (_product_peak, float),
    "corner_peak": (_corner_peak, lambda d: 1.85),
    "gaussian": (_gaussian, lambda d: 7.03),
    "continuous": (_continuous, lambda d: 20.4),
    "discontinuous": (_discontinuous, lambda d: 4.3),
}


@dataclass(frozen=True, eq=False)
class Genz:
    """One of Genz's test functions on the unit cube.

    Parameters
    ----------
    family : {'oscillatory', 'product_peak', 'corner_peak', 'gaussian', 'continuous', \
'discontinuous'}
        With points x, shifts w and constants c of d entries, and c·x for their scalar product:

        - oscillatory: ``cos(2 π w₁ + c·x)``
        - product_peak: ``Π 1 / (cᵢ⁻² + (xᵢ - wᵢ)²)``
        - corner_peak: ``(1 + c·x) ** -(d + 1)``
        - gaussian: ``exp(-Σ cᵢ² (xᵢ - wᵢ)²)``
        - continuous: ``exp(-Σ cᵢ |xᵢ - wᵢ|)``
        - discontinuous: 0 where ``x₁ > w₁`` or ``x₂ > w₂``, and ``exp(c·x)`` elsewhere
    w : ndarray of shape (n_features,)
        Shifts: where the peak, the kink or the jump lies.
    c : ndarray of shape (n_features,)
        Constants: the larger, the more difficult the function.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.datasets import Genz
    >>> corner_peak = Genz("corner_peak", w=np.array([0.5, 0.5]), c=np.array([1.0, 2.0]))
    >>> corner_peak([[0.0, 0.0], [1.0, 0.0]]).tolist()
    [1.0, 0.125]
    """

    family: str
    w: np.ndarray
    c: np.ndarray

    def __post_init__(self):
        if self.family not in _FAMILIES:
            raise ValueError(f"family={self.family!r} is unknown: use one of {list(_FAMILIES)}.")
        for name in ("w", "c"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if self.w.ndim != 1 or self.w.shape != self.c.shape or self.w.size == 0:
            raise ValueError(
                "w and c need one entry for each feature: they have shapes "
                f"{self.w.shape} and {self.c.shape}."
            )

    def __call__(self, X):
        """Values at the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        X = check_array(X, dtype=np.float64)
        if X.shape[1] != self.c.size:
            raise ValueError(
                f"X has {X.shape[1]} features, but this function takes {self.c.size} of them."
            )
        return _FAMILIES[self.family][0](X, self.w, self.c)


@validate_params(
    {
        "family": [StrOptions(set(_FAMILIES))],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "return_function": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_genz(
    family="oscillatory",
    n_samples=500,
    n_features=2,
    random_state=None,
    *,
    return_function=False,
):
    """Points drawn uniformly from the unit cube, and one of Genz's functions there.

    The shifts w and the constants c are drawn uniformly from [0, 1] and scaled: the shifts to the
    sum 1, the constants to 1.5 (oscillatory), n_features (product_peak), 1.85 (corner_peak), 7.03
    (gaussian), 20.4 (continuous) or 4.3 (discontinuous).

    Parameters
    ----------
    family : {'oscillatory', 'product_peak', 'corner_peak', 'gaussian', 'continuous', \
'discontinuous'}, default='oscillatory'
        See :class:`Genz`.
    n_samples : int, default=500
    n_features : int, default=2
    random_state : int, RandomState instance or None, default=None
        Determines the function, which is drawn first, and the points. The same number gives the
        same function for every ``n_samples``.
    return_function : bool, default=False
        Whether to return the function too, for values at other points.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    function : Genz
        If ``return_function``.

    References
    ----------
    A. Genz, "Testing multidimensional integration routines", in Tools, Methods and Languages for
    Scientific and Engineering Computation, North-Holland, 1984.

    A. Genz, "A package for testing multiple integration subroutines", in Numerical Integration,
    Reidel, 1987.

    V. Barthelmann, E. Novak, K. Ritter, "High dimensional polynomial interpolation on sparse
    grids", Advances in Computational Mathematics 12, 2000 (the sums of the constants).

    Examples
    --------
    >>> from skdeep.datasets import make_genz
    >>> X, y, function = make_genz("gaussian", 50, 5, random_state=0, return_function=True)
    >>> X.shape, y.shape, round(float(function.c.sum()), 6)
    ((50, 5), (50,), 7.03)
    >>> function([[0.5] * 5]).shape
    (1,)
    """
    rng = check_random_state(random_state)
    w, c = rng.uniform(size=n_features), rng.uniform(size=n_features)
    difficulty = _FAMILIES[family][1](n_features)
    function = Genz(family, w=w / w.sum(), c=difficulty * c / c.sum())
    X = rng.uniform(size=(n_samples, n_features))
    y = function(X)
    return (X, y, function) if return_function else (X, y)
