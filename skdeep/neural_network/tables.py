"""From frames and arrays of any kind to numbers: a column after the other, and then all of them."""

import narwhals as nw
import numpy as np
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import validate_data

from ..base import to_host
from ..preprocessing import RobustClip

# A feature of which such a share is missing has an indicator of that.
MANY_MISSING = 0.05
# Categories of fewer rows are one, and so are those beyond so many.
LEAST_ROWS, MOST_CATEGORIES = 5, 50


def frame_of(X):
    """A frame of pandas, polars or pyarrow as narwhals has it; None for anything else."""
    found = nw.from_native(X, eager_only=True, pass_through=True)
    return found if isinstance(found, nw.DataFrame) else None


def columns(X, frame) -> list:
    """The columns: Series of a frame, or arrays."""
    return list(frame.iter_columns()) if frame is not None else list(X.T)


def is_category(column) -> bool:
    """Whether a column is of categories by its type, or has a text among its objects."""
    if isinstance(column, nw.Series):
        if column.dtype.is_numeric() or column.dtype == nw.Boolean:
            return False
        if column.dtype != nw.Object:
            return True
        column = column.to_numpy()
    of_objects = column.dtype.kind == "O"
    return column.dtype.kind in "US" or (of_objects and any(isinstance(v, str) for v in column))


def as_numbers(column, name) -> np.ndarray:
    """A column as float64, NaN where a value is missing.

    Raises
    ------
    ValueError
        If there is something else in it.
    """
    try:
        if isinstance(column, nw.Series):
            if column.dtype == nw.Boolean or column.dtype.is_numeric():
                return column.cast(nw.Float64).to_numpy().astype(np.float64)
            column = column.to_numpy()
        if column.dtype.kind in "OUS":
            column = np.where([is_missing(v) for v in column], np.nan, column)
        return column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Feature {name!r} is taken for numbers, and is not: {error}. Name it in "
            "categorical_features, or make numbers of it."
        ) from error


def is_missing(value) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA."""
    return value is None or value is not value or str(value) in ("<NA>", "NaT", "nan")


def as_categories(column) -> np.ndarray:
    """A column as texts, None where a value is missing; a number is the same one in any type."""
    values = column.to_list() if isinstance(column, nw.Series) else column.tolist()
    texts = {v: None if is_missing(v) else _text(v) for v in set(values)}
    return np.array([texts[v] for v in values], dtype=object)


def _text(value) -> str:
    return value if isinstance(value, str) else str(_number(value))


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


class ReadsTables:
    """Part of the estimators that take tables as they are.

    Fitted: ``is_categorical_``, ``imputer_``, ``one_hot_`` (None where there is no such column),
    ``scaler_``, and ``many_missing_``, which of the numeric columns have an indicator.
    """

    def _columns(self, X, reset: bool) -> list:
        """The columns of validated X."""
        X = to_host(X)
        frame = frame_of(X)
        if frame is not None:
            validate_data(self, X, skip_check_array=True, reset=reset)
        else:
            # Lists of numbers and texts would be texts.
            X = X if hasattr(X, "dtype") or np.asarray(X).dtype.kind != "U" else np.array(X, object)
            X = validate_data(self, X, dtype=None, ensure_all_finite=False, reset=reset)
        return columns(X, frame)

    def _which_are_categories(self, found: list) -> np.ndarray:
        """What ``categorical_features`` says of the columns, as a mask."""
        asked = self.categorical_features
        if isinstance(asked, str):
            return np.array([is_category(column) for column in found])
        asked = np.asarray([] if asked is None else asked)
        mask, names = np.zeros(len(found), dtype=bool), self._names_of_columns(len(found))
        if asked.dtype.kind in "OU":
            unknown = sorted(set(asked.tolist()) - set(names))
            if unknown:
                raise ValueError(f"categorical_features names {unknown}, which X has not.")
            return np.isin(np.array(names, dtype=object), asked)
        if asked.size and asked.dtype.kind == "b" and len(asked) != len(found):
            raise ValueError(
                f"categorical_features is a mask of {len(asked)} features, and X has {len(found)}."
            )
        if (
            asked.size
            and asked.dtype.kind != "b"
            and not (asked >= 0).all() & (asked < len(found)).all()
        ):
            raise ValueError(f"categorical_features must be from 0 to {len(found) - 1}.")
        mask[asked if asked.size else []] = True
        return mask

    def _names_of_columns(self, n: int) -> list:
        return list(getattr(self, "feature_names_in_", range(n)))

    def _split(self, found: list) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (n, p) and categories (n, q)."""
        n, names = len(found[0]), self._names_of_columns(len(found))
        numbers, categories = np.empty((n, 0)), np.empty((n, 0), dtype=object)
        kinds = list(zip(found, self.is_categorical_, names, strict=True))
        if not self.is_categorical_.all():
            numbers = np.stack([as_numbers(c, name) for c, is_, name in kinds if not is_], axis=1)
        if self.is_categorical_.any():
            categories = np.stack([as_categories(c) for c, is_, _ in kinds if is_], axis=1)
        return numbers, categories

    def _fit_encoding(self, X) -> np.ndarray:
        """Learn from X what it takes to encode it, and encode it."""
        found = self._columns(X, reset=True)
        self.is_categorical_ = self._which_are_categories(found)
        numbers, categories = self._split(found)
        self.many_missing_ = np.isnan(numbers).mean(axis=0) >= MANY_MISSING
        self.imputer_ = self.one_hot_ = None
        if numbers.shape[1]:
            self.imputer_ = SimpleImputer(strategy="median", keep_empty_features=True).fit(numbers)
        if categories.shape[1]:
            self.one_hot_ = OneHotEncoder(
                handle_unknown="infrequent_if_exist",
                min_frequency=LEAST_ROWS,
                max_categories=MOST_CATEGORIES,
                sparse_output=False,
            ).fit(categories)
        self.scaler_ = make_pipeline(VarianceThreshold(), RobustClip())
        return self.scaler_.fit_transform(self._joined(numbers, categories))

    def _encode(self, X) -> np.ndarray:
        """The same for other rows."""
        return self.scaler_.transform(self._joined(*self._split(self._columns(X, reset=False))))

    def _joined(self, numbers, categories) -> np.ndarray:
        parts = [np.isnan(numbers[:, self.many_missing_])]
        if self.imputer_ is not None:
            parts.insert(0, self.imputer_.transform(numbers))
        if self.one_hot_ is not None:
            parts.append(self.one_hot_.transform(categories))
        return np.concatenate(parts, axis=1, dtype=np.float64)
