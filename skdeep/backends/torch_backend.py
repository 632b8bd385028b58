"""PyTorch on a CPU or an accelerator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import scipy.sparse as sp
import torch

from ..losses import Loss, identity
from ..solvers.minibatch.step import captured
from .base import Backend
from .torch_backend_capture import CapturedStep
from .torch_backend_compiled import compiled_optimizers
from .torch_backend_convolution import OVERRIDES as OF_CONVOLUTIONS
from .torch_backend_precision import ROUNDED
from .torch_backend_steps import OVERRIDES as OF_STEPS


class TorchBackend(Backend):
    fixed_shapes = True

    def asarray(self, x, dtype=None):
        if isinstance(x, torch.Tensor):
            wanted = None if dtype is None else getattr(torch, str(dtype))
            return x.to(device=self.device, dtype=wanted)
        if sp.issparse(x):
            x = x.toarray()  # gathered batches of sparse rows are not to be had in torch
        x = np.ascontiguousarray(x, dtype=dtype)
        # On the CPU the tensor shares the memory of x; torch warns if x cannot be written to.
        return torch.from_numpy(x if x.flags.writeable else x.copy()).to(self.device)

    def holds(self, x):
        if not isinstance(x, torch.Tensor):
            return False
        own = torch.device(self.device)
        return (x.device.type, x.device.index or 0) == (own.type, own.index or 0)

    def place(self, x, dtype=None):
        return x if sp.issparse(x) else self.asarray(x, dtype)

    def free_memory(self):
        if self.device.startswith("cuda"):
            return float(torch.cuda.mem_get_info(self.device)[0])
        return None

    def to_numpy(self, x):
        return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)

    def autograd_loss(self, fn, predict=identity, out_activation="identity"):
        return autograd_loss(fn, predict, out_activation)


@dataclass(frozen=True)
class _Differentiated:
    """``value_and_grad`` of a function of scores and targets."""

    fn: Callable[[Any, Any], Any]

    def __call__(self, xp, raw, y, w):
        if not isinstance(raw, torch.Tensor):
            raise TypeError(f"{self.fn!r} is differentiated by torch alone: use backend='torch'.")
        with torch.enable_grad():
            leaf = raw.detach().requires_grad_()
            per_row = self.fn(leaf, y)
            if per_row.shape != raw.shape[:-1]:
                raise ValueError(
                    f"{self.fn!r} must return one loss for each model and row, of shape "
                    f"{tuple(raw.shape[:-1])}; it has returned {tuple(per_row.shape)}."
                )
            value = torch.sum(w * per_row, -1)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), grad


def autograd_loss(fn: Callable, predict: Callable = identity, out_activation="identity") -> Loss:
    """Make a loss of a plain function; autograd supplies the derivative.

    Parameters
    ----------
    fn : callable
        ``fn(raw, y)``: from scores of shape ``(M, n, k)`` and targets that broadcast against them,
        both tensors, to the loss of each row, of shape ``(M, n)``.
    predict : callable, optional
        ``predict(xp, raw)``: probabilities or means; the scores themselves by default.
    out_activation : str, default="identity"
        The name of ``predict``.

    Returns
    -------
    loss : Loss
        Equal to that of the same function, and picklable if the function is.

    Examples
    --------
    >>> import torch
    >>> from skdeep.backends.torch_backend import autograd_loss
    >>> quartic = autograd_loss(lambda raw, y: ((raw - y) ** 4).sum(-1))
    >>> raw, y, w = torch.tensor([[[2.0]]]), torch.tensor([[[1.0]]]), torch.ones(1, 1)
    >>> value, grad = quartic.value_and_grad(torch, raw, y, w)
    >>> value.item(), grad.item()
    (1.0, 4.0)
    """
    return Loss(_Differentiated(fn), predict, out_activation)


def _devices() -> list[str]:
    """What this machine has, best first."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def _current() -> int:
    """The GPU that "cuda" means: where several processes fit together, each has its own."""
    return torch.cuda.current_device() if torch.cuda.is_available() else 0


def has_double(device: str, dtype: str | None) -> bool:
    """Whether float64 is to be used beside the dtype asked for: on the host it always may be."""
    return device == "cpu" or dtype not in ("float32", "bfloat16", "tf32")


def make_backend(device: str | None, dtype: str | None) -> Backend:
    devices = _devices()
    full = {None: "cpu", "cuda": f"cuda:{_current()}", "mps:0": "mps"}.get(device, device)
    if full not in devices:
        raise ValueError(
            f"backend='torch:{device}' has no such device here: there is "
            + ", ".join(f"'torch:{name}'" for name in devices)
            + "."
        )
    if full == "mps" and dtype in (None, "float64"):
        raise ValueError("backend='torch:mps' has no float64: pass dtype='float32'.")
    if dtype == "tf32" and not full.startswith("cuda"):
        raise ValueError(f"dtype='tf32' is of CUDA devices: backend='torch:{full}' has none.")
    backend = TorchBackend("torch", full, xp, {**OF_CONVOLUTIONS, **OF_STEPS})
    backend.has_double = has_double(full, dtype)
    if full.startswith("cuda") and backend.processes.size == 1:
        backend.captures = True
        backend.overrides[captured] = CapturedStep
        backend.overrides.update(compiled_optimizers(OF_STEPS))
    if dtype in ROUNDED:
        ROUNDED[dtype](backend)
    return backend
