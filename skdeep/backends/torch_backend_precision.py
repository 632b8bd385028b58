"""Training in less than float32: products of bfloat16, and of tf32."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock

import torch

from .. import network
from ..layers import convolution, dense, normalisation
from ..overrides import OVERRIDABLE, Namespace
from .base import Backend

OF_TRAINING = (network.value_and_grad, network.backpropagate)

# What is no product, or whose sums are those of many rows.
IN_SINGLE = (
    convolution.convolve_backward,
    normalisation.normalise,
    normalisation.normalise_backward,
    network.loss_and_slope,
    network.decayed,
)


def single(x):
    """Tensors of bfloat16, of a tuple too, in float32; anything else as it is."""
    if isinstance(x, tuple):
        return tuple(map(single, x))
    return x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16 else x


def affine_backward(xp, X, dz):
    """Override of ``dense.affine_backward``: rows in bfloat16, their sum in float32."""
    A, B = X.expand(dz.shape[0], *X.shape[-2:]).mT.bfloat16(), dz.bfloat16()
    if A.is_cuda:
        return torch.bmm(A, B, out_dtype=torch.float32)
    return torch.bmm(A.float(), B.float())  # on a CPU the sum would be rounded, too


def _summed(fn: Callable):
    """A sum or mean that is taken, and given, in float32."""
    return lambda x, **kwargs: fn(single(x), **kwargs)


def _in_single(fn: Callable):
    return lambda xp, *args: fn(xp, *map(single, args))


def _within(context: Callable):
    """From a function to the same within a context, which is made for each call."""

    def wrapper(fn: Callable) -> Callable:
        def call(xp, *args):
            with context():
                return fn(xp, *args)

        return call

    return wrapper


def _wrap(backend: Backend, wrapper: Callable, *functions: Callable) -> None:
    """Have wrapped functions, or wrapped overrides of theirs, called in place of functions."""
    for fn in functions:
        generic = fn.__wrapped__ if fn in OVERRIDABLE else fn
        backend.overrides[fn] = wrapper(backend.overrides.get(fn, generic))


def to_bfloat16(backend: Backend) -> None:
    """Let networks train with products in bfloat16.

    Outputs of layers and gradients of their inputs are of bfloat16, as under torch's autocast.
    Weights, their gradients, loss, penalties and moments are float32.
    """
    device = torch.device(backend.device).type
    rounded = partial(torch.autocast, device, dtype=torch.bfloat16)
    exact = partial(torch.autocast, device, enabled=False)
    backend.overrides[dense.affine_backward] = affine_backward
    _wrap(backend, _in_single, *IN_SINGLE)
    _wrap(backend, _within(exact), dense.affine_backward, *IN_SINGLE)
    _wrap(backend, _within(rounded), *OF_TRAINING)
    xp = Namespace(backend.xp.wrapped, backend.overrides)
    xp.sum, xp.mean = _summed(xp.sum), _summed(xp.mean)
    backend.xp = xp


class _Switch:
    """Torch's switch for tf32, which all threads share: on while anybody is inside."""

    def __init__(self):
        self.lock, self.inside, self.before = Lock(), 0, None
        matmul = torch.backends.cuda.matmul
        new = hasattr(matmul, "fp32_precision")
        self.name, self.on = ("fp32_precision", "tf32") if new else ("allow_tf32", True)

    def turn(self, by: int) -> None:
        matmul = torch.backends.cuda.matmul
        with self.lock:
            if self.inside == 0:
                self.before = getattr(matmul, self.name)
            self.inside += by
            setattr(matmul, self.name, self.on if self.inside else self.before)


_SWITCH = _Switch()


@contextmanager
def tf32() -> Iterator[None]:
    """Products of float32 by tf32 while they are launched; then as they were."""
    _SWITCH.turn(1)
    try:
        yield
    finally:
        _SWITCH.turn(-1)


def to_tf32(backend: Backend) -> None:
    """Let networks train with factors of products rounded to the ten bits of tf32."""
    _wrap(backend, _within(tf32), *OF_TRAINING)


# By the dtype that asks for it.
ROUNDED = {"bfloat16": to_bfloat16, "tf32": to_tf32}
