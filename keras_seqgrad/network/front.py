"""What of a model must run on all steps before anything can be cut: its front.

Layers that need all steps of a sequence and have recurrent layers behind them,
as a convolution below an LSTM or an encoder, and all that is before those. The
rest, the body, is a model of its own, of what the front makes.
"""

import keras
import tensorflow as tf

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import cuttable
from keras_seqgrad.network import example as examples
from keras_seqgrad.network.head import is_recurrent
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.network.replay import enter, filled
from keras_seqgrad.network.segmented import SegmentedModel
from keras_seqgrad.network.tracing import goes_forward, starts, tensors
from keras_seqgrad.network.with_mask import WithMask
from keras_seqgrad.tensors import masks, nested


class Front:
    """The calls of layers that run on whole windows, before the body.

    Attributes:
        model: Keras model of them, from the model's inputs to what the body
            takes; recurrent layers are nodes.
        body: `SegmentedModel` of the rest, which can be cut.
        makes: For each that it makes, whether gradient comes back by it.
        masked: For each, whether its mask goes with it, as one more that the
            body takes.
    """

    def __init__(self, model, body, makes, masked):
        self.model, self.body = model, body
        self.makes, self.masked = makes, masked

    def run(self, window):
        """Runs on a whole window.

        Returns:
            (what the body takes, flat, the tensors among it that gradients are
            taken by, state after the window, losses that layers added).
        """
        model, state = window.model, window.state
        if model.sets_initial_state:
            start = model.start_state(window.inputs, window.batch_size)
            state = nested.select(window.fresh, start, state)
        with Passage(state, kernels=window.kernels).open() as passage:
            made = self.model(window.inputs, training=window.training)
        added = self._added()
        made = keras.tree.flatten(made)
        pairs = zip(made, self.masked, strict=True)
        beside = [masks.read(tensor) for tensor, masked in pairs if masked]
        # Those that carried a mask no longer do.
        made = [*map(tf.identity, made)]
        pairs = zip(made, self.makes, strict=True)
        sources = [tensor for tensor, is_made in pairs if is_made]
        return made + beside, sources, passage.new_state, added

    def _added(self):
        """Losses of layers; those of weights, behind them, are the model's."""
        variables, losses = self.model.trainable_variables, self.model.losses
        weights = sum(v.regularizer is not None for v in variables)
        return losses[: len(losses) - weights]


def find(model, more=()):
    """Finds the `Front` of a model that cannot be cut, for `graph.front`.

    Args:
        model: The `SegmentedModel`.
        more: Names of layers that need all steps, beside those of the graph.

    Raises:
        ValueError: Nor can be cut what the front leaves.
    """
    graph = model.graph
    if model.learn_initial_state:
        refuse(graph, "learn_initial_state=True is not known to its parts")
    whole = {*graph.whole, graph.uncut.layer, *more}
    while graph.front is None:
        front = _split(graph, whole)
        cuttable.check_model(front.body)
        uncut = front.body.network_uncut
        if uncut is None:
            graph.front = front
        elif uncut.layer in whole:
            raise uncut
        else:
            whole.add(uncut.layer)
    late = graph.front.body.graph.nodes.keys() - graph.zero_state(1).keys()
    if late and getattr(model, "stateful", False):
        refuse(graph, f"{sorted(late)} start anew where others carry a state")


def refuse(graph, reason):
    """Says why no part of an uncut model is cut."""
    raise ValueError(
        f"{graph.uncut} Nor can what is behind it be cut by itself: {reason}."
    )


def _split(graph, whole):
    """The `Front` of what needs all steps by the names of its layers."""
    calls = graph.top_calls
    places = _places(calls, whole)
    inputs = keras.tree.flatten(graph.inputs)
    known = {id(tensor) for tensor in inputs}
    made = {id(t) for p in places for t in tensors(calls[p][-1])}
    rest = [call for place, call in enumerate(calls) if place not in places]
    taken = tensors([call[1:3] for call in rest])
    given = {id(t): t for t in taken if id(t) in made | known}
    if any(id(t) in made | known for t in keras.tree.flatten(graph.outputs)):
        refuse(graph, "an output is made before it")
    if not any(is_recurrent(layer) for layer, *_ in rest):
        refuse(graph, "no recurrent layer is left there")
    shared = _recurrent([calls[p] for p in places]) & _recurrent(rest)
    if shared:
        refuse(graph, f"{sorted(shared)} run before it and behind it")
    model = keras.Model(graph.inputs, [*given.values()])
    masked = _masked(graph, model)
    values = {
        key: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=f"given_{n}")
        for n, (key, t) in enumerate(given.items())
    }
    placeholders = [*values.values()]
    for key, has_mask in zip(given, masked, strict=True):
        if has_mask:
            shape = given[key].shape[:2]
            placeholders.append(keras.Input(batch_shape=shape, dtype="bool"))
            values[key] = WithMask()([values[key], placeholders[-1]])
    for layer, args, kwargs, result in rest:
        args, kwargs = filled((args, kwargs), values)
        enter(values, result, layer(*args, **kwargs))
    outputs = filled(graph.outputs, values)
    return Front(
        model,
        SegmentedModel(keras.Model(placeholders, outputs), False),
        [k not in known and "float" in t.dtype for k, t in given.items()],
        masked,
    )


def _masked(graph, model):
    """Whether each of the results of a front carries a mask.

    What a model inside of it gives, or a layer of the user's own that holds
    others, tells so when it runs alone.
    """
    made = model.outputs
    for inputs in examples.drawn(graph):
        try:
            with Passage().open():
                made = model(inputs, training=False)
            break
        # On other numbers it may run.
        except Exception:
            continue
    return [masks.read(each) is not None for each in keras.tree.flatten(made)]


def _recurrent(calls):
    """Names of the recurrent layers that run in some calls."""
    layers = [c[0] for c in calls if isinstance(c[0], keras.layers.Layer)]
    return {
        part.name
        for layer in layers
        for part in parts(layer)
        if isinstance(part, keras.layers.RNN)
    }


def _places(calls, whole):
    """Places of the calls of a front."""
    places, wanted, leads = set(), set(), set()
    for place in reversed(range(len(calls))):
        layer, args, kwargs, result = calls[place]
        made, given = tensors(result), tensors([args, kwargs])
        reaches = any(id(t) in leads for t in made)
        if reaches or is_recurrent(layer):
            leads.update(id(tensor) for tensor in given)
        if goes_forward(layer) and layer.name in whole:
            wanted.update(id(tensor) for tensor in starts(args, kwargs))
        elif layer.name in whole and reaches:
            places.add(place)
        if any(id(t) in wanted for t in made):
            places.add(place)
        if place in places:
            wanted.update(id(tensor) for tensor in given)
    return places
