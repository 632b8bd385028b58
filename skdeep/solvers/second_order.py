"""Newton's directions for a stack of linear models, and the descent along them."""

from .curvature import Blocks, Products, hessian
from .line_search import wolfe
from .objective import LinearObjective, Point, shift_invariant, take_point
from .run import Run
from .whitening import inverse_root

# Beyond so many parameters the Hessian is not formed.
MAX_PARAMETERS = 256

# Most products with the Hessian for one direction.
MAX_PRODUCTS = 10
# Directions for which the preconditioner's blocks serve.
BLOCKS_SERVE = 5


def solve_exactly(backend, objective, point, grad):
    """Newton's direction for a gradient, zero where the Hessian is singular, and where that is.

    Returns
    -------
    d : array of shape (M, P)
    singular : ndarray of bool of shape (M,)
    """
    xp, net, decay = backend.xp, objective.net, objective.data.decay
    H = hessian(objective, point)
    M, P, k = *point.theta.shape, net.units[1]
    if shift_invariant(net):
        # Adding the same number to a feature's weights of all outputs of a softmax changes nothing.
        # Where decay does not decide between them, curvature along that line does no harm.
        size = xp.mean(xp.reshape(xp.linalg.diagonal(H), (M, -1, k)), axis=2)
        free = xp.astype(decay[:, ::k] == 0, H.dtype)
        line = xp.eye(P // k, dtype=H.dtype, device=H.device) * (size * free)[:, None, :] / k
        line = line[:, :, None, :, None] * xp.ones((k, 1, k), dtype=H.dtype, device=H.device)
        H = H + xp.reshape(line, (M, P, P))
    B, jitter = inverse_root(xp, H, 16.0 * P * float(xp.finfo(H.dtype).eps))
    pivots = 1.0 / (xp.linalg.diagonal(H) * xp.linalg.diagonal(B) ** 2)
    singular = ~(xp.min(pivots, axis=1) > 4.0 * jitter)
    d = -(B @ (xp.matrix_transpose(B) @ grad[..., None]))[..., 0]
    d = xp.where(singular[:, None], xp.zeros_like(d), d)
    return d, backend.to_numpy(singular)


def conjugate_gradients(xp, product, precondition, g):
    """Solve ``H d = -g`` to a tenth of its residual, each model until it is there.

    Parameters
    ----------
    product, precondition : callable
        H and an approximate inverse of it, (M, P) -> (M, P).
    g : array of shape (M, P)

    References
    ----------
    Dembo & Steihaug (1983), Truncated-Newton algorithms for large-scale unconstrained optimization.
    """
    d, r = xp.zeros_like(g), -g
    q = z = precondition(r)
    rz = xp.sum(r * z, axis=1)
    goal = 0.01 * rz
    for _ in range(MAX_PRODUCTS):
        Hq = product(q)
        curvature = xp.sum(q * Hq, axis=1)
        going = (rz > goal) & (curvature > 0)
        one = xp.ones_like(rz)
        step = xp.where(going, rz / xp.where(going, curvature, one), xp.zeros_like(rz))[:, None]
        d, r = d + step * q, r - step * Hq
        z = precondition(r)
        rz_new = xp.where(going, xp.sum(r * z, axis=1), rz)
        if not bool(xp.any(going & (rz_new > goal))):
            break
        q = z + (rz_new / xp.where(going, rz, one))[:, None] * q
        rz = rz_new
    return d


def go_on(backend, objective, run: Run, point: Point, iteration: int):
    """Objective, point and positions of the models that have not stopped."""
    left = run.judge(backend, iteration, point)
    if left.size in (0, point.theta.shape[0]):
        return objective, point, left
    models = backend.asarray(left)
    return objective.take(models), take_point(backend.xp, point, models), left


def advance(backend, objective: LinearObjective, run: Run, point: Point, d) -> Point:
    """Walk along d to a point that satisfies the Wolfe conditions; stop the models without one."""
    xp = backend.xp
    slope = xp.sum(d * point.grad, axis=1)
    d = xp.where((slope < 0)[:, None], d, xp.zeros_like(d))
    slope = xp.clip(slope, max=0.0)
    line = objective.line(point, d)
    step = wolfe(xp, line, point.value, slope, xp.ones_like(slope))
    value = step.value
    if not step.all_ok:
        run.note_failure(backend, step.ok, slope)
        value, _ = line.at(xp.where(step.ok, step.step, xp.zeros_like(step.step)))
    run.n_fun += step.n_trials
    return line.end(value)


def descend(backend, objective, run: Run, point: Point, iteration: int, sample=None):
    """Go on by Newton's method until every model has stopped.

    Parameters
    ----------
    objective : LinearObjective
    run : Run
    point : Point
        Where the models stand.
    iteration : int
        Iterations done before.
    sample : LinearObjective, optional
        The objective over some of the rows: their Hessian serves as long as the gradient falls by
        half an iteration (Roosta-Khorasani & Mahoney, 2019, Sub-sampled Newton methods).

    Returns
    -------
    Result
    """
    xp, blocks, age = backend.xp, None, 0
    formed = point.theta.shape[1] <= MAX_PARAMETERS
    before = None
    while True:
        full = objective
        objective, point, left = go_on(backend, objective, run, point, iteration)
        if left.size == 0:
            return run.result()
        where = objective, point
        if sample is not None:
            sample = sample if objective is full else sample.take(backend.asarray(left))
            if before is not None and (run.size > 0.5 * before[left]).any():
                sample, blocks = None, None
            else:
                where = sample, sample.at(point.theta)
            before = run.size
        if formed:
            d, singular = solve_exactly(backend, *where, point.grad)
            formed = not singular.any()
        if not formed:
            if blocks is None or age >= BLOCKS_SERVE:
                blocks, age = Blocks.at(*where), 0
            elif left.size < blocks.mean.shape[0]:
                blocks = blocks.take(xp, backend.asarray(left))
            current, age = blocks, age + 1
            product = Products.at(*where)
            d = conjugate_gradients(xp, product, lambda r, B=current: B(xp, r), point.grad)
        point = advance(backend, objective, run, point, d)
        iteration += 1
