"""Which variables a piece of a graph may change, by its operations."""

import tensorflow as tf

# What only reads a variable; of what is not known here, nothing is known.
READS = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
READS |= {"VariableShape", "LookupTableFindV2", "LookupTableSizeV2"}
ASSIGNS = {"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}


def mark():
    """A place in the graph that is being made; None where there is none."""
    if tf.executing_eagerly():
        return None
    return len(tf.compat.v1.get_default_graph().get_operations())


def moving(place, variables, *values):
    """Of variables those that operations since a place may change.

    All, where it is not known: in eager mode, and behind what hides its
    operations, as a function in the graph does. Of an assignment its value is
    seen, and so of what dtype and shape its variable is.

    Args:
        place: What `mark` gave.
        variables: The variables.
        *values: Lists of what belongs to each of them.

    Returns:
        [variables, *values], of those alone.
    """
    rows = zip(variables, *values, strict=True)
    assigned = None if place is None else _assigned(place)
    if assigned is not None:
        rows = [row for row in rows if _is_among(row[0], assigned)]
    return [list(each) for each in zip(*rows, strict=True)] or [
        [] for _ in [variables, *values]
    ]


def _assigned(place):
    """(dtype, shape) of what was assigned since then; None if not known."""
    found = []
    graph = tf.compat.v1.get_default_graph()
    for operation in graph.get_operations()[place:]:
        if operation.type in ASSIGNS:
            value = operation.inputs[1]
            found.append((value.dtype, value.shape))
        elif operation.type not in READS and any(
            given.dtype in (tf.resource, tf.variant)
            for given in operation.inputs
        ):
            return None
    return found


def _is_among(variable, assigned):
    return any(
        dtype == tf.as_dtype(variable.dtype)
        and shape.is_compatible_with(variable.shape)
        for dtype, shape in assigned
    )
