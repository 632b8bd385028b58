"""Learning rates by layer: what the rate of each parameter is multiplied by.

An entry is any ``(parameter) -> factor``, where ``parameter.role`` (one of
``skdeep.layers.ROLES``), ``parameter.shape`` and ``parameter.layer``, the number of its layer, say
which it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["RATES", "NTK"]


@dataclass(frozen=True)
class NTK:
    """Weights at the rate over the root of ``fan_in``; intercepts and scales at rates of their own.

    With initial weights of variance ``1 / fan_in`` (``weight_init="ntk"``) and an optimizer that
    does not mind the scale of the gradient, as Adam, this is the neural tangent parametrization
    (Jacot, Gabriel and Hongler, 2018), in which wide layers and narrow ones learn alike. The other
    factors are those of Holzmüller, Grinsztajn and Steinwart (2024).

    Parameters
    ----------
    intercept : float, default=0.1
    scale : float, default=6.0

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, "Neural tangent kernel: convergence and generalization in
    neural networks", NeurIPS 2018.

    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> from skdeep.layers import Dense
    >>> from skdeep.rates import NTK
    >>> parameters = Dense(3).parameters((4,))
    >>> {name: NTK()(parameter) for name, parameter in parameters.items()}
    {'weight': 0.5, 'intercept': 0.1}
    """

    intercept: float = 0.1
    scale: float = 6.0

    def __post_init__(self):
        if not (self.intercept >= 0 and self.scale >= 0):
            raise ValueError(f"{self}: intercept and scale must not be negative.")

    def __call__(self, parameter):
        if parameter.role == "weight":
            return float(parameter.shape[-2]) ** -0.5
        return getattr(self, parameter.role, 1.0)


RATES: dict[str, Callable[[Any], float]] = {"ntk": NTK()}
