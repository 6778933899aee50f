"""Memory and time where what is behind an LSTM reads all its steps.

The network of `checkpointing`, its readout one of the mean by learned shares.
"""

from benchmarks.checkpointing import AUTO, HEAD, KERAS, measured
from benchmarks.table import Table

ARMS = [KERAS, "BPTT()", AUTO, "TruncatedBPTT(100)"]


def tables(quick):
    batch_size, units = 8, 128
    arms = [(20_000, arm) for arm in ARMS] + [(100_000, AUTO)]
    if quick:
        batch_size, units, arms = 2, 3, [(100, AUTO)]
    rows = measured(arms, units=units, batch_size=batch_size, pooled=True)
    yield Table("heads", HEAD, rows)
