"""Linear classifiers: the perceptron and logistic regression."""

from .logistic import LogisticRegression

__all__ = ["LogisticRegression"]
