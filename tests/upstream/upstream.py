"""Run scikit-learn's own tests on skdeep and write ``docs/compatibility.md``.

``python tests/upstream/upstream.py`` runs all modules, ``… upstream.py test_mlp`` those whose name
has that text, ``… upstream.py --write`` all of them and then writes the page.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import sklearn

import skdeep

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "compatibility.md"
SITE = Path(sklearn.__file__).parent.parent

# The list of expected failures is about these releases' tests.
SKLEARN_RELEASE = "1.9"

# Test module -> classes of ours that must be among its names.
OWN_TESTS = {
    "sklearn/linear_model/tests/test_logistic.py": ("LogisticRegression", "LogisticRegressionCV"),
    "sklearn/linear_model/tests/test_perceptron.py": ("Perceptron",),
    "sklearn/tests/test_discriminant_analysis.py": ("LinearDiscriminantAnalysis",),
    "sklearn/neural_network/tests/test_mlp.py": ("MLPClassifier", "MLPRegressor"),
}
COMPOSITION_TESTS = {
    "sklearn/tests/test_calibration.py": ("LinearDiscriminantAnalysis", "LogisticRegression"),
    "sklearn/tests/test_multiclass.py": ("LogisticRegression", "Perceptron"),
    "sklearn/tests/test_multioutput.py": ("LogisticRegression",),
    "sklearn/ensemble/tests/test_voting.py": ("LogisticRegression",),
    "sklearn/ensemble/tests/test_stacking.py": ("LogisticRegression", "MLPClassifier"),
    "sklearn/feature_selection/tests/test_rfe.py": ("LogisticRegression",),
}
SEARCH_TESTS = {
    "sklearn/model_selection/tests/test_search.py": ("GridSearchCV", "RandomizedSearchCV"),
}
MODULES = OWN_TESTS | COMPOSITION_TESTS | SEARCH_TESTS

# Why a test may be skipped: no such hardware or package, or scikit-learn skips it for itself too.
SKIPS = (
    "PyTorch test requires cuda",
    "no XPU device is available",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "cupy is not installed",
    "dpnp is not installed",
    "newton-cholesky might converge very fast",
    "SKLEARN_RUN_FLOAT32_TESTS",
)


class Run(NamedTuple):
    module: str
    output: str
    report: dict

    def problems(self) -> list[str]:
        """What is wrong with the run, in words; nothing if it is as it should be."""
        if not self.report:
            return ["the run did not finish", self.output[-5000:]]
        found = [
            f"xfail.toml lists {name}, which does not exist" for name in self.report["unknown"]
        ]
        found += [
            f"{name} is not skdeep's in this module"
            for name in MODULES[self.module]
            if name not in self.report["swapped"]
        ]
        for name, test in self.report["tests"].items():
            if test["outcome"] == "failed":
                found.append(f"FAILED {name}\n{test['detail'][-1500:]}")
            elif test["outcome"] == "skipped" and not any(s in test["detail"] for s in SKIPS):
                found.append(f"skipped without need: {name}: {test['detail']}")
        return found

    def rows(self) -> str:
        """Lines of the page's second table: the module, then each class that its tests train."""
        tests = self.report["tests"].values()
        lines = [_row([f"`{self.module}`", ""], tests)]
        for name in sorted({name for test in tests for name in test["fitted"]}):
            lines.append(_row(["", f"`{name}`"], [t for t in tests if name in t["fitted"]]))
        return "\n".join(lines)


def _row(first, tests):
    count = Counter(test["outcome"] for test in tests)
    run = sum(count.values()) - count["skipped"]
    cells = [
        *first,
        run,
        count["passed"],
        count["xfailed"],
        run - count["passed"] - count["xfailed"],
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def environment() -> dict[str, str]:
    """The variables that scikit-learn's array-API tests need, without what an outer run left."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTEST_", "SKLEARN_", "COV_"))
    }
    package = str(Path(skdeep.__file__).parent.parent)
    paths = [str(HERE), package, os.environ.get("PYTHONPATH", "")]
    kept["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # SciPy reads it once, when it is imported: hence the process of its own.
    kept["SCIPY_ARRAY_API"] = "1"
    return kept


def run_module(module: str, timeout: float = 500) -> Run:
    """Run one of scikit-learn's test modules in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        Path(folder, "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "swap_plugin", "-p", "no:xdist"]
        command += ["-p", "no:cacheprovider", "-c", "pytest.ini", "--upstream-report", report.name]
        command += ["-W", "ignore::sklearn.exceptions.ConvergenceWarning", str(SITE / module)]
        # In an empty folder, or pytest would load the conftest.py of ours next to it.
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        finished = report.exists() and done.returncode in (0, 1)
        return Run(module, done.stdout, json.loads(report.read_text()) if finished else {})


HEADER = """\
# Compatibility with scikit-learn

Written by `python tests/upstream/upstream.py --write`; do not edit. It runs the tests that ship
with scikit-learn {version}, with skdeep's classes in place of scikit-learn's, under
`SCIPY_ARRAY_API=1` with array-api-strict and torch (CPU). The test suite runs the same and fails if
this page is out of date. `tests/upstream/xfail.toml` lists the expected failures; a listed test
that passes, or no longer exists, fails the run. Tests for which scikit-learn finds no hardware or
package (a GPU, CuPy, dpnp) are not counted.

"""


def render(runs: list[Run]) -> str:
    """The page."""
    text = HEADER.format(version=sklearn.__version__)
    own = [run for run in runs if run.module in OWN_TESTS]
    for title, some in (
        ("of these classes", own),
        ("of composition", [r for r in runs if r not in own]),
    ):
        tests = [test for run in some for test in run.report["tests"].values()]
        count = Counter(test["outcome"] for test in tests)
        text += (
            f"- scikit-learn's tests {title}: {len(tests) - count['skipped']} run, "
            f"{count['passed']} passed, {count['xfailed']} expected failures.\n"
        )
    text += "\n## By class\n\nTests that train the class, in any of the modules below.\n\n"
    text += "| class | tests run | passed | expected failures | failed |\n| --- |" + " ---: |" * 4
    tests = [test for run in runs for test in run.report["tests"].values()]
    for name in sorted({name for test in tests for name in test["fitted"]}):
        text += "\n" + _row([f"`{name}`"], [test for test in tests if name in test["fitted"]])
    text += "\n\n## By test module\n\nAll tests of a module, then those that train a class.\n"
    text += "\n| module | class | tests run | passed | expected failures | failed |\n"
    text += "| --- | --- |" + " ---: |" * 4 + "\n"
    text += "\n".join(run.rows() for run in runs)
    text += "\n\n## Expected failures\n\n"
    from swap_plugin import load_xfails

    xfails = load_xfails()
    text += "".join(f"- `{test}`: {reason}\n" for test, reason in xfails.items()) or "None.\n"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="text in the names of the modules to run")
    parser.add_argument("--write", action="store_true", help="run all and write the page")
    arguments = parser.parse_args()
    names = [] if arguments.write else arguments.names
    runs = []
    for module in MODULES:
        if names and not any(name in module for name in names):
            continue
        runs.append(run_module(module))
        print(f"{module}: {runs[-1].output.strip().splitlines()[-1]}")
        for problem in runs[-1].problems():
            print(f"  {problem}")
    if arguments.write and all(run.report for run in runs):
        PAGE.write_text(render(runs))
        print(f"wrote {PAGE}")
    return int(any(run.problems() for run in runs))


if __name__ == "__main__":
    raise SystemExit(main())
