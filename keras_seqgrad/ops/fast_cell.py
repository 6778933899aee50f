"""Describes a recurrent cell that has a fast scan: what a new one must say.

Its public function, its layer and its node in a network all run
`fast_scan.fast_scan` on the description. It is pure arithmetic on tensors and
knows neither time nor masks, gates, resets and twins, which are the scan's.
"""

import abc

import tensorflow as tf

from keras_seqgrad.ops import activations, common

# The function that describes a cell, by the class of the Keras cell; filled as
# the modules of this package are imported.
DESCRIBED = {}


class FastCell(abc.ABC):
    """The step of a recurrent cell, forward and back.

    What distinguishes forms of a cell, such as an activation, are attributes
    of the description. Rows are the products x_t · W of the inputs.

    Attributes:
        state_names: Names of the state's tensors, each (batch, units); the
            first is the output.
        blocks: Width of both kernels in units.
        bias_rows: Shape of the bias before its last axis.
        saved: Widths, in units, of what a step saves for its way back. What
            `pull` can make of it by a few multiplications is not worth memory.
        inner: Widths, in units, of the gradients that `pull` gives.
    """

    state_names = ("h",)
    blocks = 1
    bias_rows = ()
    saved = ()
    inner = (1,)

    def step_weights(self, kernel, recurrent_kernel, bias):
        """What all steps have in common, made once.

        Args:
            kernel: (features, blocks * units).
            recurrent_kernel: (units, blocks * units).
            bias: (*bias_rows, blocks * units), or None.

        Returns:
            The kernel that makes the rows, followed by what `step` takes.
        """
        return kernel, recurrent_kernel, bias

    @abc.abstractmethod
    def step(self, row, state, *step_weights):
        """The new state, and what is saved of the step, of widths `saved`."""

    def pull_weights(self, recurrent_kernel):
        """What all steps back have in common, made once: what `pull` takes."""
        return [tf.transpose(recurrent_kernel)]

    @abc.abstractmethod
    def pull(self, values, before, output, d_state, *pull_weights):
        """The step back: its derivative.

        Args:
            values: What the step saved.
            before: The output before the step, (batch, units).
            output: The output of the step, (batch, units).
            d_state: Gradient of its new state. Has an axis of two in front
                where the scan has a twin.

        Returns:
            Gradients inside the step, of widths `inner`, of which those of
            the row and of the weights follow, and the gradient of the state
            before it.
        """

    def d_rows(self, inner):
        """Gradient of the rows from the series of what `pull` gave."""
        return inner[0]

    def d_recurrent_kernel(self, before, inner, saved):
        """Gradient of the recurrent kernel, from series.

        Args:
            before: The output before each step.
            inner: What `pull` gave.
            saved: What the steps saved.
        """
        return common.kernel_gradient(before, inner[0])

    def d_bias(self, inner):
        """Gradient of the bias."""
        return common.bias_gradient(inner[0])


def describes(keras_cell):
    """Decorates the function that describes the cells of a Keras class.

    It takes a built cell and returns its `FastCell`, or None for settings
    that have none; dropout is not its matter. Whatever its settings, the cell
    outputs the first tensor of its new state. It has `units` and the weights
    `kernel`, `recurrent_kernel` and `bias`, which may be None.
    """

    def enter(function):
        DESCRIBED[keras_cell] = function
        return function

    return enter


def gated_names(cell):
    """Names of a gated cell's two activations, None for one without a name."""
    given = cell.activation, cell.recurrent_activation
    return [activations.name_of(function) for function in given]
