"""A segmented model as functions for serving."""

import keras

from keras_seqgrad.network import cuttable
from keras_seqgrad.network.passage import Passage, one_step
from keras_seqgrad.tensors import arguments


def remember(model, inputs):
    """Notes what a subclass is called on: nothing else declares it.

    Args:
        model: The `SegmentedModel`.
        inputs: Nested tensors (batch, time, ...).
    """
    if not model.is_opaque or "seen_inputs" in vars(model):
        return

    def spec(tensor):
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if "float" in dtype:
            # Layers under a policy of mixed precision see its lower one.
            dtype = model.variable_dtype
        return keras.InputSpec(dtype, (None, *tensor.shape[1:]))

    # Past Keras' tracking, which would change what kind of nest it is.
    vars(model)["seen_inputs"] = keras.tree.map_structure(spec, inputs)


def inputs_of(model):
    """Nested `keras.InputSpec` of the inputs of a `SegmentedModel`.

    Raises:
        ValueError: A subclass has not been called yet.
    """
    if not model.is_opaque:
        return keras.tree.map_structure(declared, model.input)
    if "seen_inputs" not in vars(model):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} does not know its inputs. "
            "Expected a model that has been called: by `fit`, `predict` or "
            "`model(x)`. Received one that has only been made or loaded. Call "
            "it once before the export."
        )
    return vars(model)["seen_inputs"]


def declared(tensor):
    """The `keras.InputSpec` of an input, for any number of rows."""
    shape = (None, *tensor.shape[1:])
    return keras.InputSpec(tensor.dtype, shape, name=tensor.name)


def segments_of(model, steps):
    """As `inputs_of`, of segments of `steps` steps, or None for any."""
    inputs = inputs_of(model)
    flat = keras.tree.flatten(inputs)
    temporal = [True for _ in flat]
    if not model.is_opaque:
        temporal = model.graph.temporal_inputs
    flat = [
        keras.InputSpec(
            spec.dtype, (None, steps, *spec.shape[2:]), name=spec.name
        )
        if has_time
        else spec
        for spec, has_time in zip(flat, temporal, strict=True)
    ]
    return keras.tree.pack_sequence_as(inputs, flat)


def plain(model):
    """What of a model other formats can be made from by plain Keras.

    Converters know the loops of Keras' layers, and not those of our scans.

    Raises:
        ValueError: Keras' layers alone do not give what the model gives.
    """
    if model.is_opaque:
        return model
    if model.initial_state_weights:
        raise ValueError(
            f"The ONNX export of {model.name!r} cannot begin sequences where "
            "it does. Expected a model that begins at zeros or computes where "
            "from an input, received one with learn_initial_state=True. Write "
            "`export_steps(filepath, steps=1)` and convert its `step`, whose "
            "state is an input."
        )
    return model.network


def write_whole(model, filepath, signature, verbose, **kwargs):
    """Writes `serve`, `step` and `initial_state`: see `Handles.export`."""
    archive = keras.export.ExportArchive()
    # The first one is what a server calls by default.
    archive.track_and_add_endpoint("serve", model, signature, **kwargs)
    if not model.compiled:
        # As `compile` does: where steps are mixed no state can be handed on.
        cuttable.check_model(model)
    if not model.judged_whole:
        add_steps(archive, model, steps=1)
    archive.write_out(filepath, verbose=verbose is not False)


def write_steps(model, filepath, steps, verbose):
    """Writes `step` and `initial_state`: see `Handles.export_steps`."""
    if steps is not None:
        steps = arguments.positive_integer(steps, "steps")
    if not model.compiled:
        cuttable.check_model(model)
    model.refuse_whole(
        "Steps are exported with the state after them.", "Write `export`"
    )
    archive = keras.export.ExportArchive()
    archive.track(model)
    add_steps(archive, model, steps)
    archive.write_out(filepath, verbose=verbose is not False)


def add_steps(archive, model, steps):
    """Adds what takes the state in and gives it out.

    Args:
        archive: The `keras.export.ExportArchive`.
        model: The `SegmentedModel`.
        steps: Number of steps of a call; None for any.

    Raises:
        ValueError: The model cannot be cut in time, does not run on any
            number of steps, or has an input named as a state is.
    """
    inputs, state = segments_of(model, steps), state_of(model)
    refuse_names(inputs, state)

    def named(nested):
        return dict(zip(state, flat_state(model, nested), strict=True))

    def initial_state(inputs):
        batch_size, _ = model.extent(inputs)
        return named(model.start_state(inputs, batch_size))

    def step(inputs, state):
        batch_size, _ = model.extent(inputs)
        # For its structure; nothing of it is run.
        like = model.start_state(inputs, batch_size)
        flat = [state[f"state_{place}"] for place in range(len(state))]
        outputs, after = run(
            model, inputs, nested_state(model, flat, like), steps
        )
        outputs = keras.tree.flatten(outputs)
        if len(outputs) == 1:
            outputs = {"outputs": outputs[0]}
        else:
            outputs = {f"outputs_{k}": o for k, o in enumerate(outputs)}
        return outputs | named(after)

    traced = archive.add_endpoint("step", step, [inputs, state])
    archive.add_endpoint("initial_state", initial_state, [inputs])
    try:
        traced.get_concrete_function()
    except Exception as error:
        if not model.is_opaque or steps is not None:
            raise
        raise ValueError(
            f"The `call_segment` of {type(model).__name__} does not run on a "
            "number of steps that is not known. Expected one that does, or a "
            "number: export_steps(filepath, steps=1). Received steps=None. "
            f"The subclass's own error: {error}"
        ) from error


def run(model, inputs, state, steps):
    """`call_segment`, without a loop where it is one step of a network."""
    if model.is_opaque or steps != 1:
        return model.call_segment(inputs, state)
    with Passage(state, scan=one_step).open() as passage:
        outputs = model.graph.model(inputs, training=False)
    return outputs, passage.new_state


# --- the state by numbers --------------------------------------------------


def state_of(model):
    """`keras.InputSpec` of each state tensor, by "state_0" and so on."""
    one = model.initial_state(1) if model.is_opaque else None
    start = model.graph.zero_state(1) if one is None else one
    return {
        f"state_{place}": keras.InputSpec(
            leaf.dtype.name, (None, *leaf.shape[1:]), name=f"state_{place}"
        )
        for place, leaf in enumerate(flat_state(model, start))
    }


def flat_state(model, nested):
    """State tensors in the order in which the network has its layers.

    Flattened by themselves they would be sorted by the names that Keras
    counts up: another order in another process.
    """
    if model.is_opaque:
        return keras.tree.flatten(nested)
    return [
        leaf
        for key in model.graph.nodes
        for leaf in keras.tree.flatten(nested[key])
    ]


def nested_state(model, flat, like):
    """`flat_state` undone: nested as `like` is."""
    if model.is_opaque:
        return keras.tree.pack_sequence_as(like, flat)
    rest, nested = iter(flat), {}
    for key in model.graph.nodes:
        own = [next(rest) for _ in keras.tree.flatten(like[key])]
        nested[key] = keras.tree.pack_sequence_as(like[key], own)
    return nested


def refuse_names(inputs, state):
    """Refuses an input that is named as a state is."""
    for spec in keras.tree.flatten(inputs):
        if spec.name in state:
            raise ValueError(
                f"An input is named {spec.name!r}, as a state of the exported "
                "`step` is. Expected another name; write "
                'keras.Input(..., name="x").'
            )
