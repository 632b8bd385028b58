"""Data to fit: tables of kinds of rows, of dirt, of labels, targets and weights, and of forms.

Each table maps a name to a small function; a new kind of data is one entry.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.datasets import load_wine

from .draws import Draw

# Rows: ``(rng, codes, n_features) -> X`` for class indices of shape (n_samples,).


def blobs(rng, codes, p):
    centers = rng.normal(scale=2.0, size=(5, p))
    return rng.normal(size=(len(codes), p)) + centers[codes]


def overlapping(rng, codes, p):
    return blobs(rng, np.where(rng.random(len(codes)) < 0.2, 0, codes), p)


def whole_numbers(rng, codes, p):
    return np.round(2.0 * overlapping(rng, codes, p))


def indicators(rng, codes, p):
    """One-hot: a column a category, of which one is the class's own in two rows of three."""
    category = np.where(rng.random(len(codes)) < 0.67, codes, rng.integers(p, size=len(codes)))
    return np.eye(p)[category % p]


def mostly_zero(rng, codes, p):
    return np.abs(overlapping(rng, codes, p)) * (rng.random((len(codes), p)) < 0.3)


def wine(rng, codes, p):
    """Of the wine data, in its own units: proline and magnesium first, of hundreds."""
    bunch = load_wine()
    members = [np.flatnonzero(bunch.target == code % 3) for code in range(4)]
    rows = [rng.choice(members[code]) for code in codes]
    return bunch.data[rows][:, [12, 4, 0, 1, 2, 3, 5][:p]]


ROWS: dict[str, Callable] = {
    "blobs": blobs,
    "overlapping": overlapping,
    "whole numbers": whole_numbers,
    "indicators": indicators,
    "mostly zero": mostly_zero,
    "wine": wine,
}
# Rows in general position: no answer hangs on a tie.
GENERAL = ("blobs", "overlapping", "wine")

# Dirt: ``(rng, X, codes) -> (X, codes)``.


class Dirt(NamedTuple):
    make: Callable
    # Whether answers are still determined well enough to compare.
    harmless: bool = False


def on_X(change: Callable, harmless: bool = False) -> Dirt:
    return Dirt(lambda rng, X, codes: (change(rng, X.copy()), codes), harmless)


def on_rows(choose: Callable) -> Dirt:
    def make(rng, X, codes):
        rows = choose(rng, codes)
        return X[rows], codes[rows]

    return Dirt(make)


def put(value) -> Callable:
    """Change one entry in place."""

    def change(rng, X):
        X.flat[rng.integers(max(X.size, 1)) :][:1] = value
        return X

    return change


DIRT: dict[str, Dirt] = {
    "none": Dirt(lambda rng, X, codes: (X, codes), harmless=True),
    "offset 100": on_X(lambda rng, X: X + 100.0, harmless=True),
    "a constant column": on_X(lambda rng, X: np.column_stack([X, np.full(len(X), 3.0)])),
    "a zero column": on_X(lambda rng, X: np.column_stack([np.zeros(len(X)), X])),
    "a column twice": on_X(lambda rng, X: np.column_stack([X, X[:, 0]])),
    "a sum of columns": on_X(lambda rng, X: np.column_stack([X, X.sum(axis=1)])),
    "offset 1e4": on_X(lambda rng, X: X + 1e4),
    "offset 1e8": on_X(lambda rng, X: X - 1e8),
    "scales apart": on_X(lambda rng, X: X * np.logspace(-8, 8, X.shape[1])),
    "scales 1e-2 to 1e2": on_X(lambda rng, X: X * np.logspace(-2, 2, X.shape[1])),
    "times 1e-8": on_X(lambda rng, X: X * 1e-8),
    "times 1e8": on_X(lambda rng, X: X * 1e8),
    "times 1e15": on_X(lambda rng, X: X * 1e15),
    "times 1e160": on_X(lambda rng, X: X * 1e160),
    "times 1e-160": on_X(lambda rng, X: X * 1e-160),
    "an outlier": on_X(put(1e6)),
    "a huge entry": on_X(put(1e300)),
    "zeros": on_X(lambda rng, X: 0.0 * X),
    "constant": on_X(lambda rng, X: 0.0 * X + 7.0),
    "equal rows": on_X(lambda rng, X: 0.0 * X + X[:1]),
    "NaN": on_X(put(np.nan)),
    "infinity": on_X(put(-np.inf)),
    "few rows": on_rows(lambda rng, codes: slice(3)),
    "a row per class": on_rows(lambda rng, codes: np.unique(codes, return_index=True)[1]),
    "a class of one": on_rows(
        lambda rng, codes: np.sort(np.append(np.flatnonzero(codes != 1), np.argmax(codes == 1)))
    ),
    "sorted by class": on_rows(lambda rng, codes: np.argsort(codes, kind="stable")),
    "one class": on_rows(lambda rng, codes: codes == codes[:1]),
    "one row": on_rows(lambda rng, codes: slice(1)),
    "no rows": on_rows(lambda rng, codes: slice(0)),
    "no columns": on_X(lambda rng, X: X[:, :0]),
    "one column": on_X(lambda rng, X: X[:, :1]),
}

# Labels: ``(rng, codes) -> y``; targets: ``(rng, X, codes) -> y``.
# Sound ones leave an estimator no reason to refuse.

LABELS: dict[str, Callable] = {
    "0, 1, ...": lambda rng, codes: codes,
    "negative": lambda rng, codes: 3 * codes - 4,
    "strings": lambda rng, codes: np.array(["no", "yes", "perhaps", "à"])[codes],
    "objects": lambda rng, codes: np.array(["b", "a", "d", "c"], dtype=object)[codes],
    "floats": lambda rng, codes: codes.astype(float),
    "bool": lambda rng, codes: codes == 1,
    "int8": lambda rng, codes: codes.astype(np.int8),
    "uint64": lambda rng, codes: codes.astype(np.uint64),
    "list": lambda rng, codes: codes.tolist(),
    "list of strings": lambda rng, codes: [f"class {code}" for code in codes],
    "series": lambda rng, codes: pd.Series(codes, index=np.arange(len(codes)) + 5, name="label"),
    "categorical": lambda rng, codes: pd.Series(codes.astype(str), dtype="category"),
    "read-only": lambda rng, codes: read_only(codes),
    "every other": lambda rng, codes: np.repeat(codes, 2)[::2],
}
BAD_LABELS: dict[str, Callable] = {
    "column": lambda rng, codes: codes[:, None],
    "indicators": lambda rng, codes: (
        np.eye(4, dtype=int)[codes] | (rng.random((len(codes), 4)) < 0.2)
    ),
    "numbers": lambda rng, codes: codes + 0.5 * rng.random(len(codes)),
    "NaN": lambda rng, codes: np.where(np.arange(len(codes)) == 2, np.nan, codes),
    "None": lambda rng, codes: np.where(np.arange(len(codes)) == 2, None, codes),
    "mixed": lambda rng, codes: np.where(np.arange(len(codes)) % 2, "a", codes.astype(object)),
    "too many": lambda rng, codes: np.append(codes, 0),
    "two outputs": lambda rng, codes: np.column_stack([codes, codes]),
    "absent": lambda rng, codes: None,
}


def linear(rng, X, codes):
    """A linear function of what is finite in X, with noise."""
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(X / np.abs(X).max(initial=1e-300), posinf=0, neginf=0)
    return spread @ rng.normal(size=X.shape[1]) + 0.1 * rng.normal(size=len(X))


TARGETS: dict[str, Callable] = {
    "floats": linear,
    "float32": lambda rng, X, codes: linear(rng, X, codes).astype(np.float32),
    "whole numbers": lambda rng, X, codes: codes,
    "list": lambda rng, X, codes: linear(rng, X, codes).tolist(),
    "series": lambda rng, X, codes: pd.Series(linear(rng, X, codes)),
    "two outputs": lambda rng, X, codes: np.column_stack([linear(rng, X, codes), codes]),
    "positive": lambda rng, X, codes: np.abs(linear(rng, X, codes)),
    "constant": lambda rng, X, codes: np.full(len(X), 2.0),
    "read-only": lambda rng, X, codes: read_only(linear(rng, X, codes)),
}
BAD_TARGETS: dict[str, Callable] = {
    "column": lambda rng, X, codes: linear(rng, X, codes)[:, None],
    "huge": lambda rng, X, codes: 1e200 * linear(rng, X, codes),
    "far": lambda rng, X, codes: 1e8 + linear(rng, X, codes),
    "NaN": lambda rng, X, codes: np.where(np.arange(len(X)) == 1, np.nan, codes),
    "infinity": lambda rng, X, codes: np.where(np.arange(len(X)) == 1, np.inf, codes),
    "strings": lambda rng, X, codes: np.array(["no", "yes", "perhaps", "à"])[codes],
    "too few": lambda rng, X, codes: codes[:-1],
    "absent": lambda rng, X, codes: None,
}

# Weights: ``(rng, n_samples) -> sample_weight``.

WEIGHTS: dict[str, Callable] = {
    "none": lambda rng, n: None,
    "ones": lambda rng, n: np.ones(n),
    "positive": lambda rng, n: rng.uniform(0.5, 2.0, n),
    "whole numbers": lambda rng, n: rng.integers(1, 4, n),
    "with zeros": lambda rng, n: rng.integers(0, 3, n).astype(float),
    "list": lambda rng, n: [1.0, 2.0] * (n // 2) + [1.0] * (n % 2),
    "float32": lambda rng, n: rng.uniform(0.5, 2.0, n).astype(np.float32),
    "read-only": lambda rng, n: read_only(rng.uniform(0.5, 2.0, n)),
}
BAD_WEIGHTS: dict[str, Callable] = {
    "all zero": lambda rng, n: np.zeros(n),
    "one negative": lambda rng, n: np.where(np.arange(n) == 1, -1.0, 1.0),
    "all negative": lambda rng, n: -np.ones(n),
    "huge": lambda rng, n: np.full(n, 1e300),
    "apart": lambda rng, n: 10.0 ** rng.uniform(-8, 8, n),
    "tiny": lambda rng, n: np.full(n, 1e-300),
    "NaN": lambda rng, n: np.where(np.arange(n) == 1, np.nan, 1.0),
    "too many": lambda rng, n: np.ones(n + 1),
    "column": lambda rng, n: np.ones((n, 1)),
    "strings": lambda rng, n: np.full(n, "a"),
    "a number": lambda rng, n: 2.0,
}

# Forms of X: the same rows in another container.


class Form(NamedTuple):
    make: Callable[[np.ndarray], Any]
    sparse: bool = False
    single: bool = False  # computed in single precision
    rounded: bool = False  # to few values, on which answers may hang on ties
    taken: bool = True  # by every estimator that takes X at all


class OwnArray(np.ndarray):
    """A subclass, as other packages have."""


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def memory_mapped(X: np.ndarray) -> np.ndarray:
    if X.size == 0:  # there are no maps of nothing
        return X
    with tempfile.TemporaryDirectory() as folder:  # the map outlives its file's name
        path = Path(folder) / "X.npy"
        np.save(path, X)
        return np.load(path, mmap_mode="r")


def unsorted(X: np.ndarray) -> sparse.csr_array:
    """CSR with the entries of each row from the last column to the first, zeros stored."""
    n, p = X.shape
    columns, starts = np.tile(np.arange(p, dtype=np.int32)[::-1], n), np.arange(n + 1) * p
    return sparse.csr_array((X[:, ::-1].ravel(), columns, starts.astype(np.int32)), shape=(n, p))


def wide_indices(X: np.ndarray) -> sparse.csr_matrix:
    X = sparse.csr_matrix(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def in_halves(X: np.ndarray) -> sparse.coo_array:
    """COO in which every entry is the sum of two."""
    rows, columns = np.indices(X.shape)
    twice = (np.tile(0.5 * X.ravel(), 2), (np.tile(rows.ravel(), 2), np.tile(columns.ravel(), 2)))
    return sparse.coo_array(twice, shape=X.shape)


def tensor(dtype: str) -> Callable:
    def make(X):
        import torch

        return torch.tensor(X, dtype=getattr(torch, dtype))

    return make


def frame(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"feature {i}" for i in range(X.shape[1])])


FORMS: dict[str, Form] = {
    "C order": Form(np.ascontiguousarray),
    "Fortran order": Form(np.asfortranarray),
    "every other": Form(lambda X: np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2]),
    "backwards": Form(lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]),
    "read-only": Form(read_only),
    "memory map": Form(memory_mapped),
    "big-endian": Form(lambda X: X.astype(">f8")),
    "longdouble": Form(lambda X: X.astype(np.longdouble)),
    "objects": Form(lambda X: X.astype(object)),
    "subclass": Form(lambda X: X.view(OwnArray)),
    "masked": Form(np.ma.masked_array),
    "list": Form(lambda X: X.tolist()),
    "frame": Form(frame),
    "frame of unlike types": Form(
        lambda X: frame(X).astype({"feature 0": "float32"}) if X.size else X
    ),
    "tensor": Form(tensor("float64")),
    "float32": Form(lambda X: X.astype(np.float32), single=True),
    "float32 tensor": Form(tensor("float32"), single=True),
    "bfloat16 tensor": Form(tensor("bfloat16"), single=True, rounded=True),
    "float16": Form(lambda X: X.astype(np.float16), rounded=True),
    "whole numbers": Form(lambda X: np.clip(X, -1e9, 1e9).round().astype(np.int64), rounded=True),
    "bool": Form(lambda X: X > 0, rounded=True),
    "CSR": Form(sparse.csr_array, sparse=True),
    "CSR matrix": Form(sparse.csr_matrix, sparse=True),
    "CSR, float32": Form(
        lambda X: sparse.csr_array(X.astype(np.float32)), sparse=True, single=True
    ),
    "CSR, unsorted": Form(unsorted, sparse=True),
    "CSR, 64-bit indices": Form(wide_indices, sparse=True),
    "CSC": Form(sparse.csc_array, sparse=True),
    "COO in halves": Form(in_halves, sparse=True),
    "strings": Form(lambda X: X.astype(str), taken=False),
    "complex": Form(lambda X: X + 1j, taken=False),
    "matrix": Form(lambda X: np.matrix(X), taken=False),
    "one axis": Form(lambda X: X.ravel(), taken=False),
    "three axes": Form(lambda X: X[:, :, None], taken=False),
    "nothing": Form(lambda X: None, taken=False),
}


def plain(X) -> np.ndarray:
    """What a form holds as float64 in C order."""
    X = X.toarray() if sparse.issparse(X) else X
    X = X.double().numpy() if hasattr(X, "detach") else X
    return np.array(X, dtype=float, order="C")


@dataclass
class Data:
    """What an estimator is fitted on.

    Parameters
    ----------
    X : float64 array of shape (n_samples, n_features)
    y, weights : as they are passed
    recipe : str
        How it was made.
    tame : bool
        Whether nothing is wrong with it, and answers are determined well enough to compare.
    """

    X: np.ndarray
    y: Any
    weights: Any
    recipe: str = ""
    tame: bool = True

    @property
    def classes(self):
        """The labels of a first ``partial_fit``, as far as they can be told."""
        try:
            return np.unique(np.asarray(self.y))
        except TypeError:
            return np.arange(2)


def draw_data(draw: Draw, target: str) -> Data:
    """Data for an estimator of labels, numbers or nothing; more than half of it tame."""
    tame = draw.chance("tame", 0.6)

    def pick(name: str, sound: dict, bad: dict, share: float):
        table = bad if not tame and draw.chance(f"bad {name}", share) else sound
        return draw.one_of(name, table), table

    n, p = draw.rng("rows").integers(16, 60), draw.rng("columns").integers(1 + tame, 7)
    n_classes = draw.one_of("classes", [2, 2, 3, 4])
    kind = draw.one_of("kind", GENERAL if tame else ROWS)
    clean = [name for name, dirt in DIRT.items() if dirt.harmless]
    dirt = draw.one_of("dirt", clean if tame else DIRT)
    codes = draw.rng("codes").permutation(np.arange(n) % n_classes)
    X = ROWS[kind](draw.rng("X"), codes, int(p))
    with np.errstate(all="ignore"):
        X, codes = DIRT[dirt].make(draw.rng("make dirty"), X, codes)
    if target == "labels":
        label, makers = pick("labels", LABELS, BAD_LABELS, 0.15)
        y = makers[label](draw.rng("y"), codes)
    else:
        label, makers = pick("targets", TARGETS, BAD_TARGETS, 0.15)
        y = makers[label](draw.rng("y"), X, codes)
    weight, makers = ("none", WEIGHTS)
    if draw.chance("weighted", 0.4):
        weight, makers = pick("weights", WEIGHTS, BAD_WEIGHTS, 0.4)
    return Data(
        X=X,
        y=y,
        weights=makers[weight](draw.rng("w"), len(X)),
        recipe=f"{kind} {X.shape}, {n_classes} classes, {dirt}; y: {label}; weights: {weight}",
        tame=tame,
    )
