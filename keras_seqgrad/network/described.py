"""What a segmented model takes and gives, and what of it has time."""

import keras
import tensorflow as tf

from keras_seqgrad.network import export, naming, opaque
from keras_seqgrad.network.graph import Graph
from keras_seqgrad.network.handles import Handles
from keras_seqgrad.tensors import masks, pieces
from keras_seqgrad.tensors.shape import shape_of


class Described(Handles):
    """A model by its graph, or by what a subclass was called on."""

    @property
    def graph(self):
        """The network as a segment function, traced on first use."""
        if self._graph is None:
            self._graph = Graph(self.network)
        return self._graph

    @property
    def network_head(self):
        """What of the network needs all steps at once, or None.

        Its `names` are the layers that do. It is found by `compile`, and runs
        once a window on what all before it has made of the segments.
        """
        return None if self.is_opaque else self.graph.head

    @property
    def network_uncut(self):
        """Why the network runs on whole windows alone, or None.

        Its `layer` names what needs all steps, with recurrent layers behind.
        """
        return None if self.is_opaque else self.graph.uncut

    @property
    def network_normed(self):
        """What checkpoints run instead, or None (see `network.normed`)."""
        return None if self.is_opaque else self.graph.normed

    @property
    def judged_whole(self):
        """Whether there is a loss of whole windows alone."""
        whole = self.network_head, self.network_uncut
        return any(each is not None for each in whole)

    @property
    def temporal_outputs(self):
        """For each flattened output, whether it has a time axis."""
        if not self.is_opaque:
            return self.graph.temporal_outputs
        return self._opaque_outputs[0]

    @property
    def temporal_made(self):
        """The same of what a segment gives: outputs, or what a head takes."""
        if not self.is_opaque:
            return self.graph.temporal_made
        return self._opaque_outputs[0]

    @property
    def output_specs(self):
        """A Keras tensor of the shape and dtype of each flattened output."""
        return keras.tree.flatten(self.nested_outputs)

    @property
    def made_specs(self):
        """The same of what a segment gives."""
        if self.network_head is None:
            return self.output_specs
        return keras.tree.flatten(self.graph.outputs)

    @property
    def nested_outputs(self):
        """`output_specs`, nested as the outputs are."""
        if self.is_opaque:
            return self._opaque_outputs[1]
        head = self.graph.head
        return self.graph.outputs if head is None else head.outputs

    def extent(self, inputs):
        """(batch size, number of steps), integers where they are known."""
        flat = keras.tree.flatten(inputs)
        if not self.is_opaque:
            flat = [
                tensor
                for tensor, has_time in zip(
                    flat, self.graph.temporal_inputs, strict=True
                )
                if has_time
            ]
        return tuple(shape_of(flat[0])[:2])

    def map_temporal_inputs(self, function, inputs):
        """Inputs, those that have time put through a function."""
        if not self.is_opaque:
            return self.graph.map_temporal(function, inputs)
        return keras.tree.map_structure(function, inputs)

    def clear_masked(self, x):
        """Inputs with their companions, cleared where an explicit mask says.

        Layers before the first recurrent one know nothing of that mask.
        """
        inputs, _, mask = masks.unpack(x)
        if mask is None:
            return x
        cleared = self.map_temporal_inputs(
            lambda t: masks.clear(tf.convert_to_tensor(t), mask), inputs
        )
        return {**x, "inputs": cleared}

    def cut_inputs(self, inputs, start, length):
        """Steps `start` to `start + length` of the inputs that have time."""
        return self.map_temporal_inputs(
            lambda tensor: pieces.cut(tensor, start, length), inputs
        )

    # --- inputs ------------------------------------------------------------

    def arranged(self, x):
        """Inputs of the network where they are named as companions are."""
        if self.is_opaque or not isinstance(x, dict):
            return x
        return naming.arranged(x, self.graph.original.input)

    def describe(self, inputs):
        """Finds out which outputs of a subclass have a time axis."""
        export.remember(self, inputs)
        if self.is_opaque and self._opaque_outputs is None:
            self._opaque_outputs = opaque.outputs_of(self, inputs)
