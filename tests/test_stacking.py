"""A stack of unlike models gives what separate fits give."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skdeep import network
from skdeep.backends import get_backend
from skdeep.neural_network import MLPRegressor
from skdeep.optimizers import OPTIMIZERS
from skdeep.problem import Problem, Validation
from skdeep.schedules import Adaptive, Constant
from skdeep.solvers import SOLVERS
from skdeep.solvers.minibatch import step as minibatch
from skdeep.stacking import solve_many, solve_stack, stack, unstack

SEEDS = range(7)


def training_problem(X, Y, seed, *, early_stopping=False, weighted=False, **options):
    """A small net on its own rows, with its own seed, decay, rate and patience."""
    rng = np.random.RandomState(seed)
    net = network.build((X.shape[1], 8, Y.shape[1]), "log_loss", "tanh")
    rows = rng.permutation(len(X))[: 150 + 13 * seed]
    held_out = rng.permutation(len(X))[:40]
    truth = Y[held_out].argmax(axis=1)
    hyper = {
        "l2": 10.0 ** -(seed % 4),
        "learning_rate_init": 0.01 * (1 + seed),
        "max_iter": 5 + seed,
        "planned_epochs": 20,
        "tol": 1e-2,
        "n_iter_no_change": 1 + seed % 3,
    }
    of_optimizer = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8, "momentum": 0.5}
    reads = OPTIMIZERS[options.get("optimizer", "adam")].hyper
    hyper |= {name: of_optimizer[name] for name in reads}
    return Problem(
        solver="minibatch",
        X=X,
        y=Y,
        dtype="float64",
        theta=0.1 * rng.randn(1, net.n_parameters),
        net=net,
        hyper={name: np.array([[float(value)]]) for name, value in hyper.items()},
        options={
            "optimizer": "adam",
            "schedule": Constant(),
            "batch_size": 32,
            "shuffle": True,
            "loss_scale": 1.0,
            "early_stopping": early_stopping,
            "verbose": False,
            **options,
        },
        weights=np.random.RandomState(seed).rand(1, len(X)) if weighted else None,
        rows=[rows],
        rngs=[np.random.RandomState(seed)],
        validation=[
            Validation(
                X=X,
                rows=held_out,
                y=Y[held_out],
                score=lambda p: (p.argmax(axis=1) == truth).mean(),
            )
        ]
        if early_stopping
        else None,
        states=[None],
    )


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:400] / 16.0, (y[:400, None] == np.arange(10)).astype(float)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"optimizer": "nesterov"},
        {"optimizer": "sgd", "schedule": Adaptive()},
        {"early_stopping": True},
        {"weighted": True},
        {"shuffle": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_stack_of_seven_unlike_models(digits, case, backend):
    if backend == "torch":
        pytest.importorskip("torch")
    backend = get_backend(backend)

    def problems():
        return [training_problem(*digits, seed, **case) for seed in SEEDS]

    together = solve_many(backend, problems())
    assert stack(problems()).n_models == 7
    for problem, result in zip(problems(), together, strict=True):
        (alone,) = solve_many(backend, [problem])
        np.testing.assert_allclose(result.theta, alone.theta, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(result.curve[0], alone.curve[0], rtol=1e-8)
        assert result.n_iter == alone.n_iter
        assert result.converged == alone.converged
        assert result.states[0]["samples"] == alone.states[0]["samples"]
    assert len({int(r.n_iter[0]) for r in together}) > 1, "the models should end at other epochs"


def test_memory_bound_cuts_the_stack_and_changes_nothing(digits):
    backend = get_backend("numpy")
    whole = solve_stack(backend, stack([training_problem(*digits, s) for s in SEEDS]))
    in_pieces = solve_stack(
        backend, stack([training_problem(*digits, s) for s in SEEDS]), max_memory=2e5
    )
    np.testing.assert_allclose(in_pieces.theta, whole.theta, rtol=1e-8)
    assert len(in_pieces.curve) == 7


def test_take_and_unstack_undo_stack(digits):
    problems = [training_problem(*digits, seed, weighted=True) for seed in SEEDS]
    together = stack(problems)
    for i, problem in enumerate(problems):
        one = together.take(slice(i, i + 1))
        np.testing.assert_array_equal(one.theta, problem.theta)
        np.testing.assert_array_equal(one.rows[0], problem.rows[0])
        np.testing.assert_array_equal(one.weights, problem.weights)
    result = solve_stack(get_backend("numpy"), together)
    parts = unstack(result, [2, 5])
    np.testing.assert_array_equal(parts[1].theta, result.theta[2:])


def test_weights_that_all_share_stay_one_array(digits):
    X, Y = digits
    weights = np.random.RandomState(0).rand(len(X))

    def problems(weights):
        return [replace(training_problem(X, Y, seed), weights=weights) for seed in SEEDS]

    assert stack(problems(weights)).weights is weights
    results = (solve_many(get_backend("numpy"), problems(w)) for w in (weights, weights[None]))
    for shared, own in zip(*results, strict=True):
        np.testing.assert_allclose(shared.theta, own.theta, atol=1e-8)


def test_a_diverging_model_hurts_no_other(digits):
    problems = [training_problem(*digits, seed, optimizer="sgd") for seed in range(2)]
    problems[1].hyper["learning_rate_init"][:] = 1e200
    with np.errstate(all="ignore"):
        good, bad = solve_many(get_backend("numpy"), problems)
    assert not np.isfinite(bad.loss).any()
    (alone,) = solve_many(get_backend("numpy"), [training_problem(*digits, 0, optimizer="sgd")])
    np.testing.assert_allclose(good.theta, alone.theta, rtol=1e-8)


def test_monitor_ends_its_model_only(digits):
    problems = [training_problem(*digits, seed) for seed in (4, 5)]
    seen = []

    def monitor(epoch, theta, loss):
        seen.append((epoch, theta.shape, float(loss)))
        return epoch == 2

    watched = problems[0].take(slice(0, 1))
    watched = type(watched)(**{**vars(watched), "monitors": [monitor]})
    stopped, other = solve_many(get_backend("numpy"), [watched, problems[1]])
    assert stopped.n_iter == 2 and stopped.converged.all() and len(seen) == 2
    assert other.n_iter > 2
    assert seen[-1][2] == pytest.approx(stopped.loss[0])


def test_row_weights_are_zero_outside_the_rows(digits):
    weights = training_problem(*digits, 3, weighted=True).row_weights()
    problem = training_problem(*digits, 3, weighted=True)
    assert weights.shape == (1, len(digits[0]))
    assert set(np.flatnonzero(weights[0])) == set(problem.rows[0])


def test_rows_to_gather_are_in_one_piece(digits):
    """Of a transposed array, as data frames give it, each batch would copy all rows."""
    X, Y = digits
    problem = training_problem(np.asfortranarray(X), np.asfortranarray(Y), 0)
    data = minibatch.load(get_backend("numpy"), problem)
    assert data.X.flags.c_contiguous
    assert data.y.rows.flags.c_contiguous
    np.testing.assert_array_equal(data.X, X)


NETS = {"lm": ("squared_error", "tanh"), "perceptron": None}
HYPER = {
    "minibatch": {
        "learning_rate_init": 0.1,
        "max_iter": 3,
        "planned_epochs": 3,
        "tol": 0.0,
        "l2": 0.1,
        "n_iter_no_change": 9,
        "beta_1": 0.9,
        "beta_2": 0.99,
        "epsilon": 1e-8,
    },
    "lm": {"l2": 0.1, "tol": 1e-8, "max_iter": 10},
    "perceptron": {
        "eta0": 0.3,
        "l2": 0.0,
        "l1": 0.0,
        "tol": 0.0,
        "max_iter": 30,
        "n_iter_no_change": 5,
    },
    "discriminant": {"shrinkage": 0.2, "tol": 1e-4},
    "proximal": {"l2": 0.1, "l1": 0.02, "tol": 1e-8, "max_iter": 500},
}
OPTIONS = {
    "minibatch": {
        "optimizer": "adam",
        "schedule": Constant(),
        "batch_size": 3,
        "shuffle": True,
        "loss_scale": 1.0,
        "early_stopping": False,
        "verbose": False,
    },
    "perceptron": {"fit_intercept": True, "shuffle": True, "verbose": 0, "n_jobs": None},
    "discriminant": {
        "rule": "lsqr",
        "n_classes": 2,
        "covariance": None,
        "store_covariance": False,
        "project": True,
    },
}
CONVEX = {"l2": 0.1, "tol": 1e-8, "max_iter": 500}
UNLIKE = ("l2", "eta0", "shrinkage")


def small_problem(solver, M, n, k, p, shared, weighted=True, **options):
    """M models of k outputs on n rows of p features, which share "y" and "weights" or have own."""
    rng = np.random.RandomState(0)
    loss, *activation = NETS.get(solver, ("log_loss" if k > 1 else "binary_log_loss",)) or [None]
    units = (p, 3, k) if activation else (p, k)
    net = loss and network.build(units, loss, *activation)
    size = net.n_parameters if net else p + 1
    codes = np.stack([rng.permutation(np.resize(np.arange(max(k, 2)), n)) for _ in range(M)])
    y, weights = np.eye(max(k, 2))[codes][..., -k:], rng.uniform(0.5, 2.0, (M, n))
    if solver == "discriminant":
        y = codes[0, :, None]  # which all models share
    elif solver == "perceptron":
        y = 2.0 * y - 1.0
    hyper = HYPER.get(solver, CONVEX)
    return Problem(
        solver=solver,
        X=rng.randn(n, p),
        y=y[0] if "y" in shared and y.ndim == 3 else y,
        dtype="float64",
        theta=(0.1 if solver in ("lm", "minibatch") else 0.0) * rng.randn(M, size),
        net=net,
        hyper={
            name: value * (1.0 + np.arange(M)[:, None] * (name in UNLIKE) / M)
            for name, value in hyper.items()
        },
        options=OPTIONS.get(solver, {}) | options,
        weights=(weights[0] if "weights" in shared else weights) if weighted else None,
        rngs=[np.random.RandomState(m) for m in range(M)],
    )


def alone(problem, m):
    """A model's problem as a separate fit has it: with arrays that have no axis for models."""
    one = problem.take(slice(m, m + 1))
    weights = None if one.weights is None else one.weights.reshape(-1)
    return replace(one, y=one.y.reshape(one.y.shape[-2:]), weights=weights)


SIZES = [(5, 5, 1, 2), (4, 4, 4, 4), (4, 4, 3, 2), (1, 4, 3, 2), (3, 3, 1, 3), (2, 8, 4, 2)]
VARIANTS = [
    *((solver, {}) for solver in SOLVERS),
    *((solver, {"weighted": False}) for solver in ("minibatch", "lbfgs", "newton")),
    *(("perceptron", {"batch": True}), ("perceptron", {"average": True})),
    *(("discriminant", {"rule": "svd"}), ("discriminant", {"rule": "eigen"})),
]
ON_NUMPY = [("numpy", *variant, *sizes) for variant in VARIANTS for sizes in SIZES]
ON_TORCH = [("torch", solver, {}, *SIZES[i]) for solver in ("minibatch", "newton") for i in (0, 2)]
ONE_ROW = [("numpy", solver, {}, 3, 1, 1, 2) for solver in ("minibatch", "lm", "perceptron")]


@pytest.mark.parametrize("shared", [("y", "weights"), ("y",), ()], ids=str)
@pytest.mark.parametrize(
    ("backend", "solver", "variant", "M", "n", "k", "p"), [*ON_NUMPY, *ON_TORCH, *ONE_ROW]
)
def test_shapes_do_not_decide_what_an_array_means(backend, solver, variant, M, n, k, p, shared):
    """Models are what they are alone, whatever numbers of models, rows and outputs coincide."""
    if backend == "torch":
        pytest.importorskip("torch")
    backend = get_backend(backend)
    k = 1 if solver in ("perceptron", "discriminant") else k

    def problem():
        return small_problem(solver, M, n, k, p, shared, **variant)

    together = solve_stack(backend, problem())
    for m in range(M):
        expected = solve_stack(backend, alone(problem(), m))
        np.testing.assert_allclose(together.theta[m], expected.theta[0], atol=1e-5)


def test_a_stack_of_stacks_with_targets_of_their_own():
    """Problems that hold the same array of each model's targets have it one after the other."""
    problem = small_problem("newton", 3, 3, 1, 2, shared=())
    other = replace(problem, hyper={**problem.hyper, "l2": 5.0 * problem.hyper["l2"]})
    found = solve_many(get_backend("numpy"), [problem, other])
    for result, each in zip(found, (problem, other), strict=True):
        expected = solve_stack(get_backend("numpy"), each)
        np.testing.assert_allclose(result.theta, expected.theta, atol=1e-9)


@pytest.mark.parametrize(
    "solver, change, text",
    [
        ("minibatch", {"hyper": {"clip_nrom": 1.0}}, "no hyper-parameter 'clip_nrom': it reads"),
        ("minibatch", {"options": {"shufle": True}}, "no option 'shufle': it reads batch_size"),
        ("lbfgs", {"hyper": {"l1": 1.0}}, "no hyper-parameter 'l1'"),
        ("lm", {"options": {"batch_size": 3}}, "no option 'batch_size': it reads none"),
    ],
)
def test_what_a_solver_does_not_read_is_refused(solver, change, text):
    params = {"solver": "adam" if solver == "minibatch" else solver, "max_iter": 1}
    X, y = np.eye(6)[:, :3], np.arange(6.0)
    backend, problem = next(MLPRegressor(hidden_layer_sizes=2, **params)._fitting(X, y))
    assert problem.solver == solver
    hyper = {name: np.full((1, 1), value) for name, value in change.get("hyper", {}).items()}
    options = {**problem.options, **change.get("options", {})}
    with pytest.raises(ValueError, match=text):
        solve_stack(backend, replace(problem, hyper={**problem.hyper, **hyper}, options=options))


def test_a_loss_without_a_hessian_is_refused_where_one_is_needed():
    X, y = np.eye(6)[:, :3], np.arange(6.0)
    model = MLPRegressor("huber", (), solver="lbfgs")
    backend, problem = next(model._fitting(X, y))
    assert solve_stack(backend, problem).theta.shape == (1, 4)
    with pytest.raises(ValueError, match="solver='newton' needs a loss with hessian: Huber"):
        solve_stack(backend, replace(problem, solver="newton"))
