"""scikit-learn's cross-validation functions, with the fits of our models run together."""

from .._sklearn import _validation
from .parallel import StackedParallel
from .rebinding import rebind_validated

_DATA = """
>>> from sklearn.datasets import load_iris
>>> from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
>>> X, y = load_iris(return_X_y=True)
>>> lda = LinearDiscriminantAnalysis("lsqr")
"""

cross_validate = rebind_validated(
    _validation.cross_validate,
    _DATA
    + """\
>>> from skdeep.model_selection import cross_validate
>>> round(float(cross_validate(lda, X, y)["test_score"].mean()), 2)
0.98
""",
    Parallel=StackedParallel,
)
cross_val_score = rebind_validated(
    _validation.cross_val_score,
    _DATA
    + """\
>>> from skdeep.model_selection import cross_val_score
>>> round(float(cross_val_score(lda, X, y).mean()), 2)
0.98
""",
    cross_validate=cross_validate,
)
learning_curve = rebind_validated(
    _validation.learning_curve,
    _DATA
    + """\
>>> from skdeep.model_selection import learning_curve
>>> sizes, train_scores, test_scores = learning_curve(lda, X, y, shuffle=True, random_state=0)
>>> test_scores.shape
(5, 5)
""",
    Parallel=StackedParallel,
)
validation_curve = rebind_validated(
    _validation.validation_curve,
    _DATA
    + """\
>>> from skdeep.model_selection import validation_curve
>>> train_scores, test_scores = validation_curve(
...     lda, X, y, param_name="shrinkage", param_range=[0.0, 0.5, 1.0]
... )
>>> test_scores.shape
(3, 5)
""",
    Parallel=StackedParallel,
)
