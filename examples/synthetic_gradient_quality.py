"""How good synthetic gradients are, beside the loss of who makes them.

    python examples/synthetic_gradient_quality.py
    python examples/synthetic_gradient_quality.py --data PATH --length 5

A character LSTM learns by synthetic gradients. Now and then training stops for
a look at a window it has not seen, in which every boundary gradient and the
gradient of all parameters are also computed exactly, by back-propagation
through the whole window:

    guess: cosine and relative error of the guesses at the boundaries
    parameters: relative error of the gradient of all parameters, truncated
        (guesses of 0), with the guesses times `--scale`, and with the whole
        guesses

A relative error is the norm of the error over the norm of the truth: a guess of
0 has the error 1. Writes a table and a picture to `--out` (default:
runs/synthetic_gradient_quality).
"""

import keras
import numpy as np
from common import Parser, markdown, subplots, write_json

import keras_seqgrad as ksg

QUICK = {"looks": 1, "windows": 2, "window": 20, "units": 8, "rows": 4}
QUICK |= {"limit": 20_000, "jit": False}


def make_parser():
    parser = Parser(
        __doc__,
        "runs/synthetic_gradient_quality",
        quick=("a tiny model, a few seconds", QUICK),
    )
    add, count = parser.add_argument, parser.count
    add("--data", default="stdlib", help="stdlib or a path")
    count("--limit", 1_000_000, "characters to learn")
    count("--length", 5, "steps of a segment")
    count("--window", 100, "steps of a window")
    count("--rows", 32, "rows of the stream")
    count("--units", 128)
    add("--scale", type=float, default=0.1)
    add("--bootstrap", type=float, default=0.9)
    add("--learning-rate", type=float, default=2e-3)
    add("--synthesizer-rate", type=float, default=0.1, help="of its SGD")
    count("--looks", 10)
    count("--windows", 60, "from one look to the next")
    add("--seed", type=int, default=0)
    return parser


def compiled(network, method, jit, rate=0.0, **options):
    model = ksg.SequenceModel.from_model(network, **options)
    model.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=method,
        jit_compile=jit,
    )
    return model


class Look:
    """Models on the weights that learn, one for every gradient to compare."""

    def __init__(self, network, synthesizer, settings):
        def guessing(scale):
            return ksg.methods.SyntheticGradients(
                settings.length, synthesizer, scale
            )

        self.exact = compiled(network, "bptt", settings.jit)
        self.models = {
            "truncated": compiled(network, guessing(0.0), settings.jit),
            "scaled": compiled(network, guessing(settings.scale), settings.jit),
            "whole": compiled(network, guessing(1.0), settings.jit),
        }

    def __call__(self, x, y):
        def gradient(model):
            _, gradients = model.estimate_gradients(x, y)
            return np.concatenate([np.ravel(g) for g in gradients])

        exact = gradient(self.exact)
        found = {
            name: float(
                np.linalg.norm(gradient(model) - exact) / np.linalg.norm(exact)
            )
            for name, model in self.models.items()
        }
        guessed = ksg.diagnostics.boundary_gradients(self.models["whole"], x, y)
        return found | {
            "cosine": guessed.cosine,
            "error": guessed.relative_error,
        }


def run(settings):
    """Rows of numbers, one for every look."""
    corpus = ksg.data.text.get(settings.data)
    size = len(corpus.vocabulary)
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(size, 64),
            keras.layers.LSTM(settings.units, return_sequences=True),
            keras.layers.Dense(size),
        ]
    )
    method = ksg.methods.SyntheticGradients(
        settings.length,
        scale=settings.scale,
        bootstrap=settings.bootstrap,
        synthesizer_optimizer=keras.optimizers.SGD(settings.synthesizer_rate),
    )
    model = compiled(
        network, method, settings.jit, settings.learning_rate, stateful=True
    )
    look = Look(
        network, model.method_state.parts["synthesis"].network, settings
    )
    streams = [
        ksg.data.stream(tokens, settings.rows, settings.window)
        for tokens in (corpus.train[: settings.limit], corpus.valid)
    ]
    windows = streams[0].repeat()
    probe = next(iter(streams[1]))
    rows = []
    for place in range(settings.looks + 1):
        logged = {}
        if place:
            history = model.fit(
                windows.skip((place - 1) * settings.windows),
                steps_per_epoch=settings.windows,
                verbose=0,
                shuffle=False,
            ).history
            logged = {name: values[0] for name, values in history.items()}
            logged["loss"] = ksg.data.text.bits(logged["loss"])
        segments = -(-settings.window // settings.length)
        done = {"updates": place * settings.windows * segments}
        rows.append(done | logged | look(*probe))
        print(line(rows[-1]), flush=True)
    return rows


HEAD = (
    "| updates | bits | synthesiser's loss | guess: cosine | guess: error "
    "| parameters: truncated | scaled guesses | whole guesses |"
)


def line(row):
    names = ("loss", "synthesizer_loss", "cosine", "error")
    names += ("truncated", "scaled", "whole")
    cells = [f"{row[name]:.3g}" if name in row else "" for name in names]
    return markdown([str(row["updates"]), *cells])


def draw(rows, path):
    figure, axes = subplots(1, 3, (13, 4), layout="tight")
    updates = [row["updates"] for row in rows]

    def plot(axis, name, label):
        axis.plot(
            [u for u, row in zip(updates, rows, strict=True) if name in row],
            [row[name] for row in rows if name in row],
            marker="o",
            label=label,
        )

    plot(axes[0], "synthesizer_loss", "mean square of its error")
    axes[0].set_title("Loss of the synthesiser (its own targets)")
    plot(axes[1], "cosine", "cosine with the truth")
    plot(axes[1], "error", "relative error (0 guessed: 1)")
    axes[1].set_title("Guesses at the boundaries")
    plot(axes[2], "truncated", "truncated")
    plot(axes[2], "scaled", "with scaled guesses")
    plot(axes[2], "whole", "with whole guesses")
    axes[2].set_title("Gradient of the parameters")
    axes[2].set_ylabel("relative error against exact BPTT")
    for axis in axes:
        axis.set_xlabel("updates")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=120)


def main(argv=None):
    parser = make_parser()
    settings = parser.parse(argv)
    keras.utils.set_random_seed(settings.seed)
    print(HEAD + "\n|" + "---|" * 8)
    try:
        rows = run(settings)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    write_json(settings.out / "rows.json", rows)
    draw(rows, settings.out / "quality.png")
    print(f"Written: {settings.out / 'quality.png'}")


if __name__ == "__main__":
    main()
