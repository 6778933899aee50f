"""Target propagation through regularised inverses of the cell."""

from keras_seqgrad.methods.regularized_inversion.method import (
    RegularizedInversion,
)

__all__ = ["RegularizedInversion"]
