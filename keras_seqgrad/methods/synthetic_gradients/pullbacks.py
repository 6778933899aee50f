"""Two pull-backs of one computation."""

import tensorflow as tf

from keras_seqgrad.tensors import nested


class Pullbacks:
    """Records a computation of which two pull-backs are wanted.

    A persistent tape, but for compiled functions: there a second tape, or a
    persistent one, makes TensorFlow prepare every loop for being
    differentiated, which no loop here needs, and which XLA refuses.

        with Pullbacks(leaves) as pullbacks:
            outputs, end = window.forward(segment, state, scan=pullbacks.scan)
        pullbacks.pull(first, second, variables)

    Args:
        leaves: Tensors that are sources beside the variables.
        twins: `Twins` of the leaves, by which both go back at once, or None.
    """

    def __init__(self, leaves, twins=None):
        self.tape = None
        if tf.executing_eagerly():
            self.tape = tf.GradientTape(persistent=True)
        self.leaves = leaves
        self.twins = twins
        self.scan = twins.scan if twins else None

    def __enter__(self):
        if self.tape is not None:
            self.tape.__enter__()
            self.tape.watch(self.leaves)
        return self

    def __exit__(self, *error):
        if self.tape is not None:
            self.tape.__exit__(*error)

    def pull(self, first, second, variables):
        """Pulls one sum of target . cotangent back to all, one to the leaves.

        Args:
            first: (targets, cotangents).
            second: The same for the leaves alone, ([], []) for none.
            variables: The variables, which only `first` reaches.

        Returns:
            (gradients of `first` by the variables, those of both together by
            the leaves).
        """
        targets, cotangents = first
        ends, more = second
        if self.twins:
            targets = [*targets, *map(self.twins.of, ends)]
            cotangents = [*cotangents, *more]
        sources = [*variables, *self.leaves]
        pulled = self._gradient(targets, cotangents, sources)
        gradients = pulled[: len(variables)]
        d_leaves = pulled[len(variables) :]
        if ends and not self.twins:
            again = self._gradient(ends, more, self.leaves)
            d_leaves = nested.add(d_leaves, again)
        return gradients, d_leaves

    def _gradient(self, targets, cotangents, sources):
        if self.tape is not None:
            found = self.tape.gradient(
                targets, sources, output_gradients=cotangents
            )
        else:
            given = [getattr(source, "value", source) for source in sources]
            found = tf.gradients(targets, given, grad_ys=cotangents)
        return nested.fill(found, sources)
