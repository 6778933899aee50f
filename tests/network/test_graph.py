"""Any Keras graph runs segment by segment, with the gradient Keras gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import NETWORKS, STEPS, L, lstm, numbers, signal


def total(outputs, seed=7):
    """A loss that weighs every number of the outputs differently."""
    value = 0.0
    for output in keras.tree.flatten(outputs):
        generator = np.random.default_rng(seed)
        factor = generator.normal(size=output.shape).astype("float32")
        value += tf.reduce_sum(factor * tf.sin(output))
    return value


def model_of(network):
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_segments_give_the_outputs_and_gradients_of_keras(name):
    """Two segments, the state carried between them, against one call."""
    keras.utils.set_random_seed(3)
    network = NETWORKS[name]()
    model = model_of(network)
    steps = STEPS if name == "fixed length" else 5
    x = numbers(network, steps)
    variables = network.trainable_variables
    with tf.GradientTape() as tape:
        expected = network(x, training=False)
        loss = total(expected)
    wanted = tape.gradient(loss, variables)
    with tf.GradientTape() as tape:
        state = model.start_state(x, zoo.BATCH)
        pieces = []
        for start, length in [(0, 3), (3, steps - 3)]:
            piece = keras.tree.map_structure(
                tf.convert_to_tensor, model.cut_inputs(x, start, length)
            )
            outputs, state = model.run_segment(piece, state, training=False)
            pieces.append(keras.tree.flatten(outputs))
        joined = [
            tf.concat([first, second], axis=1) if has_time else second
            for first, second, has_time in zip(
                *pieces, model.temporal_outputs, strict=True
            )
        ]
        loss = total(joined)
    found = tape.gradient(loss, variables)
    for a, b in zip(joined, keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert all(gradient is not None for gradient in wanted)
    dense = tf.convert_to_tensor  # the gradient of an embedding is sparse
    zoo.assert_same([*map(dense, found)], [*map(dense, wanted)])


def test_a_state_of_its_own_is_refused():
    network = keras.Sequential(
        [
            keras.Input((STEPS, 2), batch_size=3),
            lstm(2, name="layer", stateful=True),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    message = "Layer 'layer' has stateful=True and .* Leave stateful out"
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", "mse")


def test_a_network_without_a_recurrent_layer_is_refused():
    network = keras.Sequential([signal(), L.Dense(2, name="readout")])
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match="at least one recurrent.*readout"):
        model.compile("sgd", "mse")


def test_a_network_that_does_not_know_its_inputs_is_refused():
    network = keras.Sequential([lstm(2)], name="unbuilt")
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match="first layer. Received.*'unbuilt'"):
        model.compile("sgd", "mse")


def masking(kind, **options):
    """A layer that gives zeros at masked steps, below one that reads them."""
    keras.utils.set_random_seed(1)
    options |= {"return_sequences": True, "zero_output_for_mask": True}
    made = {
        "lstm": lambda: L.LSTM(3, **options),
        "own": lambda: L.RNN(zoo.PlainCell(3), **options),
        "ours": lambda: ksg.layers.GRU(3, **options),
        "linear": lambda: ksg.layers.MinGRU(3, **options),
    }[kind]()
    inputs = signal()
    # An operation drops the mask, and what follows takes the zeros for numbers.
    hidden = made(L.Masking()(inputs)) * 2.0
    hidden = L.GRU(2, return_sequences=True)(hidden)
    return keras.Model(inputs, L.Dense(2)(hidden))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "own", "ours", "linear"])
def test_zeros_at_masked_steps_are_those_of_keras(kind):
    x, y = zoo.data(STEPS)
    x[0, 4:] = x[1, 2] = x[2, 0] = 0.0
    found = []
    for method in (None, ksg.methods.BPTT(3)):
        network = masking(kind)
        model, options = network, {}
        if method is not None:
            model = ksg.SequenceModel.from_model(network)
            options = {"method": method}
        model.compile(keras.optimizers.SGD(0.3), "mse", **options)
        loss = model.train_on_batch(x, y)
        outputs = model.predict(x, verbose=0)
        found.append([*network.get_weights(), loss, outputs])
    zoo.assert_same(*found)


@pytest.mark.slow
def test_a_layer_that_keras_unrolls_is_scanned():
    x, y = zoo.data(STEPS)
    found = []
    for unroll in False, True:
        keras.utils.set_random_seed(1)
        layers = [signal(STEPS), lstm(unroll=unroll), L.Dense(2)]
        model = model_of(keras.Sequential(layers))
        model.train_on_batch(x, y)
        found.append(model.get_weights())
    zoo.assert_same(*found)


@pytest.mark.parametrize(
    "option", [{"zero_output_for_mask": True}, {"truncation": 3}]
)
def test_options_that_segments_cannot_keep_are_refused(option):
    kind = ksg.layers.LSTM if "truncation" in option else keras.layers.LSTM
    network = keras.Sequential(
        [keras.Input((None, 2)), kind(3, name="odd", **option)]
    )
    model = ksg.SequenceModel.from_model(network)
    name = next(iter(option))
    with pytest.raises(ValueError, match=f"Layer 'odd' has {name}="):
        model.compile("sgd", "mse")


def test_a_cell_may_start_elsewhere_than_at_zeros():
    """The state of this cell starts with ones, also after a reset."""
    cell = ksg.data.tasks.InfluenceBalancingCell(units=4, positive=2)
    network = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.RNN(cell, return_sequences=True),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse")
    x = np.zeros((2, 6, 1), "float32")
    whole = np.asarray(network(x))
    windows = np.concatenate([x[:, :3], x[:, 3:]])
    found = model.predict(windows, batch_size=2, verbose=0)
    np.testing.assert_allclose(found[:2], whole[:, :3], rtol=1e-6)
    np.testing.assert_allclose(found[2:], whole[:, 3:], rtol=1e-6)
    reset = np.zeros((2, 6), bool)
    reset[:, 2] = True
    found = np.asarray(model({"inputs": x, "reset": reset}))
    np.testing.assert_allclose(found[:, :2], whole[:, :2], rtol=1e-6)
    np.testing.assert_allclose(found[:, 2:], whole[:, :4], rtol=1e-6)
