"""Linear discriminant analysis (Fisher, 1936) from class-wise moments of the rows.

All of it rests on one whitening ``L`` of the covariance within the classes: ``Lᵀ Σ L = I``, and so
``Σ⁻¹ = L Lᵀ``. Models that share their rows share its basis: ``L = basis * scale``, where only the
scale depends on shrinkage and tolerance. It is zero along directions that are not significant.

Options of the problem: ``rule`` ("svd", "lsqr" or "eigen"), ``n_classes``, ``covariance`` (None,
"auto" or an estimator with ``fit`` and ``covariance_``), ``store_covariance`` and ``project``
(whether projections are wanted, which cost the rule "eigen" another eigendecomposition). ``n_jobs``
threads share parts of the rows and groups of models.
Hyper-parameters: ``shrinkage``, ``tol`` and, unless the classes' frequencies are the priors,
``priors`` of shape (M, K). Targets are class indices of shape (n, 1).
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...problem import Problem, Result
from ...threads import in_threads
from .covariances import estimated, identity_like, ledoit_wolf
from .moments import Moments, Reader, class_moments, merge, row_sets, thin_moments, total_scatter

# Rounding of an eigenvalue of a Gram matrix, in units of eps times the largest one, as measured;
# and the relative accuracy that the significant eigenvalues must have.
ROUNDING, ACCURACY = 8.0, 1e-9

# A covariance with shrinkage a has a condition number of at most p / a, unless it is zero.
SAFE_CONDITION = 1e6


class Whitening(NamedTuple):
    """``basis * scale[m]`` of model m maps the covariance to the identity.

    Parameters
    ----------
    basis : array of shape (p, r)
        Most significant directions first.
    scale : array of shape (m, r)
        Zero for the directions that a model discards.
    """

    basis: Any
    scale: Any


class Group(NamedTuple):
    """What models share that train on the same rows with the same priors.

    Parameters
    ----------
    moments : Moments
    priors : array of shape (K,)
    covariance : array of shape (p, p) or None
        Covariance within the classes, weighted by the priors, before shrinkage.
    total : array of shape (p, p) or None
        Covariance of all rows, for the rule "eigen".
    variance : array of shape (p,)
        Variance of each feature within the classes.
    axes : callable or None
        ``axes(std)``: principal axes from the rows themselves; None where they are not at hand.
    shrinkage, tol : array of shape (m, 1)
    """

    moments: Moments
    priors: Any
    covariance: Any
    total: Any
    variance: Any
    axes: Callable | None
    shrinkage: Any
    tol: Any


def memory(problem: Problem) -> float:
    """Bytes that one model works on: Gram matrices and their eigenvectors."""
    p = problem.X.shape[1]
    matrices = 6 + (problem.options["n_classes"] if _each_class(problem) else 1)
    return 8.0 * matrices * p * p


def _each_class(problem: Problem) -> bool:
    """Whether the classes' covariances are weighted by anything but their counts."""
    given = "priors" in problem.hyper
    uses = problem.options["rule"] != "svd" or problem.options["store_covariance"]
    return problem.options["covariance"] == "auto" or (given and uses)


def _is_thin(problem: Problem, sets) -> bool:
    """Whether svd can do without matrices of shape (p, p): there are fewer rows than features."""
    n, p = problem.X.shape
    return (
        problem.n_rows == n  # those of other processes are not at hand
        and problem.options["rule"] == "svd"
        and problem.states is None
        and not problem.options["store_covariance"]
        and not np.any(problem.hyper["shrinkage"] > 0)
        and max(sets.sizes(n)) < p
    )


def solve(backend, problem: Problem) -> Result:
    """Fit all models.

    ``theta`` is in the type that moments have, whatever the problem's: far from zero, classes
    differ in digits that single precision lacks. The means and priors come in the problem's.

    ``states`` are the moments of earlier rows, None for a model without any, and come back with
    the rows of this problem added; they come back as None if no matrix (p, p) was made.

    ``extra`` holds ``priors`` (M, K), ``means`` (M, K, p), ``rank`` (M,), ``xbar`` (M, p),
    ``scalings`` (M, p, r) with zero columns behind the ``n_scalings`` (M,),
    ``explained_variance_ratio`` (M, K), and ``covariance`` (M, p, p) if it is to be stored.
    """
    xp, options = backend.xp, problem.options
    labels, K, M = problem.y[:, 0], problem.options["n_classes"], problem.n_models
    n_threads = options.get("n_jobs") or 1
    sets, reader = row_sets(problem), Reader(backend, problem.X, n_threads)
    moments = None
    if not _is_thin(problem, sets):
        by_set = class_moments(reader, labels, K, sets, _each_class(problem))
        moments = [by_set[d] for d in sets.which]
        if problem.states is not None:
            earlier = [s and Moments(*map(reader.place, s)) for s in problem.states]
            moments = [merge(xp, a, b) if a else b for a, b in zip(earlier, moments)]

    def fit(models):
        rows, weights = sets.rows_of(sets.which[models[0]])
        if moments is None:
            group = _thin_group(problem, reader, labels, rows, weights, models)
        else:
            m = moments[models[0]]
            group = _group(problem, reader, labels, rows, weights, models, m)
        _refuse_overflow(xp, group)
        return RULES[options["rule"]](xp, group, options)

    found: dict = {}
    groups = _alike(problem, sets.which)
    work = 10.0 * len(groups) * problem.X.shape[1] ** 3  # of eigendecompositions
    for models, fitted in zip(groups, in_threads(fit, groups, n_threads, work), strict=True):
        for name, values in fitted.items():
            values = backend.to_numpy(values)
            if name not in found:
                dtype = problem.dtype if name in ("means", "priors") else values.dtype
                found[name] = np.zeros((M, *values.shape[1:]), dtype)
            found[name][models] = values

    coef, intercept = found.pop("coef"), found.pop("intercept")
    if K == 2:
        coef, intercept = coef[:, 1:] - coef[:, :1], intercept[:, 1:] - intercept[:, :1]
    theta = np.concatenate([np.swapaxes(coef, 1, 2).reshape(M, -1), intercept], axis=1)
    return Result(
        theta=theta,
        n_iter=np.ones(M, dtype=int),
        loss=np.full(M, np.nan),
        converged=np.ones(M, dtype=bool),
        states=moments and [Moments(*map(backend.to_numpy, m)) for m in moments],
        extra=found,
    )


def _refuse_overflow(xp, group: Group) -> None:
    """Raise before LAPACK does, each in other words and some not at all."""
    matrices = group.variance, group.covariance, group.total
    if not all(matrix is None or bool(xp.all(xp.isfinite(matrix))) for matrix in matrices):
        raise ValueError(
            "The covariance of the features overflows: the input data contain large values and "
            "need to be preprocessed."
        )


def _alike(problem: Problem, which):
    """Models by rows and priors, and by shrinkages that have no basis in common."""
    groups, p = defaultdict(list), problem.X.shape[1]
    for m, shrinkage in enumerate(problem.hyper["shrinkage"][:, 0]):
        source = which[m] if problem.states is None else m
        priors = problem.hyper["priors"][m].tobytes() if "priors" in problem.hyper else None
        shares = problem.options["rule"] == "lsqr" or _is_safe(p, shrinkage)
        groups[source, priors, None if shares else shrinkage].append(m)
    return list(groups.values())


def _numbers(problem, reader, models, counts):
    """Priors, shrinkages and tolerances of models that share the priors."""
    hyper, n = problem.hyper, reader.backend.xp.sum(counts)
    priors = reader.place(hyper["priors"][models[0]]) if "priors" in hyper else counts / n
    return priors, reader.place(hyper["shrinkage"][models]), reader.place(hyper["tol"][models])


def _group(problem, reader, labels, rows, weights, models, moments) -> Group:
    xp, options = reader.backend.xp, problem.options
    counts, _, scatter = moments
    n = xp.sum(counts)
    priors, shrinkage, tol = _numbers(problem, reader, models, counts)
    eigen, estimate = options["rule"] == "eigen", options["covariance"]
    pooled = xp.sum(scatter, axis=0) / n
    if estimate == "auto":
        covariance, total = ledoit_wolf(reader, labels, moments, priors, rows, weights, eigen)
    elif estimate is not None:
        covariance, total = estimated(reader, estimate, labels, priors, rows, weights, eigen)
    else:
        covariance, total = pooled, total_scatter(xp, moments) / n if eigen else None
        if scatter.shape[0] > 1:
            share = priors / xp.where(counts > 0, counts, xp.ones_like(counts))
            covariance = xp.tensordot(share, scatter, axes=1)

    def axes(std):
        return _tall_axes(reader, labels, moments, rows, weights, std)

    at_hand = axes if problem.states is None else None
    variance = xp.linalg.diagonal(pooled)
    return Group(moments, priors, covariance, total, variance, at_hand, shrinkage, tol)


def _thin_group(problem, reader, labels, rows, weights, models) -> Group:
    xp, K = reader.backend.xp, problem.options["n_classes"]
    moments, root = thin_moments(reader, labels, K, rows, weights)
    root = root / xp.sqrt(xp.sum(moments.counts))
    priors, shrinkage, tol = _numbers(problem, reader, models, moments.counts)

    def axes(std):
        return _wide_axes(xp, root / std, xp.min(tol))

    return Group(moments, priors, None, None, xp.sum(root * root, axis=0), axes, shrinkage, tol)


def shrink(xp, covariance, shrinkage):
    """``(1 - a) Σ + a tr(Σ) / p I``; the shrinkage broadcasts."""
    level = xp.sum(xp.linalg.diagonal(covariance) / covariance.shape[0])
    return (1.0 - shrinkage) * covariance + shrinkage * level * identity_like(xp, covariance)


def whiten(xp, covariance, shrinkage) -> Whitening:
    """Whitening by the axes of the covariance, which are those of all its shrunk forms.

    The eigenvalues of ``(1 - a) Σ + a tr(Σ) / p I`` are ``(1 - a) λ + a mean(λ)``. Those at the
    level of rounding are discarded, so that the whitening gives a pseudo-inverse. A single model
    that is shrunk so far that none is, needs only a Cholesky factor.
    """
    if _is_regular(xp, covariance, shrinkage):
        factor = xp.linalg.cholesky(shrink(xp, covariance, shrinkage))
        basis = xp.matrix_transpose(xp.linalg.inv(factor))
        return Whitening(basis, xp.ones_like(basis[:1, :]))
    values, basis = xp.linalg.eigh(covariance)
    values = (1.0 - shrinkage) * values + shrinkage * xp.mean(values)
    rounding = values.shape[1] * xp.finfo(values.dtype).eps * xp.max(xp.abs(values), axis=1)
    scale = _inverse_root(xp, values, values > rounding[:, None])
    return Whitening(xp.flip(basis, axis=1), xp.flip(scale, axis=1))


def _is_safe(p: int, shrinkage: float) -> bool:
    """Whether the shrinkage alone bounds the condition of a covariance."""
    return p <= SAFE_CONDITION * shrinkage


def _is_regular(xp, covariance, shrinkage) -> bool:
    """Whether there is a single model, and its covariance is far from singular."""
    return (
        shrinkage.shape[0] == 1
        and _is_safe(covariance.shape[0], float(shrinkage[0, 0]))
        and float(xp.linalg.trace(covariance)) > 0.0
    )


def whiten_scaled(xp, covariance, shrinkage) -> Whitening:
    """The same for a group of models, by features of unit variance where shrinkages are small.

    Features of little variance would drown in the rounding of others.
    """
    if _is_safe(covariance.shape[0], float(xp.min(shrinkage))):
        return whiten(xp, covariance, shrinkage)
    covariance = shrink(xp, covariance, shrinkage[0, 0])
    variance = xp.linalg.diagonal(covariance)
    std = xp.sqrt(xp.where(variance > 0, variance, xp.ones_like(variance)))
    basis, scale = whiten(xp, covariance / std[:, None] / std, xp.zeros_like(shrinkage))
    return Whitening(basis / std[:, None], scale)


def whiten_standardised(xp, group: Group) -> Whitening:
    """Whitening by the principal axes of standardised rows with singular values above ``tol``.

    The eigenvalues of the Gram matrix are squares of the singular values, so that one near ``tol``
    may drown in rounding. Where one does, the rows themselves are decomposed, if they are at hand.
    """
    rounding = (
        4.0 * xp.finfo(group.variance.dtype).eps * xp.max(xp.abs(group.moments.means), axis=0)
    )
    varies = group.variance > rounding * rounding
    std = xp.sqrt(xp.where(varies, group.variance, xp.ones_like(group.variance)))
    if group.covariance is None:
        squares, basis = group.axes(std)
    else:
        pooled = xp.sum(group.moments.scatter, axis=0) / xp.sum(group.moments.counts)
        squares, basis = xp.linalg.eigh(pooled / (std[:, None] * std))
        if group.axes is not None and is_doubtful(xp, squares, xp.min(group.tol)):
            squares, basis = group.axes(std)
    kept = (squares > 0.0) & (squares > group.tol * group.tol)
    scale = _inverse_root(xp, squares, kept)
    return Whitening(xp.flip(basis, axis=1) / std[:, None], xp.flip(scale, axis=1))


def _inverse_root(xp, values, kept):
    """``values ** -0.5`` of those kept, zero of the others; shape (m, r) of ``kept``."""
    one = xp.ones_like(values)
    roots = one / xp.sqrt(xp.where(values > 0.0, values, one))
    return xp.where(kept, roots, xp.zeros_like(roots))


def is_doubtful(xp, squares, tol) -> bool:
    """Whether rounding blurs an eigenvalue of a Gram matrix that may be significant."""
    rounding = ROUNDING * xp.finfo(squares.dtype).eps * xp.max(squares)
    return bool(xp.any((squares > tol * tol - rounding) & (squares < rounding / ACCURACY)))


def _tall_axes(reader, labels, moments, rows, weights, std):
    """Squared singular values, ascending, and axes of standardised rows, more rows than features.

    Blocks of rows are folded into one triangular factor.
    """
    backend, xp = reader.backend, reader.backend.xp
    n, R = float(xp.sum(moments.counts)), None
    for chosen, w in reader.blocks(rows, weights, at_least=4 * std.shape[0]):
        of = backend.asarray(labels[chosen])
        x = (reader.rows(chosen) - xp.take(moments.means, of, axis=0)) / std
        w = np.ones(x.shape[0]) if w is None else w
        x = x * reader.place(np.sqrt(w / n))[:, None]
        R = xp.linalg.qr(x if R is None else xp.concat([R, x])).R
    if backend.processes.size > 1:
        R = xp.linalg.qr(backend.joined(R)).R
    return _ascending(xp, R)


def _wide_axes(xp, rows, tol):
    """The same for fewer rows than features, from the products of the rows with each other."""
    squares, left = xp.linalg.eigh(rows @ xp.matrix_transpose(rows))
    if is_doubtful(xp, squares, tol):
        return _ascending(xp, rows)
    basis = xp.matrix_transpose(rows) @ left
    return squares, basis * _inverse_root(xp, squares, squares > tol * tol)


def _ascending(xp, rows):
    _, singular, right = xp.linalg.svd(rows, full_matrices=False)
    return xp.flip(singular * singular), xp.flip(xp.matrix_transpose(right), axis=1)


def _log(xp, priors):
    """Logarithms: minus infinity for a class that is never expected."""
    logs = xp.log(xp.where(priors > 0, priors, xp.ones_like(priors)))
    return xp.where(priors > 0, logs, xp.full_like(priors, -xp.inf))


def _bayes(xp, group: Group, white: Whitening) -> dict:
    """Scores ``x Σ⁻¹ μ - μ Σ⁻¹ μ / 2 + log π`` of Gaussian classes with one covariance."""
    half = (group.moments.means @ white.basis)[None, ...] * white.scale[:, None, :]
    # As one product: the models' own have few rows.
    flat = xp.reshape(half * white.scale[:, None, :], (-1, half.shape[2]))
    coef = xp.reshape(flat @ xp.matrix_transpose(white.basis), (*half.shape[:2], -1))
    intercept = _log(xp, group.priors) - 0.5 * xp.sum(half * half, axis=2)
    return {"coef": coef, "intercept": intercept}


def lsqr(xp, group: Group, options) -> dict:
    """Bayes' rule; where the covariance is singular, by its pseudo-inverse."""
    covariance, means = group.covariance, group.moments.means
    if not _is_regular(xp, covariance, group.shrinkage):
        white = whiten(xp, covariance, group.shrinkage)
        return _bayes(xp, group, white) | _common(xp, group, options)
    shrunk = shrink(xp, covariance, group.shrinkage[0, 0])
    coef = xp.matrix_transpose(xp.linalg.solve(shrunk, xp.matrix_transpose(means)))
    intercept = _log(xp, group.priors) - 0.5 * xp.sum(coef * means, axis=1)
    return {"coef": coef[None, ...], "intercept": intercept[None, ...]} | _common(
        xp, group, options
    )


def eigen(xp, group: Group, options) -> dict:
    """The same rule, and Fisher's axes v, ``(Σ_total - Σ) v = λ Σ v``."""
    white = whiten_scaled(xp, group.covariance, group.shrinkage)
    ranks = xp.count_nonzero(white.scale, axis=1)
    found = _bayes(xp, group, white) | _common(xp, group, options) | {"rank": ranks}
    if not options["project"]:
        return found
    K, between = group.priors.shape[0], group.total - group.covariance
    scalings, ratios = [], []
    for m in range(white.scale.shape[0]):
        r = int(ranks[m])
        L = white.basis[:, :r] * white.scale[m, :r]
        shrunk = shrink(xp, between, group.shrinkage[m, 0])
        values, axes = xp.linalg.eigh(xp.matrix_transpose(L) @ shrunk @ L)
        axes = xp.flip(L @ axes, axis=1)
        # Models differ in rank: zeros fill up.
        scalings.append(xp.concat([axes, xp.zeros_like(white.basis[:, r:])], axis=1))
        total = xp.sum(values)
        share = values / xp.where(total != 0, total, xp.ones_like(total))
        ratio = xp.concat([xp.flip(share), xp.zeros_like(group.priors)])
        ratios.append(ratio[:K])
    return found | {
        "scalings": xp.stack(scalings),
        "explained_variance_ratio": xp.stack(ratios),
        "n_scalings": ranks,
    }


def svd(xp, group: Group, options) -> dict:
    """Fisher's axes by the singular values of the whitened class means (Hastie et al., 2009)."""
    (counts, means, _), priors, K = group.moments, group.priors, group.priors.shape[0]
    if bool(xp.any(group.shrinkage > 0)):
        pooled = xp.sum(group.moments.scatter, axis=0) / xp.sum(counts)
        white = whiten_scaled(xp, pooled, group.shrinkage)
    else:
        white = whiten_standardised(xp, group)
    xbar = priors @ means
    centred = ((means - xbar) @ white.basis)[None, ...] * white.scale[:, None, :]
    between = xp.sqrt(xp.sum(counts) * priors / max(K - 1, 1))[:, None] * centred
    # The signs are LAPACK's, and mostly those that the SVD of the rows would lead to.
    _, singular, right = xp.linalg.svd(between, full_matrices=False)
    kept = singular > group.tol * singular[:, :1]
    axes = right * xp.astype(kept, right.dtype)[..., None]
    scalings = white.basis @ xp.matrix_transpose(axes * white.scale[:, None, :])
    coordinates = centred @ xp.matrix_transpose(axes)
    coef = coordinates @ xp.matrix_transpose(scalings)
    half = 0.5 * xp.sum(coordinates * coordinates, axis=2)
    squares = singular * singular
    total = xp.sum(squares, axis=1, keepdims=True)
    return {
        "coef": coef,
        "intercept": _log(xp, priors) - half - coef @ xbar,
        "xbar": xp.broadcast_to(xbar, (coef.shape[0], xbar.shape[0])),
        "scalings": scalings,
        "n_scalings": xp.count_nonzero(kept, axis=1),
        "rank": xp.count_nonzero(white.scale, axis=1),
        "explained_variance_ratio": squares / xp.where(total > 0, total, xp.ones_like(total)),
    } | _common(xp, group, options)


def _common(xp, group: Group, options) -> dict:
    m, means = group.shrinkage.shape[0], group.moments.means
    found = {
        "means": xp.broadcast_to(means, (m, *means.shape)),
        "priors": xp.broadcast_to(group.priors, (m, *group.priors.shape)),
    }
    if options["store_covariance"]:
        found["covariance"] = shrink(xp, group.covariance, group.shrinkage[..., None])
    return found


RULES = {"lsqr": lsqr, "eigen": eigen, "svd": svd}


def reads(problem: Problem) -> tuple[set[str], set[str]]:
    """Names of hyper-parameters and options."""
    hyper = {"shrinkage", "tol", "priors"}
    return hyper, {"rule", "n_classes", "covariance", "store_covariance", "project"}
