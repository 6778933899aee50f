"""The shapes that inputs, targets and weights of a model may have.

Each function refuses what cannot be right alone, and gives what must have the
steps of the window.
"""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import masks
from keras_seqgrad.window import per_step
from keras_seqgrad.window.by_output import by_output
from keras_seqgrad.window.timed import (
    Timed,
    named,
    rank,
    refuse_ragged,
    said,
    wanted,
)

COMPANIONS = '{"inputs": x, "reset": reset, "mask": mask}'


def inputs_of(model, x, where=""):
    """Refuses inputs that the model cannot take.

    Returns:
        (label of the first input with time, its steps or None, what else
        must have as many).
    """
    for label, leaf in named(where + "x", x):
        refuse_ragged(label, leaf)
    arranged = model.arranged(x)
    given, reset, mask = masks.split(arranged)
    has_companions = arranged is x and given is not x
    inputs = named(where + ("x['inputs']" if has_companions else "x"), given)
    if arranged is not x and not isinstance(given, dict):
        taken = keras.tree.flatten(model.graph.original.input)
        inputs = [
            (f"{where}x[{tensor.name!r}]", leaf)
            for tensor, (_, leaf) in zip(taken, inputs, strict=True)
        ]
    temporal = [True] * len(inputs)
    if not model.is_opaque:
        temporal = model.graph.temporal_inputs
        specs = keras.tree.flatten(model.graph.inputs)
        _refuse_count(inputs, specs, where + "x")
        for (label, leaf), spec, has_time in zip(
            inputs, specs, temporal, strict=True
        ):
            _refuse_rank(label, leaf, spec.shape, has_time)
    with_time = [
        pair
        for pair, has_time in zip(inputs, temporal, strict=True)
        if has_time
    ]
    first, leaf = with_time[0]
    if rank(leaf) is None:
        raise ValueError(
            f"`{first}` has an unknown number of axes. Expected (batch, time, "
            "...), of any sizes: give them to the dataset as its "
            "output_signature, or by ensure_shape."
        )
    if rank(leaf) < 2:
        raise ValueError(
            f"`{first}` has no time axis. Expected (batch, time, ...), "
            f"received {said(leaf)}."
        )
    steps = leaf.shape[1]
    if steps == 0:
        raise ValueError(
            f"`{first}` has no time steps. Expected (batch, time, ...) with a "
            f"time of 1 or more, received {said(leaf)}."
        )
    advice = (
        "An input with a time axis has the steps of the first; one that is "
        "the same at all steps is declared as keras.Input((1, ...))."
    )
    timed = [Timed(label, leaf, advice) for label, leaf in with_time[1:]]
    for name, leaf in (("reset", reset), ("mask", mask)):
        if leaf is None:
            continue
        advice = f"Expected a boolean {wanted(steps, [])}."
        label = f"{where}x[{name!r}]"
        if rank(leaf) != 2:
            raise ValueError(
                f"`{label}` must have a value for every step of every row. "
                f"{advice} "
                f"Received: {said(leaf)}"
            )
        if tf.as_dtype(leaf.dtype).is_floating:
            raise ValueError(
                f"`{label}` says of every step whether or not. {advice} "
                f"Received: dtype {tf.as_dtype(leaf.dtype).name}. Give it as "
                f"{name} > 0.5, or weights of steps as sample_weight."
            )
        timed.append(Timed(label, leaf, advice))
    return first, steps, timed


def _refuse_count(inputs, specs, name):
    """Refuses another number of inputs than the model has."""
    if len(inputs) == len(specs):
        return
    hint = f"Masks and resets go beside them in a dict: {COMPANIONS}."
    if len(specs) == 1 and len(inputs) > 2:
        hint = "Many sequences are one array (batch, time, ...), padded."
    raise ValueError(
        f"`{name}` must hold {len(specs)} inputs, those of the model. "
        f"Received {len(inputs)}, of the shapes "
        f"{[said(leaf) for _, leaf in inputs[:4]]}. {hint}"
    )


def _refuse_rank(label, leaf, expected, has_time):
    """Refuses another number of axes, unless Keras mends it itself."""
    if rank(leaf) is None:
        return
    surplus = rank(leaf) - len(expected)
    mended = (surplus == 1 and leaf.shape[-1] == 1) or (
        surplus == -1 and expected[-1] == 1
    )
    if surplus and not mended:
        shape = tuple(expected)
        if has_time:
            shape = wanted(None, expected[2:])
        raise ValueError(
            f"`{label}` must have {len(expected)} axes. Expected {shape}, "
            f"received {said(leaf)}. A sequence of single numbers has a last "
            "axis of 1 (x[..., None]), a single sequence a first one "
            "(x[None]), and the elements of a dataset are batches."
        )


def targets_of(model, y, steps, trains, where=""):
    """Refuses targets that the losses or the method cannot take.

    Returns:
        Targets that must have the steps of the window.
    """
    cuts = trains and model.method is not None and model.method.cuts_targets
    cuts = cuts and model.network_head is None
    labels = {id(leaf): label for label, leaf in named(where + "y", y)}
    timed = []
    for target, losses, has_time, output in zip(
        by_output(y, model),
        per_step.losses_of(model),
        model.temporal_outputs,
        model.output_specs,
        strict=True,
    ):
        if target is None or not hasattr(target, "shape"):
            continue
        label = labels[id(target)]
        refuse_ragged(label, target)
        if not (has_time and rank(target)):
            continue
        single = per_step.is_per_step(losses, target, output)
        if single is False and cuts:
            _refuse_cut(label, losses, model.method)
        if single is False:
            continue
        _refuse_timeless(label, target, losses, single, output, steps)
        if rank(target) > 1 and (single or cuts):
            advice = (
                "An output with a time axis has a target for every step of "
                "the inputs: pad or cut both to one length."
            )
            timed.append(Timed(label, target, advice, may_be_one=True))
    return timed


def _refuse_cut(label, losses, method):
    names = [
        str(getattr(each, "name", getattr(each, "__name__", each)))
        for each in losses
    ]
    raise ValueError(
        f"`{label}`: the loss {', '.join(names)} judges a sequence as a whole "
        f"and not its steps one by one, and {method!r} takes the loss of each "
        "segment by itself. Train with ksg.methods.BPTT() or "
        "ksg.methods.ARTBP(...), which take that of the window, or let the "
        "loss give a value for each step, (batch, time), and no sum over "
        "them; their sum is that of a keras.losses.Loss with such a `call` "
        'and reduction="sum".'
    )


def _refuse_timeless(label, target, losses, single, output, steps):
    """Refuses targets without a time axis of an output that has one."""
    if not losses:
        return
    fails = single is None and rank(target) < len(output.shape)
    timeless = rank(target) == 1 and (
        fails or per_step.mixes_rows(losses, target, output)
    )
    if timeless or (fails and target.shape[1] not in (steps, None)):
        raise ValueError(
            f"`{label}` has no time axis, and the output has one. Expected "
            f"{wanted(steps, output.shape[2:])}, received {said(target)}. For "
            "one target a sequence the last recurrent layer has "
            "return_sequences=False."
        )


def weights_of(model, sample_weight, steps, where=""):
    """Refuses weights of a time axis that the output lacks.

    Returns:
        Weights that must have the steps of the window.
    """
    pairs = named(where + "sample_weight", sample_weight)
    labels = {id(leaf): label for label, leaf in pairs}
    temporal = model.temporal_outputs
    weights = by_output(sample_weight, model, shared=True)
    timed = []
    for weight, has_time, output in zip(
        weights, temporal, model.output_specs, strict=True
    ):
        if weight is None or not rank(weight):
            continue
        label = labels[id(weight)]
        refuse_ragged(label, weight)
        if rank(weight) < 2:
            continue
        if has_time:
            advice = (
                f"Expected {wanted(steps, [])}, or (batch,) for one weight a "
                "sequence."
            )
            timed.append(Timed(label, weight, advice, may_be_one=True))
        elif len(output.shape) == 2 and weight.shape[1] not in (
            1, None, output.shape[1],
        ):  # fmt: skip
            raise ValueError(
                f"`{label}` has a time axis, and the output has none. "
                f"Expected (batch,), received {said(weight)}."
            )
    return timed
