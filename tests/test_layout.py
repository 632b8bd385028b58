"""The shape of the project: who may import whom, how long a file may be, what stands at the top.

A failure here is fixed in the file it names. A new module gets a place in ``LAYERS``.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "skdeep").rglob("*.py"))

# From the ground up: a module imports from its own package and from the layers below its own. A
# package counts as one module; `__init__` is the package's own, with the public names.
LAYERS = [
    {"version", "_sklearn", "overrides", "parameters"}
    | {"activations", "losses", "initializers", "optimizers", "rates", "schedules"},
    {"processes"},
    {"distributed", "layers", "draws", "array_api"},
    {"network"},
    {"regularization", "problem", "threads", "interrupts", "storage"},
    {"solvers"},
    {"backends"},
    {"stacking"},
    {"monitoring", "stochastic"},
    {"base"},
    {"callbacks"},
    {"fitting"},
    {"preprocessing"},
    {"linear_model", "discriminant_analysis", "neural_network", "datasets"},
    {"model_selection"},
    {"__init__"},
]
# A solver is handed its backend, an estimator asks its base for one: only these import them.
MAY_IMPORT = {"backends": {"stacking", "base", "__init__"}}

# What is optional, and the files that may import it.
OPTIONAL = {
    "torch": ["backends/torch_backend*", "distributed.py"],
    "numba": ["backends/*", "solvers/perceptron/*"],
}
# ... and where only inside a function: loading it takes a second, and it may not be installed.
LAZY = {"numba": ["*"], "torch": ["distributed.py"]}

MAX_LINES_OF_CODE = 400

TOP_LEVEL = {
    *("skdeep", "tests", "examples", "docs", ".ci"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("pyproject.toml", "constraints.txt", ".gitignore"),
}
USUAL_DOT_FILES = {".gitattributes", ".editorconfig", ".github", ".pre-commit-config.yaml"}


class Import(NamedTuple):
    line: int
    name: str  # in full: relative imports are resolved, `from a import b` is "a.b"
    lazy: bool  # inside a function


def find_imports(package: Path, file: Path) -> Iterator[Import]:
    """Every import of a file, `import_module` of a fixed name included."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    folder = (package.name, *file.relative_to(package).parts[:-1])

    def absolute(name: str, level: int) -> str:
        above = folder[: len(folder) - level + 1] if level else ()
        return ".".join([*above, *filter(None, [name])])

    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                found = [f"{absolute(module, level)}.{alias.name}" for alias in names]
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                level = len(name) - len(name.lstrip("."))
                found = [absolute(name[level:], level)]
            case _:
                continue
        for name in found:
            yield Import(node.lineno, name, id(node) in inside)


def violations(package: Path) -> Iterator[str]:
    """The imports of a package that the tables above forbid, a readable line each."""
    rank = {module: level for level, layer in enumerate(LAYERS) for module in layer}
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package)
        own = path.parts[0].removesuffix(".py")
        if own not in rank:
            yield f"{path}: {own} has no place in LAYERS"
            continue
        for line, name, lazy in find_imports(package, file):
            what = f"{path}:{line} imports {name}"
            root, *rest = name.split(".")
            if root == package.name:
                other = rest[0] if rest and rest[0] in rank else "__init__"
                if other != own and rank[other] >= rank[own]:
                    yield f"{what}: {other} is not below {own}"
                elif other != own and own not in MAY_IMPORT.get(other, {own}):
                    yield f"{what}: only {sorted(MAY_IMPORT[other])} import {other}"
            for optional in OPTIONAL.keys() & {root, *rest}:  # array_api_compat.torch is torch too
                if not any(fnmatch(path.as_posix(), allowed) for allowed in OPTIONAL[optional]):
                    yield f"{what}: only {OPTIONAL[optional]} import {optional}"
                elif not lazy and any(fnmatch(path.as_posix(), p) for p in LAZY.get(optional, ())):
                    yield f"{what}: import {optional} inside the function that needs it"


def test_tables_name_what_exists():
    modules = {path.name.removesuffix(".py") for path in (ROOT / "skdeep").iterdir()}
    named = set().union(*LAYERS, MAY_IMPORT, *MAY_IMPORT.values())
    assert named - modules == set()
    paths = [file.relative_to(ROOT / "skdeep").as_posix() for file in FILES]
    for pattern in {pattern for patterns in OPTIONAL.values() for pattern in patterns}:
        assert any(fnmatch(path, pattern) for path in paths), pattern


def lines_of_code(source: str) -> int:
    """Lines with code on them: no docstrings, no comments, no blank lines."""
    prose = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in prose | {tokenize.ENDMARKER}:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            code.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(code)


def test_imports_go_one_way():
    assert FILES
    assert not list(violations(ROOT / "skdeep"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_file_is_short(file):
    assert lines_of_code(file.read_text(encoding="utf-8")) <= MAX_LINES_OF_CODE, (
        "two subjects in one file: make it a package of the same name"
    )


def test_top_level():
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs git and a checkout: {error}")
    tracked = {name.partition("/")[0] for name in listing.stdout.split("\0") if name}
    assert tracked - USUAL_DOT_FILES == TOP_LEVEL


def test_readme_has_its_two_commands():
    """`.ci/run` reads the second one; a person pastes them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## Quick start\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert len(block.replace("\\\n", "").splitlines()) == 1


# The rules above, tried on a file that breaks each: (file, its text, what is to be said of it).
BROKEN = [
    ("solvers/lbfgs.py", "from ..backends.base import Backend", "backends is not below solvers"),
    ("solvers/lbfgs.py", "from skdeep import stacking", "stacking is not below solvers"),
    ("network.py", "import skdeep.solvers.full_batch", "solvers is not below network"),
    ("losses.py", "from .activations import ACTIVATIONS", "activations is not below losses"),
    ("losses.py", "def f():\n    from . import network", "network is not below losses"),
    ("stacking.py", "from . import LDA", "__init__ is not below stacking"),
    ("linear_model/logistic.py", "from ..backends import get_backend", "only ['__init__', 'base'"),
    ("backends/numpy_backend.py", "from ..stacking import stack", "stacking is not below backends"),
    ("base.py", "import_module('skdeep.linear_model')", "linear_model is not below base"),
    ("base.py", "importlib.import_module('.datasets', __package__)", "datasets is not below base"),
    ("base.py", "import torch", "import torch"),
    ("network.py", "from array_api_compat import torch as xp", "import torch"),
    ("backends/numpy_backend.py", "import torch.nn", "import torch"),
    ("base.py", "def f():\n    import numba", "import numba"),
    ("solvers/perceptron/loops.py", "from numba import njit", "inside the function"),
    ("distributed.py", "from torch import distributed", "inside the function"),
    ("layers/dense.py", "from ..distributed import data_parallel", "distributed is not below"),
    ("helpers.py", "", "helpers has no place in LAYERS"),
]
SOUND = [
    ("solvers/lbfgs.py", "from ..network import forward\nfrom .full_batch import wolfe"),
    ("solvers/perceptron/loops.py", "def compiled():\n    from numba import njit"),
    ("distributed.py", "def joined():\n    from torch import distributed"),
    ("backends/torch_backend.py", "import torch\nfrom ..solvers import full_batch"),
    ("backends/torch_backend_convolution.py", "from array_api_compat import torch as xp"),
    ("base.py", "from .backends import get_backend\nfrom array_api_compat import is_torch_array"),
    ("neural_network/classifier.py", "from ..base import Model\nfrom .base import BaseNetwork"),
    ("model_selection/search.py", "from ..linear_model import LogisticRegression"),
    ("__init__.py", "from .backends import register_backend\nfrom . import linear_model"),
]


@pytest.mark.parametrize(("file", "source", "said"), BROKEN)
def test_forbidden_import_is_found(file, source, said, tmp_path):
    (complaint,) = violations(write_package(tmp_path, file, source))
    assert said in complaint


@pytest.mark.parametrize(("file", "source"), SOUND)
def test_allowed_import_passes(file, source, tmp_path):
    assert not list(violations(write_package(tmp_path, file, source)))


def write_package(folder: Path, file: str, source: str) -> Path:
    path = folder / "skdeep" / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    return folder / "skdeep"


def test_lines_of_code_leave_prose_out():
    source = '"""Two\nlines."""\n\n# why\nx = (  # one\n    1,\n    # why\n)\n\n\n'
    source += 'def f():\n    """Says."""\n    return """a\n\n# text"""\n'
    assert lines_of_code(source) == 7


def test_families_of_solvers_do_not_know_each_other():
    """Few files lie flat in ``solvers``, and no family imports from another."""
    package = ROOT / "skdeep"
    families = [folder for folder in (package / "solvers").iterdir() if folder.name[0] != "_"]
    assert len(list((package / "solvers").glob("*.py"))) <= 6
    others = []
    for family in families:
        for file in family.glob("*.py"):
            for _, name, _ in find_imports(package, file):
                if name.startswith("skdeep.solvers.") and name.split(".")[2] != family.name:
                    others.append(f"{file.name} imports {name}")
    assert len(families) == 4 and not others


def imports_of_pages() -> set[tuple[str, str]]:
    """Module and name of all that documents and examples import from the package."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.py")]
    statement = re.compile(r"from (skdeep[\w.]*) import ([\w, ]+)")
    return {
        (module, name.split()[0])
        for page in pages
        for module, names in statement.findall(page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }


@pytest.mark.parametrize("module", sorted({module for module, _ in imports_of_pages()}))
def test_public_modules_say_what_is_public(module):
    """What pages import is in ``__all__``, and all of that exists and is explained."""
    found = importlib.import_module(module)
    shown = {name for of, name in imports_of_pages() if of == module}
    submodules = {name for name in shown if isinstance(getattr(found, name), ModuleType)}
    assert shown - submodules <= set(found.__all__)
    for name in found.__all__:
        value = getattr(found, name)
        assert not callable(value) or value.__doc__, f"{module}.{name} has no docstring"
