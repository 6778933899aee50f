"""A batch as a method sees it: in pieces that can be run and judged.

A `Window` is one batch on its way through a training step: inputs, targets and
weights of `steps` time steps, and the state its first step starts from. It
runs pieces of itself forward and computes their loss; its `learner` moves the
parameters and keeps the books. Methods are written in these terms and in no
others.
"""

import contextlib
import dataclasses
import functools
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.network import statistics
from keras_seqgrad.tensors import masks, nested, pieces, readings, replicas
from keras_seqgrad.window import ends, losses, missing, per_step, targets
from keras_seqgrad.window.by_output import of_leaves
from keras_seqgrad.window.learner import Learner


@dataclasses.dataclass
class Segment:
    """Steps `start` to `start + length` of a window."""

    start: Any
    length: Any
    inputs: Any
    y: Any
    sample_weight: Any
    mask: Any = None
    reset: Any = None
    first: Any = True
    last: Any = True


class Window:
    """One batch of sequences, and all a method reads of it.

    Args:
        model: The `SequenceModel`.
        data: (x, y, sample_weight) as `fit` yields it.
        state: State before the first step.
        fresh: Boolean (batch,), which rows begin a sequence with this window,
            or True for all.
        training: Whether layers run in training mode.
        scaled: Whether gradients are those of the optimizer's scaled loss.
        kernels: Whether cuDNN may run recurrent layers (see `Passage`).
        given: Those of the inputs that gradients are taken by, too.

    Attributes:
        steps: Number of time steps: an integer, or a scalar tensor where the
            length is not known while tracing.
        variables: The trainable variables, in the model's order.
        sources: What gradients are taken by: the variables, then `given`.
        all_steps: Whether all outputs have a target at every step.
        one_target: Whether all outputs are one per sequence, so that only the
            last step has a loss. Not where a head reads all steps.
        mixed_targets: Whether there are outputs of both kinds.
        cut_targets: Whether each leaf of the targets is cut with the inputs.
        cut_weights: The same of the sample weights.
        outputs: Those of the model, once a head has run on the whole window.
        guard: The `Guard` that sees losses and gradients, or None.
        told: What a `compute_metrics` of the user's own has returned.
    """

    def __init__(
        self, model, data, state, fresh=True, training=True, scaled=False,
        kernels=False, given=(),
    ):  # fmt: skip
        self.x, self.y, self.sample_weight = (
            keras.utils.unpack_x_y_sample_weight(data)
        )
        self.model = model
        self.inputs, self.reset, self.mask = masks.unpack(self.x)
        model.refuse_companions(self.reset, self.mask)
        self.state, self.fresh = state, fresh
        self.training = training
        self.scaled = scaled
        self.kernels = kernels
        self.guard, self.told, self.outputs = None, {}, None
        self.batch_size, self.steps = model.extent(self.inputs)
        self.variables = model.trainable_variables
        self.given = [*given]
        self.sources = [*self.variables, *self.given]
        temporal = model.temporal_outputs
        self.all_steps = all(temporal)
        self.one_target = not any(temporal) and model.network_head is None
        self.mixed_targets = any(temporal) and not all(temporal)
        cut = per_step.flags(model, self.y, self.steps)
        self.cut_targets = of_leaves(cut, self.y, model)
        self.cut_weights = of_leaves(temporal, self.sample_weight, model)

    @functools.cached_property
    def valid(self):
        """Steps that some recurrent layer takes, (batch, time); None for all.

        Inside of a loop it can only be read, after `look_for_ends`.
        """
        return ends.valid_steps(self)

    @functools.cached_property
    def lengths(self):
        """Steps of each row up to its last valid one, (batch,), or None."""
        return ends.lengths(self.valid)

    def look_for_ends(self):
        """Finds out `valid` and `lengths`, for loops to read."""
        return self.lengths

    @property
    def learner(self):
        """What a method changes: the model while it learns from the window."""
        return Learner(self)

    # --- pieces -----------------------------------------------------------

    def whole(self):
        """The window as one segment."""
        return Segment(
            0,
            self.steps,
            self.inputs,
            self.y,
            self.sample_weight,
            self.mask,
            self.reset,
        )

    def segment(self, start, length):
        """Steps `start` to `start + length`; either may be a tensor."""
        self.model.refuse_segments()

        def steps(tensor):
            if tensor is None:
                return None
            return pieces.steps(tensor, start, length)

        return Segment(
            start,
            length,
            self.model.cut_inputs(self.inputs, start, length),
            targets.cut(self.y, start, length, self.cut_targets),
            targets.cut(self.sample_weight, start, length, self.cut_weights),
            steps(self.mask),
            steps(self.reset),
            start == 0,
            start + length == self.steps,
        )

    def ends_in(self, segment):
        """Rows whose last valid step is in a segment, (batch,) or scalar."""
        if self.lengths is None:
            return segment.last
        last = self.lengths - 1
        end = segment.start + segment.length
        return (last >= segment.start) & (last < end)

    def cut_outputs(self, outputs, start, length):
        """Steps of the outputs that have time, masks with them."""
        flat = keras.tree.flatten(outputs)
        cut = [
            pieces.cut(output, start, length) if temporal else output
            for output, temporal in zip(
                flat, self.model.temporal_made, strict=True
            )
        ]
        return keras.tree.pack_sequence_as(outputs, cut)

    def cut_cotangents(self, d_outputs, segment, rows=None):
        """Gradient of the window's loss by the outputs of a segment (flat).

        Args:
            d_outputs: That by the outputs of the window.
            segment: The segment.
            rows: Rows to which outputs without a time axis belong in this
                segment, (batch,) or scalar; by default all in the last one.
        """
        rows = segment.last if rows is None else rows
        return [
            pieces.steps(d_output, segment.start, segment.length)
            if temporal
            else nested.select(rows, d_output, tf.zeros_like(d_output))
            for d_output, temporal in zip(
                d_outputs, self.model.temporal_made, strict=True
            )
        ]

    # --- forward ----------------------------------------------------------

    def forward(self, segment, state, gates=None, scan=None):
        """Runs a segment.

        Args:
            segment: The segment.
            state: State before its first step.
            gates: Backward gates (time,) or (batch, time), or None.
            scan: What runs the recurrent layers' cells, or None for the
                package's own scan.

        Returns:
            (outputs, state after the last step).
        """
        fresh = None
        if self.model.sets_initial_state and segment.first is not False:
            fresh = tf.logical_and(self.fresh, segment.first)
        inputs = segment.inputs
        if self.given:  # cut once more, for a tape to see it
            inputs = self.model.cut_inputs(
                self.inputs, segment.start, segment.length
            )
        with statistics.put_back(self._moved[True], segment.last):
            return self.model.run_segment(
                inputs,
                state,
                training=self.training,
                fresh=fresh,
                gates=gates,
                reset=segment.reset,
                mask=segment.mask,
                scan=scan,
                kernels=self.kernels,
            )

    def judged(self, segment, made, again=False):
        """Outputs of the model, of what segments have made.

        The same, unless the model has a head: that runs on the whole window,
        once, however often it is asked for what it makes of it.

        Args:
            segment: The segment.
            made: What a forward pass over it made.
            again: Whether to run the head once more.
        """
        if self.model.network_head is None:
            return made
        if again or self.outputs is None:
            self.outputs = self.model.whole_outputs(
                made, segment.inputs, segment.mask, self.training
            )
        return self.outputs

    def advance(self, start, length, state):
        """State after `length` steps that are run again, without a gradient."""
        with statistics.put_back(self._moved[False]):
            _, state = self.forward(self.segment(start, length), state)
        return keras.tree.map_structure(tf.stop_gradient, state)

    def peek(self, start, state):
        """State after step `start` alone; what layers drew is put back."""
        with self.draws_put_back():
            _, state = self.forward(self.segment(start, 1), state)
        return state

    def draws(self):
        """From what state of the random numbers layers would draw now."""
        return readings.of(self.random_state)

    def draw_again(self, draws):
        """Makes layers draw once more what they drew from `draws` on."""
        readings.put_back(self.random_state, draws)

    @contextlib.contextmanager
    def draws_put_back(self):
        """What layers draw in this context they will draw again after it."""
        drawn = self.draws()
        yield
        self.draw_again(drawn)

    def loss(self, segment, outputs, at_end=False):
        """The model's loss of a segment (scalar), regularisers included.

        Args:
            segment: The segment.
            outputs: What the model made of it.
            at_end: Where all targets are one per sequence, whether gradient
                comes from them in the segment alone in which a row ends. With
                outputs of both kinds that is so anyway.
        """
        return losses.loss_of(self, segment, outputs, at_end)

    def target_loss(self, segment, outputs, factors=None, at_end=False):
        """`loss` without what regularisers and layers add.

        Args:
            segment: The segment.
            outputs: What the model made of it.
            factors: Weight of each row in outputs without a time axis,
                (batch,), beside its sample weight.
            at_end: As for `loss`.
        """
        return losses.target_loss(self, segment, outputs, factors, at_end)

    def counted(self, segment, outputs):
        """The segment, with numbers for targets that do not count."""
        return missing.clear_for_loss(segment, outputs, self.model)

    def scale(self, loss):
        """The loss to differentiate: scaled where the optimizer scales it."""
        return self.model.optimizer.scale_loss(loss) if self.scaled else loss

    def count(self, segment, outputs):
        """Number of terms in the mean that is the loss of a segment.

        A gradient of the segment's loss times this number is that of the sum
        over rows and steps. A loss that is a sum has the number 1.
        """
        if targets.reduction_of(self.model.loss) == "sum":
            return tf.ones(())
        terms, _ = self.terms(segment, self.judged(segment, outputs))
        return tf.maximum(terms, 1.0) * replicas.count()

    def terms(self, segment, outputs):
        """What a segment's loss is a mean of (see `targets.terms`)."""
        at_steps = any(self.model.temporal_outputs)
        return targets.terms(
            targets.reduction_of(self.model.loss),
            [self.batch_size, segment.length if at_steps else 1],
            outputs if at_steps else None,
            segment.sample_weight,
        )

    @property
    def method_state(self):
        """What the method learns or draws (see `MethodState`)."""
        return self.model.method_state

    @functools.cached_property
    def random_state(self):
        """Variables that change while layers run, as seeds of dropout do."""
        return [*self.model.running_variables, *self._moved[False]]

    @functools.cached_property
    def _moved(self):
        """What forward passes move (see `statistics.variables`), by `once`."""
        if not self.training:
            return {False: [], True: []}
        return {
            once: statistics.variables(self.model, once)
            for once in (False, True)
        }

    @property
    def recurrent_layers(self):
        """The recurrent layers in the order of the graph, once a call."""
        return [node.held[0] for node in self.model.graph.nodes.values()]
