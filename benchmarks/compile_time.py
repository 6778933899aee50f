"""Seconds from a model's construction to the end of its first step.

The model of `examples/char_lm.py --full`: two LSTM layers of 256 units on
characters, batch 32, windows of 200 steps, Adam, XLA, in segments of 50, or of
60, where a shorter one is left over. Stock Keras is the stateful model on
segments of 50. RegularizedInversion, which has no LSTM, runs GRU layers and
stands beside stock Keras with such layers.

Every run is a fresh process, after its imports; the arms take turns. Medians of
wall and CPU seconds (that of all threads, steadier where others compute, too):
of `compile`, which tries whether the model may be cut in time, and of the first
step, which is traced and compiled. Ratios are those of CPU seconds to the end
of the first step over stock Keras'. Where an arm spends its time:

    python -m cProfile -s cumulative -m benchmarks.compile_time "BPTT()" 256
"""

import json
import statistics
import subprocess
import sys
import time

import keras
import numpy as np

import keras_seqgrad as ksg
from benchmarks.table import Table

VOCABULARY, BATCH, WINDOW, SEGMENT = 100, 32, 200, 50
STOCK = "Keras, stateful"
METHODS = {
    "BPTT()": lambda: ksg.methods.BPTT(),
    'BPTT("auto")': lambda: ksg.methods.BPTT("auto"),
    "TruncatedBPTT(50)": lambda: ksg.methods.TruncatedBPTT(SEGMENT),
    "TruncatedBPTT(60)": lambda: ksg.methods.TruncatedBPTT(60),
    "TruncatedBPTT(50, 25)": lambda: ksg.methods.TruncatedBPTT(SEGMENT, 25),
    "FPTT(length=50)": lambda: ksg.methods.FPTT(length=SEGMENT),
    "ARTBP(50)": lambda: ksg.methods.ARTBP(SEGMENT),
    "SyntheticGradients(50)": lambda: ksg.methods.SyntheticGradients(SEGMENT),
    "SyntheticGradients(50, bootstrap=0.1)": lambda: (
        ksg.methods.SyntheticGradients(SEGMENT, bootstrap=0.1)
    ),
    "SyntheticGradients(60)": lambda: ksg.methods.SyntheticGradients(60),
    "AlternatingGradients(50)": lambda: ksg.methods.AlternatingGradients(
        SEGMENT, switch_epochs=[1]
    ),
    "TargetPropagation(50)": lambda: ksg.methods.TargetPropagation(SEGMENT),
}
WITH_GRU = {
    "RegularizedInversion(0.5, 0.5)": lambda: ksg.methods.RegularizedInversion(
        0.5, 0.5
    ),
}
ARMS = [STOCK, *METHODS, f"{STOCK}, GRU", *WITH_GRU]


def network(layer, units, batch_size=None, steps=None):
    """The model of every arm; with a batch size, stateful as Keras' own."""
    options = {"return_sequences": True, "stateful": batch_size is not None}
    return keras.Sequential(
        [
            keras.Input(batch_shape=(batch_size, steps), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 64),
            layer(units, **options),
            layer(units, **options),
            keras.layers.Dense(VOCABULARY),
        ]
    )


def first_step(arm, units):
    """[wall, CPU] seconds of construction with `compile`, and of a step."""
    stock = arm.startswith(STOCK)
    steps = SEGMENT if stock else WINDOW
    gru = arm.endswith("GRU") or arm in WITH_GRU
    layer = keras.layers.GRU if gru else keras.layers.LSTM
    draw = np.random.default_rng(0).integers
    x, y = draw(VOCABULARY, size=(2, BATCH, steps), dtype="int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"optimizer": keras.optimizers.Adam(1e-3, clipnorm=1.0)}
    options |= {"loss": loss, "jit_compile": True}
    clocks = [(time.perf_counter(), time.process_time())]
    if stock:
        model = network(layer, units, BATCH, SEGMENT)
    else:
        model = ksg.SequenceModel.from_model(
            network(layer, units), stateful=True
        )
        options["method"] = {**METHODS, **WITH_GRU}[arm]()
    model.compile(**options)
    clocks.append((time.perf_counter(), time.process_time()))
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    clocks.append((time.perf_counter(), time.process_time()))
    return np.diff(clocks, axis=0).tolist()


def in_fresh_process(arm, units):
    """`first_step` in a process of its own."""
    command = [sys.executable, "-m", __name__, arm, str(units)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows(seconds):
    """Rows of the table from the runs by arm, (runs, 2, 2) each."""
    for arm, runs in seconds.items():
        wall = [statistics.median(run[i][0] for run in runs) for i in (0, 1)]
        both, cpu = (
            statistics.median(run[0][kind] + run[1][kind] for run in runs)
            for kind in (0, 1)
        )
        if arm.startswith(STOCK):
            stock = cpu
        shown = [f"{each:.1f}" for each in (*wall, both, cpu)]
        yield [arm, *shown, f"{cpu / stock:.2f}"]


def tables(quick):
    units, rounds = (2, 1) if quick else (256, 3)
    seconds = {arm: [] for arm in (ARMS[:2] if quick else ARMS)}
    for _ in range(rounds):
        for arm, runs in seconds.items():
            runs.append(in_fresh_process(arm, units))
    head = ["arm", "compile", "first step", "both", "CPU, both", "over Keras"]
    yield Table("compile_time", head, list(rows(seconds)))


if __name__ == "__main__":
    print(json.dumps(first_step(sys.argv[1], int(sys.argv[2]))))
