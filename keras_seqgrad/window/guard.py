"""What keeps a window that is no number from the model.

A window counts as a whole or not at all. Its step runs as ever, except that
gradients which are no numbers are taken for 0; in the end all that a bad one
has changed is put back, by selecting, so that no host has to wait for it.
A window is bad to all replicas or to none.
"""

import functools
import warnings

import keras
import tensorflow as tf

from keras_seqgrad.state import snapshot
from keras_seqgrad.state.carried import CarriedState
from keras_seqgrad.tensors import origin, replicas
from keras_seqgrad.window import finite, missing

CAUSES = ("input", "target", "loss", "gradient", "state")


class Guard:
    """What `compile(..., on_bad_window=...)` asks for.

    Args:
        choice: "raise", "skip" or None.
        strategy: The `tf.distribute` strategy of the model.

    Attributes:
        metrics: What it logs.
    """

    def __init__(self, choice=None, strategy=None):
        check(choice)
        self.choice = choice
        self.metrics = []
        self.advice = ""
        self.is_asked = False
        if choice is None:
            return
        with strategy.scope():
            self._keep()

    def _keep(self):
        # Of the window that runs: whether its loss is bad, and a gradient, and
        # in which rows its outputs are, as `finite.told` says it.
        self.seen = _integers(3 + finite.NAMED, "seen_in_window")
        if self.choice == "skip":
            self.metrics.append(BadWindows(name="bad_windows"))
            return
        # Number of windows, that of the first bad one, its cause, its rows.
        self.record = _integers(4 + finite.NAMED, "first_bad_window")

    # --- in a step --------------------------------------------------------

    def train(self, window, carried):
        """Trains on a window, and keeps the state after it.

        Args:
            window: The `Window`.
            carried: The `CarriedState` that it starts from.
        """
        model = window.model
        self.is_asked = True
        self.advice = model.method.when_not_finite
        if self.choice is None:
            carried.write(model.method.train(window))
            return
        if not model.optimizer.built:
            model.optimizer.build(window.variables)
        memories = [carried, *_memories(model.method_state)]
        kept = _changing(model, memories)
        before = [tf.identity(variable) for variable in kept]
        self.seen.assign(tf.zeros_like(self.seen))
        window.guard = self
        carried.write(model.method.train(window))
        lost = _lost_rows(memories)
        bad = self._is_bad(window, lost)
        halted = False
        if self.choice == "raise":
            # Nothing counts after the first one, until the host looks.
            halted = self.record[1] > 0
            self._note(window, bad & ~halted, lost)
        for variable, value in zip(kept, before, strict=True):
            now = tf.convert_to_tensor(variable)
            variable.assign(finite.choose(bad | halted, value, now))
        _reset_new(model.metrics, kept, bad | halted)
        if lost is not None:
            for memory in memories:
                memory.restart(lost & bad)
        for metric in self.metrics:
            metric.update_state(bad)

    def see_loss(self, loss, outputs):
        """Takes note of a loss of the window.

        Args:
            loss: The loss, scalar.
            outputs: Those that it judges.
        """

        def note():
            rows = self.seen[2:]
            if self.choice == "raise":
                rows = tf.where(
                    self.seen[0] > 0,
                    rows,
                    finite.told(finite.rows_not_finite(outputs)),
                )
            self.seen.assign(tf.concat([[1], self.seen[1:2], rows], 0))

        fine = finite.is_finite(loss)
        if self.choice == "raise":
            # Rows are those of the first bad loss, wherever that is.
            fine = ~replicas.any_of(~fine)
        tf.cond(fine, lambda: None, note)

    def see_gradients(self, gradients, optimizer):
        """The gradients of an update, zeros where one of them is bad.

        Scaled ones may overflow: their optimizer leaves such an update out.

        Args:
            gradients: The gradients.
            optimizer: The model's optimizer.
        """
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            return gradients
        fine = ~replicas.any_of(~finite.are_finite(gradients))
        bad = tf.where(fine, self.seen[1], 1)
        self.seen.assign(tf.concat([self.seen[:1], [bad], self.seen[2:]], 0))
        return [finite.cleared(gradient, fine) for gradient in gradients]

    def _is_bad(self, window, lost):
        """Whether the window is bad, after its step."""
        learned = _learned(window.model)
        bad = tf.reduce_any(self.seen[:2] > 0) | ~finite.are_finite(learned)
        if lost is not None:
            bad |= tf.reduce_any(lost)
        inputs = finite.floats(window.inputs)
        return replicas.any_of(bad | ~finite.are_finite(inputs))

    def _note(self, window, bad, lost):
        """Counts the window, and says of a bad one what went bad first."""
        number = self.record[0] + 1

        def look():
            inputs = finite.told(finite.rows_not_finite(window.inputs))
            targets = finite.told(missing.rows_missing(window))
            lines = [
                [inputs[:1], inputs],
                [targets[:1], targets],
                [self.seen[:1], self.seen[2:]],
                [self.seen[1:2], finite.told(lost)],
                [tf.constant([1], "int64"), finite.told(lost)],
            ]
            return tf.stack([tf.concat(line, 0) for line in lines])

        shape = len(CAUSES), 2 + finite.NAMED
        found = tf.cond(bad, look, lambda: tf.zeros(shape, "int64"))
        found = finite.of_all(found, window.batch_size)
        now = self.record[2:]
        for place in reversed(range(len(CAUSES))):
            line = tf.concat([[place + 1], found[place, 1:]], 0)
            now = tf.where(found[place, 0] > 0, line, now)
        now = tf.concat([[number, number], now], 0)
        before = tf.concat([[number], self.record[1:]], 0)
        self.record.assign(tf.where(bad, now, before))

    # --- at the host ------------------------------------------------------

    def callbacks(self, model):
        """Callbacks that `fit` adds."""
        looks = self.choice == "raise" or origin.overrides(model, "train_step")
        return [LookAtWindows(self)] if looks else []

    def begin(self):
        """Starts to count windows anew."""
        if self.choice == "raise":
            self.record.assign(tf.zeros_like(self.record))

    def look(self, model):
        """Fails if there was a bad window; warns if nobody looked for one.

        Raises:
            ValueError: There was; the text says which and what went bad.
        """
        self._warn_if_not_asked(model)
        if self.choice != "raise":
            return
        _, number, cause, count, *rows = self.record.numpy().tolist()
        if not number:
            return
        self.begin()
        rows, cause = [row for row in rows if row >= 0], CAUSES[cause - 1]
        advice = "" if cause in ("input", "target") else self.advice
        where = f"in rows {rows}" if rows else "in no row that could be told"
        if count > len(rows):
            where += f" and {count - len(rows)} more"
        raise ValueError(
            f"Window {number} of this training is bad: its {cause} is not "
            f"finite, {where}. Weights, optimizer and what the method keeps "
            f"are as they were before it. {advice}Look at the data of that "
            "window where it is input or target, at learning rate and clipping "
            "where it is another; on_bad_window='skip' leaves such windows out."
        )

    def _warn_if_not_asked(self, model):
        if self.is_asked:
            return
        self.is_asked = True  # said once
        given = [f"method={model.method!r}", f"stateful={model.stateful}"]
        given.append(f"on_bad_window={self.choice!r}")
        plain = ["method=BPTT()", "stateful=False", "on_bad_window=None"]
        if given == plain:
            return
        warnings.warn(
            f"`{type(model).__name__}.train_step` has trained a batch without "
            "`super().train_step(data)`, which is what follows the method, "
            "carries the state of rows and looks for bad windows. Received: "
            f"{', '.join(given)}. Call it in your own step, and add to its "
            "logs; or override `compute_loss` or `compute_metrics` instead.",
            stacklevel=2,
        )


class LookAtWindows(keras.callbacks.Callback):
    """Ends a training at the first bad window, by whatever step."""

    def __init__(self, guard):
        super().__init__()
        self.guard = guard

    def on_train_begin(self, logs=None):
        self.guard.begin()

    def on_train_batch_end(self, batch, logs=None):
        self.guard.look(self.model)


def check(choice):
    """Refuses a choice that there is not, or not here."""
    if choice is not None and choice not in ("raise", "skip"):
        raise ValueError(
            "`on_bad_window` must be 'raise', 'skip' or None. Received: "
            f"on_bad_window={choice!r}"
        )


class BadWindows(keras.metrics.Metric):
    """Number of bad windows, which every replica counts."""

    def __init__(self, **options):
        super().__init__(**options)
        self.total = self.add_variable(
            (), "zeros", aggregation="only_first_replica", name="total"
        )

    def update_state(self, bad):
        """Counts a window if it is bad."""
        self.total.assign_add(tf.cast(bad, self.total.dtype))

    def result(self):
        return self.total + 0.0


def _integers(size, name):
    # GPUs have no variables of 32 bits. Every replica has its own.
    return keras.Variable(
        "zeros",
        shape=(size,),
        dtype="int64",
        trainable=False,
        aggregation="only_first_replica",
        synchronization="on_read",
        name=name,
    )


# --- what a step changes ----------------------------------------------------


def _memories(method_state):
    """What parts of a method carry for each row."""
    return [
        found
        for part in method_state.parts.values()
        for found in vars(part).values()
        if isinstance(found, CarriedState) and found.stateful
    ]


def _changing(model, memories):
    """All that a step changes, but for what is carried for each row."""
    apart = {id(v) for memory in memories for v in memory.variables}
    return [
        variable
        for variables in snapshot.groups(model).values()
        for variable in variables
        if id(variable) not in apart
    ]


def _learned(model):
    """What the method has learned itself."""
    found = snapshot.groups(model)
    apart = {id(v) for v in model.metrics_variables}
    return [
        tf.convert_to_tensor(variable)
        for variable in found["method"]
        if id(variable) not in apart
    ]


def _reset_new(metrics, kept, bad):
    """Resets metrics that made variables in the step, if the window is bad.

    They start so; the next trace knows these variables.
    """
    known = {id(variable) for variable in kept}

    def reset(metric):
        metric.reset_state()

    for metric in metrics:
        if any(id(variable) not in known for variable in metric.variables):
            tf.cond(bad, functools.partial(reset, metric), lambda: None)


def _lost_rows(memories):
    """Rows of which what is carried is not finite, (batch,), or None."""
    carried = [v for memory in memories if memory.stateful for v in memory.rows]
    return finite.rows_not_finite([tf.convert_to_tensor(v) for v in carried])
