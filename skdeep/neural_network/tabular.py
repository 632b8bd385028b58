"""Networks for tables: the recipe as estimators, from a raw frame."""

from abc import abstractmethod

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, check_X_y

from .._sklearn import _fit_context, callback_management_context
from ..base import Fitting, Model, logarithms, to_host, unchanged_on_error
from ..layers import Dense, Scale
from ..parameters import constraints, store
from ..processes import refuse
from ..regularization import LabelSmoothing
from .layered import NetworkClassifier, NetworkRegressor
from .parameters import TABULAR_CLASSIFIER, TABULAR_REGRESSOR
from .tables import ReadsTables

# Rows from which on batches are larger, and how large; the last is that of any number.
BATCHES = ((20_000, 256), (5_000, 128), (0, 64))
# Epochs, and the steps that there are to be at least.
LEAST_EPOCHS, LEAST_STEPS = 50, 400
# From so many rows on there is less dropout.
MANY_ROWS, DROPOUT = 2_000, (0.15, 0.05)

# Of a single network such a part is held out.
FOLDS = 8


class BaseTabular(ReadsTables, Model):
    """What the two share: a frame is encoded, and a network of members is trained on that."""

    @abstractmethod
    def _network(self, n_rows: int):
        """The network to train, its parameters set."""

    @abstractmethod
    def _targets(self, Z, y, sample_weight):
        """Targets as the network is to have them."""

    def _fit(self, X, y, sample_weight):
        return self._complete(self._fitting(X, y, sample_weight))

    def _fitting(self, X, y, sample_weight=None) -> Fitting:
        refuse(f"{type(self).__name__} cannot be used", "what encodes a table is of own rows.")
        with unchanged_on_error(self):
            Z, y = self._fit_encoding(X), to_host(y)
            targets = self._targets(Z, y, sample_weight)
            network = self._network(len(Z))
            # In float64 enormous numbers have become small ones.
            Z = Z.astype(self._kept_dtype or Z.dtype, copy=False)
            with callback_management_context(network):
                yield from network._fitting(Z, targets, sample_weight)
            network.backend_ = self.backend_
            self.network_, self.n_iter_ = network, network.n_iter_
            self.n_outputs_ = network.n_outputs_
            self._take_in(y, sample_weight)

    @abstractmethod
    def _take_in(self, y, sample_weight) -> None:
        """Set what is fitted beside the network, which is."""

    def _recipe(self, n_rows: int) -> dict:
        """The parameters of a network for so many rows, that of its loss left out."""
        n_folds = max(min(self.n_members if self.n_members > 1 else FOLDS, n_rows // 2), 2)
        n_train = max(n_rows - n_rows // n_folds, 1)
        size = next(size for least, size in BATCHES if n_rows >= least)
        size = size if self.batch_size == "auto" else self.batch_size
        n_steps = max(round(n_train / size), 1)
        epochs = max(LEAST_EPOCHS, -(-LEAST_STEPS // n_steps))
        units = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        dropout = DROPOUT[n_rows >= MANY_ROWS]
        return {
            "layers": [Scale(), *(Dense(size, "swish") for size in units)],
            "n_members": self.n_members,
            "early_stopping": "members",
            "validation_fraction": 1.0 / FOLDS,
            "n_iter_no_change": np.inf,
            "tol": 0.0,
            "max_iter": epochs if self.max_iter == "auto" else self.max_iter,
            # Batches as even as can be: a last one of few rows would be as long a step.
            "batch_size": -(-n_train // n_steps),
            "alpha": 0.0,
            "beta_2": 0.95,
            "learning_rate": "coslog4",
            "learning_rate_init": self.learning_rate_init,
            "weight_init": "ntk",
            "layer_rates": "ntk",
            "dropout": dropout if isinstance(self.dropout, str) else self.dropout,
            "dropout_schedule": "flat_cosine",
            "random_state": self.random_state,
            "verbose": self.verbose,
            "backend": self.backend,
            "dtype": self.dtype,
        }

    def _encoded(self, X) -> np.ndarray:
        check_is_fitted(self)
        return self._encode(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


class TabularClassifier(ClassifierMixin, BaseTabular):
    """Classifier for tables as they are: an ensemble of small networks by a recipe.

    Columns of texts and categories are one-hot, rare categories together; missing numbers are the
    median, with an indicator where they are many; all is scaled by
    :class:`~skdeep.preprocessing.RobustClip`. Eight networks of two layers, with a learned scale of
    each input, are trained as one stack on smoothed labels (which predictions undo); each holds out
    an eighth of the rows and keeps its best epoch there. Most of it is from Holzmüller, Grinsztajn
    and Steinwart (2024).

    Nothing needs to be tuned; where there is time, try `hidden_layer_sizes`, `max_iter` and
    `dropout`, in this order.

    Parameters
    ----------
    hidden_layer_sizes : array-like of shape (n_hidden,) or int, default=(64, 64)
        Units of each hidden layer. Wider ones pay from some thousands of rows on.
    n_members : int, default=8
        Networks in the ensemble, each with a fold of its own held out: of four a quarter of the
        rows, of a single one an eighth. More than eight give little, and take longer.
    max_iter : int or 'auto', default='auto'
        Epochs; 'auto' is 50, or as many as 400 steps take. More pay where rows are many.
    learning_rate_init : float, default=0.04
        Learning rate that the schedule scales. Lower it where the losses in ``history_`` jump.
    batch_size : int or 'auto', default='auto'
        Rows of a mini-batch; 'auto' is 64, from 5,000 rows on 128, from 20,000 on 256. It is made
        even. Larger ones are faster.
    dropout : float or 'auto', default='auto'
        Rate at which hidden units are dropped in training, constant to half-way and then down to
        zero; 'auto' is 0.15, from 2,000 rows on 0.05. Raise it where rows are few and noisy.
    categorical_features : 'from_dtype', array-like or None, default='from_dtype'
        Which features are categories: by type (texts, categories; a column of objects with a text
        among them), a mask, their numbers or their names. Name those that are coded as numbers.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the folds and the batches. The same on every backend.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    backend : str, default='auto'
        Where to compute: 'numpy', 'torch' (its CPU), 'torch:cuda', 'torch:cuda:1', 'torch:mps' or
        a registered name. 'auto' follows the data. A GPU pays for wide networks and many rows.
    dtype : {'float32', 'float64', 'bfloat16', 'tf32'}, NumPy's type or dtype, default='float32'
        Type to train in; None is float64. 'bfloat16' keeps the weights in float32 and needs
        torch.
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, which multiply those of the samples.
    label_smoothing : float, default=0.05
        How far indicators are moved towards even odds in training, in [0, 1); predictions undo it.
        0 where labels are beyond doubt.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    network_ : NetworkClassifier
        The networks, trained on encoded rows; its ``history_`` tells how.
    oof_prediction_ : ndarray of shape (n_samples, n_classes)
        Probabilities of each row by the member that has held it out.
    oof_score_ : float
        The accuracy of those: an estimate of that of one member, which the ensemble mostly exceeds.
    is_categorical_ : ndarray of bool of shape (n_features_in_,)
        Which features are categories.
    many_missing_ : ndarray of bool
        Which of the others have an indicator of missing values.
    imputer_, one_hot_, scaler_ : transformers
        What encodes numbers, categories, and then all; None where there are none.
    n_iter_ : int
        Epochs.
    n_outputs_ : int
        Number of outputs of the networks.
    backend_ : str
        What the model was fitted on.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    See Also
    --------
    TabularRegressor : The same for regression.
    MLPClassifier : One network, and every parameter that it has.
    sklearn.ensemble.HistGradientBoostingClassifier : What to compare with.

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skdeep.neural_network import TabularClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = TabularClassifier(random_state=0).fit(X, y)
    >>> model.oof_score_ > 0.95
    True
    """

    _parameters = TABULAR_CLASSIFIER
    _parameter_constraints: dict = constraints(TABULAR_CLASSIFIER)

    def __init__(
        self, hidden_layer_sizes=(64, 64), *, n_members=8, max_iter="auto", learning_rate_init=0.04,
        batch_size="auto", dropout="auto", categorical_features="from_dtype", random_state=None,
        verbose=False, backend="auto", dtype="float32", class_weight=None, label_smoothing=0.05,
    ):  # fmt: skip
        store(**locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {frame of pandas, polars or pyarrow, array-like} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or an indicator matrix for multi-label classification.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : TabularClassifier

        Raises
        ------
        ValueError
            If a column of ``X`` is neither numbers nor categories, or infinite, if no feature
            varies, or if there are fewer than four rows; the estimator is then as it was before.
        """
        return self._fit(X, y, sample_weight)

    def _network(self, n_rows):
        smoothing = self.label_smoothing
        return NetworkClassifier(
            class_weight=self.class_weight,
            regularizers=[LabelSmoothing(smoothing, undone=True)] if smoothing else None,
            **self._recipe(n_rows),
        )

    def _targets(self, Z, y, sample_weight):
        return y

    def _take_in(self, y, sample_weight):
        network = self.network_
        self.classes_ = network.classes_
        self.oof_prediction_, self.oof_score_ = network.oof_prediction_, network.oof_score_

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Labels, or an indicator matrix after multi-label training.
        """
        Z = self._encoded(X)
        return self.network_.predict(Z)

    def predict_proba(self, X):
        """Predict probabilities.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        Z = self._encoded(X)
        return self.network_.predict_proba(Z)

    def predict_log_proba(self, X):
        """Predict logarithms of probabilities.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
        """
        return logarithms(self.predict_proba(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class TabularRegressor(RegressorMixin, BaseTabular):
    """Regressor for tables as they are: an ensemble of small networks by a recipe.

    As :class:`TabularClassifier`, with squared errors of standardised targets; predictions stay
    within the range of the targets in training.

    Parameters
    ----------
    hidden_layer_sizes : array-like of shape (n_hidden,) or int, default=(64, 64)
        Units of each hidden layer. Wider ones pay from some thousands of rows on.
    n_members : int, default=8
        Networks in the ensemble, each with a fold of its own held out: of four a quarter of the
        rows, of a single one an eighth. More than eight give little, and take longer.
    max_iter : int or 'auto', default='auto'
        Epochs; 'auto' is 50, or as many as 400 steps take. More pay where rows are many.
    learning_rate_init : float, default=0.04
        Learning rate that the schedule scales. Lower it where the losses in ``history_`` jump.
    batch_size : int or 'auto', default='auto'
        Rows of a mini-batch; 'auto' is 64, from 5,000 rows on 128, from 20,000 on 256. It is made
        even. Larger ones are faster.
    dropout : float or 'auto', default='auto'
        Rate at which hidden units are dropped in training, constant to half-way and then down to
        zero; 'auto' is 0.15, from 2,000 rows on 0.05. Raise it where rows are few and noisy.
    categorical_features : 'from_dtype', array-like or None, default='from_dtype'
        Which features are categories: by type (texts, categories; a column of objects with a text
        among them), a mask, their numbers or their names. Name those that are coded as numbers.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the folds and the batches. The same on every backend.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    backend : str, default='auto'
        Where to compute: 'numpy', 'torch' (its CPU), 'torch:cuda', 'torch:cuda:1', 'torch:mps' or
        a registered name. 'auto' follows the data. A GPU pays for wide networks and many rows.
    dtype : {'float32', 'float64', 'bfloat16', 'tf32'}, NumPy's type or dtype, default='float32'
        Type to train in; None is float64. 'bfloat16' keeps the weights in float32 and needs
        torch.

    Attributes
    ----------
    network_ : NetworkRegressor
        The networks, trained on encoded rows and standardised targets.
    oof_prediction_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        The prediction for each row by the member that has held it out.
    oof_score_ : float
        R² of those: an estimate of that of one member, which the ensemble mostly exceeds.
    target_mean_, target_scale_ : ndarrays of shape (n_outputs,)
        What targets are standardised by.
    target_range_ : ndarray of shape (2, n_outputs)
        Where predictions stay.
    is_categorical_ : ndarray of bool of shape (n_features_in_,)
        Which features are categories.
    many_missing_ : ndarray of bool
        Which of the others have an indicator of missing values.
    imputer_, one_hot_, scaler_ : transformers
        What encodes numbers, categories, and then all; None where there are none.
    n_iter_ : int
        Epochs.
    n_outputs_ : int
        Number of outputs.
    backend_ : str
        What the model was fitted on.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    See Also
    --------
    TabularClassifier : The same for classes.
    MLPRegressor : One network, and every parameter that it has.
    sklearn.ensemble.HistGradientBoostingRegressor : What to compare with.

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skdeep.neural_network import TabularRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = TabularRegressor(random_state=0).fit(X, y)
    >>> model.oof_score_ > 0.4
    True
    """

    _parameters = TABULAR_REGRESSOR
    _parameter_constraints: dict = constraints(TABULAR_REGRESSOR)

    def __init__(
        self, hidden_layer_sizes=(64, 64), *, n_members=8, max_iter="auto", learning_rate_init=0.04,
        batch_size="auto", dropout="auto", categorical_features="from_dtype", random_state=None,
        verbose=False, backend="auto", dtype="float32",
    ):  # fmt: skip
        store(**locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {frame of pandas, polars or pyarrow, array-like} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : TabularRegressor

        Raises
        ------
        ValueError
            If a column of ``X`` is neither numbers nor categories, or infinite, if no feature
            varies, or if there are fewer than four rows; the estimator is then as it was before.
        """
        return self._fit(X, y, sample_weight)

    def _network(self, n_rows):
        return NetworkRegressor(**self._recipe(n_rows))

    def _targets(self, Z, y, sample_weight):
        _, y = check_X_y(Z, y, multi_output=True, y_numeric=True, estimator=self)
        each = y.reshape(len(y), -1).astype(np.float64)
        self.target_mean_, spread = each.mean(axis=0), each.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)
        self.target_range_ = np.stack([each.min(axis=0), each.max(axis=0)])
        return ((each - self.target_mean_) / self.target_scale_).reshape(y.shape)

    def _take_in(self, y, sample_weight):
        self.oof_prediction_ = oof = self._in_units_of_y(self.network_.oof_prediction_)
        known = np.isfinite(oof).reshape(len(oof), -1).all(axis=1)
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        self.oof_score_ = r2_score(np.asarray(y)[known], oof[known], sample_weight=weights)

    def _in_units_of_y(self, predicted):
        each = predicted.reshape(len(predicted), -1) * self.target_scale_ + self.target_mean_
        return np.clip(each, *self.target_range_).reshape(predicted.shape)

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        Z = self._encoded(X)
        return self._in_units_of_y(self.network_.predict(Z))
