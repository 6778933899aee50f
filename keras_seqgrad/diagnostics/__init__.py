"""How good the gradient is that a model is trained with."""

from keras_seqgrad.diagnostics.boundaries import (
    BoundaryGradients,
    boundary_gradients,
)

__all__ = ["BoundaryGradients", "boundary_gradients"]
