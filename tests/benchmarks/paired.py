"""What the benchmarks share: turns, tables, data, and the machine they ran on."""

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_classification
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_info, threadpool_limits


class Row(NamedTuple):
    """What is measured against what.

    Parameters
    ----------
    title : str
    ours, peers : callables
        By the peer's name; each does the same work once.
    floor : callable or None
        The calls of BLAS and LAPACK, and the passes through memory, that there have to be.
    goals : dict of str to float
        By the peer's name: its time over ours.
    equal : callable or None
        Returns a word on how far the work was equal, and raises AssertionError if it was not.
    """

    title: str
    ours: Callable
    peers: dict[str, Callable]
    floor: Callable | None = None
    goals: dict[str, float] = {}
    equal: Callable | None = None


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(calls: dict[str, Callable], n: int, at_least: float = 0.02) -> dict[str, list[float]]:
    """Seconds of each call in turns of all; short ones are repeated until they can be timed."""
    repeats = {}
    for name, call in calls.items():
        seconds(call)  # what is set up, compiled or cached at first
        repeats[name] = max(1, int(at_least / max(seconds(call), 1e-7)))

    def timed(name):
        call, n = calls[name], repeats[name]
        return seconds(lambda: [call() for _ in range(n)]) / n

    rounds = [{name: timed(name) for name in calls} for _ in range(n)]
    return {name: [one[name] for one in rounds] for name in calls}


def short(s: float) -> str:
    return f"{1e3 * s:.3g}"


def print_table(rows: list[Row], n: int) -> None:
    """Medians, and of the ratios within a turn the median; goals that are missed are marked."""
    print("| | skdeep, ms | peer, ms | ratio | aim | over the floor | equal work |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        calls = {"": row.ours, **row.peers} | ({"floor": row.floor} if row.floor else {})
        found = turns(calls, n)
        ours, equal = found[""], row.equal() if row.equal else ""
        over = ""
        if row.floor:
            over = f"{median(a / b for a, b in zip(ours, found['floor'], strict=True)):.1f}"
        for name in row.peers:
            ratio = median(b / a for a, b in zip(ours, found[name], strict=True))
            goal = row.goals.get(name)
            aim = "" if goal is None else f"{goal:g}{'' if ratio >= goal else ' (missed)'}"
            title = row.title if len(row.peers) == 1 else f"{row.title}, {name}"
            times = f"{short(median(ours))} | {short(median(found[name]))}"
            print(f"| {title} | {times} | **{ratio:.2f}** | {aim} | {over} | {equal} |", flush=True)


def run(description: str, rows: Callable, default_turns: int = 7) -> None:
    """The command line of a benchmark: ``rows(options)`` are measured and printed."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns, and small data only")
    parser.add_argument("--only", default="", help="part of the titles of rows")
    parser.add_argument("--turns", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1, help="of the BLAS, for all sides")
    parser.add_argument("--data", type=Path, help="folder with mnist10k.npz")
    options = parser.parse_args()
    print(machine(options.threads), end="\n\n")
    n = options.turns or (3 if options.quick else default_turns)
    with threadpool_limits(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print_table([row for row in rows(options) if options.only in row.title], n)


def machine(threads: int) -> str:
    """The processor, the BLAS and its kernels."""
    import scipy
    import sklearn

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if "model name" in line), name)
    kernels = {info.get("architecture") for info in threadpool_info() if info["user_api"] == "blas"}
    return (
        f"{name}; kernels {', '.join(sorted(filter(None, kernels)))}; threads: {threads}; NumPy "
        f"{np.__version__}, SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}"
    )


def iris():
    return load_iris(return_X_y=True)


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), y


def drawn(n: int, p: int, n_classes: int = 2):
    """Overlapping classes, ten of the features informative."""
    return make_classification(
        n, p, n_informative=min(10, p), n_redundant=0, n_classes=n_classes, random_state=0
    )


def digits(folder: Path | None, n: int = 8000):
    """Handwritten digits in [0, 1]: of 784 pixels from a file, else scikit-learn's of 64."""
    if folder is None:
        X, y = load_digits(return_X_y=True)
        return X / 16.0, y
    with np.load(folder / "mnist10k.npz") as file:
        some = np.random.RandomState(0).permutation(len(file["X"]))[:n]
        return file["X"][some] / 255.0, file["y"][some]
