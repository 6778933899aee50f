"""Any Keras graph as one function of a segment: (inputs, state) to outputs.

`Graph` traces a Sequential or Functional model once more on the same layers,
and finds out what of it can be run in segments.
"""

import functools

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import axes, head, spread, statistics, uncuttable
from keras_seqgrad.network.nodes import (
    PoolingNode,
    RecurrentNode,
    refuse_overrides,
)
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.network.refusals import CannotCut
from keras_seqgrad.network.trace import Trace
from keras_seqgrad.network.tracing import (
    as_functional,
    is_graph,
    is_own,
    starts,
    tensors,
)
from keras_seqgrad.tensors import masks, pieces


class Graph:
    """A Sequential or Functional model, ready to run segment by segment.

    Args:
        model: A built Sequential or Functional Keras model.

    What needs all steps of a sequence at once, with no recurrent layer behind
    it, is left to a `Head`; the rest of this is of what is before it. Where
    recurrent layers depend on it the model stays uncut, for methods that run
    it on whole windows.

    Attributes:
        original: The model in functional form.
        head: The `Head`, or None.
        uncut: Why the model cannot be cut, a `CannotCut`; None if it can.
        front: The `Front` of one that cannot, if a method asked for it; it is
            made of `top_calls`, the calls of a `Trace`.
        normed: The `SegmentedModel` that runs normalizations on whole windows,
            if there are such and a method asked for it.
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
        masked: Whether a tensor was seen to carry a mask, which of a layer of
            the user's own is not known before it runs.

    Raises:
        ValueError: Nothing of the model can be run in segments.
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
        self.original, self.whole = as_functional(model), {}
        self.moved = self.normed = None
        self.masked, self._shapes_made = False, {}
        self._build()

    def leave_to_head(self, found):
        """Has a layer run on all steps at once, or the model if need be.

        Args:
            found: The `CannotCut` of the layer.

        Raises:
            CannotCut: The model runs on whole windows already.
        """
        if self.uncut is not None:
            raise found
        for name in ("declares_masks", "may_add_losses", "keepers"):
            vars(self).pop(name, None)
        self._leave(found)

    def _leave(self, found):
        if found.layer in self.whole:
            self._build_uncut(found)
        else:
            self.whole[found.layer] = found
            self._build()

    def _build(self):
        self.head = self.uncut = None
        try:
            functional = self.original
            trace, spreads = self._look_for_time(functional)
            for found in uncuttable.known(self, spreads):
                self.whole.setdefault(found.layer, found)
            if self.whole:
                functional, self.head = head.split(
                    functional, trace.top_calls, self.temporal, self.whole
                )
                trace, spreads = self._look_for_time(functional)
            free = self.temporal_inputs
            if spreads or not trace.serves(free, self.poolings):
                self._take(Trace(functional, free, self.poolings, spreads))
            for found in uncuttable.known(self):
                raise found
            uncuttable.refuse_late_start(self)
        except CannotCut as found:
            return self._leave(found)
        self.temporal_made = [
            id(tensor) in self.temporal
            for tensor in keras.tree.flatten(self.outputs)
        ]
        if self.head is not None:
            self.head.find_time(self.temporal_inputs, self.temporal_made)
        self._finish()

    def _build_uncut(self, found):
        """Takes the model as it is, to run on whole windows."""
        self.uncut, self.head, self.front = found, None, None
        trace = Trace(self.original, poolings=self.poolings)
        self._take(trace)
        self.top_calls = trace.top_calls
        inputs = keras.tree.flatten(self.inputs)
        below = axes.below_recurrent(self.calls)
        self.temporal_inputs = [
            id(tensor) in self.temporal | below and len(tensor.shape) > 1
            for tensor in inputs
        ]
        pairs = zip(inputs, self.temporal_inputs, strict=True)
        self.temporal_made = axes.keep_steps(
            trace.top_calls,
            [tensor for tensor, has_time in pairs if has_time],
            keras.tree.flatten(self.outputs),
        )
        late = uncuttable.late_tensors(self) | self.temporal
        for layer, _, args, kwargs, _ in self.calls:
            if isinstance(layer, RecurrentNode):
                layer.starts_late = uncuttable.starts_in(args, kwargs, late)
        self._finish()

    def _look_for_time(self, functional):
        """(trace of a model as it is, places of what is given to each step)."""
        trace = Trace(functional)
        self._take(trace)
        inputs = keras.tree.flatten(self.inputs)
        self.temporal_inputs = [id(t) in self.temporal for t in inputs]
        self.poolings = {
            layer.key
            for layer, _, args, _, _ in self.calls
            if isinstance(layer, PoolingNode) and id(args[0]) in self.temporal
        }
        uncuttable.refuse_lengths(self)
        return trace, spread.found(self)

    def _take(self, trace):
        self.inputs, self.outputs = trace.inputs, trace.outputs
        self.nodes, self.calls = trace.nodes, trace.calls
        self.temporal = axes.temporal_tensors(self.calls)

    def _finish(self):
        if self.nodes.keys() <= self.poolings:
            for found in self.whole.values():
                raise ValueError(
                    f"{found} Nothing else of the model is recurrent: train "
                    "it as a plain keras.Model."
                )
            raise ValueError(
                "A SequenceModel needs at least one recurrent layer "
                "(SimpleRNN, GRU, LSTM, RNN, ConvLSTM). "
                f"Received model {self.original.name!r} with layers "
                f"{[layer.name for layer in self.original.layers]}"
            )
        for layer, _, args, _, _ in self.calls:
            if isinstance(layer, statistics.NormalizationNode):
                layer.has_time = id(args[0]) in self.temporal
        self.takes_initial_state = any(
            isinstance(layer, RecurrentNode)
            and bool(starts(args, kwargs))
            and not layer.starts_late
            for layer, _, args, kwargs, _ in self.calls
        )
        self.model = keras.Model(self.inputs, self.outputs)

    @property
    def temporal_outputs(self):
        """Whether each flattened output of the model has a time axis."""
        if self.head is None:
            return self.temporal_made
        return self.head.temporal_outputs

    @property
    def masks_steps(self):
        """Whether a layer may tell the recurrent ones to leave steps out."""
        return self.masked or self.declares_masks

    @functools.cached_property
    def declares_masks(self):
        """Whether a call is known to be given or to make a mask."""
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
        return {
            key: node.start(batch_size)
            for key, node in self.nodes.items()
            if not node.starts_late
        }

    def initial_state(self, inputs, batch_size):
        """Where a sequence starts: the layers' zeros or what the graph says."""
        if not self.takes_initial_state:
            return {
                key: node.start(batch_size, node.constant_start)
                for key, node in self.nodes.items()
                if not node.starts_late
            }
        first = self.cut(inputs, 0, 1) if self.uncut is None else inputs
        with Passage().open() as passage:
            self.model(first, training=False)
        return passage.start_state

    def shapes_made(self, shapes):
        """Shapes of the outputs, flat, for those of the inputs without rows.

        As they are declared where the layers do not run on these.
        """
        key = tuple(shapes)
        if key not in self._shapes_made:
            inputs = [
                keras.KerasTensor((None, *shape), tensor.dtype)
                for shape, tensor in zip(
                    shapes, keras.tree.flatten(self.inputs), strict=True
                )
            ]
            inputs = keras.tree.pack_sequence_as(self.inputs, inputs)
            try:
                made = self.original.compute_output_spec(inputs)
            # Whatever it is, it is told where the layers run.
            except Exception:
                made = self.outputs
            self._shapes_made[key] = [
                tuple(spec.shape) for spec in keras.tree.flatten(made)
            ]
        return self._shapes_made[key]

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
