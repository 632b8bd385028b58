"""Multi-layer perceptrons, as in ``sklearn.neural_network``, other networks, autoencoders."""

from .autoencoder import Autoencoder
from .classifier import MLPClassifier
from .layered import NetworkClassifier, NetworkRegressor
from .regressor import MLPRegressor
from .tabular import TabularClassifier, TabularRegressor

__all__ = [
    "Autoencoder",
    "MLPClassifier",
    "MLPRegressor",
    "NetworkClassifier",
    "NetworkRegressor",
    "TabularClassifier",
    "TabularRegressor",
]
