"""What all estimators share: choosing a backend, validating input, solving, and staying whole."""

import sys
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import cache
from typing import Self

import numpy as np
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from ._sklearn import LinearClassifierMixin, Options, StrOptions
from .array_api import is_torch_array, namespace_of, numpy_dtype, staying, to_host, validate_data
from .backends import NotInstalled, get_backend
from .backends.base import Backend
from .interrupts import Scope, interruptible, scope
from .layers.dense import affine
from .problem import Problem, Result
from .processes import active, telling
from .stacking import solve_many
from .version import __version__

__all__ = ["LinearClassifier", "Model", "unchanged_on_error"]

# Entries of rows that are cast at once: the copy stays in the cache of a CPU core.
AT_ONCE = 2**16

# What a warning's line is looked for outside of.
INSIDE = {__package__, "sklearn", "joblib", "contextlib"}

# What the parameter dtype may be beside a name.
NUMPY_TYPES = (
    Options(type, {np.float32, np.float64}),
    Options(np.dtype, {np.dtype("float32"), np.dtype("float64")}),
)

# What pickles are stamped with; scikit-learn stamps those of its own classes with the first.
VERSIONS = {"sklearn": sklearn.__version__, "skdeep": __version__}

# A fit up to its problem, and from the result on.
Fitting = Generator[tuple[Backend, Problem], Result, None]


def finish(fitting: Fitting, result: Result) -> None:
    """Send a fit its result and let it run to its end."""
    try:
        fitting.send(result)
    except StopIteration:
        return
    raise RuntimeError("A fit yields one problem.")


@contextmanager
def unchanged_on_error(estimator):
    """Give the estimator back its attributes if the block raises: a failed fit leaves no trace."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def take_over(estimator, other, names: Iterable[str]) -> None:
    """Let an estimator have what another has learned of the data, and nothing of its own."""
    for name in names:
        vars(estimator).pop(name, None)
        if name in vars(other):
            setattr(estimator, name, getattr(other, name))


class Versioned(BaseEstimator):
    """Pickles with the versions that it was made with; under others, unpickling warns."""

    def __getstate__(self):
        return {**super().__getstate__(), **{f"_{name}_version": v for name, v in VERSIONS.items()}}

    def __setstate__(self, state):
        state = dict(state)
        for name, current in VERSIONS.items():
            found = state.pop(f"_{name}_version", "unknown")
            if found != current:
                warning = InconsistentVersionWarning(
                    estimator_name=f"{type(self).__name__} (of {name})",
                    current_sklearn_version=current,
                    original_sklearn_version=found,
                )
                warnings.warn(warning, stacklevel=2)
        super().__setstate__(state)


class Model(Versioned):
    """Base of the estimators that are fitted by a solver on a backend.

    A subclass turns its data into a :class:`~skdeep.problem.Problem` and takes the
    :class:`~skdeep.problem.Result` in; ``_solve`` lies between.
    """

    _parameter_constraints: dict = {
        "backend": [str],
        "dtype": [StrOptions({"float32", "float64"}), *NUMPY_TYPES, None],
    }

    @classmethod
    def _get_param_names(cls) -> list[str]:
        # scikit-learn reads the signature anew at each clone: half the time of a search over many
        # small models.
        if "_param_names" not in vars(cls):
            cls._param_names = tuple(super()._get_param_names())
        return list(cls._param_names)

    def _kind(self):
        """Equal for estimators that make the same of the same data; None for one apart.

        The ``_fitting`` of such takes a ``leader``, another of the kind with its problem.
        """
        return None

    def _backend_name(self, X) -> str:
        """The backend asked for, or under "auto" the one where the data lives."""
        if self.backend != "auto":
            return self.backend
        return f"torch:{X.device}" if is_torch_array(X) else "numpy"

    def _get_backend(self, X) -> Backend:
        """That backend, if it has the type asked for."""
        return get_backend(self._backend_name(X), self._dtype_name)

    def _get_backend_to_predict(self, X) -> Backend:
        """The same; NumPy where a fitted model has come to a machine without that backend.

        What it has learned are NumPy arrays. Nothing else ever falls back. Only training rounds
        products: any backend predicts with the parameters.
        """
        try:
            return get_backend(self._backend_name(X), self._kept_dtype)
        except NotInstalled as error:
            tell_once(f"{error}. Fitted models predict with NumPy here.")
            return get_backend("numpy")

    def _given(self, backend: Backend, X, result):
        """A result as NumPy's; that of a tensor stays where X lies, for methods to go on with."""
        stays = vars(self).get("_stand_in") and backend.holds(X)
        return result if stays else backend.to_numpy(result)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def _compute_dtype(self, X) -> str:
        """Name of the type to compute in, given validated data.

        Parameters are kept in float32 where only products are rounded.
        """
        return self._kept_dtype or str(numpy_dtype(X))

    @property
    def _kept_dtype(self) -> str | None:
        return "float32" if self._dtype_name in {"bfloat16", "tf32"} else self._dtype_name

    @property
    def _dtype_name(self) -> str | None:
        named = self.dtype is None or isinstance(self.dtype, str)
        return self.dtype if named else np.dtype(self.dtype).name

    def _solve(self, backend: Backend, problem: Problem) -> Result:
        self.backend_ = str(backend)
        return solve_many(backend, [problem])[0]

    def _complete(self, fitting: Fitting) -> Self:
        """Run a fit that is written as a generator: solve what it yields, send it the result.

        Fits that have come as far as their problems can be solved together; see ``fit_many``. As
        in scikit-learn, one that is interrupted in mini-batch training ends with what it has.
        """
        # Interrupted at different steps, processes would end with different models.
        with telling(), scope(keeps=active().size == 1) as around:
            backend, problem = next(fitting)
            try:
                result = self._solve(backend, problem)
            except KeyboardInterrupt as interrupt:
                if not (around.keeps and hasattr(interrupt, "result")):
                    fitting.throw(interrupt)
                    raise
                self._end_early(fitting, interrupt.result, around)
            except BaseException as error:
                # The fit has to know, or it would undo nothing while the traceback keeps it alive.
                fitting.throw(error)
                raise
            else:
                finish(fitting, result)
        return self

    def _end_early(self, fitting: Fitting, result: Result, around: Scope) -> None:
        """Take in what an interrupt has left; another one is not to lose that."""
        with interruptible() as whole, whole:
            finish(fitting, result)
            said, around.interrupted = around.interrupted, True
            if not said:  # by a fit inside this one
                warn("Training interrupted by user.")


class LinearClassifier(LinearClassifierMixin, Model):
    """Base of the classifiers with ``coef_`` and ``intercept_``; scikit-learn's mixin predicts."""

    @np.errstate(over="ignore", invalid="ignore")  # of enormous rows
    def decision_function(self, X):
        """Confidence scores: the signed distances to the hyperplanes, scaled by the norm of coef_.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            In the binary case, scores above zero predict ``classes_[1]``.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        """
        check_is_fitted(self)
        backend = self._get_backend_to_predict(X)
        X = validate_data(self, staying(backend, X), accept_sparse="csr", reset=False)
        dtype = dtype_to_predict(backend, X, self.coef_)
        W, b = (backend.asarray(array, dtype) for array in (self.coef_.T[None], self.intercept_))
        cast = numpy_dtype(X) != dtype and backend.device == "cpu"
        step = max(1, AT_ONCE // X.shape[1]) if cast else X.shape[0]
        rows = (backend.asarray(X[cut], dtype) for cut in gen_batches(X.shape[0], step))
        blocks = [self._given(backend, X, affine(backend.xp, x, W, b)[0, ...]) for x in rows]
        scores = namespace_of(blocks[0]).concatenate(blocks) if len(blocks) > 1 else blocks[0]
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        scores = self.decision_function(X)
        return labels(self.classes_, scores > 0 if scores.ndim == 1 else scores.argmax(1))


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of the packages that called into them, however deep this is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@cache
def tell_once(message: str) -> None:
    """Warn, once in a process."""
    warn(message)


def logarithms(p):
    """Those of probabilities, as scikit-learn has them: of one that vanishes, minus infinity."""
    with np.errstate(divide="ignore"):
        return namespace_of(p).log(p)


def labels(classes: np.ndarray, codes):
    """Classes by their places, where those lie if they are tensors and the classes numbers."""
    if not is_torch_array(codes):
        return classes[codes.astype(np.intp)]
    if classes.dtype.kind not in "bi":
        return classes[to_host(codes).astype(np.intp)]
    xp = namespace_of(codes)
    return xp.take(
        xp.asarray(classes, device=codes.device), xp.astype(codes, xp.int64, copy=False), axis=0
    )


def dtype_to_predict(backend: Backend, X, fitted) -> np.dtype:
    """The type to compute in for rows X by a fitted array: float64 at most, as in a fit.

    None of float64 are sent where a model keeps float32, or the device has no other.
    """
    dtype = numpy_dtype(X)
    wide = backend.has_double or (backend.holds(X) and dtype == "float64")
    dtype = np.result_type(dtype if dtype.kind == "f" else "float64", fitted.dtype)
    most = np.dtype("float64" if wide else "float32")
    return min(dtype, most, key=lambda dtype: dtype.itemsize)


def canonical(X):
    """X with the indices of sparse rows sorted and unique: SciPy would do so in place, to the
    caller's own matrix."""
    if not sparse.issparse(X) or X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def require_finite(*arrays) -> None:
    """Raise scikit-learn's error if training has diverged."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large values "
            "and need to be preprocessed."
        )
