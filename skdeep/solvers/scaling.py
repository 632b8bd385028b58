"""Features so large that products of a few of them overflow: solved in other units."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse

from ..problem import Problem, Result


def limit(dtype: str) -> float:
    """The largest entry of X of which products of four and sums of those are safe."""
    return float(2.0 ** (np.finfo(dtype).maxexp // 5))


def moderated(solve: Callable, backend, problem: Problem) -> Result:
    """The solution of a linear problem whose X has entries beyond the limit.

    Columns beyond it are divided by powers of two. What the penalty makes of their coefficients is
    below rounding on either scale.
    """
    X, k, top = problem.X, problem.net.units[1], limit(problem.dtype)
    size = abs(X).max(axis=0)
    size = size.toarray().ravel() if sparse.issparse(size) else size
    unit = np.exp2(-np.ceil(np.log2(np.maximum(size.astype("float64") / top, 1.0))))
    unit = unit.astype(X.dtype)
    own = np.ones(problem.theta.shape[1])
    own[: problem.net.n_weights] = np.repeat(unit, k)

    def seen(monitor):
        return monitor and (lambda i, theta, value: monitor(i, theta * own, value))

    scaled = replace(
        problem,
        X=(X @ sparse.diags_array(unit)).tocsr() if sparse.issparse(X) else X * unit,
        theta=(problem.theta / own).astype(problem.dtype),
        monitors=problem.monitors and [seen(monitor) for monitor in problem.monitors],
    )
    result = solve(backend, scaled)
    return replace(result, theta=(result.theta * own).astype(problem.dtype))
