"""The autoencoder: a network that learns a code of its input by reconstructing it."""

from dataclasses import replace

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.metrics import mean_squared_error
from sklearn.utils.validation import check_is_fitted

from .. import network
from .._sklearn import _fit_context
from ..array_api import check_array, follows_input, staying, validate_data
from ..base import to_host
from ..parameters import constraints, store
from ..regularization import GaussianNoise, MaskingNoise
from ..stochastic import STOCHASTIC_SOLVERS, OfStochasticSolvers, is_stochastic
from .multilayer import BaseMultilayerPerceptron
from .parameters import AUTOENCODER

# The kinds of noise, and a moderate level of each for features in [0, 1].
NOISES = {"gaussian": (GaussianNoise, 0.15), "masking": (MaskingNoise, 0.25)}


def negative_mean_squared_error(truth, predicted, sample_weight=None):
    return -mean_squared_error(truth, predicted, sample_weight=sample_weight)


@follows_input(reference="_first_coef")
class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseMultilayerPerceptron):
    """Transformer that learns a code from which it can reconstruct its input.

    The encoder's layers are mirrored by the decoder's. Without noise and with fewer code units
    than features it compresses; with noise it learns to undo it. Linear layers span the subspace
    of the principal components (Baldi and Hornik, 1989).

    Parameters
    ----------
    hidden_layer_sizes : array-like of shape (n_hidden,) or int, default=(100,)
        Units of the encoder's layers; the last is the code.
    activation : str, Activation or list of them, default='relu'
        Activation of the encoder's layers, mirrored by the decoder's; the output is linear or as
        the loss has it.
    loss : str or Loss, default='squared_error'
        'absolute_error', 'huber', 'quantile', 'squared_error', 'log_loss' (for features in [0, 1],
        with sigmoid outputs), or an entry of ``skdeep.losses``.
    tied_weights : bool, default=False
        Whether the decoder's weights are the encoder's, transposed.
    noise : {'gaussian', 'masking'} or None, default=None
        What disturbs the input in training: normal noise, or features set to zero.
    noise_level : float or None, default=None
        Standard deviation of the noise, or the share of the features set to zero. None is a
        moderate level for features in [0, 1] (Vincent et al., 2010): 0.15 for 'gaussian', 0.25
        for 'masking'. At 0 there is no noise.
    layerwise : bool, default=False
        Whether the layers are first trained one by one, each on the code of those before it
        (Bengio et al., 2007), and then together.
    solver : str, Optimizer or Solver, default='adam'
        'lbfgs' is a quasi-Newton method on all rows at once, without noise, and a solver of your
        own (see ``skdeep.solvers``) sees all rows too; 'sgd', 'adam', 'adamw', 'adagrad',
        'rmsprop', 'adadelta' and an optimizer of your own (see ``skdeep.optimizers``) train on
        mini-batches.
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
    early_stopping : bool, default=False
        Whether to hold out ``validation_fraction`` of the rows (or take those given to ``fit``),
        stop when the score on them stalls, and return to the best weights. Not for 'lbfgs'.
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
        What the model was fitted on.
    coefs_, intercepts_ : list of ndarray
        Weights and intercepts, the encoder's layers first and then the decoder's.
    loss_ : float
        Loss of the last epoch, the penalty included.
    best_loss_ : float or None
        Smallest loss of an epoch; None under early stopping. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    history_ : dict of lists
        See :class:`MLPRegressor`.
    n_iter_ : int
        Epochs or iterations done.
    n_layers_ : int
        Number of layers, input and output included.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if ``X`` had names that are all strings.

    See Also
    --------
    MLPClassifier : Takes an autoencoder as ``pretraining``.

    References
    ----------
    P. Baldi, K. Hornik, "Neural networks and principal component analysis", Neural Networks
    2, 1989.

    Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle, "Greedy layer-wise training of deep
    networks", NIPS 2006.

    P. Vincent et al., "Stacked denoising autoencoders", Journal of Machine Learning Research 11,
    2010.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeep.neural_network import Autoencoder
    >>> X = load_digits().data / 16
    >>> coder = Autoencoder((30,), noise="masking", noise_level=0.2, max_iter=5, random_state=0)
    >>> codes = coder.set_params(tol=1.0, n_iter_no_change=1).fit_transform(X)
    >>> codes.shape, coder.inverse_transform(codes).shape
    ((1797, 30), (1797, 64))
    """

    _parameters = AUTOENCODER
    _parameter_constraints: dict = constraints(AUTOENCODER)
    # One network, and nothing that comes before it.
    n_members = 1
    pretraining = None

    _default_metric = staticmethod(negative_mean_squared_error)

    def __init__(
        self, hidden_layer_sizes=(100,), activation="relu", *, loss="squared_error",
        tied_weights=False, noise=None, noise_level=None, layerwise=False, solver="adam",
        alpha=0.0001, batch_size="auto", learning_rate="constant", learning_rate_init=0.001,
        power_t=0.5, max_iter=200, shuffle=True, random_state=None, tol=0.0001, verbose=False,
        warm_start=False, momentum=0.9, nesterovs_momentum=True, early_stopping=False,
        validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10,
        max_fun=15000, weight_init="auto", layer_rates=None, dropout=0.0,
        dropout_schedule="constant", batch_norm=False, l1_ratio=0.0, clip_norm=None, max_norm=None,
        regularizers=None, scoring=None, rho=0.9, backend="auto", dtype=None,
    ):  # fmt: skip
        store(**locals())

    def _loss(self):
        return "binary_log_loss" if self.loss == "log_loss" else self.loss

    def _validate_input(self, X, y, incremental, reset):
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=reset)
        if self.loss == "log_loss" and (X.min() < 0 or X.max() > 1):
            raise ValueError("loss='log_loss' needs features in [0, 1]: scale X.")
        return X, X

    def _decode(self, predicted):
        return predicted

    def _hidden_units(self):
        encoder = super()._hidden_units()
        if not encoder:
            raise ValueError("hidden_layer_sizes must name at least one layer, the code.")
        return [*encoder, *encoder[-2::-1]]

    def _activations(self, n_hidden):
        encoder = super()._activations((n_hidden + 1) // 2)
        return [*encoder, *encoder[-2::-1]]

    def _network(self, shape, layers, backend=None):
        return replace(super()._network(shape, layers, backend), tied=self.tied_weights)

    def _check_solver(self, X_val):
        super()._check_solver(X_val)
        if self.noise is not None and not is_stochastic(self.solver):
            raise ValueError(
                f"noise={self.noise!r} cannot be used with solver={self.solver!r}: choose one of "
                f"{', '.join(STOCHASTIC_SOLVERS)}."
            )
        if self.noise == "masking" and self._noise_level() > 1:
            raise ValueError(
                f"noise_level={self.noise_level} is a share under noise='masking': at most 1."
            )

    def _noise_level(self) -> float:
        return NOISES[self.noise][1] if self.noise_level is None else self.noise_level

    def _regularizers(self):
        disturbed = self.noise is not None and self._noise_level() > 0
        noise = [NOISES[self.noise][0](self._noise_level())] if disturbed else []
        return [*noise, *super()._regularizers()]

    def _initial_theta(self, net, rngs, X, sample_weight):
        theta = super()._initial_theta(net, rngs, X, sample_weight)
        if not self.layerwise:
            return theta
        weights = network.matrices(np, net, theta)
        intercepts = network.of_role(np, net, theta, "intercept")
        n_layers, codes = len(weights), X
        activations = self._activations(len(net.activations))
        for i, units in enumerate(super()._hidden_units()):
            shallow = clone(self).set_params(
                hidden_layer_sizes=units,
                activation=activations[i],
                layerwise=False,
                random_state=rngs[0].randint(2**31),
                # Codes of inner layers need not lie in [0, 1].
                loss=self.loss if i == 0 else "squared_error",
            )
            # Their epochs are not this fit's, which is what its callbacks watch.
            shallow.set_callbacks()
            shallow.fit(codes, sample_weight=sample_weight)
            shallow._stand_in = True  # codes of a tensor stay on its device
            codes = shallow.transform(codes)
            for layer, W, b in zip(
                (i, n_layers - 1 - i), shallow.coefs_, shallow.intercepts_, strict=True
            ):
                weights[layer][0], intercepts[layer][0] = W, b
        return theta

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, X_val=None):
        """Learn to reconstruct X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Not used.
        sample_weight : array-like of shape (n_samples,), default=None
        X_val : array-like of shape (n_val, n_features), default=None
            Rows to validate on, in place of a split. A Pipeline transforms them only if told to,
            by ``transform_input=["X_val"]``. There is a warning if their ranges are far from
            those of ``X``.

        Returns
        -------
        self : Autoencoder

        Raises
        ------
        ValueError
            If the data are not finite, or if training diverges; the estimator is then as it was
            before.
        """
        # X is its own target, to callbacks too.
        return self._fit(X, X, sample_weight, X_val=X_val, y_val=X_val)

    @OfStochasticSolvers
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Go on training for one epoch over the given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Not used.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : Autoencoder
        """
        return self._fit(X, X, sample_weight, incremental=True)

    def transform(self, X):
        """Encode.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        codes : ndarray of shape (n_samples, n_code)
        """
        check_is_fitted(self)
        backend = self._get_backend_to_predict(X)
        X = validate_data(self, staying(backend, X), reset=False)
        net, theta, rows = self._arrays(backend, X)
        hidden = network.hidden_layers(backend.xp, net, theta, rows)
        return self._given(backend, X, hidden[len(hidden) // 2])[0]

    def inverse_transform(self, X):
        """Decode.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_code)
            Codes.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        backend = self._get_backend_to_predict(X)
        X = check_array(self, staying(backend, X), dtype=(np.float64, np.float32))
        n_code = self._n_features_out
        if X.shape[1] != n_code:
            raise ValueError(f"X has {X.shape[1]} columns, but the code has {n_code} units.")
        net, theta, codes = self._arrays(backend, X)
        decoder, theta = network.tail(backend.xp, net, theta, len(net.units) // 2)
        return self._given(backend, X, network.predict(backend.xp, decoder, theta, codes))[0]

    def predict(self, X):
        """Reconstruct: decode the code.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features)
        """
        return self._predict_raw(X)

    def score(self, X, y=None, sample_weight=None):
        """Negative mean squared error of the reconstruction: higher is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Not used.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        reconstructed = self.predict(X)
        return negative_mean_squared_error(to_host(X), reconstructed, sample_weight=sample_weight)

    @property
    def _n_features_out(self):
        return self.intercepts_[len(self.intercepts_) // 2 - 1].shape[-1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags
