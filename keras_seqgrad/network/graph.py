"""Any Keras graph as one function of a segment: (inputs, state) to outputs.

`Graph` traces a Sequential or Functional model once more on the same layers.
Each recurrent layer is replaced by a node that takes its state from the
current `Passage` and leaves its new state there; every other layer runs as it
is. Weights are shared, nothing is copied.
"""

import functools

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import axes, head, spread, statistics, uncuttable
from keras_seqgrad.network.nodes import (
    PoolingNode,
    RecurrentNode,
    pooling_of,
    refuse_configuration,
    refuse_overrides,
)
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.network.refusals import CannotCut
from keras_seqgrad.network.tracing import (
    as_functional,
    as_layer,
    encodes_steps,
    is_graph,
    is_own,
    retrace,
    start_of,
    starts,
    tensors,
)
from keras_seqgrad.tensors import masks, pieces


class Graph:
    """A Sequential or Functional model, ready to run segment by segment.

    Args:
        model: A built Sequential or Functional Keras model.

    What needs all steps of a sequence at once, with no recurrent layer behind
    it, is left to a `Head`; the rest of this is of what is before it.

    Attributes:
        original: The model in functional form.
        head: The `Head`, or None.
        nodes: Recurrent nodes by key, in the order of the graph. A pooling
            over time is one of them, too.
        temporal_inputs: For each flattened input, whether it has a time axis.
        temporal_made: The same for each flattened tensor that a segment gives.
        temporal: Ids of all tensors of the graph that have a time axis.
        calls: (layer, name, args, kwargs, result) of every call of a layer, in
            an order that runs. Nested models are there by their layers, and
            by links from tensor to tensor at their ends.
        moved: Ids of variables that layers were seen to move in training; None
            until some have run.

    Raises:
        ValueError: The model cannot be cut in time; the text names the layer.
    """

    def __init__(self, model):
        if not model.built or not is_graph(model):
            raise ValueError(
                "A SequenceModel needs a Sequential or Functional model that "
                "knows its inputs. Give a Sequential model a keras.Input as "
                f"its first layer. Received: {model.__class__.__name__} "
                f"{model.name!r}"
            )
        refuse_overrides(model, model.name, ["call"])
        self.takes_initial_state, self.poolings = False, None
        self.spreads, self.moved = set(), None
        self.original, self.whole = as_functional(model), {}
        self._build()

    def leave_to_head(self, found):
        """Has a layer run on all steps at once.

        Args:
            found: The `CannotCut` of the layer.

        Raises:
            CannotCut: It has been left so before, or recurrent layers depend
                on what it makes.
        """
        if found.layer in self.whole:
            raise found
        self.whole[found.layer] = found
        for name in ("masks_steps", "may_add_losses", "keepers"):
            vars(self).pop(name, None)
        self._build()

    def _build(self):
        try:
            functional, self.head = self.original, None
            self._trace_whole(functional)
            for found in uncuttable.known(self, self.spreads):
                self.whole.setdefault(found.layer, found)
            if self.whole:
                functional, self.head = head.split(
                    functional, self.top_calls, self.temporal, self.whole
                )
                self._trace_whole(functional)
            self._trace(functional, relax=True)
            self.temporal = axes.temporal_tensors(self.calls)
            for found in uncuttable.known(self):
                raise found
        except CannotCut as found:
            return self.leave_to_head(found)
        for layer, _, args, _, _ in self.calls:
            if isinstance(layer, statistics.NormalizationNode):
                layer.has_time = id(args[0]) in self.temporal
        uncuttable.refuse_late_start(self)
        if self.nodes.keys() <= self.poolings:
            for found in self.whole.values():
                raise found
            raise ValueError(
                "A SequenceModel needs at least one recurrent layer "
                "(SimpleRNN, GRU, LSTM, RNN, ConvLSTM). "
                f"Received model {self.original.name!r} with layers "
                f"{[layer.name for layer in self.original.layers]}"
            )
        self.temporal_made = [
            id(tensor) in self.temporal
            for tensor in keras.tree.flatten(self.outputs)
        ]
        if self.head is not None:
            self.head.find_time(self.temporal_inputs, self.temporal_made)
        self.model = keras.Model(self.inputs, self.outputs)

    def _trace_whole(self, functional):
        """Traces a model as it is, and finds what has a time axis there."""
        self.poolings, self.spreads = None, set()
        self._trace(functional, relax=False)
        self.temporal = temporal = axes.temporal_tensors(self.calls)
        inputs = keras.tree.flatten(self.inputs)
        self.temporal_inputs = [id(t) in temporal for t in inputs]
        uncuttable.refuse_lengths(self)
        self.spreads = spread.found(self)
        self.poolings = {
            layer.key
            for layer, _, args, _, _ in self.calls
            if isinstance(layer, PoolingNode) and id(args[0]) in temporal
        }

    @property
    def temporal_outputs(self):
        """Whether each flattened output of the model has a time axis."""
        if self.head is None:
            return self.temporal_made
        return self.head.temporal_outputs

    @functools.cached_property
    def masks_steps(self):
        """Whether a layer may tell the recurrent ones to leave steps out."""
        return any(
            kwargs.get("mask") is not None
            or any(masks.read(tensor) is not None for tensor in tensors(result))
            for _, _, _, kwargs, result in self.calls
        )

    @property
    def called(self):
        """(layer, what it gives) of each call, also of what nodes replace."""
        return [
            (statistics.original(layer), made)
            for layer, *_, made in self.calls
            if isinstance(layer, keras.layers.Layer) and not is_graph(layer)
        ]

    @property
    def layers(self):
        """All layers once."""
        return [*{id(layer): layer for layer, _ in self.called}.values()]

    @functools.cached_property
    def may_add_losses(self):
        """Whether a layer may add to the loss while it runs."""
        return any(
            is_own(part) or part.activity_regularizer is not None
            for layer in self.layers
            for part in parts(layer)
        )

    @functools.cached_property
    def keepers(self):
        """What layers may keep statistics (see `statistics.keepers`)."""
        return statistics.keepers(self)

    @property
    def results(self):
        """(name, tensor) of what every call of a layer gives."""
        return [
            (name, tensor)
            for layer, name, _, _, result in self.calls
            if not is_graph(layer)
            for tensor in tensors(result)
        ]

    @property
    def sets_start(self):
        """Whether the graph says where the layers start."""
        return self.takes_initial_state or any(
            node.constant_start is not None for node in self.nodes.values()
        )

    def zero_state(self, batch_size):
        """The layers' own start: zeros, by the key of their node."""
        return {key: node.start(batch_size) for key, node in self.nodes.items()}

    def initial_state(self, inputs, batch_size):
        """Where a sequence starts: the layers' zeros or what the graph says."""
        if not self.takes_initial_state:
            return {
                key: node.start(batch_size, node.constant_start)
                for key, node in self.nodes.items()
            }
        with Passage().open() as passage:
            self.model(self.cut(inputs, 0, 1), training=False)
        return passage.start_state

    def cut(self, inputs, start, length):
        """Steps `start` to `start + length` of every input that has time."""
        return self.map_temporal(
            lambda tensor: pieces.cut(tensor, start, length), inputs
        )

    def map_temporal(self, function, inputs):
        """Inputs, those that have time put through a function."""
        flat = [
            function(tensor) if temporal else tensor
            for tensor, temporal in zip(
                keras.tree.flatten(inputs), self.temporal_inputs, strict=True
            )
        ]
        return keras.tree.pack_sequence_as(inputs, flat)

    def _trace(self, functional, relax):
        def placeholder(position, tensor):
            shape = [None, *tensor.shape[1:]]
            # Windows of one step are never cut, and stay so.
            if relax and self.temporal_inputs[position] and shape[1] != 1:
                shape[1] = None
            return keras.Input(
                batch_shape=shape, dtype=tensor.dtype, name=tensor.name
            )

        self.nodes, self.calls, self.names = {}, [], set()
        self.top_calls = []
        given = keras.tree.flatten(functional.input)
        flat = [placeholder(i, tensor) for i, tensor in enumerate(given)]
        self.inputs = keras.tree.pack_sequence_as(functional.input, flat)
        self.outputs = retrace(functional, self.inputs, self._call, "")

    def _call(self, layer, prefix, args, kwargs):
        name = prefix + layer.name
        if is_graph(layer):
            result = self._call_nested(layer, name, args, kwargs)
        else:
            result = self._call_layer(layer, prefix, args, kwargs)
        if not prefix:
            self.top_calls.append((layer, args, kwargs, result))
        return result

    def _call_layer(self, layer, prefix, args, kwargs):
        name = prefix + layer.name
        layer, args, kwargs = as_layer(layer, args, kwargs)
        if isinstance(layer, keras.layers.RNN):
            refuse_configuration(layer, name)
            refuse_overrides(layer, name)
            key, given = self._unique(name), start_of(args, kwargs)
            if starts(args, kwargs):
                self.takes_initial_state, given = True, None
            layer = self.nodes[key] = RecurrentNode(layer, key, given)
        elif pooling_of(layer) and args[0].shape[-1]:
            key = self._unique(name)
            # Which of them pool over time is known when all has been traced.
            if self.poolings is None or key in self.poolings:
                layer = PoolingNode(layer, key, args[0].shape)
                self.nodes[key] = layer
        elif type(layer) is keras.layers.BatchNormalization:
            layer = statistics.NormalizationNode(layer, self._unique(name))
        elif encodes_steps(layer, args):
            # Keras takes a single step for the axis of the classes.
            apart = keras.layers.Reshape((-1, 1), name=f"{layer.name}_steps")
            args = (self._call_layer(apart, prefix, args, {}), *args[1:])
        elif len(self.calls) in self.spreads:
            layer = spread.of_steps(layer, args[0])
            args, kwargs = ([args[0], self._sequence],), {}
        try:
            result = layer(*args, **kwargs)
        except Exception as error:
            raise CannotCut(
                f"Layer {name!r} cannot run on a segment: it fails when the "
                "number of time steps is another one. Leave it out of the "
                f"SequenceModel. The layer's own error: {error}",
                name,
            ) from error
        self.calls.append((layer, name, args, kwargs, result))
        return result

    def _call_nested(self, layer, name, args, kwargs):
        refuse_overrides(layer, name, ["call"])
        functional = as_functional(layer)
        outer = keras.tree.flatten(args[0])
        own = keras.tree.flatten(functional.input)
        inner = [
            keras.Input(batch_shape=t.shape, dtype=o.dtype, name=t.name)
            for t, o in zip(outer, own, strict=True)
        ]
        packed = keras.tree.pack_sequence_as(args[0], inner)

        def link(begins, ends):
            # What has a time axis on one side has one on the other.
            pairs = zip(begins, ends, strict=True)
            self.calls += [(layer, name, [a], {}, b) for a, b in pairs]

        link(outer, inner)
        made = retrace(functional, packed, self._call, name + "/")
        nested = keras.Model(packed, made, name=self._unique(name))
        result = nested(*args, **kwargs)
        link(tensors(made), tensors(result))
        return result

    @property
    def _sequence(self):
        """An input that has a time axis."""
        inputs = keras.tree.flatten(self.inputs)
        return inputs[self.temporal_inputs.index(True)]

    def _unique(self, name):
        """`name`, or one like it: a layer may be called more than once."""
        name = name.replace("/", ".")
        while name in self.names:
            name += "_again"
        self.names.add(name)
        return name
