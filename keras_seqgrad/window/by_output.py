"""What belongs to which output of a model.

Targets, sample weights and losses come as one thing, in a list in the order of
the outputs or of those alone that have a loss, or in a dict by output name. A
model whose outputs are a dict has its keys for names.
"""

import keras


def paths_of(model):
    """Where each flattened output is found by name; empty without names."""
    nested = model.nested_outputs
    if isinstance(nested, dict):
        return [path for path, _ in keras.tree.flatten_with_path(nested)]
    return [(name,) for name in model.output_names or ()]


def places(structure, model):
    """The place of the output that each leaf belongs to.

    Args:
        structure: Targets or weights, nested.
        model: The compiled model.

    Returns:
        An index for each leaf of the flattened `structure`; None for a leaf
        of no single output.
    """
    pairs = keras.tree.flatten_with_path(structure)
    paths, count = paths_of(model), len(model.temporal_outputs)
    named = [paths.index(path) if path in paths else None for path, _ in pairs]
    if isinstance(structure, dict) and named != [None] * len(pairs):
        return named
    if len(pairs) == count:
        return list(range(count))
    # Keras takes targets of those outputs alone that have a loss.
    trained = [place for place, has in enumerate(losses_of(model)) if has]
    return trained if len(pairs) == len(trained) else [None] * len(pairs)


def by_output(structure, model, shared=False):
    """A target or weight for each flattened output, None where it has none.

    Args:
        structure: Targets or weights, nested, or None.
        model: The compiled model.
        shared: Whether a single one belongs to all outputs, as a sample
            weight does.
    """
    leaves, count = keras.tree.flatten(structure), len(model.temporal_outputs)
    if shared and len(leaves) == 1 and not isinstance(structure, dict):
        return leaves * count
    found = [None] * count
    for leaf, place in zip(leaves, places(structure, model), strict=True):
        if place is not None:
            found[place] = leaf
    return found


def of_leaves(values, structure, model):
    """The value of its output for each leaf of targets or weights.

    Args:
        values: A boolean for each flattened output.
        structure: Targets or weights, nested.
        model: The compiled model.

    Returns:
        A boolean for each leaf; of no single output, whether any is True.
    """
    return [
        any(values) if place is None else values[place]
        for place in places(structure, model)
    ]


def losses_of(model):
    """The compiled losses of each flattened output, a list for each."""
    loss, count = getattr(model, "loss", None), len(model.temporal_outputs)
    if isinstance(loss, dict):
        names = [path[0] for path in paths_of(model)] or sorted(loss)
        given = [loss.get(name) for name in names]
    elif isinstance(loss, (list, tuple)) and len(loss) == count:
        given = loss
    else:
        given = [loss] * count
    if len(given) != count:
        given = [None] * count
    return [
        [each for each in keras.tree.flatten(one) if each is not None]
        for one in given
    ]


def weights_of_losses(model):
    """The weight of each flattened output's loss in that of the model.

    Of weights that are not one for each output nothing is said: all 1.
    """
    given, count = model.loss_weights, len(model.temporal_outputs)
    if isinstance(given, dict):
        names = [path[0] for path in paths_of(model)] or sorted(given)
        found = [given.get(name) for name in names]
    else:
        found = keras.tree.flatten(given)
    if len(found) != count:
        found = [None] * count
    return [1.0 if weight is None else weight for weight in found]
