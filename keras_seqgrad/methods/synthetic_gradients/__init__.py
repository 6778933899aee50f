"""Synthetic gradients: a learned guess crosses the boundary."""

from keras_seqgrad.methods.synthetic_gradients.method import SyntheticGradients

__all__ = ["SyntheticGradients"]
