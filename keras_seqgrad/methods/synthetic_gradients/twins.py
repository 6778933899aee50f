"""A second gradient that goes back through a segment beside the first.

The state before a segment and the results of its recurrent layers exist twice,
with the same values: what the model goes on with, and a *twin*. A gradient
given to the twin of the state after the segment arrives at that of the state
before it, and at no weight. In every recurrent layer both gradients share one
scan, which makes this cheaper than going back a second time.
"""

import tensorflow as tf

from keras_seqgrad.layers.cudnn import refusal
from keras_seqgrad.layers.scan import scan, uses_fast_scan
from keras_seqgrad.tensors import nested


class Twins:
    """The twins of one pass over a segment.

        twins = Twins(leaves)
        outputs, end = window.forward(segment, state, scan=twins.scan)
        again = [twins.of(tensor) for tensor in end]

    Args:
        leaves: Tensors of the state before the segment.
    """

    def __init__(self, leaves):
        self.pairs = [(leaf, tf.identity(leaf)) for leaf in leaves]

    @staticmethod
    def serve(window):
        """Whether there can be twins of a pass over segments of a window.

        The cells need a scan of their own, the layers must be in a graph of
        ours, and a TensorFlow graph must tell what stands between them. Where
        cuDNN runs all layers, going back a second time costs less.
        """
        if tf.executing_eagerly() or window.model.is_opaque:
            return False
        layers = window.recurrent_layers
        plain = window.reset is None and window.mask is None
        if window.kernels and plain and not any(map(refusal, layers)):
            return False
        return all(
            uses_fast_scan(layer.cell, window.training) for layer in layers
        )

    def scan(self, cell, sequences, state, **options):
        """`keras_seqgrad.layers.scan.scan`, keeping the results' twins."""
        sequences = tf.cast(sequences, cell.compute_dtype)
        twin = [self.of(tensor) for tensor in (sequences, *state)]
        outputs, state, twin_outputs, twin_state = scan(
            cell, sequences, state, twin=twin, **options
        )
        self.pairs += [(outputs, twin_outputs)]
        self.pairs += zip(state, twin_state, strict=True)
        return outputs, state

    def of(self, tensor):
        """The twin of a result, or of what was made of results.

        Its gradient d arrives at the twin of every result r as d . dt/dr, the
        other results standing still.
        """
        for result, twin in self.pairs:
            if tensor is result:
                return twin
        results, twins = zip(*self.pairs, strict=True)

        @tf.custom_gradient
        def follow(*twins):
            def gradient(d_tensor):
                found = tf.gradients(
                    tensor, results, d_tensor, stop_gradients=results
                )
                return nested.fill(found, results)

            return tf.identity(tensor), gradient

        return follow(*twins)
