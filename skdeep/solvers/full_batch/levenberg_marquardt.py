"""Levenberg-Marquardt over a stack of networks, for squared error.

A step solves ``(JᵀWJ + D + λ S²) δ = -g``: J are the derivatives of the scores, W the row weights,
D the weight decay and g the gradient. The damping λ is per model, and so is the verdict on a step.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...losses import squared_error
from ...network import Network, forward, shaped, split
from ...overrides import chosen
from ...problem import Problem, Result
from .bookkeeping import FULL_BATCH, Run, iterate
from .objective import Data, Point

# The first damping; one is as large as the curvature itself.
FIRST_DAMPING = 1e-3
# Entries of the Jacobian that are formed at once on a CPU, to stay in its cache, and elsewhere.
JACOBIAN_ENTRIES, DEVICE_JACOBIAN_ENTRIES = 1 << 17, 1 << 25
# What one model may hold. Beyond it a step takes minutes, and other solvers do better.
MAX_BYTES = 4 << 30


class System(NamedTuple):
    """The residuals to first order: either J and r, or A, which is all that many rows need.

    Parameters
    ----------
    A : array of shape (M, P, P) or None
        Gauss-Newton matrix without the decay.
    J : array of shape (M, P, N) or None
        Jacobian times the root of the weights, rows last; N is rows times outputs.
    r : array of shape (M, N) or None
        Residuals times the root of the weights.
    """

    A: Any = None
    J: Any = None
    r: Any = None


class State(NamedTuple):
    """The system, the squared scales (M, P), and the damping with its growth (M,)."""

    system: System
    scale: Any
    damping: Any
    growth: Any


def jacobian(xp, net: Network, theta, X, seed):
    """Scores, and their derivatives by backpropagation that keeps the rows apart.

    Parameters
    ----------
    theta : array of shape (M, P)
    X : array of shape (n, p)
    seed : array of shape (M, n) or (M, 1)
        What the derivatives of each row are multiplied by.

    Returns
    -------
    raw : array of shape (M, n, k)
    J : array of shape (M, P, k * n)
        Rows last, of one output after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.network import build
    >>> from skdeep.solvers.full_batch.levenberg_marquardt import jacobian
    >>> net, X = build((2, 1), "squared_error"), np.array([[2.0, 5.0]])
    >>> raw, J = jacobian(np, net, np.zeros((1, 3)), X, np.ones((1, 1)))
    >>> J.ravel().tolist()
    [2.0, 5.0, 1.0]
    """
    M, n, k = theta.shape[0], X.shape[0], net.units[-1]
    views = split(xp, net, theta)
    inputs, saved = [shaped(xp, net, X, M)], []
    for layer, p in zip(net.layers, views, strict=True):
        h, s = layer.forward(xp, p, inputs[-1])
        inputs.append(h)
        saved.append(s)
    raw = inputs.pop()

    seed = xp.broadcast_to(seed[:, None, :], (M, 1, n))
    zero, columns = xp.zeros_like(seed), []
    for j in range(k):
        # Of this score with respect to all scores: itself alone. Then back through the layers.
        dh = xp.matrix_transpose(xp.concat([zero] * j + [seed] + [zero] * (k - 1 - j), axis=1))
        grads: list[dict] = [{} for _ in net.layers]
        for i in reversed(range(net.first, len(net.layers))):
            layer = net.layers[i]
            grads[i], to_input = layer.row_gradients(xp, views[i], inputs[i], saved[i], dh)
            if i > net.first:
                dh = to_input()
        parts = [grads[place.layer][place.name] for place in net.places]
        columns.append(xp.concat([xp.reshape(part, (M, -1, n)) for part in parts], axis=1))
    return raw, columns[0] if k == 1 else xp.concat(columns, axis=2)


def weighted(xp, net: Network, theta, data: Data, rows: slice):
    """Jacobian (M, P, N) and residuals (M, N) of some rows, times the root of their weights."""
    root = xp.sqrt(data.w if data.w.shape[1] == 1 else data.w[:, rows])
    raw, J = jacobian(xp, net, theta, data.X[rows, :], root)
    r = root[:, None, :] * xp.matrix_transpose(raw - data.y[..., rows, :])
    return J, xp.reshape(r, (theta.shape[0], -1))


def linearise(
    backend, net: Network, theta, data: Data, n_rows: int | None = None
) -> tuple[Point, System]:
    """Objective, gradient and first-order model at theta.

    With more residuals than parameters the Jacobian is formed a block of rows at a time, and only
    its product with itself is kept. ``n_rows`` are those of all processes, if there are several.
    """
    xp, (M, P), n = backend.xp, theta.shape, data.X.shape[0]
    N = (n_rows or n) * net.units[-1]
    step = n
    if N >= P:
        entries = JACOBIAN_ENTRIES if backend.device == "cpu" else DEVICE_JACOBIAN_ENTRIES
        step = max(entries // (M * P * net.units[-1]), 32)
    A, squares, grad = None, 0.0, 0.0
    for start in range(0, n, step):
        J, r = weighted(xp, net, theta, data, slice(start, min(start + step, n)))
        squares = squares + xp.sum(r * r, axis=1)
        grad = grad + (J @ r[..., None])[..., 0]
        if N >= P:
            product = J @ xp.matrix_transpose(J)
            A = product if A is None else A + product
    squares, grad = backend.sums(squares, grad)
    decayed = data.decay * theta
    value = 0.5 * (squares + xp.sum(decayed * theta, axis=1))
    if N >= P:
        system = System(backend.sum(A))
    else:
        system = System(None, backend.joined(J, axis=-1), backend.joined(r, axis=-1))
    return Point(theta, value, grad + decayed), system


def rescale(xp, system: System, data: Data, scale=None):
    """Squared scales of the parameters: the largest curvature that each has had (Moré, 1978).

    They make steps independent of the units that inputs are measured in.
    """
    if system.A is None:
        diagonal = xp.sum(system.J * system.J, axis=2)
    else:
        diagonal = xp.linalg.diagonal(system.A)
    diagonal = diagonal + data.decay
    return diagonal if scale is None else xp.maximum(scale, diagonal)


def direction(xp, point: Point, state: State, data: Data):
    """The damped step (M, P), and by how much the model says it lowers the objective, (M,).

    Rows fewer than parameters make a smaller system: with ``b = λ / (λ + d)``,
    ``(J b Jᵀ + λ) v = r - J q / (λ + d)`` and ``δ = -q / (λ + d) - b Jᵀ v``, all in scaled
    parameters, where the decay's curvature is d and its gradient q.
    """
    (A, J, r), damping = state.system, state.damping[:, None]
    eps = float(xp.finfo(damping.dtype).eps)
    scale = xp.maximum(state.scale, eps * xp.max(state.scale, axis=1, keepdims=True))
    scale = xp.sqrt(xp.where(scale > 0, scale, xp.ones_like(scale)))
    g = point.grad / scale
    decay = data.decay / (scale * scale)
    if A is not None:
        A = A / (scale[:, :, None] * scale[:, None, :])
        A = A + _eye(xp, A) * (decay + damping)[:, None, :]
        d = -_solve(xp, A, g[..., None])[..., 0]
    else:
        J = J / scale[..., None]
        share = damping / (damping + decay)
        drawn = data.decay * point.theta / (scale * (damping + decay))
        Jt = xp.matrix_transpose(J)
        K = (Jt * share[:, None, :]) @ J
        K = K + damping[..., None] * _eye(xp, K)
        v = _solve(xp, K, r[..., None] - Jt @ drawn[..., None])
        d = -drawn - share * (J @ v)[..., 0]
    gain = 0.5 * xp.sum(d * (damping * d - g), axis=1)
    return d / scale, gain


def _eye(xp, A):
    return xp.eye(A.shape[-1], dtype=A.dtype, device=A.device)


def _solve(xp, A, b):
    """Solution of A x = b, or NaN where a pivot is zero: that step is not taken, and damping grows.

    Damping keeps A from being singular but where it is lost in the rounding of large entries.
    """
    try:
        return xp.linalg.solve(A, b)
    except (ValueError, RuntimeError) as error:
        if not type(error).__name__.endswith("LinAlgError"):
            raise
        return xp.full_like(b, float("nan"))


def objective(backend, net: Network, theta, data: Data):
    """The objective at theta, of shape (M,)."""
    xp = backend.xp
    raw = forward(xp, net, theta, data.X)
    value, _ = chosen(xp, net.loss.value_and_grad)(xp, raw, data.y, data.w)
    return backend.sum(value) + 0.5 * xp.sum(data.decay * theta * theta, axis=1)


def step(run: Run, state: State) -> State:
    """Try a step of each model, take those that lower the objective, and adapt the damping."""
    xp, backend, point, (_, net, data) = run.xp, run.backend, run.point, run.objective
    eps = float(xp.finfo(point.value.dtype).eps)
    d, gain = direction(xp, point, state, data)
    trial = point.theta + d
    value = objective(backend, net, trial, data)
    run.n_fun += 1
    fall = point.value - value
    # What is not finite compares as false, and is not taken.
    ratio = fall / xp.where(gain > 0, gain, xp.ones_like(gain))
    taken = (fall > 0) & (gain > 0) & xp.isfinite(fall)
    ratio = xp.where(taken, ratio, xp.zeros_like(ratio))
    # Nielsen (1999): smooth in the ratio of the fall to what the model said.
    factor = 1.0 - (2.0 * ratio - 1.0) ** 3
    factor = xp.where(factor > 1.0 / 3.0, factor, xp.ones_like(factor) / 3.0)
    factor = xp.where(taken, factor, state.growth)
    growth = xp.where(taken, xp.full_like(factor, 2.0), 2.0 * state.growth)
    damping = xp.clip(state.damping * factor, min=eps, max=1.0 / eps)

    # Progress that is small beside one, or beside what a long row of failures may yet find.
    least = 4.0 * eps * point.value
    busy = xp.where(taken, fall > least, (gain > least) & (damping < 1.0 / eps))
    run.best[backend.to_numpy(busy)] = np.inf
    system, scale = state.system, state.scale
    if bool(xp.any(taken)):
        theta = xp.where(taken[:, None], trial, point.theta)
        # The value that was compared, or rounding could make the curve rise.
        value = xp.where(taken, value, point.value)
        point, system = linearise(backend, net, theta, data, run.problem.n_rows)
        run.point = point._replace(value=value)
        scale = rescale(xp, system, data, scale)
    return State(system, scale, damping, growth)


def solve(backend, problem: Problem) -> Result:
    """Minimise the squared error of every network by the Levenberg-Marquardt method.

    Parameters
    ----------
    backend : Backend
    problem : Problem
        ``hyper`` has, each of shape (M, 1), "l2", "tol" (bound of the gradient's largest entry)
        and "max_iter" (steps tried, whether taken or not).

    Returns
    -------
    Result
        ``converged`` where the gradient came within ``tol``, or no step could lower the objective
        any further in this floating-point type. ``curve`` never rises.

    Raises
    ------
    ValueError
        If the loss is not the squared error, if layers are normalised, or if a model is too large.

    References
    ----------
    Levenberg (1944), A method for the solution of certain non-linear problems in least squares.
    Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters.
    Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory.
    Hagan & Menhaj (1994), Training feedforward networks with the Marquardt algorithm.
    Nielsen (1999), Damping parameter in Marquardt's method.
    """
    _check(problem)
    if hasattr(problem.X, "toarray"):
        problem = replace(problem, X=problem.X.toarray())
    run = Run(backend, problem)
    run.enter()
    if run.models.size:
        iterate(run, step, start(run))
    return run.result()


def start(run: Run) -> State:
    """The system where the models stand, and the first damping."""
    xp, (_, net, data) = run.xp, run.objective
    run.point, system = linearise(run.backend, net, run.point.theta, data, run.problem.n_rows)
    ones = xp.ones_like(run.point.value)
    return State(system, rescale(xp, system, data), FIRST_DAMPING * ones, 2.0 * ones)


def _check(problem: Problem) -> None:
    """Raise ValueError for what this solver cannot do."""
    if problem.net.loss.value_and_grad is not squared_error:
        raise ValueError("solver='lm' minimises squares: it needs loss='squared_error'.")
    if problem.net.batch_norm:
        raise ValueError("solver='lm' takes each row by itself: it needs batch_norm=False.")
    if problem.net.tied:
        raise ValueError("solver='lm' needs weights of each layer's own: tied_weights=False.")
    if memory(problem) > MAX_BYTES:
        N, P = problem.n_rows * problem.net.units[-1], problem.theta.shape[1]
        raise ValueError(
            f"solver='lm' would hold {memory(problem) / 2**30:.1f} GiB for a network of {P} "
            f"parameters and {N} targets: use smaller hidden_layer_sizes, or solver='lbfgs'."
        )


def memory(problem: Problem) -> float:
    """Bytes that one model works on."""
    n, P, k = problem.n_rows, problem.theta.shape[1], problem.net.units[-1]
    N = n * k
    held = 3.0 * P * P if N >= P else 4.0 * N * P + 2.0 * N * N
    scores = n * (2.0 * sum(problem.net.units[1:]) + 2)
    return np.dtype(problem.dtype).itemsize * (held + scores + 10.0 * P + 3.0 * JACOBIAN_ENTRIES)


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    return FULL_BATCH, set()
