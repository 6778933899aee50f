"""SnAp-1: traces of the weights carry their influence over boundaries."""

from keras_seqgrad.methods.snap.method import SnAp

__all__ = ["SnAp"]
