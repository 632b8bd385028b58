"""scikit-learn's own tests pass on skdeep, but for the few that ``xfail.toml`` lists."""

import sys
from pathlib import Path

import pytest
import sklearn

sys.path.insert(0, str(Path(__file__).parent))

import upstream

pytest.importorskip("torch", reason="the array-API tests need torch")
pytest.importorskip("array_api_strict", reason="the array-API tests need array-api-strict")
pytestmark = pytest.mark.skipif(
    not sklearn.__version__.startswith(upstream.SKLEARN_RELEASE + "."),
    reason=f"the expected failures are listed for scikit-learn {upstream.SKLEARN_RELEASE}",
)


def listed():
    import tomllib

    text = (Path(upstream.HERE) / "xfail.toml").read_text()
    return tomllib.loads(text).get("xfail", [])


@pytest.mark.parametrize("module", upstream.MODULES, ids=lambda m: Path(m).stem)
def test_upstream(module):
    run = upstream.run_module(module)
    problems = run.problems()
    assert not problems, "\n\n".join([f"{len(problems)} problems in {module}", *problems[:20]])
    if run.report["gpu"]:
        return  # more tests run there than the page counts
    page = upstream.PAGE.read_text() if upstream.PAGE.exists() else ""
    assert run.rows() in page, (
        "docs/compatibility.md is out of date: run python tests/upstream/upstream.py --write\n"
        + run.rows()
    )


def test_list_of_expected_failures():
    entries = listed()
    for entry in entries:
        assert set(entry) == {"test", "reason"}, entry
        assert entry["test"].partition("::")[0] in upstream.MODULES, entry["test"]
        assert entry["reason"].strip() and "\n" not in entry["reason"], entry["test"]
    assert len({entry["test"] for entry in entries}) == len(entries)
    own = [entry for entry in entries if entry["test"].partition("::")[0] in upstream.OWN_TESTS]
    assert len(own) <= 8
    search = [e for e in entries if e["test"].partition("::")[0] in upstream.SEARCH_TESTS]
    assert len(search) <= 10
