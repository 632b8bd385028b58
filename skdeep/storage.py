"""A file of numbers, texts and arrays: written whole or not at all, read without running a thing.

It is NumPy's ``.npz``. Its first array is JSON text, in which ``{"array": i}`` stands for the i-th
of the others.
"""

import json
import os
from typing import Any
from zipfile import ZipFile

import numpy as np


def write(path: str, content: dict) -> None:
    """Replace the file by one of this content: dictionaries, lists, numbers, texts and arrays.

    A process that is killed here leaves the file that was there before, and beside it perhaps a
    part of the new one, which the next call overwrites.
    """
    arrays: list[np.ndarray] = []

    def encode(value):
        if not isinstance(value, np.ndarray):
            return value.item()
        arrays.append(value)
        return {"array": len(arrays) - 1}

    text = json.dumps(content, default=encode).encode()
    with open(part_of(path), "wb") as file:
        # To a file, not to its name: that would be given a suffix.
        np.savez(file, np.frombuffer(text, dtype=np.uint8), *arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part_of(path), path)


def read(path: str) -> dict:
    """The content of a file that :func:`write` has written.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged or something else.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "numbers")
    >>> write(path, {"a": [1.5, None], "b": np.arange(3)})
    >>> read(path)
    {'a': [1.5, None], 'b': array([0, 1, 2])}
    """
    with open(path, "rb") as file:
        try:
            return _decode(file)
        except Exception as error:  # there is no end to the ways in which bytes can be wrong
            raise ValueError(f"{path!r} is damaged, or no file that skdeep has written.") from error


def _decode(file) -> dict:
    if ZipFile(file).testzip() is not None:
        raise ValueError("A checksum is wrong.")
    file.seek(0)
    with np.load(file, allow_pickle=False) as members:
        text, *arrays = [members[f"arr_{i}"] for i in range(len(members.files))]

    def decode(pairs: dict) -> Any:
        return arrays[pairs["array"]] if pairs.keys() == {"array"} else pairs

    return json.loads(text.tobytes(), object_hook=decode)


def part_of(path: str) -> str:
    """Where a file is written before it takes the place of the one before."""
    return f"{path}.part"
