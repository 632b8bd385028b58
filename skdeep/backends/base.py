"""The interface of a backend: a namespace of arrays, a device, and faster twins of functions."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..losses import identity


class Backend:
    """Where the arrays live and how they are computed with.

    A backend is made for one fit or one prediction. The generic functions of the package take its
    namespace ``xp`` (the Python array API standard); ``fused`` maps some of them to twins of the
    same signature that are faster here, at any grain from one activation to a training step.

    Parameters
    ----------
    name : str
        As in the ``backend`` parameter of the estimators, without the device.
    device : str
        ``"cpu"``, ``"cuda:0"`` …
    xp : module
        Array-API namespace.
    fused : dict of callable to callable, optional

    Attributes
    ----------
    has_double : bool
        Whether there is a float64.

    Examples
    --------
    >>> from skdeep.backends import get_backend
    >>> backend = get_backend("numpy")
    >>> backend.to_numpy(backend.asarray([1, 2], "float32"))
    array([1., 2.], dtype=float32)
    """

    def __init__(
        self,
        name: str,
        device: str,
        xp: ModuleType,
        fused: dict[Callable, Callable] | None = None,
    ):
        self.name = name
        self.device = device
        self.xp = xp
        self.fused = {} if fused is None else fused
        self.has_double = device != "mps"

    def __str__(self) -> str:
        return self.name if self.name == "numpy" else f"{self.name}:{self.device}"

    def asarray(self, x, dtype: str | None = None) -> Any:
        """An array of this backend from host data; sparse data passes if the backend takes it."""
        return self.xp.asarray(np.asarray(x, dtype=dtype))

    def to_numpy(self, x) -> np.ndarray:
        return np.asarray(x)

    def free_memory(self) -> float | None:
        """Bytes free on a device with memory of its own; None on the host."""
        return None

    def autograd_loss(
        self, fn: Callable, predict: Callable = identity, out_activation: str = "identity"
    ) -> Any:
        """A ``Loss`` from a plain function of scores and targets, where there is autograd."""
        raise ValueError(
            f"loss={fn!r} is a plain function, whose derivative only backend='torch' supplies: use "
            "that, or pass a skdeep.losses.Loss."
        )

    def kernel(self, fn: Callable) -> Callable:
        """The fastest form of a generic function here; the function itself if there is no other."""
        return self.fused.get(fn, fn)
