"""Target propagation: states between blocks are free variables."""

from keras_seqgrad.methods.target_propagation.method import TargetPropagation

__all__ = ["TargetPropagation"]
