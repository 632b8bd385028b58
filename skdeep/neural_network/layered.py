"""Networks whose layers are said one by one."""

from collections.abc import Sequence
from dataclasses import fields, replace
from math import prod

import numpy as np

from ..array_api import follows_input, is_torch_array
from ..layers import Dense, Layer
from ..network import Network
from ..parameters import constraints, store
from .base import BaseNetwork
from .classifier import BaseNetworkClassifier
from .parameters import LAYERED_CLASSIFIER, LAYERED_REGRESSOR
from .regressor import BaseNetworkRegressor


def parameters_of(layers, prefix: str) -> dict:
    """What there is to set within layers, by names as ``layers__0__units``."""
    found: dict = {}
    for i, layer in enumerate(layers if isinstance(layers, list | tuple) else ()):
        for one in fields(layer) if isinstance(layer, Layer) else ():
            name, value = f"{prefix}__{i}__{one.name}", getattr(layer, one.name)
            found[name] = value
            if one.name == "layers":
                found |= parameters_of(value, name)
    return found


def with_parameter(layers: Sequence[Layer], path: list[str], value) -> list[Layer]:
    """The layers, but for one of the names above (split at the double underscores)."""
    place, name, *inner = path
    one = layers[int(place)]
    if inner:
        value = with_parameter(getattr(one, name), inner, value)
    changed = list(layers)
    changed[int(place)] = replace(one, **{name: value})
    return changed


class OfLayers(BaseNetwork):
    """Part of the networks with a parameter ``layers``."""

    _shaped_by = "layers"

    def get_params(self, deep=True):
        """Parameters of the estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add those of the layers, as ``layers__0__units``.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep)
        return params | parameters_of(self.layers, "layers") if deep else params

    def set_params(self, **params):
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Names as in :meth:`get_params`: also those of a layer, as ``layers__0__units``.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            For a name that there is not.
        """
        within = {name: params.pop(name) for name in list(params) if name.startswith("layers__")}
        super().set_params(**params)
        for name, value in within.items():
            known = parameters_of(self.layers, "layers")
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for {type(self).__name__}: there is "
                    f"{', '.join(known) or 'nothing within layers'}."
                )
            self.layers = with_parameter(self.layers, name.split("__")[1:], value)
        return self

    def _layers(self):
        if self.layers is None:
            return [Dense(100)]
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ValueError(f"layers lists {layer!r}, which is not a skdeep.layers.Layer.")
        return list(self.layers)

    def _table(self, X, backend):
        X = super()._table(X, backend)
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if X.ndim <= 2:
            return X
        return (X if is_torch_array(X) else np.asarray(X)).reshape(len(X), prod(X.shape[1:]))

    def _row_shape(self, X, n_features):
        asked = self.input_shape
        shape = (n_features,) if asked is None else tuple(np.atleast_1d(asked).tolist())
        if asked is None:
            axes = getattr(X, "shape", None) or np.asarray(X).shape
            shape = tuple(axes[1:]) if len(axes) > 2 else shape
        if prod(shape) != n_features:
            raise ValueError(
                f"input_shape={asked} has {prod(shape)} numbers, but X has {n_features} features."
            )
        # One channel goes without saying.
        axes = next((one.n_axes for one in self._layers() if hasattr(one, "n_axes")), None)
        return (*shape, 1) if axes == len(shape) + 1 else shape

    def _accept(self, problem, result, *rest):
        self.input_shape_ = problem.net.input_shape
        self.layers_ = self._layers()
        super()._accept(problem, result, *rest)

    def _fitted_network(self) -> Network:
        return self._network(self.input_shape_, self.layers_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        first = self.layers[0] if isinstance(self.layers, list | tuple) and self.layers else None
        tags.input_tags.sparse = first is None or isinstance(first, Dense)
        tags.input_tags.three_d_array = True
        return tags


@follows_input(reference="_first_coef")
class NetworkClassifier(OfLayers, BaseNetworkClassifier):
    """Classifier by a network of the layers that are named, minimising the log-loss.

    All but the layers is as in :class:`MLPClassifier`.

    Parameters
    ----------
    layers : list of Layer or None, default=None
        The layers before the output, as ``[Conv2D(16, 3), MaxPool2D(2), Flatten(), Dense(64)]``
        of ``skdeep.layers``; the output follows from ``y``. None is one ``Dense(100)``.
    input_shape : tuple of int or None, default=None
        The shape of a sample, as (28, 28) or (28, 28, 1), where the rows of ``X`` are flattened;
        channels come last. None is that of ``X``, which may have more than two axes.
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
    layers_ : list of Layer
        The layers that were fitted, without the output.
    input_shape_ : tuple of int
        The shape of a sample.
    coefs_ : list of ndarray
        Weights of each layer that has any: of a dense layer (fan_in, units), of a convolution
        (pixels of a patch times channels, filters).
    intercepts_ : list of ndarray
        Intercepts, in the order of the layers.
    n_features_in_ : int
        Numbers in a sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    All others are those of :class:`MLPClassifier`.

    See Also
    --------
    MLPClassifier : Dense layers, by the numbers of their units.
    NetworkRegressor : The same for regression.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86, 1998.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.layers import Conv2D, Dense, Flatten, MaxPool2D
    >>> from skdeep.neural_network import NetworkClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> layers = [Conv2D(8, 3), MaxPool2D(2), Flatten(), Dense(32)]
    >>> net = NetworkClassifier(layers, input_shape=(8, 8), learning_rate_init=0.01,
    ...                         tol=1.0, random_state=0)
    >>> net.fit(X[:1000] / 16, y[:1000]).score(X[1000:] / 16, y[1000:]) > 0.85
    True
    """

    _parameters = LAYERED_CLASSIFIER
    _parameter_constraints: dict = constraints(LAYERED_CLASSIFIER)

    def __init__(
        self, layers=None, input_shape=None, *, solver="adam", alpha=0.0001, batch_size="auto",
        learning_rate="constant", learning_rate_init=0.001, power_t=0.5, max_iter=200, shuffle=True,
        random_state=None, tol=0.0001, verbose=False, warm_start=False, momentum=0.9,
        nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, beta_1=0.9,
        beta_2=0.999, epsilon=1e-8, n_iter_no_change=10, max_fun=15000, loss="log_loss",
        class_weight=None, label_smoothing=0.0, weight_init="auto", layer_rates=None, dropout=0.0,
        dropout_schedule="constant", batch_norm=False, l1_ratio=0.0, clip_norm=None, max_norm=None,
        regularizers=None, scoring=None, n_members=1, pretraining=None, rho=0.9, backend="auto",
        dtype=None,
    ):  # fmt: skip
        store(**locals())


@follows_input(reference="_first_coef")
class NetworkRegressor(OfLayers, BaseNetworkRegressor):
    """Regressor by a network of the layers that are named, minimising the squared error.

    All but the layers is as in :class:`MLPRegressor`.

    Parameters
    ----------
    layers : list of Layer or None, default=None
        The layers before the output, as ``[Conv2D(16, 3), MaxPool2D(2), Flatten(), Dense(64)]``
        of ``skdeep.layers``; the output follows from ``y``. None is one ``Dense(100)``.
    input_shape : tuple of int or None, default=None
        The shape of a sample, as (28, 28) or (28, 28, 1), where the rows of ``X`` are flattened;
        channels come last. None is that of ``X``, which may have more than two axes.
    loss : str, Loss or callable, default='squared_error'
        'absolute_error', 'huber', 'poisson', 'quantile', 'squared_error': half the squared error,
        half the Poisson deviance under a log link (needs ``y >= 0``); an entry of ``skdeep.losses``
        with its own numbers; or on torch a function of predictions and targets that returns each
        row's loss.
    solver : str, Optimizer or Solver, default='adam'
        'lbfgs' is a quasi-Newton method on all rows at once, 'lm' Levenberg and Marquardt's for
        small networks and squared errors, and a solver of your own (see ``skdeep.solvers``) sees
        all rows too; 'sgd', 'adam', 'adamw', 'adagrad', 'rmsprop', 'adadelta' and an optimizer of
        your own (see ``skdeep.optimizers``) train on mini-batches.
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
        it, 'lm' its square.
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
    layers_ : list of Layer
        The layers that were fitted, without the output.
    input_shape_ : tuple of int
        The shape of a sample.
    coefs_ : list of ndarray
        Weights of each layer that has any: of a dense layer (fan_in, units), of a convolution
        (pixels of a patch times channels, filters).
    intercepts_ : list of ndarray
        Intercepts, in the order of the layers.
    n_features_in_ : int
        Numbers in a sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    All others are those of :class:`MLPRegressor`.

    See Also
    --------
    MLPRegressor : Dense layers, by the numbers of their units.
    NetworkClassifier : The same for classification.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skdeep.layers import Conv1D, Dense
    >>> from skdeep.neural_network import NetworkRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 16))
    >>> y = np.abs(np.diff(X, axis=1)).max(axis=1)
    >>> net = NetworkRegressor([Conv1D(4, 2), Dense(16)], input_shape=16, solver="lbfgs",
    ...                        tol=0.01, random_state=0)
    >>> net.fit(X, y).score(X, y) > 0.8
    True
    """

    _parameters = LAYERED_REGRESSOR
    _parameter_constraints: dict = constraints(LAYERED_REGRESSOR)

    def __init__(
        self, layers=None, input_shape=None, *, loss="squared_error", solver="adam", alpha=0.0001,
        batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5,
        max_iter=200, shuffle=True, random_state=None, tol=0.0001, verbose=False, warm_start=False,
        momentum=0.9, nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1,
        beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10, max_fun=15000,
        weight_init="auto", layer_rates=None, dropout=0.0, dropout_schedule="constant",
        batch_norm=False, l1_ratio=0.0, clip_norm=None, max_norm=None, regularizers=None,
        scoring=None, n_members=1, pretraining=None, rho=0.9, backend="auto", dtype=None,
    ):  # fmt: skip
        store(**locals())
