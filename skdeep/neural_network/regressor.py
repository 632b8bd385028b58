"""The multi-layer perceptron as a regressor."""

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d

from .._sklearn import _fit_context
from ..array_api import follows_input, to_host, validate_data
from ..parameters import constraints, store
from ..stochastic import OfStochasticSolvers
from .base import BaseNetwork
from .multilayer import BaseMultilayerPerceptron
from .parameters import REGRESSOR


def r2_scores(y, predicted, w):
    """R² of each model (M,), the mean over outputs, from (M, n, k)."""
    w = w[..., None]
    mean = (w * y).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
    left, all_of_it = ((w * (y - of) ** 2).sum(axis=1) for of in (predicted, mean))
    vary = all_of_it != 0
    score = 1.0 - left / np.where(vary, all_of_it, 1.0)
    return np.where(vary, score, np.where(left == 0, 1.0, 0.0)).mean(axis=-1)


class BaseNetworkRegressor(RegressorMixin, BaseNetwork):
    """Part of the networks that predict numbers."""

    def _loss(self):
        return self.loss

    def _validate_input(self, X, y, incremental, reset):
        X, y = validate_data(
            self,
            X,
            to_host(y),
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.dtype.kind not in "biuf":
            raise ValueError(f"y has to be numbers for regression, not of dtype {y.dtype}.")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and np.any(y < 0):
            raise ValueError("loss='poisson' needs y >= 0: some values of y are negative.")
        return X, y

    _default_metric = staticmethod(r2_score)
    _metric = staticmethod(r2_scores)

    def _decode(self, predicted):
        return predicted[:, 0] if predicted.shape[1] == 1 else predicted

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val : array-like, default=None
            Rows to validate on, in place of a split; their loss and score go into ``history_``.
            A Pipeline transforms them only if told to; see :meth:`MLPClassifier.fit`. There is a
            warning if the ranges of ``X_val`` are far from those of ``X``.

        Returns
        -------
        self : MLPRegressor

        Raises
        ------
        ValueError
            If the data are not finite or do not fit together, or if training diverges; the
            estimator is then as it was before.
        """
        return self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val)

    @OfStochasticSolvers
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Go on training for one epoch over the given rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : MLPRegressor
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._decode(self._predict_raw(X))


@follows_input(reference="_first_coef")
class MLPRegressor(BaseMultilayerPerceptron, BaseNetworkRegressor):
    """Multi-layer perceptron that minimises the squared error or the Poisson deviance.

    Parameters
    ----------
    loss : str, Loss or callable, default='squared_error'
        'absolute_error', 'huber', 'poisson', 'quantile', 'squared_error': half the squared error,
        half the Poisson deviance under a log link (needs ``y >= 0``); an entry of ``skdeep.losses``
        with its own numbers; or on torch a function of predictions and targets that returns each
        row's loss.
    hidden_layer_sizes : array-like of shape (n_hidden,) or int, default=(100,)
        Units of each hidden layer.
    activation : str, Activation or list of them, default='relu'
        Activation of the hidden layers, one for all or a list with one for each: 'identity',
        'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'softplus', 'swish', 'gelu',
        'mish', or an entry of your own (see ``skdeep.activations``).
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
        Under ``early_stopping='members'``: the prediction for each row by the members that have
        held it out; NaN where none has.
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
    MLPClassifier : The same for classification.

    References
    ----------
    D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from skdeep.neural_network import MLPRegressor
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X, y).score(X, y) > 0.9
    True
    """

    _parameters = REGRESSOR
    _parameter_constraints: dict = constraints(REGRESSOR)

    def __init__(
        self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", *, solver="adam",
        alpha=0.0001, batch_size="auto", learning_rate="constant", learning_rate_init=0.001,
        power_t=0.5, max_iter=200, shuffle=True, random_state=None, tol=0.0001, verbose=False,
        warm_start=False, momentum=0.9, nesterovs_momentum=True, early_stopping=False,
        validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10,
        max_fun=15000, weight_init="auto", layer_rates=None, dropout=0.0,
        dropout_schedule="constant", batch_norm=False, l1_ratio=0.0, clip_norm=None, max_norm=None,
        regularizers=None, scoring=None, n_members=1, pretraining=None, rho=0.9, backend="auto",
        dtype=None,
    ):  # fmt: skip
        store(**locals())
