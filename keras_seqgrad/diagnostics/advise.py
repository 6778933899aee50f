"""Which method and length fit a model, its data and the memory there is."""

import dataclasses
import math
import re
from typing import Any

import keras

from keras_seqgrad import methods
from keras_seqgrad.diagnostics import given, size
from keras_seqgrad.diagnostics.compare import compare_gradients
from keras_seqgrad.diagnostics.influence import influence_profile
from keras_seqgrad.diagnostics.profile import (
    check_tolerance,
    suggest_truncation_length,
)
from keras_seqgrad.diagnostics.steps import ALL, extent, layer_names
from keras_seqgrad.model import SequenceModel
from keras_seqgrad.tensors import arguments

WHOLE = "network"


@dataclasses.dataclass
class Advice:
    """A method, and why. What `advise` returns.

    Not made by hand. Prints in at most ten lines.

    Args:
        method: The `ksg.methods.Method` to compile the model with.
        reason: Why, in a sentence.
        numbers: Dict of the numbers that decided, as `advise` says.

    Example:

    >>> advice = ksg.diagnostics.Advice(ksg.methods.BPTT(), "It fits.", {})
    >>> advice.length is None
    True
    """

    method: methods.Method
    reason: str
    numbers: dict

    @property
    def length(self) -> int | None:
        """Steps from one cut to the next, or None where nothing is cut."""
        return self.method.length

    def to_dict(self) -> dict[str, Any]:
        """Strings and numbers, fit for JSON."""
        return {
            "method": repr(self.method),
            "length": self.length,
            "reason": self.reason,
            **self.numbers,
        }

    def __str__(self):
        """At most ten lines."""
        return "\n".join([*told(self.numbers), *self._said()])

    def _said(self):
        return [f"advice      {self.method!r}", f"because     {self.reason}"]


def advise(
    model: SequenceModel,
    x: Any,
    y: Any,
    memory: float | None = None,
    sample_weight: Any = None,
    tolerance: float = 0.1,
    verbose: bool = True,
) -> Advice:
    """Advises a training method by what is measured on one window.

    Measures how far back losses reach (`influence_profile`), estimates what a
    window takes of memory, tries whether `SnAp` knows the recurrent layers,
    and where truncation looks good enough compares its gradient with the exact
    one. Then, the first that holds:

        the influence dies within half of the window or less, there is a
        target at every step, and the measured bias is tolerable
                                            TruncatedBPTT(K), K that length
        the influence dies within the window, or nothing is carried into it,
        and all of it fits the memory       BPTT()
        as before, with checkpoints         BPTT(checkpoint_every="auto")
        one target a sequence, the influence dies within what fits, and the
        measured bias is tolerable          TruncatedBPTT(K), K that length
        SnAp knows all recurrent layers, and fits
                                            SnAp(K), K the longest that fits
        else                                TruncatedBPTT(K), likewise

    Use it before a long training, and again when the model has learned
    something: it speaks of the present weights, and a model that has learned
    nothing shows its initialisation. It prefers an update every few steps to
    an exact gradient a window wherever the bias allows; whether that is what
    your task needs only a training tells. Nothing changes, nothing is drawn.

    Args:
        model: A compiled `SequenceModel` made of layers.
        x: Inputs of one window, as `fit` takes them for one batch.
        y: Targets.
        memory: Bytes that a training step may take, by estimate; None for half
            of the machine's memory.
        sample_weight: Weights, or None.
        tolerance: Relative bias that is small enough, above 0 and below 1.
        verbose: Whether to print the advice.

    Returns:
        `Advice`, with `numbers`:

        * parameters, rows, steps, stateful, one_target (whether the last step
          alone has a loss), one_update (whether a window has one, in all
          methods), tolerance, memory
        * decay_rate of the influence from lag to lag; suggested_length by
          `suggest_truncation_length`, or None if the influence does not fall
        * bytes of the window, bytes_checkpointed, bytes_a_step of a segment,
          bytes_of_traces of SnAp, longest_that_fits
        * measured_bias: of `TruncatedBPTT` by length, as compared
        * snap: None, or why SnAp does not know the model

    Raises:
        ValueError: The model is not compiled or is a subclass with its own
            `call_segment`, the window has a single step, an argument is out of
            its range, or not one step fits the memory.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.GRU(2, return_sequences=True),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((3, 12, 1)), np.ones((3, 12, 2))
    >>> advice = ksg.diagnostics.advise(model, x, y, verbose=False)
    >>> len(str(advice).splitlines()) <= 10
    True
    """
    tolerance = check_tolerance(tolerance)
    arguments.flag(verbose, "verbose")
    if memory is not None:
        memory = arguments.number(memory, "memory", above=0)
    given.check_model(model)
    layer_names(model)
    x, y, sample_weight = given.window(model, x, y, sample_weight)
    numbers = measured(model, x, y, memory, sample_weight, tolerance)
    method, reason = chosen(model, (x, y, sample_weight), numbers)
    advice = Advice(method, reason, numbers)
    if verbose:
        print(advice)
    return advice


def measured(model, x, y, memory, sample_weight, tolerance):
    """The numbers that cost one look at the window."""
    rows, steps = extent(model, x)
    if steps < 2:
        raise ValueError(
            "In a window of a single step nothing reaches back. Expected 2 "
            f"steps or more, received {steps}."
        )
    has_head = model.network_head is not None
    one_target = not (has_head or any(model.temporal_outputs))
    lag = steps - 1 if one_target else steps // 2
    profile = influence_profile(model, x, y, lag, sample_weight)
    rate = profile.decay_rates[ALL]
    length = None
    if rate < 1.0:
        length = suggest_truncation_length(
            profile, tolerance, 1 if one_target else None
        )
    return {
        "parameters": size.parameters(model),
        "rows": rows,
        "steps": steps,
        "stateful": model.stateful,
        "one_target": one_target,
        "one_update": one_target or has_head,
        "tolerance": tolerance,
        "decay_rate": rate,
        "suggested_length": length,
        **in_bytes(model, rows, steps, memory),
        "measured_bias": {},
        "snap": why_no_traces(model),
    }


def in_bytes(model, rows, steps, memory):
    """What windows and segments take, and the memory there is."""
    memory = size.half_of_memory() if memory is None else memory
    step = size.step_bytes(model, rows)
    # Weights, gradients, and two slots of an optimizer.
    fixed = 4 * size.FLOAT * size.parameters(model)
    state = size.FLOAT * rows * state_units(model)
    root = round(steps**0.5)
    longest = int((memory - fixed) // step)
    if longest < 1:
        raise ValueError(
            f"Not one step fits: {rows} rows take about {fixed + step:.2g} "
            f"bytes with the weights. Expected at most memory={memory:.2g}. "
            "Give fewer rows, or more memory."
        )
    return {
        "memory": int(memory),
        "bytes": fixed + steps * step,
        "bytes_checkpointed": fixed + root * step + (steps // root) * state,
        "bytes_a_step": step,
        "bytes_of_traces": trace_bytes(model, rows),
        "longest_that_fits": longest,
    }


def state_units(model):
    """Numbers of a row's state."""
    return sum(math.prod(shape) for shape, _ in model.state_spec())


def trace_bytes(model, rows):
    """One number for each row, recurrent weight and state tensor."""
    total = 0
    for node in model.graph.nodes.values():
        cell = node.held[0].cell
        weights = sum(math.prod(v.shape) for v in cell.trainable_variables)
        total += weights * len(keras.tree.flatten(cell.state_size))
    return size.FLOAT * rows * total


def why_no_traces(model):
    """None if SnAp knows the model; else what it says."""
    try:
        methods.SnAp(1).check(model)
    except ValueError as error:
        return str(error)
    return None


def chosen(model, data, numbers):
    """(method, reason) by the rule that `advise` states."""
    steps, length = numbers["steps"], numbers["suggested_length"]
    fits = numbers["longest_that_fits"]
    died = length is not None and length <= steps
    enough = f"what it cuts off is {numbers['tolerance']:.0%} or less"
    if died and not numbers["one_update"]:
        short = tolerable(model, data, numbers, min(steps // 2, fits))
        if short is not None:
            return methods.TruncatedBPTT(short), (
                f"{enough}, and there are more updates a window."
            )
    if died or not numbers["stateful"]:
        if numbers["bytes"] <= numbers["memory"]:
            return methods.BPTT(), "the window holds what counts, and fits."
        if numbers["bytes_checkpointed"] <= numbers["memory"]:
            return methods.BPTT("auto"), (
                "the window holds what counts, and fits with checkpoints."
            )
    if died and numbers["one_update"]:
        short = tolerable(model, data, numbers, min(steps, fits))
        if short is not None:
            return methods.TruncatedBPTT(short), f"{enough}, and it fits."
    spare = numbers["memory"] - numbers["bytes_of_traces"]
    spare -= numbers["bytes"] - steps * numbers["bytes_a_step"]
    traced = int(min(spare // numbers["bytes_a_step"], steps))
    why = (
        "the influence reaches beyond what fits"
        if fits < steps
        else ("the influence reaches beyond the window")
    )
    if numbers["snap"] is None and traced >= 1:
        return methods.SnAp(traced), f"{why}, and traces carry it on."
    return methods.TruncatedBPTT(min(fits, steps)), (
        f"{why}, and SnAp has no rule or no room: this one is biased."
    )


def tolerable(model, data, numbers, longest):
    """The shortest length, of the one suggested doubled, that proves right.

    What is measured is entered under `measured_bias`.
    """
    x, y, sample_weight = data
    length = numbers["suggested_length"]
    while length <= longest:
        found = compare_gradients(
            model,
            x,
            y,
            {WHOLE: methods.TruncatedBPTT(length)},
            repeats=3,
            sample_weight=sample_weight,
            groups=lambda variable: WHOLE,
        )
        bias = float(found[WHOLE].relative_bias)
        numbers["measured_bias"][length] = bias
        if bias <= numbers["tolerance"]:
            return length
        length *= 2
    return None


def told(numbers):
    """The numbers in at most eight lines."""
    n = numbers
    carried = "carried" if n["stateful"] else "not carried"
    target = "one target" if n["one_target"] else "targets at steps"
    if n["one_update"] and not n["one_target"]:
        target = "judged as a whole"
    length = n["suggested_length"]
    dies = (
        "which does not fall"
        if length is None
        else (f"{n['tolerance']:.0%} or less lie beyond {length} steps")
    )
    lines = [
        f"model       {n['parameters']:,} parameters, state {carried}",
        f"window      {n['rows']} rows, {n['steps']} steps, {target}",
        f"influence   × {n['decay_rate']:.3g} a step; {dies}",
        f"memory      {shown(n['memory'])}: {n['longest_that_fits']:,} steps",
        f"the window  {shown(n['bytes'])}; "
        f"with checkpoints {shown(n['bytes_checkpointed'])}",
        "SnAp        "
        + (
            f"traces of {shown(n['bytes_of_traces'])}"
            if n["snap"] is None
            else "has no rule: " + re.split("[.:] ", n["snap"])[0]
        ),
    ]
    if n["measured_bias"]:
        found = ", ".join(
            f"{bias:.3g} at {length}"
            for length, bias in n["measured_bias"].items()
        )
        lines.append(f"measured    bias of TruncatedBPTT {found}")
    return lines


def shown(count):
    """Bytes in a word or two."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
