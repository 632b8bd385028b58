"""Second derivatives of a linear model's objective: whole, as products, and in blocks."""

from typing import Any, NamedTuple

from ..network import affine_backward, forward, n_weights
from .objective import LinearObjective, Point, shift_invariant
from .whitening import BLOCK, MAX_FEATURES, inverse_root


def gram(xp, X, h):
    """``Xᵀ diag(h_m) X`` for row weights h of shape (M, n): an array of shape (M, p, p)."""
    (M, n), p = h.shape, X.shape[1]
    if hasattr(X, "toarray"):
        return xp.stack([xp.asarray((X.T @ X.multiply(w[:, None]).tocsr()).toarray()) for w in h])
    out = xp.zeros((M * p, p), dtype=h.dtype, device=h.device)
    # Blocks of rows that stay in the cache; all models in one product.
    step = max(64, BLOCK * 16 // (M * p))
    for start in range(0, n, step):
        stop = min(start + step, n)
        rows = X[start:stop, :]
        weighted = h[:, None, start:stop] * xp.matrix_transpose(rows)[None, :, :]
        out = out + xp.reshape(weighted, (M * p, rows.shape[0])) @ rows
    return xp.reshape(out, (M, p, p))


def hessian(objective: LinearObjective, point: Point):
    """The Hessian, of shape (M, P, P), in theta's order: features before outputs."""
    xp, net, (X, _, w, decay) = objective.xp, objective.net, objective.data
    k, M = net.units[1], point.theta.shape[0]
    predicted = net.loss.predict(xp, point.raw)
    pairs = [(i, j) for i in range(k) for j in range(i + 1)]
    h = xp.stack([net.loss.hessian(xp, predicted, w, i, j) for i, j in pairs], axis=1)
    h = xp.reshape(h, (M * len(pairs), X.shape[0]))
    H = gram(xp, X, h)
    if net.intercept:
        side = h @ X
        H = xp.concat([H, side[:, None, :]], axis=1)
        corner = xp.concat([side, xp.sum(h, axis=1, keepdims=True)], axis=1)
        H = xp.concat([H, corner[:, :, None]], axis=2)
    q = H.shape[-1]
    H = xp.reshape(H, (M, len(pairs), q, q))
    place = {pair: at for at, pair in enumerate(pairs)}
    at = [place[max(i, j), min(i, j)] for i in range(k) for j in range(k)]
    H = xp.stack([H[:, a, :, :] for a in at], axis=1)
    H = xp.permute_dims(xp.reshape(H, (M, k, k, q, q)), (0, 3, 1, 4, 2))
    return xp.reshape(H, (M, q * k, q * k)) + decay[:, :, None] * xp.eye(
        q * k, dtype=decay.dtype, device=decay.device
    )


def carriers(xp, h, share):
    """Rows whose curvature (n,) is above a share of the mean: what the others have is less."""
    return xp.nonzero(h >= share * xp.mean(h))[0]


class Products(NamedTuple):
    """The Hessian as an operator, over the rows that carry all but a hundredth of it.

    Directions need no more than that, nor more than float32, which halves the time. Its range is
    short: X, w and the vectors are taken relative to their largest entries.

    Parameters
    ----------
    objective : LinearObjective
    X, predicted, w : arrays
        Of those rows.
    sizes : pair of arrays of shape ()
        Largest entries of X and w.
    """

    objective: LinearObjective
    X: Any
    predicted: Any
    w: Any
    sizes: tuple[Any, Any]

    @classmethod
    def at(cls, objective: LinearObjective, point: Point) -> "Products":
        xp, net, data = objective.xp, objective.net, objective.data
        predicted = net.loss.predict(xp, point.raw)
        h = diagonal(xp, net.loss, predicted, xp.abs(data.w))
        rows = carriers(xp, xp.max(h, axis=(0, 1)), 0.01)
        # Gathering rows costs about as much as a product with them.
        X, w, predicted = data.X, data.w, xp.matrix_transpose(predicted)
        if rows.shape[0] < 0.7 * X.shape[0]:
            X = X[rows] if hasattr(X, "toarray") else xp.take(X, rows, axis=0)
            predicted = xp.take(predicted, rows, axis=2)
            w = w if w.shape[1] == 1 else xp.take(w, rows, axis=1)
        size_X, size_w = abs(X).max() if hasattr(X, "toarray") else _size(xp, X), _size(xp, w)
        X = X / size_X
        X = X.astype("float32") if hasattr(X, "toarray") else xp.astype(X, xp.float32)
        predicted = xp.matrix_transpose(xp.astype(predicted, xp.float32))
        w = xp.astype(w / size_w, xp.float32)
        return cls(objective, X, predicted, w, (size_X, size_w))

    def __call__(self, v):
        """Hessian times v, both of shape (M, P)."""
        xp, net, decay = self.objective.xp, self.objective.net, self.objective.data.decay
        size_X, size_w = self.sizes
        is_weight = xp.arange(v.shape[1], device=v.device) < n_weights(net)
        unit = xp.where(is_weight, size_X * xp.ones_like(v[:1, :]), 1.0)
        scaled = unit * v
        size = xp.max(xp.abs(scaled), axis=1, keepdims=True)
        size = xp.where(size > 0, size, 1.0)
        dz = forward(xp, net, xp.astype(scaled / size, xp.float32), self.X)
        dz = net.loss.hessian_product(xp, self.predicted, self.w, dz)
        parts = [xp.reshape(affine_backward(xp, self.X, dz), (v.shape[0], -1))]
        if net.intercept:
            parts.append(xp.sum(dz, axis=-2))
        return xp.astype(xp.concat(parts, axis=1), v.dtype) * unit * size * size_w + decay * v


def _size(xp, x):
    """The largest entry, or one."""
    size = xp.max(xp.abs(x))
    return xp.where(size > 0, size, 1.0)


def diagonal(xp, loss, predicted, w):
    """Row weights times second derivatives with respect to each output's own score, (M, k, n)."""
    outputs = range(predicted.shape[-1])
    return xp.stack([loss.hessian(xp, predicted, w, i, i) for i in outputs], axis=1)


class Blocks(NamedTuple):
    """An approximate inverse of the Hessian: one block for each output.

    Adding the same vector to the weights of all outputs of a softmax changes nothing: both ends
    are projected on the sum zero, without which the blocks would be no approximation.

    Parameters
    ----------
    basis : array of shape (M, k, p, p) or None
        Inverse roots of the blocks of unit diagonal, in float32, which halves the time and is
        enough for a preconditioner; None where p is large.
    scale : array of shape (M, k, p)
        Inverse roots of the blocks' diagonals.
    mean : array of shape (M, k, p)
        Means of X under each block's curvature.
    total : array of shape (M, k, 1) or None
        Curvatures of the intercepts, if there are any.
    invariant : bool
        Whether only differences between outputs count.
    """

    basis: Any
    scale: Any
    mean: Any
    total: Any
    invariant: bool

    @classmethod
    def at(cls, objective: LinearObjective, point: Point) -> "Blocks":
        xp, net, (X, _, w, decay) = objective.xp, objective.net, objective.data
        (p, k), M = net.units, point.theta.shape[0]
        h = diagonal(xp, net.loss, net.loss.predict(xp, point.raw), xp.abs(w))
        total = xp.sum(h, axis=2, keepdims=True)
        tiny = float(xp.finfo(total.dtype).smallest_normal)
        flat = xp.reshape(h, (M * k, -1))
        mean = xp.reshape(flat @ X, (M, k, p)) / xp.clip(total, min=tiny)
        if not net.intercept:
            mean = xp.zeros_like(mean)
        l2 = decay[:, :1]
        if p <= MAX_FEATURES:
            parts = [_block(xp, X, flat[i, :], mean[i // k, i % k, :]) for i in range(M * k)]
            diagonals, blocks = (xp.stack(part) for part in zip(*parts, strict=True))
            H = xp.reshape(diagonals, (M, k, p)) + l2[..., None]
            scale = 1.0 / xp.sqrt(xp.where(H > 0, H, 1.0))
            share = xp.astype(l2[..., None] * scale * scale, blocks.dtype)
            eye = xp.eye(p, dtype=blocks.dtype, device=blocks.device)
            blocks = xp.reshape(blocks, (M, k, p, p)) + share[..., None] * eye
            basis, _ = inverse_root(xp, blocks, float(xp.finfo(blocks.dtype).eps) ** 0.5)
        else:
            squares = X.multiply(X).tocsr() if hasattr(X, "toarray") else X * X
            H = xp.reshape(flat @ squares, (M, k, p)) - total * mean * mean + l2[..., None]
            scale, basis = 1.0 / xp.sqrt(xp.where(H > 0, H, 1.0)), None
        if not net.intercept:
            return cls(basis, scale, mean, None, shift_invariant(net))
        total = xp.clip(total + decay[:, -1][:, None, None], min=tiny)
        return cls(basis, scale, mean, total, shift_invariant(net))

    def take(self, xp, models) -> "Blocks":
        cut = [None if x is None else xp.take(x, models, axis=0) for x in self[:4]]
        return Blocks(*cut, self.invariant)

    def __call__(self, xp, r):
        """Approximate inverse of the Hessian times r, both of shape (M, P)."""
        M, k, p = self.scale.shape
        R = xp.matrix_transpose(xp.reshape(r, (M, -1, k)))
        if self.invariant:
            R = R - xp.mean(R, axis=1, keepdims=True)
        W, b = R[..., :p], R[..., p:]
        if self.total is not None:
            W = W - self.mean * b
        W = self.scale * W
        if self.basis is not None:
            B, size = self.basis, xp.max(xp.abs(W), axis=(1, 2), keepdims=True)
            size = xp.where(size > 0, size, 1.0)  # float32 has a short range
            small = xp.astype(W / size, B.dtype)[..., None]
            W = size * xp.astype((B @ (xp.matrix_transpose(B) @ small))[..., 0], W.dtype)
        W = self.scale * W
        if self.total is not None:
            b = b / self.total - xp.sum(self.mean * W, axis=-1, keepdims=True)
        R = xp.concat([W, b], axis=-1)
        if self.invariant:
            R = R - xp.mean(R, axis=1, keepdims=True)
        return xp.reshape(xp.matrix_transpose(R), r.shape)


def _block(xp, X, h, mean):
    """Diagonal (p,) and, in float32, unit-diagonal form (p, p) of the Gram matrix under weights h.

    It goes by the rows that carry nine tenths of the curvature, or every so many of them: for a
    preconditioner twice as many rows as features will do.
    """
    n, p = X.shape
    rows = carriers(xp, h, 0.1)
    half = xp.float32
    if rows.shape[0] == 0:
        zeros = xp.zeros((p, p), dtype=half, device=h.device)
        return xp.zeros((p,), dtype=h.dtype, device=h.device), zeros
    h = xp.take(h, rows)[:, None]
    if hasattr(X, "toarray"):
        X = X[rows]
        H = xp.asarray((X.T @ X.multiply(h).tocsr()).toarray())
        # Of these rows less the mean, which is that of all rows.
        cross = (X.T @ h) * mean
        H = H - cross - cross.T + xp.sum(h) * mean[:, None] * mean
        diagonal = xp.clip(xp.linalg.diagonal(H), min=0.0)
        d = 1.0 / xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
        return diagonal, xp.astype(d[:, None] * H * d, half)
    X = (xp.take(X, rows, axis=0) - mean) * xp.sqrt(h)
    diagonal = xp.sum(X * X, axis=0)
    X = X[:: max(1, rows.shape[0] // (2 * p)), :]
    some = xp.sum(X * X, axis=0)
    X = xp.astype(X / xp.sqrt(xp.where(some > 0, some, 1.0)), half)
    H = xp.matrix_transpose(X) @ X
    missing = xp.astype((some == 0) & (diagonal > 0), half)
    return diagonal, H + missing * xp.eye(p, dtype=half, device=H.device)
