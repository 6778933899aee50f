"""Memory over 20,000 windows of one training: whether anything piles up.

    python -m benchmarks.long_run
    python -m benchmarks.long_run --windows 2000 --methods tbptt

Each method trains a small stateful model under XLA in a process of its own. A
row of a table in Markdown has the memory held (resident, MiB) after a twentieth
of the windows, by which all is compiled, after a quarter and after all of them.
For Linux.
"""

import argparse
import subprocess
import sys

WINDOW, ROWS, VOCABULARY = 20, 8, 20
SHARES = (1, 5, 20)
METHODS = {
    "bptt": lambda methods: methods.BPTT(),
    "tbptt": lambda methods: methods.TruncatedBPTT(5),
    "artbp": lambda methods: methods.ARTBP(5, seed=1),
    "dni": lambda methods: methods.SyntheticGradients(5),
    "snap": lambda methods: methods.SnAp(5),
}


def held(name, windows):
    """MiB held after each share of a training."""
    import keras
    import numpy as np

    import keras_seqgrad as ksg
    from benchmarks import memory

    an_epoch = windows // SHARES[-1]
    size = WINDOW * ROWS * an_epoch + 1
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=size)
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 8),
            keras.layers.GRU(16, return_sequences=True),
            keras.layers.Dense(VOCABULARY),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    method = METHODS[name](ksg.methods)
    model.compile("adam", loss, method=method, jit_compile=True)
    found = []

    def note(epoch, logs):
        if epoch + 1 in SHARES:
            found.append(memory.held("VmRSS") / 2**20)

    model.fit(
        ksg.data.stream(tokens, ROWS, WINDOW),
        epochs=SHARES[-1],
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
    )
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--windows", type=int, default=20_000)
    add("--measure", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        cells = [f"{mib:.0f}" for mib in held(given.measure, given.windows)]
        print(f"| {given.measure} | {' | '.join(cells)} |")
        return
    marks = [share * given.windows // SHARES[-1] for share in SHARES]
    print(f"| method | {' | '.join(f'after {n:,}' for n in marks)} |")
    print("|---" * (len(SHARES) + 1) + "|", flush=True)
    for name in given.methods:
        command = [sys.executable, "-m", "benchmarks.long_run"]
        command += ["--measure", name, "--windows", str(given.windows)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
