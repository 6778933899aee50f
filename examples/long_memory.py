"""Linear recurrences beside an LSTM on long sequences, at equal processor time.

    python examples/long_memory.py pixels --layer MinGRU --data FOLDER
    python examples/long_memory.py adding --layer LRU --seed 1
    python examples/long_memory.py copy --layer LSTM --minutes 90
    python examples/long_memory.py adding --quick

    pixels    MNIST, one pixel a step, 784 steps; accuracy. --data is a folder
              of the four idx files, --download takes tensorflow-datasets
    adding    two marked numbers among 1,000; mean squared error, 1/6 without
              memory
    copy      ten of eight symbols, 499 blank steps and a sign, then the ten
              again; accuracy of these ten, 1/8 without memory

MinGRU and LRU stand in residual blocks (`linear_recurrence.py`) and a last
MinGRU reads them; the LSTM is one layer of about as many weights. The gates of
MinGRU and LSTM begin with time scales of up to the whole length (Tallec and
Ollivier, 2018, arXiv:1804.11188). All are trained by BPTT with Adam, whose
rate rises over a fiftieth of the time and then falls to 0 as a cosine.

What is spent is processor time of training alone, without compiling and tests.
A run that was stopped goes on when it is started again; so does one that is
done, with more --minutes, at the rate of that time. `--results` gets a JSON
file a run, of which `python -m benchmarks.learned` makes the tables.
"""

import math
import pathlib

import keras
import long_runs
import tensorflow as tf
from common import Parser, Table, positive_float, write_json
from linear_recurrence import block

import keras_seqgrad as ksg

LAYERS = ("MinGRU", "LRU", "LSTM")
QUICK = {
    "length": 20,
    "width": 4,
    "units": 4,
    "batch_size": 4,
    "updates": 2,
    "test": 8,
    "minutes": 1e-6,
}
LENGTHS = {"pixels": 784, "adding": 1000, "copy": 500}
COPIED, SYMBOLS = 10, 8
WARM = 0.02


def chrono(longest, *signs):
    """Biases of gates with time scales between 1 and `longest` steps.

    Args:
        longest: The longest.
        *signs: Of each block of the bias: 1 of a gate that keeps, -1 of one
            that takes, 0 of all else.
    """

    def draw(shape, dtype=None):
        units = shape[0] // len(signs)
        bias = keras.ops.log(
            keras.random.uniform((units,), 1.0, longest - 1.0, dtype=dtype)
        )
        return keras.ops.concatenate([sign * bias for sign in signs])

    return draw


def recurrences(x, settings, last):
    """The layers between the inputs and the answers."""
    length = settings.length
    if settings.layer == "LSTM":
        return keras.layers.LSTM(
            settings.units,
            unit_forget_bias=False,
            bias_initializer=chrono(length, -1, 1, 0, 0),
            return_sequences=not last,
        )(x)
    slow = {"bias_initializer": chrono(length, -1, 0)}
    options = slow
    if settings.layer == "LRU":
        low, high = settings.radius
        phase = settings.phase
        options = {"min_radius": low, "max_radius": high, "max_phase": phase}
    x = keras.layers.Dense(settings.width)(x)
    for _ in range(settings.blocks):
        x = block(x, settings.layer, **options)
    x = keras.layers.LayerNormalization()(x)
    return ksg.layers.MinGRU(x.shape[-1], **slow)(x) if last else x


def copy_memory(delay, batch_size, seed):
    """Endless batches: symbols, blanks, a sign, and the symbols again.

    x has a column for the blank, each symbol and the sign; weights make the
    loss the mean over the steps of the answer.
    """

    def draw(place):
        shown = tf.random.stateless_uniform(
            (batch_size, COPIED), [seed, place], 1, SYMBOLS + 1, tf.int64
        )
        blank = tf.zeros((batch_size, delay - 1), tf.int64)
        sign = tf.fill((batch_size, 1), tf.constant(SYMBOLS + 1, tf.int64))
        answer = tf.zeros_like(shown)
        x = tf.concat([shown, blank, sign, answer], axis=1)
        y = tf.concat([answer, blank, sign * 0, shown], axis=1)
        steps = delay + 2 * COPIED
        counts = tf.range(steps) >= steps - COPIED
        weight = tf.cast(counts, "float32") * steps / COPIED
        weight = tf.broadcast_to(weight, (batch_size, steps))
        return tf.one_hot(x, SYMBOLS + 2), y, weight

    return tf.data.Dataset.counter().map(draw)


def data(settings):
    """Endless batches of training, and the tests, a small one and the whole."""
    size, seed = settings.batch_size, settings.seed
    length, count = settings.length, settings.test
    if settings.task == "pixels":
        task = ksg.data.tasks.SequentialMNIST(
            path=settings.data, download=settings.download
        )
        train = task.dataset(size, seed=seed).repeat()
        test = task.dataset(100, seed=0, split="test").cache()
        return train, test.take(math.ceil(count / 100)), test
    if settings.task == "adding":
        task = ksg.data.tasks.Adding(length)
        test = task.dataset(count, 1, seed=10_000).cache()
        return task.dataset(size, seed=seed), test, test
    test = copy_memory(length, count, 10_000).take(1).cache()
    return copy_memory(length, size, seed), test, test


def make_model(settings, shape):
    """The model, compiled for its task."""
    task = settings.task
    inputs = keras.Input((None, shape[-1]))
    x = recurrences(inputs, settings, last=task != "copy")
    outputs = {"pixels": 10, "adding": 1, "copy": SYMBOLS + 1}[task]
    model = ksg.SequenceModel.from_model(
        keras.Model(inputs, keras.layers.Dense(outputs)(x))
    )
    loss, metrics = "mse", None
    if task != "adding":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
    model.compile(
        keras.optimizers.Adam(settings.learning_rate, global_clipnorm=1.0),
        loss,
        weighted_metrics=metrics,
        method="bptt",
        jit_compile=settings.jit,
    )
    return model


class Budget(long_runs.Run):
    """Spends processor seconds, and sets the rate by them.

    Args:
        seconds: To be spent.
        rate: The largest learning rate.
        *run: As `long_runs.Run` takes it.
    """

    def __init__(self, seconds, rate, *run):
        super().__init__(*run)
        self.seconds, self.rate = seconds, rate
        names = "updates", "seconds", "loss", "test"
        self.table = Table("{:>8}  {:>8}  {:>8}  {:>8}", *names)

    def on_train_batch_begin(self, batch, logs=None):
        share = min(1.0, self.spent / self.seconds)
        rate = 0.5 * (1 + math.cos(math.pi * share))
        rate *= min(1.0, 0.05 + share / WARM)
        self.model.optimizer.learning_rate = self.rate * rate
        super().on_train_batch_begin(batch)

    def on_epoch_end(self, epoch, logs):
        super().on_epoch_end(epoch, logs)
        if "val_loss" in logs:
            shown = [f"{logs['loss']:.4f}"]
            shown.append(f"{logs.get('val_accuracy', logs['val_loss']):.4f}")
            updates = self.reports[-1]["updates"]
            self.table.add(updates, f"{self.spent:.0f}", *shown)

    def is_over(self):
        return super().is_over() or self.spent >= self.seconds


def parse(argv):
    parser = Parser(__doc__, "runs/long_memory", quick=("tiny", QUICK))
    add, count = parser.add_argument, parser.count
    add("task", choices=LENGTHS)
    add("--layer", choices=LAYERS, default="MinGRU")
    add("--results", type=pathlib.Path, help="folder of JSON; default: --out")
    add("--data", type=pathlib.Path, help="folder of the four idx files")
    add("--download", action="store_true", help="by tensorflow-datasets")
    count("--length", None, "steps, or blank steps; 1000 or 500; not of pixels")
    count("--width", 96, "of the blocks")
    count("--blocks", 2)
    count("--units", 152, "of the LSTM")
    add("--radius", type=float, nargs=2, default=(0.9, 0.999), help="of LRU")
    add("--phase", type=positive_float, default=math.pi / 10, help="of LRU")
    count("--batch-size", 50)
    add("--learning-rate", type=positive_float, default=3e-3)
    add("--minutes", type=positive_float, default=45.0, help="processor time")
    count("--updates", 20, "between two states")
    count("--every", 5, "states between two tests while it trains")
    count("--test", 1000, "sequences of such a test")
    long_runs.add_arguments(parser)
    add("--seed", type=int, default=0)
    settings = parser.parse(argv)
    if settings.task == "pixels" or settings.length is None:
        settings.length = LENGTHS[settings.task]
    return settings


def main(argv=None):
    """Prints a row a test; what the file of results holds."""
    settings = parse(argv)
    end = long_runs.begin(settings)
    name = f"{settings.task}_{settings.layer.lower()}_{settings.seed}"
    path = (settings.results or settings.out) / f"{name}.json"
    keras.utils.set_random_seed(settings.seed)
    train, small, whole = data(settings)
    model = make_model(settings, train.element_spec[0].shape)
    said = ["task", "layer", "seed", "length", "batch_size", "learning_rate"]
    said += ["units"] if settings.layer == "LSTM" else ["width", "blocks"]
    if settings.layer == "LRU":
        settings.radius = list(settings.radius)  # as JSON gives it back
        said += ["radius", "phase"]
    found = {key: getattr(settings, key) for key in said}
    found["weights"] = model.count_params()
    seconds = 60 * settings.minutes
    print(f"{name}: {found['weights']} weights, {seconds:.0f} s", flush=True)
    budget = Budget(seconds, settings.learning_rate, path, found, end)
    found = budget.found
    model.fit(
        train,
        epochs=1_000_000,
        steps_per_epoch=settings.updates,
        validation_data=small,
        validation_freq=settings.every,
        callbacks=[budget, budget.states(settings.out)],
        verbose=0,
    )
    last = {key: found["reports"][-1][key] for key in ("updates", "seconds")}
    tested = model.evaluate(whole, verbose=0, return_dict=True)
    found["test"] = {**last, **tested}
    write_json(path, found)
    print(f"{name}: {found['test']}", flush=True)
    return found


if __name__ == "__main__":
    main()
