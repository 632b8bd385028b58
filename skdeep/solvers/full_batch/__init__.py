"""All rows at once: L-BFGS, Newton, proximal Newton, Levenberg and Marquardt.

A method is a function ``step(run, state) -> state`` that puts ``run.point`` further on;
:func:`iterate` makes steps until every model of the stack has stopped.
"""

from .bookkeeping import FULL_BATCH, Run, iterate
from .line_search import wolfe
from .objective import Point, take

__all__ = ["FULL_BATCH", "Point", "Run", "iterate", "take", "wolfe"]
