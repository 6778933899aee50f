"""Callbacks for `fit`, also of models that are not ours."""

from keras_seqgrad.callbacks.adapt_truncation import AdaptTruncation
from keras_seqgrad.callbacks.backup_and_restore import BackupAndRestore
from keras_seqgrad.callbacks.gradient_diagnostics import GradientDiagnostics
from keras_seqgrad.callbacks.warm_restarts import WarmRestarts
from keras_seqgrad.optimizers.average_weights import AverageWeights

__all__ = [
    "AdaptTruncation",
    "AverageWeights",
    "BackupAndRestore",
    "GradientDiagnostics",
    "WarmRestarts",
]
