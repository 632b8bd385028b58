"""PyTorch on a CPU or an accelerator. The only file that imports torch."""

import array_api_compat.torch as xp
import numpy as np
import scipy.sparse as sp
import torch

from .. import network
from .base import Backend


class TorchBackend(Backend):
    def asarray(self, x, dtype=None):
        if isinstance(x, torch.Tensor):
            wanted = None if dtype is None else getattr(torch, str(dtype))
            return x.to(device=self.device, dtype=wanted)
        if sp.issparse(x):
            x = x.toarray()  # gathered batches of sparse rows are not to be had in torch
        x = np.ascontiguousarray(x, dtype=dtype)
        # On the CPU the tensor shares the memory of x; torch warns if x cannot be written to.
        return torch.from_numpy(x if x.flags.writeable else x.copy()).to(self.device)

    def to_numpy(self, x):
        return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def _devices() -> list[str]:
    """What this machine has, best first."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def _mixed_precision(fn, device: str):
    """Twin of ``network.backpropagate`` with products in bfloat16 and the rest in float32."""

    def mixed(xp, net, theta, *args):
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            results = fn(xp, net, theta, *args)
        return tuple(None if result is None else result.to(theta.dtype) for result in results)

    return mixed


def make_backend(device: str | None, dtype: str | None) -> Backend:
    devices = _devices()
    full = {None: "cpu", "cuda": "cuda:0"}.get(device, device)
    if full not in devices:
        raise ValueError(
            f"backend='torch:{device}' has no such device here: there is "
            + ", ".join(f"'torch:{name}'" for name in devices)
            + "."
        )
    if full == "mps" and dtype in (None, "float64"):
        raise ValueError("backend='torch:mps' has no float64: pass dtype='float32'.")
    backend = TorchBackend("torch", full, xp)
    if dtype == "bfloat16":
        for fn in (network.value_and_grad, network.backpropagate):
            backend.fused[fn] = _mixed_precision(fn, full)
    return backend
