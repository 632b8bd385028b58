"""Each optimizer against torch.optim's of its name, and NumPy's override against its text."""

import array_api_compat.numpy as xp
import numpy as np
import pytest

from skdeep.backends import get_backend
from skdeep.optimizers import OPTIMIZERS
from skdeep.overrides import chosen

P, STEPS = 30, 50


def curvatures():
    return np.logspace(-1, 1, P)


def gradient(theta):
    """That of a curved valley that is not quadratic: no coordinate is like another."""
    return curvatures() * theta + 0.3 * np.sin(3.0 * theta)


def start():
    return np.random.RandomState(0).randn(1, P)


def descend(name, lr, namespace=xp, step=None, **hyper):
    optimizer = OPTIMIZERS[name]
    step = step or optimizer.step
    theta = start()
    slots = [namespace.asarray(np.zeros_like(theta)) for _ in range(optimizer.slots)]
    for t in range(1, STEPS + 1):
        grad = gradient(np.asarray(theta))
        theta, slots = step(
            namespace,
            namespace.asarray(theta, copy=True),
            namespace.asarray(grad),
            slots,
            float(t),
            lr,
            **hyper,
        )
    return np.asarray(theta)


def descend_in_torch(make):
    torch = pytest.importorskip("torch")
    theta = torch.nn.Parameter(torch.tensor(start()))
    optimizer = make(torch.optim, [theta])
    for _ in range(STEPS):
        theta.grad = torch.tensor(gradient(theta.detach().numpy()))
        optimizer.step()
    return theta.detach().numpy()


BETAS = {"beta_1": 0.8, "beta_2": 0.95}
# name, rate, hyper-parameters, torch's
AGAINST_TORCH = [
    ("sgd", 0.02, {"momentum": 0.0}, lambda o, p: o.SGD(p, lr=0.02)),
    ("sgd", 0.02, {"momentum": 0.9}, lambda o, p: o.SGD(p, lr=0.02, momentum=0.9)),
    (
        "nesterov",
        0.02,
        {"momentum": 0.9},
        lambda o, p: o.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    ),
    ("adam", 0.05, {**BETAS, "epsilon": 1e-14}, lambda o, p: o.Adam(p, 0.05, (0.8, 0.95), 1e-14)),
    (
        "adamw",
        0.05,
        {**BETAS, "epsilon": 1e-2, "weight_decay": 0.1},
        lambda o, p: o.AdamW(p, 0.05, (0.8, 0.95), 1e-2, weight_decay=0.1),
    ),
    ("adagrad", 0.3, {"epsilon": 1e-2}, lambda o, p: o.Adagrad(p, 0.3, eps=1e-2)),
    (
        "rmsprop",
        0.05,
        {"rho": 0.9, "epsilon": 1e-2},
        lambda o, p: o.RMSprop(p, 0.05, alpha=0.9, eps=1e-2),
    ),
    (
        "adadelta",
        1.0,
        {"rho": 0.9, "epsilon": 1e-3},
        lambda o, p: o.Adadelta(p, 1.0, rho=0.9, eps=1e-3),
    ),
]


@pytest.mark.parametrize(("name", "lr", "hyper", "make"), AGAINST_TORCH)
def test_torch_has_the_same(name, lr, hyper, make):
    ours = descend(name, lr, **hyper)
    np.testing.assert_allclose(ours, descend_in_torch(make), rtol=0, atol=1e-10)
    assert np.abs(ours - start()).max() > 0.5  # it went somewhere


def test_epsilon_of_adam_stands_outside_the_correction():
    """As scikit-learn's: torch's step of the same epsilon is another one while t is small."""
    hyper = {**BETAS, "epsilon": 1e-2}
    theta, grad = start(), gradient(start())
    slots = [np.zeros_like(theta) for _ in range(2)]
    moved, _ = OPTIMIZERS["adam"].step(xp, theta, grad, slots, 1, 0.1, **hyper)
    np.testing.assert_allclose(
        moved, theta - 0.1 * grad / (np.abs(grad) + 1e-2 / np.sqrt(1 - 0.95)), rtol=1e-12
    )


def test_decay_that_spares_intercepts():
    decay = 0.5 * (np.arange(P) < 20)[None]
    hyper = {**BETAS, "epsilon": 1e-8}
    args = start(), np.zeros((1, P)), [np.zeros((1, P)), np.zeros((1, P))], 1, 0.1
    moved, _ = OPTIMIZERS["adamw"].step(xp, *args, **hyper, weight_decay=decay)
    np.testing.assert_allclose(moved, start() * (1.0 - 0.1 * decay), rtol=1e-15)


@pytest.mark.parametrize(("name", "lr", "hyper", "make"), AGAINST_TORCH)
def test_namespaces_agree(name, lr, hyper, make):
    strict = pytest.importorskip("array_api_strict")
    torch = pytest.importorskip("array_api_compat.torch")
    expected = descend(name, lr, **hyper)
    for namespace in (strict, torch):
        got = descend(name, lr, namespace, **hyper)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "lr", "hyper", "make"), AGAINST_TORCH)
def test_numpy_override_descends_alike(name, lr, hyper, make):
    override = get_backend("numpy").overrides[OPTIMIZERS[name].step]
    got = descend(name, lr, step=override, **hyper)
    np.testing.assert_allclose(got, descend(name, lr, **hyper), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    """On a bowl, over the namespaces alike; each model of a stack as if it were alone."""
    optimizer, bowl = OPTIMIZERS[name], np.linspace(0.5, 2.0, P)
    numbers = {"momentum": 0.5, "beta_1": 0.8, "beta_2": 0.9, "rho": 0.9, "epsilon": 1e-3}
    hyper = {key: numbers.get(key, 0.1) for key in optimizer.hyper}
    ends = []
    for theta in (start(), np.concatenate([start(), 2.0 * start()])):
        slots = [np.zeros_like(theta) for _ in range(optimizer.slots)]
        for t in range(1, 301):
            theta, slots = optimizer.step(xp, theta, bowl * theta, slots, t, 0.03, **hyper)
        ends.append(theta)
    np.testing.assert_allclose(ends[1][:1], ends[0], rtol=1e-12)
    assert (np.sum(bowl * ends[0] ** 2) < 0.5 * np.sum(bowl * start() ** 2)).all()


@pytest.mark.parametrize(
    "name", [n for n in OPTIMIZERS if OPTIMIZERS[n].step in get_backend("numpy").overrides]
)
def test_numpy_override_over_several_blocks(name):
    """More parameters than it takes at a time, a stack with numbers of each model's own."""
    optimizer, rng, shape = OPTIMIZERS[name], np.random.RandomState(0), (2, 40000)
    theta, grad = rng.randn(*shape), rng.randn(*shape)
    slots = [np.abs(rng.randn(*shape)) for _ in range(optimizer.slots)]
    hyper = {key: rng.uniform(0.1, 0.9, (2, 1)) for key in optimizer.hyper}
    if "weight_decay" in hyper:
        hyper["weight_decay"] = rng.rand(*shape)
    t, lr = np.array([[1.0], [7.0]]), np.array([[0.1], [0.3]])
    expected = optimizer.step(xp, theta, grad, slots, t, lr, **hyper)
    override = get_backend("numpy").overrides[optimizer.step]
    got = override(xp, theta.copy(), grad.copy(), [s.copy() for s in slots], t, lr, **hyper)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-10, atol=1e-13)
    for mine, want in zip(got[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("space", ["generic", "numpy", "torch"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_parameter_may_have_its_own_rate(name, space):
    """The gradient is that of each coordinate by itself, so that two descents make up a third."""
    hyper = dict.fromkeys(OPTIMIZERS[name].hyper, 0.5)
    namespace = xp if space == "generic" else get_backend(space).xp
    step = chosen(namespace, OPTIMIZERS[name].step)
    odd = np.arange(P) % 2 == 1
    one, other = (descend(name, lr, namespace, step, **hyper) for lr in (0.01, 0.03))
    rates = namespace.asarray(np.where(odd, 0.01, 0.03)[None])
    both = descend(name, rates, namespace, step, **hyper)
    np.testing.assert_allclose(both, np.where(odd, one, other), rtol=1e-12)
