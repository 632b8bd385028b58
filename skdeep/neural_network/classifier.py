"""The multi-layer perceptron as a classifier."""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from .._sklearn import _check_partial_fit_first_call, _fit_context
from ..array_api import follows_input, is_torch_array, namespace_of, to_host, validate_data
from ..base import labels, logarithms, unchanged_on_error
from ..losses import sigmoid, softmax
from ..parameters import constraints, store
from ..processes import active
from ..stochastic import OfStochasticSolvers
from .base import BaseNetwork
from .multilayer import BaseMultilayerPerceptron
from .parameters import CLASSIFIER

LINKS = {"hinge": "margin", "squared_error": "logistic"}
# Links that give probabilities; of None it is either.
PROBABLE = (None, "logistic", "softmax")


def link_of(loss) -> str | None:
    """The output's activation as the parameter has it; None if that depends on the classes."""
    if hasattr(loss, "value_and_grad"):
        return getattr(loss, "out_activation", "identity")
    return LINKS.get(loss) if isinstance(loss, str) else None


def has_probabilities(estimator) -> bool:
    """For ``available_if``: the hinge loss gives scores alone, and so may one of the user's own."""
    link = link_of(estimator.loss)
    if link not in PROBABLE:
        raise AttributeError(
            f"predict_proba is not available when loss={estimator.loss!r}: it needs a loss whose "
            f"out_activation is 'logistic' or 'softmax', not {link!r}."
        )
    return True


def has_scores_alone(estimator) -> bool:
    """For ``available_if``: as in scikit-learn, networks with probabilities have no scores."""
    if link_of(estimator.loss) in PROBABLE:
        raise AttributeError(
            "decision_function is for losses without probabilities, as 'hinge': use predict_proba."
        )
    return True


def accuracy_of_classes(y, predicted, w):
    """Of each model (M,), for indicators of a class and predictions (M, n, k)."""
    return _shares(predicted.argmax(axis=-1) == y.argmax(axis=-1), w)


def accuracy_of_labels(y, predicted, w):
    """The same for labels that come together: rows count of which all are right."""
    return _shares(((predicted > 0.5) == (y > 0.5)).all(axis=-1), w)


def _shares(right, w):
    return (right * w).sum(axis=-1) / w.sum(axis=-1)


class BaseNetworkClassifier(ClassifierMixin, BaseNetwork):
    """Part of the networks that classify."""

    @property
    def _multiclass(self) -> bool:
        return self._label_binarizer.y_type_ == "multiclass"

    def _loss(self):
        if self.loss == "log_loss":
            return "log_loss" if self._multiclass else "binary_log_loss"
        return "sigmoid_squared_error" if self.loss == "squared_error" else self.loss

    def _link(self):
        return (softmax, "softmax") if self._multiclass else (sigmoid, "logistic")

    def _weigh_classes(self, y, sample_weight, incremental):
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' cannot be used with partial_fit, which does not see all "
                "rows: pass a dict."
            )
        processes, shares = active(), active().shares(len(y))
        of_class = compute_sample_weight(self.class_weight, processes.joined(self._truth(y)))
        of_class = of_class[shares.start : shares.stop]
        return of_class if sample_weight is None else sample_weight * of_class

    def _validate_input(self, X, y, incremental, reset):
        X, y = validate_data(
            self,
            X,
            to_host(y),
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(active().labels(y))
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(active().labels(y)))
        return X, self._indicators(y)

    def _indicators(self, y) -> np.ndarray:
        """Which classes, or labels, rows have: (n, k), or (n, 1) for two classes."""
        if y.ndim == 2:
            return self._label_binarizer.transform(y).astype(bool)
        k = len(self.classes_)
        return np.searchsorted(self.classes_, y)[:, None] == (np.arange(k) if k > 2 else [1])

    def _check_classes(self, classes):
        """Raise if training that goes on would meet other classes than before."""
        if self.warm_start and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _decode(self, predicted):
        """Labels from predictions of shape (n_samples, n_outputs)."""
        if is_torch_array(predicted):
            return self._decode_tensor(predicted)
        return self._label_binarizer.inverse_transform(
            predicted.ravel() if predicted.shape[1] == 1 else predicted
        )

    def _decode_tensor(self, predicted):
        """The same where they lie."""
        kind, xp = self._label_binarizer.y_type_, namespace_of(predicted)
        if kind == "multilabel-indicator":
            return xp.astype(predicted > 0.5, xp.int64)
        codes = xp.argmax(predicted, axis=1) if kind == "multiclass" else predicted[:, 0] > 0.5
        return labels(self.classes_, codes)

    _default_metric = staticmethod(accuracy_score)

    @property
    def _single_label(self) -> bool:
        """Whether a row is of one class."""
        return not self._label_binarizer.y_type_.startswith("multilabel")

    @property
    def _metric(self):
        if len(self.classes_) < 2:
            return None
        return accuracy_of_classes if self._multiclass else accuracy_of_labels

    def _truth(self, y):
        return self._label_binarizer.inverse_transform(y.astype(int))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or an indicator matrix for multi-label classification.
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val : array-like, default=None
            Rows to validate on, in place of a split; their loss and score go into ``history_``.
            A Pipeline transforms them only if told to; see the example. There is a warning if the
            ranges of ``X_val`` are far from those of ``X``.

        Returns
        -------
        self : MLPClassifier

        Raises
        ------
        ValueError
            If the data are not finite or do not fit together, or if training diverges; the
            estimator is then as it was before.

        Examples
        --------
        >>> from sklearn import config_context
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.model_selection import train_test_split
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from skdeep.neural_network import MLPClassifier
        >>> X, X_val, y, y_val = train_test_split(*load_iris(return_X_y=True), random_state=0)
        >>> net = MLPClassifier(early_stopping=True, learning_rate_init=0.1, random_state=0)
        >>> with config_context(enable_metadata_routing=True):
        ...     net = net.set_fit_request(X_val=True, y_val=True)
        ...     model = make_pipeline(StandardScaler(), net, transform_input=["X_val"])
        ...     model = model.fit(X, y, X_val=X_val, y_val=y_val)
        >>> model.score(X_val, y_val) == net.best_validation_score_ > 0.9
        True
        """
        return self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val)

    @OfStochasticSolvers
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Go on training for one epoch over the given rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever occur; needed in the first call.

        Returns
        -------
        self : MLPClassifier
        """
        with unchanged_on_error(self):
            if _check_partial_fit_first_call(self, classes):
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Labels, or an indicator matrix after multi-label training.
        """
        return self._decode(self._predict_raw(X))

    @available_if(has_probabilities)
    def predict_proba(self, X):
        """Predict probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        predicted = self._predict_raw(X)
        xp = namespace_of(predicted)
        if predicted.shape[1] == 1:
            return xp.concat([1.0 - predicted, predicted], axis=1)
        if link_of(self.loss) == "logistic" and self._multiclass:
            # Separate sigmoids need not sum to one; where all vanish the odds are even.
            total = xp.sum(predicted, axis=1, keepdims=True)
            share = predicted / xp.where(total > 0, total, 1.0)
            return xp.where(total > 0, share, 1.0 / predicted.shape[1])
        return predicted

    @available_if(has_scores_alone)
    def decision_function(self, X):
        """Scores of classes, for losses without probabilities: above zero means the class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of the second class, if there are two; else in the order of ``classes_``, or of labels.
        """
        # A prediction is in the units of indicators: one half is the border.
        scores = 2.0 * self._predict_raw(X) - 1.0
        return scores[:, 0] if scores.shape[1] == 1 else scores

    @available_if(has_probabilities)
    def predict_log_proba(self, X):
        """Predict logarithms of probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; minus infinity where a probability vanishes.
        """
        return logarithms(self.predict_proba(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@follows_input(reference="_first_coef")
class MLPClassifier(BaseMultilayerPerceptron, BaseNetworkClassifier):
    """Multi-layer perceptron that minimises the log-loss.

    Binary, multi-class and multi-label targets are recognised from ``y``.

    Parameters
    ----------
    hidden_layer_sizes : array-like of shape (n_hidden,) or int, default=(100,)
        Units of each hidden layer.
    activation : str, Activation or list of them, default='relu'
        Activation of the hidden layers, one for all or a list with one for each: 'identity',
        'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'softplus', 'swish', 'gelu',
        'mish', or an entry of your own (see ``skdeep.activations``).
    solver : str, Optimizer or Solver, default='adam'
        'lbfgs' is a quasi-Newton method on all rows at once, and a solver of your own (see
        ``skdeep.solvers``) sees all rows too; 'sgd', 'adam', 'adamw', 'adagrad', 'rmsprop',
        'adadelta' and an optimizer of your own (see ``skdeep.optimizers``) train on mini-batches.
    alpha : float, default=0.0001
        Strength of the L2 penalty; it is divided by the sample size (the batch's, in mini-batch
        training) when added to the loss.
    batch_size : int or 'auto', default='auto'
        Rows of a mini-batch; 'auto' means ``min(200, n_samples)``. Not used by 'lbfgs'.
    learning_rate : str or callable, default='constant'
        Schedule of the learning rate: 'constant'; for 'sgd' alone 'invscaling', divided by
        ``(t + 1) ** power_t`` where t counts rows seen, and 'adaptive', divided by five when
        progress stalls; for every mini-batch solver 'step', 'exponential', 'plateau', 'cosine',
        'one_cycle', 'flat_cosine', 'coslog4', or an instance from ``skdeep.schedules`` with its
        own numbers.
    learning_rate_init : float, default=0.001
        Initial learning rate of the mini-batch solvers.
    power_t : float, default=0.5
        Exponent of ``learning_rate='invscaling'``.
    max_iter : int, default=200
        Maximum number of epochs, or of iterations of 'lbfgs'.
    shuffle : bool, default=True
        Whether to shuffle the rows in each epoch.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the validation split and the batches. The same on every
        backend.
    tol : float, default=0.0001
        Training stops when the loss, or the validation score, has not improved by this much for
        ``n_iter_no_change`` epochs; 'lbfgs' stops when no component of the gradient exceeds
        it.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the previous solution.
    momentum : float, default=0.9
        Momentum of 'sgd', from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether the momentum is Nesterov's.
    early_stopping : bool or 'members', default=False
        Whether to hold out ``validation_fraction`` of the rows (or take those given to ``fit``),
        stop when the score on them stalls, and return to the best weights. 'members': of
        ``n_members`` each holds out a fold of its own and returns to the epoch of its least loss
        there, or best ``scoring``; predictions for those rows are kept. Not for 'lbfgs'.
    validation_fraction : float, default=0.1
        Share of the rows to hold out, from 0 to 1.
    beta_1 : float, default=0.9
        Decay of Adam's first moment, in [0, 1).
    beta_2 : float, default=0.999
        Decay of Adam's second moment, in [0, 1).
    epsilon : float, default=1e-8
        What keeps Adam from dividing by zero.
    n_iter_no_change : int, default=10
        Epochs without improvement that are tolerated.
    max_fun : int, default=15000
        Maximum number of evaluations of the loss, for 'lbfgs'.
    loss : str, Loss or callable, default='log_loss'
        'log_loss', 'hinge' (with ``decision_function`` in place of probabilities),
        'squared_error' on sigmoid outputs, an entry of your own (see ``skdeep.losses``), or on
        torch a function of scores and indicators that returns each row's loss. Of the scores of
        such a function the softmax are the probabilities, or the sigmoid of each if there are two
        classes or several labels. An entry has probabilities if its ``out_activation`` is
        'softmax' or 'logistic'; what its ``predict`` gives means the class above one half.
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, which multiply those of the samples.
    label_smoothing : float, default=0.0
        How far indicators are moved towards even odds, in [0, 1).
    weight_init : str or callable, default='auto'
        Initial weights: 'auto' (scikit-learn's), 'normal', 'lecun_normal', 'glorot_uniform',
        'glorot_normal', 'he_uniform', 'he_normal', 'orthogonal', 'ntk', or
        ``draw(rng, fan_in, fan_out, activation) -> (W, b)``.
    layer_rates : str, callable or None, default=None
        Factors of the learning rate by layer: 'ntk' divides that of weights by the root of
        ``fan_in`` and has factors for intercepts and scales (see ``skdeep.rates``), as goes with
        ``weight_init='ntk'`` and 'adam'; or ``factor(parameter) -> float``. None is one rate for
        all.
    dropout : float or array-like of rates, default=0.0
        Rate at which units are dropped in training: of all hidden layers, or one for each, with
        one for the input before them if wanted. Predictions drop nothing.
    dropout_schedule : str or callable, default='constant'
        Schedule of the rates of dropout, those of layers too: 'constant', 'flat_cosine' (the last
        half of the planned epochs leads to zero), or any other of ``learning_rate``.
    batch_norm : bool, default=False
        Whether hidden layers are normalised over the batch before their activation.
    l1_ratio : float, default=0.0
        Share of the L1 norm in the penalty, from 0 to 1.
    clip_norm : float or None, default=None
        Bound of the gradient's norm.
    max_norm : float or None, default=None
        Bound of the norm of each unit's incoming weights.
    regularizers : list of Regularizer or None, default=None
        Entries of ``skdeep.regularization``, or your own, beside those that other parameters ask
        for.
    scoring : str, callable or None, default=None
        Score of the held-out rows; None means the one of ``score``.
    n_members : int, default=1
        Networks to train as one stack and average in prediction. With more than one, fitted
        arrays lead with an axis of members and curves are lists of them.
    pretraining : Autoencoder or None, default=None
        Its hidden layers, trained on ``X`` with the units of this network, are the start.
    rho : float, default=0.9
        Decay of the squared gradients in 'rmsprop' and 'adadelta', in [0, 1).
    backend : str, default='auto'
        Where to compute: 'numpy', 'torch' (its CPU), 'torch:cuda', 'torch:cuda:1', 'torch:mps' or
        a registered name. 'auto' follows the data.
    dtype : {'float32', 'float64', 'bfloat16', 'tf32'}, NumPy's type or dtype, default=None
        Type to compute in; None means the input's. 'bfloat16' and 'tf32' keep the weights in
        float32 and round the factors of products in training, to 8 and 11 bits. The one needs
        torch, the other torch on CUDA; tf32 is then on for products of other threads too while
        a step is launched, and is left as it was.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    backend_ : str
        What the model was fitted on, such as 'torch:cuda:0'.
    coefs_ : list of ndarray of shape (fan_in, fan_out)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (fan_out,)
        Intercepts of each layer.
    loss_ : float
        Loss of the last epoch, the penalty included.
    best_loss_ : float or None
        Smallest loss of an epoch; None under early stopping. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    history_ : dict of lists
        What each epoch of mini-batch training did: ``loss``, ``learning_rate``, ``seconds``, of its
        last batch ``gradient_norm`` and ``mean_activation`` layer by layer, and with held-out rows
        ``validation_loss`` and ``validation_score``.
    validation_scores_ : list of float or None
        Score of each epoch on the held-out rows; None without early stopping.
    best_validation_score_ : float or None
        The best of them.
    oof_prediction_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Under ``early_stopping='members'``: for each row what ``predict_proba``, or else
        ``decision_function`` or ``predict``, gives by the members that have held it out; NaN where
        none has.
    oof_score_ : float
        The score of those.
    n_iter_ : int
        Epochs or iterations done.
    t_ : int
        Rows seen in training.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of outputs.
    out_activation_ : str
        Activation of the output layer.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    See Also
    --------
    MLPRegressor : The same for regression.

    References
    ----------
    D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdeep.neural_network import MLPClassifier
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X, y)
    >>> clf.predict_proba(X[:2]).shape
    (2, 2)
    >>> clf.score(X, y) > 0.9
    True
    """

    _parameters = CLASSIFIER
    _parameter_constraints: dict = constraints(CLASSIFIER)

    def __init__(
        self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001,
        batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5,
        max_iter=200, shuffle=True, random_state=None, tol=0.0001, verbose=False, warm_start=False,
        momentum=0.9, nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1,
        beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10, max_fun=15000, loss="log_loss",
        class_weight=None, label_smoothing=0.0, weight_init="auto", layer_rates=None, dropout=0.0,
        dropout_schedule="constant", batch_norm=False, l1_ratio=0.0, clip_norm=None, max_norm=None,
        regularizers=None, scoring=None, n_members=1, pretraining=None, rho=0.9, backend="auto",
        dtype=None,
    ):  # fmt: skip
        store(**locals())
