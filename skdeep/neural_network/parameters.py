"""The parameters of the networks: default, constraints, type and text of each, in one place.

A new one is a row of ``TRAINING`` or ``ADDED``, or of the class that alone has it; then run
``python tests/signatures.py --write``.
"""

import inspect
import textwrap
from numbers import Integral, Real

from sklearn.metrics import get_scorer_names

from .._sklearn import HasMethods, Interval, StrOptions
from ..activations import ACTIVATIONS
from ..base import NUMPY_TYPES
from ..initializers import INITIALIZERS
from ..losses import LOSSES
from ..parameters import Parameter, without
from ..rates import RATES
from ..regularization import ClipNorm, LabelSmoothing, MaxNorm
from ..stochastic import CONSTRAINTS, OWN_SOLVERS, STOCHASTIC_SOLVERS

COUNT = Interval(Integral, 1, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="left")
OWN_LOSS = HasMethods(["value_and_grad", "predict"])
# Those of which the scores are numbers, or their logarithms.
OF_FEATURES = {name for name, loss in LOSSES.items() if loss.out_activation == "identity"}
OF_NUMBERS = {name for name, loss in LOSSES.items() if loss.out_activation in ("identity", "exp")}

# Parameters that build a regulariser, beside the penalty.
REGULARIZERS = {"label_smoothing": LabelSmoothing, "clip_norm": ClipNorm, "max_norm": MaxNorm}


def quoted(*names: str) -> str:
    """Names as a text has them."""
    return ", ".join(map(repr, names))


def filled(text: str) -> str:
    """A text in lines that fit a docstring."""
    return textwrap.fill(inspect.cleandoc(text), 92, break_on_hyphens=False)


# One line for each field, as the formatter would have it, is not a table.
# fmt: off

# What the layers are.
UNITS = {
    "hidden_layer_sizes": Parameter((100,),
        ["array-like", COUNT], "array-like of shape (n_hidden,) or int", """
        Units of each hidden layer.""",
        positional=True),
    "activation": Parameter("relu",
        [StrOptions(set(ACTIVATIONS) - {"step"}), HasMethods(["forward", "backward"]), list, tuple],
        "str, Activation or list of them", filled(f"""
        Activation of the hidden layers, one for all or a list with one for each:
        {quoted(*(name for name in ACTIVATIONS if name != "step"))}, or an entry of your own (see
        ``skdeep.activations``)."""),
        positional=True),
}

# scikit-learn's, in its order.
TRAINING = {
    "solver": Parameter("adam", [StrOptions({"lbfgs", *STOCHASTIC_SOLVERS}), *OWN_SOLVERS],
        "str, Optimizer or Solver", filled(f"""
        'lbfgs' is a quasi-Newton method on all rows at once, and a solver of your own (see
        ``skdeep.solvers``) sees all rows too; {quoted(*STOCHASTIC_SOLVERS)} and an optimizer of
        your own (see ``skdeep.optimizers``) train on mini-batches.""")),
    "alpha": Parameter(0.0001, [NOT_NEGATIVE], "float", """
        Strength of the L2 penalty; it is divided by the sample size (the batch's, in mini-batch
        training) when added to the loss."""),
    "batch_size": Parameter("auto", CONSTRAINTS["batch_size"], "int or 'auto'", """
        Rows of a mini-batch; 'auto' means ``min(200, n_samples)``. Not used by 'lbfgs'."""),
    "learning_rate": Parameter("constant", CONSTRAINTS["learning_rate"], "str or callable", """
        Schedule of the learning rate: 'constant'; for 'sgd' alone 'invscaling', divided by
        ``(t + 1) ** power_t`` where t counts rows seen, and 'adaptive', divided by five when
        progress stalls; for every mini-batch solver 'step', 'exponential', 'plateau', 'cosine',
        'one_cycle', 'flat_cosine', 'coslog4', or an instance from ``skdeep.schedules`` with its
        own numbers."""),
    "learning_rate_init": Parameter(0.001, CONSTRAINTS["learning_rate_init"], "float", """
        Initial learning rate of the mini-batch solvers."""),
    "power_t": Parameter(0.5, CONSTRAINTS["power_t"], "float", """
        Exponent of ``learning_rate='invscaling'``."""),
    "max_iter": Parameter(200, [COUNT], "int", """
        Maximum number of epochs, or of iterations of 'lbfgs'."""),
    "shuffle": Parameter(True, CONSTRAINTS["shuffle"], "bool", """
        Whether to shuffle the rows in each epoch."""),
    "random_state": Parameter(None, ["random_state"], "int, RandomState instance or None", """
        Determines the initial weights, the validation split and the batches. The same on every
        backend."""),
    "tol": Parameter(1e-4, [NOT_NEGATIVE], "float", """
        Training stops when the loss, or the validation score, has not improved by this much for
        ``n_iter_no_change`` epochs; 'lbfgs' stops when no component of the gradient exceeds
        it."""),
    "verbose": Parameter(False, ["verbose"], "bool", """
        Whether to print the loss of each epoch."""),
    "warm_start": Parameter(False, ["boolean"], "bool", """
        Whether ``fit`` goes on from the previous solution."""),
    "momentum": Parameter(0.9, CONSTRAINTS["momentum"], "float", """
        Momentum of 'sgd', from 0 to 1."""),
    "nesterovs_momentum": Parameter(True, CONSTRAINTS["nesterovs_momentum"], "bool", """
        Whether the momentum is Nesterov's."""),
    "early_stopping": Parameter(False,
        ["boolean", StrOptions({"members"})], "bool or 'members'", """
        Whether to hold out ``validation_fraction`` of the rows (or take those given to ``fit``),
        stop when the score on them stalls, and return to the best weights. 'members': of
        ``n_members`` each holds out a fold of its own and returns to the epoch of its least loss
        there, or best ``scoring``; predictions for those rows are kept. Not for 'lbfgs'."""),
    "validation_fraction": Parameter(0.1, [SHARE], "float", """
        Share of the rows to hold out, from 0 to 1."""),
    "beta_1": Parameter(0.9, CONSTRAINTS["beta_1"], "float", """
        Decay of Adam's first moment, in [0, 1)."""),
    "beta_2": Parameter(0.999, CONSTRAINTS["beta_2"], "float", """
        Decay of Adam's second moment, in [0, 1)."""),
    "epsilon": Parameter(1e-8, CONSTRAINTS["epsilon"], "float", """
        What keeps Adam from dividing by zero."""),
    "n_iter_no_change": Parameter(10, CONSTRAINTS["n_iter_no_change"], "int", """
        Epochs without improvement that are tolerated."""),
    "max_fun": Parameter(15000, [COUNT], "int", """
        Maximum number of evaluations of the loss, for 'lbfgs'."""),
}

# Not in scikit-learn.
ADDED = {
    "weight_init": Parameter("auto",
        [StrOptions(set(INITIALIZERS)), callable], "str or callable", """
        Initial weights: 'auto' (scikit-learn's), 'normal', 'lecun_normal', 'glorot_uniform',
        'glorot_normal', 'he_uniform', 'he_normal', 'orthogonal', 'ntk', or
        ``draw(rng, fan_in, fan_out, activation) -> (W, b)``."""),
    "layer_rates": Parameter(None,
        [StrOptions(set(RATES)), callable, None], "str, callable or None", """
        Factors of the learning rate by layer: 'ntk' divides that of weights by the root of
        ``fan_in`` and has factors for intercepts and scales (see ``skdeep.rates``), as goes with
        ``weight_init='ntk'`` and 'adam'; or ``factor(parameter) -> float``. None is one rate for
        all."""),
    "dropout": Parameter(0.0, [SHARE, "array-like"], "float or array-like of rates", """
        Rate at which units are dropped in training: of all hidden layers, or one for each, with
        one for the input before them if wanted. Predictions drop nothing."""),
    "dropout_schedule": Parameter("constant", CONSTRAINTS["learning_rate"], "str or callable", """
        Schedule of the rates of dropout, those of layers too: 'constant', 'flat_cosine' (the last
        half of the planned epochs leads to zero), or any other of ``learning_rate``."""),
    "batch_norm": Parameter(False, ["boolean"], "bool", """
        Whether hidden layers are normalised over the batch before their activation."""),
    "l1_ratio": Parameter(0.0, [Interval(Real, 0, 1, closed="both")], "float", """
        Share of the L1 norm in the penalty, from 0 to 1."""),
    "clip_norm": Parameter(None, [POSITIVE, None], "float or None", """
        Bound of the gradient's norm."""),
    "max_norm": Parameter(None, [POSITIVE, None], "float or None", """
        Bound of the norm of each unit's incoming weights."""),
    "regularizers": Parameter(None, [list, tuple, None], "list of Regularizer or None", """
        Entries of ``skdeep.regularization``, or your own, beside those that other parameters ask
        for."""),
    "scoring": Parameter(None,
        [StrOptions(set(get_scorer_names())), callable, None], "str, callable or None", """
        Score of the held-out rows; None means the one of ``score``."""),
    "n_members": Parameter(1, [COUNT], "int", """
        Networks to train as one stack and average in prediction. With more than one, fitted
        arrays lead with an axis of members and curves are lists of them."""),
    "pretraining": Parameter(None,
        [HasMethods(["fit", "transform"]), None], "Autoencoder or None", """
        Its hidden layers, trained on ``X`` with the units of this network, are the start."""),
    "rho": Parameter(0.9, CONSTRAINTS["rho"], "float", """
        Decay of the squared gradients in 'rmsprop' and 'adadelta', in [0, 1)."""),
    "backend": Parameter("auto", [str], "str", """
        Where to compute: 'numpy', 'torch' (its CPU), 'torch:cuda', 'torch:cuda:1', 'torch:mps' or
        a registered name. 'auto' follows the data."""),
    "dtype": Parameter(None,
        [StrOptions({"float32", "float64", "bfloat16", "tf32"}), *NUMPY_TYPES, None],
        "{'float32', 'float64', 'bfloat16', 'tf32'}, NumPy's type or dtype", """
        Type to compute in; None means the input's. 'bfloat16' and 'tf32' keep the weights in
        float32 and round the factors of products in training, to 8 and 11 bits. The one needs
        torch, the other torch on CUDA; tf32 is then on for products of other threads too while
        a step is launched, and is left as it was."""),
}

CLASSIFIER = {
    **UNITS,
    **TRAINING,
    "loss": Parameter("log_loss",
        [StrOptions({"log_loss", "hinge", "squared_error"}), OWN_LOSS, callable],
        "str, Loss or callable", """
        'log_loss', 'hinge' (with ``decision_function`` in place of probabilities),
        'squared_error' on sigmoid outputs, an entry of your own (see ``skdeep.losses``), or on
        torch a function of scores and indicators that returns each row's loss. Of the scores of
        such a function the softmax are the probabilities, or the sigmoid of each if there are two
        classes or several labels. An entry has probabilities if its ``out_activation`` is
        'softmax' or 'logistic'; what its ``predict`` gives means the class above one half."""),
    "class_weight": Parameter(None,
        [StrOptions({"balanced"}), dict, None], "dict, 'balanced' or None", """
        Weights of the classes, which multiply those of the samples."""),
    "label_smoothing": Parameter(0.0, [SHARE], "float", """
        How far indicators are moved towards even odds, in [0, 1)."""),
    **ADDED,
}

REGRESSOR = {
    "loss": Parameter("squared_error",
        [StrOptions(OF_NUMBERS), OWN_LOSS, callable],
        "str, Loss or callable", filled(f"""
        {quoted(*sorted(OF_NUMBERS))}: half the squared error, half the Poisson deviance under a
        log link (needs ``y >= 0``); an entry of ``skdeep.losses`` with its own numbers; or on
        torch a function of predictions and targets that returns each row's loss."""),
        positional=True),
    **UNITS,
    **TRAINING,
    **ADDED,
    "solver": Parameter("adam", [StrOptions({"lbfgs", "lm", *STOCHASTIC_SOLVERS}), *OWN_SOLVERS],
        "str, Optimizer or Solver", filled(f"""
        'lbfgs' is a quasi-Newton method on all rows at once, 'lm' Levenberg and Marquardt's for
        small networks and squared errors, and a solver of your own (see ``skdeep.solvers``) sees
        all rows too; {quoted(*STOCHASTIC_SOLVERS)} and an optimizer of your own (see
        ``skdeep.optimizers``) train on mini-batches.""")),
    "tol": TRAINING["tol"]._replace(text="""
        Training stops when the loss, or the validation score, has not improved by this much for
        ``n_iter_no_change`` epochs; 'lbfgs' stops when no component of the gradient exceeds
        it, 'lm' its square."""),
}

AUTOENCODER = {
    "hidden_layer_sizes": UNITS["hidden_layer_sizes"]._replace(text="""
        Units of the encoder's layers; the last is the code."""),
    "activation": UNITS["activation"]._replace(text="""
        Activation of the encoder's layers, mirrored by the decoder's; the output is linear or as
        the loss has it."""),
    "loss": Parameter("squared_error",
        [StrOptions({*OF_FEATURES, "log_loss"}), OWN_LOSS],
        "str or Loss", filled(f"""
        {quoted(*sorted(OF_FEATURES))}, 'log_loss' (for features in [0, 1], with sigmoid outputs),
        or an entry of ``skdeep.losses``.""")),
    "tied_weights": Parameter(False, ["boolean"], "bool", """
        Whether the decoder's weights are the encoder's, transposed."""),
    "noise": Parameter(None,
        [StrOptions({"gaussian", "masking"}), None], "{'gaussian', 'masking'} or None", """
        What disturbs the input in training: normal noise, or features set to zero."""),
    "noise_level": Parameter(None, [NOT_NEGATIVE, None], "float or None", """
        Standard deviation of the noise, or the share of the features set to zero. None is a
        moderate level for features in [0, 1] (Vincent et al., 2010): 0.15 for 'gaussian', 0.25
        for 'masking'. At 0 there is no noise."""),
    "layerwise": Parameter(False, ["boolean"], "bool", """
        Whether the layers are first trained one by one, each on the code of those before it
        (Bengio et al., 2007), and then together."""),
    **TRAINING,
    **without(ADDED, "n_members", "pretraining"),
    "early_stopping": Parameter(False, ["boolean"], "bool", """
        Whether to hold out ``validation_fraction`` of the rows (or take those given to ``fit``),
        stop when the score on them stalls, and return to the best weights. Not for 'lbfgs'."""),
    "solver": TRAINING["solver"]._replace(text=filled(f"""
        'lbfgs' is a quasi-Newton method on all rows at once, without noise, and a solver of your
        own (see ``skdeep.solvers``) sees all rows too; {quoted(*STOCHASTIC_SOLVERS)} and an
        optimizer of your own (see ``skdeep.optimizers``) train on mini-batches.""")),
}

# What the layers are where they are said one by one.
LAYERS = {
    "layers": Parameter(None, [list, tuple, None], "list of Layer or None", """
        The layers before the output, as ``[Conv2D(16, 3), MaxPool2D(2), Flatten(), Dense(64)]``
        of ``skdeep.layers``; the output follows from ``y``. None is one ``Dense(100)``.""",
        positional=True),
    "input_shape": Parameter(None, ["array-like", COUNT, None], "tuple of int or None", """
        The shape of a sample, as (28, 28) or (28, 28, 1), where the rows of ``X`` are flattened;
        channels come last. None is that of ``X``, which may have more than two axes.""",
        positional=True),
}

LAYERED_CLASSIFIER = LAYERS | without(CLASSIFIER, *UNITS)
LAYERED_REGRESSOR = {
    **LAYERS,
    **without(REGRESSOR, *UNITS),
    "loss": REGRESSOR["loss"]._replace(positional=False),
}

# Networks for tables. What a recipe sets is no parameter; "auto" is what it says.
TABULAR_REGRESSOR = {
    "hidden_layer_sizes": UNITS["hidden_layer_sizes"]._replace(default=(64, 64), text="""
        Units of each hidden layer. Wider ones pay from some thousands of rows on."""),
    "n_members": ADDED["n_members"]._replace(default=8, text="""
        Networks in the ensemble, each with a fold of its own held out: of four a quarter of the
        rows, of a single one an eighth. More than eight give little, and take longer."""),
    "max_iter": Parameter("auto", [StrOptions({"auto"}), COUNT], "int or 'auto'", """
        Epochs; 'auto' is 50, or as many as 400 steps take. More pay where rows are many."""),
    "learning_rate_init": TRAINING["learning_rate_init"]._replace(default=0.04, text="""
        Learning rate that the schedule scales. Lower it where the losses in ``history_`` jump."""),
    "batch_size": TRAINING["batch_size"]._replace(text="""
        Rows of a mini-batch; 'auto' is 64, from 5,000 rows on 128, from 20,000 on 256. It is made
        even. Larger ones are faster."""),
    "dropout": Parameter("auto", [StrOptions({"auto"}), SHARE], "float or 'auto'", """
        Rate at which hidden units are dropped in training, constant to half-way and then down to
        zero; 'auto' is 0.15, from 2,000 rows on 0.05. Raise it where rows are few and noisy."""),
    "categorical_features": Parameter("from_dtype",
        ["array-like", StrOptions({"from_dtype"}), None],
        "'from_dtype', array-like or None", """
        Which features are categories: by type (texts, categories; a column of objects with a text
        among them), a mask, their numbers or their names. Name those that are coded as numbers.
        """),
    "random_state": TRAINING["random_state"]._replace(text="""
        Determines the initial weights, the folds and the batches. The same on every backend."""),
    "verbose": TRAINING["verbose"],
    "backend": ADDED["backend"]._replace(text="""
        Where to compute: 'numpy', 'torch' (its CPU), 'torch:cuda', 'torch:cuda:1', 'torch:mps' or
        a registered name. 'auto' follows the data. A GPU pays for wide networks and many rows."""),
    "dtype": ADDED["dtype"]._replace(default="float32", text="""
        Type to train in; None is float64. 'bfloat16' keeps the weights in float32 and needs
        torch."""),
}
TABULAR_CLASSIFIER = {
    **TABULAR_REGRESSOR,
    "class_weight": CLASSIFIER["class_weight"],
    "label_smoothing": CLASSIFIER["label_smoothing"]._replace(default=0.05, text="""
        How far indicators are moved towards even odds in training, in [0, 1); predictions undo it.
        0 where labels are beyond doubt."""),
}
