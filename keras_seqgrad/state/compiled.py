"""How a compiled `SequenceModel` says what it was compiled with.

A file says it, and whoever loads the file must get it back, or an error.
"""

import keras


def describe(model):
    """What Keras' own description of `compile` does not say.

    Raises:
        ValueError: A function among the method's settings could be saved and
            not be loaded.
    """
    for name, value in model.method.get_config().items():
        if callable(value) and not hasattr(value, "get_config"):
            check_function(name, value)
    return {
        "method": keras.saving.serialize_keras_object(model.method),
        "stateful": model.stateful,
        "on_bad_window": model.guard.choice,
    }


def check_function(name, function):
    """Refuses a function that is found by no name."""
    shown = getattr(function, "__qualname__", repr(function))
    found = None
    if hasattr(function, "__name__"):
        registered = keras.saving.get_registered_name(function)
        found = keras.saving.get_registered_object(registered)
    if found is not function:
        raise ValueError(
            f"A file can name a function, and not hold it. Expected in {name} "
            "one that is registered: def it at the top of a module, under "
            '@keras.saving.register_keras_serializable("my_package"). '
            f"Received: {name}={shown}, which no file could be loaded with."
        )


def check(config, model):
    """Refuses what cannot be what a `SequenceModel` was compiled with.

    Args:
        config: What was saved, as `compile` takes it and with what `describe`
            has added.
        model: The model that was loaded.

    Returns:
        The config, as `compile` takes it.
    """
    if "method" not in config:
        raise ValueError(
            "The file does not say by which method its model was trained. "
            "Expected the entry 'method' in its compile config, as "
            "SequenceModel writes it, received only "
            f"{sorted(config)}. Load it with compile=False, and compile it."
        )
    # Older files do not say it twice.
    stateful = config.pop("stateful", model.stateful)
    if stateful is not model.stateful:
        raise ValueError(
            "The file contradicts itself. Expected in the model's config "
            f"stateful={stateful}, which it was compiled with, received "
            f"stateful={model.stateful}."
        )
    return config
