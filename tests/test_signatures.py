"""Parameters stand in one table: the source is as the script writes it, and objects hold them."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from signatures import rewritten, tabled
from sklearn import model_selection as theirs
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from skdeep import model_selection as ours
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor
from skdeep.neural_network.parameters import CLASSIFIER, UNITS
from skdeep.parameters import REQUIRED, Parameter, without

NETWORKS = [MLPClassifier, MLPRegressor, Autoencoder]
SEARCHES = ["GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"]


def source_of(cls):
    return Path(inspect.getfile(cls)).read_text(encoding="utf-8")


def test_all_are_found():
    assert {cls.__name__ for cls in tabled()} >= {*SEARCHES, *(cls.__name__ for cls in NETWORKS)}


@pytest.mark.parametrize("cls", tabled(), ids=lambda cls: cls.__name__)
def test_source_is_as_its_table_has_it(cls):
    source = source_of(cls)
    # As booleans: a difference of two files is long, and the remedy is the script.
    same = rewritten(source, cls.__name__, cls._parameters) == source
    assert same, "run python tests/signatures.py --write"
    assert list(inspect.signature(cls).parameters) == list(cls._parameters)
    assert cls._parameter_constraints.keys() == cls._parameters.keys()


@pytest.mark.parametrize(
    ("was", "became"),
    [
        ("momentum=0.9,", "momentum=0.8,"),
        ('activation="relu", *,', '*, activation="relu",'),
        ("momentum : float, default=0.9", "momentum : float, default=0.8"),
        ("Momentum of 'sgd', from 0 to 1.", "Momentum."),
        ("    max_fun : int, default=15000\n", ""),
    ],
)
def test_what_differs_in_the_source_is_put_right(was, became):
    source = source_of(MLPClassifier)
    assert source.count(was) == 1
    assert rewritten(source.replace(was, became), "MLPClassifier", CLASSIFIER) == source


def test_one_row_is_a_parameter_of_all_networks(tmp_path):
    """On a copy of the package, in processes of their own: a row, a default, a text, the script."""
    package = Path(inspect.getfile(Parameter)).parent
    shutil.copytree(package, tmp_path / "skdeep", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "skdeep/neural_network/parameters.py"
    text = table.read_text(encoding="utf-8")
    for was, became in (
        ('"rho": Par', '"rate": Parameter(0.5, [SHARE], "float", "New."),\n    "rho": Par'),
        ('"momentum": Parameter(0.9', '"momentum": Parameter(0.8'),
        ("Whether the momentum is Nesterov's.", "Whether it is Nesterov's."),
    ):
        assert text.count(was) == 1
        text = text.replace(was, became)
    table.write_text(text, encoding="utf-8")

    def python(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    script = str(Path(__file__).with_name("signatures.py"))
    said = python(script)
    assert said.returncode == 1
    assert [line.split()[1] for line in said.stdout.splitlines()] == [
        "Autoencoder",
        "MLPClassifier",
        "MLPRegressor",
        "NetworkClassifier",
        "NetworkRegressor",
    ]
    assert str(tmp_path) in said.stdout
    assert python(script, "--write").returncode == 0
    assert not python(script).stdout
    for name in ("autoencoder", "classifier", "regressor"):
        source = (tmp_path / f"skdeep/neural_network/{name}.py").read_text(encoding="utf-8")
        assert "rate=0.5," in source
        assert "    rate : float, default=0.5\n        New.\n" in source
        assert "momentum=0.8," in source
        assert "Whether it is Nesterov's." in source
    fit = "from skdeep.neural_network import Autoencoder as A; A(rate=1.5).fit([[1.0], [2.0]])"
    assert "The 'rate' parameter of Autoencoder must be a float in the range [0.0, 1.0)" in (
        python("-c", fit).stderr
    )


def test_a_new_class_is_filled_in():
    source = (
        'class New:\n    """New.\n\n    Parameters\n    ----------\n    """\n\n'
        "    def __init__(\n    ):\n        store(**locals())\n"
    )
    layers = Parameter(REQUIRED, [list], "list", "The layers.", positional=True)
    rows = {"layers": layers, **without(CLASSIFIER, *UNITS)}
    filled = rewritten(source, "New", rows)
    assert "    ----------\n    layers : list\n        The layers.\n    solver : str" in filled
    namespace = {}
    exec("from skdeep.parameters import store\n" + filled, namespace)
    arguments = inspect.signature(namespace["New"]).parameters
    assert {name: argument.default for name, argument in arguments.items()} == {
        name: row.default for name, row in rows.items()
    }
    assert [name for name, a in arguments.items() if a.kind is a.POSITIONAL_OR_KEYWORD] == [
        "layers"
    ]
    assert vars(namespace["New"]([2], tol=0.5)).keys() == rows.keys()
    with pytest.raises(ValueError, match="no section Parameters or no __init__"):
        rewritten("class New:\n    pass\n", "New", rows)


@pytest.mark.parametrize("cls", NETWORKS)
def test_constructor_stores_what_it_is_given_and_nothing_else(cls):
    units = [3]
    model = cls(hidden_layer_sizes=units, momentum=0.5)
    defaults = {name: row.default for name, row in cls._parameters.items()}
    expected = {**defaults, "momentum": 0.5, "hidden_layer_sizes": units}
    assert vars(model) == model.get_params() == expected
    assert model.hidden_layer_sizes is units
    with pytest.raises(TypeError, match="unexpected keyword argument 'momentun'"):
        cls(momentun=0.5)


class Wide(MLPRegressor):
    def __init__(self, width=7, alpha=0.1):
        super().__init__(hidden_layer_sizes=(width,), alpha=alpha)
        self.width = width


def test_subclass_may_call_the_constructor():
    model = clone(Wide(width=5).set_params(alpha=0.2))
    assert model.get_params() == {"width": 5, "alpha": 0.2}
    assert (model.hidden_layer_sizes, model.tol) == ((5,), 1e-4)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_add_one_parameter_to_scikit_learns(name):
    """Of the version that is installed: after an update, the script brings the source up."""
    parent = inspect.signature(getattr(theirs, name)).parameters.values()
    *same, last = inspect.signature(getattr(ours, name)).parameters.values()
    # As text, in which NaN equals NaN.
    assert [str(argument) for argument in same] == [str(argument) for argument in parent]
    assert [argument.kind for argument in same] == [argument.kind for argument in parent]
    assert str(last) == "max_memory=None"
    assert last.kind is last.KEYWORD_ONLY
    given = (LogisticRegression(), {"C": [1.0]})
    search = getattr(ours, name)(*given, cv=3, max_memory=5.0)
    # scikit-learn's constructors of the halving ones set more than their arguments.
    assert vars(search).keys() == vars(getattr(theirs, name)(*given)).keys() | {"max_memory"}
    copy = clone(search)
    assert (copy.cv, copy.max_memory) == (3, 5.0)
