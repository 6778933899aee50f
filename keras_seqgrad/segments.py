"""Windows, segments and the loops over them.

A `Window` is one batch on its way through a training step: inputs, targets and
weights of `steps` time steps, and the state its first step starts from. It
runs pieces of itself forward, computes their loss, moves the parameters and
keeps the books. Methods are written in these terms and in no others.
"""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad import loops, masks


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
    """One batch of sequences, and all a method may do with it.

    Args:
        model: The `SequenceModel`.
        data: (x, y, sample_weight) as `fit` yields it.
        state: State before the first step.
        fresh: Boolean (batch,), which rows begin a sequence with this window,
            or True for all.
        training: Whether layers run in training mode.
        scaled: Whether gradients are those of the optimizer's scaled loss.

    Attributes:
        steps: Number of time steps: an integer, or a scalar tensor where the
            length is not known while tracing.
        variables: The trainable variables, in the model's order.
        one_target: Whether all outputs are one per sequence, so that only the
            last step has a loss.
    """

    def __init__(
        self, model, data, state, fresh=True, training=True, scaled=False
    ):
        x, self.y, self.sample_weight = keras.utils.unpack_x_y_sample_weight(
            data
        )
        self.model = model
        self.inputs, self.reset, self.mask = masks.unpack(x)
        self.state = state
        self.fresh = fresh
        self.training = training
        self.scaled = scaled
        self.batch_size, self.steps = model.extent(self.inputs)
        self.variables = model.trainable_variables
        temporal = model.temporal_outputs
        self.one_target = not any(temporal)
        self.mixed_targets = any(temporal) and not all(temporal)

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

        def steps(tensor):
            if tensor is None:
                return None
            return masks.steps(tensor, start, length)

        return Segment(
            start,
            length,
            self.model.cut_inputs(self.inputs, start, length),
            self.model.cut_targets(self.y, start, length),
            self.model.cut_targets(self.sample_weight, start, length),
            steps(self.mask),
            steps(self.reset),
            start == 0,
            start + length == self.steps,
        )

    def cut_outputs(self, outputs, start, length):
        """Steps of the outputs that have time, masks with them."""
        flat = keras.tree.flatten(outputs)
        cut = [
            masks.cut(output, start, length) if temporal else output
            for output, temporal in zip(
                flat, self.model.temporal_outputs, strict=True
            )
        ]
        return keras.tree.pack_sequence_as(outputs, cut)

    def cut_cotangents(self, d_outputs, segment):
        """Gradient of the window's loss by the outputs of a segment (flat).

        An output without a time axis belongs to the last segment.
        """
        last = segment.last
        return [
            masks.steps(d_output, segment.start, segment.length)
            if temporal
            else tf.where(last, d_output, tf.zeros_like(d_output))
            for d_output, temporal in zip(
                d_outputs, self.model.temporal_outputs, strict=True
            )
        ]

    # --- forward ----------------------------------------------------------

    def forward(self, segment, state, gates=None):
        """Runs a segment.

        Args:
            segment: The segment.
            state: State before its first step.
            gates: Backward gates (time,) or (batch, time), or None.

        Returns:
            (outputs, state after the last step).
        """
        fresh = None
        if self.model.sets_initial_state and segment.first is not False:
            fresh = tf.logical_and(self.fresh, segment.first)
        return self.model.run_segment(
            segment.inputs,
            state,
            training=self.training,
            fresh=fresh,
            gates=gates,
            reset=segment.reset,
            mask=segment.mask,
        )

    def advance(self, start, length, state):
        """State after `length` steps from `start`, without a gradient."""
        _, state = self.forward(self.segment(start, length), state)
        return keras.tree.map_structure(tf.stop_gradient, state)

    def loss(self, segment, outputs):
        """The model's loss of a segment (scalar), regularisers included."""
        return self.model.compute_loss(
            x=segment.inputs,
            y=segment.y,
            y_pred=outputs,
            sample_weight=self._weights(segment, outputs),
            training=self.training,
        )

    def refuse_added_losses(self):
        """Refuses losses that layers added while running in segments."""
        regularised = [v for v in self.variables if v.regularizer is not None]
        if len(self.model.losses) > len(regularised):
            raise ValueError(
                "This method sums the window's loss over segments, which is "
                "not defined for losses that layers add themselves (add_loss, "
                "activity_regularizer). Train with BPTT(), or take these "
                "losses out."
            )

    @property
    def draws(self):
        """The seeds of the method's own random numbers."""
        return self.model.method_state.draws

    @property
    def random_state(self):
        """Variables that change while layers run, as seeds of dropout do."""
        return self.model.running_variables

    def _weights(self, segment, outputs):
        """Weights in which a target of the last step counts only there."""
        if not self.mixed_targets or segment.last is True:
            return segment.sample_weight
        return self.model.weights_at_end(
            segment.sample_weight, outputs, segment.last
        )

    # --- updates and books ------------------------------------------------

    def scale(self, loss):
        """The loss to differentiate: scaled where the optimizer scales it."""
        return self.model.optimizer.scale_loss(loss) if self.scaled else loss

    def apply(self, gradients):
        """Moves the parameters by the gradients of a scaled loss."""
        self.model.optimizer.apply(gradients, self.variables)

    def record(self, segment, outputs, loss):
        """Enters a segment's loss and outputs in loss tracker and metrics."""
        share = tf.cast(segment.length, "float32") / tf.cast(
            self.steps, "float32"
        )
        self.record_loss(loss, share)
        if not self.mixed_targets:
            self.record_metrics(segment, outputs)

    def record_loss(self, loss, share=1.0):
        """Enters a loss, weighted by batch size times share of the window."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            loss = loss * replicas
        weight = tf.cast(self.batch_size, "float32") * share
        self.model.loss_tracker.update_state(loss, sample_weight=weight)

    def record_metrics(self, segment, outputs):
        """Enters a segment's outputs in the compiled metrics."""
        self.model.compute_metrics(
            segment.inputs, segment.y, outputs, segment.sample_weight
        )

    # --- loops ------------------------------------------------------------

    def each_segment(self, length, step, state):
        """Runs `step` on one segment after another.

        Args:
            length: Steps per segment; the last one may be shorter.
            step: Function (segment, state) -> (outputs, state).
            state: State before the first segment.

        Returns:
            State after the last segment.
        """
        full, rest = loops.divide(self.steps, length)

        def body(index, state):
            return step(self.segment(index * length, length), state)[1]

        state = loops.repeat(full, body, state)
        if not isinstance(rest, int) or rest:
            state = step(self.segment(full * length, rest), state)[1]
        return state

    def each_segment_recorded(self, length, step, state):
        """`each_segment` that also enters mixed targets in the metrics.

        Their metrics need the outputs of all segments together.
        """
        if not self.mixed_targets:
            return self.each_segment(length, step, state)
        names = {f"{name}_loss" for name in self.model.output_names or ()}
        trackers = [
            variable
            for metric in self.model.metrics
            if metric.name in names
            for variable in metric.variables
        ]
        before = [tf.identity(variable) for variable in trackers]
        state, outputs, _ = self.each_segment_kept(length, step, state)
        self.refuse_added_losses()
        # Keras entered the loss of each output once a segment, the last one's
        # among zeros; once for the window is right.
        for variable, value in zip(trackers, before, strict=True):
            variable.assign(value)
        self.loss(self.whole(), outputs)
        self.record_metrics(self.whole(), outputs)
        return state

    def each_segment_kept(self, length, step, state, beside=list):
        """`each_segment` that leaves a trail.

        Args:
            length: As for `each_segment`; so are `step` and `state`.
            beside: Function () -> list of tensors to keep from before each
                segment beside the state.

        Returns:
            (state after the last segment, outputs of the window, `Trail`).
        """
        full, rest = loops.divide(self.steps, length)
        trail = loops.Trail(
            self.model.temporal_outputs,
            [
                ([self.batch_size, length, *spec.shape[2:]], spec.dtype)
                if temporal
                else ([self.batch_size, *spec.shape[1:]], spec.dtype)
                for spec, temporal in zip(
                    self.model.output_specs,
                    self.model.temporal_outputs,
                    strict=True,
                )
            ],
            (state, beside()),
            full,
        )
        structure = None

        def body(index, carry):
            nonlocal structure
            state, arrays = carry
            before = (state, beside())
            segment = self.segment(index * length, length)
            structure, state = step(segment, state)
            return state, trail.write(arrays, index, before, structure)

        state, trail.arrays = loops.repeat(full, body, (state, trail.arrays))
        trail.before_rest = (state, beside())
        if not isinstance(rest, int) or rest:
            segment = self.segment(full * length, rest)
            structure, state = step(segment, state)
            trail.rest = structure
        return state, trail.outputs(structure), trail
