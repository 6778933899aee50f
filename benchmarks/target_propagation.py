"""Time of one parameter step of target propagation over a window.

One GRU of 100 units on characters, windows of 320 steps in blocks of 10, plain
SGD, batches of 1 and 20. The arms:

    TruncatedBPTT(10)   32 updates, one a block
    BPTT                one update, a scan of 320 steps
    parallel            TargetPropagation, one update from zero states: two
                        passes, both in scans of 10 steps
    forward             the same from the states of a pass in order
    zero                the same from zeros: one pass, the least there is
    penalty             five updates, from zeros
    admm                10 steps of the targets and 5 updates, twice, from zeros

Milliseconds a window, and ratios to TruncatedBPTT(10) of the same round.
"""

import keras

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

BLOCK = 10
BASE = f"TruncatedBPTT({BLOCK})"


def make_methods():
    target = ksg.methods.TargetPropagation
    once = {"parameter_steps": 1}
    return {
        BASE: ksg.methods.TruncatedBPTT(BLOCK),
        "BPTT": ksg.methods.BPTT(),
        "zero": target(BLOCK, start="zero", **once),
        "parallel": target(BLOCK, start="parallel", **once),
        "forward": target(BLOCK, start="forward", **once),
        "penalty, five updates": target(BLOCK, start="zero"),
        "admm, 20 steps of targets, 10 updates": target(
            BLOCK, "admm", start="zero"
        ),
    }


def arms(batch_size, window, windows, units):
    """Name -> a function that trains on some windows."""
    tokens = characters.tokens(batch_size, window * windows)
    found = {}
    for name, method in make_methods().items():
        model = characters.compiled(
            characters.network(units, cell="GRU", embedding=units),
            method,
            keras.optimizers.SGD(0.01),
        )
        dataset = ksg.data.stream(tokens, batch_size, window)
        found[name] = characters.training(model, dataset)
    return found


def tables(quick):
    window, windows, units, batches = 320, 10, 100, (1, 20)
    if quick:
        window, windows, units, batches = 40, 1, 3, (1,)
    columns, head = [list(make_methods())], ["arm"]
    for batch_size in batches:
        seconds = turns(
            arms(batch_size, window, windows, units), 1 if quick else 9
        )
        middle, over = medians(seconds), ratios(seconds, BASE)
        columns.append([f"{1e3 * t / windows:.1f}" for t in middle.values()])
        columns.append([f"{ratio:.2f}" for ratio in over.values()])
        head += [f"batch {batch_size} (ms)", f"over {BASE}"]
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    yield Table("target_propagation", head, rows)
