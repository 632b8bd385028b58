"""The programs of docs/extending.md run from any folder, and are as short as the page promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
MOST_LINES = {
    "An activation": 8,
    "A loss": 12,
    "An optimizer": 8,
    "A regulariser": 12,
    "A layer": 25,
    "A schedule": 6,
    "An initializer": 6,
    "A backend with an override": 15,
}


def test_every_part_has_its_program():
    assert list(PROGRAMS) == list(MOST_LINES)


@pytest.mark.parametrize("part", MOST_LINES)
def test_program(part, tmp_path):
    program = PROGRAMS[part]
    assert len([line for line in program.splitlines() if line.strip()]) <= MOST_LINES[part]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() and "nan" not in run.stdout
