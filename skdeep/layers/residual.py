"""Layers around which the input is carried past."""

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Layer, expanded, shapes_along


@dataclass(frozen=True)
class Residual(Layer):
    """The input plus what the layers make of it (He et al., 2016).

    Parameters
    ----------
    layers : sequence of Layer
        What comes out has the shape of what goes in.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> from skdeep.layers import Dense, Residual
    >>> Residual([Dense(8), Dense(4, activation=None)]).out_shape((4,))
    (4,)
    """

    layers: Sequence[Layer]

    def expand(self):
        return (Residual(expanded(self.layers)),)

    def _each(self, shape):
        """The layers, each with the shape of its rows."""
        return zip(self.layers, shapes_along(self.layers, shape), strict=False)

    def out_shape(self, shape):
        out = shapes_along(self.layers, shape)[-1]
        if out != shape:
            raise ValueError(
                f"Residual adds what its layers give to its input: rows of shape {shape} come out "
                f"as {out}. Let the last layer restore the shape."
            )
        return shape

    def parameters(self, shape):
        return {
            f"{i}_{name}": parameter
            for i, (layer, of) in enumerate(self._each(shape))
            for name, parameter in layer.parameters(of).items()
        }

    def initial(self, shape, draw):
        return {
            f"{i}_{name}": value
            for i, (layer, of) in enumerate(self._each(shape))
            for name, value in layer.initial(of, draw).items()
        }

    def bare(self):
        return Residual(tuple(layer.bare() for layer in self.layers))

    @property
    def rates(self):
        return [rate for layer in self.layers for rate in layer.rates]

    def masked(self, shape):
        return [one for layer, of in self._each(shape) for one in layer.masked(of)]

    def forward(self, xp, p, x, training=None):
        h, saved = x, []
        for i, layer in enumerate(self.layers):
            own = _own(p, i)
            h, s = layer.forward(xp, own, h, training)
            saved.append((own, s))
        return x + h, saved

    def backward(self, xp, p, saved, dy):
        dh, grads = dy, {}
        for i, layer in reversed(list(enumerate(self.layers))):
            own, s = saved[i]
            found, to_input = layer.backward(xp, own, s, dh)
            grads |= {f"{i}_{name}": grad for name, grad in found.items()}
            dh = to_input()
        return grads, lambda: dy + dh


def _own(p: dict, i: int) -> dict:
    """The parameters of layer i."""
    start = f"{i}_"
    return {name[len(start) :]: view for name, view in p.items() if name.startswith(start)}
