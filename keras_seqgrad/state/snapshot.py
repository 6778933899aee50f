"""All that a training step reads and changes, as arrays.

What goes on from a snapshot goes on as if there had been no stop: so besides
weights and slots it has what layers and the method draw from, what the method
has learned, the rows' state, and the metrics in the middle of an epoch.
"""

# What every epoch starts anew.
OF_AN_EPOCH = ("rows", "metrics")


def groups(model):
    """The variables of a compiled `SequenceModel`, each once, by what it is."""
    kept = model.method_state
    found = {
        "weights": model.variables,
        "optimizer": model.optimizer.variables,
        "method": kept.variables,
        "optimizers of the method": kept.optimizer_variables,
        "rows": model.carried["training"].variables,
        "metrics": model.metrics_variables,
    }
    seen = set()
    for name, variables in found.items():
        found[name] = [v for v in variables if id(v) not in seen]
        seen.update(map(id, variables))
    return found


def take(model):
    """The snapshot: lists of arrays by group."""
    return {
        name: [variable.numpy() for variable in variables]
        for name, variables in groups(model).items()
    }


def restore(model, snapshot, whole=True):
    """Makes the model what it was.

    Args:
        model: The `SequenceModel`.
        snapshot: What `take` gave for a model like it.
        whole: False to leave what every epoch starts anew.

    Raises:
        ValueError: The snapshot is of another model. Nothing has changed then.
    """
    expected = {
        name: variables
        for name, variables in groups(model).items()
        if whole or name not in OF_AN_EPOCH
    }
    for name, variables in expected.items():
        shapes = [(tuple(v.shape), v.dtype) for v in variables]
        saved = [(a.shape, a.dtype.name) for a in snapshot[name]]
        if shapes != saved:
            raise ValueError(
                f"The state is that of another model, in its {name}. Expected "
                f"{told(shapes)}, received {told(saved)}."
            )
    for name, variables in expected.items():
        for variable, value in zip(variables, snapshot[name], strict=True):
            variable.assign(value)


def told(kinds):
    """Shapes and types in a line."""
    return f"{len(kinds)} variables " + ", ".join(
        f"{shape} {dtype}" for shape, dtype in kinds
    )
