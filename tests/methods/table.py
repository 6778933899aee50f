"""The table of methods, from which the tests that all share take them."""

import dataclasses
from typing import Any

import keras

from keras_seqgrad import methods


@dataclasses.dataclass
class Row:
    """A method, and what it can do."""

    method: Any
    # Equals BPTT on any window, only in a limit, or only in the mean.
    gradient: str
    updates: int  # in a window of a segment and a shorter one: 3 steps
    # What `fit` does to the model at the end of an epoch, if anything.
    epoch_end: Any = lambda model: None
    # Kinds of cell that it runs in place of those that it refuses.
    instead: dict = dataclasses.field(default_factory=dict)
    rate: float = 0.1  # at which it learns without running away


TABLE = {
    "bptt": Row(lambda: methods.BPTT(), "exact", 1),
    "bptt_checkpointed": Row(lambda: methods.BPTT(2), "exact", 1),
    "tbptt": Row(lambda: methods.TruncatedBPTT(2), "biased", 2),
    "tbptt_stride": Row(lambda: methods.TruncatedBPTT(2, 1), "biased", 3),
    "artbp": Row(lambda: methods.ARTBP(2, seed=1), "unbiased", 1),
    "artbp_rows": Row(
        lambda: methods.ARTBP(2, per_row=True, seed=1), "unbiased", 1
    ),
    "artbp_window": Row(
        lambda: methods.ARTBP(2, cuts="window", seed=1), "reweighted", 1
    ),
    "dni": Row(lambda: methods.SyntheticGradients(2), "biased", 2),
    "dni_next": Row(
        lambda: methods.SyntheticGradients(
            2, "linear", 1.0, auxiliary=0.1, condition="next_input"
        ),
        "biased",
        2,
    ),
    "dni_lambda": Row(
        lambda: methods.SyntheticGradients(
            2, "linear", lambda_=0.7, auxiliary=0.1
        ),
        "biased",
        2,
    ),
    "alternating": Row(
        lambda: methods.AlternatingGradients(2, "linear", switch_epochs=[1, 3]),
        "biased",
        2,
    ),
    "fptt": Row(
        lambda: methods.FPTT(2),
        "biased",
        2,
        epoch_end=lambda model: model.optimizer.average(),
    ),
    "inversion": Row(
        lambda: methods.RegularizedInversion(0.5, 0.5),
        "biased",
        1,
        instead={"lstm": "simple_rnn", "own": "gru_before"},
    ),
    "inversion_learned": Row(
        lambda: methods.RegularizedInversion(
            0.5, propagation="learned", seed=1
        ),
        "biased",
        1,
        instead={"lstm": "gru", "own": "simple_rnn"},
    ),
    "tprop": Row(
        lambda: methods.TargetPropagation(
            2, "lagrangian", parameter_steps=1, multipliers_from=1
        ),
        "biased",
        2,
    ),
    "snap": Row(lambda: methods.SnAp(2), "biased", 2, instead={"own": "gru"}),
    "rtrl": Row(lambda: methods.RTRL(2), "exact", 2, rate=0.03),
    "uoro": Row(lambda: methods.UORO(2, seed=1), "unbiased", 2, rate=0.01),
}


def guessing(size):
    """A synthesiser that starts from other weights than zeros."""
    return keras.Sequential([keras.Input((size,)), keras.layers.Dense(size)])


# All that rows of one class add to the first one, in place of one of them.
AT_ONCE = {
    "dni_next": lambda: methods.SyntheticGradients(
        2,
        guessing,
        1.0,
        auxiliary=0.1,
        condition="next_input",
        lambda_=0.7,
        synthesizer_optimizer=keras.optimizers.SGD(1.0),
    )
}
# What a window leaves to the next is kept by the lines of another row, of which
# two steps an execution are asked.
ONE_STEP = {"artbp_window", "dni_next", "rtrl", "snap"}
