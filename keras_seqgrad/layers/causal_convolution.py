"""A convolution over the last steps, as a recurrent layer."""

from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.layers.documentation import of_linear_layer
from keras_seqgrad.layers.linear_cell import LooksBack
from keras_seqgrad.layers.linear_rnn import LinearRNN
from keras_seqgrad.ops import common
from keras_seqgrad.tensors import arguments
from keras_seqgrad.tensors.shape import shape_of


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class CausalConv1DCell(LooksBack):
    """One step of a causal convolution, for `keras.layers.RNN` and generation.

    To a scan it is a recurrence that forgets at every step, over a product
    that sees some inputs before. It runs in the layer, in `ksg.layers.RNN`
    and in a `SequenceModel`. Called by itself it is one step.

    Rule, with k = kernel_size:

        output y = activation(sum over j < k of x_{t-j} · W_{k-1-j} + b)

    The state is [y, x_{t-1}, ..., x_{t-k+1}]: the output, for masked steps
    repeat it, and the inputs at the last steps that were not masked, zeros at
    the start and after a reset. How wide it is, the cell knows when it is
    built: in a functional model with `return_state=True` use
    `ksg.layers.CausalConv1D`, which asks it then.

    Args:
        filters: Number of outputs.
        kernel_size: Number of steps that an output looks at, its own and
            those before. Each is a tensor of the state: a matter of a few.
        groups: Parts of the inputs that are convolved apart. As many as there
            are inputs and filters for one kernel a feature (depthwise).
        activation: Of the outputs, as in `keras.layers.Conv1D`.
        use_bias: Whether there is b.
        kernel_initializer: Of W, (kernel_size, features / groups, filters),
            the last step last, as in `keras.layers.Conv1D`. Likewise
            `kernel_regularizer` and `kernel_constraint`.
        bias_initializer: Of b, (filters,), zeros by default. Likewise
            `bias_regularizer` and `bias_constraint`.
        {cell_arguments}

    Call arguments:
        inputs: (batch, features).
        states: The tensors of the state.
        training: Whether dropout applies.

    Returns:
        The output (batch, filters) and the new state, a list.

    Raises:
        ValueError: `filters`, `kernel_size` or `groups` is no positive
            integer, or `groups` does not divide the filters and the features.

    Reference:
        Waibel et al., 1989. Phoneme recognition using time-delay neural
        networks. IEEE Transactions on Acoustics, Speech, and Signal
        Processing 37(3).

    Example:

    >>> cell = ksg.layers.CausalConv1DCell(4, kernel_size=2)
    >>> cell.build((None, 3))
    >>> output, state = cell(np.ones((2, 3)), cell.get_initial_state(2))
    >>> output.shape, [tensor.shape[1] for tensor in state]
    (TensorShape([2, 4]), [4, 3])
    """

    weight_kinds = {"kernel": "glorot_uniform", "bias": "zeros"}

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        filters = arguments.positive_integer(filters, "filters")
        super().__init__(filters, **kwargs)
        self.filters = filters
        self.kernel_size = arguments.positive_integer(
            kernel_size, "kernel_size"
        )
        self.delays = self.kernel_size - 1
        self.groups = arguments.positive_integer(groups, "groups")
        if filters % self.groups:
            raise ValueError(
                "`groups` must divide `filters`. Received: "
                f"groups={groups} with filters={filters}"
            )
        try:
            self.activation = keras.activations.get(activation)
        except (TypeError, ValueError):
            wanted = "a name of keras.activations, a function, or None"
            arguments.refuse(activation, "activation", wanted)
        self.use_bias = arguments.flag(use_bias, "use_bias")
        self.adapt_to(None)

    def build(self, input_shape):
        features = input_shape[-1]
        if features % self.groups:
            raise ValueError(
                f"Layer {self.name!r}: `groups` must divide the features of "
                f"its inputs. Received: groups={self.groups} with {features} "
                "features"
            )
        self.adapt_to(features)
        of_group = features // self.groups
        shape = (self.kernel_size, of_group, self.filters)
        self.kernel = self.add_weights("kernel", shape)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weights("bias", (self.filters,))

    def recurrence(self, inputs, earlier):
        window = [*reversed(earlier), inputs]
        # In the precision of the inputs, which `trace_rule` has wider.
        kernels = tf.unstack(tf.cast(self.kernel, inputs.dtype))
        pairs = zip(window, kernels, strict=True)
        rows = tf.add_n([_by_groups(*pair, self.groups) for pair in pairs])
        if self.bias is not None:
            rows += tf.cast(self.bias, inputs.dtype)
        return None, self.activation(rows)

    def trace_rule(self):
        # No weight moves what is remembered, and the output is not looked at.
        def step(inputs, rows, states):
            earlier = states[self.scanned :]
            _, outputs = self.recurrence(inputs, earlier)
            return [outputs, *self.moved_on(inputs, earlier)]

        return [], step

    def get_config(self):
        config = super().get_config()
        del config["units"]
        return {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "groups": self.groups,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **config,
        }


def _by_groups(inputs, kernel, groups):
    """Products of the features of each group and its filters.

    Args:
        inputs: (time, batch, features).
        kernel: (features / groups, filters).
        groups: Number of groups.
    """
    if groups == 1:
        return common.project(inputs, kernel)
    width, filters = kernel.shape
    if width == 1:
        return tf.repeat(inputs, filters // groups, axis=-1) * kernel[0]
    shape = shape_of(inputs)[:2]
    split = tf.reshape(inputs, [*shape, groups, width])
    kernel = tf.reshape(kernel, [width, groups, -1])
    rows = tf.einsum("tbgi,igo->tbgo", split, kernel)
    return tf.reshape(rows, [*shape, filters])


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class CausalConv1D(LinearRNN):
    """`keras.layers.Conv1D(padding="causal")` that can be cut in time.

    Between segments it carries the inputs that it looks back at, so that a
    `SequenceModel` cuts it like a recurrent layer: the segments of a sequence
    give what the whole gives. Resets begin a sequence anew, masked steps are
    left out as if they were not there. Has the weights of Keras' layer in its
    order, and gives what that gives for a sequence without a mask.

    For the short convolution (a kernel of 2 to 8) that blocks of linear
    recurrences have before or beside the recurrence, and for networks that
    convolve before an LSTM. Not for long kernels: every step of a kernel is
    a tensor of the state. Strides and dilation there are none.

    Rule, with k = kernel_size:

        output y = activation(sum over j < k of x_{t-j} · W_{k-1-j} + b)
        backward: the gradients of x_{t-1}, x_{t-2}, ... before step t are
            multiplied by gate_t

    The gradient is exact, unless a method or `truncation` cuts between an
    output and the inputs that it looks back at.

    Args:
        *args: `filters` and `kernel_size`, as for
            `ksg.layers.CausalConv1DCell`.
        {arguments} Here `return_sequences` is True unless you say otherwise.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: The tensors of the state, or None for zeros.
        mask: Boolean (batch, time), True = valid.
        training: Whether dropout and truncation apply.

    Returns:
        (batch, time, filters), or (batch, filters) with
        `return_sequences=False`; followed by the tensors of the state with
        `return_state=True`.

    Raises:
        ValueError: An argument of the cell is another than it says,
            `unroll=True`, or a `truncation` of another kind.

    Reference:
        De et al., 2024. Griffin: mixing gated linear recurrences with local
        attention for efficient language models. arXiv:2402.19427.

    Example:

    >>> layer = ksg.layers.CausalConv1D(4, kernel_size=4)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    cell_class = CausalConv1DCell

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("return_sequences", True)
        super().__init__(*args, **kwargs)
