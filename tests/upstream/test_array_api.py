"""scikit-learn's array-API checks of every estimator, where SciPy has its array-API support on."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import upstream

pytest.importorskip("torch", reason="the array-API checks need torch")
pytest.importorskip("array_api_strict", reason="the array-API checks need array-api-strict")

CHECKS = Path(__file__).parents[1] / "test_estimator_checks.py"
CLASSES = (
    "Perceptron",
    "LogisticRegression",
    "LinearDiscriminantAnalysis",
    "MLPClassifier",
    "MLPRegressor",
)


def test_array_api_checks(tmp_path):
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-k", "array_api", f"--junitxml={report}", str(CHECKS)]
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
    # The tag is what makes scikit-learn check other namespaces than NumPy.
    for cls in CLASSES:
        for backend in ("numpy", "torch"):
            for namespace in ("torch", "array_api_strict"):
                assert any(
                    f"[{cls}(backend='{backend}')" in name
                    and f"array_namespace={namespace}" in name
                    for name in passed
                ), f"no array-API check of {cls}(backend={backend!r}) with {namespace} input"
