"""Write constructors' arguments and documented parameters into the source, as the tables have them.

``python tests/signatures.py`` names the classes whose source differs from their ``_parameters``;
with ``--write`` it corrects them. A new class needs a section Parameters in its docstring and
``def __init__(`` with a line ``):``, both to be filled.
"""

import argparse
import ast
import inspect
import json
import re
import textwrap
from itertools import groupby
from pathlib import Path

from skdeep import model_selection, neural_network
from skdeep.parameters import REQUIRED, Parameter

WIDTH = 100
# From the heading to the next one, or to the docstring's end.
DOCUMENTED = re.compile(
    r'(?<=\n    Parameters\n    ----------\n).*?(?=\n    \w[\w ]*\n    ---|    """)', re.DOTALL
)
ARGUMENTS = re.compile(r"(?<=\n    def __init__\(\n).*?^    \):[^\n]*\n", re.DOTALL | re.MULTILINE)


def tabled() -> list[type]:
    """The public classes that have a table."""
    public = [getattr(m, name) for m in (neural_network, model_selection) for name in m.__all__]
    return [thing for thing in public if "_parameters" in vars(thing)]


def literal(value) -> str:
    """A default as the source has it."""
    if isinstance(value, float) and value != value:
        return "np.nan"
    return json.dumps(value) if isinstance(value, str) else repr(value).replace("e-0", "e-")


def arguments(rows: dict[str, Parameter]) -> str:
    """What stands between the parentheses of ``__init__``, in as few lines as it takes."""
    words = ["self"]
    for name, row in rows.items():
        if not row.positional and "*" not in words:
            words.append("*")
        words.append(name if row.default is REQUIRED else f"{name}={literal(row.default)}")
    text = textwrap.fill(
        ", ".join(words) + ",", WIDTH - 8, break_long_words=False, break_on_hyphens=False
    )
    # The formatter would take a line for each.
    return textwrap.indent(text, " " * 8) + "\n    ):  # fmt: skip\n"


def documented(rows: dict[str, Parameter]) -> str:
    """The entries of the docstring's section; one for neighbours of which the same is said."""

    def entry(name: str) -> str:
        row = rows[name]
        default = "" if row.default is REQUIRED else f", default={literal(row.default)}"
        kind = f" : {row.type}{default}".replace('"', "'") if row.type else ""
        return kind + "\n" + textwrap.indent(inspect.cleandoc(row.text), "    ")

    told = groupby((name for name in rows if rows[name].text), key=entry)
    text = "".join(f"{', '.join(names)}{said}\n" for said, names in told)
    return textwrap.indent(text, "    ")


def rewritten(source: str, cls_name: str, rows: dict[str, Parameter]) -> str:
    """The source, with one class as its rows have it."""
    (node,) = (n for n in ast.parse(source).body if getattr(n, "name", None) == cls_name)
    lines = source.splitlines(keepends=True)
    text = "".join(lines[node.lineno - 1 : node.end_lineno])
    for place, new in ((DOCUMENTED, documented(rows)), (ARGUMENTS, arguments(rows))):
        match = place.search(text)
        if match is None:
            raise ValueError(f"{cls_name} has no section Parameters or no __init__ to be filled.")
        text = text[: match.start()] + new + text[match.end() :]
    return "".join([*lines[: node.lineno - 1], text, *lines[node.end_lineno :]])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="correct the source")
    write = parser.parse_args().write
    differing = 0
    for cls in tabled():
        file = Path(inspect.getfile(cls))
        source = file.read_text(encoding="utf-8")
        new = rewritten(source, cls.__name__, cls._parameters)
        if new != source:
            differing += not write
            print(f"{file}: {cls.__name__} {'written' if write else 'differs from its table'}")
            if write:
                file.write_text(new, encoding="utf-8")
    return int(differing > 0)


if __name__ == "__main__":
    raise SystemExit(main())
