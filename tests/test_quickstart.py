"""The example of the README, from its command line to its pictures."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.datasets import load_digits

SCRIPT = Path(__file__).parents[1] / "examples" / "quickstart.py"
PICTURES = {"confusion_matrix.png", "loss_curves.png"}
ROW = re.compile(
    r"^(?P<model>\w+(?: of \w+)?) +(?P<backend>[\w:]+)"
    r" +(?P<ours>0\.\d+) ± 0\.\d+ +(?P<theirs>0\.\d+) ± 0\.\d+"
    r" +\d+\.\d\d +\d+\.\d\d$",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def quickstart() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def brief(quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example with a grid of one candidate, which goes the same way as four."""
    monkeypatch.setattr(quickstart, "GRID", {"mlpclassifier__alpha": [1e-4]})
    return quickstart


def check_output(out: str, backend: str) -> None:
    rows = {row["model"]: row for row in ROW.finditer(out)}
    assert list(rows) == [
        "Perceptron",
        "LogisticRegression",
        "LinearDiscriminantAnalysis",
        "MLPClassifier",
        "GridSearchCV of MLPClassifier",
    ]
    for row in rows.values():
        assert row["backend"].startswith(backend)
        assert float(row["ours"]) > 0.75
        # The two libraries had the same folds and seeds: at most a digit or two may differ.
        assert float(row["ours"]) == pytest.approx(float(row["theirs"]), abs=0.02)
    regression = re.search(r"^MLPRegressor on diabetes \(([\w:]+)\): R² (0\.\d+)", out, re.M)
    assert regression[1].startswith(backend)
    assert float(regression[2]) > 0.4


def test_table_and_pictures(brief, backend, tmp_path, capsys):
    brief.main(["--backend", backend, "--n-samples", "300", "--output", str(tmp_path / "new")])
    check_output(capsys.readouterr().out, backend)
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert set(pictures) == PICTURES
    for content in pictures.values():
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000  # a blank canvas is smaller


@pytest.mark.gpu
def test_gpu(brief, tmp_path, capsys):
    brief.main(["--backend", "torch:cuda", "--n-samples", "300", "--output", str(tmp_path)])
    check_output(capsys.readouterr().out, "torch:cuda")


def test_own_file_sorted_by_class(brief, tmp_path, capsys):
    X, y = load_digits(return_X_y=True)
    order = np.argsort(y, kind="stable")
    path = tmp_path / "digits.npz"
    np.savez(path, X=X[order].reshape(-1, 8, 8), y=y[order])
    brief.main(["--npz", str(path), "--n-samples", "300", "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert out.startswith("300 images of 64 pixels, 10 classes")
    check_output(out, "numpy")


def test_missing_rich_is_named(quickstart, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)  # its import fails, as if not there
    jobs = [quickstart.Job("a task", "skdeep", None)]
    assert list(quickstart.watch(jobs)) == jobs
    assert '".[progress]"' in capsys.readouterr().err


def test_missing_matplotlib_is_named(quickstart, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    quickstart.save_pictures({}, None, None, tmp_path)
    assert '".[plot]"' in capsys.readouterr().err


def test_unknown_backend_is_one_line(brief, tmp_path, capsys):
    with pytest.raises(SystemExit):
        brief.main(["--backend", "abacus", "--output", str(tmp_path)])
    assert "abacus" in capsys.readouterr().err.splitlines()[-1]
