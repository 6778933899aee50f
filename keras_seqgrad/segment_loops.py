"""The loops over the segments of a window."""

from keras_seqgrad import loops


class SegmentLoops:
    """What a `Window` can do with all of its segments, one after another."""

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
        """`each_segment` that also enters targets of the sequence in metrics.

        Their metrics need the outputs of all segments together.
        """
        if self.all_steps:
            return self.each_segment(length, step, state)
        restore = self.keep_output_losses()
        state, outputs, _ = self.each_segment_kept(length, step, state)
        self.refuse_added_losses()
        # Keras entered the loss of each output once a segment, the last one's
        # among zeros; once for the window is right.
        restore()
        self.loss(self.whole(), outputs)
        self.record_metrics(self.whole(), outputs)
        return state

    def each_segment_kept(
        self, length, step, state, beside=list, keep_outputs=True
    ):
        """`each_segment` that leaves a trail.

        Args:
            length: As for `each_segment`; so are `step` and `state`.
            beside: Function () -> list of tensors to keep from before each
                segment beside the state.
            keep_outputs: False for a `step` without outputs, [].

        Returns:
            (state after the last segment, outputs of the window, `Trail`).
        """
        full, rest = loops.divide(self.steps, length)
        specs = self.model.output_specs if keep_outputs else []
        temporal = self.model.temporal_outputs if keep_outputs else []
        trail = loops.Trail(
            temporal,
            [
                ([self.batch_size, length, *spec.shape[2:]], spec.dtype)
                if has_time
                else ([self.batch_size, *spec.shape[1:]], spec.dtype)
                for spec, has_time in zip(specs, temporal, strict=True)
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
