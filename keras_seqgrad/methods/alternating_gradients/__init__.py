"""Alternating synthetic and real gradients."""

from keras_seqgrad.methods.alternating_gradients.method import (
    AlternatingGradients,
)

__all__ = ["AlternatingGradients"]
