"""Time a token of synthetic gradients over that of truncation.

One LSTM of 256 units on characters, batch 32, windows of 200 steps in segments
of 20, Adam; the synthesiser of the default: 512 to 512 to 512 units, with an
Adam of its own. All arms make one update a segment. Milliseconds a segment,
and ratios to TruncatedBPTT(20): the median of those within a round, and that
of the fastest rounds, which a busy machine disturbs least.
"""

import keras

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

LENGTH = 20
BASE = f"TruncatedBPTT({LENGTH})"


def make_methods():
    synthetic = ksg.methods.SyntheticGradients
    return {
        BASE: ksg.methods.TruncatedBPTT(LENGTH),
        f"SyntheticGradients({LENGTH})": synthetic(LENGTH),
        "scale = bootstrap": synthetic(LENGTH, scale=1.0),
        "linear synthesiser": synthetic(LENGTH, "linear"),
        "condition next_input": synthetic(LENGTH, condition="next_input"),
        "auxiliary task": synthetic(LENGTH, auxiliary=0.1),
        "lambda-returns": synthetic(LENGTH, lambda_=0.9),
        "elementwise synthesiser": synthetic(LENGTH, "elementwise"),
    }


def arms(batch_size, window, windows, units):
    """Name -> a function that trains on some windows."""
    tokens = characters.tokens(batch_size, window * windows)
    found = {}
    for name, method in make_methods().items():
        model = characters.compiled(
            characters.network(units),
            method,
            keras.optimizers.Adam(1e-3, clipnorm=1.0),
        )
        dataset = ksg.data.stream(tokens, batch_size, window)
        found[name] = characters.training(model, dataset)
    return found


def tables(quick):
    batch_size, window, windows, units = 32, 200, 5, 256
    if quick:
        batch_size, window, windows, units = 2, 40, 1, 3
    seconds = turns(
        arms(batch_size, window, windows, units), 1 if quick else 25
    )
    segments = windows * -(-window // LENGTH)
    middle, over = medians(seconds), ratios(seconds, BASE)
    rows = [
        [
            name,
            f"{1e3 * middle[name] / segments:.1f}",
            f"{over[name]:.2f}",
            f"{min(times) / min(seconds[BASE]):.2f}",
        ]
        for name, times in seconds.items()
    ]
    head = ["arm", "ms a segment", f"over {BASE}", "fastest rounds"]
    yield Table("synthetic_gradients", head, rows)
