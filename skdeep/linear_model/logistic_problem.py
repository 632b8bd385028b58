"""Logistic regression as a problem for the solvers: what ``solver`` means, targets, penalties."""

from typing import NamedTuple

import numpy as np

from ..array_api import mean_rows
from ..network import Network, build
from ..problem import Problem, cancel
from ..processes import active
from ..solvers import Solver
from ..stochastic import STOCHASTIC_SOLVERS, column, decouples, settings

_ADVICE = """
You might also want to scale the data as shown in:
    https://scikit-learn.org/stable/modules/preprocessing.html
Please also refer to the documentation for alternative solver options:
    https://scikit-learn.org/stable/modules/linear_model.html#logistic-regression"""

_MORE = "\nIncrease the number of iterations to improve the convergence (max_iter={max_iter})."

_SAG_MESSAGE = "The max_iter was reached which means the coef_ did not converge"


_OWN_MESSAGE = "The solver failed to converge after {n_iter} iteration(s).{more}"


class Algorithm(NamedTuple):
    """What serves a value of ``solver``, and what it accepts.

    Parameters
    ----------
    smooth : str or Solver
        For an L2 penalty or none: a name in ``skdeep.solvers.SOLVERS``, or a solver.
    penalties : tuple of str or None
    message : str
        Of the ConvergenceWarning; see :meth:`warning`.
    multinomial, dual : bool
    """

    smooth: str | Solver
    penalties: tuple
    message: str
    multinomial: bool = True
    dual: bool = False

    def warning(self, n_iter: int, max_iter: int, loss: float) -> str:
        """The message; more iterations would not help a fit that has not used up what it had."""
        more = _MORE.format(max_iter=max_iter) if n_iter >= max_iter else ""
        return self.message.format(n_iter=n_iter, max_iter=max_iter, loss=loss, more=more)


ALGORITHMS = {
    "lbfgs": Algorithm(
        "lbfgs",
        ("l2", None),
        "lbfgs failed to converge after {n_iter} iteration(s):\nthe largest entry of the gradient "
        "is above tol.\n{more}" + _ADVICE,
    ),
    "newton-cg": Algorithm(
        "newton",
        ("l2", None),
        "newton-cg failed to converge at loss = {loss}. Increase the number of iterations.",
    ),
    "newton-cholesky": Algorithm(
        "newton", ("l2", None), "Newton solver did not converge after {n_iter} iterations."
    ),
    "liblinear": Algorithm(
        "newton",
        ("l2", "l1"),
        "Liblinear failed to converge, increase the number of iterations.",
        multinomial=False,
        dual=True,
    ),
    "sag": Algorithm("lbfgs", ("l2", None), _SAG_MESSAGE),
    "saga": Algorithm("lbfgs", ("l2", "l1", "elasticnet", None), _SAG_MESSAGE),
} | {
    name: Algorithm(
        "minibatch",
        # A decay apart from the gradient is that of an L2 penalty, and of no other.
        ("l2", None) if decouples(name) else ("l2", "l1", "elasticnet", None),
        "Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the optimization hasn't "
        "converged yet.",
    )
    for name in STOCHASTIC_SOLVERS
}


def algorithm_of(solver: str | Solver) -> Algorithm:
    """What serves a solver, which may be one of the user's own, or an optimizer."""
    if isinstance(solver, Solver):
        return Algorithm(solver, ("l2", None), _OWN_MESSAGE)
    if isinstance(solver, str):
        return ALGORITHMS[solver]
    return ALGORITHMS["adamw" if decouples(solver) else "sgd"]


def check_solver(solver: str | Solver, penalty: str | None, dual: bool) -> None:
    """Raise scikit-learn's errors for combinations that do not exist."""
    algorithm = algorithm_of(solver)
    if penalty == "elasticnet" and solver == "liblinear":
        raise ValueError(f"Only 'saga' solver supports elasticnet penalty, got solver={solver}.")
    if penalty is None and solver == "liblinear":
        raise ValueError(
            "C=np.inf as well as penalty=None is not supported for the liblinear solver"
        )
    if penalty not in algorithm.penalties:
        raise ValueError(
            f"Solver {solver} supports only 'l2' or None penalties, got {penalty} penalty."
        )
    if dual and not algorithm.dual:
        raise ValueError(f"Solver {solver} supports only dual=False, got dual={dual}")


class Penalty(NamedTuple):
    """The penalty asked for: its name, and the two numbers that it stands for."""

    name: str | None
    C: float
    l1_ratio: float


def check_n_classes(solver: str, classes) -> None:
    """Raise scikit-learn's errors for too few or too many classes."""
    if len(classes) < 2:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains "
            f"only one class: {classes[0]!r}"
        )
    if len(classes) > 2 and not algorithm_of(solver).multinomial:
        raise ValueError(
            f"The '{solver}' solver does not support multiclass classification (n_classes >= 3). "
            "Either use another solver or wrap the estimator in a OneVsRestClassifier to keep "
            "applying a one-versus-rest scheme."
        )


def indicators(codes: np.ndarray, n_classes: int, dtype: str) -> np.ndarray:
    """Targets of shape (n, k), class-major in memory; k is 1 for two classes."""
    if n_classes == 2:
        return (codes == 1).astype(dtype)[:, None]
    return (codes[None, :] == np.arange(n_classes)[:, None]).astype(dtype).T


def make_net(n_features: int, n_classes: int, fit_intercept: bool) -> Network:
    if n_classes == 2:
        return build((n_features, 1), "binary_log_loss", intercept=fit_intercept)
    return build((n_features, n_classes), "log_loss", intercept=fit_intercept)


def total_weight(weights: np.ndarray, codes: np.ndarray, net: Network) -> float:
    """The sum of row weights, by which a penalty is divided; raises if there is no minimum.

    Under weights that sum to less than nothing, those of a class alone if there is an intercept,
    the objective falls without end.
    """
    total, of_class = float(active().total(weights.sum())), np.zeros(1)
    if net.intercept:
        of_class = active().total(np.bincount(codes, weights, minlength=max(net.units[1], 2)))
    if total < 0 or cancel(weights) or of_class.min() < 0:
        raise ValueError(
            f"sample_weight, times class_weight, sums to {total:g} over the rows to train on, and "
            f"to {of_class.min():g} over those of one class: the objective has no minimum unless "
            "the sums are positive."
        )
    return total


def make_problem(
    X,
    codes: np.ndarray,
    n_classes: int,
    penalties: list[Penalty],
    *,
    solver: str | Solver,
    dtype: str,
    tol: float,
    max_iter: int,
    fit_intercept: bool,
    intercept_scaling: float,
    weights: np.ndarray | None = None,
    rows: list | None = None,
    theta: np.ndarray | None = None,
) -> Problem:
    """The problem of a stack of models over the same data, one for each penalty.

    Parameters
    ----------
    codes : int array of shape (n,)
        Classes of the rows.
    penalties : list of M Penalty
        Either all or none with an L1 part.
    weights : array of shape (n,), optional
    rows : list of M int arrays, optional
        The rows of each model; all of them if None.
    theta : array of shape (M, P), optional
        Where to start; zero if None.
    """
    M, n = len(penalties), X.shape[0]
    net = make_net(X.shape[1], n_classes, fit_intercept)
    if solver == "liblinear" and weights is not None:
        weights = np.maximum(weights, 0.0)  # liblinear leaves rows of negative weight out
    w = np.ones(n) if weights is None else weights
    rows_of = rows or [slice(None)] * M
    total = np.asarray([total_weight(w[r], codes[r], net) for r in rows_of])
    strength = 1.0 / (np.asarray([penalty.C for penalty in penalties]) * total)
    ratio = np.asarray([penalty.l1_ratio for penalty in penalties], dtype=float)
    hyper = {"l2": strength * (1.0 - ratio), "tol": tol, "max_iter": max_iter}
    if ratio.any():
        hyper["l1"] = strength * ratio
    if solver == "liblinear":
        # Its intercept is the weight v of a constant feature s: b = s v, penalised as v = b / s.
        hyper["l2_intercept"] = hyper["l2"] / intercept_scaling**2
        if ratio.any():
            hyper["l1_intercept"] = hyper["l1"] / intercept_scaling
        hyper["tol"] = tol * _liblinear_scale(X, codes, w, rows, M)
    columns = {name: np.broadcast_to(value, M)[:, None] for name, value in hyper.items()}
    return Problem(
        solver="proximal" if ratio.any() else algorithm_of(solver).smooth,
        X=X,
        y=indicators(codes, n_classes, dtype),
        dtype=dtype,
        theta=np.zeros((M, net.n_parameters), dtype=dtype) if theta is None else theta,
        net=net,
        hyper={name: np.array(column, dtype="float64") for name, column in columns.items()},
        weights=weights,
        rows=rows,
    )


def make_stochastic_problem(
    estimator, X, codes: np.ndarray, penalty: Penalty, dtype: str, *, weights, theta, rng, training,
    incremental: bool, checkpoint,
) -> Problem:  # fmt: skip
    """The problem of one model that mini-batches train, as the estimator's parameters say.

    Every batch has the penalty of all rows, so that a step follows, on average, the gradient of the
    objective divided by the sum of the row weights.

    Parameters
    ----------
    training : dict or None
        What earlier training left.
    incremental : bool
        Whether to make a single epoch.
    checkpoint : Record or None
        Where the fit is written down.
    """
    n_classes, n_rows = len(estimator.classes_), active().total(X.shape[0])
    net = make_net(X.shape[1], n_classes, estimator.fit_intercept)
    total = float(n_rows) if weights is None else total_weight(weights, codes, net)
    # Decay that is apart from the gradient is not divided by anything later.
    alpha = 1.0 / penalty.C / (total if decouples(estimator.solver) else 1.0)
    hyper, options = settings(estimator, net, n_rows, alpha, penalty.l1_ratio, incremental)
    return Problem(
        solver="minibatch",
        X=X,
        y=indicators(codes, n_classes, dtype),
        dtype=dtype,
        theta=np.zeros((1, net.n_parameters), dtype=dtype) if theta is None else theta,
        net=net,
        hyper=hyper | {"penalty_rows": column(total)},
        options=options,
        weights=weights,
        rngs=[rng],
        states=[training],
        checkpoint=checkpoint,
    )


def _liblinear_scale(X, codes, w, rows, M) -> np.ndarray:
    """What liblinear's tolerance is relative to: gradient at zero times the rarer class's share."""
    out = []
    for r in rows or [slice(None)]:
        kept = np.zeros_like(w)
        kept[r] = w[r]
        gradient = np.abs(mean_rows(kept / kept.sum() * (0.5 - codes), X)).max()
        counts = np.bincount(codes[r], minlength=2)
        out.append(gradient * max(counts.min(), 1) / counts.sum())
    return np.broadcast_to(out, M)
