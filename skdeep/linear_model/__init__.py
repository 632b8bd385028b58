"""Linear classifiers: the perceptron and logistic regression."""

from .logistic import LogisticRegression
from .logistic_cv import LogisticRegressionCV
from .perceptron import Perceptron

__all__ = ["LogisticRegression", "LogisticRegressionCV", "Perceptron"]
