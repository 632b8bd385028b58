"""scikit-learn's cross-validation functions, with the fits of our models run together."""

from sklearn.model_selection import _validation

from .parallel import StackedParallel
from .rebinding import rebind_validated

cross_validate = rebind_validated(_validation.cross_validate, Parallel=StackedParallel)
cross_val_score = rebind_validated(_validation.cross_val_score, cross_validate=cross_validate)
learning_curve = rebind_validated(_validation.learning_curve, Parallel=StackedParallel)
validation_curve = rebind_validated(_validation.validation_curve, Parallel=StackedParallel)
