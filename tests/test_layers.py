"""Layers: gradients against differences and torch, and each seen as another with tied weights."""

from math import prod

import numpy as np
import pytest

from skdeep.activations import ACTIVATIONS
from skdeep.backends import get_backend
from skdeep.layers import (
    Activation,
    AveragePool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected2D,
    MaxPool2D,
    Residual,
    Scale,
)
from skdeep.layers.base import Training
from skdeep.losses import LOSSES
from skdeep.network import Network, backpropagate, forward, hidden_layers, join, split, tail
from skdeep.solvers.full_batch import levenberg_marquardt as lm

strict = pytest.importorskip("array_api_strict")
torch = pytest.importorskip("torch")

M, N = 2, 5
SEQUENCES = {
    "dense": ((6,), [Dense(4, "tanh"), Dense(3, None, intercept=False)]),
    "conv": ((5, 6, 2), [Conv2D(3, 3, activation="tanh"), Dense(2, None)]),
    "stride": ((5, 6, 2), [Conv2D(3, 3, stride=2, activation="tanh"), Flatten(), Dense(2, None)]),
    "valid": ((5, 6, 1), [Conv2D(2, 2, 2, "valid", "swish"), Conv2D(2, 2, activation=None),
                          Dense(1, None)]),
    "even": ((4, 5, 1), [Conv2D(2, 4, 3, intercept=False, activation="tanh"), Dense(2, None)]),
    "line": ((7, 2), [Conv1D(3, 3, activation="tanh"), Conv1D(2, 2, 2, "valid", None),
                      Dense(2, None)]),
    "local": ((4, 3, 2), [LocallyConnected2D(2, 3, activation="tanh"),
                          LocallyConnected2D(1, 2, 2, "valid", None), Dense(2, None)]),
    "pool": ((5, 6, 2), [Conv2D(2, 3, activation="tanh"), MaxPool2D(2), Dense(2, None)]),
    "mean": ((5, 6, 2), [Conv2D(2, 3, activation="tanh"), AveragePool2D(2), Dense(2, None)]),
    "norm": ((4, 4, 2), [Conv2D(2, 3, activation=None), BatchNorm(), Activation("tanh"),
                         Dense(3, None), BatchNorm(), Activation("swish"), Dense(2, None)]),
    "residual": ((4, 4, 2), [Residual([Conv2D(3, 3, activation="tanh"), Conv2D(2, 3)]),
                             Dense(4, "tanh"), Residual([Dense(3), Dropout(), Dense(4, None)]),
                             Dense(2, None)]),
    "nested": ((4,), [Residual([Dense(4, "tanh"), Residual([BatchNorm(), Dense(4, "swish")])]),
                      Dense(2, None)]),
    "twice": ((4,), [Dropout(0.2), Dropout(0.3), Dense(3, "tanh"), Dropout(), Dropout(),
                     Dense(2, None)]),
    "amidst": ((4,), [Dense(3, None), Dropout(), Activation("tanh"), Dense(2, None)]),
    "behind": ((4,), [Dense(3, "tanh"), Dense(2, None), Dropout()]),
    "scale": ((6,), [Scale(), Dense(4, "tanh"), Dense(2, None)]),
    "scale dropped": ((5,), [Scale(), Dropout(0.3), Dense(4, "tanh"), Dropout(0.5),
                             Dense(3, "swish"), Dense(1, None)]),
    "dropped scale": ((5,), [Dropout(0.3), Scale(), Dense(4, "tanh"), Dense(1, None)]),
    "scale alone": ((5,), [Scale(), Dense(2, None)]),
    "scales": ((4, 3, 2), [Scale(), Conv2D(2, 2, activation="tanh"), Scale(), Dropout(0.3),
                           Dense(2, None)]),
    "dropped": ((4,), [Dropout(0.2), Dense(3, "tanh"), Dropout(0.5), Dense(2, None)]),
}  # fmt: skip
every = pytest.mark.parametrize("name", SEQUENCES)


def make_case(name, seed=0):
    shape, layers = SEQUENCES[name]
    rng = np.random.RandomState(seed)
    net = Network(tuple(layers), LOSSES["squared_error"], shape)
    theta = 0.6 * rng.randn(M, net.n_parameters)
    if net.n_running:
        theta[:, -net.n_running :] = rng.rand(M, net.n_running) + 0.5
    X, y = rng.randn(M, N, prod(shape)), rng.randn(M, N, net.units[-1])
    w = rng.rand(M, N)
    masks = [(rng.rand(M, N, *one) < 0.7) / 0.7 for one in net.masked]
    return net, theta, X, y, w / w.sum(axis=1, keepdims=True), np.array([[0.1], [0.0]]), masks


@every
def test_gradient_against_central_differences(name):
    net, theta, *data = make_case(name)
    *_, grad, _ = backpropagate(np, net, theta, *data)
    learned, step = net.n_parameters - net.n_running, 1e-6
    for j in range(learned):
        shift = step * (np.arange(net.n_parameters) == j)
        up, down = (sum(backpropagate(np, net, theta + s, *data)[:2]) for s in (shift, -shift))
        np.testing.assert_allclose(grad[:, j], (up - down) / (2 * step), rtol=1e-5, atol=1e-7)
    assert not grad[:, learned:].any(), "no gradient moves what runs"


@every
@pytest.mark.parametrize("space", ["numpy", "torch", "strict"])
def test_backends_agree_with_the_generic_text(name, space):
    net, *arrays, masks = make_case(name)
    wanted = backpropagate(np, net, *arrays, masks)
    backend = None if space == "strict" else get_backend(space)
    xp = strict if backend is None else backend.xp
    put = strict.asarray if backend is None else backend.asarray
    got = backpropagate(xp, net, *map(put, arrays), [put(mask) for mask in masks])
    for ours, theirs in zip(got, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-10, atol=1e-13)
    theta, X = map(put, arrays[:2])
    np.testing.assert_allclose(
        np.asarray(forward(xp, net, theta, X)), forward(np, net, *arrays[:2]), rtol=1e-10
    )


@every
def test_rows_that_models_share(name):
    net, theta, X, y, w, l2, masks = make_case(name)
    shared = backpropagate(np, net, theta, X[0], y, w, l2, masks)
    own = backpropagate(np, net, theta, np.stack([X[0]] * M), y, w, l2, masks)
    for ours, theirs in zip(shared[:3], own[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


@every
def test_a_stack_is_so_many_models(name):
    net, theta, X, y, w, l2, masks = make_case(name)
    whole = backpropagate(np, net, theta, X, y, w, l2, masks)
    for m in range(M):
        one = slice(m, m + 1)
        alone = backpropagate(
            np, net, theta[one], X[one], y[one], w[one], l2[one], [mask[one] for mask in masks]
        )
        for ours, theirs in zip(alone[:3], whole[:3], strict=True):
            np.testing.assert_allclose(ours, theirs[one], rtol=1e-10, atol=1e-13)


@every
def test_views_and_back(name):
    net, theta, *_ = make_case(name)
    np.testing.assert_array_equal(join(np, net, split(np, net, theta)), theta)


@pytest.mark.parametrize("name", [n for n in SEQUENCES if n not in ("norm", "nested")])
def test_jacobian_sums_to_the_gradient(name):
    """Derivatives of each row's scores, times what is left of y, are the gradient of squares."""
    net, theta, X, y, w, *_ = make_case(name)
    raw, J = lm.jacobian(np, net, theta, X[0], np.sqrt(w))
    residual = np.sqrt(w)[..., None] * (raw - y)
    gradient = (J @ residual.mT.reshape(M, -1, 1))[..., 0]
    expected = backpropagate(np, net, theta, X[0], y, w, np.zeros((M, 1)))[2]
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)


# Against torch's own


def channels_first(x):
    return torch.tensor(np.moveaxis(x, -1, -3).copy())


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolution_is_torch_s(stride, size, padding):
    rng, layer = np.random.RandomState(0), Conv2D(3, size, stride, padding, None)
    x = rng.randn(1, N, 6, 7, 2)
    p = {name: rng.randn(1, *one.shape) for name, one in layer.parameters(x.shape[2:]).items()}
    y, saved = layer.forward(np, p, x)
    assert y.shape[2:] == layer.out_shape(x.shape[2:])
    W = torch.tensor(p["weight"][0].reshape(size, size, 2, 3).transpose(3, 2, 0, 1).copy())
    W.requires_grad_()
    image = channels_first(x[0]).requires_grad_()
    top, bottom, left, right = layer._window(x.shape[2:])[3:]
    padded = torch.nn.functional.pad(image, (left, right, top, bottom))
    z = torch.nn.functional.conv2d(padded, W, torch.tensor(p["intercept"][0]), stride)
    np.testing.assert_allclose(y[0], z.detach().numpy().transpose(0, 2, 3, 1), atol=1e-12)
    dy = rng.randn(*y.shape)
    z.backward(channels_first(dy[0]))
    grads, to_input = layer.backward(np, p, saved, dy)
    dW = grads["weight"][0].reshape(size, size, 2, 3).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(dW, W.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(to_input()[0], image.grad.numpy().transpose(0, 2, 3, 1), atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_that_of_the_courses(stride):
    """As many outputs as inputs, a stride apart, and the larger half of the zeros behind."""
    assert Conv2D(1, 3, stride).out_shape((28, 27, 1)) == (28 // stride, -(-27 // stride), 1)
    assert Conv1D(1, 4).out_shape((10, 3)) == (10, 1)


@pytest.mark.parametrize("ours, theirs", [(MaxPool2D, "max_pool2d"), (AveragePool2D, "avg_pool2d")])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pooling_is_torch_s(ours, theirs, size):
    rng, layer = np.random.RandomState(0), ours(size)
    x = rng.randn(1, N, 6, 7, 2)
    image = channels_first(x[0]).requires_grad_()
    expected = getattr(torch.nn.functional, theirs)(image, size)
    y, saved = layer.forward(np, {}, x)
    assert y.shape[2:] == layer.out_shape(x.shape[2:])
    np.testing.assert_allclose(y[0], expected.detach().numpy().transpose(0, 2, 3, 1), atol=1e-14)
    dy = rng.randn(*y.shape)
    expected.backward(channels_first(dy[0]))
    dx = layer.backward(np, {}, saved, dy)[1]()
    np.testing.assert_allclose(dx[0], image.grad.numpy().transpose(0, 2, 3, 1), atol=1e-14)


def test_equal_numbers_of_a_pool_share_the_gradient():
    layer, x = MaxPool2D(2), np.zeros((1, 1, 2, 2, 1))
    _, saved = layer.forward(np, {}, x)
    dx = layer.backward(np, {}, saved, np.ones((1, 1, 1, 1, 1)))[1]()
    np.testing.assert_array_equal(dx, np.full_like(x, 0.25))


def test_batch_norm_of_images_is_torch_s():
    rng, layer = np.random.RandomState(0), BatchNorm()
    x = rng.randn(1, N, 4, 3, 2)
    p = {name: rng.rand(1, 2) for name in layer.parameters(x.shape[2:])}
    y, saved = layer.forward(np, p, x, Training(np.full((1, 1), 1 / N), iter(())))
    image = channels_first(x[0]).requires_grad_()
    scale, shift = (torch.tensor(p[n][0], requires_grad=True) for n in ("scale", "intercept"))
    expected = torch.nn.functional.batch_norm(image, None, None, scale, shift, training=True)
    np.testing.assert_allclose(y[0], expected.detach().numpy().transpose(0, 2, 3, 1), atol=1e-12)
    dy = rng.randn(*y.shape)
    expected.backward(channels_first(dy[0]))
    grads, to_input = layer.backward(np, p, saved, dy)
    np.testing.assert_allclose(grads["scale"][0], scale.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(grads["intercept"][0], shift.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(to_input()[0], image.grad.numpy().transpose(0, 2, 3, 1), atol=1e-11)
    np.testing.assert_allclose(grads["running_mean"][0], x[0].mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(grads["running_variance"][0], x[0].var(axis=(0, 1, 2)))


@pytest.mark.parametrize("shape", [(4,), (3, 4, 2)])
def test_a_scale_is_torch_s(shape):
    rng, layer = np.random.RandomState(0), Scale()
    x, scale, dy = rng.randn(M, N, *shape), rng.randn(M, *shape), rng.randn(M, N, *shape)
    y, saved = layer.forward(np, {"scale": scale}, x)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, scale)]
    expected = leaves[0] * leaves[1][:, None]
    np.testing.assert_array_equal(y, expected.detach().numpy())
    expected.backward(torch.tensor(dy))
    grads, to_input = layer.backward(np, {}, saved, dy)
    np.testing.assert_allclose(to_input(), leaves[0].grad.numpy(), atol=1e-14)
    np.testing.assert_allclose(grads["scale"], leaves[1].grad.numpy(), atol=1e-14)


def test_a_scale_begins_at_one():
    values = Scale().initial((3, 2), None)
    np.testing.assert_array_equal(values["scale"], np.ones((3, 2)))


# One as another with weights tied, as the courses derive convolution


def test_a_convolution_is_locally_connected_with_shared_weights():
    rng, x = np.random.RandomState(0), np.random.RandomState(1).randn(M, N, 5, 6, 2)
    shared, own = (kind(3, 3, 2, "same", None) for kind in (Conv2D, LocallyConnected2D))
    W, b = rng.randn(M, 18, 3), rng.randn(M, 3)
    places = prod(shared.out_shape((5, 6, 2))[:2])
    tied = {"weight": np.stack([W] * places, axis=1), "intercept": np.stack([b] * places, axis=1)}
    y, saved = shared.forward(np, {"weight": W, "intercept": b}, x)
    again, saved_too = own.forward(np, tied, x)
    np.testing.assert_allclose(again, y, atol=1e-12)
    dy = rng.randn(*y.shape)
    grads, to_input = shared.backward(np, {}, saved, dy)
    grads_too, to_input_too = own.backward(np, {}, saved_too, dy)
    np.testing.assert_allclose(grads_too["weight"].sum(axis=1), grads["weight"], atol=1e-12)
    np.testing.assert_allclose(grads_too["intercept"].sum(axis=1), grads["intercept"], atol=1e-12)
    np.testing.assert_allclose(to_input_too(), to_input(), atol=1e-12)


def test_locally_connected_is_dense_with_weights_of_zero():
    """A unit of a dense layer that sees a patch alone has zeros for all other pixels."""
    rng, shape = np.random.RandomState(0), (3, 4, 2)
    local, dense = LocallyConnected2D(2, 3, activation=None), Dense(3 * 4 * 2, None)
    p = {name: rng.randn(1, *one.shape) for name, one in local.parameters(shape).items()}
    # The response to one pixel at a time is the matrix.
    pixels = np.eye(prod(shape)).reshape(1, -1, *shape)
    b = p["intercept"].reshape(1, -1)
    W = local.forward(np, p, pixels)[0].reshape(1, prod(shape), -1) - b[:, None]
    assert (W == 0).mean() > 0.3
    x = rng.randn(1, N, *shape)
    np.testing.assert_allclose(
        dense.forward(np, {"weight": W, "intercept": b}, x)[0],
        local.forward(np, p, x)[0].reshape(1, N, -1),
        atol=1e-12,
    )


def test_a_patch_as_large_as_the_image_is_dense():
    rng, shape = np.random.RandomState(0), (3, 3, 2)
    x = rng.randn(1, N, *shape)
    p = {"weight": rng.randn(1, 18, 4), "intercept": rng.randn(1, 4)}
    np.testing.assert_allclose(
        Conv2D(4, 3, 1, "valid", None).forward(np, p, x)[0].reshape(1, N, 4),
        Dense(4, None).forward(np, p, x)[0],
        atol=1e-12,
    )


def test_a_filter_by_hand():
    """A difference of neighbours finds the edge."""
    layer = Conv1D(1, 2, padding="valid", activation=None, intercept=False)
    line = np.array([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 4, 1)
    y, _ = layer.forward(np, {"weight": np.array([[[-1.0], [1.0]]])}, line)
    assert y.ravel().tolist() == [0.0, 1.0, 0.0]


def test_a_residual_of_nothing_is_the_input():
    x = np.random.RandomState(0).randn(M, N, 4)
    layer = Residual([Dense(4, None)])
    p = {"0_weight": np.zeros((M, 4, 4)), "0_intercept": np.zeros((M, 4))}
    np.testing.assert_array_equal(layer.forward(np, p, x)[0], x)


# Networks of them


def test_a_dense_layer_stands_for_itself_and_its_activation():
    net = Network((Dense(3, "tanh"), Dense(2, None)), LOSSES["log_loss"], (4,))
    assert net.layers == (Dense(3, None), Activation("tanh"), Dense(2, None))
    assert net.plain and net.units == (4, 3, 2)
    assert net.activations == (ACTIVATIONS["tanh"],)
    assert net == Network(net.layers, LOSSES["log_loss"], (4,)) and hash(net) == hash(
        Network(net.layers, LOSSES["log_loss"], (4,))
    )


@pytest.mark.parametrize("name", [n for n in SEQUENCES if n not in ("dense", "dropped")])
def test_what_is_not_plain_says_so(name):
    shape, layers = SEQUENCES[name]
    assert not Network(tuple(layers), LOSSES["squared_error"], shape).plain


@every
def test_the_tail_of_a_network(name):
    net, theta, X, *_ = make_case(name)
    for i, h in enumerate(hidden_layers(np, net, theta, X), start=1):
        rest, parameters = tail(np, net, theta, i)
        rows = h.reshape(M, N, -1)
        np.testing.assert_allclose(
            forward(np, rest, parameters, rows), forward(np, net, theta, X), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize(
    "layers, shape, text",
    [
        ([Conv2D(2, 3)], (9,), "input_shape"),
        ([Conv2D(2, 5, padding="valid")], (4, 4, 1), "larger than"),
        ([MaxPool2D(3)], (2, 8, 1), "at least that size"),
        ([MaxPool2D(2)], (8,), "takes images"),
        ([Residual([Dense(3)])], (4,), "restore the shape"),
        ([Flatten(), Conv2D(1, 1)], (2, 2, 1), "before Flatten"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, shape, text):
    with pytest.raises(ValueError, match=text):
        Network((*layers, Dense(1, None)), LOSSES["squared_error"], shape)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Dense(0), "units=0"),
        (lambda: Dense(2.5), "units=2.5"),
        (lambda: Dense(3, "rely"), "activation='rely'"),
        (lambda: Conv2D(0, 3), "filters of Conv2D=0"),
        (lambda: Conv2D(3, 3, padding="full"), "padding='full'"),
        (lambda: Conv1D(3, 3, stride=0), "stride of Conv1D=0"),
        (lambda: MaxPool2D(0), "size of MaxPool2D=0"),
        (lambda: Dropout(1.0), "rate=1.0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
