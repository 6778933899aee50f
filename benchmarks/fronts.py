"""Memory and time where a convolution is below an LSTM.

The network of `checkpointing`, the convolution run once a window.
"""

from benchmarks.checkpointing import AUTO, HEAD, KERAS, measured
from benchmarks.table import Table

ARMS = ["BPTT()", AUTO, "TruncatedBPTT(100)"]


def tables(quick):
    batch_size, units = 8, 128
    arms = [(5_000, KERAS), *((20_000, arm) for arm in ARMS)]
    arms += [(100_000, arm) for arm in ARMS[:2]]
    if quick:
        batch_size, units, arms = 2, 4, [(100, AUTO)]
    rows = measured(arms, units=units, batch_size=batch_size, convolved=True)
    yield Table("fronts", HEAD, rows)
