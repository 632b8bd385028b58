"""What the multi-layer perceptrons share: dense layers, by the numbers of their units."""

from ..activations import ACTIVATIONS
from ..layers import Layer
from ..network import Network, dense
from .base import BaseNetwork


class BaseMultilayerPerceptron(BaseNetwork):
    """Base of the multi-layer perceptrons."""

    _shaped_by = "hidden_layer_sizes"

    def _hidden_units(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _activations(self, n_hidden: int) -> list:
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
        return [activation] * n_hidden

    def _layers(self) -> list[Layer]:
        return self._dense(self._hidden_units())

    def _dense(self, sizes: list[int]) -> list[Layer]:
        return dense(sizes, self._activations(len(sizes)))

    def _fitted_network(self) -> Network:
        sizes = [int(b.shape[-1]) for b in self.intercepts_[:-1]]
        return self._network(self.coefs_[0].shape[-2:-1], self._dense(sizes))
