"""What layers keep of all that runs through them while they train.

`BatchNormalization` norms by the mean and variance of all rows and steps of
what it is given, and keeps averages of both, by which it norms afterwards. A
user's own layer may keep others.
"""

import contextlib
import itertools

import keras
import tensorflow as tf

from keras_seqgrad.layers.cells import changing_variables, parts
from keras_seqgrad.network.nodes import Node
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.network.tracing import is_graph, is_own, tensors
from keras_seqgrad.tensors import masks, readings
from keras_seqgrad.tensors.shape import shape_of


class NormalizationNode(Node):
    """Stands for a `BatchNormalization`: steps masked beside do not count.

    Attributes:
        has_time: Whether what it norms has a time axis.
    """

    def __init__(self, layer, key):
        super().__init__(layer, key)
        self.has_time = False

    def call(self, inputs, mask=None, training=False):
        passage, valid = Passage.current(), mask
        if passage is not None and self.has_time:
            valid = masks.combine(mask, passage.mask)
        if valid is not None:
            # Of places beside time all are there, or none.
            valid = masks.align(valid, inputs[..., 0])
            valid = tf.broadcast_to(valid, shape_of(inputs)[:-1])
        made = self.original(inputs, mask=valid, training=training)
        return masks.attach(tf.identity(made), mask)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


def norms(layer):
    """Whether it norms by what runs through it, where it is not frozen."""
    return isinstance(layer, keras.layers.BatchNormalization)


def norms_unfrozen(layer):
    """Whether it norms by what runs through it in training."""
    return norms(layer) and layer.trainable


def norms_kernel(layer):
    """Whether it norms its own kernel, which a run in training moves."""
    return isinstance(layer, keras.layers.SpectralNormalization)


def run_at_once(layer):
    """Normalizations in a layer that see all steps of what it is given.

    Those that a layer of Keras, as `TimeDistributed`, runs in a way of its own
    are not among them.
    """
    return [
        part
        for part in parts(layer, lambda part: is_own(part) or is_graph(part))
        if norms(part)
    ]


def original(layer):
    """The layer of the model, also where a node stands for it."""
    return layer.original if isinstance(layer, Node) else layer


def keepers(graph):
    """(layer, whether it is given steps) of all that may keep statistics."""
    found = {}
    for layer, _, args, kwargs, result in graph.calls:
        layer = original(layer)
        if not isinstance(layer, keras.layers.Layer) or is_graph(layer):
            continue
        if any(map(_keeps, parts(layer))):
            given = tensors([args, kwargs, result])
            has_time = any(id(tensor) in graph.temporal for tensor in given)
            _, before = found.get(id(layer), (layer, False))
            found[id(layer)] = layer, before or has_time
    return [*found.values()]


def _keeps(part):
    return norms(part) or norms_kernel(part) or is_own(part)


def _moving(layer, moved):
    """Variables that a layer may move while it runs in training.

    Args:
        layer: The layer.
        moved: Ids of those that were seen to, or None where nobody looked.
            What else the user's own layers keep is fixed, and may be large.
    """
    known = [p for p in parts(layer) if norms(p) or norms_kernel(p)]
    seen = {id(v) for part in known for v in part.variables} | (moved or set())
    found = [
        variable
        for variable in changing_variables(layer)
        if moved is None or id(variable) in seen
    ]
    kernels = [part.layer.variables for part in known if norms_kernel(part)]
    return [*found, *itertools.chain(*kernels)]


def variables(model, once=False):
    """Variables of statistics: weights that move while layers run in training.

    Args:
        model: The `SegmentedModel`.
        once: Those alone that a window moves once, in its last segment: of
            layers that are given no steps.
    """
    moved = None
    if model.is_opaque:
        layers = [] if once else [model]
    else:
        moved = model.graph.moved
        layers = [
            layer
            for layer, has_time in model.graph.keepers
            if not (once and has_time)
        ]
    weights = {id(v) for v in model.weights} if layers else ()
    found = {
        id(v): v
        for layer in layers
        for v in _moving(layer, moved)
        if id(v) in weights
    }
    return [*found.values()]


@contextlib.contextmanager
def put_back(variables, unless=False):
    """Sets variables to what they were when it was opened.

    Args:
        variables: The variables.
        unless: Whether they are left as they are, a boolean or a scalar.
    """
    if unless is True:
        variables = []
    before = readings.of(variables)
    yield
    if unless is not False:
        pairs = zip(variables, before, strict=True)
        before = [tf.where(unless, now, was) for now, was in pairs]
    readings.put_back(variables, before)
