"""Any Keras graph as one function of a segment: (inputs, state) to outputs.

`Graph` traces a Sequential or Functional model once more on the same layers.
Each recurrent layer is replaced by a node that takes its state from the
current `Passage` and leaves its new state there; every other layer runs as it
is. Weights are shared, nothing is copied.
"""

import contextlib

import keras
import tensorflow as tf

from keras_seqgrad import masks
from keras_seqgrad.layers.scan import scan, state_is_output

# Layers known to mix time steps, and what to say about them. What is not
# listed here is judged by `Graph.check`, which compares numbers.
MIXES_TIME = {
    "Bidirectional": "its backward half reads the sequence from the end",
    "MultiHeadAttention": "every step attends to other steps",
    "GroupedQueryAttention": "every step attends to other steps",
    "Attention": "every step attends to other steps",
    "AdditiveAttention": "every step attends to other steps",
    "BatchNormalization": (
        "in training its statistics are taken over all steps of the window; "
        "use LayerNormalization"
    ),
    "Flatten": "it joins the steps to one vector",
    "Permute": "it moves the time axis",
    "RepeatVector": "it makes a time axis of a fixed length",
}


class Passage:
    """What accompanies one pass of a graph over a segment.

    Attributes:
        state: Nested state tensors at the start of the segment, or None to
            start from the initial state.
        start_state: State at the start as the pass took it, set by the pass.
        new_state: State at the end, set by the pass.
        gates: Backward gates, (time,) or (batch, time), or None.
        reset: Boolean (batch, time), or None.
        reset_state: State that rows restart from, or None for zeros.
        mask: Boolean (batch, time), False where the state passes unchanged,
            or None.
    """

    _current = []

    def __init__(
        self, state=None, gates=None, reset=None, reset_state=None, mask=None
    ):
        self.state = state
        self.start_state = {}
        self.new_state = {}
        self.gates = gates
        self.reset = reset
        self.reset_state = reset_state
        self.mask = mask

    @property
    def is_plain(self):
        """Whether nothing accompanies the segment but its state."""
        extras = (self.gates, self.reset, self.mask)
        return all(extra is None for extra in extras)

    @classmethod
    def current(cls):
        """The innermost open passage, or None."""
        return cls._current[-1] if cls._current else None

    @contextlib.contextmanager
    def open(self):
        """Makes this passage the current one."""
        self._current.append(self)
        try:
            yield self
        finally:
            self._current.pop()


class RecurrentNode(keras.layers.Layer):
    """Stands for a recurrent layer in the traced graph; owns no weights."""

    def __init__(self, layer, key):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.supports_masking = True
        self.key = key
        # In a tuple, so that the weights stay with their own model alone.
        self.held = (layer,)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        layer = self.held[0]
        passage = Passage.current() or Passage()
        carried = (passage.state or {}).get(self.key)
        if carried is None:
            carried = self.start(tf.shape(sequences)[0], initial_state)
        passage.start_state[self.key] = carried
        previous = carried[-1] if self.carries_output else None
        state = carried[:-1] if self.carries_output else carried
        reset_state = (passage.reset_state or {}).get(self.key)
        if reset_state is not None and self.carries_output:
            reset_state = reset_state[:-1]
        time_mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        outputs, state = scan(
            layer.cell,
            sequences,
            state,
            training=training,
            mask=masks.combine(time_mask, passage.mask),
            gates=passage.gates,
            reset=passage.reset,
            reset_state=reset_state,
            previous_output=previous,
        )
        last = outputs[:, -1]
        state = list(state)
        passage.new_state[self.key] = (
            [*state, last] if self.carries_output else state
        )
        result = outputs if layer.return_sequences else last
        if layer.activity_regularizer is not None:
            batch_size = tf.cast(tf.shape(result)[0], result.dtype)
            layer.add_loss(layer.activity_regularizer(result) / batch_size)
        return (result, *state) if layer.return_state else result

    @property
    def carries_output(self):
        """Whether the last output is carried beside the cell's own state.

        A masked step repeats the output before it, which may lie in the
        segment before; for the built-in cells that output is the state h.
        """
        return not state_is_output(self.held[0].cell)

    def start(self, batch_size, initial_state=None):
        """State at the start of a sequence, as a list."""
        layer = self.held[0]
        zeros = layer.get_initial_state(batch_size)
        state = zeros
        if initial_state is not None:
            if not isinstance(initial_state, (list, tuple)):
                initial_state = [initial_state]
            state = keras.tree.map_structure(
                lambda given, zero: tf.cast(given, zero.dtype),
                list(initial_state),
                zeros,
            )
        if not self.carries_output:
            return list(state)
        shape = layer.compute_output_shape((None, 1, *self.step_shape))
        if layer.return_state:
            shape = shape[0]
        features = shape[2:] if layer.return_sequences else shape[1:]
        output = tf.zeros((batch_size, *features), layer.compute_dtype)
        return [*state, output]

    def build(self, sequences_shape, initial_state_shape=None):
        self.step_shape = tuple(sequences_shape[2:])

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        return self.held[0].compute_output_shape(sequences_shape)

    def compute_mask(self, inputs, mask):
        return self.held[0].compute_mask(inputs, mask)


class Graph:
    """A Sequential or Functional model, ready to run segment by segment.

    Args:
        model: A built Sequential or Functional Keras model.

    Attributes:
        original: The model in functional form.
        nodes: Recurrent nodes by key, in the order of the graph.
        temporal_inputs: For each flattened input, whether it has a time axis.
        temporal_outputs: The same for each flattened output.
        temporal: Ids of all tensors of the graph that have a time axis.
        calls: (layer, name, args, kwargs, result) of every call of a layer.

    Raises:
        ValueError: The model cannot be cut in time; the text names the layer.
    """

    def __init__(self, model):
        if not model.built or not getattr(model, "inputs", None):
            raise ValueError(
                "A SequenceModel needs a Sequential or Functional model that "
                "knows its inputs. Give a Sequential model a keras.Input as "
                f"its first layer. Received: {model.__class__.__name__} "
                f"{model.name!r}"
            )
        self.nodes = {}
        self.takes_initial_state = False
        self.calls = []
        self.original = functional = as_functional(model)
        self._trace(functional, relax=False)
        temporal = self._temporal_tensors()
        inputs = keras.tree.flatten(self.inputs)
        self.temporal_inputs = [id(t) in temporal for t in inputs]
        outputs = keras.tree.flatten(self.outputs)
        self.temporal_outputs = [id(t) in temporal for t in outputs]
        self.nodes, self.calls = {}, []
        self._trace(functional, relax=True)
        self.temporal = self._temporal_tensors()
        if not self.nodes:
            raise ValueError(
                "A SequenceModel needs at least one recurrent layer "
                "(SimpleRNN, GRU, LSTM, RNN, ConvLSTM). "
                f"Received model {model.name!r} with layers "
                f"{[layer.name for layer in model.layers]}"
            )
        self._refuse_known()
        self.model = keras.Model(self.inputs, self.outputs)

    def zero_state(self, batch_size):
        """The layers' own start: zeros, by the key of their node."""
        return {key: node.start(batch_size) for key, node in self.nodes.items()}

    def prefer_jit(self):
        """Lets Keras compile with XLA: the scans here need no cuDNN kernels."""
        for node in self.nodes.values():
            node.held[0].supports_jit = True

    def initial_state(self, inputs, batch_size):
        """Where a sequence starts: the layers' zeros or what the graph says."""
        if not self.takes_initial_state:
            return self.zero_state(batch_size)
        with Passage().open() as passage:
            self.model(self.cut(inputs, 0, 1), training=False)
        return passage.start_state

    def cut(self, inputs, start, length):
        """Steps `start` to `start + length` of every input that has time."""
        flat = [
            masks.cut(tensor, start, length) if temporal else tensor
            for tensor, temporal in zip(
                keras.tree.flatten(inputs), self.temporal_inputs, strict=True
            )
        ]
        return keras.tree.pack_sequence_as(inputs, flat)

    def _trace(self, functional, relax):
        def placeholder(position, tensor):
            shape = [None, *tensor.shape[1:]]
            if relax and self.temporal_inputs[position]:
                shape[1] = None
            return keras.Input(
                batch_shape=shape, dtype=tensor.dtype, name=tensor.name
            )

        given = keras.tree.flatten(functional.input)
        flat = [placeholder(i, tensor) for i, tensor in enumerate(given)]
        self.inputs = keras.tree.pack_sequence_as(functional.input, flat)
        self.outputs = retrace(functional, self.inputs, self._call, "")

    def _call(self, layer, prefix, args, kwargs):
        name = prefix + layer.name
        if is_graph(layer):
            return self._call_nested(layer, name, args, kwargs)
        if isinstance(layer, keras.layers.RNN):
            refuse_configuration(layer, name)
            key = name
            while key in self.nodes:
                key += "'"
            layer = self.nodes[key] = RecurrentNode(layer, key)
            if len(args) > 1 or kwargs.get("initial_state") is not None:
                self.takes_initial_state = True
        try:
            result = layer(*args, **kwargs)
        except Exception as error:
            raise ValueError(
                f"Layer {name!r} cannot run on a segment: it fails when the "
                "number of time steps is another one. Leave it out of the "
                f"SequenceModel. The layer's own error: {error}"
            ) from error
        self.calls.append((layer, name, args, kwargs, result))
        return result

    def _call_nested(self, layer, name, args, kwargs):
        outer = keras.tree.flatten(args[0])
        inner = [
            keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name)
            for t in outer
        ]
        packed = keras.tree.pack_sequence_as(args[0], inner)
        made = retrace(as_functional(layer), packed, self._call, name + "/")
        result = keras.Model(packed, made, name=layer.name)(*args, **kwargs)
        # What has a time axis inside has one outside.
        pairs = [*zip(outer, inner, strict=True)]
        pairs += zip(tensors(made), tensors(result), strict=True)
        self.calls += [(layer, name, [a], {}, b) for a, b in pairs]
        return result

    def _temporal_tensors(self):
        """Ids of the tensors that have a time axis, by unification."""
        temporal = set()
        static = set()
        changed = True
        while changed:
            before = len(temporal) + len(static)
            for layer, _, args, kwargs, result in self.calls:
                given = tensors([args, kwargs])
                made = tensors(result)
                if isinstance(layer, RecurrentNode):
                    temporal.add(id(tensors(args[0])[0]))
                    sequences = layer.held[0].return_sequences
                    (temporal if sequences else static).add(id(made[0]))
                    static.update(id(t) for t in tensors(args[1:]))
                    static.update(id(t) for t in tensors(kwargs))
                    static.update(id(t) for t in made[1:])
                elif any(id(t) in temporal for t in given):
                    temporal.update(id(t) for t in made)
                elif any(id(t) in temporal for t in made):
                    temporal.update(
                        id(t)
                        for t in given
                        if len(t.shape) > 1 and id(t) not in static
                    )
            changed = len(temporal) + len(static) > before
        return temporal

    def _refuse_known(self):
        for layer, name, args, kwargs, _ in self.calls:
            reason = MIXES_TIME.get(layer.__class__.__name__)
            given = tensors([args, kwargs])
            if reason and any(id(t) in self.temporal for t in given):
                raise ValueError(
                    f"Layer {name!r} ({layer.__class__.__name__}) cannot be "
                    f"cut in time: {reason}. Leave it out of the "
                    "SequenceModel, or train the model with a plain "
                    "keras.Model."
                )


def tensors(structure):
    """The Keras tensors of a nested structure, flattened."""
    return [
        leaf
        for leaf in keras.tree.flatten(structure)
        if isinstance(leaf, keras.KerasTensor)
    ]


def is_graph(layer):
    """Whether `layer` is a Sequential or Functional model."""
    return isinstance(layer, keras.Model) and bool(
        getattr(layer, "inputs", None)
    )


def as_functional(model):
    """`model` in functional form, on the same layers."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return model


def retrace(functional, inputs, call, prefix):
    """Outputs of `functional` on `inputs`, every layer called by `call`."""
    clone = keras.models.clone_model(
        functional,
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=lambda layer, *args, **kwargs: call(
            layer, prefix, args, kwargs
        ),
    )
    return clone.output


def refuse_configuration(layer, name):
    """Refuses what a recurrent layer may say against being cut in time."""
    advice = {
        "go_backwards": "reads the sequence from its end; reverse the data",
        "unroll": "is unrolled; the scan used here needs no unrolling",
        "stateful": (
            "keeps a state of its own; say SequenceModel.from_model(model, "
            "stateful=True) instead, which carries the state of all layers"
        ),
    }
    for option, reason in advice.items():
        if getattr(layer, option, False):
            raise ValueError(
                f"Layer {name!r} has {option}=True and {reason}. "
                f"Set {option}=False."
            )
