"""Neurons and nets of them as scikit-learn estimators, on NumPy or torch."""

from .backends import register_backend
from .discriminant_analysis import LinearDiscriminantAnalysis
from .discriminant_analysis import LinearDiscriminantAnalysis as LDA

__version__ = "0.1.0"

__all__ = ["LDA", "LinearDiscriminantAnalysis", "register_backend", "__version__"]
