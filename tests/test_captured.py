"""Steps that can be launched as a whole: on meta tensors, which have shapes and no values, so that
what reads a value, or needs one of the host, dies."""

from dataclasses import replace

import numpy as np
import pytest

from skdeep.activations import ACTIVATIONS, Activation
from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D
from skdeep.losses import LOSSES
from skdeep.neural_network import Autoencoder, MLPClassifier, NetworkClassifier
from skdeep.optimizers import OPTIMIZERS
from skdeep.problem import Problem
from skdeep.solvers.minibatch.plan import Layout, Orders, optimizer_of
from skdeep.solvers.minibatch.step import State, Step, load
from skdeep.solvers.minibatch.training import Trainings

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from skdeep.backends.torch_backend import TorchBackend, make_backend  # noqa: E402

RNG = np.random.RandomState(0)
X = RNG.randn(500, 36).astype("float32")
Y = RNG.randint(3, size=len(X))
WEIGHTS = (RNG.rand(len(X)) + 0.5).astype("float32")
MEMBERS = (1, 3)


class Alien(TorchDispatchMode):
    """Notes operations that meet a tensor of the host."""

    def __init__(self):
        super().__init__()
        self.met = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        if any(x.device.type != "meta" for x in tensors):
            self.met.add(str(func))
        return out


def meta_backend(dtype=None) -> TorchBackend:
    """What works as on the CPU, on tensors without values."""
    backend = make_backend(None, dtype)
    backend.device, backend.captures = "meta", True
    return backend


def problem_of(model, y=Y, weights=None) -> Problem:
    _, problem = next(model._fitting(X, y, weights))
    return problem


def step_on_meta(problem: Problem, dtype=None):
    """The shapes of all that a step takes and gives, in an epoch's first step and in its last."""
    backend, M = meta_backend(dtype), problem.n_models
    orders = Orders(problem, np.arange(M), [np.arange(len(X))] * M)
    layout = Layout(backend, problem, np.arange(M), orders)
    step = Step(backend, problem, load(backend, problem), layout)
    batches = layout.batches(np.zeros((M, 1)), Trainings([{"seed": 1}] * M))
    theta = backend.asarray(problem.theta, problem.dtype)
    slots = [torch.zeros_like(theta) for _ in range(optimizer_of(problem).slots)]
    state, found = State(theta, slots, torch.zeros_like(theta[:, 0])), []
    with Alien() as alien:
        for batch in (batches[0], batches[-1]):
            state = step(state, batch)
            given = [state.theta, *state.slots, state.total, *batch]
            found.append([None if x is None else (tuple(x.shape), x.dtype) for x in given])
    return alien.met, found


def check(problem: Problem, dtype=None):
    met, (first, last) = step_on_meta(problem, dtype)
    assert not met
    # Where rows are padding there is one thing more, and weights one by one.
    state, batch = slice(2 + optimizer_of(problem).slots), slice(-7, None)
    assert first[state] == last[state]
    assert first[batch] == last[batch] or None in first


def classifier(**params):
    settings = {"hidden_layer_sizes": (8, 6), "batch_size": 200, "random_state": 0}
    return MLPClassifier(backend="torch", **{**settings, **params})


@pytest.mark.parametrize("n_members", MEMBERS)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"step"}))
def test_activations(activation, batch_norm, n_members):
    model = classifier(activation=activation, batch_norm=batch_norm, n_members=n_members)
    check(problem_of(model))


@pytest.mark.parametrize("n_members", MEMBERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer, n_members):
    solver = {"nesterov": {"solver": "sgd"}, "sgd": {"solver": "sgd", "nesterovs_momentum": False}}
    params = solver.get(optimizer, {"solver": optimizer})
    problem = problem_of(classifier(n_members=n_members, **params))
    assert problem.options["optimizer"] == optimizer
    check(problem)


@pytest.mark.parametrize("n_members", MEMBERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss, n_members):
    problem = problem_of(classifier(n_members=n_members))
    check(replace(problem, net=replace(problem.net, loss=LOSSES[loss])))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("n_members", MEMBERS)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weights"])
@pytest.mark.parametrize(
    "params",
    [
        {"dropout": [0.2, 0.5, 0.0]},
        {"clip_norm": 1.0, "max_norm": 3.0, "l1_ratio": 0.5, "label_smoothing": 0.1},
        {"batch_norm": True, "dropout": 0.3},
    ],
    ids=["dropout", "regularisers", "batch norm"],
)
def test_regularisers(params, weights, n_members, dtype):
    check(problem_of(classifier(n_members=n_members, **params), weights=weights), dtype)


@pytest.mark.parametrize("noise", ["gaussian", "masking"])
def test_noise(noise):
    model = Autoencoder((8,), noise=noise, noise_level=0.2, backend="torch", random_state=0)
    check(problem_of(model, y=None))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_convolutions(dtype):
    layers = [Conv2D(4, 3), MaxPool2D(2), Flatten(), Dense(10)]
    model = NetworkClassifier(
        layers, input_shape=(6, 6, 1), backend="torch", batch_size=200, random_state=0
    )
    check(problem_of(model), dtype)


def test_what_reads_a_value_is_found():
    """The tests above can fail."""

    def curious(xp, z):
        return (z, z) if float(z.max()) > 0 else (-z, z)

    own = Activation(curious, lambda xp, h, dh: dh)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        check(problem_of(classifier(activation=own)))


def test_what_meets_the_host_is_found():
    factor = torch.tensor(2.0)  # torch multiplies by a host's number, which has to be sent
    own = Activation(lambda xp, z: (z * factor, z), lambda xp, h, dh: dh * factor)
    with pytest.raises(AssertionError):
        check(problem_of(classifier(activation=own)))
