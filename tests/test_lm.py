"""Levenberg-Marquardt: derivatives, closed forms, stacks against separate fits, recovery."""

from dataclasses import replace
from types import SimpleNamespace

import array_api_compat.numpy as xp
import numpy as np
import pytest
import scipy.sparse as sp

from skdeep import network
from skdeep.activations import ACTIVATIONS
from skdeep.backends import get_backend
from skdeep.backends.base import Backend
from skdeep.initializers import INITIALIZERS
from skdeep.problem import Problem
from skdeep.solvers.full_batch import levenberg_marquardt as lm
from skdeep.solvers.full_batch.objective import load
from skdeep.stacking import solve_many, solve_stack

NUMPY = get_backend("numpy")


def start(net, seed):
    rng = np.random.RandomState(seed)
    drawn = [INITIALIZERS["auto"](rng, *shape, "tanh") for shape in zip(net.units, net.units[1:])]
    weights, intercepts = zip(*drawn, strict=True)
    return np.concatenate([a.ravel() for a in (*weights, *intercepts)])[None]


def make_problem(units=(2, 5, 1), n=40, seed=0, activation="tanh", l2=0.0, tol=1e-9, **changes):
    rng = np.random.RandomState(seed)
    net = network.build(units, "squared_error", activation)
    X = rng.randn(n, units[0])
    y = np.sin(X @ rng.randn(units[0], units[-1])) + 0.1 * rng.randn(n, units[-1])
    max_iter = changes.pop("max_iter", 200)
    hyper = {"l2": l2, "tol": tol, "max_iter": max_iter}
    return Problem(
        solver="lm",
        X=X,
        y=y,
        dtype="float64",
        theta=start(net, seed),
        net=net,
        hyper={name: np.array([[value]], dtype=float) for name, value in hyper.items()},
        **changes,
    )


def solve(problem, backend=NUMPY):
    return solve_many(backend, [problem])[0]


def objective(problem, theta):
    w = problem.row_weights() * np.ones((1, len(problem.X)))
    value, penalty, grad = network.value_and_grad(
        np,
        problem.net,
        theta,
        problem.X,
        problem.y,
        w / w.sum(),
        problem.hyper["l2"],
    )
    return (value + penalty)[0], np.abs(grad).max()


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"step"}))
@pytest.mark.parametrize("units", [(3, 2), (3, 4, 1), (3, 4, 5, 2)], ids=str)
def test_jacobian_against_central_differences(activation, units):
    rng = np.random.RandomState(0)
    net = network.build(units, "squared_error", activation)
    theta, X = 0.8 * rng.randn(2, net.n_parameters), rng.randn(7, 3)
    seed = rng.rand(2, 7)
    raw, J = lm.jacobian(xp, net, theta, X, seed)
    np.testing.assert_allclose(raw, network.forward(xp, net, theta, X), rtol=1e-12)
    step = 1e-6
    for j in range(theta.shape[1]):
        shift = step * (np.arange(theta.shape[1]) == j)
        up, down = (network.forward(xp, net, theta + s, X) for s in (shift, -shift))
        numeric = seed[..., None] * (up - down) / (2 * step)
        np.testing.assert_allclose(J[:, j], numeric.mT.reshape(2, -1), rtol=0, atol=1e-8)


def test_jacobian_without_intercepts():
    net = network.build((3, 4, 2), "squared_error", "tanh", intercept=False)
    rng = np.random.RandomState(0)
    theta, X = rng.randn(1, net.n_parameters), rng.randn(5, 3)
    _, J = lm.jacobian(xp, net, theta, X, np.ones((1, 1)))
    with_zeros = np.concatenate([theta, np.zeros((1, 6))], axis=1)
    net = network.build((3, 4, 2), "squared_error", "tanh")
    _, whole = lm.jacobian(xp, net, with_zeros, X, np.ones((1, 1)))
    np.testing.assert_array_equal(J, whole[:, :20])


@pytest.mark.parametrize("n", [6, 500], ids=["few rows", "many rows"])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_linearisation_in_blocks(monkeypatch, n, l2):
    """Value and gradient are those of backpropagation, the matrix is J Jᵀ, however it is cut."""
    problem = make_problem((3, 4, 2), n=n, l2=l2, weights=np.random.RandomState(1).rand(n))
    data = load(NUMPY, problem)
    monkeypatch.setattr(lm, "JACOBIAN_ENTRIES", 1)
    point, system = lm.linearise(NUMPY, problem.net, problem.theta, data)
    want = network.value_and_grad(
        np, problem.net, problem.theta, data.X, data.y, data.w, problem.hyper["l2"]
    )
    np.testing.assert_allclose(point.value, want[0] + want[1], rtol=1e-12)
    np.testing.assert_allclose(point.grad, want[2], rtol=1e-9, atol=1e-14)
    J, r = lm.weighted(xp, problem.net, problem.theta, data, slice(None))
    if system.A is None:
        np.testing.assert_array_equal(system.J, J)
        np.testing.assert_array_equal(system.r, r)
    else:
        np.testing.assert_allclose(system.A, J @ J.mT, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("damping", [1e-4, 1.0])
def test_both_forms_of_the_step_are_one(l2, damping):
    problem = make_problem((3, 4, 2), n=7, l2=l2)
    data = load(NUMPY, problem)
    point, small = lm.linearise(NUMPY, problem.net, problem.theta, data)
    whole = lm.System(small.J @ small.J.mT)
    scale = lm.rescale(xp, whole, data)
    np.testing.assert_allclose(lm.rescale(xp, small, data), scale, rtol=1e-12)
    size = np.array([damping])
    d, gain = zip(
        *(lm.direction(xp, point, lm.State(s, scale, size, size), data) for s in (small, whole)),
        strict=True,
    )
    np.testing.assert_allclose(d[0], d[1], rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(gain[0], gain[1], rtol=1e-8)
    # What the model promises, by its definition.
    H = whole.A[0] + np.diag(data.decay[0])
    promised = -point.grad[0] @ d[1][0] - 0.5 * d[1][0] @ H @ d[1][0]
    assert gain[1][0] == pytest.approx(promised, rel=1e-8)


@pytest.mark.parametrize("n", [60, 3], ids=["many rows", "few rows"])
def test_linear_network_is_ridge_regression(n):
    l2, weights = 0.2, np.random.RandomState(5).uniform(0.5, 2.0, n)
    problem = make_problem((4, 2), n=n, l2=l2, tol=1e-12, weights=weights)
    result = solve(problem)
    w = weights / weights.sum()
    X, y = (A - w @ A for A in (problem.X, problem.y))
    W = np.linalg.solve(X.T @ (w[:, None] * X) + l2 * np.eye(4), X.T @ (w[:, None] * y))
    b = w @ (problem.y - problem.X @ W)
    np.testing.assert_allclose(result.theta[0], [*W.ravel(), *b], rtol=1e-8, atol=1e-10)
    assert result.converged[0] and result.n_iter[0] < 15


def test_teacher_network_is_recovered():
    """Targets made by a small network are met to the rounding of the type, from most starts."""
    rng = np.random.RandomState(0)
    problem = make_problem((2, 3, 1), n=100, tol=0.0, max_iter=400)
    teacher = rng.randn(*problem.theta.shape)
    y = network.forward(np, problem.net, teacher, problem.X)[0]
    problems = [replace(problem, y=y, theta=start(problem.net, seed)) for seed in range(10)]
    results = solve_many(NUMPY, problems)
    losses = np.array([result.loss[0] for result in results])
    assert (losses < 1e-24).sum() >= 6
    best = results[losses.argmin()]
    X = rng.randn(50, 2)
    np.testing.assert_allclose(
        network.forward(np, problem.net, best.theta, X),
        network.forward(np, problem.net, teacher, X),
        atol=1e-10,
    )


def test_objective_is_that_of_the_other_solvers():
    """The curve never rises and ends at a stationary point of the shared objective."""
    problem = make_problem(
        n=80, l2=1e-3, tol=1e-7, max_iter=500, weights=np.random.RandomState(2).rand(80)
    )
    result = solve(problem)
    loss, steepest = objective(problem, result.theta)
    assert result.converged[0] and steepest <= 1e-7
    assert result.loss[0] == pytest.approx(loss, rel=1e-12)
    assert len(result.curve[0]) == result.n_iter[0] and result.curve[0][-1] == result.loss[0]
    assert (np.diff(result.curve[0]) <= 0).all()
    polished = solve(replace(problem, solver="lbfgs", theta=result.theta))
    assert polished.loss[0] >= result.loss[0] - 1e-10


def unlike(seed):
    """Models that share rows and shape, and differ in all else."""
    rng = np.random.RandomState(seed)
    return {
        "theta": 0.5 * rng.randn(1, 27),
        "hyper": {
            "l2": np.array([[10.0 ** -(1 + seed % 4)]]),
            "tol": np.array([[10.0 ** -(3 + seed % 3)]]),
            "max_iter": np.array([[10.0 + 7 * seed]]),
        },
        "rows": [rng.permutation(60)[: 40 + seed]],
        "weights": rng.rand(1, 60),
    }


@pytest.mark.parametrize("n", [60, 10], ids=["many rows", "few rows"])
@pytest.mark.parametrize("own_targets", [False, True])
def test_stack_is_separate_fits(n, own_targets):
    base = make_problem((3, 4, 2), n=60, max_iter=30)
    problems = []
    for seed in range(6):
        changes = unlike(seed)
        changes["theta"] = 0.5 * np.random.RandomState(seed).randn(*base.theta.shape)
        y = base.y + (seed * 0.1 if own_targets else 0.0)
        problems.append(replace(base, y=y if own_targets else base.y, **changes))
    if n == 10:
        X = base.X[:10]
        problems = [
            replace(p, X=X, y=p.y[:10], rows=[np.arange(7)], weights=p.weights[:, :10])
            for p in problems
        ]
        shared = problems[0].y
        problems = problems if own_targets else [replace(p, y=shared) for p in problems]
    together = solve_many(NUMPY, problems)
    assert len({int(result.n_iter[0]) for result in together}) > 2
    for problem, result in zip(problems, together, strict=True):
        alone = solve(problem)
        assert alone.n_iter[0] == result.n_iter[0] and alone.converged[0] == result.converged[0]
        np.testing.assert_allclose(result.theta, alone.theta, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(result.curve[0], alone.curve[0], rtol=1e-8)


def test_stack_in_pieces():
    base = make_problem(n=50, l2=0.01, max_iter=20)
    theta = np.concatenate([start(base.net, seed) for seed in range(5)])
    hyper = {name: np.repeat(values, 5, axis=0) for name, values in base.hyper.items()}
    problem = replace(base, theta=theta, hyper=hyper)
    pieces = solve_stack(NUMPY, problem, max_memory=2.5 * lm.memory(problem))
    np.testing.assert_allclose(pieces.theta, solve(problem).theta, rtol=1e-8, atol=1e-8)


def test_weights_are_repetitions():
    problem = make_problem(n=40, l2=0.01, max_iter=12)
    times = np.random.RandomState(0).randint(0, 4, 40)
    weighted = solve(replace(problem, weights=times.astype(float)))
    X, y = (np.repeat(A, times, axis=0) for A in (problem.X, problem.y))
    repeated = solve(replace(problem, X=X, y=y))
    np.testing.assert_allclose(weighted.theta, repeated.theta, rtol=1e-7, atol=1e-8)
    chosen = solve(replace(problem, rows=[np.arange(30)]))
    fewer = solve(replace(problem, X=problem.X[:30], y=problem.y[:30]))
    np.testing.assert_allclose(chosen.theta, fewer.theta, rtol=1e-7, atol=1e-8)


def test_sparse_rows_are_the_dense_ones():
    problem = make_problem(n=30, l2=0.01, max_iter=10)
    sparse = solve(replace(problem, X=sp.csr_array(problem.X)))
    np.testing.assert_allclose(sparse.theta, solve(problem).theta, rtol=1e-10)


def strict_backend():
    strict = pytest.importorskip("array_api_strict")
    return Backend("strict", "cpu", strict)


@pytest.mark.parametrize("n", [50, 8], ids=["many rows", "few rows"])
@pytest.mark.parametrize("name", ["torch", "strict"])
def test_other_backends_agree(name, n):
    if name == "torch":
        pytest.importorskip("torch")
    problem = make_problem((2, 4, 3, 2), n=n, l2=0.01, max_iter=15, weights=np.ones(n))
    problem = replace(
        problem,
        theta=np.concatenate([problem.theta, 0.5 * problem.theta]),
        hyper={key: np.repeat(value, 2, axis=0) for key, value in problem.hyper.items()},
    )
    problem.hyper["max_iter"][0] = 8
    other = solve(problem, strict_backend() if name == "strict" else get_backend("torch"))
    want = solve(problem)
    np.testing.assert_allclose(other.theta, want.theta, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(other.n_iter, want.n_iter)


def test_float32():
    problem = make_problem(n=50, l2=0.01, tol=1e-4)
    single = solve(replace(problem, dtype="float32"))
    assert single.theta.dtype == np.float32 and single.converged[0]
    assert single.loss[0] == pytest.approx(solve(problem).loss[0], rel=1e-3)


def test_units_of_the_inputs_do_not_matter():
    """Scaling a feature and its first weights inversely leaves every step what it was."""
    problem = make_problem(n=50, max_iter=25)
    factors = np.array([1e3, 1e-3])
    theta = problem.theta.copy()
    first = network.matrices(np, problem.net, theta)[0]
    first /= factors[:, None]
    scaled = solve(replace(problem, X=problem.X * factors, theta=theta))
    np.testing.assert_allclose(scaled.curve[0], solve(problem).curve[0], rtol=1e-6)


def test_monitor_sees_every_iteration_and_may_stop():
    seen = []

    def monitor(iteration, theta, loss):
        seen.append((iteration, theta.shape, loss))
        return iteration == 4

    result = solve(make_problem(monitors=[monitor]))
    assert [s[0] for s in seen] == [1, 2, 3, 4] and seen[0][1] == (21,)
    assert [s[2] for s in seen] == result.curve[0]
    assert result.n_iter[0] == 4


def test_stops_at_the_rounding_of_the_type():
    result = solve(make_problem(n=50, l2=0.01, tol=0.0, max_iter=2000))
    assert result.converged[0] and result.n_iter[0] < 500


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("size", [1e-8, 1e6])
def test_hard_starts(activation, size):
    """Dead, saturated and flat units end in finite numbers and no higher than they began."""
    problem = make_problem((2, 6, 6, 1), activation=activation, max_iter=50)
    problem = replace(problem, theta=size * problem.theta)
    result = solve(problem)
    assert np.isfinite(result.theta).all()
    assert result.loss[0] <= objective(problem, problem.theta)[0]
    still = solve(replace(problem, theta=0.0 * problem.theta))
    assert np.isfinite(still.theta).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_matrices(backend, dtype):
    """Rows that recur and units that are alike have singular matrices under vanishing damping."""
    problem = make_problem((2, 8, 1), n=3, max_iter=60, tol=0.0)
    X, y = np.repeat(problem.X, 3, axis=0), np.repeat(problem.y, 3, axis=0)
    problem = replace(problem, X=X, y=y, dtype=dtype)
    for theta in (problem.theta, np.full_like(problem.theta, 0.3)):
        result = solve(replace(problem, theta=theta), get_backend(backend))
        assert np.isfinite(result.theta).all() and result.loss[0] < 0.01
    chosen, singular = get_backend(backend), np.ones((1, 2, 2))
    solution = lm._solve(chosen.xp, chosen.asarray(singular), chosen.asarray(singular))
    assert np.isnan(chosen.to_numpy(solution)).all()


def test_non_finite_start_stops_and_spares_its_neighbours():
    problem = make_problem(l2=0.01)
    two = replace(
        problem,
        theta=np.concatenate([problem.theta, np.full_like(problem.theta, np.nan)]),
        hyper={key: np.repeat(value, 2, axis=0) for key, value in problem.hyper.items()},
    )
    result = solve(two)
    assert not np.isfinite(result.loss[1]) and not result.converged[1]
    np.testing.assert_allclose(result.theta[:1], solve(problem).theta, rtol=1e-8, atol=1e-9)


def test_refusals():
    problem = make_problem()
    poisson = replace(problem, net=network.build((2, 5, 1), "poisson", "tanh"))
    with pytest.raises(ValueError, match="loss='squared_error'"):
        solve(poisson)
    with pytest.raises(ValueError, match="batch_norm=False"):
        solve(replace(problem, net=network.build((2, 5, 1), "squared_error", batch_norm=True)))
    net = network.build((2000, 10, 1), "squared_error", "tanh")
    X = SimpleNamespace(shape=(50_000, 2000))
    large = replace(problem, net=net, X=X, theta=np.zeros((1, net.n_parameters)))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        lm.solve(NUMPY, large)
