"""Training methods: what crosses a boundary backward, and when one learns."""

from keras_seqgrad.methods.alternating_gradients import AlternatingGradients
from keras_seqgrad.methods.artbp import ARTBP
from keras_seqgrad.methods.base import Method
from keras_seqgrad.methods.bptt import BPTT
from keras_seqgrad.methods.fptt import FPTT
from keras_seqgrad.methods.regularized_inversion import RegularizedInversion
from keras_seqgrad.methods.rtrl import RTRL
from keras_seqgrad.methods.snap import SnAp
from keras_seqgrad.methods.synthetic_gradients import SyntheticGradients
from keras_seqgrad.methods.target_propagation import TargetPropagation
from keras_seqgrad.methods.truncated_bptt import TruncatedBPTT
from keras_seqgrad.methods.uoro import UORO

# What a name stands for in `compile(method=...)`.
BY_NAME = {
    "bptt": lambda: BPTT(),
    "tbptt": lambda: TruncatedBPTT(50),
    "truncated_bptt": lambda: TruncatedBPTT(50),
    "alternating": lambda: AlternatingGradients(50),
    "artbp": lambda: ARTBP(50),
    "dni": lambda: SyntheticGradients(50),
    "synthetic_gradients": lambda: SyntheticGradients(50),
    "fptt": lambda: FPTT(10),
    "regularized_inversion": lambda: RegularizedInversion(
        0.01, 10.0, max_growth=0.9
    ),
    "snap": lambda: SnAp(10),
    "rtrl": lambda: RTRL(10),
    "uoro": lambda: UORO(10),
    "target_propagation": lambda: TargetPropagation(10),
    "tprop": lambda: TargetPropagation(10),
}


def get(identifier: str | Method) -> Method:
    """The method a name or an object stands for.

    Names give the defaults most often used in the literature: a truncation
    length, or mean length, of 50 steps; 10 parts for "fptt"; blocks of 10 for
    "tprop", and segments of 10 for "snap", "rtrl" and "uoro".
    "regularized_inversion" has displacements that stay bounded in any model,
    which the papers' have not.

    Args:
        identifier: A `Method`, or one of "bptt", "tbptt" (or
            "truncated_bptt"), "artbp", "synthetic_gradients" (or "dni"),
            "alternating", "fptt", "regularized_inversion", "target_propagation"
            (or "tprop"), "snap", "rtrl", "uoro".

    Raises:
        ValueError: The name is not known.

    Example:

    >>> ksg.methods.get("tbptt")
    TruncatedBPTT(length=50)
    """
    if isinstance(identifier, Method):
        return identifier
    if isinstance(identifier, str) and identifier.lower() in BY_NAME:
        return BY_NAME[identifier.lower()]()
    raise ValueError(
        "`method` must be a keras_seqgrad.methods object or one of "
        f"{sorted(BY_NAME)}. Received: method={identifier!r}"
    )


__all__ = [
    "ARTBP",
    "AlternatingGradients",
    "BPTT",
    "FPTT",
    "Method",
    "RTRL",
    "RegularizedInversion",
    "SnAp",
    "SyntheticGradients",
    "TargetPropagation",
    "TruncatedBPTT",
    "UORO",
    "get",
]
