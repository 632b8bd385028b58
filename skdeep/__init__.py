"""Neurons and nets of them as scikit-learn estimators, on NumPy or torch."""

from .backends import register_backend
from .discriminant_analysis import LinearDiscriminantAnalysis
from .discriminant_analysis import LinearDiscriminantAnalysis as LDA
from .fitting import fit_many
from .version import __version__

__all__ = ["LDA", "LinearDiscriminantAnalysis", "fit_many", "register_backend", "__version__"]
