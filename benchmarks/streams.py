"""Padding: drawn windows, and rows of different lengths, beside whole windows.

The models of `examples/char_lm.py`: one LSTM of 128 with cuts 25 steps apart,
and with `--full` two of 256 with 50; batch 32, Adam, XLA. ARTBP trains on the
windows that `ksg.data.stream` draws by its law, of any length or by a `hazard`
of few, as many in one execution of Keras as have 200 steps in the mean;
TruncatedBPTT with the same mean on windows of 200, which makes as many updates.
In the last table both arms are
TruncatedBPTT on rows of 1 to 400 steps, in batches of rows of similar length:
padded on the right to bucket lengths and masked, or to the longest of all.

CPU milliseconds, of both cores, for the steps that one true step of all rows
takes, compiling left out; and seconds until every program is there, the first
pass over the windows included.
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
FEW = "ARTBP({length}, hazard=0.5)"
SPAN = 200


class Arms:
    """What is measured beside each other.

    Args:
        units: Of each LSTM layer.
        layers: Their number.

    Attributes:
        found: Name -> (function, true steps of a row, padded steps, programs).
    """

    def __init__(self, units, layers):
        self.units, self.layers, self.found = units, layers, {}

    def add(self, name, method, dataset, windows_at_once=1):
        model = characters.compiled(
            characters.network(self.units, self.layers),
            method,
            keras.optimizers.Adam(5e-3, clipnorm=1.0),
            windows_at_once,
        )
        # The same windows in every pass: each program is compiled in the first.
        dataset = dataset.cache()
        lengths, true = [], 0.0
        for x, y, *_ in dataset:
            lengths.append(y.shape[1])
            masked = isinstance(x, dict)
            true += np.mean(x["mask"]) * y.shape[1] if masked else y.shape[1]
        # As many windows in every pass, which a drawn stream does not promise.
        counted = tf.data.experimental.assert_cardinality(len(lengths))
        step = characters.training(model, dataset.apply(counted))
        self.found[name] = step, true, sum(lengths), len(set(lengths))

    def table(self, title, rounds):
        """Measures them; the first is what the others are compared with."""
        found, first = self.found, {}
        for arm, (step, *_) in found.items():
            began = time.perf_counter()
            step()
            first[arm] = time.perf_counter() - began
        steps = {arm: step for arm, (step, *_) in found.items()}
        seconds = turns(steps, rounds, 1, time.process_time)
        # By true steps, of which an arm may see a few less.
        each = {
            arm: [time / found[arm][1] for time in times]
            for arm, times in seconds.items()
        }
        base = next(iter(found))
        middle, over = medians(each), ratios(each, base)
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
        head = ["arm", "CPU ms a step", f"over {base}"]
        head += ["steps run for one", "programs", "first pass (s)"]
        return Table(title, head, rows)


def of_streams(name, units, layers, length, batch_size, row, rounds):
    """The table of one model on drawn windows."""
    arms, tokens = Arms(units, layers), characters.tokens(batch_size, row)
    arms.add(
        FIXED.format(length=length),
        ksg.methods.TruncatedBPTT(length),
        ksg.data.stream(tokens, batch_size, min(SPAN, row)),
    )
    for arm, count, hazard in (
        (DRAWN, None, None),
        (MORE, 20, None),
        (FEW, None, 0.5),
    ):
        law = ksg.truncation.Random(length, hazard=hazard)
        arms.add(
            arm.format(length=length),
            ksg.methods.ARTBP(length, cuts="window", hazard=hazard),
            ksg.data.stream(
                tokens, batch_size, law, seed=0, bucket_lengths=count
            ),
            max(1, SPAN // length),
        )
    return arms.table(name, rounds)


def of_rows(name, units, length, batch_size, batches, longest, rounds):
    """The table of one model on rows of different lengths."""
    arms, generator = Arms(units, 1), np.random.default_rng(0)
    lengths = generator.integers(1, longest + 1, [batches, batch_size])
    # Rows of similar length in one batch, batches in any order.
    lengths = np.sort(lengths, axis=None).reshape(lengths.shape)
    lengths = generator.permutation(lengths)

    def padded(ends):
        for each in lengths:
            steps = next(end for end in ends if end >= each.max())
            shape = [batch_size, steps]
            x, y = generator.integers(characters.VOCABULARY, size=[2, *shape])
            yield x, y, np.arange(steps) < each[:, np.newaxis]

    def dataset(ends):
        kinds = ["int64", "int64", "bool"]
        specs = [tf.TensorSpec([batch_size, None], kind) for kind in kinds]
        made = tf.data.Dataset.from_generator(
            lambda: padded(ends), output_signature=tuple(specs)
        )
        return made.map(lambda x, y, mask: ({"inputs": x, "mask": mask}, y))

    def method():
        return ksg.methods.TruncatedBPTT(length)

    tokens = characters.tokens(batch_size, batches * longest // 2)
    whole = ksg.data.stream(tokens, batch_size, longest // 2)
    arms.add(FIXED.format(length=length), method(), whole)
    for count in (8, 1):
        ends = ksg.data.bucket_lengths(lengths.ravel(), count)
        arm = "masked, lengths by bucket_lengths({count})"
        arms.add(arm.format(count=count), method(), dataset(ends))
    return arms.table(name, rounds)


def tables(quick):
    if quick:
        yield of_streams("streams/one_layer", 3, 1, 5, 2, 60, 1)
        yield of_rows("streams/rows", 3, 5, 2, 3, 20, 1)
        return
    yield of_streams("streams/one_layer", 128, 1, 25, 32, 9_375, 5)
    yield of_streams("streams/two_layers", 256, 2, 50, 32, 9_375, 3)
    yield of_rows("streams/rows", 128, 25, 32, 40, 400, 5)
