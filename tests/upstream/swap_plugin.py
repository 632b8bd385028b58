"""Pytest plugin: scikit-learn's own tests, with skdeep's classes in place of scikit-learn's.

Loaded with ``-p swap_plugin`` by ``upstream.py``. The swap happens when the plugin is imported,
before pytest imports any test module, so that ``from sklearn.linear_model import
LogisticRegression`` in a test gives skdeep's class.
"""

import importlib
import json
import sys
import tomllib
from pathlib import Path

import pytest
import sklearn
import sklearn.base
import sklearn.experimental.enable_halving_search_cv

HERE = Path(__file__).parent
SITE = Path(sklearn.__file__).parent.parent

# Public module, the same in both packages -> names to swap where skdeep has them.
CLASSES = {
    "linear_model": ("Perceptron", "LogisticRegression", "LogisticRegressionCV"),
    "discriminant_analysis": ("LinearDiscriminantAnalysis",),
    "neural_network": ("MLPClassifier", "MLPRegressor"),
    "model_selection": (
        "GridSearchCV",
        "RandomizedSearchCV",
        "HalvingGridSearchCV",
        "HalvingRandomSearchCV",
    ),
}

# Imported before the swap, so that what they hold (StackingClassifier's default final estimator,
# say) is swapped as well.
USERS = (
    "calibration",
    "compose",
    "ensemble",
    "feature_selection",
    "frozen",
    "inspection",
    "model_selection",
    "multiclass",
    "multioutput",
    "pipeline",
    "semi_supervised",
)


def swap():
    """Replace scikit-learn's classes in every loaded module of scikit-learn; return ours.

    But for the private modules that define them: the functions there set attributes of their own
    class by hand, in shapes that no fit gives.
    """
    for name in USERS:
        importlib.import_module(f"sklearn.{name}")
    pairs = {}
    for module, names in CLASSES.items():
        theirs = importlib.import_module(f"sklearn.{module}")
        ours = importlib.import_module(f"skdeep.{module}")
        pairs.update((getattr(theirs, n), getattr(ours, n)) for n in names if hasattr(ours, n))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "sklearn":
            continue
        private = name.rpartition(".")[2].startswith("_")
        for attribute, value in list(vars(module).items()):
            if not isinstance(value, type) or value not in pairs:
                continue
            if not (private and value.__module__ == name):
                setattr(module, attribute, pairs[value])
    return {ours.__name__: ours for ours in pairs.values()}


SWAPPED = swap()


def load_xfails():
    """Test id -> reason."""
    entries = tomllib.loads((HERE / "xfail.toml").read_text()).get("xfail", [])
    listed = {entry["test"]: entry["reason"] for entry in entries}
    if len(listed) != len(entries):
        raise ValueError("xfail.toml lists a test twice")
    return listed


def test_id(item):
    """``sklearn/…/test_x.py::test_name[parameters]``, wherever scikit-learn is installed."""
    return f"{item.path.relative_to(SITE).as_posix()}::{item.nodeid.partition('::')[2]}"


class Recorder:
    """Marks the listed tests and writes what became of each test."""

    def __init__(self, path):
        self.path = path
        self.ids = {}
        self.outcomes = {}
        self.details = {}
        self.fitted = {}
        self.unknown = []
        self.names = set()
        self.running = None
        self._watch_fits()

    def _watch_fits(self):
        # Every fit of a scikit-learn estimator validates its parameters, so this sees which tests
        # really train a class of ours without changing the class itself.
        original = sklearn.base.BaseEstimator._validate_params
        recorder = self

        def watched(estimator):
            if recorder.running and SWAPPED.get(type(estimator).__name__) is type(estimator):
                recorder.fitted[recorder.running].add(type(estimator).__name__)
            return original(estimator)

        sklearn.base.BaseEstimator._validate_params = watched

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        xfails = load_xfails()
        for item in items:
            name = self.ids[item.nodeid] = test_id(item)
            if name in xfails:
                item.add_marker(pytest.mark.xfail(reason=xfails[name], strict=True))
        modules = {name.partition("::")[0] for name in self.ids.values()}
        collected = set(self.ids.values())
        self.unknown = sorted(
            name for name in xfails if name.partition("::")[0] in modules and name not in collected
        )
        for module in {item.module for item in items}:
            values = [value for value in vars(module).values() if isinstance(value, type)]
            self.names |= {name for name, ours in SWAPPED.items() if ours in values}

    def pytest_runtest_setup(self, item):
        self.running = self.ids[item.nodeid]
        self.fitted[self.running] = set()

    def pytest_runtest_logreport(self, report):
        name = self.ids[report.nodeid]
        if report.failed:
            self.outcomes[name] = "failed"
            self.details[name] = report.longreprtext
        elif report.skipped and hasattr(report, "wasxfail"):
            self.outcomes[name] = "xfailed"
        elif report.skipped:
            self.outcomes[name] = "skipped"
            self.details[name] = report.longrepr[2]
        elif report.when == "call":
            self.outcomes[name] = "passed"

    def pytest_sessionfinish(self):
        try:
            import torch

            gpu = torch.cuda.is_available()
        except ModuleNotFoundError:
            gpu = False
        report = {
            "gpu": gpu,
            "swapped": sorted(self.names),
            "unknown": self.unknown,
            "tests": {
                name: {
                    "outcome": self.outcomes.get(name, "failed"),
                    "detail": self.details.get(name, ""),
                    "fitted": sorted(self.fitted.get(name, ())),
                }
                for name in self.ids.values()
            },
        }
        Path(self.path).write_text(json.dumps(report))


def pytest_addoption(parser):
    parser.addoption("--upstream-report", required=True, help="JSON file to write")


def pytest_configure(config):
    config.pluginmanager.register(Recorder(config.getoption("--upstream-report")))
