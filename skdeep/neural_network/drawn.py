"""Where the training of a network begins: weights drawn layer by layer, or learned before."""

import numpy as np
from sklearn import config_context
from sklearn.base import clone

from .. import network
from ..initializers import INITIALIZERS
from ..layers import Activation, BatchNorm, Dense


class Drawn:
    """Part of the networks: the initial parameters."""

    def _initial_theta(self, net, rngs, X, sample_weight) -> np.ndarray:
        """Parameters (n_members, P), each member's drawn by its own generator, layer by layer."""
        thetas = []
        for rng in rngs:
            theta = self._drawn(net, rng)
            if self.pretraining is not None:
                weights = network.matrices(np, net, theta)
                intercepts = network.of_role(np, net, theta, "intercept")
                for i, (W, b) in enumerate(self._pretrain(net, X, sample_weight, rng)):
                    weights[i][0], intercepts[i][0] = W, b
            thetas.append(theta)
        return np.concatenate(thetas)

    def _drawn(self, net, rng) -> np.ndarray:
        """Parameters (1, P) before any training."""
        initializer = self.weight_init
        initializer = initializer if callable(initializer) else INITIALIZERS[initializer]
        output = getattr(initializer, "output", initializer)
        views, taken_over = [], None
        for layer, shape, name in zip(net.layers, net.shapes, self._names(net), strict=False):
            drawn, one = [], output if layer is net.layers[-1] else initializer

            def draw(fan_in, fan_out, one=one, name=name, drawn=drawn):
                drawn.append(one(rng, fan_in, fan_out, name))
                return drawn[-1]

            values = layer.initial(shape, draw)
            if isinstance(layer, BatchNorm) and taken_over is not None:
                values["intercept"] = taken_over
            taken_over = drawn[0][1] if len(drawn) == 1 else None
            views.append({key: np.asarray(value)[None] for key, value in values.items()})
        return network.join(np, net, views)

    def _names(self, net) -> list[str]:
        """The activation that each layer leads to, as initializers know it: by name, or not.

        As in scikit-learn the output has the last one's.
        """
        functions = [one.function for one in net.layers if isinstance(one, Activation)]
        functions.append(functions[-1] if functions else getattr(self, "activation", "relu"))
        names, seen = [], 0
        for layer in net.layers:
            names.append(functions[seen] if isinstance(functions[seen], str) else "")
            seen += isinstance(layer, Activation)
        return names

    def _pretrain(self, net, X, sample_weight, rng) -> list:
        """Weights and intercepts of the hidden layers, from an autoencoder of the same units."""
        hidden = [net.layers[layer] for layer, _ in net.weights[:-1]]
        functions = [layer.function for layer in net.layers if isinstance(layer, Activation)]
        dense = all(isinstance(layer, Dense) for layer in hidden)
        if not (dense and hidden and len(hidden) == len(functions)):
            raise ValueError(
                "pretraining is for dense hidden layers, each with its activation: "
                f"{self._shaped_by} names none, or others too."
            )
        coder = clone(self.pretraining).set_params(
            hidden_layer_sizes=net.units[1:-1],
            activation=functions[0] if len(set(functions)) == 1 else functions,
        )
        if coder.random_state is None:
            coder.set_params(random_state=rng.randint(2**31))
        # This fit has validated its own parameters only, and passes no judgement on the coder's.
        with config_context(skip_parameter_validation=False):
            self.pretraining_ = coder.fit(X, sample_weight=sample_weight)
        n_hidden = len(functions)
        return list(zip(coder.coefs_[:n_hidden], coder.intercepts_[:n_hidden], strict=True))
