"""The variables from which layers draw, as dropout does.

Keras does not save them; resuming needs them. They are saved with the model's
own variables: the network's, and after them those of the method.
"""


def of(layer):
    """Those of a layer and of all in it."""
    weights = {id(v) for v in layer.weights}
    fixed = layer.non_trainable_variables
    return [v for v in fixed if id(v) not in weights]


def save(store, variables, first=0):
    """Adds seeds to what is saved, as numbers `first` and following."""
    for place, variable in enumerate(variables, first):
        store[f"running_{place}"] = variable


def load(store, variables, first=0):
    """Takes the seeds from number `first` on, where there are as many.

    Returns:
        What else was saved, a dict.
    """
    saved = {key: store[key] for key in store.keys()}
    places = range(first, first + len(variables))
    if all(f"running_{place}" in saved for place in places):
        for place, variable in zip(places, variables, strict=True):
            variable.assign(saved[f"running_{place}"])
    return {
        key: value
        for key, value in saved.items()
        if not key.startswith("running_")
    }
