"""skdeep on a device: beside plain torch, skorch, scikit-learn, and what the device can do.

``python tests/benchmarks/gpu.py`` prints a table in less than eight minutes on a large GPU;
``--device cpu`` runs the same at sizes of a CPU with one thread, ``--quick`` at toy sizes. Names
after the options pick parts: parity, waits, small, convolutions, wide, search, linear. ``--data
DIR`` takes ``mnist10k.npz`` from there; without it, noise of its size stands for the digits. Goals
are those of a GPU, but for the small net. skorch comes with ``pip install "skdeep[bench]"``.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D
from skdeep.linear_model import LogisticRegression
from skdeep.neural_network import MLPClassifier, NetworkClassifier

NOTHING = {"tol": 0.0, "n_iter_no_change": 10**6, "random_state": 0}


class Bench:
    """Where it runs, at what sizes, and the rows of the table."""

    def __init__(self, device: str, quick: bool, data: Path | None):
        self.device, self.quick, self.data = device, quick, data
        self.cuda = device.startswith("cuda")
        self.backend = f"torch:{device}"

    def size(self, on_cuda, on_cpu, toy):
        return toy if self.quick else on_cuda if self.cuda else on_cpu

    def row(self, what: str, value, unit: str, goal: str = "", note: str = "") -> None:
        value = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"| {what} | {value} | {unit} | {goal} | {note} |", flush=True)

    def finish(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, calls: dict[str, Callable], turns: int = 3) -> dict[str, float]:
        """Medians of turns in which all are called one after the other, the first left out."""
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(1 if self.quick else turns + 1):
            for name, call in calls.items():
                self.finish()
                start = time.perf_counter()
                call()
                self.finish()
                if turn > 0 or self.quick:
                    times[name].append(time.perf_counter() - start)
        return {name: median(of) for name, of in times.items()}

    def digits(self, n: int):
        if self.data is not None:
            with np.load(self.data / "mnist10k.npz") as file:
                return (file["X"][:n] / 255.0).astype("float32"), file["y"][:n]
        rng = np.random.default_rng(0)
        X = rng.random((n, 784), dtype="float32")
        return X, (X @ rng.standard_normal((784, 10))).argmax(1)


def classes(n: int, p: int, k: int):
    """Rows of a linear model, and labels drawn from it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype="float32")
    scores = X[:, :20] @ rng.standard_normal((min(p, 20), k)).astype("float32")
    return X, (scores + rng.gumbel(size=(n, k))).argmax(1)


def parity(bench: Bench) -> None:
    """The same seeds on the device and on NumPy."""
    X, y = classes(1990, 20, 3)

    def numbers(model):
        found = (*model.coefs_, *model.intercepts_) if hasattr(model, "coefs_") else (model.coef_,)
        return np.concatenate([np.ravel(a) for a in found])

    net = partial(MLPClassifier, max_iter=5, **NOTHING)
    models = {
        "adam": net(),
        "nesterov, dropout, clipping, max-norm": net(
            solver="sgd", dropout=0.3, clip_norm=1.0, max_norm=3.0
        ),
        "batch norm, early stopping": net(batch_norm=True, early_stopping=True),
        "ensemble of 4": net(n_members=4),
        "network by lbfgs": net(solver="lbfgs"),
        "LDA svd": LinearDiscriminantAnalysis(),
        "LDA lsqr": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
        "logistic regression": LogisticRegression(tol=1e-8, max_iter=500),
    }
    dtypes = {"float64": "<= 1e-8", "float32": "<= 1e-2", "bfloat16": "<= 0.2", "tf32": "<= 0.1"}
    for name, model in models.items():
        reference = numbers(model.set_params(backend="numpy", dtype="float64").fit(X, y))
        for dtype, goal in dtypes.items():
            linear = not isinstance(model, MLPClassifier)
            if (dtype == "tf32" and not bench.cuda) or (linear and dtype in ("tf32", "bfloat16")):
                continue
            if "lbfgs" in name and dtype != "float64":
                continue  # a line search takes other steps from the first digit that differs
            found = numbers(model.set_params(backend=bench.backend, dtype=dtype).fit(X, y))
            off = float(np.abs(found - reference).max() / np.abs(reference).max())
            bench.row(f"parity: {name}, {dtype}", off, "relative", goal)


@contextmanager
def noted_waits():
    """Warnings of torch that the host waits for the device, while epochs run."""
    from skdeep.backends.torch_backend import TorchBackend
    from skdeep.solvers.minibatch.epoch import Epoch

    run, download, mode = Epoch.run, TorchBackend.to_numpy, torch.cuda.set_sync_debug_mode

    def watched(epoch, whole):
        mode("warn")
        try:
            return run(epoch, whole)
        finally:
            mode("default")

    def allowed(backend, x):
        mode("default")
        return download(backend, x)

    Epoch.run, TorchBackend.to_numpy = watched, allowed
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield lambda: sum("synchroniz" in str(w.message) for w in caught)
    finally:
        Epoch.run, TorchBackend.to_numpy = run, download


def waits(bench: Bench) -> None:
    """Synchronisations inside an epoch, its download at the end left out."""
    if not bench.cuda:
        return bench.row("waits inside an epoch", "not run on a GPU", "", "0")
    X, y = classes(4000, 20, 2)
    for name, params in {
        "adam": {},
        "dropout, batch norm": {"dropout": 0.5, "batch_norm": True},
        "clipping, max-norm, L1": {"clip_norm": 1.0, "max_norm": 3.0, "l1_ratio": 0.5},
    }.items():
        with noted_waits() as count:
            MLPClassifier(backend=bench.backend, max_iter=10, **NOTHING, **params).fit(X, y)
        bench.row(f"waits inside 10 epochs: {name}", count(), "", "0")


def plain_loop(bench: Bench, X, y, net, batch: int, epochs: int, autocast: bool = False):
    """A loop as one writes it: data on the device, autograd, torch's Adam."""
    device = bench.device
    X, y = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    net, loss = net.to(device), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=bench.cuda)
    for _ in range(epochs):
        order, total = torch.randperm(len(X), device=device), 0.0
        for start in range(0, len(X), batch):
            rows = order[start : start + batch]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=autocast):
                value = loss(net(X[rows]), y[rows])
            value.backward()
            optimizer.step()
            total = total + value.detach() * len(rows)
        mean = float(total) / len(X)
    return mean


def of_linear(*units):
    parts = []
    for fan_in, fan_out in zip(units[:-1], units[1:], strict=True):
        parts += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def skorch_fit(bench: Bench, X, y, net, batch: int, epochs: int):
    from skorch import NeuralNetClassifier

    model = NeuralNetClassifier(
        net,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=batch,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=bench.device,
    )
    return model.fit(X, y).history[-1, "train_loss"]


def small(bench: Bench) -> None:
    """A net of 100 units: launches are what it costs."""
    n, epochs = bench.size(20_000, 10_000, 1000), bench.size(20, 10, 2)
    X, y = classes(n, 20, 3)
    losses = {}

    def ours(**params):
        model = MLPClassifier(
            backend=bench.backend, batch_size=200, max_iter=epochs, **NOTHING, **params
        )
        losses["skdeep"] = model.fit(X, y).loss_

    def peer(name, fit):
        losses[name] = fit(bench, X, y, of_linear(20, 100, 3), 200, epochs)

    calls = {"skdeep": ours, "plain torch": lambda: peer("plain torch", plain_loop)}
    try:
        import skorch  # noqa: F401

        calls["skorch"] = lambda: peer("skorch", skorch_fit)
    except ImportError:
        bench.row("small net: skorch", "not installed", "")
    calls["skdeep, 16 models"] = lambda: ours(n_members=16)
    found = bench.seconds(calls, 5)
    for name, seconds in found.items():
        step = seconds / epochs / (n / 200) * 1e6
        loss = np.mean(losses[name.split(",")[0]])
        bench.row(f"small net: {name}", step, "us a step", note=f"loss {loss:.4f}")
    bench.row(
        "small net: skdeep / plain torch", found["skdeep"] / found["plain torch"], "", "<= 1.1"
    )
    if "skorch" in found:
        goal = ">= 5" if bench.cuda else ">= 3"
        bench.row("small net: skorch / skdeep", found["skorch"] / found["skdeep"], "", goal)


def convolutions(bench: Bench) -> None:
    """Two convolutions of 16 and 32 filters, each with a pooling, and a dense layer."""
    n, epochs = bench.size(60_000, 8000, 500), bench.size(5, 2, 1)
    X, y = bench.digits(n)
    layers = [Conv2D(16, 3), MaxPool2D(2), Conv2D(32, 3), MaxPool2D(2), Flatten(), Dense(64)]

    def ours(backend):
        NetworkClassifier(
            layers, (28, 28), batch_size=64, max_iter=epochs, backend=backend, **NOTHING
        ).fit(X, y)

    def plain():
        nn = torch.nn
        net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * 25, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
        plain_loop(bench, X.reshape(-1, 1, 28, 28), y, net, 64, epochs)

    calls = {"plain torch": plain, "skdeep": lambda: ours(bench.backend)}
    if not bench.cuda:
        calls["skdeep on NumPy"] = lambda: ours("numpy")
    found = bench.seconds(calls)
    for name, seconds in found.items():
        ratio = seconds / found["plain torch"]
        bench.row(f"convolutions: {name}", seconds, "s", note=f"{ratio:.2f} of plain torch's")


def wide(bench: Bench) -> None:
    """Four layers as wide as a batch is long: products are what it costs."""
    units = bench.size(4096, 512, 64)
    n, epochs = 8 * units, bench.size(6, 3, 1)
    X, y = classes(n, units, 10)
    flops = 2 * units * units * (3 * 4 - 1)  # of a row: forth, and twice back, the input left out
    for dtype in ("tf32", "bfloat16", "float32") if bench.cuda else ("float32", "bfloat16"):
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        A = torch.randn(units, units, device=bench.device, dtype=kind)

        def products(A=A):
            for _ in range(20):
                A @ A

        with tf32_where(dtype == "tf32"):
            bound = 20 * 2 * units**3 / bench.seconds({"": products})[""]

        def ours(n_epochs, dtype=dtype):
            MLPClassifier(
                [units] * 4, backend=bench.backend, dtype=dtype, batch_size=units,
                max_iter=n_epochs, **NOTHING,
            ).fit(X, y)  # fmt: skip

        # The difference of two fits leaves out the upload, and what is compiled or recorded.
        times = bench.seconds({"long": partial(ours, 2 * epochs), "short": partial(ours, epochs)})
        rate = epochs * n * flops / max(times["long"] - times["short"], 1e-9)
        bench.row(f"wide net, {dtype}", rate / 1e12, "TFLOP/s", note=f"products {bound / 1e12:.4g}")
        goal = ">= 0.6" if dtype != "float32" else ""
        bench.row(f"wide net, {dtype}: of the rate of products", rate / bound, "", goal)


@contextmanager
def tf32_where(on: bool):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def search(bench: Bench) -> None:
    """64 candidates by 4 folds, beside scikit-learn on all cores."""
    from sklearn.model_selection import GridSearchCV as TheirSearch
    from sklearn.neural_network import MLPClassifier as Theirs

    from skdeep.model_selection import GridSearchCV

    side = bench.size(8, 3, 2)
    X, y = bench.digits(bench.size(10_000, 2000, 300))
    grid = {"alpha": np.logspace(-6, -1, side), "learning_rate_init": np.logspace(-4, -2, side)}
    settings = {"max_iter": bench.size(20, 5, 2), **NOTHING}
    ours = GridSearchCV(MLPClassifier(backend=bench.backend, **settings), grid, cv=4, refit=False)
    jobs = os.cpu_count() if bench.cuda else 1
    theirs = TheirSearch(Theirs(**settings), grid, cv=4, refit=False, n_jobs=jobs)
    few = {name: values[:2] for name, values in grid.items()}
    TheirSearch(Theirs(max_iter=1), few, cv=4, n_jobs=jobs).fit(X[:300], y[:300])  # starts workers
    found = bench.seconds({"skdeep": partial(ours.fit, X, y)}, 1)
    found |= Bench(bench.device, True, None).seconds({"scikit-learn": partial(theirs.fit, X, y)})
    scores = [one.cv_results_["mean_test_score"] for one in (ours, theirs)]
    note = f"{jobs} cores; mean scores differ by at most {np.abs(scores[0] - scores[1]).max():.1e}"
    bench.row(f"search of {side**2} x 4: skdeep", found["skdeep"], "s")
    bench.row(f"search of {side**2} x 4: scikit-learn", found["scikit-learn"], "s", note=note)
    ratio = found["scikit-learn"] / found["skdeep"]
    bench.row(f"search of {side**2} x 4: scikit-learn / skdeep", ratio, "", ">= 50")


def linear(bench: Bench) -> None:
    """Closed-form and convex models on tensors of the device, and on arrays of the host."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as TheirLDA
    from sklearn.linear_model import LogisticRegression as TheirLogistic

    n, p = bench.size((2_000_000, 200), (100_000, 100), (2000, 20))
    X, y = classes(n, p, 3)
    tensors = torch.from_numpy(X).to(bench.device), torch.from_numpy(y).to(bench.device)
    kinds = {
        "LDA": (LinearDiscriminantAnalysis(), TheirLDA()),
        "logistic regression": (LogisticRegression(max_iter=200), TheirLogistic(max_iter=200)),
    }
    for name, (model, theirs) in kinds.items():

        def of_tensors(model=model):
            model.set_params(backend="auto").fit(*tensors)

        def of_arrays(model=model):
            model.set_params(backend=bench.backend).fit(X, y)

        found = bench.seconds({"arrays": of_arrays, "tensors": of_tensors})
        once = Bench(bench.device, True, None)
        found |= once.seconds({"scikit-learn": partial(theirs.fit, X, y)})
        off = np.abs(model.coef_ - theirs.coef_).max() / np.abs(theirs.coef_).max()
        title = f"{name}, {n:,} x {p}"
        bench.row(
            f"{title}: scikit-learn", found["scikit-learn"], "s", note=f"{os.cpu_count()} cores"
        )
        note = f"coefficients {off:.1e} apart, relative"
        for data in ("arrays", "tensors"):
            bench.row(f"{title}: skdeep, {data}", found[data], "s", note=note)
        ratio = found["scikit-learn"] / found["tensors"]
        bench.row(f"{title}: scikit-learn / skdeep, tensors", ratio, "", ">= 30")


PARTS = {f.__name__: f for f in (parity, waits, small, convolutions, wide, search, linear)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="toy sizes, once each")
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    bench = Bench(asked.device, asked.quick, asked.data)
    if bench.cuda and not torch.cuda.is_available():
        parser.error("there is no CUDA device: --device cpu runs on a CPU")
    if not bench.cuda:
        torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    where = torch.cuda.get_device_name() if bench.cuda else "a CPU with one thread of torch"
    print(f"{where}; torch {torch.__version__}, NumPy {np.__version__}\n")
    print("| | measured | unit | goal | note |\n| --- | --- | --- | --- | --- |")
    for name in asked.parts or PARTS:
        start = time.perf_counter()
        PARTS[name](bench)
        bench.row(f"{name}: all of it", time.perf_counter() - start, "s")


if __name__ == "__main__":
    main()
