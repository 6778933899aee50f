"""Learning over borders that truncation of the same memory cannot see past.

    python examples/marked_symbol.py                 # GRU, some minutes
    python examples/marked_symbol.py --quick         # fewer arms and steps
    python examples/marked_symbol.py --cell lstm --seeds 3
    python examples/marked_symbol.py --cell min_gru --units 64

A stream without end: now and then a symbol is marked, and 40 to 50 blank steps
later it is asked for. Every arm sees the same stream, once, and carries the
state on. SnAp pulls back 10 steps, or one, and carries traces of the recurrent
weights over the borders; e-prop is its form without self-recurrence.
TruncatedBPTT(40) has a little more memory than SnAp(10) for a GRU of 32 units;
TruncatedBPTT(120) and BPTT reach every marker. ARTBP cuts at random, and stores
windows of 200 steps, as BPTT does; "drawn" are its windows that end at the
cuts, 20 steps in the mean, as an unbiased gradient of a stream wants them.
SyntheticGradients predicts, from the state at a border, the gradient that would
come back to it. One step with RMSprop is the cheapest there is, and "readout"
trains no recurrent weight at all.

The cells start with long memory, all arms alike. The table gives the numbers
kept for each row beside weights and state, the accuracy over the last 5,000
steps (chance is 1/8), the step from which 2,000 steps were above 0.95, and
processor time.
`--out` gets accuracy.png and results.json.

Menick et al., 2020. A practical sparse approximation for real time recurrent
learning. arXiv:2006.07232.
"""

import dataclasses
import time
from typing import Any

import keras
import numpy as np
from common import Parser, Table, subplots, write_json

import keras_seqgrad as ksg

WINDOW, ROWS, LEARNT = 200, 32, 0.95
COLUMNS = "{:<20} {:>4} {:>9} {:>8} {:>9} {:>9} {:>8}"
HEAD = "arm", "seed", "kept", "updates", "accuracy", "learnt at", "seconds"
# Numbers that a step saves for its way back, in units.
SAVED = {"gru": 5, "lstm": 6, "min_gru": 3}
QUICK = {"steps": 2000, "arms": ["SnAp(10)", "TBPTT(40)"]}


@dataclasses.dataclass
class Arm:
    """A way to learn from the stream.

    Attributes:
        method: Function () -> the method.
        reach: Steps whose activations it keeps.
        optimizer: Name of the Keras optimizer.
        frozen: Whether recurrent weights stay as they are.
        law: What draws its windows, of `reach` steps in the mean; None for
            windows of `WINDOW` steps.
    """

    method: Any
    reach: int
    optimizer: str = "adam"
    frozen: bool = False
    law: Any = None


def truncated(length, **options):
    return Arm(lambda: ksg.methods.TruncatedBPTT(length), length, **options)


ARMS = {
    "SnAp(10)": Arm(lambda: ksg.methods.SnAp(10), 10),
    "SnAp(1)": Arm(lambda: ksg.methods.SnAp(1), 1),
    "e-prop(10)": Arm(lambda: ksg.methods.SnAp(10, False), 10),
    "TBPTT(20)": truncated(20),
    "TBPTT(40)": truncated(40),
    "TBPTT(60)": truncated(60),
    "TBPTT(120)": truncated(120),
    "BPTT": Arm(lambda: ksg.methods.BPTT(), WINDOW),
    "ARTBP(20)": Arm(lambda: ksg.methods.ARTBP(20, seed=0), WINDOW),
    "ARTBP(20), drawn": Arm(
        lambda: ksg.methods.ARTBP(20, cuts="window"),
        20,
        law=ksg.truncation.Random(20),
    ),
    "synthetic(10)": Arm(lambda: ksg.methods.SyntheticGradients(10), 10),
    "one step, RMSprop": truncated(1, optimizer="rmsprop"),
    "readout": truncated(10, frozen=True),
}


class LongMemory(keras.initializers.Initializer):
    """Gates that keep what they hold for 1 to `longest` steps, log uniform.

    Args:
        longest: Steps.
        signs: By block of the bias, 1 for a gate that keeps, -1 for one that
            lets in, 0 for all else.
        seed: Integer.
    """

    def __init__(self, longest, signs, seed):
        self.longest, self.signs, self.seed = longest, signs, seed

    def __call__(self, shape, dtype=None):
        units = shape[-1] // len(self.signs)
        draw = np.random.default_rng(self.seed).uniform
        bias = np.log(draw(1.0, self.longest, units))
        blocks = np.concatenate([sign * bias for sign in self.signs])
        found = np.zeros(shape)
        # A GRU has a second bias, of the recurrent product.
        found.reshape(-1, shape[-1])[0] = blocks
        return keras.ops.convert_to_tensor(found, dtype)


def make_model(arm, task, settings, seed):
    keras.utils.set_random_seed(seed)
    kind, signs, options = {
        "gru": (keras.layers.GRU, (1, 0, 0), {}),
        "lstm": (keras.layers.LSTM, (-1, 1, 0, 0), {"unit_forget_bias": False}),
        "min_gru": (ksg.layers.MinGRU, (-1, 0), {}),
    }[settings.cell]
    longest = task.shown + task.delay[1]
    layer = kind(
        settings.units,
        return_sequences=True,
        bias_initializer=LongMemory(longest, signs, seed),
        **options,
    )
    layer.trainable = not arm.frozen
    network = keras.Sequential(
        [
            keras.Input((None, task.symbols + 2)),
            layer,
            keras.layers.Dense(task.symbols, activation="softmax"),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    optimizer = keras.optimizers.get(arm.optimizer)
    optimizer.learning_rate = settings.learning_rate
    optimizer.clipnorm = 1.0
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
        method=arm.method(),
        jit_compile=settings.jit,
    )
    return model


def make_windows(arm, task, settings, seed):
    """The stream, and the (expected) steps of a window of it."""
    windows = task.dataset(ROWS, settings.steps // WINDOW, seed)
    if arm.law is None:
        return windows, WINDOW
    x, y, _ = (
        np.concatenate(list(part), axis=1)
        for part in zip(*windows.as_numpy_iterator(), strict=True)
    )
    # Few programs for XLA to compile.
    lengths = arm.reach * 2 ** np.arange(8)
    lengths = [*lengths[lengths < settings.steps], settings.steps]
    drawn = ksg.data.stream(
        np.concatenate(x),
        ROWS,
        arm.law,
        targets=np.concatenate(y),
        bucket_lengths=lengths,
        seed=seed,
    )

    def asked(x, y, weight):
        return x, y, weight * x["inputs"][..., -1]

    count = settings.steps // arm.reach
    return drawn.repeat().take(count).map(asked), arm.reach


class Accuracy(keras.callbacks.Callback):
    """Records the accuracy of every so many steps.

    Args:
        every: Steps.
        window: Steps of a window.
    """

    def __init__(self, every, window):
        super().__init__()
        self.windows, self.window = every // window, window
        self.steps, self.values = [], []

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.windows == 0:
            self.steps.append((batch + 1) * self.window)
            self.values.append(float(logs["accuracy"]))
            self.model.reset_metrics()


def kept(model, arm, settings):
    """Numbers for each row beside weights and state: activations, traces."""
    activations = SAVED[settings.cell] * settings.units * arm.reach
    influence = model.method_state.parts.get("influence")
    if influence is None:
        return activations
    traces = keras.tree.flatten(influence.specs())
    return activations + sum(int(np.prod(spec.shape)) for spec in traces)


def run(name, task, settings, seed):
    """(row of the table, curve) of an arm."""
    arm = ARMS[name]
    model = make_model(arm, task, settings, seed)
    windows, window = make_windows(arm, task, settings, seed)
    accuracy = Accuracy(settings.every, window)
    start = time.process_time()
    model.fit(windows, callbacks=[accuracy], verbose=0, shuffle=False)
    seconds = time.process_time() - start
    steps, values = np.array(accuracy.steps), np.array(accuracy.values)
    last = values[steps > settings.steps - 5000].mean()
    learnt = steps[values > LEARNT]
    return {
        "arm": name,
        "seed": seed,
        "kept": kept(model, arm, settings),
        "updates": int(model.optimizer.iterations),
        "accuracy": float(last),
        "learnt_at": int(learnt[0]) if len(learnt) else None,
        "seconds": seconds,
        "steps": steps.tolist(),
        "values": values.tolist(),
    }


def plot(results, task, path):
    figure, axes = subplots(1, 1, (9, 5))
    names = list(dict.fromkeys(result["arm"] for result in results))
    for place, name in enumerate(names):
        style = "-" if "SnAp" in name or "e-prop" in name else "--"
        for result in results:
            if result["arm"] == name:
                label = None if result["seed"] else name
                color = f"C{place % 10}"
                curve = result["steps"], result["values"]
                axes.plot(*curve, style, color=color, label=label)
    axes.axhline(1 / task.symbols, color="black", linewidth=1, linestyle=":")
    axes.set(xlabel="steps of the stream", ylabel="accuracy (dotted: chance)")
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", fontsize="small")
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/marked_symbol",
        quick=("two arms, few steps", QUICK),
    )
    add, count = parser.add_argument, parser.count
    add("--cell", choices=sorted(SAVED), default="gru")
    count("--units", 32)
    count("--steps", 20_000, "steps of the stream, one pass")
    count("--every", 2000, "steps of one figure of accuracy")
    count("--seeds", 1, "seeds 0, 1, ... for every arm")
    add("--delay", type=int, nargs=2, default=(40, 50), help="blank steps")
    add("--learning-rate", type=float, default=0.01)
    add("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    settings = parser.parse(argv)
    if settings.every % WINDOW or settings.steps % settings.every:
        parser.error(
            f"--every must be a multiple of {WINDOW} and --steps one of "
            f"--every. Received: {settings.every} and {settings.steps}"
        )
    return settings


def main(argv=None):
    """Prints the table, draws the picture; the results of all runs."""
    settings = parse(argv)
    settings.out.mkdir(parents=True, exist_ok=True)
    task = ksg.data.tasks.MarkedSymbol(WINDOW, tuple(settings.delay))
    table, results = Table(COLUMNS, *HEAD), []
    for name in settings.arms:
        for seed in range(settings.seeds):
            result = run(name, task, settings, seed)
            results.append(result)
            table.add(
                name,
                seed,
                result["kept"],
                result["updates"],
                f"{result['accuracy']:.3f}",
                result["learnt_at"] or "never",
                f"{result['seconds']:.0f}",
            )
    write_json(settings.out / "results.json", results)
    plot(results, task, settings.out / "accuracy.png")
    print(f"picture: {settings.out / 'accuracy.png'}")
    return results


if __name__ == "__main__":
    main()
