"""Second derivatives of a linear model's objective: whole, as products, and in blocks."""

from typing import Any, NamedTuple

import numpy as np

from ...array_api import mapped
from ...layers.dense import affine_backward
from ...network import forward
from ...overrides import chosen
from .objective import LinearObjective, Point, shift_invariant
from .preconditioning import MAX_FEATURES, MIN_ROWS, ROWS_AT_ONCE, inverse_root, stored_cuts

# Numbers of rows that are kept as a Hessian needs them, from step to step: 2 MB.
KEPT = 2**18


class Centre(NamedTuple):
    """Where features are centred, an intercept for each output taking the shift up.

    Far from zero they are nearly collinear with it. Constant ones are left to it altogether.

    Parameters
    ----------
    mean : array of shape (p,)
    varies : array of shape (p,)
        One for the features that are not constant, else zero.
    some_constant : bool
        Whether there is such a zero.
    kept : array of shape (q, n), or None
        The rows in these coordinates, as columns, if they are few.
    """

    mean: Any
    varies: Any
    some_constant: bool = False
    kept: Any = None

    @classmethod
    def of(cls, objective: LinearObjective) -> "Centre":
        """That of the rows; of no features where the intercept is not free to take the shift up."""
        xp, net, X = objective.xp, objective.net, objective.data.X
        centre = cls._of(objective)
        constant = bool(xp.any(centre.varies == 0))
        kept = None
        if X.shape[0] * (X.shape[1] + 1) <= KEPT:
            kept = xp.concat([Z for _, Z in centre.columns(xp, X, net.intercept, 1)], axis=1)
        return centre._replace(some_constant=constant, kept=kept)

    @classmethod
    def _of(cls, objective: LinearObjective) -> "Centre":
        xp, net, (X, *_, decay) = objective.xp, objective.net, objective.data
        one = xp.ones_like(decay[0, : X.shape[1]])
        if not net.intercept or bool(xp.any(decay[:, net.n_weights :] > 0)):
            return cls(xp.zeros_like(one), one)
        backend, n = objective.backend, objective.backend.processes.total(X.shape[0])
        mean = sum(xp.sum(rows, axis=0) for _, rows in row_blocks(X, X.shape[1]))
        mean = backend.sum(mean) / n
        largest = xp.zeros_like(mean)
        for _, rows in row_blocks(X, X.shape[1]):
            largest = xp.maximum(largest, xp.max(xp.abs(rows - mean), axis=0))
        largest = backend.largest(largest)
        rounding = MIN_ROWS * float(xp.finfo(mean.dtype).eps) * xp.abs(mean)
        return cls(mean, xp.where(largest > rounding, one, 0.0))

    def columns(self, xp, X, intercept: bool, width: int):
        """Where blocks of rows start, and the blocks as columns, a row of ones below."""
        if self.kept is not None:
            yield from ((cut.start, self.kept[:, cut]) for cut in cuts(X.shape[0], width))
            return
        for start, Z in row_blocks(X, width):
            yield start, columns(xp, (Z - self.mean) * self.varies, intercept)

    def gradient(self, xp, g, decayed):
        """The gradient (M, q, k) in centred coordinates, of which ``decayed`` is the penalty's."""
        w, b = self._split(g)
        if b.shape[1] == 0:
            return g
        w = xp.where(self.varies[:, None] > 0, w - self.mean[:, None] * b, self._split(decayed)[0])
        return xp.concat([w, b], axis=1)

    def direction(self, xp, d):
        """A direction (M, q, k) in the original coordinates."""
        w, b = self._split(d)
        return d if b.shape[1] == 0 else xp.concat([w, b - self.mean[None, :] @ w], axis=1)

    def _split(self, v):
        p = self.mean.shape[0]
        return v[:, :p, :], v[:, p:, :]


def cuts(n: int, width: int):
    """Slices of n rows, of which ``width`` numbers a row stay in cache."""
    step = max(64, ROWS_AT_ONCE * 64 // width)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def row_blocks(X, width: int):
    """Where blocks of rows start, and the blocks; those of a sparse X are made dense."""
    for cut in cuts(X.shape[0], width):
        rows = X[cut, :]
        yield cut.start, rows.toarray() if hasattr(rows, "toarray") else rows


def columns(xp, Z, intercept: bool):
    """Rows (n, p) as columns (q, n), with a row of ones below if there is an intercept."""
    Z = xp.matrix_transpose(Z)
    return xp.concat([Z, xp.ones_like(Z[:1, :])], axis=0) if intercept else Z


def gram(xp, X, h, intercept: bool, centre: Centre | None = None):
    """``Zᵀ diag(h_m) Z`` for row weights h of shape (M, n): an array of shape (M, q, q).

    Z is X, centred if wanted, and a column of ones if there is an intercept.
    """
    M, p = h.shape[0], X.shape[1]
    if hasattr(X, "toarray") and centre is None:
        return _sparse_gram(xp, X, h, intercept)
    q = p + intercept
    if centre is None:
        blocks = ((start, columns(xp, Z, intercept)) for start, Z in row_blocks(X, M * q))
    else:
        blocks = centre.columns(xp, X, intercept, M * q)
    out = 0.0
    for start, Z in blocks:
        weighted = h[:, None, start : start + Z.shape[1]] * Z
        # All models in one product.
        out = out + xp.reshape(weighted, (M * q, Z.shape[1])) @ xp.matrix_transpose(Z)
    return xp.reshape(out, (M, q, q))


def _sparse_gram(xp, X, h, intercept):
    H = 0.0
    for cut in stored_cuts(X, X.shape[0]):
        Z, w = X[cut], h[:, cut]
        H = H + xp.stack([xp.asarray((Z.T @ Z.multiply(v[:, None]).tocsr()).toarray()) for v in w])
    if not intercept:
        return H
    side = h @ X
    H = xp.concat([H, side[:, None, :]], axis=1)
    corner = xp.concat([side, xp.sum(h, axis=1, keepdims=True)], axis=1)
    return xp.concat([H, corner[:, :, None]], axis=2)


def hessian(objective: LinearObjective, point: Point, centre: Centre | None = None):
    """The Hessian, of shape (M, P, P), in theta's order: features before outputs."""
    xp, net, (X, _, w, decay) = objective.xp, objective.net, objective.data
    k, M = net.units[1], point.theta.shape[0]
    predicted = chosen(xp, net.loss.predict)(xp, point.raw)
    pairs = [(i, j) for i in range(k) for j in range(i + 1)]
    h = xp.stack([chosen(xp, net.loss.hessian)(xp, predicted, w, i, j) for i, j in pairs], axis=1)
    H = gram(xp, X, xp.reshape(h, (M * len(pairs), X.shape[0])), net.intercept, centre)
    H = objective.backend.sum(H)
    q = H.shape[-1]
    if k > 1:
        H = xp.reshape(H, (M, len(pairs), q, q))
        place = {pair: at for at, pair in enumerate(pairs)}
        at = [place[max(i, j), min(i, j)] for i in range(k) for j in range(k)]
        H = xp.stack([H[:, a, :, :] for a in at], axis=1)
        H = xp.permute_dims(xp.reshape(H, (M, k, k, q, q)), (0, 3, 1, 4, 2))
        H = xp.reshape(H, (M, q * k, q * k))
    return H + decay[:, :, None] * xp.eye(q * k, dtype=decay.dtype, device=decay.device)


def significant_rows(backend, h, share):
    """Rows whose curvature (n,) is above a share of the mean: what the others have is less."""
    mean = backend.sum(backend.xp.sum(h)) / backend.processes.total(h.shape[0])
    return backend.xp.nonzero(h >= share * mean)[0]


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
        backend, processes = objective.backend, objective.backend.processes
        predicted = chosen(xp, net.loss.predict)(xp, point.raw)
        h = diagonal(xp, net.loss, predicted, xp.abs(data.w))
        rows = significant_rows(backend, xp.max(h, axis=(0, 1)), 0.01)
        # Gathering rows costs about as much as a product with them.
        X, w, predicted = data.X, data.w, xp.matrix_transpose(predicted)
        kept, all_rows = processes.total(np.array([rows.shape[0], X.shape[0]])).tolist()
        if kept < 0.7 * all_rows and not mapped(X):
            predicted = xp.take(predicted, rows, axis=2)
            w = w if w.shape[1] == 1 else xp.take(w, rows, axis=1)
        else:
            rows = xp.arange(X.shape[0], device=rows.device)
        size_X, size_w = _size(xp, X), _size(xp, w)
        short = X.dtype == xp.float32 and rows.shape[0] == X.shape[0] and 1e-15 < size_X < 1e15
        if short or (mapped(X) and X.dtype == xp.float64):  # no copy
            size_X = xp.ones_like(size_w)
        else:
            X = _single(xp, X, rows, size_X)
        predicted = xp.matrix_transpose(xp.astype(predicted, xp.float32))
        w = xp.astype(w / size_w, xp.float32)
        return cls(objective, X, predicted, w, (size_X, size_w))

    def __call__(self, v):
        """Hessian times v, both of shape (M, P)."""
        xp, net, decay = self.objective.xp, self.objective.net, self.objective.data.decay
        size_X, size_w = self.sizes
        is_weight = xp.arange(v.shape[1], device=v.device) < net.n_weights
        unit = xp.where(is_weight, size_X * xp.ones_like(v[:1, :]), 1.0)
        scaled = unit * v
        size = xp.max(xp.abs(scaled), axis=1, keepdims=True)
        size = xp.where(size > 0, size, 1.0)
        dz = forward(xp, net, xp.astype(scaled / size, xp.float32), self.X)
        product = chosen(xp, net.loss.hessian_product)
        for cut in cuts(dz.shape[1], dz.shape[0] * dz.shape[2]):
            predicted, change = self.predicted[:, cut, :], dz[:, cut, :]
            w = self.w if self.w.shape[1] == 1 else self.w[:, cut]
            dz[:, cut, :] = product(xp, predicted, w, change)
        parts = [xp.reshape(affine_backward(xp, self.X, dz), (v.shape[0], -1))]
        if net.intercept:
            parts.append(xp.sum(dz, axis=-2))
        Hv = xp.astype(xp.concat(parts, axis=1), v.dtype) * unit * size * size_w
        return self.objective.backend.sum(Hv) + decay * v


def _size(xp, x):
    """The size of the largest entry, or one."""
    if hasattr(x, "toarray"):
        return max(x.max(), -x.min()) or 1.0
    size = xp.maximum(xp.max(x), -xp.min(x))
    return xp.where(size > 0, size, 1.0)


def _single(xp, X, rows, size):
    """Some rows of X divided by a number, in float32; there is no copy of them in X's own type."""
    if hasattr(X, "toarray"):
        X = X if rows.shape[0] == X.shape[0] else X[rows]
        return (X / size).astype("float32")
    out = xp.empty((rows.shape[0], X.shape[1]), dtype=xp.float32, device=X.device)
    for cut in cuts(*out.shape):
        out[cut, :] = xp.astype(xp.take(X, rows[cut], axis=0) / size, xp.float32)
    return out


def diagonal(xp, loss, predicted, w):
    """Row weights times second derivatives with respect to each output's own score, (M, k, n)."""
    outputs = range(predicted.shape[-1])
    return xp.stack([chosen(xp, loss.hessian)(xp, predicted, w, i, i) for i in outputs], axis=1)


class BlockPreconditioner(NamedTuple):
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
    shared = ("invariant",)

    @classmethod
    def at(cls, objective: LinearObjective, point: Point) -> "BlockPreconditioner":
        xp, net, (X, _, w, decay) = objective.xp, objective.net, objective.data
        (p, k), M = net.units, point.theta.shape[0]
        h = diagonal(xp, net.loss, chosen(xp, net.loss.predict)(xp, point.raw), xp.abs(w))
        backend, flat = objective.backend, xp.reshape(h, (M * k, -1))
        total, mean = backend.sums(xp.sum(h, axis=2, keepdims=True), flat @ X)
        tiny = float(xp.finfo(total.dtype).smallest_normal)
        mean = xp.reshape(mean, (M, k, p)) / xp.clip(total, min=tiny)
        if not net.intercept:
            mean = xp.zeros_like(mean)
        l2 = decay[:, :1]
        if p <= MAX_FEATURES:
            parts = [_block(backend, X, flat[i, :], mean[i // k, i % k, :]) for i in range(M * k)]
            diagonals, blocks = (xp.stack(part) for part in zip(*parts, strict=True))
            rounding = 1.0 if hasattr(X, "toarray") else MIN_ROWS * float(xp.finfo(h.dtype).eps)
            spread = xp.reshape(diagonals, (M, k, p))
            scale = _scale(xp, spread, total * mean * mean * rounding, l2[..., None])
            share = xp.astype(l2[..., None] * scale * scale, blocks.dtype)
            eye = xp.eye(p, dtype=blocks.dtype, device=blocks.device)
            blocks = xp.reshape(blocks, (M, k, p, p)) + share[..., None] * eye
            basis, _ = inverse_root(xp, blocks, float(xp.finfo(blocks.dtype).eps) ** 0.5)
        else:
            centre = total * mean * mean
            spread = xp.reshape(backend.sum(weighted_squares(flat, X)), (M, k, p)) - centre
            scale, basis = _scale(xp, spread, centre, l2[..., None]), None
        if not net.intercept:
            return cls(basis, scale, mean, None, shift_invariant(net))
        total = xp.clip(total + decay[:, -1][:, None, None], min=tiny)
        return cls(basis, scale, mean, total, shift_invariant(net))

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


def _scale(xp, spread, centre, l2):
    """Inverse roots of the blocks' diagonals; zero for features that are constant but for rounding.

    ``centre`` is what was taken off, of which a share is rounding.
    """
    noise = MIN_ROWS * float(xp.finfo(spread.dtype).eps) * centre
    H = xp.where(spread > noise, spread, 0.0) + l2
    return xp.where(H > 0, 1.0 / xp.sqrt(xp.where(H > 0, H, 1.0)), 0.0)


def weighted_squares(weights, X):
    """Weighted sums (M, p) of the squared features."""
    if hasattr(X, "toarray"):
        blocks = ((weights[:, cut], X[cut]) for cut in stored_cuts(X, X.shape[0]))
        return sum(w @ Z.multiply(Z).tocsr() for w, Z in blocks)
    return sum(
        weights[:, start : start + rows.shape[0]] @ (rows * rows)
        for start, rows in row_blocks(X, X.shape[1])
    )


def _block(backend, X, h, mean):
    """Diagonal (p,) and, in float32, unit-diagonal form (p, p) of the Gram matrix under weights h.

    It goes by the rows that carry nine tenths of the curvature, or every so many of them: for a
    preconditioner twice as many rows as features will do.
    """
    xp, p, half = backend.xp, X.shape[1], backend.xp.float32
    rows = significant_rows(backend, h, 0.1)
    h = xp.take(h, rows)[:, None]
    shares = backend.processes.shares(rows.shape[0])
    some = shares.every(max(1, shares.total // (2 * p)))
    if hasattr(X, "toarray"):
        square = 0.0
        for cut in stored_cuts(X, len(rows)):
            Z, v = X[rows[cut]], h[cut, :]
            # Of these rows less the mean, which is that of all rows.
            square = square + Z.multiply(Z).T @ v - 2.0 * (Z.T @ v) * mean[:, None]
        diagonal = square[:, 0] + xp.sum(h) * mean * mean
        X = (X[rows[some]].toarray() - mean) * xp.sqrt(h[some, :])
    else:
        diagonal = xp.zeros((p,), dtype=h.dtype, device=h.device)
        for cut in cuts(rows.shape[0], p):
            deviation = xp.take(X, rows[cut], axis=0) - mean
            diagonal = diagonal + h[cut, 0] @ (deviation * deviation)
        X = (xp.take(X, rows[some], axis=0) - mean) * xp.sqrt(h[some, :])
    diagonal, squares = backend.sums(diagonal, xp.sum(X * X, axis=0))
    diagonal = xp.clip(diagonal, min=0.0)
    X = xp.astype(X / xp.sqrt(xp.where(squares > 0, squares, 1.0)), half)
    H = backend.sum(xp.matrix_transpose(X) @ X)
    missing = xp.astype((squares == 0) & (diagonal > 0), half)
    return diagonal, H + missing * xp.eye(p, dtype=half, device=H.device)
