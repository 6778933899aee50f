"""SnAp against BPTT where it is exact, and against its definition elsewhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, SnAp, TruncatedBPTT
from keras_seqgrad.methods.snap import traces
from tests import zoo
from tests.methods import wide

KINDS = list(wide.LAYERS)
pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exact_where_units_do_not_feed_each_other(kind):
    """At any length; truncation, and e-prop, are not."""
    network, (x, y) = wide.network(kind), wide.data(5)
    exact = wide.estimate(network, BPTT(), x, y)
    for length in (1, 3):
        found = wide.estimate(network, SnAp(length), x, y)
        assert wide.error(found, exact) < 1e-12
    for other in (TruncatedBPTT(1), SnAp(1, self_recurrence=False)):
        assert wide.error(wide.estimate(network, other, x, y), exact) > 0.1


def as_defined(network, kind, x, y, self_recurrence):
    """SnAp-1, a step a segment, by a backward pass from end to start.

    A loss reaches back over its own step as ever. Before that the state is a
    constant in the products of the recurrent kernel, but for what reaches its
    own unit.
    """
    layer, readout = network.layers
    cell = layer.cell

    def own(h, kernel):
        units = kernel.shape[0]
        blocks = kernel.shape[1] // units
        held = tf.stop_gradient(h)
        parts = [np.diag(kernel[:, b * units :]) for b in range(blocks)]
        through = tf.tile(h - held, [1, blocks]) * np.concatenate(parts)
        return held @ kernel + (through if self_recurrence else 0.0)

    def step(x, h, c, product):
        row = tf.matmul(x, tf.convert_to_tensor(cell.kernel))
        back = product(h, tf.convert_to_tensor(cell.recurrent_kernel))
        if kind == "simple_rnn":
            return tf.tanh(row + back + cell.bias), c
        if kind == "gru":
            a = tf.split(row + cell.bias[0], 3, axis=1)
            q = tf.split(back + cell.bias[1], 3, axis=1)
            z, r = tf.sigmoid(a[0] + q[0]), tf.sigmoid(a[1] + q[1])
            return z * h + (1 - z) * tf.tanh(a[2] + r * q[2]), c
        i, f, g, o = tf.split(row + back + cell.bias, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    with tf.GradientTape() as tape:
        h = c = tf.zeros((len(x), wide.UNITS), "float64")
        outputs = []
        for t in range(x.shape[1]):
            outputs.append(readout(step(x[:, t], h, c, tf.matmul)[0]))
            h, c = step(x[:, t], h, c, own)
        loss = tf.reduce_mean((tf.stack(outputs, axis=1) - y) ** 2)
    return tape.gradient(loss, network.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("self_recurrence", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dense_cell_one_step_at_a_time(kind, self_recurrence):
    network, (x, y) = wide.network(kind, dense=True), wide.data(3)
    expected = as_defined(network, kind, x, y, self_recurrence)
    method = SnAp(1, self_recurrence)
    found = wide.estimate(network, method, x, y)
    assert wide.error(found, expected) < 1e-12
    exact = wide.estimate(network, BPTT(), x, y)
    assert wide.error(expected, exact) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_masks_resets_and_weights_as_in_bptt(kind, monkeypatch):
    network, (x, y) = wide.network(kind), wide.data(5)
    mask = np.random.default_rng(1).random(x.shape[:2]) < 0.7
    mask[:, -1] = True
    reset = np.zeros_like(mask)
    reset[1, 3] = reset[2, 2] = reset[1, 0] = True  # inside, at a cut, first
    x[~mask] = np.nan
    weight = np.random.default_rng(2).random(x.shape[:2])
    given = {"inputs": x, "mask": mask, "reset": reset}
    exact = wide.estimate(network, BPTT(), given, y, weight)
    found = wide.estimate(network, SnAp(2), given, y, weight)
    assert wide.error(found, exact) < 1e-12
    plain = traces.derivatives

    def blind(rule, visit, *given):
        visit.links = visit.links._replace(reset=None)
        return plain(rule, visit, *given)

    monkeypatch.setattr(traces, "derivatives", blind)
    found = wide.estimate(network, SnAp(2), given, y, weight)
    assert wide.error(found, exact) > 0.01


@pytest.mark.slow
def test_a_reset_row_is_two_sequences_and_leaves_the_others_alone():
    network, (x, y) = wide.network("gru", dense=True), wide.data(6)
    reset = np.zeros(x.shape[:2], bool)
    reset[1, 4] = True
    found = wide.estimate(network, SnAp(2), {"inputs": x, "reset": reset}, y)

    def of(rows, steps):
        part = x[rows, steps], y[rows, steps]
        size = part[1].size / y.size
        return [size * g for g in wide.estimate(network, SnAp(2), *part)]

    parts = [([0, 2], slice(0, 6)), ([1], slice(0, 4)), ([1], slice(4, 6))]
    found_of = [of(*part) for part in parts]
    expected = [sum(each) for each in zip(*found_of, strict=True)]
    assert wide.error(found, expected) < 1e-12


@pytest.mark.slow
def test_a_masked_tail_is_a_shorter_sequence():
    network, (x, y) = wide.network("lstm", dense=True), wide.data(5)
    mask = np.arange(5) < np.full((wide.ROWS, 1), 3)
    # With a mask, too: some versions of Keras add a little to the valid steps.
    shorter = {"inputs": x[:, :3], "mask": mask[:, :3]}
    expected = wide.estimate(network, SnAp(2), shorter, y[:, :3])
    longer = wide.estimate(network, SnAp(2), x, y)
    x[:, 3:] = np.nan
    found = wide.estimate(network, SnAp(2), {"inputs": x, "mask": mask}, y)
    assert wide.error(found, expected) < 1e-12
    assert wide.error(longer, expected) > 0.01


@pytest.mark.slow
def test_of_two_layers_the_upper_one_is_exact_and_the_lower_one_is_not():
    network, (x, y) = wide.network("gru", "gru"), wide.data(5)
    exact = wide.estimate(network, BPTT(), x, y)
    found = wide.estimate(network, SnAp(2), x, y)
    cut = wide.estimate(network, TruncatedBPTT(2), x, y)
    assert wide.error(found[3:], exact[3:]) < 1e-12
    assert 0.01 < wide.error(found[:3], exact[:3])
    assert wide.error(found[:3], exact[:3]) < wide.error(cut[:3], exact[:3])


@pytest.mark.parametrize("ends", [False, True])
def test_one_target_per_sequence(ends):
    """One update at the end, of a gradient from the very start."""
    network = wide.network("gru", per_sequence=True)
    x, y = wide.data(per_sequence=True)
    if ends:  # rows of 7, 4 and 2 steps, that of 2 shorter than a segment
        mask = np.arange(wide.STEPS) < np.array([[7], [4], [2]])
        x = {"inputs": x, "mask": mask}
    exact = wide.estimate(network, BPTT(), x, y)
    assert wide.error(wide.estimate(network, SnAp(3), x, y), exact) < 1e-12
    cut = wide.estimate(network, TruncatedBPTT(3), x, y)
    assert wide.error(cut, exact) > 0.01
    before = network.get_weights()
    model = wide.compiled(network, SnAp(3))
    model.optimizer.learning_rate = 1.0
    model.train_on_batch(x, y)
    pairs = zip(before, network.get_weights(), strict=True)
    assert wide.error([old - new for old, new in pairs], exact) < 1e-12
    assert int(model.optimizer.iterations) == 1


def test_training_moves_after_every_segment():
    """Each update has the gradient of its segment's mean loss."""
    network, (x, y) = wide.network("gru"), wide.data(4)
    exact = wide.estimate(network, BPTT(), x, y)
    found, model = [], wide.compiled(network, SnAp(2))
    apply = model.optimizer.apply

    def listen(gradients, variables):
        found.append([np.asarray(g) for g in gradients])
        apply(gradients, variables)

    model.optimizer.apply = listen
    model.train_on_batch(x, y)
    assert len(found) == 2
    mean = [(a + b) / 2 for a, b in zip(*found, strict=True)]
    assert wide.error(mean, exact) < 1e-12


@pytest.mark.slow
def test_without_anything_in_the_traces_it_is_truncation_bit_for_bit():
    """One segment a window; and several, with a reset between them."""
    keras.config.set_floatx("float32")
    x, y = zoo.data(6)
    reset = np.zeros((zoo.BATCH, 6), bool)
    reset[:, 3] = True
    for given, length in ((x, 6), ({"inputs": x, "reset": reset}, 3)):
        ends = []
        for method in (TruncatedBPTT(length), SnAp(length)):
            network = zoo.network("lstm", layers=2)
            model = SequenceModel.from_model(network)
            sgd = keras.optimizers.SGD(0.1)
            model.compile(sgd, "mse", method=method, run_eagerly=True)
            model.train_on_batch(given, y)
            ends.append(network.get_weights())
        for a, b in zip(*ends, strict=True):
            np.testing.assert_array_equal(a, b)


def test_operations_and_nested_models_own_no_weights_of_a_layer():
    """What a network gives is the same, written flat or nested."""
    x, y = wide.data()
    layers = [keras.layers.GRU(2, return_sequences=True), keras.layers.Dense(2)]
    outer, inner = keras.Input((None, x.shape[-1])), keras.Input((None, 2))
    first = keras.layers.Dense(2)
    nested = keras.Model(inner, layers[0](inner))
    networks = [
        keras.Model(outer, layers[1](recurrent(2.0 * first(outer))))
        for recurrent in (layers[0], nested)
    ]
    y = np.zeros((*x.shape[:2], 2))
    flat, found = [wide.estimate(net, SnAp(2), x, y) for net in networks]
    assert wide.error(found, flat) < 1e-12
