"""A model whose segment function is a subclass's own."""

import keras

from keras_seqgrad.network import norming, statistics
from keras_seqgrad.ops.rnn import rnn


def call_by_steps(model, inputs, passage, training):
    """A subclass's segment, one step at a time, for gates and resets.

    Args:
        model: The `SegmentedModel`.
        inputs: Nested tensors (batch, segment, ...).
        passage: The `Passage`, which gets the state after the segment.
        training: Whether to run in training mode.
    """

    if training:
        norming.refuse(
            norming.everywhere(model),
            "Gates, resets and masks run a `call_segment` of your own step by "
            "step, in which layers would norm by single steps.",
            "Train by a method without gates, on windows without both",
        )

    def step(x, state):
        x = keras.tree.map_structure(lambda t: t[:, None], x)
        outputs, state = model.call_segment(x, state, training=training)
        outputs = _each_output(
            model, outputs, lambda o, has_time: o[:, 0] if has_time else o
        )
        return outputs, state

    outputs, passage.new_state = rnn(
        step,
        inputs,
        passage.state,
        mask=passage.mask,
        gates=passage.gates,
        reset=passage.reset,
        reset_state=passage.reset_state,
        random_state=[
            *model.running_variables,
            *statistics.variables(model),
        ],
    )
    return _each_output(
        model, outputs, lambda o, has_time: o if has_time else o[:, -1]
    )


def _each_output(model, outputs, function):
    """`function(output, has_time)` of every output, nested as they are."""
    flat = map(function, keras.tree.flatten(outputs), model.temporal_outputs)
    return keras.tree.pack_sequence_as(outputs, [*flat])


def outputs_of(model, inputs):
    """(whether each flattened output has a time axis, nested Keras tensors).

    Found by shapes: those outputs have one whose axis 1 grows with the inputs'.
    """

    def spec(steps):
        x = keras.tree.map_structure(
            lambda t: keras.KerasTensor(
                (2, steps, *t.shape[2:]),
                keras.backend.standardize_dtype(t.dtype),
            ),
            inputs,
        )
        return model.compute_output_spec(x)

    short, long = spec(3), spec(5)
    temporal = [
        a.shape[1:2] != b.shape[1:2]
        for a, b in zip(*map(keras.tree.flatten, (short, long)), strict=True)
    ]
    return temporal, short
