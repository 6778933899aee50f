"""What the docstrings of all fast scans say, written once."""

import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

Documented = TypeVar("Documented")

PURPOSE = """
What `keras.layers.LAYER` computes, from the same weights, in time linear in
the number of steps under XLA as without it. Use it where you hold weights and
state yourself; `ksg.layers.LAYER` is the layer. Not for activations other than
those below or recurrent dropout: those are `ksg.ops.rnn` over a cell.
"""
GRADIENT = """
The gradient is exact where `gates` is None or all ones; otherwise the
gradient of the state on its way from step t to the state before it is
multiplied by gates[t]. First derivatives only.
"""
INPUTS = """
inputs: (batch, time, features), any floating dtype; the computation
    runs in it.
"""
LINKS = """
mask: bool (batch, time). Where False, the row's state passes
    unchanged, the output repeats h, and the inputs may be NaN.
gates: Float (time,) or (batch, time): factors of the gradient that
    crosses from step t to the state before it; gates[0] is the link
    to `state`. No effect on the forward pass, no gradient.
reset: bool (batch, time). Where True, the row's state is replaced by
    `reset_state` before the step, masked or not; its gradient goes
    there, whatever the gate, and nothing goes further back.
reset_state: A list like `state`; None means zeros.
twin: [inputs, *state] once more, or None. With it all results are
    returned once more, as their twins. A gradient of the twins goes
    back to `twin` alone, in one scan with the gradient of the results.
"""
RESULTS = """
Returns:
    Outputs (batch, time, units) and the last state, a list like `state`;
    with `twin` followed by their twins, the same again.

Raises:
    ValueError: A shape or a setting does not fit, or `reset_state` comes
        without `reset`.
    TypeError: A dtype does not fit.
"""


def filled(**texts: str) -> Callable[[Documented], Documented]:
    """Decorator that puts `texts` where a docstring has a line `{name}`."""

    def text(line):
        return textwrap.indent(texts[line["name"]].strip(), line["indent"])

    def fill(documented: Documented) -> Documented:
        # Python may run without docstrings.
        if documented.__doc__:
            documented.__doc__ = re.sub(
                r"^(?P<indent> *)\{(?P<name>\w+)\}$",
                text,
                documented.__doc__,
                flags=re.MULTILINE,
            )
        return documented

    return fill


def of_fast_scan(layer: str) -> Callable[[Documented], Documented]:
    """`filled` for the public function that serves the layer of that name."""
    return filled(
        purpose=PURPOSE.replace("LAYER", layer),
        gradient=GRADIENT,
        inputs=INPUTS,
        links=LINKS,
        results=RESULTS,
    )
