"""Coordinates in which a linear model's objective is round: one Gram matrix, factorised.

L-BFGS and first-order methods stall on features of unlike scales or with strong correlations. In
coordinates ``u`` with ``w = B u`` and ``B Bᵀ = (c Xcᵀ Xc + l2 I)⁻¹``, where ``Xc`` is the centred X
and ``c`` the curvature of the loss where all scores are equal, the Hessian starts as the identity.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import gen_batches

from ...array_api import is_torch_array, mapped, mean_rows, to_host
from ...layers.dense import affine, affine_backward
from ...losses import has_hessian
from ...overrides import chosen
from .objective import mean_weights, shift_invariant

# Beyond so many features the factorisation costs more than it saves, and X is only scaled.
MAX_FEATURES = 1536
# Up to so many features a sparse X costs no more than a dense one.
MAX_DENSE = 256

# Rows that estimate the moments at least.
MIN_ROWS = 4096
EPS = float(np.finfo("float64").eps)

# Rows that are centred at once.
ROWS_AT_ONCE = 2048
# Entries of a tensor, or of a file's rows, that are squared at once, and numbers of a sparse X that
# are copied at once.
DEVICE_ENTRIES, STORED_AT_ONCE = 2**24, 2**21


class Preconditioner(NamedTuple):
    """Maps between parameters ``(w, b)`` and preconditioned ones, for gradients and directions.

    A model's ``B`` is ``basis diag(scale)``. The basis serves all models, in one product.

    Parameters
    ----------
    shape : tuple of int
        Features and outputs.
    mean : array of shape (M, p), or (1, p) for all models, or None
        Means of X, if there is an intercept: the preconditioned intercept belongs to the centred X.
    basis : array of shape (p, p) or None
        None stands for the identity.
    scale : array of shape (M, p, 1), or (1, p, 1) for all models
    intercept_scale : float
    invariant : bool
        Whether only differences between outputs count.
    """

    shape: tuple[int, int]
    mean: Any
    basis: Any
    scale: Any
    intercept_scale: float
    invariant: bool
    shared = ("shape", "basis", "intercept_scale", "invariant")

    def astype(self, xp, dtype) -> "Preconditioner":
        def cast(x):
            return x if x is None else xp.astype(x, dtype)

        scale = _limited(xp, self.scale, dtype)
        return self._replace(mean=cast(self.mean), basis=cast(self.basis), scale=cast(scale))

    def _split(self, xp, v):
        p, k = self.shape
        v = xp.reshape(v, (v.shape[0], -1, k))
        return v[:, :p, :], v[:, p:, :]

    def gradient(self, xp, g):
        """The gradient in preconditioned coordinates."""
        w, b = self._split(xp, g)
        if self.mean is not None:
            w = w - self.mean[:, :, None] * b
        w = w if self.basis is None else affine_backward(xp, self.basis, w)
        return xp.reshape(xp.concat([self.scale * w, self.intercept_scale * b], axis=1), g.shape)

    def direction(self, xp, d):
        """The direction in the original coordinates."""
        w, b = self._split(xp, d)
        w = self.scale * w
        w = w if self.basis is None else affine(xp, self.basis, w, None)
        if self.invariant:
            # Sums over outputs are zero but for rounding, which B may have blown up.
            w = w - xp.mean(w, axis=2, keepdims=True)
        b = self.intercept_scale * b
        if self.mean is not None:
            b = b - self.mean[:, None, :] @ w
        return xp.reshape(xp.concat([w, b], axis=1), d.shape)

    def first_step(self, xp, g):
        return xp.ones((g.shape[0],), dtype=g.dtype, device=g.device)


def _curvature(backend, loss, k, dtype) -> float:
    """Second derivative of the loss where all scores are zero; one if it is not known."""
    if not has_hessian(loss):
        return 1.0
    xp = backend.xp
    raw, one = backend.asarray(np.zeros((1, 1, k)), dtype), backend.asarray(np.ones((1, 1)), dtype)
    predicted = chosen(xp, loss.predict)(xp, raw)
    curvature = chosen(xp, loss.hessian)(xp, predicted, one, 0, 0)
    if k > 1:
        curvature = curvature - chosen(xp, loss.hessian)(xp, predicted, one, 0, 1)
    return float(curvature[0, 0])


def stored_cuts(X, n: int):
    """Slices of n rows of a sparse X, of so many stored numbers that copies of them are small."""
    return gen_batches(n, max(64, STORED_AT_ONCE * X.shape[0] // max(X.nnz, 1)))


def _mean_squares(w, X) -> np.ndarray:
    if hasattr(X, "toarray"):
        blocks = ((w[:, cut], X[cut]) for cut in stored_cuts(X, X.shape[0]))
        return sum(v @ Z.multiply(Z).tocsr() for v, Z in blocks)
    if is_torch_array(X) or mapped(X):
        cuts = gen_batches(X.shape[0], max(1, DEVICE_ENTRIES // X.shape[1]))
        return sum(mean_rows(w[:, cut], X[cut] * X[cut]) for cut in cuts)
    return w @ (X * X)


def _moments(backend, X, w):
    """Mean (1, p) and centred second moment (p, p) of X under row weights (1, n) of sum one.

    Every so many rows will do where there are plenty. Correlations then shrink a little, which
    keeps directions that the sample hardly knows from looking flat, and a feature that it misses
    gets its variance.
    """
    p, processes = X.shape[1], backend.processes
    n = n_some = processes.total(X.shape[0])
    step, some, v = max(1, n // max(MIN_ROWS, 16 * p)), X, w
    if step > 1:
        used = np.flatnonzero(w[0, :])
        used = used[processes.shares(len(used)).every(step)]
        some, v = X[used], w[:, used] / processes.total(w[0, used].sum())
        n_some = processes.total(len(used))
    some = to_host(some)
    mean = backend.sum(v @ some)
    if hasattr(X, "toarray") and processes.total(some.nnz) < 0.1 * n_some * p:
        weighted = some.multiply(v.T).tocsr()
        second = backend.sum((some.T @ weighted).toarray()) - mean.T @ mean
    else:
        rows, second = np.sqrt(v.T), np.zeros((p, p))
        for start in range(0, some.shape[0], ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, some.shape[0])
            block = some[start:stop, :]
            block = block.toarray() if hasattr(block, "toarray") else block
            block = block - mean
            block *= rows[start:stop, :]
            second += block.T @ block
        second = backend.sum(second)
    if step == 1:
        return mean, second
    variance = np.diagonal(second)
    missed = variance <= 0
    if missed.any():
        mean = backend.sum(mean_rows(w, X))
        exact = (backend.sum(_mean_squares(w, X)) - mean * mean)[0, :]
        exact = np.where(exact > n * EPS * mean[0, :] ** 2, exact, 0.0)
        variance = np.where(missed, exact, variance)
    share = p / n_some
    return mean, (1.0 - share) * second + np.diag(share * variance + np.where(missed, variance, 0))


def _inverse_of_root(xp, H):
    """Inverses of the Cholesky factors of matrices, by halves: nearly all the work is products."""
    p = H.shape[-1]
    if p <= 64:
        return xp.linalg.inv(xp.linalg.cholesky(H))
    h = p // 2
    A = _inverse_of_root(xp, H[..., :h, :h])
    L = H[..., h:, :h] @ xp.matrix_transpose(A)
    C = _inverse_of_root(xp, H[..., h:, h:] - L @ xp.matrix_transpose(L))
    zeros = xp.zeros((*H.shape[:-2], h, p - h), dtype=H.dtype, device=H.device)
    lower = xp.concat([-(C @ (L @ A)), C], axis=-1)
    return xp.concat([xp.concat([A, zeros], axis=-1), lower], axis=-2)


def inverse_root(xp, H, jitter):
    """B with ``B Bᵀ = H⁻¹`` for positive semi-definite matrices, and the jitter that it took.

    The matrices are scaled to unit diagonal first; the jitter is added to that diagonal. What only
    preconditions takes the root of the machine precision, so that directions without curvature do
    not blow rounding up.
    """
    p = H.shape[-1]
    diagonal = xp.linalg.diagonal(H)
    d = 1.0 / xp.sqrt(xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal)))
    H = d[..., :, None] * H * d[..., None, :]
    while True:
        try:
            jittered = H + jitter * xp.eye(p, dtype=H.dtype, device=H.device)
            inverse = _inverse_of_root(xp, jittered)
            break
        except (np.linalg.LinAlgError, RuntimeError):  # RuntimeError: torch's
            jitter *= 100.0
            if not jitter < 1.0:
                raise
    return d[..., :, None] * xp.matrix_transpose(inverse), jitter


def _pays(backend, X, k) -> bool:
    """Whether a Gram matrix costs less than the iterations that it saves."""
    if X.shape[1] > MAX_FEATURES:
        return False
    if hasattr(X, "toarray") and X.shape[1] > MAX_DENSE:
        entries = np.diff(X.indptr).astype("float64")
        squares, entries = backend.sum(np.stack([np.sum(entries * entries), np.sum(entries)]))
        return bool(squares <= 100 * k * entries)
    return True


def _axes(second, mean):
    """Principal values (p,), squared lengths (p,) and axes (p, p) of a second moment.

    They are those of all penalties: what decays a weight acts on an axis by its squared length.

    Features of much smaller variance than the largest are scaled up first, or they would drown in
    its rounding. Directions without variance do not: rounding in them must not blow up. A constant
    feature is left to the intercept.
    """
    variance = np.diagonal(second)
    varies = variance > (MIN_ROWS * EPS * mean) ** 2  # more than centring makes of a constant
    second = np.where(varies[:, None] & varies, second, 0.0)
    small = EPS**0.5 * variance.max()
    scale = np.where(varies, np.maximum(small / np.where(varies, variance, 1.0), 1.0), 1.0) ** 0.5
    values, axes = np.linalg.eigh(scale[:, None] * second * scale)
    rounding = EPS * values.max()
    values = np.where(values > len(values) * rounding, values, rounding / EPS**0.5)
    axes = scale[:, None] * axes
    return values, np.sum(axes * axes, axis=0), np.where(varies[:, None], axes, 0.0)


def preconditioner(backend, problem) -> Preconditioner:
    """Preconditioner for the models of a linear problem.

    It is found on the host in float64, whatever the models are computed in: single precision knows
    too little of directions of little variance.
    """
    net, X = problem.net, problem.X
    p, k = net.units
    # Coordinates are round for positive weights; the objective may have others too.
    own = mean_weights(backend, problem)
    w = np.mean(np.abs(own), axis=0, keepdims=True, dtype="float64")
    if problem.weights is None and problem.rows is None:
        w = np.full((1, X.shape[0]), 1.0 / problem.n_rows)
    else:
        w = w / backend.sum(np.sum(w))
    c, l2 = _curvature(backend, net.loss, k, problem.dtype), problem.hyper["l2"]
    if _pays(backend, X, k):
        mean, second = _moments(backend, X, w)
        if not net.intercept:
            second = second + mean.T @ mean
        values, squares, basis = _axes(second, mean[0, :])
        H = c * values + l2 * squares
    else:
        mean, square = backend.sum(mean_rows(w, X)), backend.sum(_mean_squares(w, X))
        variance = square - mean * mean if net.intercept else square
        basis, H = None, c * np.maximum(variance, 1e-6 * square) + l2
    scale = _limited(np, 1.0 / np.sqrt(np.where(H > 0, H, 1.0))[..., None], problem.dtype)
    if not net.intercept:
        mean = None
    elif problem.weights is not None or problem.rows is not None:
        mean = backend.sum(mean_rows(own, X))  # each model's own
    mean, basis, scale = (
        None if x is None else backend.asarray(x, problem.dtype) for x in (mean, basis, scale)
    )
    return Preconditioner((p, k), mean, basis, scale, c**-0.5, shift_invariant(net))


def _limited(xp, scale, dtype):
    """What has less curvature than a type resolves must not blow rounding up in it."""
    return xp.minimum(
        scale, xp.min(scale, axis=1, keepdims=True) / float(xp.finfo(dtype).eps) ** 0.5
    )
