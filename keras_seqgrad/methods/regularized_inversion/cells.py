"""Which cells have rules, and how those that have none are refused."""

import keras

from keras_seqgrad.layers.scan import uses_fast_scan
from keras_seqgrad.methods.regularized_inversion import gru, simple_rnn
from keras_seqgrad.ops import activations
from keras_seqgrad.ops.fast_cell import gated_names

PROPAGATIONS = (*simple_rnn.RULES, "learned")
SIMPLE, GATED = keras.layers.SimpleRNNCell, keras.layers.GRUCell
NAMES = ("keras.layers.SimpleRNN", "keras.layers.GRU")


def distinct(layers):
    """Their cells in order; a layer may be called more than once."""
    return list({id(layer.cell): layer.cell for layer in layers}.values())


def activation_of(cell):
    """Name of the activation that `h` of a cell has passed."""
    if type(cell) is GATED:
        return "tanh"
    return activations.name_of(cell.activation)


def is_known(cell):
    """Whether the rule knows the activations of a cell, and its `call`."""
    if not uses_fast_scan(cell, training=False):
        return False
    if type(cell) is GATED:
        return gated_names(cell) == ["tanh", "sigmoid"]
    return activation_of(cell) in simple_rnn.INVERSES


def said_of(cell):
    """The activations of a cell, as its arguments."""
    names = ["activation", "recurrent_activation"]
    return ", ".join(
        f"{name}={keras.activations.serialize(getattr(cell, name))!r}"
        for name in names
        if hasattr(cell, name)
    )


def rules_of(cell):
    """The written rules of a cell, by name."""
    return simple_rnn.RULES if type(cell) is SIMPLE else gru.RULES


def refuse(cell, name, propagation):
    """Refuses a layer for whose cell there is no rule."""
    kind = type(cell).__name__
    if type(cell) not in (SIMPLE, GATED):
        reason = (
            "it has two states, of which the rule sets a target for one"
            if type(cell) is keras.layers.LSTMCell
            else "its step is not known to the rule"
        )
        raise ValueError(
            f"Layer {name!r} ({kind}) has no regularised inverse: {reason}. "
            f"Expected {' or '.join(NAMES)}, or another method, as "
            f"ksg.methods.BPTT(). Received: {kind}"
        )
    if not is_known(cell):
        raise ValueError(
            f"Layer {name!r} ({kind}) needs an activation that the rule knows: "
            f"{', '.join(simple_rnn.INVERSES)} for SimpleRNN, those "
            f"of its defaults for GRU. Received: {said_of(cell)}"
        )
    if cell.recurrent_dropout:
        raise ValueError(
            f"Layer {name!r} has recurrent_dropout={cell.recurrent_dropout}, "
            "which changes the step that is to be inverted from window to "
            "window. Leave it out."
        )
    if propagation != "learned" and propagation not in rules_of(cell):
        raise ValueError(
            f"Layer {name!r} ({kind}) has no propagation={propagation!r}: "
            "its step has no inverse in closed form. Write one of "
            f"{(*rules_of(cell), 'learned')}."
        )
    needs_inputs = type(cell) is GATED or propagation == "none"
    if cell.dropout and needs_inputs and propagation != "learned":
        raise ValueError(
            f"Layer {name!r} has dropout={cell.dropout}, and the rule needs "
            "the inputs that the step has seen. Put a keras.layers.Dropout "
            "before the layer instead."
        )
