"""Layers, of which networks are sequences."""

from .base import ROLES, Layer, Parameter
from .convolution import Conv1D, Conv2D, LocallyConnected2D
from .dense import Activation, Dense, Flatten
from .normalisation import BatchNorm, Dropout, Scale
from .pooling import AveragePool2D, MaxPool2D
from .residual import Residual

__all__ = [
    "ROLES",
    "Activation",
    "AveragePool2D",
    "BatchNorm",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LocallyConnected2D",
    "MaxPool2D",
    "Parameter",
    "Residual",
    "Scale",
]
