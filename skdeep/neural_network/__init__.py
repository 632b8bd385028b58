"""Multi-layer perceptrons, as in ``sklearn.neural_network``, and the autoencoder."""

from .autoencoder import Autoencoder
from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["Autoencoder", "MLPClassifier", "MLPRegressor"]
