"""The programs of docs/extending.md run from any folder, and are as short as the page promises."""

import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as SklearnLogistic
from sklearn.utils.estimator_checks import check_estimator

from skdeep.linear_model import LogisticRegression
from skdeep.neural_network import MLPRegressor

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
MOST_LINES = {
    "An activation": 8,
    "A loss": 12,
    "An optimizer": 8,
    "A regulariser": 12,
    "A layer": 25,
    "A schedule": 6,
    "Rates by layer": 6,
    "An initializer": 6,
    "A backend with an override": 15,
    "A full-batch solver": 25,
    "An estimator": 40,
}


def test_every_part_has_its_program():
    assert list(PROGRAMS) == list(MOST_LINES)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """``program(part)``: what a program defines, as a module on the path."""

    def load(part: str) -> dict:
        (tmp_path / "extension.py").write_text(PROGRAMS[part], encoding="utf-8")
        return vars(importlib.import_module("extension"))

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "extension", raising=False)
    yield load
    sys.modules.pop("extension", None)


@pytest.mark.parametrize("part", MOST_LINES)
def test_program(part, tmp_path):
    text = PROGRAMS[part]
    assert len([line for line in text.splitlines() if line.strip()]) <= MOST_LINES[part]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() and "nan" not in run.stdout


def test_the_solver_finds_the_optimum_on_every_backend(program, backend):
    part = program("A full-batch solver")
    X, y = part["X"], part["y"]
    best = SklearnLogistic(C=0.1, tol=1e-10, max_iter=1000).fit(X, y)
    solver = part["Solver"](part["solve"])
    model = LogisticRegression(C=0.1, solver=solver, tol=1e-8, max_iter=1000, backend=backend)
    np.testing.assert_allclose(model.fit(X, y).coef_, best.coef_, atol=1e-5)
    assert clone(model).solver == solver and model.n_iter_[0] > 10
    # A network's parameter takes it too.
    net = MLPRegressor(
        activation="tanh", solver=solver, random_state=0, max_iter=50, backend=backend
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        curve = net.fit(X[:, :3], X[:, 3]).loss_curve_
    assert curve[-1] < 0.5 * curve[0]


def test_the_solver_is_asked_what_it_reads(program):
    part = program("A full-batch solver")
    solver = part["Solver"](part["solve"], reads=lambda problem: ({"l2", "tol"}, set()))
    with pytest.raises(ValueError, match="no hyper-parameter 'max_iter': it reads l2, tol"):
        LogisticRegression(solver=solver).fit(part["X"], part["y"])
    with pytest.raises(ValueError, match="supports only 'l2' or None"):
        LogisticRegression(solver=solver, l1_ratio=1.0).fit(part["X"], part["y"])


def test_the_estimator_passes_the_checks_and_finds_the_optimum(program, backend):
    LinearSVM = program("An estimator")["LinearSVM"]
    if backend == "numpy":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_estimator(LinearSVM(), on_skip=None)
    X, y = make_classification(200, 5, random_state=0)
    model = LinearSVM(C=0.1, backend=backend).fit(X, y)

    def objective(theta):
        short = np.clip(1.0 - np.where(y == 1, 1, -1) * (X @ theta[:5] + theta[5]), 0.0, None)
        return 0.1 * np.sum(short**2) + 0.25 * theta[:5] @ theta[:5]

    best = minimize(objective, np.zeros(6), tol=1e-12)
    found = np.append(model.coef_, model.intercept_)
    np.testing.assert_allclose(found, best.x, atol=1e-3)
