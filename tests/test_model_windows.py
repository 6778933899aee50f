"""Windows of any length, and replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import replicas, zoo

RATE = 0.1
LENGTHS = [5, 2, 6, 5]


def truncated(network, windows, length):
    """Truncated training in plain Keras, the state handed on by hand."""
    lstm, readout = network.layers
    losses = []
    for x, y in windows:
        state, sums = lstm.get_initial_state(len(x)), 0.0
        for start in range(0, x.shape[1], length):
            part = slice(start, start + length)
            with tf.GradientTape() as tape:
                hidden, outputs = state, []
                for now in tf.unstack(tf.constant(x[:, part]), axis=1):
                    output, hidden = lstm.cell(now, hidden)
                    outputs.append(readout(output))
                outputs = tf.stack(outputs, axis=1)
                loss = tf.reduce_mean((outputs - y[:, part]) ** 2)
            state = hidden
            variables = network.trainable_variables
            for v, g in zip(
                variables, tape.gradient(loss, variables), strict=True
            ):
                v.assign_sub(RATE * g)
            sums += len(outputs[0]) * float(loss)
        losses.append(sums / x.shape[1])
    return np.mean(losses)


@pytest.mark.compiled
@pytest.mark.parametrize("known, jit", [(False, True), (True, False)])
def test_lengths_that_change_from_batch_to_batch(known, jit):
    """Windows longer and shorter than a segment, divided by it and not."""
    windows = [zoo.data(steps, seed=steps) for steps in LENGTHS]
    network = zoo.network("simple_rnn")
    expected = truncated(network, windows, 3)
    wanted = network.get_weights()
    network.set_weights(zoo.network("simple_rnn").get_weights())
    model = ksg.SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(RATE),
        "mse",
        method=ksg.methods.TruncatedBPTT(3),
        jit_compile=jit,
    )
    if known:
        found = np.mean([model.train_on_batch(*window) for window in windows])
    else:
        shape = (zoo.BATCH, None, 2)
        dataset = zoo.generated(windows, shape, shape)
        found = model.fit(dataset, verbose=0).history["loss"][0]
    assert found == pytest.approx(expected, rel=1e-4)
    zoo.assert_same(network.get_weights(), wanted, 1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("per_sequence", [False, True])
def test_the_end_of_the_data_is_not_counted(per_sequence):
    """Of shapes that are known, in a number of batches that is not."""
    batches = [zoo.data(4, per_sequence, seed) for seed in range(3)]
    dataset = zoo.generated(batches, *(each.shape for each in batches[0]))
    model = ksg.SequenceModel.from_model(
        zoo.network("simple_rnn", per_sequence=per_sequence)
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    expected = np.mean([model.train_on_batch(*batch) for batch in batches])
    found = model.fit(dataset, verbose=0).history["loss"][0]
    assert found == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(dataset, verbose=0) == pytest.approx(found)


def trained(method, **options):
    """The logs and weights after a few windows of four rows."""
    network = zoo.network("simple_rnn")
    stateful = options.pop("stateful", False)
    model = ksg.SequenceModel.from_model(network, stateful=stateful)
    options.setdefault("jit_compile", False)
    model.compile(
        keras.optimizers.SGD(0.1),
        "mse",
        metrics=["mae"],
        method=method,
        **options,
    )
    x, y = replicas.four_rows(*zoo.data(6))
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    return model.fit(x, y, 4, **options).history, network.get_weights()


@pytest.mark.compiled
def test_two_replicas_train_as_one():
    method = ksg.methods.SyntheticGradients(
        3,
        scale=0.5,
        lambda_=0.7,
        synthesizer_optimizer=keras.optimizers.SGD(0.5),
    )
    expected, weights = trained(method, run_eagerly=True)
    with replicas.strategy().scope():
        found, moved = trained(method)
    for name in {*expected} - {"synthesizer_norm_ratio"}:
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    zoo.assert_same(moved, weights, 1e-4)
