"""Describes a recurrent cell that has a fast scan: what a new one must say.

Its public function, its layer and its node in a network all run
`fast_scan.fast_scan` on the description. It is pure arithmetic on tensors and
knows neither time nor masks, gates, resets and twins, which are the scan's.
"""

import abc

import keras

from keras_seqgrad.ops import common

# The function that describes a cell, by the class of the Keras cell.
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
        saved: Widths, in units, of what a step saves for its way back.
    """

    state_names = ("h",)
    blocks = 1
    bias_rows = ()
    saved = (1,)

    @abc.abstractmethod
    def forward(self, kernel, recurrent_kernel, bias):
        """The step, for weights that stay the same over all steps.

        Args:
            kernel: (features, blocks * units).
            recurrent_kernel: (units, blocks * units).
            bias: (*bias_rows, blocks * units), or None.

        Returns:
            The kernel that makes the rows, and `step(row, state)`, which
            returns the new state and what it saves.
        """

    @abc.abstractmethod
    def backward(self, recurrent_kernel):
        """The derivative of the step.

        Returns:
            `pull(values, d_state)`: from what a step saved and the gradient of
            its new state, a list of gradients inside the step, of which those
            of the rows and weights follow, and the gradient of the state
            before it. Gradients have an axis in front of the batch where the
            scan has a twin.
        """

    def buffers(self, projected, saved):
        """A series not needed any more for each gradient from `pull`."""
        return [projected]

    def d_rows(self, inner):
        """Gradient of the rows from the series of what `pull` gave."""
        return inner[0]

    def d_recurrent_kernel(self, before, inner, saved):
        """Gradient of the recurrent kernel; `before` is h before each step."""
        return common.kernel_gradient(before, inner[0])

    def d_bias(self, inner):
        """Gradient of the bias."""
        return common.bias_gradient(inner[0])


def describes(keras_cell):
    """Decorates the function that describes the cells of a Keras class.

    It takes a built cell and returns its `FastCell`, or None for settings
    that have none. The cell has `units` and the weights `kernel`,
    `recurrent_kernel` and `bias`, which may be None. Dropout is not its matter.
    """

    def enter(function):
        DESCRIBED[keras_cell] = function
        return function

    return enter


def has_usual_gates(cell):
    """Whether a gated cell has its default activations."""
    return (
        cell.activation is keras.activations.tanh
        and cell.recurrent_activation is keras.activations.sigmoid
    )
