"""Target propagation on a word model, beside truncated BPTT.

    python examples/word_lm_target_propagation.py --data FOLDER
    python examples/word_lm_target_propagation.py --quick    # seconds

FOLDER holds the Penn Treebank (ptb.train.txt and so on); by default the text is
the source of Python's standard library.

One GRU on a stream of words, in windows of 32 blocks of 10 steps. Arms:

    TBPTT block    one update a block, the gradient ends there
    TBPTT window   one update a window, exact within it
    TBPTT fifth    five updates a window, as "penalty" makes
    penalty, lagrangian, admm   the schemes of TargetPropagation(10)

Each arm has the learning rate of Adam that was best for it on `--tune` epochs
of seed 0, from `--rates`. The slowest comes first and trains for `--epochs`
epochs; the others go on to the time it took, so that the table can compare
equal epochs and equal time: the best validation perplexity up to there. Seconds
are those of the quickest epoch times their number, without validation and
compiling.

Perplexity by position in a block: of each model at its best, on validation
text, once with the state carried over all of it and once restarted before every
block. Where both are the same the model does not use what lies before its
block. `--out` gets results.json and perplexity.png.

Wiseman et al., 2017. Training language models using target-propagation.
arXiv:1702.04770.
"""

import argparse
import math
import time

import keras
import numpy as np
import tensorflow as tf
from common import Parser, Table, subplots, write_json

import keras_seqgrad as ksg

QUICK = {"limit": 3000, "vocabulary": 50, "units": 8, "seeds": 1, "epochs": 2}
QUICK |= {"window": 40, "rows": 2, "rates": [0.01], "validation": 800}
QUICK |= {"arms": ["TBPTT block", "penalty"], "jit": False}
COLUMNS = "{:<14} {:>7} {:>8} {:>9} {:>15} {:>15}"


def make_methods(settings):
    """Method by arm, the slowest first: the others get its time."""
    target, truncated = ksg.methods.TargetPropagation, ksg.methods.TruncatedBPTT
    block, window = settings.block, settings.window
    options = {"state_rate": settings.state_rate, "start": settings.start}
    options["penalty"] = settings.penalty
    return {
        "admm": target(block, "admm", **options),
        "lagrangian": target(block, "lagrangian", **options),
        "penalty": target(block, "penalty", **options),
        "TBPTT block": truncated(block),
        "TBPTT fifth": truncated(-(-window // 5)),
        "TBPTT window": truncated(window),
    }


def make_model(method, rate, size, settings, seed):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(size, settings.units),
            keras.layers.GRU(settings.units, return_sequences=True),
            keras.layers.Dense(size),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=method,
        jit_compile=settings.jit,
    )
    return model


class Watch(keras.callbacks.Callback):
    """Times the training of every epoch; stops when both limits are reached.

    Args:
        epochs: Least number of epochs.
        seconds: Least time of training.
    """

    def __init__(self, epochs, seconds):
        super().__init__()
        self.epochs, self.seconds = epochs, seconds
        self.times, self.perplexity = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.times.append(time.perf_counter() - self.began)

    def on_epoch_end(self, epoch, logs):
        self.perplexity.append(math.exp(min(logs["val_loss"], 50.0)))
        done = len(self.times)
        enough = (done + 1) * min(self.times) > self.seconds
        self.model.stop_training = done >= self.epochs and enough


def train(name, rate, corpus, settings, seed, epochs, seconds=0.0):
    """Trains one arm: the model, and what became of it."""
    method = make_methods(settings)[name]
    model = make_model(method, rate, len(corpus.vocabulary), settings, seed)
    watch = Watch(epochs, seconds)
    windows = [
        ksg.data.stream(tokens, settings.rows, settings.window).cache()
        for tokens in (
            corpus.train[: settings.limit],
            corpus.valid[: settings.validation],
        )
    ]
    # It stops nothing, but leaves the model as it was at its best.
    keep = keras.callbacks.EarlyStopping(
        "val_loss", patience=settings.most_epochs, restore_best_weights=True
    )
    history = model.fit(
        windows[0],
        validation_data=windows[1],
        epochs=settings.most_epochs,
        callbacks=[keep, watch],
        shuffle=False,
        verbose=0,
    ).history
    found = {
        "arm": name,
        "seed": seed,
        "rate": rate,
        "epoch_seconds": min(watch.times),
        "perplexity": watch.perplexity,
        "violation": history.get("constraint_violation"),
    }
    return model, found


def by_position(model, corpus, settings, restart):
    """Validation perplexity at each step of a block."""
    model.reset_state()
    losses, block = [], settings.block
    tokens = corpus.valid[: settings.validation]
    for x, y in ksg.data.stream(tokens, settings.rows, settings.window):
        reset = np.zeros(x.shape, bool)
        reset[:, ::block] = restart
        logits = model.predict_on_batch({"inputs": x, "reset": reset})
        losses.append(
            tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits).numpy()
        )
    losses = np.concatenate(losses)
    losses = losses[:, : losses.shape[1] // block * block]
    return np.exp(losses.reshape(-1, block).mean(axis=0)).tolist()


def tune(name, corpus, settings):
    """The learning rate with the best perplexity after a few epochs."""
    if len(settings.rates) == 1:
        return settings.rates[0]
    found = {}
    for rate in settings.rates:
        _, run = train(name, rate, corpus, settings, 0, settings.tune)
        found[rate] = min(run["perplexity"])
    return min(found, key=found.get)


def best(run, epochs=None, seconds=math.inf):
    """Best perplexity within a number of epochs and a time."""
    within = len(run["perplexity"]) if epochs is None else epochs
    if seconds < math.inf:
        # At least one epoch; the half allows for the clock.
        within = max(1, int(seconds / run["epoch_seconds"] + 0.5))
    return min(run["perplexity"][:within])


def summary(name, runs, settings, seconds):
    def each(values):
        return " ".join(f"{value:.1f}" for value in values)

    return (
        name,
        f"{runs[0]['rate']:g}",
        f"{np.median([run['epoch_seconds'] for run in runs]):.1f} s",
        len(runs[0]["perplexity"]),
        each(best(run, settings.epochs) for run in runs),
        each(best(run, seconds=seconds) for run in runs),
    )


def plot(runs, settings, path):
    figure, (left, right) = subplots(1, 2, (11, 4.2))
    steps = np.arange(1, settings.block + 1)
    for color, name in enumerate(settings.arms):
        chosen = [run for run in runs if run["arm"] == name]
        for place, run in enumerate(chosen):
            at = run["epoch_seconds"] * np.arange(1, len(run["perplexity"]) + 1)
            label = name if place == 0 else None
            left.plot(
                at, run["perplexity"], ".-", color=f"C{color}", label=label
            )
        for key, line in (("carried", "-"), ("restarted", ":")):
            mean = np.mean([run[key] for run in chosen], axis=0)
            right.plot(steps, mean, line, color=f"C{color}")
    left.set(
        xlabel="seconds of training",
        ylabel="validation perplexity",
        yscale="log",
    )
    right.set(
        yscale="log",
        xlabel="position in a block",
        ylabel="validation perplexity",
        title="state carried (—), restarted at each block (···)",
    )
    left.legend()
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/word_lm_target_propagation",
        quick=("a tiny model, a few seconds", QUICK),
    )
    add, count = parser.add_argument, parser.count
    known = argparse.Namespace(
        block=1, window=5, state_rate=1, start="zero", penalty=1
    )
    arms = list(make_methods(known))
    add("--data", default="stdlib", help="a folder of Penn Treebank, or text")
    add("--arms", nargs="+", choices=arms, default=arms)
    count("--limit", 80_000, "words to train on")
    count("--validation", 20_000, "words to validate on")
    count("--vocabulary", 2000, "words that are known")
    count("--units", 100)
    count("--block", 10)
    count("--window", 320)
    count("--rows", 4, "of the stream")
    count("--epochs", 3, "of the slowest arm")
    count("--most-epochs", 60, "of any arm")
    add("--rates", type=float, nargs="+", default=[3e-3, 1e-2])
    count("--tune", 1, "epochs for choosing the rate")
    count("--seeds", 2, "seeds 0, 1, ...")
    add("--penalty", type=float, default=1.0)
    add("--state-rate", type=float, default=0.01)
    add("--start", default="forward", choices=["forward", "parallel", "zero"])
    settings = parser.parse(argv)
    if settings.window % settings.block:
        parser.error(
            "--window must be a multiple of --block. Received: "
            f"{settings.window} and {settings.block}"
        )
    if settings.epochs < 2:
        parser.error(
            "--epochs must be 2 or more: the first one compiles, and is not "
            f"timed. Received: {settings.epochs}"
        )
    settings.arms = [name for name in arms if name in settings.arms]
    return settings


def main(argv=None):
    """Prints the tables, draws the picture; the runs."""
    settings = parse(argv)
    corpus = ksg.data.text.get(
        settings.data, level="word", size=settings.vocabulary
    )
    print(
        f"{corpus.name}: {min(settings.limit, len(corpus.train))} words, "
        f"{len(corpus.vocabulary)} kinds; {settings.rows} rows, windows of "
        f"{settings.window}, blocks of {settings.block}; perplexity by seed"
    )
    head = ["arm", "rate", "epoch", "epochs", f"{settings.epochs} epochs"]
    table = Table(COLUMNS, *head, "equal time")
    results, seconds = [], 0.0
    for name in settings.arms:
        rate = tune(name, corpus, settings)
        runs = []
        for seed in range(settings.seeds):
            model, run = train(
                name,
                rate,
                corpus,
                settings,
                seed,
                settings.epochs,
                seconds,
            )
            run["carried"] = by_position(model, corpus, settings, False)
            run["restarted"] = by_position(model, corpus, settings, True)
            runs.append(run)
        took = max(run["epoch_seconds"] for run in runs) * settings.epochs
        seconds = max(seconds, took)
        table.add(*summary(name, runs, settings, seconds))
        results += runs
        write_json(settings.out / "results.json", results)
    print("\nposition in a block " + " " * 8 + "first  second    last   mean")
    for run in results:
        for key in ("carried", "restarted"):
            row = run[key]
            mean = math.exp(np.mean(np.log(row)))
            print(
                f"{run['arm']:<14}{key:>10}   {row[0]:8.1f}{row[1]:8.1f}"
                f"{row[-1]:8.1f}{mean:8.1f}"
            )
    plot(results, settings, settings.out / "perplexity.png")
    print(f"picture: {settings.out / 'perplexity.png'}")
    return results


if __name__ == "__main__":
    main()
