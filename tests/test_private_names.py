"""What scikit-learn does not promise to keep is taken from one module, and is still there."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from skdeep import _sklearn

ROOT = Path(__file__).parents[1]


def private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def test_nothing_has_moved():
    moved = []
    for module, names in _sklearn.PRIVATE.items():
        try:
            home = import_module(module)
        except ImportError:
            moved.append(module)
            continue
        moved += [f"{module}.{name}" for name in names if not hasattr(home, name)]
    assert not moved


def test_other_modules_take_private_names_from_there():
    taken = []
    for file in (ROOT / "skdeep").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                taken += [f"{file}: {n}" for n in names if n.startswith("sklearn.") and private(n)]
    assert not taken


def test_every_name_is_used():
    source = "".join(
        file.read_text(encoding="utf-8")
        for file in (ROOT / "skdeep").rglob("*.py")
        if file.name != "_sklearn.py"
    )
    names = [name for names in _sklearn.PRIVATE.values() for name in names]
    assert [name for name in names if not re.search(rf"\b{name}\b", source)] == []
    assert all(private(f"{home}.{n}") for home, names in _sklearn.PRIVATE.items() for n in names)


def test_a_name_that_has_moved_is_named(monkeypatch):
    monkeypatch.setitem(_sklearn._HOMES, "gone", "sklearn.utils")
    with pytest.raises(ImportError, match="has moved gone out of sklearn.utils"):
        _ = _sklearn.gone
    with pytest.raises(AttributeError, match="no attribute 'never'"):
        _ = _sklearn.never


def test_importing_a_model_imports_no_search():
    code = "import sys, skdeep.linear_model; print('skdeep.model_selection' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_versions_beyond_those_tried_are_not_asked_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'"scikit-learn>=[\d.]+,<[\d.]+"', text)
