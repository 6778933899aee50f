"""Losses at the end of each part of a sequence that has one target.

The target belongs to the last step; FPTT asks for it at the end of every part,
where the best answer may not be known yet.
"""

import keras
import tensorflow as tf

from keras_seqgrad.window import added

# Where `MethodState.parts` keeps the table of the terminal loss.
TABLE = "class_distributions"

SPARSE = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
)
DENSE = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.categorical_crossentropy,
)


def going_on(window, segment):
    """1 for rows whose sequence goes on in a segment, 0 for others, (batch,).

    None where no row ends before the window does.
    """
    if window.lengths is None:
        return None
    return tf.cast(window.lengths > segment.start, "float32")


def weighted(window, length):
    """The loss of part p = 0, 1, … of K, times (p + 1) / K.

    A row has as many parts as its valid steps fill.
    """

    def part_loss(segment, outputs):
        share = segment.start // length + 1
        if window.lengths is None:
            share /= -(-window.steps // length)
            loss = window.target_loss(segment, outputs)
            return tf.cast(share, loss.dtype) * loss + added.to_loss(window)
        share /= -(-window.lengths // length)
        factors = tf.cast(share, "float32") * going_on(window, segment)
        loss = window.target_loss(segment, outputs, factors)
        return loss + added.to_loss(window)

    return part_loss


def terminal(window, length):
    """beta CE(y, p) + (1 - beta) (-sum Q log p), beta = t / T.

    p is what the model says after t of T steps. Q is the mean of what it said
    there in the previous epoch where the class was the same as now. T is the
    row's own number of steps, up to its last valid one.
    """
    table = window.method_state.parts[TABLE]

    def part_loss(segment, outputs):
        end = segment.start + segment.length
        part, rows = segment.start // length, going_on(window, segment)
        if rows is None:
            beta = end / window.steps
            loss = window.target_loss(segment, outputs)
            segment = window.counted(segment, outputs)
            divergence = table.divergence_of(
                part, segment.y, outputs, segment.sample_weight
            )
            beta = tf.cast(beta, loss.dtype)
            divergence = tf.cast(divergence, loss.dtype)
            loss = beta * loss + (1.0 - beta) * divergence
            return loss + added.to_loss(window)
        beta = tf.minimum(tf.cast(end / window.lengths, "float32"), 1.0)
        loss = window.target_loss(segment, outputs, beta * rows)
        segment = window.counted(segment, outputs)
        divergence = table.divergence_of(
            part, segment.y, outputs, segment.sample_weight, rows, 1.0 - beta
        )
        return loss + tf.cast(divergence, loss.dtype) + added.to_loss(window)

    return part_loss


def chosen(function, window):
    """`function(loss, y, y_pred, progress)` of the user."""

    def part_loss(segment, outputs):
        rows = going_on(window, segment) if window.one_target else None
        loss = window.target_loss(segment, outputs, rows)
        end = segment.start + segment.length
        progress = tf.cast(end / window.steps, loss.dtype)
        segment = window.counted(segment, outputs)
        made = function(loss, segment.y, outputs, progress)
        return made + added.to_loss(window)

    return part_loss


def kind_of(loss):
    """(labels are integers, config) of a compiled crossentropy, or None."""
    leaves = keras.tree.flatten(loss)
    if len(leaves) != 1:
        return None
    if isinstance(leaves[0], str):
        leaves[0] = keras.losses.get(leaves[0])
    for sparse, (cls, function) in [(True, SPARSE), (False, DENSE)]:
        if leaves[0] is function:
            return sparse, cls().get_config()
        if type(leaves[0]) is cls:
            return sparse, leaves[0].get_config()
    return None


def table_for(model, parts):
    """The table of the terminal loss, or why the model can have none.

    Args:
        model: The compiled model.
        parts: Number of parts, or None where it is not known.

    Returns:
        (`ClassDistributions` or None, reason or None).
    """
    if model.is_opaque:
        return None, "a subclass, whose outputs are not known before it runs"
    if len(model.temporal_outputs) != 1 or model.temporal_outputs[0]:
        return None, "not one output with one target per sequence"
    classes = model.output_specs[0].shape[1:]
    if len(classes) != 1 or classes[0] is None:
        return None, f"an output of shape {model.output_specs[0].shape}"
    kind = kind_of(model.loss)
    if kind is None:
        return None, f"loss={model.loss!r}"
    sparse, config = kind
    if config.get("ignore_class") is not None:
        return None, "a loss with an ignored class"
    if parts is None:
        return None, "parts of a given length in sequences of unknown length"
    return ClassDistributions(parts, classes[0], sparse, config), None


class ClassDistributions(keras.layers.Layer):
    """Mean predicted distribution for each part and class, epoch by epoch.

    Args:
        parts: Number of parts, at most.
        classes: Number of classes.
        sparse: Whether labels are integers, not one-hot.
        config: That of the compiled crossentropy.

    Attributes:
        table: (parts, classes, classes): after which part, of which class,
            the distribution in the previous epoch; uniform at first.
        sums: The same, summed over this epoch's examples.
    """

    def __init__(self, parts, classes, sparse, config):
        super().__init__(name=TABLE, trainable=False, autocast=False)
        self.classes = classes
        self.sparse = sparse
        self.from_logits = config["from_logits"]
        self.divergence = keras.losses.CategoricalCrossentropy(
            from_logits=self.from_logits, reduction=config["reduction"]
        )
        shape = (parts, classes, classes)
        self.table, self.sums = (
            self.add_weight(
                shape=shape,
                dtype="float32",
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation="only_first_replica",
                name=name,
            )
            for name, value in [("table", 1 / classes), ("sums", 0.0)]
        )
        self.built = True

    def divergence_of(
        self, part, y, outputs, sample_weight, rows=1.0, factors=1.0
    ):
        """-sum Q log p of a batch; enters p in the sums of its classes.

        Args:
            part: Number of the part.
            y: Targets of the batch.
            outputs: p, or its logits.
            sample_weight: Weights of the batch, or None.
            rows: Further weights of rows, (batch,).
            factors: More of them, of which the sums take no notice.
        """
        (labels,) = keras.tree.flatten(y)
        (outputs,) = keras.tree.flatten(outputs)
        outputs = tf.cast(outputs, "float32")
        if self.sparse:
            labels = tf.reshape(tf.cast(labels, "int32"), [-1])
            labels = tf.one_hot(labels, self.classes)
        labels = tf.cast(labels, "float32")
        weights = keras.tree.flatten(sample_weight)
        weight = rows * tf.ones(tf.shape(labels)[:1])
        if weights and weights[0] is not None:
            weight *= tf.reshape(tf.cast(weights[0], "float32"), [-1])
        said = tf.nn.softmax(outputs) if self.from_logits else outputs
        self._enter(part, labels, weight, tf.stop_gradient(said))
        expected = tf.matmul(labels, tf.gather(self.table, part))
        return self.divergence(
            expected, outputs, sample_weight=weight * factors
        )

    def _enter(self, part, labels, weight, said):
        labels = labels * weight[:, tf.newaxis]
        found = tf.matmul(labels, said, transpose_a=True)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            context = tf.distribute.get_replica_context()
            found = context.all_reduce("SUM", found)
        sums = tf.convert_to_tensor(self.sums)
        self.sums.assign(
            tf.tensor_scatter_nd_add(sums, [[part]], found[tf.newaxis])
        )

    def roll(self):
        """Begins an epoch: the sums of the last one become the table.

        A class that did not occur keeps its distribution.
        """
        sums = self.sums.numpy()
        total = sums.sum(axis=-1, keepdims=True)
        mean = sums / (total + (total == 0))
        self.table.assign(tf.where(total > 0, mean, self.table))
        self.sums.assign(tf.zeros_like(sums))


class RollClassDistributions(keras.callbacks.Callback):
    """Begins every epoch with the distributions of the one before."""

    def on_epoch_begin(self, epoch, logs=None):
        table = self.model.method_state.parts.get(TABLE)
        if table is not None:
            table.roll()
