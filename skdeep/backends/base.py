"""The interface of a backend: a namespace of arrays, a device, and overrides of functions."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..losses import identity
from ..overrides import Namespace
from ..processes import active, summed


class Backend:
    """Where the arrays live and how they are computed with.

    A backend is made for one fit or one prediction. The generic functions of the package take its
    namespace ``xp`` (the Python array API standard), which carries ``overrides``: functions of the
    same signature that are faster here, for any of them from one activation to a training step.

    Parameters
    ----------
    name : str
        As in the ``backend`` parameter of the estimators, without the device.
    device : str
        ``"cpu"``, ``"cuda:0"`` …
    xp : module
        Array-API namespace.
    overrides : dict of callable to callable, optional
        The keys are functions of the tables, as ``ACTIVATIONS["relu"].forward``, or those marked
        by ``skdeep.overrides.overridable``. Whoever calls one reaches the override.

    Attributes
    ----------
    has_double : bool
        Whether there is a float64 to use, beside the type asked for.
    fixed_shapes : bool
        Whether all steps of an epoch are to have the same shapes, short batches being padded and
        models that have ended staying a while: where to launch a step costs more than to compute.
    captures : bool
        Whether steps are launched as a whole; their numbers are arrays then, also of one model.
    processes : Alone
        The processes that fit one model together; see ``skdeep.processes``.

    Examples
    --------
    >>> from skdeep.backends import get_backend
    >>> backend = get_backend("numpy")
    >>> backend.to_numpy(backend.asarray([1, 2], "float32"))
    array([1., 2.], dtype=float32)
    """

    has_double = True
    fixed_shapes = False
    captures = False

    def __init__(
        self,
        name: str,
        device: str,
        xp: Any,
        overrides: dict[Callable, Callable] | None = None,
    ):
        self.name = name
        self.device = device
        # Overridable functions take a namespace or a backend, and ask either by the second name.
        self.overrides = self._overrides = {} if overrides is None else overrides
        self.xp = Namespace(xp, self.overrides)
        self.processes = active()
        if self.processes.size > 1:
            self.overrides[summed] = lambda xp, x: self.sum(x)

    def __str__(self) -> str:
        return self.name if self.name == "numpy" else f"{self.name}:{self.device}"

    def asarray(self, x, dtype: str | None = None) -> Any:
        """An array of this backend from host data; sparse data passes if the backend takes it."""
        return self.xp.asarray(np.asarray(x, dtype=dtype))

    def to_numpy(self, x) -> np.ndarray:
        return np.asarray(x)

    def holds(self, x) -> bool:
        """Whether x is an array of this backend's device, to be worked on where it lies."""
        return False

    def place(self, x, dtype: str | None = None) -> Any:
        """Rows for a whole fit: on the device, if it has memory of its own."""
        return x

    def sum(self, x) -> Any:
        """The sum of an array over the processes that fit together; the array itself if alone."""
        return self.processes.sum(x)

    def sums(self, *arrays) -> tuple:
        """The same of several arrays, in one exchange."""
        if self.processes.size == 1 or not arrays:
            return arrays
        xp, sizes = self.xp, [prod(x.shape) for x in arrays]
        flat = self.sum(xp.concat([xp.reshape(x, (-1,)) for x in arrays]))
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        parts = zip(arrays, sizes, ends, strict=True)
        return tuple(xp.reshape(flat[end - n : end], x.shape) for x, n, end in parts)

    def largest(self, x) -> Any:
        """The elementwise maximum of an array over the processes; the array itself if alone."""
        return self.processes.largest(x)

    def joined(self, x, axis: int = 0) -> Any:
        """The arrays of all processes, one behind the other along an axis."""
        if self.processes.size == 1:
            return x
        return self.asarray(
            self.processes.joined(self.to_numpy(x), axis), str(self.to_numpy(x).dtype)
        )

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
