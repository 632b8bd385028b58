"""Linear classifiers: the perceptron and logistic regression."""

from .logistic import LogisticRegression
from .perceptron import Perceptron

__all__ = ["LogisticRegression", "Perceptron"]
