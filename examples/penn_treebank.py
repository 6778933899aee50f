"""What papers say of text: methods on the Penn Treebank at equal data.

    python examples/penn_treebank.py --data FOLDER --method artbp --alpha 4
    python examples/penn_treebank.py --data FOLDER --method dni --length 8
    python examples/penn_treebank.py --quick          # seconds, another text

One arm a call: a method and its length. Its learning rate is looked for with
the first seed, by factors of two on from `--rates`, until the best one has a
worse one on either side; then come the other seeds. One rate is taken as it is.

    tbptt        TruncatedBPTT(length)
    artbp        ARTBP on windows that end at its cuts, `length` in the mean, so
                 that it makes the updates of tbptt on the same text
    dni          SyntheticGradients(length)
    alternating  AlternatingGradients(length), by the restarts of `--cycle`

The state is carried over all borders by all of them. Adam at a constant rate,
or with `--cycle` falling and starting anew. The synthesiser learns by SGD 0.1,
its targets trust its own guesses by 0.9: the best of a small search, see
docs/methods/synthetic_gradients.md. `--reach` makes tbptt update every `length`
steps with a gradient that reaches further: what a perfect guess could bring.

FOLDER has ptb.char.train.txt and so on, or ptb.train.txt for words, or with .gz
behind. `--out` gets a file of results a run, written after every epoch, and
states: started again, with `--seconds` or without, a call goes on where it was.
`python -m benchmarks.learned` makes the tables of docs/papers.md.

Tallec and Ollivier, 2017. arXiv:1705.08209. Jaderberg et al., 2017.
arXiv:1608.05343. Shang and Zhang, 2019. arXiv:1902.10630.
"""

import contextlib
import math
import shutil

import keras
import long_runs
from common import Parser, positive_float

import keras_seqgrad as ksg

QUICK = {"limit": 4_000, "validation": 2_000, "units": 8, "embedding": 4}
QUICK |= {"rows": 4, "epochs": 2, "rates": [3e-3], "seeds": 1, "jit": False}
METHODS = ("tbptt", "artbp", "dni", "alternating")
LAYERS = {
    "GRU": keras.layers.GRU,
    "LSTM": keras.layers.LSTM,
    "QRNN": ksg.layers.QRNN,
}
# What a run is, beside its rate and its seed.
SAID = "data method length alpha reach synthesizer level vocabulary layer units"
SAID += " layers embedding rows window clip cycle limit validation epochs"
SAID = SAID.split()
SAVE = 100  # windows between two states
BUCKETS = 5  # lengths of drawn windows: each is compiled, in seconds


def make_method(settings):
    length = settings.length
    if settings.method == "tbptt":
        reach = settings.reach or length
        return ksg.methods.TruncatedBPTT(reach, length)
    if settings.method == "artbp":
        # The stream draws the cuts: see `make_windows`.
        return ksg.methods.ARTBP(length, settings.alpha, cuts="window")
    guesses = {
        "synthesizer": settings.synthesizer,
        "bootstrap": 0.9,
        "synthesizer_optimizer": keras.optimizers.SGD(0.1),
    }
    if settings.method == "dni":
        return ksg.methods.SyntheticGradients(length, **guesses)
    return ksg.methods.AlternatingGradients(length, **guesses)


def make_model(settings, rate, size):
    layer = LAYERS[settings.layer]
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(size, settings.embedding),
            *(
                layer(settings.units, return_sequences=True)
                for _ in range(settings.layers)
            ),
            keras.layers.Dense(size),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=settings.clip),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=make_method(settings),
        steps_per_execution=windows_at_once(settings),
        jit_compile=settings.jit,
    )
    return model


def windows_at_once(settings):
    """As many drawn windows as make up one of the others in the mean."""
    if settings.method != "artbp":
        return 1
    return max(1, settings.window // settings.length)


def make_windows(tokens, settings, seed):
    """An endless stream of windows, and how many of them are an epoch."""
    rows = settings.rows
    if settings.method != "artbp":
        windows = ksg.data.stream(tokens, rows, settings.window)
        return windows.repeat(), len(windows)
    law = ksg.truncation.Random(settings.length, settings.alpha)
    windows = ksg.data.stream(
        tokens, rows, law, bucket_lengths=BUCKETS, seed=seed
    )
    size = windows_at_once(settings)
    row = (len(tokens) - 1) // rows
    return windows.repeat(), size * round(row / law.mean_length / size)


class OutOfTime(Exception):
    """Leaves an epoch, which takes long, before its end."""


class Run(long_runs.Run):
    """Adds bits and the perplexity to what is reported."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch)
        if self.is_over():
            raise OutOfTime

    def tell(self, updates, logs):
        loss = logs["val_loss"]
        logs = logs | {"bits": ksg.data.text.bits(loss)}
        logs["perplexity"] = math.exp(min(loss, 50.0))
        super().tell(updates, logs)
        name = f"{self.path.stem}: {updates} updates, {self.spent:.0f} s,"
        print(name, f"{logs['bits']:.4f} bits", flush=True)


def train(rate, seed, corpus, settings, end):
    """A run's bits after the last epoch; None where time was over before."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    parts = [settings.method, settings.length]
    parts += ["constant" if settings.alpha is None else f"{settings.alpha:g}"]
    parts[2:] = parts[2:] if settings.method == "artbp" else []
    parts += [f"reach{settings.reach}"] if settings.reach else []
    name = "_".join(map(str, [settings.level, *parts, f"{rate:g}", seed]))
    said = {key: getattr(settings, key) for key in SAID}
    said |= {"rate": rate, "seed": seed, "jit": settings.jit}
    run = Run(settings.out / f"{name}.json", said, end)
    if len(run.reports) < settings.epochs:
        if run.is_over():
            return None
        with contextlib.suppress(OutOfTime):
            fit(run, corpus, settings)
    if len(run.reports) < settings.epochs:
        return None
    # Nothing goes on from a run that is done.
    states = settings.out / "states" / run.path.stem
    shutil.rmtree(states, ignore_errors=True)
    last = run.reports[-1]["val_loss"]
    return last if math.isfinite(last) else math.inf


def fit(run, corpus, settings):
    rate, seed = run.found["rate"], run.found["seed"]
    tokens = corpus.train[: settings.limit]
    windows, steps = make_windows(tokens, settings, seed)
    valid = corpus.valid[: settings.validation]
    model = make_model(settings, rate, len(corpus.vocabulary))
    callbacks = [run, run.states(settings.out / "states", SAVE)]
    if settings.cycle:
        restarts = ksg.callbacks.WarmRestarts(rate, settings.cycle)
        callbacks.insert(0, restarts)
    model.fit(
        windows,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        validation_data=ksg.data.stream(valid, settings.rows, settings.window),
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/penn_treebank",
        quick=("a tiny model on a little text", QUICK),
    )
    add, count = parser.add_argument, parser.count
    add("--data", default="stdlib", help="a folder of the Penn Treebank")
    add("--level", choices=("character", "word"), default="character")
    add("--method", choices=METHODS, default="tbptt")
    count("--length", 50, "steps between updates, or in the mean")
    add("--alpha", type=positive_float, help="of artbp; default: constant")
    count("--reach", None, "steps that the gradient of tbptt goes back")
    add("--synthesizer", help="elementwise, linear; default: dense")
    count("--vocabulary", 2000, "words that are known")
    add("--layer", choices=LAYERS, default="LSTM")
    count("--units", 128)
    count("--layers", 1)
    count("--embedding", 64)
    count("--rows", 32, "of the stream")
    count("--window", 400)
    add("--clip", type=positive_float, help="norm of a gradient; default: any")
    count("--cycle", None, "epochs of the first cycle of a falling rate")
    count("--limit", 10_000_000, "tokens to train on")
    count("--validation", 10_000_000, "tokens to validate on")
    count("--epochs", 2)
    add("--rates", nargs="+", type=positive_float, default=[2e-3, 4e-3, 8e-3])
    count("--seeds", 5, "seeds 0, 1, ...")
    long_runs.add_arguments(parser)
    settings = parser.parse(argv)
    if settings.method == "alternating" and not settings.cycle:
        parser.error("--method alternating flips at restarts: give --cycle.")
    if settings.reach and settings.method != "tbptt":
        parser.error(
            "--reach is of --method tbptt. Received: " + settings.method
        )
    return settings


def main(argv=None):
    """The rate that was chosen, None without time to choose."""
    settings = parse(argv)
    end = long_runs.begin(settings)
    options = {"level": settings.level}
    if settings.level == "word":
        options["size"] = settings.vocabulary
    corpus = ksg.data.text.get(settings.data, **options)
    # What is said of it does not depend on where it lies.
    settings.data = corpus.name

    def bits(rate, seed=0):
        return train(rate, seed, corpus, settings, end)

    best = long_runs.search(bits, settings.rates)
    if best is not None:
        for seed in range(1, settings.seeds):
            if bits(best, seed) is None:
                break
    return best


if __name__ == "__main__":
    main()
