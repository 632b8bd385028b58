"""What the networks share: the way from data to a problem, and from its result to predictions."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from types import SimpleNamespace

import numpy as np
from scipy.sparse import issparse
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .. import network
from .._sklearn import _check_sample_weight
from ..array_api import staying, validate_data
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
from ..layers import Activation, Dense, Layer
from ..layers.base import expanded
from ..losses import LOSSES, Loss, identity
from ..monitoring import watched
from ..overrides import chosen
from ..problem import Problem, Result, cancel
from ..processes import active, refuse
from ..rates import RATES
from ..regularization import Regularizer, put_together, taken_apart, undoes, undone
from ..schedules import SCHEDULES
from ..solvers.minibatch.training import restarted, without_records
from ..stochastic import STOCHASTIC_SOLVERS, column, decouples, is_stochastic, settings
from .held_out import ScoredOnHeldOutRows
from .parameters import REGULARIZERS
from .starting import Starting

# Fitted under batch normalisation: one array for each hidden layer.
NORMS = {
    "scales_": "scale",
    "running_means_": "running_mean",
    "running_variances_": "running_variance",
}

# What only the mini-batch loop knows; the defaults leave it out.
STOCHASTIC_ONLY = (
    "layer_rates",
    "dropout",
    "dropout_schedule",
    "batch_norm",
    "l1_ratio",
    *REGULARIZERS,
    "regularizers",
)


# The fitted attributes of parameters, by their role.
FITTED = {"weight": "coefs_", "intercept": "intercepts_"} | {
    role: name for name, role in NORMS.items()
}


def averaged(predicted):
    """Predictions (n, k) from those of members (n_members, n, k)."""
    return predicted[0] if len(predicted) == 1 else predicted.mean(axis=0)


class BaseNetwork(Starting, ScoredOnHeldOutRows, CallbackSupportMixin, Model):
    """Base of the networks. A subclass says which layers, which loss and what a prediction is."""

    @abstractmethod
    def _layers(self) -> list[Layer]:
        """The layers before the output, as the parameters have them."""

    def _row_shape(self, X, n_features: int) -> tuple[int, ...]:
        """The shape of a row of X, as it was given, which has so many numbers."""
        return (n_features,)

    def _table(self, X, backend):
        """X where it is to be worked on, a row for each sample."""
        return staying(backend, X)

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
        self, X, y, sample_weight=None, incremental=False, X_val=None, y_val=None, leader=None
    ) -> Fitting:
        # One task more than iterations: the next begins before the solver says whether it is done.
        context = self._init_callback_context(max_subtasks=(self.max_iter + 1) * self.n_members)
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            if leader is None:
                problem = self._problem(X, y, sample_weight, incremental, backend, X_val, y_val)
            else:
                problem = self._following(*leader, X_val, y_val)
            of_rows = problem if leader is None else leader[1]

            def attributes(theta):
                return self._attributes(problem.net, theta[None])

            with watched(self, context, problem, y, sample_weight, attributes) as problem:
                result = yield backend, problem
                entry = of_rows.largest_entry
                self._accept(problem, result, incremental, backend, entry)
            if problem.checkpoint is not None and not result.interrupted:
                problem.checkpoint.remove()

    def _problem(
        self, X, y, sample_weight=None, incremental=False, backend=None, X_val=None, y_val=None
    ) -> Problem:
        if incremental:
            refuse("partial_fit cannot be used", "fit takes the rows of all processes.")
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        layers = self._layers()
        self._check_solver(X_val)
        given = X
        X = self._table(X, backend)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        X = canonical(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(to_host(sample_weight), X)
        sample_weight = self._weigh_classes(y, sample_weight, incremental)
        self._check_weights(sample_weight)
        y = y if y.ndim == 2 else y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        net = self._network(self._row_shape(given, X.shape[1]), layers, backend)
        self._check_layers(net)
        if issparse(X):
            self._check_sparse(net)
        rng = active().random_state(self.random_state)
        start = (
            None if first_pass else (self._theta_to_go_on(net), self._earlier_training(incremental))
        )
        X_val = None if X_val is None else self._table(X_val, backend)
        data = (X, y, sample_weight, X_val, y_val)
        checkpoint = None if incremental else open_checkpoint(self, backend, rng, data, start)
        theta, trainings = start or (None, [None] * self.n_members)
        problem = Problem(
            solver="minibatch" if is_stochastic(self.solver) else self.solver,
            X=X,
            y=y,
            dtype=self._compute_dtype(X),
            theta=theta,
            net=net,
            weights=sample_weight,
            states=trainings if is_stochastic(self.solver) else None,
            checkpoint=checkpoint,
        )
        drawn = self._drawn_start(problem, rng, incremental, X_val, y_val)
        return self._with_numbers(replace(problem, **drawn), incremental)

    def _with_numbers(self, problem: Problem, incremental) -> Problem:
        """The problem with hyper-parameters and options, as the parameters say."""
        weights, rows = problem.weights, problem.rows
        n_rows = active().total(problem.X.shape[0]) if rows is None else max(map(len, rows))
        if is_stochastic(self.solver):
            hyper, options = self._stochastic_settings(problem.net, n_rows, incremental)
        else:
            total = n_rows if weights is None else active().total(weights.sum())
            names = ["tol", "max_iter", *["max_fun"] * (self.solver == "lbfgs")]
            hyper = {name: column(getattr(self, name)) for name in names}
            if self.solver == "lm":
                # Near an exact fit the gradient falls as the error does, far below other solvers'.
                hyper["tol"] = hyper["tol"] ** 2
            hyper, options = {"l2": column(self.alpha / total), **hyper}, {}
        hyper = {name: np.repeat(v, self.n_members, axis=0) for name, v in hyper.items()}
        return replace(problem, hyper=hyper, options=options)

    def _check_solver(self, X_val) -> None:
        """Raise if a parameter asks for what the solver has not."""
        if is_stochastic(self.solver):
            if decouples(self.solver) and self.l1_ratio > 0:
                raise ValueError(
                    f"l1_ratio cannot be used with solver={self.solver!r}, whose decay is "
                    "decoupled from the gradient: choose 'adam'."
                )
            return
        asked = [
            name
            for name in STOCHASTIC_ONLY
            if name in self._parameters
            and np.any(np.asarray(getattr(self, name)) != self._parameters[name].default)
        ]
        if asked or X_val is not None:
            what = " and ".join(asked) if asked else "X_val"
            raise ValueError(
                f"{what} cannot be used with solver={self.solver!r}: choose one of "
                f"{', '.join(STOCHASTIC_SOLVERS)}."
            )

    def _check_layers(self, net) -> None:
        """Raise if a layer asks for what the solver has not."""
        asked = ["Dropout"] * bool(net.masked) + ["BatchNorm"] * bool(net.n_running)
        if asked and not is_stochastic(self.solver):
            raise ValueError(
                f"layers of {' and '.join(asked)} cannot be used with solver={self.solver!r}: "
                f"choose one of {', '.join(STOCHASTIC_SOLVERS)}."
            )

    def _check_sparse(self, net) -> None:
        """Raise if something needs dense rows."""
        if not net.takes_matrices:
            raise ValueError("X is sparse, which the first layer cannot take: pass a dense array.")
        for one in self.regularizers or ():
            if type(one).input is not Regularizer.input:
                raise ValueError(
                    f"X is sparse, which {type(one).__name__} in regularizers cannot change: pass "
                    "a dense array."
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

    def _network(
        self, shape: tuple[int, ...], layers: list[Layer], backend=None
    ) -> network.Network:
        """The network of such layers; with a backend it is for training, else for predictions."""
        loss = self._loss()
        if not isinstance(loss, str) and not hasattr(loss, "value_and_grad"):
            make = Loss if backend is None else backend.autograd_loss
            loss = make(loss, *self._link())
        return network.Network(
            (*self._arranged(layers), Dense(self.n_outputs_, None)),
            LOSSES[loss] if isinstance(loss, str) else loss,
            shape,
        )

    def _arranged(self, layers: list[Layer]) -> list[Layer]:
        """The layers, with what the parameters put between them."""
        n_hidden = sum(isinstance(layer, Activation) for layer in expanded(layers))
        rates = self._dropout_rates(n_hidden)
        return network.arranged(layers, self.batch_norm, rates if rates.any() else None)

    def _stochastic_settings(self, net, n_rows: int, incremental: bool) -> tuple[dict, dict]:
        """Numbers, and what control flow depends on, of the mini-batch loop."""
        if self.batch_size != "auto" and self.batch_size > n_rows:
            warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            )
        hyper, options = settings(
            self, net, n_rows, self.alpha, self.l1_ratio, incremental, self._regularizers()
        )
        rates = [rate for layer in self._arranged(self._layers()) for rate in layer.rates]
        if any(rates):
            hyper["dropout"] = np.array([rates], dtype=float)
            asked = self.dropout_schedule
            if asked != "constant":
                options["dropout_schedule"] = asked if callable(asked) else SCHEDULES[asked]()
        if self.layer_rates is not None:
            hyper["rate_factors"] = self._rate_factors(net)
        if self._loss() == "squared_error":
            # scikit-learn reports the squared error as a mean over outputs, not their sum.
            options["loss_scale"] = 1.0 / self.n_outputs_
        return hyper, {**options, "early_stopping": bool(self.early_stopping)}

    def _rate_factors(self, net) -> np.ndarray:
        """What the learning rates of the parameters are multiplied by, (1, P)."""
        asked = self.layer_rates
        factor = asked if callable(asked) else RATES[asked]
        factors = [np.full(place.stop - place.start, factor(place)) for place in net.places]
        factors = np.concatenate(factors, dtype=float)[None]
        if not (np.isfinite(factors) & (factors >= 0)).all():
            raise ValueError(f"layer_rates={asked!r} must give factors that are finite and >= 0.")
        return factors

    def _regularizers(self) -> list[Regularizer]:
        """Those that the parameters ask for, beside the penalty."""
        asked = {kind: getattr(self, name, None) for name, kind in REGULARIZERS.items()}
        own = list(self.regularizers or ())
        for one in own:
            if not (isinstance(one, Regularizer) and is_dataclass(one)):
                raise ValueError(
                    f"regularizers lists {one!r}, which is not a skdeep.regularization.Regularizer "
                    "that is a dataclass."
                )
        return [*(kind(number) for kind, number in asked.items() if number), *own]

    def _undoing(self, backend, dtype) -> list[Regularizer]:
        """Those that have a say in predictions, with their numbers on the backend."""
        asked = self._regularizers()
        kinds, numbers = taken_apart([one for one in asked if undoes(one)])
        return put_together(kinds, {n: backend.asarray(v, dtype) for n, v in numbers.items()})

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

    def _weigh_classes(self, y, sample_weight, incremental):
        """Sample weights with those of the classes; regression has none."""
        return sample_weight

    # From a result to a fitted estimator

    def _accept(self, problem: Problem, result: Result, incremental, backend, entry) -> None:
        require_finite(result.theta)
        early = self.early_stopping and result.states is not None
        if not result.interrupted:
            # Early stopping returns to the best weights, from before any divergence.
            require_finite([s["best_score"] for s in result.states] if early else result.loss)
        for name in (*NORMS, "oof_prediction_", "oof_score_"):  # of an earlier fit
            vars(self).pop(name, None)
        vars(self).update(self._attributes(problem.net, result.theta))
        if network.may_overflow(problem.net, result.theta, entry):
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
        held_out = problem.validation is not None
        self.loss_curve_ = self._of_members(result.curve)
        histories = [state["history"] for state in states]
        self.history_ = self._of_members(histories)
        self.best_loss_ = None if early else self._of_members([s["best_loss"] for s in states])
        scores = self._of_members([h.get("validation_score", []) for h in histories])
        self.validation_scores_ = scores if held_out else None
        best = self._of_members([s["best_score"] for s in states])
        self.best_validation_score_ = best if early else None
        if self.early_stopping == "members" and problem.rows is not None:
            vars(self).update(self._out_of_fold(backend, problem))
        # Members without patience train as long as planned.
        planned = self.early_stopping == "members" and np.isinf(self.n_iter_no_change)
        if not (result.converged.all() or planned or incremental or result.interrupted):
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
        for name, role in NORMS.items():
            if found := network.of_role(np, net, theta, role):
                attributes[name] = arrays(found)
        return attributes

    def _warn_not_converged(self, text: str) -> None:
        warn(text, ConvergenceWarning)

    @property
    def _first_coef(self):
        return self.coefs_[0]

    # Prediction

    def _theta(self, net) -> np.ndarray:
        """Parameters (n_members, P)."""
        b = self.intercepts_[-1]
        members = len(b) if b.ndim == 2 else 1
        parts = []
        for role, name in FITTED.items():
            own = [place for place in net.places if place.role == role]
            # Of tied weights the first half is all there is.
            parts += [array.reshape(members, -1) for array in getattr(self, name, ())[: len(own)]]
        return np.concatenate(parts, axis=1)

    def _theta_to_go_on(self, net) -> np.ndarray:
        """The fitted parameters, if they are those of such networks."""
        axis = (self.n_members,) if self.n_members > 1 else ()
        for role, name in FITTED.items():
            wanted = [(*axis, *place.shape) for place in net.places if place.role == role]
            arrays = getattr(self, name, [])
            found = [array.shape for array in arrays]
            if found[: len(wanted)] != wanted or not (net.tied or len(found) == len(wanted)):
                raise ValueError(
                    f"{self._shaped_by}, the number of outputs, n_members and batch_norm must be "
                    "what they were for warm_start and partial_fit to go on."
                )
        return self._theta(net)

    def _predict_raw(self, X) -> np.ndarray:
        """Probabilities or means of shape (n_samples, n_outputs), averaged over the members."""
        check_is_fitted(self)
        backend = self._get_backend_to_predict(X)
        X = self._table(X, backend)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return self._predicted(backend, X)

    def _predicted(self, backend, X, members=slice(None)):
        """The same for validated rows, by some of the members."""
        net, theta, rows = self._arrays(backend, X)
        dtype = dtype_to_predict(backend, X, self.coefs_[0])
        predicted = self._of_each(backend, net, theta[members, :], rows, dtype)
        return averaged(self._given(backend, X, predicted))

    def _of_each(self, backend, net, theta, rows, dtype):
        """Predictions (M, n, k) by networks like this one, for rows on the backend."""
        raw = network.forward(backend.xp, net, theta, rows)
        raw = undone(backend.xp, net, raw, self._undoing(backend, dtype))
        return chosen(backend.xp, net.loss.predict)(backend.xp, raw)

    def _arrays(self, backend, X):
        """The network, its parameters and validated rows, on the backend."""
        net, dtype = self._fitted_network(), dtype_to_predict(backend, X, self.coefs_[0])
        return net, backend.asarray(self._theta(net), dtype), backend.asarray(X, dtype)

    @abstractmethod
    def _fitted_network(self) -> network.Network:
        """The network that was fitted, whatever the parameters say by now."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
