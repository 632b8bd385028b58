"""What keeps a network from fitting noise, beside weight decay and early stopping.

Functions of a stack: ``theta`` and ``grad`` have shape ``(M, P)``, numbers ``(M, 1)``.
"""

import numpy as np

from .network import Network, layers, n_weights, shapes

# Dropout compares 16 random bits with the rate: finer than anyone tunes it, and cheap to draw.
LEVELS = 2**16


def l1_penalty(xp, net: Network, theta, l1):
    """Penalty ``l1 |W|`` of shape (M,), and its subgradient over the weights (M, n_weights)."""
    weights = theta[:, : n_weights(net)]
    return l1[:, 0] * xp.sum(xp.abs(weights), axis=1), l1 * xp.sign(weights)


def clip_norm(xp, grad, bound):
    """The gradient, scaled down to the norm ``bound`` if it is longer (Pascanu et al., 2013)."""
    norm = xp.sqrt(xp.sum(grad * grad, axis=1, keepdims=True))
    return grad * _shrink(xp, norm, bound)


def max_norm(xp, net: Network, theta, bound):
    """Theta with each unit's incoming weights at most ``bound`` long (Srivastava et al., 2014).

    A unit of the decoder has a row of the encoder's weights where they are tied.
    """
    kept = []
    for W in layers(xp, net, theta)[0][: len(shapes(net)[0])]:
        for axis in (1, 2) if net.tied else (1,):
            norm = xp.sqrt(xp.sum(W * W, axis=axis, keepdims=True))
            W = W * _shrink(xp, norm, bound[..., None])
        kept.append(xp.reshape(W, (theta.shape[0], -1)))
    return xp.concat([*kept, theta[:, n_weights(net) :]], axis=1)


def _shrink(xp, norm, bound):
    """What brings norms above the bound down to it, without dividing by a norm of zero."""
    return bound / xp.where(norm > bound, norm, bound)


def smooth_labels(y, smoothing):
    """Indicators moved towards even odds by ``smoothing`` (Szegedy et al., 2016)."""
    return y * (1.0 - smoothing[..., None]) + smoothing[..., None] / max(2, y.shape[-1])


def dropout_masks(noise: list, rates: np.ndarray, units: tuple, n_rows: int, dtype) -> list:
    """Masks of the input and the hidden layers: 0 with the rate's probability, else 1/(1 - rate).

    Parameters
    ----------
    noise : list of M numpy Generator
        Each model draws its own masks, whatever the stack it is in.
    rates : ndarray of shape (M, n_layers)
    units : tuple of n_layers ints
    n_rows : int
    dtype : str

    Returns
    -------
    masks : list of n_layers ndarrays of shape (M, n_rows, units), or None where no rate is above 0
    """
    masks = []
    for rate, width in zip(rates.T, units, strict=True):
        if not rate.any():
            masks.append(None)
            continue
        # Units before rows in memory, as the activations are.
        mask = np.ones((len(noise), width, n_rows), dtype=dtype)
        for one, generator, r in zip(mask, noise, rate, strict=True):
            if r > 0:
                bits = generator.integers(LEVELS, size=(width, n_rows), dtype=np.uint16)
                np.multiply(bits >= r * LEVELS, 1.0 / (1.0 - r), out=one, casting="same_kind")
        masks.append(mask.mT)
    return masks


def corrupt(noise: list, kind: str, level: np.ndarray, X, dtype):
    """What multiplies the rows X (M, n, p) and what is added to them, to learn to undo it.

    ``kind`` is 'masking', which sets a share ``level`` of the entries to zero, or 'gaussian', which
    adds noise of that standard deviation (Vincent et al., 2010). Each model draws its own.
    """
    factor, offset = np.ones(X.shape, dtype=dtype), np.zeros(X.shape, dtype=dtype)
    for m, (generator, amount) in enumerate(zip(noise, level[:, 0], strict=True)):
        if kind == "masking":
            bits = generator.integers(LEVELS, size=X.shape[1:], dtype=np.uint16)
            factor[m] = bits >= amount * LEVELS
        else:
            offset[m] = amount * generator.standard_normal(X.shape[1:])
    return factor, offset
