"""The literature's synthetic tasks, each with the error of knowing nothing.

Every task has `dataset(batch_size, steps, seed)` and `reference_error`; the
shapes are in its docstring.
"""

from keras_seqgrad.data.tasks.adding import Adding
from keras_seqgrad.data.tasks.copying import RepeatCopy, copy
from keras_seqgrad.data.tasks.influence_balancing import (
    InfluenceBalancing,
    InfluenceBalancingCell,
)
from keras_seqgrad.data.tasks.marked_symbol import MarkedSymbol
from keras_seqgrad.data.tasks.mnist import SequentialMNIST
from keras_seqgrad.data.tasks.temporal_order import TemporalOrder

__all__ = [
    "Adding",
    "InfluenceBalancing",
    "InfluenceBalancingCell",
    "MarkedSymbol",
    "RepeatCopy",
    "SequentialMNIST",
    "TemporalOrder",
    "copy",
]
