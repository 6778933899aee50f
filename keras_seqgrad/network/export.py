"""A segmented model as functions for serving."""

import keras


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


def write_steps(model, filepath, steps, verbose):
    """Writes `initial_state` and `step`: see `Handles.export_steps`."""
    inputs = segments_of(model, steps)
    state = {
        f"state_{place}": keras.InputSpec(
            dtype, (None, *shape), name=f"state_{place}"
        )
        for place, (shape, dtype) in enumerate(model.state_spec())
    }

    def named(flat):
        return dict(zip(state, flat, strict=True))

    def initial_state(inputs):
        batch_size, _ = model.extent(inputs)
        start = model.start_state(inputs, batch_size)
        return named(keras.tree.flatten(start))

    def step(inputs, state):
        batch_size, _ = model.extent(inputs)
        # For its structure; nothing of it is run.
        nested = model.start_state(inputs, batch_size)
        flat = [state[f"state_{place}"] for place in range(len(state))]
        outputs, after = model.call_segment(
            inputs, keras.tree.pack_sequence_as(nested, flat)
        )
        outputs = keras.tree.flatten(outputs)
        if len(outputs) == 1:
            outputs = {"outputs": outputs[0]}
        else:
            outputs = {f"outputs_{k}": o for k, o in enumerate(outputs)}
        return outputs | named(keras.tree.flatten(after))

    archive = keras.export.ExportArchive()
    archive.track(model)
    # The first one is what a server calls by default.
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
    archive.write_out(filepath, verbose=verbose is not False)
