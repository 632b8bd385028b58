"""Multi-layer perceptrons, as in ``sklearn.neural_network``."""

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
