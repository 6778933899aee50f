"""What a measurement needs of memory, before it is made."""

import math
import os

from keras_seqgrad.diagnostics.quality import BLOCKS

FLOAT = 4


def step_bytes(model, rows):
    """About what a step of a segment takes in training.

    Every number that the products and layers of a step make, once forward and
    once backward. A lower bound on what is alive at once for a method that
    stores the whole segment, without what temporaries a compiler adds.

    Args:
        model: The built `SequenceModel`.
        rows: The batch size.
    """
    products = sum(
        variable.shape[-1]
        for variable in model.trainable_variables
        if len(variable.shape) > 1
    )
    made = 0
    if not model.is_opaque:
        for _, tensor in model.graph.results:
            if id(tensor) in model.graph.temporal:
                made += math.prod(size or 1 for size in tensor.shape[2:])
    return 2 * FLOAT * rows * (products + made)


def parameters(model):
    """Number of trainable parameters."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def needed_bytes(model, extent, repeats):
    """About what comparing gradients on a window takes.

    That of all steps, and per parameter the sums of estimates.

    Args:
        model: The built `SequenceModel`.
        extent: (batch size, number of steps).
        repeats: Estimates of each method.
    """
    rows, steps = extent
    # The sums; the exact gradient and an estimate in float64.
    beside = FLOAT * min(repeats, BLOCKS) + 3 * 8
    return steps * step_bytes(model, rows) + beside * parameters(model)


def half_of_memory():
    """Half of the bytes of memory that the machine has.

    Raises:
        ValueError: The system does not tell.
    """
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError) as error:
        raise ValueError(
            "This system does not tell how much memory it has. Give "
            "memory_limit=... in bytes."
        ) from error
    return pages * size // 2


def refuse_too_large(model, extent, repeats, limit):
    """Refuses a window that does not fit into memory."""
    limit = half_of_memory() if limit is None else limit
    needed = needed_bytes(model, extent, repeats)
    if needed > limit:
        raise ValueError(
            f"The probe of {extent[0]} rows and {extent[1]} steps is too "
            f"large: comparing gradients on it takes about {needed:.2g} bytes. "
            f"Expected at most {limit:.2g}, which is memory_limit or, without "
            "one, half of the machine's memory. Give fewer rows or steps, or "
            "raise memory_limit."
        )
