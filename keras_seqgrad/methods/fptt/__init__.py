"""Forward propagation through time."""

from keras_seqgrad.methods.fptt.method import FPTT

__all__ = ["FPTT"]
