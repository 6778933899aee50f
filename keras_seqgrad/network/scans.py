"""Which scan runs each recurrent layer of a model, and whether XLA does."""

import contextlib

import keras

from keras_seqgrad.layers import cudnn
from keras_seqgrad.network.nodes import PoolingNode
from keras_seqgrad.tensors import devices


class Scanned(keras.Model):
    """A model that knows which scans run its recurrent layers.

    Attributes:
        method: The method it was compiled with, or None.
    """

    method = None

    @property
    def scans(self):
        """Which scan runs each recurrent layer in training, and why.

        A dict of pairs (scan, why) by the names of the layers: "cudnn" for
        Keras' kernel; "fast" for the scan of this package for the kind of
        cell; "linear" for a linear recurrence; "general" for the one that
        runs any cell. Where masks or resets come beside the inputs, the
        kernel gives way to the scan. Empty for a subclass with
        `call_segment`, whose layers are its own affair.

        Example:

        >>> network = keras.Sequential([
        ...     keras.Input((None, 3)), keras.layers.SimpleRNN(4, name="h")])
        >>> model = ksg.SequenceModel.from_model(network)
        >>> model.compile("sgd", "mse")
        >>> print(*model.scans["h"], sep=": ")
        fast: cuDNN has no kernel for SimpleRNN
        """
        if self.is_opaque:
            return {}
        if not self.compiled:
            return choices(self, "the model is not compiled")
        return choices(self, obstacle(self, self.method, self.jit_compile))

    @property
    def jit_compile(self):
        """Whether XLA compiles the steps."""
        return super().jit_compile

    @jit_compile.setter
    def jit_compile(self, value):
        with compilable(self):
            keras.Model.jit_compile.fset(self, value)


def serves(model):
    """Whether kernels may run layers of a model, its steps outside XLA."""
    return (
        not model.is_opaque
        and devices.gpu_is_visible()
        and not model.graph.masks_steps
    )


def obstacle(model, method, jit):
    """What keeps kernels from training a model, or None.

    Args:
        model: A `SegmentedModel` with a graph.
        method: What it is trained by.
        jit: Whether XLA compiles the steps.
    """
    if jit:
        return "jit_compile=True"
    if method.gates_inside:
        return f"{type(method).__name__} needs a scan: gates, or one of its own"
    if devices.gpu_is_visible() and model.graph.masks_steps:
        return "a layer makes a mask"
    return None


def choices(model, obstacle):
    """The `Choice` for each recurrent layer, by the key of its node."""
    return {
        key: cudnn.choose(node.held[0], obstacle)
        for key, node in model.graph.nodes.items()
        if not isinstance(node, PoolingNode)
    }


def resolved(model, method, given):
    """Arguments of `compile`, without XLA where a layer asks for its kernel.

    So jit_compile="auto" does, and where the method's steps cannot be compiled.
    Otherwise it stays Keras' choice: XLA on a GPU, where scans under it take
    half the time of kernels outside.

    Args:
        model: A `SegmentedModel`.
        method: What it is to be trained by.
        given: The arguments by name.

    Raises:
        ValueError: A layer says use_cudnn=True and cannot be run so.
    """
    asked = given.get("jit_compile", "auto")
    if asked == "auto" and not method.compiles:
        given = {**given, "jit_compile": False}
    if model.is_opaque:
        return given
    jit = asked != "auto" and bool(asked) and not given.get("run_eagerly")
    hindered = obstacle(model, method, jit)
    served = choices(model, hindered)
    forced = [
        key
        for key, node in model.graph.nodes.items()
        if cudnn.is_forced(node.held[0])
    ]
    for key in forced:
        if served[key].scan != "cudnn":
            layer = model.graph.nodes[key].held[0]
            raise ValueError(
                f"Layer {key!r} cannot be run by cuDNN: "
                f"{cudnn.refusal(layer) or hindered}. Expected what its "
                "kernel can do, received use_cudnn=True. Set "
                'use_cudnn="auto", and the layer takes the scan.'
            )
    if asked == "auto" and forced:
        return {**given, "jit_compile": False}
    return given


@contextlib.contextmanager
def compilable(model):
    """Lets Keras compile a model with XLA: the scans need no cuDNN kernels.

    Keras' own layers say that they cannot be, where it sees a GPU, and say so
    again when they are called: to other models, too, for which it is true.
    """
    nodes = [] if model.is_opaque else model.graph.nodes.values()
    layers = [node.held[0] for node in nodes]
    said = [layer.supports_jit for layer in layers]
    for layer in layers:
        layer.supports_jit = True
    try:
        yield
    finally:
        for layer, supported in zip(layers, said, strict=True):
            layer.supports_jit = supported
