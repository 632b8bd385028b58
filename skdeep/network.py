"""Networks as sequences of layers over the model axis; a linear model is a single dense layer.

M networks of one shape are one matrix ``theta`` of shape ``(M, P)``: the weights of all layers
first, so that weight decay touches one slice, then all intercepts and scales, and last the running
means and variances of normalised units, which no gradient moves. Layers have reshaped views of it.

Units lie before rows in memory: an array of shape ``(M, n, k)`` is a transposed view of
``(M, k, n)``. Products do not mind, and sums and maxima over a few units run along long rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log, prod
from typing import Any, NamedTuple

from numpy import finfo

from .activations import Activation as Entry
from .layers import Activation, BatchNorm, Dense, Dropout, Layer, Parameter, Scale
from .layers.base import ROLES, RUNNING, Training, expanded, shapes_along
from .layers.normalisation import EPSILON
from .losses import LOSSES, Loss, exponential
from .overrides import chosen, overridable

__all__ = [
    "Network",
    "backpropagate",
    "build",
    "forward",
    "hidden_layers",
    "loss_and_slope",
    "predict",
    "value_and_grad",
]


class Place(NamedTuple):
    """Where theta holds a parameter: ``theta[:, start:stop]`` is that of a layer, flattened."""

    layer: int
    name: str
    shape: tuple[int, ...]
    role: str
    start: int
    stop: int


@dataclass(frozen=True)
class Network:
    """The shape of a network: everything about it that is not a number to learn.

    Parameters
    ----------
    layers : tuple of Layer
        The last one gives the scores. What stands for several, as a dense layer with an activation,
        is taken apart.
    loss : Loss
        What is minimised; its ``predict`` is the output's activation.
    input_shape : tuple of int
        The shape of a row.
    tied : bool
        Whether the second half of the dense layers has the weights of the first, transposed and in
        reverse, as in an autoencoder with tied weights. Theta holds them once.

    Raises
    ------
    ValueError
        If a layer cannot take what the one before gives.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Dense
    >>> from skdeep.losses import LOSSES
    >>> from skdeep.network import Network, forward
    >>> net = Network((Dense(1, activation=None),), LOSSES["binary_log_loss"], (2,))
    >>> net.n_parameters
    3
    >>> forward(np, net, np.array([[1.0, -1.0, 0.5]]), np.array([[2.0, 1.0]])).tolist()
    [[[1.5]]]
    """

    layers: tuple[Layer, ...]
    loss: Loss
    input_shape: tuple[int, ...]
    tied: bool = False

    def __post_init__(self):
        # Networks that differ in rates of dropout alone are of one shape.
        object.__setattr__(self, "layers", tuple(one.bare() for one in expanded(self.layers)))
        object.__setattr__(self, "_hash", hash((self.layers, self.input_shape, self.tied)))
        # Shapes of a row: the input's, and behind each layer.
        object.__setattr__(self, "shapes", shapes_along(self.layers, tuple(self.input_shape)))

    def __hash__(self):
        return self._hash

    @cached_property
    def places(self) -> list[Place]:
        """Every parameter that theta holds, in its order."""
        found = [
            (i, name, *parameter)
            for i, (layer, shape) in enumerate(zip(self.layers, self.shapes, strict=False))
            for name, parameter in self._own(i, layer.parameters(shape)).items()
        ]
        for i, name, _, role in found:
            if role not in ROLES:
                raise ValueError(
                    f"{self.layers[i]!r} has a parameter {name!r} of the role {role!r}: roles are "
                    f"{', '.join(map(repr, ROLES))}."
                )
        found.sort(key=lambda of: ROLES.index(of[-1]))
        places, start = [], 0
        for i, name, shape, role in found:
            stop = start + prod(shape)
            places.append(Place(i, name, shape, role, start, stop))
            start = stop
        return places

    @cached_property
    def mirrored(self) -> dict[int, int]:
        """Of layers whose weights are those of another layer, which layer's."""
        dense = [i for i, layer in enumerate(self.layers) if isinstance(layer, Dense)]
        half = len(dense) // 2
        return dict(zip(dense[half:], reversed(dense[:half]), strict=True)) if self.tied else {}

    def _own(self, i: int, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        if i not in self.mirrored:
            return parameters
        return {name: one for name, one in parameters.items() if one.role != "weight"}

    def _count(self, *roles: str) -> int:
        return sum(place.stop - place.start for place in self.places if place.role in roles)

    @cached_property
    def n_weights(self) -> int:
        """How many of the parameters are weights, the first ones of theta."""
        return self._count("weight")

    @cached_property
    def n_running(self) -> int:
        """How many running means and variances there are, the last of theta."""
        return self._count(*RUNNING)

    @cached_property
    def n_parameters(self) -> int:
        """Length of theta."""
        return self._count(*ROLES)

    @cached_property
    def intercept(self) -> bool:
        return any(place.role == "intercept" for place in self.places)

    @cached_property
    def batch_norm(self) -> bool:
        """Whether rows are not taken each by itself."""
        return self.n_running > 0

    @cached_property
    def units(self) -> tuple[int, ...]:
        """Numbers in a row: of the input, behind each activation, and of the output."""
        hidden = [i for i, layer in enumerate(self.layers) if isinstance(layer, Activation)]
        ends = [0, *(i + 1 for i in hidden), len(self.layers)]
        return tuple(prod(self.shapes[i]) for i in ends)

    @cached_property
    def activations(self) -> tuple[Entry, ...]:
        """Those of the hidden layers."""
        return tuple(layer.entry for layer in self.layers if isinstance(layer, Activation))

    @cached_property
    def linear(self) -> bool:
        """Whether the output layer is all that there is."""
        return self.plain and not self.activations

    @cached_property
    def plain(self) -> bool:
        """Whether this is a sequence of dense layers, each but the last with its activation.

        One dropout may stand before each. Faster forms are written for such networks.
        """
        letters = {Dense: "d", Activation: "a", Dropout: "o"}
        kinds = "".join(letters.get(type(layer), "?") for layer in self.layers)
        plain = re.fullmatch("(o?da)*o?d", kinds) is not None
        return plain and not self.tied and len(self.input_shape) == 1

    @cached_property
    def unscaled(self) -> "Network | None":
        """The plain network behind a scale of each input; None where this is no such network."""
        kinds = [type(layer) for layer in self.layers]
        if Scale not in kinds[:2] or self.tied:
            return None
        at = kinds.index(Scale)
        rest = Network(self.layers[:at] + self.layers[at + 1 :], self.loss, self.input_shape)
        return rest if rest.plain else None

    @cached_property
    def takes_matrices(self) -> bool:
        """Whether rows may be a matrix that all models share, even a sparse one."""
        kinds = [type(layer) for layer in self.layers if type(layer) is not Dropout]
        return kinds[0] is Dense and len(self.input_shape) == 1

    @cached_property
    def dropped(self) -> list[int | None]:
        """Of each dense layer of a plain network, the number of the mask of its input, if any."""
        found, seen = [], 0
        for before, layer in zip((None, *self.layers), self.layers, strict=False):
            if type(layer) is Dropout:
                seen += 1
            elif type(layer) is Dense:
                found.append(seen - 1 if type(before) is Dropout else None)
        return found

    @cached_property
    def masked(self) -> list[tuple[int, ...]]:
        """Shapes of a row of what masks multiply, one after the other."""
        layers = zip(self.layers, self.shapes, strict=False)
        return [one for layer, shape in layers for one in layer.masked(shape)]

    @cached_property
    def weights(self) -> list[tuple[int, str]]:
        """Layers and names of the weights, from the input on, those that are tied too."""
        own = [(place.layer, place.name) for place in self.places if place.role == "weight"]
        return sorted(own + [(layer, "weight") for layer in self.mirrored])

    @cached_property
    def first(self) -> int:
        """The first layer with parameters: what is before it needs no gradient."""
        return min((place.layer for place in self.places), default=0)


def build(
    units,
    loss: str | Loss,
    activation: str | Entry | Sequence = "identity",
    intercept: bool = True,
    batch_norm: bool = False,
    dropout: bool = False,
) -> Network:
    """Build a multi-layer perceptron from names in the tables or from entries of the user's own.

    ``activation`` is one for all hidden layers, or a list with one for each; with ``dropout`` there
    are masks for the input of every dense layer.

    Examples
    --------
    >>> from skdeep.network import build
    >>> [type(layer).__name__ for layer in build((4, 8, 3), "log_loss", "relu").layers]
    ['Dense', 'Activation', 'Dense']
    """
    p, *hidden, k = units
    each = activation if isinstance(activation, list) else [activation] * len(hidden)
    layers = dense(hidden, each, intercept) + [Dense(k, None, intercept)]
    rates = [None] * (len(hidden) + 1) if dropout else None
    loss = LOSSES[loss] if isinstance(loss, str) else loss
    return Network(tuple(arranged(layers, batch_norm, rates)), loss, (p,))


def dense(sizes: Sequence[int], activations: Sequence, intercept: bool = True) -> list[Layer]:
    """The hidden layers of a multi-layer perceptron; ValueError if the lengths differ."""
    if len(activations) != len(sizes):
        raise ValueError(
            f"activation lists {len(activations)} functions for {len(sizes)} hidden layers."
        )
    return [Dense(*one, intercept) for one in zip(sizes, activations, strict=True)]


def arranged(layers: Sequence[Layer], batch_norm: bool, rates: Sequence | None) -> list[Layer]:
    """Layers with batch normalisation before each activation, and dropout behind it, if wanted.

    ``rates`` are those of dropout on the input and behind each activation. What is normalised needs
    no intercept: it is given another.
    """
    parts: list[Layer] = [] if rates is None else [Dropout(rates[0])]
    seen = 0
    for layer in expanded(layers):
        if isinstance(layer, Activation):
            if batch_norm:
                if parts and getattr(parts[-1], "intercept", False):
                    parts[-1] = replace(parts[-1], intercept=False)
                parts.append(BatchNorm())
            seen += 1
        parts.append(layer)
        if isinstance(layer, Activation) and rates is not None:
            parts.append(Dropout(rates[seen]))
    return parts


def split(xp, net: Network, theta) -> list[dict[str, Any]]:
    """Views of theta: the parameters of each layer by name, of shapes ``(M, *shape)``."""
    views: list[dict[str, Any]] = [{} for _ in net.layers]
    for layer, name, shape, _, start, stop in net.places:
        views[layer][name] = xp.reshape(theta[:, start:stop], (theta.shape[0], *shape))
    for layer, of in net.mirrored.items():
        views[layer]["weight"] = xp.matrix_transpose(views[of]["weight"])
    return views


def join(xp, net: Network, views: Sequence[dict[str, Any]]):
    """Theta, or a gradient, of such views: the opposite of :func:`split`."""
    return xp.concat([part for _, part in _parts(xp, net, views)], axis=1)


def of_role(xp, net: Network, theta, role: str) -> list:
    """Views of theta: the parameters of a role, layer by layer, each of shape ``(M, *shape)``."""
    return [
        xp.reshape(theta[:, place.start : place.stop], (theta.shape[0], *place.shape))
        for place in net.places
        if place.role == role
    ]


def matrices(xp, net: Network, theta) -> list:
    """The weights of all layers, from the input on, those that are tied too."""
    views = split(xp, net, theta)
    return [views[layer][name] for layer, name in net.weights]


def tail(xp, net: Network, theta, n_hidden: int) -> tuple[Network, Any]:
    """The network behind so many activations, with its parameters: an encoder's decoder."""
    ends = [i for i, layer in enumerate(net.layers) if isinstance(layer, Activation)]
    begin = ends[n_hidden - 1] + 1
    rest = Network(net.layers[begin:], net.loss, net.shapes[begin])
    return rest, join(xp, rest, split(xp, net, theta)[begin:])


def shaped(xp, net: Network, X, n_models: int):
    """Rows (n, p) or (M, n, p) as the first layer takes them."""
    if net.takes_matrices:
        return X
    if X.ndim == 2:
        X = xp.broadcast_to(X[None, ...], (n_models, *X.shape))
    return xp.reshape(X, (*X.shape[:2], *net.input_shape))


@overridable
def hidden_layers(xp, net: Network, theta, X):
    """Activations of the hidden layers as predictions have them, each ``(M, n, *shape)``."""
    return _outputs(xp, net, theta, X)[1]


@overridable
def forward(xp, net: Network, theta, X):
    """Raw scores of shape ``(M, n, k)``."""
    return _outputs(xp, net, theta, X)[0]


def _outputs(xp, net: Network, theta, X):
    h, activations = shaped(xp, net, X, theta.shape[0]), []
    for layer, p in zip(net.layers, split(xp, net, theta), strict=True):
        h, _ = layer.forward(xp, p, h)
        if isinstance(layer, Activation):
            activations.append(h)
    return h, activations


def predict(xp, net: Network, theta, X):
    """Probabilities or means of shape ``(M, n, k)``."""
    return chosen(xp, net.loss.predict)(xp, forward(xp, net, theta, X))


def may_overflow(net: Network, theta, entry: float) -> bool:
    """Whether predictions come anywhere near the largest number of theta's type.

    The entries of rows are no larger than ``entry``.

    Activations are taken to grow no faster than their inputs, and a normalised unit to divide by
    the least deviation there is. An exponential link may always overflow.
    """
    weight = float(abs(theta).max())
    largest = max(map(prod, net.shapes))
    per_layer = 1.0 + largest * weight * (weight / EPSILON**0.5 if net.batch_norm else 1.0)
    magnitude = log(1.0 + entry) + len(net.activations) * log(per_layer) + log(per_layer)
    return net.loss.predict is exponential or magnitude > 0.5 * log(finfo(theta.dtype).max)


@overridable
def value_and_grad(xp, net: Network, theta, X, y, w, l2):
    """Objective and gradient by backpropagation, without dropout; see :func:`backpropagate`."""
    return backpropagate(xp, net, theta, X, y, w, l2)[:3]


@overridable
def backpropagate(xp, net: Network, theta, X, y, w, l2, masks=None):
    """Objective and gradient by backpropagation (Rumelhart, Hinton and Williams, 1986).

    Parameters
    ----------
    theta : array of shape (M, P)
    X : array of shape (M, n, p) or, shared by all models, (n, p)
    y : array that broadcasts to (M, n, k)
    w : array of shape (M, n) or (M, 1)
        Row weights; with ``1 / n`` the loss is a mean.
    l2 : array of shape (M, 1)
        Weight decay.
    masks : list of arrays of shape (M, n, *shape) or None, optional
        What multiplies the inputs of the dropout layers, one after the other.

    Returns
    -------
    value : array of shape (M,)
        Sum of ``w`` times the loss, the penalty left out: callers report the two apart.
    penalty : array of shape (M,)
        ``l2 / 2`` times the squared norm of the weights.
    grad : array of shape (M, P)
        Gradient of their sum; zero for the running means and variances.
    moments : array of shape (M, net.n_running) or None
        Means and variances of the normalised units over these rows.
    """
    views, training = split(xp, net, theta), Training(w, iter(masks or _no_masks()))
    h, saved = shaped(xp, net, X, theta.shape[0]), []
    for layer, p in zip(net.layers, views, strict=True):
        h, s = layer.forward(xp, p, h, training)
        saved.append(s)

    value, dh = loss_and_slope(xp, net, h, y, w)
    grads: list[dict] = [{} for _ in net.layers]
    for i in reversed(range(net.first, len(net.layers))):
        grads[i], to_input = net.layers[i].backward(xp, views[i], saved[i], dh)
        if i > net.first:
            dh = to_input()

    for layer, of in net.mirrored.items():
        again = xp.matrix_transpose(grads[layer]["weight"])
        grads[of]["weight"] = grads[of]["weight"] + again
    parts, moments = _parts(xp, net, grads), None
    if net.n_running:
        moments = xp.concat([part for role, part in parts if role in RUNNING], axis=1)
        parts = [part for part in parts if part[0] not in RUNNING]
        parts.append(("running", xp.zeros_like(moments)))
    grad = xp.concat([part for _, part in parts], axis=1)
    return value, *decayed(xp, net, theta, grad, l2), moments


@overridable
def loss_and_slope(xp, net: Network, raw, y, w):
    """The loss (M,) of scores (M, n, k) under row weights, and its gradient of their shape."""
    return chosen(xp, net.loss.value_and_grad)(xp, raw, y, w)


@overridable
def decayed(xp, net: Network, theta, grad, l2):
    """The penalty (M,) of weight decay, and the gradient (M, P) with its own.

    The gradient may be overwritten.
    """
    weights = theta[:, : net.n_weights]
    grad = xp.concat([grad[:, : net.n_weights] + l2 * weights, grad[:, net.n_weights :]], axis=1)
    return 0.5 * l2[:, 0] * xp.sum(weights * weights, axis=1), grad


def _parts(xp, net: Network, views: Sequence[dict]) -> list[tuple[str, Any]]:
    """Roles, and such views in the order of theta, each of shape (M, size)."""
    places = [(place.role, views[place.layer][place.name]) for place in net.places]
    return [(role, xp.reshape(part, (part.shape[0], -1))) for role, part in places]


def _no_masks():
    while True:
        yield None
