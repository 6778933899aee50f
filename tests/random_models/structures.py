"""How inputs and outputs of a model are nested."""


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
