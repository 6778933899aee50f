"""What of a model needs all steps of a sequence at once: its head.

Attention behind the recurrent layers, say, a Flatten, or a pooling of the
user's own, and all that is behind it. The rest, the body, runs segment by
segment; the head runs once a window, on what the body has made of all steps.
"""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import axes
from keras_seqgrad.network.replay import enter, filled
from keras_seqgrad.network.tracing import (
    goes_forward,
    is_graph,
    retrace,
    tensors,
)
from keras_seqgrad.network.with_mask import WithMask


class Head:
    """The calls of layers that run on whole windows.

    Attributes:
        names: Names of the layers that need all steps.
        reason: Why the first of them does.
        layers: All its layers once.
        calls: (layer, args, kwargs, result) of every call, in an order that
            runs. A nested model is one call.
        given: Keras tensors that it takes from the body, (batch, time, ...) or
            (batch, ...).
        inputs: Keras tensors of the model's inputs, which it may take as well.
        outputs: Nested Keras tensors, those of the model.
        temporal_outputs: For each flattened output, whether it has a time axis.
    """

    def __init__(self, whole, calls, given, inputs, outputs):
        self.names = [*whole]
        self.reason = str(whole[self.names[0]])
        self.calls = calls
        self.given = given
        self.inputs = inputs
        self.outputs = outputs
        self.temporal_outputs = None
        layers = [c[0] for c in calls if isinstance(c[0], keras.layers.Layer)]
        self.layers = [*{id(layer): layer for layer in layers}.values()]
        self.at_once = _AtOnce(self.layers, self._run)

    def run(self, features, inputs, training):
        """Outputs of the model.

        Args:
            features: What the body has made of a whole window, flat.
            inputs: What it made it of, flat.
            training: Whether layers run in training mode.
        """
        return self.at_once(list(features), list(inputs), training=training)

    def _run(self, features, inputs, training):
        values = {}
        enter(values, [self.inputs, self.given], [inputs, features])
        for layer, args, kwargs, result in self.calls:
            args, kwargs = filled((args, kwargs), values)
            if isinstance(layer, keras.layers.Layer):
                kwargs["training"] = training
            enter(values, result, layer(*args, **kwargs))
        return filled(self.outputs, values)

    def find_time(self, temporal_inputs, temporal_given):
        """Finds out which outputs have a time axis, of the inputs' steps."""
        pairs = zip(
            [*self.inputs, *self.given],
            [*temporal_inputs, *temporal_given],
            strict=True,
        )
        self.temporal_outputs = axes.keep_steps(
            self.calls,
            [tensor for tensor, has_time in pairs if has_time],
            keras.tree.flatten(self.outputs),
        )


class _AtOnce(keras.layers.Layer):
    """Runs a head as one call, as a model runs its layers.

    Called by themselves they would forget with the second call what the first
    has added to the loss.
    """

    def __init__(self, layers, run):
        super().__init__(name="head", autocast=False)
        self.held = layers
        self.run = run
        self.built = self.supports_masking = True

    def call(self, features, inputs, training=False):
        return self.run(features, inputs, training)

    def compute_mask(self, features, previous_mask):
        return None  # what its layers make of it, their outputs carry


def split(functional, calls, temporal, whole):
    """The body of a model, and its head.

    Args:
        functional: The model, in functional form.
        calls: (layer, args, kwargs, result) of each call of its trace, nested
            models being calls themselves.
        temporal: Ids of the tensors there that have a time axis.
        whole: `CannotCut` by the name of each layer that needs all steps.

    Returns:
        (body in functional form, `Head`).

    Raises:
        CannotCut: A recurrent layer depends on what needs all steps.
    """
    places, names = _places(calls, temporal, whole)
    if not places:
        raise next(iter(whole.values()))
    again = []

    def call(layer, prefix, args, kwargs):
        again.append((layer, args, kwargs, layer(*args, **kwargs)))
        return again[-1][-1]

    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name),
        functional.input,
    )
    outputs = retrace(functional, inputs, call, "")
    made_by = {
        id(tensor): place
        for place, (*_, result) in enumerate(again)
        for tensor in tensors(result)
    }
    given = {}
    wanted = [t for p in sorted(places) for t in tensors(again[p][1:3])]
    wanted += tensors(outputs)
    final = {id(tensor) for tensor in tensors(outputs)}
    while wanted:
        tensor = wanted.pop(0)
        place = made_by.get(id(tensor))
        if place is None or place in places:
            continue
        # No gradient comes through integers: they are made once more.
        again_in_head = "float" not in tensor.dtype
        again_in_head |= isinstance(again[place][0], WithMask)
        if again_in_head and id(tensor) not in final:
            places.add(place)
            wanted += tensors(again[place][1:3])
        else:
            given[id(tensor)] = tensor
    given = [*given.values()]
    return keras.Model(inputs, given), Head(
        {name: whole[name] for name in names},
        [again[place] for place in sorted(places)],
        given,
        keras.tree.flatten(inputs),
        outputs,
    )


def _places(calls, temporal, whole):
    """Places of what needs all steps and of all behind; names of the first."""
    places, behind = set(), {}
    for place, (layer, args, kwargs, result) in enumerate(calls):
        given = tensors([args, kwargs])
        cause = next((behind[id(t)] for t in given if id(t) in behind), None)
        has_time = any(id(t) in temporal for t in [*given, *tensors(result)])
        if layer.name in whole and has_time:
            # A layer of Keras that has others inside it runs as it is.
            inside = is_graph(layer) or goes_forward(layer)
            if inside and is_recurrent(layer):
                raise whole[layer.name]
            cause = cause or layer.name
        elif cause is not None and is_recurrent(layer):
            raise whole[cause]
        if cause is None:
            continue
        places.add(place)
        behind.update((id(tensor), cause) for tensor in tensors(result))
    return places, [*dict.fromkeys(behind.values())]


def is_recurrent(layer):
    """Whether a layer is recurrent, or has one inside."""
    return isinstance(layer, keras.layers.Layer) and any(
        isinstance(part, keras.layers.RNN) for part in parts(layer)
    )
