"""How inputs and outputs of a model are nested, and what axes they have."""


def written_as(structure, names):
    if structure == "single":
        return names[0]
    if structure == "list":
        return f"[{', '.join(names)}]"
    return "{" + ", ".join(f"{n!r}: {n}" for n in names) + "}"


def arranged(structure, names, values):
    """Values in a structure, as `written_as` writes it."""
    if structure == "single":
        return values[0]
    if structure == "list":
        return list(values)
    return dict(zip(names, values, strict=True))


def read_at(source, tensor):
    """What is read at several places a row or a step, and the axis of these."""
    # Keras cannot multiply the mask of a step with the losses of several.
    if tensor.masked or not source.chance(0.2):
        return tensor.name, ()
    shape = "(-1, 3, 2)" if tensor.timed else "(3, 2)"
    return source.add(f"L.Reshape({shape})(L.Dense(6)({tensor.name}))"), (3,)
