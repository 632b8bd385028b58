"""scikit-learn's array-API checks and our own tests, where SciPy has its array-API support on."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import upstream

pytest.importorskip("torch", reason="the array-API checks need torch")
pytest.importorskip("array_api_strict", reason="the array-API checks need array-api-strict")

TESTS = Path(__file__).parents[1]
CLASSES = (
    "Perceptron",
    "LogisticRegression",
    "LinearDiscriminantAnalysis",
    "MLPClassifier",
    "MLPRegressor",
)


def run(tests, report, *options) -> list[str]:
    """Names of the tests that passed; none may fail, nor be skipped without need."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [f"--junitxml={report}", *options, str(tests)]
    done = subprocess.run(
        command,
        env=upstream.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    passed = []
    for case in ElementTree.parse(report).iter("testcase"):
        skip = case.find("skipped")
        if skip is None:
            passed.append(case.get("name"))
        else:
            reason = skip.get("message")
            assert any(text in reason for text in upstream.SKIPS), f"{case.get('name')}: {reason}"
    return passed


def test_array_api_dispatch(tmp_path):
    assert len(run(TESTS / "test_array_api_dispatch.py", tmp_path / "report.xml")) > 80


def test_array_api_checks(tmp_path):
    passed = run(TESTS / "test_estimator_checks.py", tmp_path / "report.xml", "-k", "array_api")
    # The tag is what makes scikit-learn check other namespaces than NumPy.
    for cls in CLASSES:
        for backend in ("numpy", "torch"):
            for namespace in ("torch", "array_api_strict"):
                assert any(
                    f"[{cls}(backend='{backend}')" in name
                    and f"array_namespace={namespace}" in name
                    for name in passed
                ), f"no array-API check of {cls}(backend={backend!r}) with {namespace} input"
