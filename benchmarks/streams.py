"""Drawn windows beside windows of one length: what padding costs ARTBP.

The models of `examples/char_lm.py`: one LSTM of 128 with cuts 25 steps apart,
and with `--full` two of 256 with 50; batch 32, Adam, XLA. ARTBP trains on the
windows that `ksg.data.stream` draws by its law, TruncatedBPTT with the same
mean on windows of 200, which makes as many updates. Milliseconds for the
steps that one true step of all rows takes, compiling left out; and seconds
until every program is there, the first pass over the windows included.
"""

import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

FIXED = "TruncatedBPTT({length})"
DRAWN = "ARTBP({length}), drawn windows"
MORE = "ARTBP({length}), bucket_lengths=20"


def arms(units, layers, length, batch_size, row):
    """Name -> (function, true steps of it, padded steps, programs)."""
    tokens = characters.tokens(batch_size, row)
    law = ksg.truncation.Random(length)

    def optimizer():
        return keras.optimizers.Adam(5e-3, clipnorm=1.0)

    def add(name, method, dataset):
        model = characters.compiled(
            characters.network(units, layers), method, optimizer()
        )
        # The same windows in every pass: each program is compiled in the first.
        dataset = dataset.cache()
        lengths = [window[1].shape[1] for window in dataset]
        true = sum(
            int(np.sum(window[0]["mask"][0])) if len(window) == 3 else length
            for window, length in zip(dataset, lengths, strict=True)
        )
        # As many windows in every pass, which a drawn stream does not promise.
        counted = tf.data.experimental.assert_cardinality(len(lengths))
        step = characters.training(model, dataset.apply(counted))
        found[name] = step, true, sum(lengths), len(set(lengths))

    found = {}
    add(
        FIXED.format(length=length),
        ksg.methods.TruncatedBPTT(length),
        ksg.data.stream(tokens, batch_size, min(200, row)),
    )
    for name, count in ((DRAWN, None), (MORE, 20)):
        windows = ksg.data.stream(
            tokens, batch_size, law, seed=0, bucket_lengths=count
        )
        method = ksg.methods.ARTBP(length, cuts="window")
        add(name.format(length=length), method, windows)
    return found


def comparison(name, units, layers, length, batch_size, row, rounds):
    """The table of one model."""
    found = arms(units, layers, length, batch_size, row)
    first = {}
    for arm, (step, *_) in found.items():
        began = time.perf_counter()
        step()
        first[arm] = time.perf_counter() - began
    seconds = turns({arm: step for arm, (step, *_) in found.items()}, rounds, 0)
    # By true steps, of which TruncatedBPTT may see a few less.
    each = {
        arm: [time / found[arm][1] for time in times]
        for arm, times in seconds.items()
    }
    middle = medians(each)
    over = ratios(each, FIXED.format(length=length))
    rows = [
        [
            arm,
            f"{1e3 * middle[arm]:.2f}",
            f"{over[arm]:.2f}",
            f"{padded / true:.2f}",
            f"{programs}",
            f"{first[arm]:.1f}",
        ]
        for arm, (_, true, padded, programs) in found.items()
    ]
    head = ["arm", "ms a step", f"over {FIXED.format(length=length)}"]
    head += ["steps run for one", "programs", "first pass (s)"]
    return Table(name, head, rows)


def tables(quick):
    if quick:
        yield comparison("streams/one_layer", 3, 1, 5, 2, 60, 1)
        return
    yield comparison("streams/one_layer", 128, 1, 25, 32, 9_375, 5)
    yield comparison("streams/two_layers", 256, 2, 50, 32, 42_187, 3)
