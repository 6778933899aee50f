"""Residual blocks around a linear recurrence, on the adding problem.

    python examples/linear_recurrence.py                       # MinGRU
    python examples/linear_recurrence.py --layer LRU --length 1000
    python examples/linear_recurrence.py --method tbptt --quick

A linear recurrence alone is linear in its state, and the LRU in its inputs as
well. What makes a model of it is what stands around it, at every step alone:

    x + GLU(recurrence(norm(x))),   GLU(y) = W y * sigmoid(V y)

Blocks of this form are stacked (Orvieto et al., 2023, arXiv:2303.06349). They
are built here from layers of Keras, to be changed: another norm, dropout
behind. With `--kernel 4` a convolution over four steps stands before the
recurrence. All else acts on single steps, so that a `SequenceModel` cuts the
whole by any of its methods.

Every epoch prints the mean squared error on a test set; always answering 1 has
0.167.
"""

import keras
from common import Parser, Table, positive_float, write_json

import keras_seqgrad as ksg

QUICK = {"length": 20, "width": 8, "batches": 20, "epochs": 2, "test": 100}
LAYERS = ("LRU", "MinGRU", "MinLSTM", "QRNN", "RGLRU")


def block(x, kind, kernel=None, dropout=0.0, **options):
    """norm, perhaps a convolution, recurrence, gated linear unit, skip."""
    width = x.shape[-1]
    y = keras.layers.LayerNormalization()(x)
    if kernel:
        y = ksg.layers.CausalConv1D(width, kernel, groups=width)(y)
    layer = getattr(ksg.layers, kind)
    y = layer(width, return_sequences=True, **options)(y)
    gate = keras.layers.Dense(width, "sigmoid")(y)
    y = keras.layers.Multiply()([keras.layers.Dense(width)(y), gate])
    y = keras.layers.Dropout(dropout)(y)
    return keras.layers.Add()([x, y])


def network(features, settings):
    """Blocks, of which a last recurrence reads the answer."""
    inputs = keras.Input((None, features))
    x = keras.layers.Dense(settings.width)(inputs)
    for _ in range(settings.blocks):
        x = block(x, settings.layer, settings.kernel)
    last = ksg.layers.MinGRU(settings.width)(x)
    return keras.Model(inputs, keras.layers.Dense(1)(last))


def parse(argv):
    parser = Parser(__doc__, "runs/linear_recurrence", quick=("tiny", QUICK))
    add, count = parser.add_argument, parser.count
    add("--layer", choices=LAYERS, default="MinGRU")
    add("--method", default="bptt", help="as in compile(method=...)")
    count("--length", 200, "steps of a sequence")
    count("--blocks", 2)
    count("--kernel", None, "steps of a short convolution; default: none")
    count("--width", 64)
    count("--epochs", 10)
    count("--batches", 200, "of 32 sequences, in an epoch")
    count("--test", 1000, "sequences")
    add("--learning-rate", type=positive_float, default=3e-3)
    add("--seed", type=int, default=0)
    return parser.parse(argv)


def main(argv=None):
    """Prints a row an epoch; the test errors."""
    settings = parse(argv)
    keras.utils.set_random_seed(settings.seed)
    task = ksg.data.tasks.Adding(settings.length)
    train = task.dataset(32, settings.batches, seed=settings.seed)
    test = task.dataset(settings.test, 1, seed=settings.seed + 1)
    model = ksg.SequenceModel.from_model(network(2, settings))
    model.compile(
        keras.optimizers.Adam(settings.learning_rate, clipnorm=1.0),
        "mse",
        method=settings.method,
        jit_compile=settings.jit,
    )
    print(
        f"adding over {settings.length} steps, {settings.blocks} blocks of "
        f"{settings.layer}, width {settings.width}, "
        f"{model.count_params()} weights, {model.method}"
    )
    table = Table("{:>6}  {:>8}  {:>8}", "epoch", "train", "test")
    errors = []

    def show(epoch, logs):
        errors.append(logs["val_loss"])
        table.add(epoch + 1, *(f"{logs[n]:.4f}" for n in ("loss", "val_loss")))

    model.fit(
        train,
        epochs=settings.epochs,
        validation_data=test,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=show)],
        verbose=0,
    )
    write_json(settings.out / "results.json", {"test": errors})
    model.save(settings.out / "model.keras")
    return errors


if __name__ == "__main__":
    main()
