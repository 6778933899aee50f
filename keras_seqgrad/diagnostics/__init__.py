"""How good the gradient is that a model is trained with."""

from keras_seqgrad.diagnostics.boundaries import (
    BoundaryGradients,
    boundary_gradients,
)
from keras_seqgrad.diagnostics.compare import compare_gradients
from keras_seqgrad.diagnostics.comparison import GradientComparison
from keras_seqgrad.diagnostics.quality import GradientQuality

__all__ = [
    "BoundaryGradients",
    "GradientComparison",
    "GradientQuality",
    "boundary_gradients",
    "compare_gradients",
]
