"""scikit-learn's model selection: the searches and curves fit our models together.

What is not listed here by a class or function of its own is scikit-learn's.
"""

from sklearn import model_selection as _theirs

from .search import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from .validation import cross_val_score, cross_validate, learning_curve, validation_curve

__all__ = [
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "RandomizedSearchCV",
    "cross_val_score",
    "cross_validate",
    "learning_curve",
    "validation_curve",
]
_more = [name for name in _theirs.__all__ if name not in __all__]
globals().update({name: getattr(_theirs, name) for name in _more})
__all__ += _more
