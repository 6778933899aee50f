"""A synthesiser while it learns: its network, its optimizer, its metrics."""

import keras
import tensorflow as tf

from keras_seqgrad.network.segmented import SegmentedModel
from keras_seqgrad.state.carried import CarriedState
from keras_seqgrad.tensors import nested, replicas, updates
from keras_seqgrad.tensors.shape import shape_of

READINGS = {"state", "input", "target"}


def mean_square(error, rows):
    """Mean over units, and over those rows (batch,) that count.

    Where there are several replicas, this one's part of the mean over all.
    """
    per_row = tf.reduce_mean(tf.square(error), axis=1)
    total = tf.reduce_sum(tf.where(rows, per_row, 0.0))
    counted = replicas.total(tf.reduce_sum(tf.cast(rows, "float32")))
    return total / tf.maximum(counted, 1.0)


def own_optimizer(given, optimizer):
    """A new optimizer as the one given (or named), or as the model's."""
    if given is not None:
        optimizer = keras.optimizers.get(given)
        return type(optimizer).from_config(optimizer.get_config())
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    config = optimizer.get_config() | {
        "learning_rate": replicas.number(optimizer.learning_rate),
        "use_ema": False,
        "ema_overwrite_frequency": None,
        "loss_scale_factor": None,
    }
    return type(optimizer).from_config(config)


class Synthesis(keras.layers.Layer):
    """What a method that guesses boundary gradients keeps and trains.

    Args:
        network: Keras model or layer from (batch, size) to (batch, size); or
            a model with a dict of inputs among "state", "input" and "target";
            or either of them with a time axis in front of its features, which
            is then a recurrent model that goes from boundary to boundary.
        size: Number of state units.
        optimizer: Keras optimizer of its own.
        stateful: Whether a recurrent network's state is carried from window
            to window.
        auxiliary: Whether there is a second head, linear, that predicts the
            next boundary's guess.
    """

    def __init__(self, network, size, optimizer, stateful, auxiliary):
        super().__init__(name="synthesis", dtype="float32", autocast=False)
        self.network = network
        self.size = size
        self.readings = readings(network)
        self.segmented, self.memory = None, None
        check(self, network)
        if is_recurrent(network):
            self.segmented = SegmentedModel(network, False)
            self.memory = CarriedState(
                "synthesizer", stateful, self.segmented.state_spec
            )
        self.head = None
        if auxiliary:
            self.head = keras.layers.Dense(
                size, kernel_initializer="zeros", dtype="float32"
            )
            self.head.build((None, size))
        self.optimizer = optimizer
        self.optimizer.build(self.learned)
        self.loss_tracker = keras.metrics.Mean("synthesizer_loss")
        self.ratio_tracker = keras.metrics.Mean("synthesizer_norm_ratio")
        self.built = True

    @property
    def learned(self):
        """The variables that learn."""
        head = [] if self.head is None else self.head.trainable_variables
        return [*self.network.trainable_variables, *head]

    @property
    def moving(self):
        """The variables that change by learning, but for the metrics'."""
        fixed = self.network.non_trainable_variables
        return [*self.learned, *fixed, *self.optimizer.variables]

    def start(self, batch_size, fresh):
        """State of a recurrent network before a window; [] for another."""
        if self.segmented is None:
            return []
        start = self.segmented.initial_state(batch_size)
        if fresh is True:
            return start
        kept, _ = self.memory.read(start, batch_size)
        return nested.select(fresh, start, kept)

    def admit(self, batch_size):
        """Makes room for what a recurrent network hands on, row by row."""
        if self.memory is not None:
            self.memory.admit(batch_size)
            # Its rows are those of the training, which says when they may go.
            self.memory.release()

    def restart(self, memory, rows):
        """`memory`, but as before a window in the rows not in `rows`."""
        if self.segmented is None:
            return memory
        start = self.segmented.initial_state(shape_of(rows)[0])
        return nested.select(rows, memory, start)

    def keep(self, memory):
        """Keeps what a recurrent network hands to the next window."""
        if self.memory is not None:
            self.memory.write(memory)

    def guess(self, reading, memory, training=False):
        """(guess (batch, size), state of a recurrent network after it).

        In float32, whatever the precision of a network of the user's own.
        """
        reading = {name: reading[name] for name in self.readings or ["state"]}
        if self.segmented is not None:
            reading = keras.tree.map_structure(lambda t: t[:, None], reading)
        inputs = reading if self.readings else reading["state"]
        if self.segmented is None:
            made = self.network(inputs, training=training)
        else:
            made, memory = self.segmented.run_segment(inputs, memory, training)
            made = made[:, 0]
        return tf.cast(made, "float32"), memory

    def advance(self, reading, memory):
        """State of a recurrent network after it has read `reading`."""
        return self.guess(reading, memory)[1] if memory else memory

    def learn(self, reading, memory, target, rows, ahead):
        """Moves the network towards `target` in `rows`, and enters metrics.

            loss = mean over rows and units of (guess - target)^2

        Nothing moves, by momentum or regularisers either, where no row counts.

        Args:
            reading: What the network reads.
            memory: State of a recurrent network before it reads that.
            target: Gradient it should have guessed, (batch, size).
            rows: Boolean (batch,): the others do not count.
            ahead: (state after the segment's first step, next boundary's
                guess, rows of it that count), for the second head, or None.
        """
        # An overflow under loss scaling must not spoil the network.
        rows = rows & tf.reduce_all(tf.math.is_finite(target), axis=1)
        target = tf.where(rows[:, None], target, 0.0)
        before = [tf.identity(variable) for variable in self.moving]
        with tf.GradientTape() as tape:
            guess, _ = self.guess(reading, memory, training=True)
            guess = tf.where(rows[:, None], guess, 0.0)
            loss = total = mean_square(guess - target, rows)
            for variable in self.learned:
                if variable.regularizer is not None:
                    total += variable.regularizer(variable) / replicas.count()
            if ahead is not None:
                first, expected, counted = ahead
                total += mean_square(self.head(first) - expected, counted)
        if self.learned:
            gradients = tape.gradient(total, self.learned)
            gradients = nested.fill(gradients, self.learned)
            updates.apply(self.optimizer, gradients, self.learned)
        taught = replicas.any_of(tf.reduce_any(rows))
        counts = tf.cast(taught, "float32")
        ratio = tf.math.divide_no_nan(tf.norm(guess), tf.norm(target))
        loss *= replicas.count()
        self.loss_tracker.update_state(loss, sample_weight=counts)
        self.ratio_tracker.update_state(ratio, sample_weight=counts)
        if ahead is not None:
            taught |= replicas.any_of(tf.reduce_any(counted))
        # Not a condition: around one XLA copies every variable.
        for variable, old in zip(self.moving, before, strict=True):
            variable.assign(tf.where(taught, variable, old))


def readings(network):
    """What a network with a dict of inputs reads, else an empty list."""
    named = getattr(network, "input", None)
    return sorted(named) if isinstance(named, dict) else []


def is_recurrent(network):
    """Whether the first input of a network has a time axis."""
    inputs = getattr(network, "inputs", None)
    if not inputs:
        return False
    state = network.input["state"] if readings(network) else inputs[0]
    return len(state.shape) == 3


def check(synthesis, network):
    """Refuses a network that does not fit the state."""
    size, names = synthesis.size, synthesis.readings
    if names and not {"state"} <= set(names) <= READINGS:
        raise ValueError(
            "A synthesizer with a dict of inputs may name 'state' and, beside "
            "it, 'input' and 'target', those of the next step. Received the "
            f"names: {names}"
        )
    if not getattr(network, "inputs", None):
        network(keras.ops.zeros((1, size)))
        shape = keras.ops.shape(network(keras.ops.zeros((1, size))))
    else:
        given = network.input["state"] if names else network.inputs[0]
        if given.shape[-1] != size:
            shape = given.shape
        elif len(network.outputs) > 1:
            shape = [tuple(t.shape) for t in network.outputs]
        else:
            shape = network.output_shape
    wanted = (None, None, size) if is_recurrent(network) else (None, size)
    if len(shape) != len(wanted) or shape[-1] != size:
        raise ValueError(
            f"The model's state has {size} units (all layers', and for an LSTM "
            f"h and c), so the synthesizer must map {wanted} to {wanted}. "
            f"Received one with the shape {tuple(shape)}. A function from the "
            "state size to a model, as ksg.synthesizers.dense is, spares you "
            "the count."
        )
