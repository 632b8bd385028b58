"""What the multi-layer perceptrons share: their parameters, their problem and its result."""

import warnings
from abc import abstractmethod
from numbers import Integral, Real

import numpy as np
from sklearn.base import is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import network
from ..activations import ACTIVATIONS
from ..base import Model, require_finite, to_host, unchanged_on_error
from ..initializers import INITIALIZERS
from ..monitoring import watched
from ..problem import Problem, Result, Validation
from ..schedules import SCHEDULES

STOCHASTIC_SOLVERS = ("sgd", "adam")


def has_partial_fit(estimator) -> bool:
    """For ``available_if``: only the stochastic solvers can go on from where they stopped."""
    if estimator.solver not in STOCHASTIC_SOLVERS:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


class BaseMultilayerPerceptron(CallbackSupportMixin, Model):
    """Base of the multi-layer perceptrons."""

    _parameter_constraints: dict = {
        **Model._parameter_constraints,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "solver": [StrOptions({"lbfgs", *STOCHASTIC_SOLVERS})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"float32", "float64", "bfloat16"}), None],
    }

    @abstractmethod
    def _validate_input(self, X, y, incremental, reset):
        """Validated X, and y encoded as numbers or indicators."""

    @abstractmethod
    def _loss_name(self) -> str:
        """Name of the loss in ``skdeep.losses.LOSSES``."""

    @abstractmethod
    def _scorer(self, y, sample_weight):
        """Function that scores predictions of shape (n_samples, n_outputs) against encoded y."""

    # From data to a problem

    def _fit(self, X, y, sample_weight=None, incremental=False):
        # One task more than iterations: the next begins before the solver says whether it is done.
        context = self._init_callback_context(max_subtasks=self.max_iter + 1)
        with unchanged_on_error(self):
            backend = self._get_backend(X)
            problem = self._problem(X, y, sample_weight, incremental)

            def attributes(theta):
                return self._attributes(problem.net, theta)

            with watched(self, context, problem, y, sample_weight, attributes) as problem:
                self._accept(problem, self._solve(backend, problem), incremental)
        return self

    def _problem(self, X, y, sample_weight=None, incremental=False) -> Problem:
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        hidden = self._hidden_units()
        X, y = self._validate_input(to_host(X), y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        y = y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        net = network.build(
            (X.shape[1], *hidden, self.n_outputs_), self._loss_name(), self.activation
        )
        self._random_state = check_random_state(self.random_state)
        dtype = self._compute_dtype(X)
        if first_pass:
            theta, training = self._initial_theta(net), None
        else:
            theta, training = self._theta(), getattr(self, "_optimizer", None)
        stochastic = self.solver in STOCHASTIC_SOLVERS
        rows, validation = self._split(X, y, sample_weight, incremental, stochastic)
        n_rows = X.shape[0] if rows is None else len(rows)
        total = n_rows if sample_weight is None else sample_weight.sum()
        hyper = {
            "l2": self.alpha if stochastic else self.alpha / total,
            **{name: getattr(self, name) for name in self._numeric_parameters()},
        }
        if incremental:
            hyper["max_iter"] = 1
        elif training is not None:
            training = training.restart()
        return Problem(
            solver="minibatch" if stochastic else "lbfgs",
            X=X,
            y=y,
            dtype=dtype,
            theta=theta[None].astype(dtype, copy=False),
            net=net,
            hyper={name: np.array([[value]], dtype=float) for name, value in hyper.items()},
            options=self._options(n_rows) if stochastic else {},
            weights=sample_weight,
            rows=None if rows is None else [rows],
            rngs=[self._random_state],
            validation=None if validation is None else [validation],
            states=[training] if stochastic else None,
        )

    def _hidden_units(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _numeric_parameters(self) -> tuple[str, ...]:
        """Parameters that may differ between the models of a stack."""
        if self.solver == "lbfgs":
            return "tol", "max_iter", "max_fun"
        own = ("momentum",) if self.solver == "sgd" else ("beta_1", "beta_2", "epsilon")
        return "learning_rate_init", "max_iter", "tol", "n_iter_no_change", *own

    def _options(self, n_rows: int) -> dict:
        """What the mini-batch loop depends on beside numbers."""
        batch_size = min(200, n_rows) if self.batch_size == "auto" else self.batch_size
        if batch_size > n_rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=2,
            )
            batch_size = n_rows
        nesterov = self.solver == "sgd" and self.nesterovs_momentum
        # As in scikit-learn, the schedules are for sgd; adam adapts its steps itself.
        schedule = SCHEDULES[self.learning_rate if self.solver == "sgd" else "constant"]
        numbers = {"power_t": self.power_t} if self.learning_rate == "invscaling" else {}
        return {
            "optimizer": "nesterov" if nesterov else self.solver,
            "schedule": schedule(**numbers) if self.solver == "sgd" else schedule(),
            "batch_size": int(batch_size),
            "shuffle": self.shuffle,
            # scikit-learn reports the squared error as a mean over outputs, not their sum.
            "loss_scale": 1.0 / self.n_outputs_ if self._loss_name() == "squared_error" else 1.0,
            "verbose": bool(self.verbose),
        }

    def _initial_theta(self, net) -> np.ndarray:
        draw = INITIALIZERS["auto"]
        drawn = [
            draw(self._random_state, fan_in, fan_out, self.activation)
            for fan_in, fan_out in network.shapes(net)[0]
        ]
        weights, intercepts = zip(*drawn, strict=True)
        return np.concatenate([array.ravel() for array in (*weights, *intercepts)])

    def _split(self, X, y, sample_weight, incremental, stochastic):
        """Training rows and the validation on the others, or None twice."""
        if not (self.early_stopping and stochastic):
            return None, None
        if incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        rows, held_out = train_test_split(
            np.arange(X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and y.shape[1] == 1 else None,
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        weight = None if sample_weight is None else sample_weight[held_out]
        return rows, Validation(X=X, rows=held_out, score=self._scorer(y[held_out], weight))

    # From a result to a fitted estimator

    def _accept(self, problem: Problem, result: Result, incremental: bool) -> None:
        theta, net = result.theta[0], problem.net
        require_finite(theta, result.loss)
        vars(self).update(self._attributes(net, theta))
        self.n_iter_ = int(result.n_iter[0])
        self.loss_ = float(result.loss[0])
        if result.states is None:
            self.t_ = 0
            if not result.converged[0]:
                self._warn_not_converged(
                    f"lbfgs failed to converge after {self.n_iter_} iterations"
                )
            return
        training = self._optimizer = result.states[0]
        self.t_ = training.samples
        self.loss_curve_ = training.curve
        early = problem.validation is not None
        self.best_loss_ = None if early else training.best_loss
        self.validation_scores_ = training.scores if early else None
        self.best_validation_score_ = training.best_score if early else None
        if not (result.converged[0] or incremental):
            self._warn_not_converged(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet."
            )

    def _attributes(self, net, theta) -> dict:
        """The fitted attributes that predict needs, from parameters (P,)."""
        weights, intercepts = network.layers(np, net, theta[None])
        return {
            "coefs_": [W[0] for W in weights],
            "intercepts_": [b[0, 0] for b in intercepts],
            "n_layers_": len(net.units),
            "out_activation_": net.loss.out_activation,
        }

    def _warn_not_converged(self, text: str) -> None:
        warnings.warn(text, ConvergenceWarning, stacklevel=5)

    @property
    def _no_improvement_count(self) -> int:
        return self._optimizer.stalled

    # Prediction

    def _theta(self) -> np.ndarray:
        return np.concatenate([array.ravel() for array in (*self.coefs_, *self.intercepts_)])

    def _predict_raw(self, X) -> np.ndarray:
        """Probabilities or means of shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        backend = self._get_backend(X)
        X = validate_data(self, to_host(X), accept_sparse=["csr", "csc"], reset=False)
        units = (self.coefs_[0].shape[0], *(W.shape[1] for W in self.coefs_))
        net = network.build(units, self._loss_name(), self.activation)
        dtype = np.result_type(X.dtype if X.dtype.kind == "f" else "float64", self.coefs_[0].dtype)
        theta, X = backend.asarray(self._theta()[None], dtype), backend.asarray(X, dtype)
        raw = backend.kernel(network.forward)(backend.xp, net, theta, X)
        return backend.to_numpy(net.loss.predict(backend.xp, raw))[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
