"""What keeps a network from fitting noise, beside weight decay, early stopping and dropout layers.

An entry is a frozen dataclass of numbers with some of the hooks of :class:`Regularizer`. In
training each number is an array of shape ``(M, 1)``, for the models of the stack.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from .draws import Draws
from .network import Network, of_role
from .overrides import chosen, overridable

__all__ = [
    "L1",
    "ClipNorm",
    "GaussianNoise",
    "LabelSmoothing",
    "MaskingNoise",
    "MaxNorm",
    "Regularizer",
]


# The numbers next to zero and one.
ABOVE_ZERO, BELOW_ONE = (float(np.nextafter(*pair)) for pair in ((0.0, 1.0), (1.0, 0.0)))


class Regularizer:
    """The hooks of a regulariser; those that a subclass leaves out do nothing.

    A subclass is a frozen dataclass. Its numbers may differ from model to model of a stack: within
    the hooks they are arrays of shape ``(M, 1)``. Everything else of it is shared.

    Attributes
    ----------
    random : bool
        Whether :meth:`input` or :meth:`gradient` takes numbers from ``draws``, at most
        ``DRAWS`` times in a step; without it there are none.
    """

    random: ClassVar[bool] = False

    def input(self, xp, X, draws: Draws):
        """The rows of a batch, (M, n, p), as the network is to see them."""
        return X

    def target(self, xp, y):
        """The targets of a batch, (M, n, k), as the loss is to see them."""
        return y

    def scores(self, xp, net: Network, raw):
        """The scores (M, n, k) that predictions are made of, from those that training leads to.

        Here what :meth:`target` does to targets may be undone.
        """
        return raw

    def penalty(self, xp, net: Network, theta, size):
        """What is added to the objective, (M,), and its gradient over the weights, (M, n_weights).

        ``size`` (M, 1) is the weight of the batch's rows, which the loss has been divided by. None
        is no penalty.
        """
        return None

    def gradient(self, xp, net: Network, grad, draws: Draws):
        """The gradient (M, P) that the optimizer is to see, zero for what runs of batch norm."""
        return grad

    def theta(self, xp, net: Network, theta):
        """The parameters (M, P) after a step."""
        return theta


def require(entry: Regularizer, name: str, low: float, high: float, words: str) -> None:
    """Raise ValueError unless a number of an entry lies between two."""
    value = np.asarray(getattr(entry, name))
    if not np.all((value >= low) & (value <= high)):
        raise ValueError(f"{name}={value} of {type(entry).__name__} must be {words}.")


@dataclass(frozen=True)
class L1(Regularizer):
    """``strength`` times the absolute values of the weights, over the rows of the batch.

    Parameters
    ----------
    strength : float

    References
    ----------
    R. Tibshirani, "Regression shrinkage and selection via the lasso", Journal of the Royal
    Statistical Society B 58, 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.network import build
    >>> from skdeep.regularization import L1
    >>> net, theta = build((2, 1), "squared_error"), np.array([[3.0, -1.0, 9.0]])
    >>> value, slope = L1(0.5).penalty(np, net, theta, np.ones((1, 1)))
    >>> value.tolist(), slope.tolist()
    ([2.0], [[0.5, -0.5]])
    """

    strength: float

    def __post_init__(self):
        require(self, "strength", 0.0, np.inf, "at least 0")

    def penalty(self, xp, net, theta, size):
        weights = theta[:, : net.n_weights]
        l1 = self.strength / size
        return l1[:, 0] * xp.sum(xp.abs(weights), axis=1), l1 * xp.sign(weights)


@dataclass(frozen=True)
class ClipNorm(Regularizer):
    """The gradient, scaled down to the norm ``bound`` if it is longer.

    Parameters
    ----------
    bound : float

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.regularization import ClipNorm
    >>> clip = ClipNorm(np.array([[1.0]]))
    >>> clip.gradient(np, None, np.array([[0.0, 4.0]]), None).tolist()
    [[0.0, 1.0]]
    """

    bound: float

    def __post_init__(self):
        require(self, "bound", ABOVE_ZERO, np.inf, "above 0")

    def gradient(self, xp, net, grad, draws):
        norm = xp.sqrt(xp.sum(grad * grad, axis=1, keepdims=True))
        return grad * within(xp, norm, self.bound)


@dataclass(frozen=True)
class MaxNorm(Regularizer):
    """Each unit's incoming weights, scaled down to the norm ``bound`` if they are longer.

    Parameters
    ----------
    bound : float

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    Journal of Machine Learning Research 15, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.network import build
    >>> from skdeep.regularization import MaxNorm
    >>> net, theta = build((2, 1), "squared_error"), np.array([[3.0, 4.0, 9.0]])
    >>> MaxNorm(np.array([[1.0]])).theta(np, net, theta).round(2).tolist()
    [[0.6, 0.8, 9.0]]
    """

    bound: float

    def __post_init__(self):
        require(self, "bound", ABOVE_ZERO, np.inf, "above 0")

    def theta(self, xp, net, theta):
        kept = []
        for W in of_role(xp, net, theta, "weight"):
            bound = xp.reshape(self.bound, (-1, *[1] * (W.ndim - 1)))
            # A unit of the decoder has a row of the encoder's weights where they are tied.
            for axis in (-2, -1) if net.tied else (-2,):
                norm = xp.sqrt(xp.sum(W * W, axis=axis, keepdims=True))
                W = W * within(xp, norm, bound)
            kept.append(xp.reshape(W, (theta.shape[0], -1)))
        return xp.concat([*kept, theta[:, net.n_weights :]], axis=1)


@overridable
def within(xp, norm, bound):
    """What brings norms above the bound down to it, without dividing by a norm of zero."""
    return bound / xp.where(norm > bound, norm, bound)


@dataclass(frozen=True)
class LabelSmoothing(Regularizer):
    """Indicators moved towards even odds.

    Parameters
    ----------
    amount : float
        The share s of even odds in them.
    undone : bool, default=False
        Whether predictions are as of indicators that were not moved. Training on k smoothed classes
        leads to probabilities ``q = (1 - s) p + s / k``; those predicted, and validated, are then
        ``p = max((q - s / k) / (1 - s), s / (10 k))``, made to sum to one.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.regularization import LabelSmoothing
    >>> LabelSmoothing(np.array([[0.2]])).target(np, np.array([[[0.0, 1.0]]])).tolist()
    [[[0.1, 0.9]]]
    """

    amount: float
    undone: bool = False

    def __post_init__(self):
        require(self, "amount", 0.0, BELOW_ONE, "in [0, 1)")

    def target(self, xp, y):
        amount = self.amount[..., None]
        return y * (1.0 - amount) + amount / max(2, y.shape[-1])

    def scores(self, xp, net, raw):
        link = getattr(net.loss, "out_activation", "identity")
        if not self.undone or link not in ("softmax", "logistic"):
            return raw
        amount = self.amount[..., None]
        even, q = amount / max(2, raw.shape[-1]), chosen(xp, net.loss.predict)(xp, raw)

        def log_p(q, even):
            least = xp.maximum(0.1 * even, xp.asarray(xp.finfo(q.dtype).smallest_normal))
            return xp.log(xp.maximum((q - even) / (1.0 - amount), least))

        # The logits of each label by itself, whose opposite has the rest of the amount.
        return log_p(q, even) - (0.0 if link == "softmax" else log_p(1.0 - q, amount - even))


@dataclass(frozen=True)
class MaskingNoise(Regularizer):
    """A share ``level`` of the inputs set to zero, to learn to undo it (Vincent et al., 2010).

    Parameters
    ----------
    level : float
    """

    level: float
    random = True

    def __post_init__(self):
        require(self, "level", 0.0, 1.0, "from 0 to 1")

    def input(self, xp, X, draws):
        return X * draws.kept(self.level, X.shape[1:])


@dataclass(frozen=True)
class GaussianNoise(Regularizer):
    """Noise of the standard deviation ``level`` added to the inputs (Vincent et al., 2010).

    Parameters
    ----------
    level : float
    """

    level: float
    random = True

    def __post_init__(self):
        require(self, "level", 0.0, np.inf, "at least 0")

    def input(self, xp, X, draws):
        return X + self.level[..., None] * draws.normal(X.shape[1:])


def undoes(one: Regularizer) -> bool:
    """Whether a regulariser has a say in predictions."""
    return type(one).scores is not Regularizer.scores


def undone(xp, net: Network, raw, regularizers: Sequence[Regularizer]):
    """Scores without what the regularizers have done to targets."""
    for one in regularizers:
        raw = one.scores(xp, net, raw)
    return raw


def _numbers(entry) -> list[str]:
    """Names of an entry's numbers."""
    values = [(one.name, getattr(entry, one.name)) for one in fields(entry)]
    return [n for n, value in values if isinstance(value, Real) and not isinstance(value, bool)]


def _with(entry, values: dict[str, Any]):
    """The entry with other values, unchecked."""
    other = copy.copy(entry)
    for name, value in values.items():
        object.__setattr__(other, name, value)
    return other


def taken_apart(entries: Sequence[Regularizer]) -> tuple[tuple[Regularizer, ...], dict]:
    """The kinds of regularisers, and their numbers as hyper-parameters of one model.

    Models whose regularisers differ in numbers alone are of one kind, and train as one stack.

    Examples
    --------
    >>> from skdeep.regularization import MaxNorm, taken_apart
    >>> kinds, hyper = taken_apart([MaxNorm(2.0)])
    >>> kinds == taken_apart([MaxNorm(3.0)])[0], hyper
    (True, {'regularizer_0_bound': array([[2.]])})
    """
    kinds, hyper = [], {}
    for i, entry in enumerate(entries):
        names = _numbers(entry)
        kinds.append(_with(entry, dict.fromkeys(names)))
        for name in names:
            hyper[f"regularizer_{i}_{name}"] = np.array([[float(getattr(entry, name))]])
    return tuple(kinds), hyper


def names_of(kinds: Sequence[Regularizer]) -> set[str]:
    """What the numbers of regularisers of these kinds are called."""
    return {f"regularizer_{i}_{one.name}" for i, kind in enumerate(kinds) for one in fields(kind)}


def put_together(kinds: Sequence[Regularizer], hyper: dict[str, Any]) -> list[Regularizer]:
    """Regularisers with the numbers of each model, (M, 1)."""
    return [
        _with(
            kind,
            {
                one.name: hyper[f"regularizer_{i}_{one.name}"]
                for one in fields(kind)
                if f"regularizer_{i}_{one.name}" in hyper
            },
        )
        for i, kind in enumerate(kinds)
    ]
