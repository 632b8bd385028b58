"""What every test may ask for: a backend to run on, and threads that do not fight."""

from __future__ import annotations

import os
import sys

# The xdist workers share the cores: one thread of BLAS, OpenMP and torch each. It has to be said
# before NumPy loads, and an environment that says otherwise is left to have its way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

# Modules whose numbers come out of the BLAS, which has kernels of its own for each processor: they
# are marked `blas`, and `.ci/run` runs them under another kernel too.
BLAS = {
    *(
        "test_against_sklearn",
        "test_stacking",
        "test_convergence_warnings",
        "test_lbfgs",
        "test_lm",
    ),
    *("test_discriminant_analysis", "test_logistic_cv", "test_moments", "test_same_answer"),
    *("test_proximal", "test_search", "test_unscaled"),
}


@pytest.fixture(params=["numpy", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend; a test that takes it runs once on each."""
    if request.param == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    return request.param


@pytest.fixture(params=["numba", "scikit-learn", "generic", "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A way of computing a perceptron; the name of the backend on which it is taken."""
    from skdeep.solvers.perceptron import compiled as perceptron_compiled
    from skdeep.solvers.perceptron import solve as perceptron

    if request.param == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
        return "torch"
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed")
        monkeypatch.setattr(perceptron_compiled, "WORTH_COMPILING", 0)
        monkeypatch.setattr(perceptron_compiled, "LOOKING", 0)
    if request.param == "scikit-learn":
        monkeypatch.setitem(sys.modules, "numba", None)
    if request.param == "generic":
        monkeypatch.setattr(perceptron_compiled, "train", perceptron.train.__wrapped__)
    return "numpy"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the BLAS; skip what is marked `gpu`, and say so, where there is none."""
    for item in items:
        if item.path.stem in BLAS:
            item.add_marker("blas")
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not gpu_present():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU present"))


def gpu_present() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
