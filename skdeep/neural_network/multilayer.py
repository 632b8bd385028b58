"""What the multi-layer perceptrons share: their problem and its result."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import network
from ..activations import ACTIVATIONS
from ..base import (
    Fitting,
    Model,
    canonical,
    dtype_to_predict,
    require_finite,
    to_host,
    unchanged_on_error,
    warn,
)
from ..callbacks import open_checkpoint
from ..initializers import INITIALIZERS
from ..losses import Loss, identity
from ..monitoring import watched
from ..problem import Problem, Result, cancel
from ..regularization import ClipNorm, LabelSmoothing, MaxNorm, Regularizer
from ..solvers.training import restarted, without_records
from ..stochastic import STOCHASTIC_SOLVERS, column, is_stochastic, settings
from .held_out import ScoredOnHeldOutRows

# Fitted under batch normalisation: one array for each hidden layer.
NORMS = {
    "scales_": "scale",
    "running_means_": "running_mean",
    "running_variances_": "running_variance",
}

# What only the mini-batch loop knows: parameters and the values that leave them out.
STOCHASTIC_ONLY = {
    "dropout": 0.0,
    "batch_norm": False,
    "l1_ratio": 0.0,
    "clip_norm": None,
    "max_norm": None,
    "label_smoothing": 0.0,
    "regularizers": None,
}


class BaseMultilayerPerceptron(ScoredOnHeldOutRows, CallbackSupportMixin, Model):
    """Base of the multi-layer perceptrons."""

    @abstractmethod
    def _validate_input(self, X, y, incremental, reset):
        """Validated X, and y encoded as numbers or indicators."""

    @abstractmethod
    def _loss(self) -> str | Loss:
        """The loss: a name in ``skdeep.losses.LOSSES``, or the user's own."""

    def _link(self) -> tuple[Callable, str]:
        """What predicts from the scores where the loss is a function of them, and its name."""
        return identity, "identity"

    @abstractmethod
    def _decode(self, predicted):
        """What ``predict`` returns, from predictions of shape (n_samples, n_outputs)."""

    # From data to a problem

    def _fit(self, X, y, sample_weight=None, incremental=False, X_val=None, y_val=None):
        return self._complete(self._fitting(X, y, sample_weight, incremental, X_val, y_val))

    def _fitting(
        self, X, y, sample_weight=None, incremental=False, X_val=None, y_val=None
    ) -> Fitting:
        # One task more than iterations: the next begins before the solver says whether it is done.
        context = self._init_callback_context(max_subtasks=(self.max_iter + 1) * self.n_members)
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            problem = self._problem(X, y, sample_weight, incremental, backend, X_val, y_val)

            def attributes(theta):
                return self._attributes(problem.net, theta[None])

            with watched(self, context, problem, y, sample_weight, attributes) as problem:
                result = yield backend, problem
                self._accept(problem, result, incremental, backend)
            if problem.checkpoint is not None and not result.interrupted:
                problem.checkpoint.remove()

    def _problem(
        self, X, y, sample_weight=None, incremental=False, backend=None, X_val=None, y_val=None
    ) -> Problem:
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        hidden = self._hidden_units()
        self._check_solver(X_val)
        X, y = self._validate_input(to_host(X), to_host(y), incremental, reset=first_pass)
        X = canonical(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(to_host(sample_weight), X)
        sample_weight = self._weigh_classes(y, sample_weight, incremental)
        self._check_weights(sample_weight)
        y = y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        net = self._network((X.shape[1], *hidden, self.n_outputs_), backend)
        rng = check_random_state(self.random_state)
        start = (
            None if first_pass else (self._theta_to_go_on(net), self._earlier_training(incremental))
        )
        data = (X, y, sample_weight, to_host(X_val), to_host(y_val))
        checkpoint = None if incremental else open_checkpoint(self, backend, rng, data, start)
        # The first member is the model that would be trained alone.
        # The others' seeds come from a copy of its generator, which must not draw for them.
        seeds = copy.deepcopy(rng).randint(2**31, size=self.n_members - 1)
        rngs = [rng, *map(np.random.RandomState, seeds)]
        theta, trainings = start or (
            self._initial_theta(net, rngs, X, sample_weight),
            [None] * self.n_members,
        )
        rows, validation = self._hold_out(X, y, sample_weight, incremental, X_val, y_val, rng)
        n_rows = X.shape[0] if rows is None else len(rows)
        if is_stochastic(self.solver):
            hyper, options = self._stochastic_settings(net, n_rows, incremental)
        else:
            total = n_rows if sample_weight is None else sample_weight.sum()
            names = {"lbfgs": ("tol", "max_iter", "max_fun"), "lm": ("tol", "max_iter")}
            hyper = {name: column(getattr(self, name)) for name in names[self.solver]}
            if self.solver == "lm":
                # Near an exact fit the gradient falls as the error does, far below other solvers'.
                hyper["tol"] = hyper["tol"] ** 2
            hyper, options, trainings = {"l2": column(self.alpha / total), **hyper}, {}, None
        return Problem(
            solver="minibatch" if is_stochastic(self.solver) else self.solver,
            X=X,
            y=y,
            dtype=self._compute_dtype(X),
            theta=theta.astype(self._compute_dtype(X), copy=False),
            net=net,
            hyper={name: np.repeat(v, self.n_members, axis=0) for name, v in hyper.items()},
            options=options,
            weights=sample_weight,
            rows=None if rows is None else [rows] * self.n_members,
            rngs=rngs,
            validation=None if validation is None else [validation] * self.n_members,
            states=trainings,
            checkpoint=checkpoint,
        )

    def _hidden_units(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _check_solver(self, X_val) -> None:
        """Raise if a parameter asks for what the solver has not."""
        if is_stochastic(self.solver):
            if self.solver == "adamw" and self.l1_ratio > 0:
                raise ValueError(
                    "l1_ratio cannot be used with solver='adamw', whose decay is decoupled from "
                    "the gradient: choose 'adam'."
                )
            return
        asked = [
            name
            for name, off in STOCHASTIC_ONLY.items()
            if np.any(np.asarray(getattr(self, name, off)) != off)
        ]
        if asked or X_val is not None:
            what = " and ".join(asked) if asked else "X_val"
            raise ValueError(
                f"{what} cannot be used with solver={self.solver!r}: choose one of "
                f"{', '.join(STOCHASTIC_SOLVERS)}."
            )

    def _check_weights(self, sample_weight) -> None:
        """Raise for weights without a mean, and for negative ones where a root is taken of them."""
        if sample_weight is None:
            return
        if cancel(sample_weight):
            raise ValueError("sample_weight sums to zero: a loss weighted by it has no mean.")
        for what, rooted in (("solver='lm'", self.solver == "lm"), ("batch_norm", self.batch_norm)):
            if rooted and np.min(sample_weight) < 0:
                raise ValueError(f"{what} needs sample_weight >= 0: some are negative.")

    def _network(self, units, backend) -> network.Network:
        loss = self._loss()
        if not isinstance(loss, str) and not hasattr(loss, "value_and_grad"):
            loss = backend.autograd_loss(loss, *self._link())
        return network.build(
            units,
            loss,
            self._activations(units),
            batch_norm=self.batch_norm,
            dropout=bool(self._dropout_rates(len(units) - 2).any()),
        )

    def _stochastic_settings(self, net, n_rows: int, incremental: bool) -> tuple[dict, dict]:
        """Numbers, and what control flow depends on, of the mini-batch loop."""
        if self.batch_size != "auto" and self.batch_size > n_rows:
            warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            )
        hyper, options = settings(
            self, net, n_rows, self.alpha, self.l1_ratio, incremental, self._regularizers()
        )
        rates = self._dropout_rates(len(net.activations))
        if rates.any():
            hyper["dropout"] = rates[None]
        if self._loss() == "squared_error":
            # scikit-learn reports the squared error as a mean over outputs, not their sum.
            options["loss_scale"] = 1.0 / self.n_outputs_
        return hyper, {**options, "early_stopping": self.early_stopping}

    def _regularizers(self) -> list[Regularizer]:
        """Those that the parameters ask for, beside the penalty."""
        asked = {
            LabelSmoothing: getattr(self, "label_smoothing", 0.0),
            ClipNorm: self.clip_norm,
            MaxNorm: self.max_norm,
        }
        own = list(self.regularizers or ())
        for one in own:
            if not isinstance(one, Regularizer):
                raise ValueError(
                    f"regularizers lists {one!r}, which is not a skdeep.regularization.Regularizer."
                )
        return [*(kind(number) for kind, number in asked.items() if number), *own]

    def _dropout_rates(self, n_hidden: int) -> np.ndarray:
        """Rates of the input and each hidden layer."""
        if np.ndim(self.dropout) == 0:
            return np.array([0.0] + [float(self.dropout)] * n_hidden)
        rates = np.asarray(self.dropout, dtype=float)
        if len(rates) not in (n_hidden, n_hidden + 1) or not ((rates >= 0) & (rates < 1)).all():
            raise ValueError(
                f"dropout={self.dropout!r} must hold rates in [0, 1): one for each of the "
                f"{n_hidden} hidden layers, and before them one for the input if wanted."
            )
        return rates if len(rates) == n_hidden + 1 else np.array([0.0, *rates])

    def _initial_theta(self, net, rngs, X, sample_weight) -> np.ndarray:
        """Parameters (n_members, P), each member's drawn by its own generator, layer by layer."""
        draw = self.weight_init if callable(self.weight_init) else INITIALIZERS[self.weight_init]
        n_norm, n_own = net.n_running // 2, sum(p.role == "weight" for p in net.places)
        # The initializer knows activations by name; as in scikit-learn the output has the last's.
        names = [a if isinstance(a, str) else "" for a in self._activations(net.units)]
        names.append(names[-1] if names else str(self.activation))
        thetas = []
        for rng in rngs:
            drawn = [
                draw(rng, fan_in, fan_out, name)
                for fan_in, fan_out, name in zip(net.units, net.units[1:], names, strict=False)
            ]
            weights, intercepts = map(list, zip(*drawn, strict=True))
            weights = weights[:n_own]
            if self.pretraining is not None:
                encoder = self._pretrain(X, sample_weight, rng)
                weights[: len(encoder)] = (W for W, _ in encoder)
                intercepts[: len(encoder)] = (b for _, b in encoder)
            # Scales and running variances start at one, running means at zero.
            norms = np.repeat([1.0, 0.0, 1.0], n_norm)
            thetas.append(np.concatenate([*(a.ravel() for a in (*weights, *intercepts)), norms]))
        return np.stack(thetas)

    def _activations(self, units) -> list:
        """One activation for each hidden layer."""
        activation = self.activation
        if isinstance(activation, list | tuple) and not hasattr(activation, "forward"):
            for one in activation:
                if not (hasattr(one, "forward") or (isinstance(one, str) and one in ACTIVATIONS)):
                    raise ValueError(
                        f"activation lists {one!r}, which is neither an Activation nor one of "
                        f"{', '.join(map(repr, ACTIVATIONS))}."
                    )
            return list(activation)
        return [activation] * (len(units) - 2)

    def _pretrain(self, X, sample_weight, rng) -> list:
        """Weights and intercepts of the hidden layers, from an autoencoder of the same units."""
        coder = clone(self.pretraining).set_params(
            hidden_layer_sizes=self.hidden_layer_sizes, activation=self.activation
        )
        if coder.random_state is None:
            coder.set_params(random_state=rng.randint(2**31))
        # This fit has validated its own parameters only, and passes no judgement on the coder's.
        with config_context(skip_parameter_validation=False):
            self.pretraining_ = coder.fit(X, sample_weight=sample_weight)
        n_hidden = len(self._hidden_units())
        return list(zip(coder.coefs_[:n_hidden], coder.intercepts_[:n_hidden], strict=True))

    def _weigh_classes(self, y, sample_weight, incremental):
        """Sample weights with those of the classes; regression has none."""
        return sample_weight

    # From a result to a fitted estimator

    def _accept(self, problem: Problem, result: Result, incremental: bool, backend) -> None:
        require_finite(result.theta)
        # Early stopping returns to the best weights, from before any divergence.
        if not (self.early_stopping or result.interrupted):
            require_finite(result.loss)
        for name in NORMS:  # of an earlier fit
            vars(self).pop(name, None)
        vars(self).update(self._attributes(problem.net, result.theta))
        if network.may_overflow(problem.net, result.theta, problem.X):
            with np.errstate(all="ignore"):
                require_finite(self._predicted(backend, problem.X))
        self.n_iter_ = int(result.n_iter.max())
        self.loss_ = float(result.loss.mean())
        if result.states is None:
            self.t_ = 0
            if result.curve is not None:
                self.loss_curve_ = self._of_members(result.curve)
            if not result.converged.all():
                self._warn_not_converged(
                    f"{self.solver} failed to converge after {self.n_iter_} iterations: increase "
                    "max_iter or scale the data."
                )
            return
        states = result.states
        self._trainings = [without_records(state) for state in states]
        self.t_, self._no_improvement_count = states[0]["samples"], states[0]["stalled"]
        held_out, early = problem.validation is not None, self.early_stopping
        self.loss_curve_ = self._of_members(result.curve)
        histories = [state["history"] for state in states]
        self.history_ = self._of_members(histories)
        self.best_loss_ = None if early else self._of_members([s["best_loss"] for s in states])
        scores = self._of_members([h.get("validation_score", []) for h in histories])
        self.validation_scores_ = scores if held_out else None
        best = self._of_members([s["best_score"] for s in states])
        self.best_validation_score_ = best if early else None
        if not (result.converged.all() or incremental or result.interrupted):
            self._warn_not_converged(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet."
            )

    def _earlier_training(self, incremental: bool) -> list:
        """What each member's training has left to go on from; None where there is nothing."""
        if not hasattr(self, "_trainings"):
            return [None] * self.n_members
        histories = [self.history_] if self.n_members == 1 else self.history_
        states = [{**t, "history": h} for t, h in zip(self._trainings, histories, strict=True)]
        return states if incremental else list(map(restarted, states))

    @property
    def _optimizer(self):
        """scikit-learn's name for what the first member's training has left."""
        return SimpleNamespace(**self._trainings[0])

    def _of_members(self, values: list):
        """The only member's value, or the list of all members'."""
        return values[0] if self.n_members == 1 else values

    def _attributes(self, net, theta) -> dict:
        """The fitted attributes that predict needs, from parameters (n_members, P)."""

        def arrays(views):
            return [view[0] if len(theta) == 1 else view for view in views]

        attributes = {
            "coefs_": arrays(network.matrices(np, net, theta)),
            "intercepts_": arrays(network.of_role(np, net, theta, "intercept")),
            "n_layers_": len(net.units),
            "out_activation_": getattr(net.loss, "out_activation", "identity"),
        }
        if net.batch_norm:
            for name, role in NORMS.items():
                attributes[name] = arrays(network.of_role(np, net, theta, role))
        return attributes

    def _warn_not_converged(self, text: str) -> None:
        warn(text, ConvergenceWarning)

    @property
    def _first_coef(self):
        return self.coefs_[0]

    # Prediction

    def _theta(self) -> np.ndarray:
        """Parameters (n_members, P)."""
        parts = [*self.coefs_, *self.intercepts_]
        if self.batch_norm and self.n_layers_ > 2:  # without hidden layers nothing is normalised
            parts += [array for name in NORMS for array in getattr(self, name)]
        members = self.coefs_[0].shape[0] if self.coefs_[0].ndim == 3 else 1
        return np.concatenate([array.reshape(members, -1) for array in parts], axis=1)

    def _theta_to_go_on(self, net) -> np.ndarray:
        """The fitted parameters, if they are those of such networks."""
        fitted = (self.coefs_[0].shape[-2], *(b.shape[-1] for b in self.intercepts_))
        members = self.coefs_[0].shape[0] if self.coefs_[0].ndim == 3 else 1
        if (
            fitted != net.units
            or members != self.n_members
            or (net.batch_norm and not hasattr(self, "scales_"))
        ):
            raise ValueError(
                "hidden_layer_sizes, the number of outputs, n_members and batch_norm must be what "
                "they were for warm_start and partial_fit to go on."
            )
        return self._theta()

    def _predict_raw(self, X) -> np.ndarray:
        """Probabilities or means of shape (n_samples, n_outputs), averaged over the members."""
        check_is_fitted(self)
        backend = self._get_backend_to_predict(X)
        X = validate_data(self, to_host(X), accept_sparse=["csr", "csc"], reset=False)
        return self._predicted(backend, X)

    def _predicted(self, backend, X) -> np.ndarray:
        """The same for validated rows."""
        net, theta, X = self._arrays(backend, X)
        predicted = backend.to_numpy(network.predict(backend.xp, net, theta, X))
        return predicted[0] if len(predicted) == 1 else predicted.mean(axis=0)

    def _arrays(self, backend, X):
        """The network, its parameters and validated rows, on the backend."""
        units = (self.coefs_[0].shape[-2], *(b.shape[-1] for b in self.intercepts_))
        dtype = dtype_to_predict(X, self.coefs_[0])
        theta, X = backend.asarray(self._theta(), dtype), backend.asarray(X, dtype)
        return self._network(units, backend), theta, X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
