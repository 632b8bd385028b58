"""Conjugate gradients over a stack of models."""

# The residual of a direction, relative to the gradient.
EXACT_TO = 0.1


def conjugate_gradients(xp, product, precondition, rhs, max_products: int):
    """Solve ``H d = rhs`` to EXACT_TO of its residual, each model until it is there.

    Parameters
    ----------
    product, precondition : callable
        H and an approximate inverse of it, (M, P) -> (M, P).
    rhs : array of shape (M, P)
    max_products : int
        Most products with H.

    References
    ----------
    Dembo & Steihaug (1983), Truncated-Newton algorithms for large-scale unconstrained optimization.
    """
    d, r = xp.zeros_like(rhs), rhs
    q = z = precondition(r)
    rz = xp.sum(r * z, axis=1)
    goal = EXACT_TO**2 * rz
    one = xp.ones_like(rz)
    for _ in range(max_products):
        Hq = product(q)
        curvature = xp.sum(q * Hq, axis=1)
        going = (rz > goal) & (curvature > 0)
        step = xp.where(going, rz / xp.where(going, curvature, one), xp.zeros_like(rz))[:, None]
        d, r = d + step * q, r - step * Hq
        z = precondition(r)
        rz_new = xp.where(going, xp.sum(r * z, axis=1), rz)
        if not bool(xp.any(going & (rz_new > goal))):
            break
        q = z + (rz_new / xp.where(going, rz, one))[:, None] * q
        rz = rz_new
    return d
