"""Trains an LSTM on the characters of a text, by a method of your choice.

    python examples/char_lm.py                        # truncated BPTT
    python examples/char_lm.py --method artbp         # random cuts, unbiased
    python examples/char_lm.py --method bptt --window 25
    python examples/char_lm.py --method dni --length 5
    python examples/char_lm.py --resume --epochs 5    # two epochs more
    python examples/char_lm.py --full                 # minutes, better text

The text is one stream in `batch-size` rows, each with a state that goes on from
window to window. The methods:

    bptt    one update a window, its gradient exact within the window
    tbptt   one update every `length` steps, the gradient reaches no further
    artbp   windows end at random cuts, `length` steps apart in the mean; one
            update a window, weighted so that the cuts bias nothing
    dni     as tbptt, and a synthesiser guesses what comes from further ahead
    alternating   tbptt and dni in turn, epoch by epoch

So all but bptt make about as many updates on the same text; bptt does with
`--window` equal to their `--length`.

Written to `--out` (default: runs/char_lm/<method>): settings.json,
vocabulary.json, epoch-001.keras and so on, and TensorBoard's logs, with a look
at the gradient every `--diagnostics` windows (200 in `--full`); in `states` the
last two states of the run, one about every 100 windows and at the end of an
epoch. A resumed run goes on from the last one that can be read, exactly as if
it had never stopped, wherever it was killed.
"""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf
from common import Parser, positive_float, write_json

import keras_seqgrad as ksg

RUNS = pathlib.Path("runs", "char_lm")
FULL = {"limit": None, "epochs": 2, "units": 256, "layers": 2, "length": 50}
FULL |= {"learning_rate": 5e-3, "diagnostics": 200}
QUICK = FULL | {"limit": 80_000, "epochs": 1, "units": 64, "layers": 1}
QUICK |= {"sample": 80}
METHODS = ("bptt", "tbptt", "artbp", "dni", "alternating")
# What a resumed run may choose anew; all else is as the run began.
FREE = {"epochs", "out", "resume", "quick", "full", "sample", "temperature"}
FREE |= {"diagnostics"}


def make_parser():
    parser = Parser(
        __doc__,
        f"{RUNS}/METHOD",
        quick=("a small model, a few seconds", QUICK),
        full=("a larger model on all of the text, for minutes", FULL),
    )
    parser.set_defaults(out=None)
    add, count = parser.add_argument, parser.count
    add("--method", type=str.lower, default="tbptt", help=", ".join(METHODS))
    add("--data", default="stdlib", help="stdlib, tiny_shakespeare or a path")
    add("--download", action="store_true", help="tiny_shakespeare by network")
    add("--level", choices=("character", "word"), default="character")
    count("--limit", 300_000, "train on the first LIMIT tokens only")
    count("--epochs", 3)
    count("--batch-size", 32, "rows of the stream")
    count("--window", 200, "steps of a window")
    count("--length", 25, "steps between cuts")
    chance = "of artbp: windows of few lengths, not padded; 0 for any length"
    add("--hazard", type=float, default=0.5, help=chance)
    add("--scale", type=positive_float, default=0.1, help="of guesses in dni")
    count("--units", 128)
    count("--layers", 1)
    add("--learning-rate", type=positive_float, default=1e-2)
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on with the run in --out")
    every = "windows between looks at the gradient; 0 for none"
    add("--diagnostics", type=int, default=0, help=every)
    count("--sample", 400, "tokens to write at last")
    add("--temperature", type=positive_float, default=0.7)
    return parser


def parse(parser, argv):
    """The settings of the run."""
    settings = parser.parse(argv)
    settings.out = settings.out or RUNS / settings.method
    begun = (settings.out / "settings.json").exists()
    if not settings.resume:
        if begun:
            parser.error(
                f"{settings.out} holds a run. Go on with it by --resume, or "
                "choose another folder by --out."
            )
        return settings
    if not begun:
        parser.error(f"--resume found no run in {settings.out}.")
    saved = json.loads((settings.out / "settings.json").read_text())
    parser.set_defaults(**saved, out=settings.out)
    settings = parser.parse_args(argv)
    for name, value in saved.items():
        if getattr(settings, name) != value:
            parser.error(
                f"The run in {settings.out} began with {name}={value!r}. "
                f"Received: {getattr(settings, name)!r}. Leave it out to go on."
            )
    return settings


def make_model(settings, method, size):
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(size, 64),
            *(
                keras.layers.LSTM(settings.units, return_sequences=True)
                for _ in range(settings.layers)
            ),
            keras.layers.Dense(size),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.Adam(settings.learning_rate, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=method,
        steps_per_execution=windows_at_once(settings),
        jit_compile=settings.jit,
    )
    return model


def make_method(settings):
    length = settings.length
    if settings.method == "tbptt":
        return ksg.methods.TruncatedBPTT(length)
    if settings.method == "artbp":
        # The stream draws the cuts: see `make_windows`.
        return ksg.methods.ARTBP(
            length, cuts="window", hazard=settings.hazard or None
        )
    # Of a small search on Penn Treebank: a slow synthesiser that trusts its own
    # guesses a little less does best.
    guesses = {
        "scale": settings.scale,
        "bootstrap": 0.9,
        "synthesizer_optimizer": keras.optimizers.SGD(0.1),
    }
    if settings.method == "dni":
        return ksg.methods.SyntheticGradients(length, **guesses)
    if settings.method == "alternating":
        return ksg.methods.AlternatingGradients(length, **guesses)
    return ksg.methods.get(settings.method)


def windows_at_once(settings):
    """As many as make up a window of the other methods in the mean.

    Between two executions Keras spends as long as some steps take.
    """
    if settings.method != "artbp":
        return 1
    return max(1, settings.window // settings.length)


def make_windows(tokens, settings):
    """An endless stream of windows, and how many of them are an epoch."""
    rows = settings.batch_size
    if settings.method != "artbp":
        windows = ksg.data.stream(tokens, rows, settings.window)
        return windows.repeat(), len(windows)
    law = ksg.truncation.Random(settings.length, hazard=settings.hazard or None)
    row = (len(tokens) - 1) // rows
    windows = ksg.data.stream(tokens, rows, law, seed=settings.seed)
    size = windows_at_once(settings)
    executions = max(1, round(row / law.mean_length / size))
    return windows.repeat(), executions * size


def diagnose(validation, settings):
    """Looks at the gradient on the first validation window now and then."""
    method = None
    if settings.method == "artbp":
        # In training the stream has drawn the cuts; here the method draws.
        method = {"artbp": ksg.methods.ARTBP(settings.length)}
    return ksg.callbacks.GradientDiagnostics(
        settings.out / "logs" / "gradient",
        next(iter(validation)),
        every=settings.diagnostics,
        methods=method,
        card={"seed": settings.seed, "data": settings.data},
    )


def write_sample(model, corpus, settings):
    """Continues the validation text, one step at a time."""
    step = tf.function(model.call_segment, reduce_retracing=True)
    generator = np.random.default_rng(settings.seed)
    fed = start = corpus.valid[:200]
    ids, state = [], model.initial_state(1)
    for _ in range(settings.sample):
        logits, state = step(tf.constant([fed], "int32"), state)
        scores = logits[0, -1].numpy().astype("float64") / settings.temperature
        chances = np.exp(scores - scores.max())
        ids.append(generator.choice(len(scores), p=chances / chances.sum()))
        fed = ids[-1:]
    decode = corpus.vocabulary.decode
    print(f"--- the validation text begins\n{decode(start)}")
    print(f"--- and the model goes on\n{decode(ids)}")


def say_where(position):
    """Says where a training begins, or goes on."""
    where = f"window {position.batch + 1} of epoch {position.epoch + 1}"
    goes_on = position.epoch or position.batch
    print(f"{'goes on' if goes_on else 'begins'} at {where}")


class Report(keras.callbacks.Callback):
    """Adds the losses in bits to the logs; prints them beside the unigrams."""

    def __init__(self, corpus):
        super().__init__()
        self.level = corpus.level
        self.unigrams = ksg.data.text.unigram_entropy(corpus)

    def on_epoch_end(self, epoch, logs):
        # Nothing but the cross-entropy is in the loss, and every window of the
        # validation text has the same number of steps.
        logs["bits"] = ksg.data.text.bits(logs["loss"])
        logs["val_bits"] = ksg.data.text.bits(logs["val_loss"])
        print(
            f"val bits per {self.level} {logs['val_bits']:.3f} "
            f"(unigrams {self.unigrams:.3f})"
        )


def main(argv=None):
    parser = make_parser()
    settings = parse(parser, argv)
    keras.utils.set_random_seed(settings.seed)
    options = {"level": settings.level}
    if settings.data == "tiny_shakespeare":
        options["download"] = settings.download
    try:
        corpus = ksg.data.text.get(settings.data, **options)
        windows, steps = make_windows(corpus.train[: settings.limit], settings)
        validation = ksg.data.stream(
            corpus.valid, settings.batch_size, settings.window
        )
        method = make_method(settings)
    except (ValueError, FileNotFoundError, ImportError) as error:
        parser.error(str(error))
    out, vocabulary = settings.out, corpus.vocabulary
    model = make_model(settings, method, len(vocabulary))
    if not settings.resume:
        kept = {k: v for k, v in vars(settings).items() if k not in FREE}
        out.mkdir(parents=True, exist_ok=True)
        vocabulary.save(out / "vocabulary.json")
        # The last of them: a run with settings has begun.
        write_json(out / "settings.json", kept)
    elif vocabulary != vocabulary.load(out / "vocabulary.json"):
        parser.error(f"--data has changed since the run in {out} began.")
    print(
        f"{corpus.name}: {steps} windows an epoch, {len(vocabulary)} kinds of "
        f"{corpus.level}; {model.count_params():,} parameters; {model.method}"
    )
    # A cycle of one epoch leaves the learning rate as it is.
    restarts = ksg.callbacks.WarmRestarts(settings.learning_rate, 1, "fixed")
    # Kept at the end, so that more epochs can follow.
    states = ksg.callbacks.BackupAndRestore(
        out / "states", 100, delete_checkpoint=False
    )
    model.fit(
        windows,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        validation_data=validation,
        shuffle=False,
        callbacks=[
            *([restarts] if settings.method == "alternating" else []),
            *([diagnose(validation, settings)] if settings.diagnostics else []),
            # Before the report, which comes below the bar then.
            keras.callbacks.ProgbarLogger(),
            Report(corpus),
            keras.callbacks.ModelCheckpoint(out / "epoch-{epoch:03d}.keras"),
            keras.callbacks.TensorBoard(out / "logs", write_graph=False),
            states,
            keras.callbacks.LambdaCallback(
                on_train_begin=lambda logs: say_where(states.position)
            ),
        ],
    )
    write_sample(model, corpus, settings)


if __name__ == "__main__":
    main()
