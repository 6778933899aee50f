"""What the docstrings of the drop-in layers say, written once."""

from keras_seqgrad.ops.documentation import filled

of_layer = filled(
    purpose="""
Takes the arguments of the Keras layer, has its weights in its order, and
gives its outputs, states and masks. Use it in place of the Keras layer
for long sequences with `jit_compile=True`, where the Keras layer's
gradient takes time that grows with the square of the length, or to train
a plain `keras.Model` with truncated gradients. A `SequenceModel` needs no
layer of this kind: it runs the layers of Keras on the same scan.
""",
    gradient="""
The gradient is exact without `truncation` and whenever `training` is
False; unbiased with `Random`; biased with `Fixed`. Truncation saves no
time here: it changes the gradient, not its cost.
""",
    arguments="""
*args: Further arguments by position, as for the Keras layer.
truncation: None for the full gradient, a number of steps or
    `ksg.truncation.Fixed(length)` for a cut after every so many
    steps, `ksg.truncation.Random(mean_length, alpha)` for random cuts
    with compensation, drawn anew for each batch and row.
""",
    use_cudnn="""
use_cudnn: "auto" or False; there is no cuDNN path. For inference on a
    GPU without XLA use the Keras layer, which has one.
""",
    call="""
Call arguments:
    sequences: (batch, time, features).
    initial_state: The tensors of the state, each (batch, units), or None
        for zeros.
    mask: Boolean (batch, time), True = valid.
    training: Whether dropout and truncation apply.

Returns:
    (batch, units), or (batch, time, units) with `return_sequences=True`;
    followed by the tensors of the state with `return_state=True`.
""",
)

of_linear_layer = filled(
    cell_purpose="""
Linear in its state, so that a whole series of inputs is one product and
one `ksg.ops.linear_scan`: so it runs in the layer, in `ksg.layers.RNN` and
in a `SequenceModel`. Called by itself it is one step.
""",
    cell_arguments="""
dropout: Share of the inputs to drop in training, the same at all
    steps.
seed: Seed of the dropout.
**kwargs: What every Keras layer takes: `name`, `dtype`, `trainable`.
""",
    cell_call="""
Call arguments:
    inputs: (batch, features).
    states: The tensors of the state.
    training: Whether dropout applies.

Returns:
    The output (batch, units) and the new state, a list.
""",
    purpose="""
A linear recurrence: gates and candidates of all steps are made in one
product, and what is left is `ksg.ops.linear_scan`. Time is linear in the
number of steps, under XLA as without it, several times less than a GRU's
where the recurrent product would dominate. Runs in a plain `keras.Model`
and, as a recurrent layer like any other, in a `SequenceModel`.
""",
    arguments="""
truncation: None for the full gradient, a number of steps or
    `ksg.truncation.Fixed(length)` for a cut after every so many
    steps, `ksg.truncation.Random(mean_length, alpha)` for random cuts
    with compensation, drawn anew for each batch and row. For a plain
    `keras.Model`.
**kwargs: Further arguments of the cell, and those of
    `keras.layers.RNN`: `return_sequences`, `return_state`,
    `go_backwards`, `stateful`, `zero_output_for_mask`.
""",
    call="""
Call arguments:
    sequences: (batch, time, features).
    initial_state: The tensors of the state, or None for zeros.
    mask: Boolean (batch, time), True = valid.
    training: Whether dropout and truncation apply.

Returns:
    (batch, units), or (batch, time, units) with `return_sequences=True`;
    followed by the tensors of the state with `return_state=True`.
""",
)
