"""The steps of what layers make that run whole windows.

They may make fewer than they are given, as strides do, or more.
"""

import keras

from keras_seqgrad.tensors import masks
from keras_seqgrad.window import per_step
from keras_seqgrad.window.by_output import by_output, paths_of
from keras_seqgrad.window.timed import Timed, compare, named, rank

ADVICE = (
    "An output with a time axis has a target, and a weight, for every step "
    "that the layers of this model make of the inputs."
)


def refuse_others(model, data, where=""):
    """Refuses targets and weights of other steps than the outputs have.

    A single step stands for all. Nothing is refused where the inputs' lengths
    are not known, nor of a target whose loss does not judge every step.

    Args:
        model: The `SequenceModel`, whose network has such layers.
        data: (x, y, sample_weight).
        where: What the text of an error begins with.

    Raises:
        ValueError: Lengths differ; the text names argument and lengths.
    """
    x, y, sample_weight = data
    inputs, _, _ = masks.split(model.arranged(x))
    inputs = keras.tree.flatten(inputs)
    if any(rank(leaf) is None for leaf in inputs):
        return
    made = model.graph.shapes_made([tuple(leaf.shape[1:]) for leaf in inputs])
    pairs = named(where + "y", y) + named(
        where + "sample_weight", sample_weight
    )
    labels = {id(leaf): label for label, leaf in pairs}
    names = [path[-1] for path in paths_of(model)] or [""] * len(made)
    for name, shape, spec, losses, target, weight in zip(
        names,
        made,
        model.output_specs,
        per_step.losses_of(model),
        by_output(y, model),
        by_output(sample_weight, model, shared=True),
        strict=True,
    ):
        if len(shape) < 3 or shape[1] is None:
            continue
        judged = hasattr(target, "shape") and rank(target)
        if not (judged and per_step.is_per_step(losses, target, spec)):
            continue
        for leaf in target, weight:
            if leaf is not None and (rank(leaf) or 0) > 1:
                timed = Timed(labels[id(leaf)], leaf, ADVICE, may_be_one=True)
                compare(timed, f"output {name}".strip(), shape[1])
