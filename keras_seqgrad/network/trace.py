"""One pass over a Keras model that calls its layers anew.

Each recurrent layer is replaced by a node that takes its state from the current
`Passage` and leaves its new state there; every other layer runs as it is.
Weights are shared, nothing is copied.
"""

import keras

from keras_seqgrad.network import spread, statistics
from keras_seqgrad.network.nodes import (
    PoolingNode,
    RecurrentNode,
    pooling_of,
    refuse_configuration,
    refuse_overrides,
)
from keras_seqgrad.network.refusals import CannotCut
from keras_seqgrad.network.tracing import (
    as_functional,
    as_layer,
    encodes_steps,
    goes_forward,
    is_graph,
    retrace,
    start_of,
    starts,
    tensors,
)


class Trace:
    """The calls of the layers of a model.

    Args:
        functional: The model, in functional form.
        free: For each flattened input, whether its number of steps is any.
        poolings: Keys of what pools over time; None for all that pools, where
            it is not known yet.
        spreads: Places of calls that give features of a sequence to each step.

    Attributes:
        inputs: Nested Keras tensors.
        outputs: Nested Keras tensors.
        nodes: Recurrent nodes by key, in the order of the graph.
        calls: See `Graph`.
        top_calls: (layer, args, kwargs, result) of every call in the model
            itself, nested models being calls.

    Raises:
        CannotCut: A layer does not run on any number of steps.
    """

    def __init__(self, functional, free=None, poolings=None, spreads=()):
        given = keras.tree.flatten(functional.input)
        free = [False] * len(given) if free is None else free

        def placeholder(tensor, is_free):
            shape = [None, *tensor.shape[1:]]
            # Windows of one step are never cut, and stay so.
            if is_free and shape[1] != 1:
                shape[1] = None
            return keras.Input(
                batch_shape=shape, dtype=tensor.dtype, name=tensor.name
            )

        self.poolings, self.spreads = poolings, spreads
        self.nodes, self.calls, self.top_calls = {}, [], []
        self._names = set()
        flat = [*map(placeholder, given, free)]
        for tensor in flat:
            # A head or a front may be all that reads it, which Keras before
            # 3.14 refuses in a model of the rest.
            keras.ops.stop_gradient(tensor)
        # One with a time axis, for what is given to each step.
        self.sequence = next(
            (t for t, is_free in zip(flat, free, strict=True) if is_free), None
        )
        self.inputs = keras.tree.pack_sequence_as(functional.input, flat)
        self.outputs = retrace(functional, self.inputs, self._call, "")

    def serves(self, free, poolings):
        """Whether one with these arguments would be as this one is."""
        inputs = zip(keras.tree.flatten(self.inputs), free, strict=True)
        return all(
            not is_free or tensor.shape[1] in (None, 1)
            for tensor, is_free in inputs
        ) and all(
            key in poolings
            for key, node in self.nodes.items()
            if isinstance(node, PoolingNode)
        )

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
        if goes_forward(layer):
            refuse_overrides(layer, name)
            key, given = self._unique(name), start_of(args, kwargs)
            given = None if starts(args, kwargs) else given
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
            args, kwargs = ([args[0], self.sequence],), {}
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

        def link(begins, ends, masks=()):
            # What has a time axis on one side has one on the other.
            for place, (a, b) in enumerate(zip(begins, ends, strict=True)):
                given = {"mask": masks[place]} if masks else {}
                self.calls.append((layer, name, [a], given, b))

        masks = keras.tree.flatten(kwargs.get("mask"))
        link(outer, inner, masks if len(masks) == len(outer) else ())
        made = retrace(functional, packed, self._call, name + "/")
        nested = keras.Model(packed, made, name=self._unique(name))
        result = nested(*args, **kwargs)
        link(tensors(made), tensors(result))
        return result

    def _unique(self, name):
        """`name`, or one like it: a layer may be called more than once."""
        name = name.replace("/", ".")
        while name in self._names:
            name += "_again"
        self._names.add(name)
        return name
