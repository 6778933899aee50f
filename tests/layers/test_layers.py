"""The drop-in layers against Keras' own, and their truncation."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.layers.scan import scan

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
CLOSE = 2e-5
GATED_OR_NOT = ["SimpleRNN", "GRU", "LSTM"]


def random(*shape, seed=0):
    numbers = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(numbers, "float32")


INPUTS = random(BATCH, STEPS, FEATURES)
MASK = tf.constant([[0, 0, 1, 1, 0], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0]]) > 0


def make(module, kind, features=FEATURES, **options):
    """The layer `kind` of `keras.layers` or `ksg.layers`, built."""
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(UNITS)]
    first = cells if kind == "RNN" else UNITS
    layer = getattr(module, kind)(first, **options)
    layer.build((BATCH, STEPS, features))
    return layer


def pair(name, **options):
    """A layer of Keras and one of ours with its weights."""
    theirs = make(keras.layers, name, **options)
    ours = make(ksg.layers, name, **options)
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def gradients(layer, training=True, **options):
    """Results of `layer`, and gradients for its inputs and weights."""
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        results = layer(INPUTS, training=training, **options)
        results = keras.tree.flatten(results)
        loss = tf.add_n(
            [tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results]
        )
    return results, tape.gradient(loss, [INPUTS, *variables])


def assert_close(found, expected, tolerance=CLOSE):
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


OPTIONS = {
    "last output": {},
    "states": {"return_state": True, "return_sequences": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "zeros for masked": {
        "zero_output_for_mask": True,
        "return_sequences": True,
    },
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", [*GATED_OR_NOT, "RNN"])
def test_equals_keras(name, options, masked):
    theirs, ours = pair(name, **options)
    call = {"mask": MASK} if masked else {}
    expected = tf.function(gradients)(theirs, **call)
    assert_close(tf.function(gradients)(ours, **call), expected)


@pytest.mark.parametrize("name", GATED_OR_NOT)
def test_equals_keras_with_initial_state_under_xla(name):
    theirs, ours = pair(name, return_sequences=True)
    count = 2 if name == "LSTM" else 1
    call = {
        "mask": MASK,
        "initial_state": [random(BATCH, UNITS, seed=i) for i in range(count)],
    }
    expected = gradients(theirs, **call)
    found = tf.function(gradients, jit_compile=True)(ours, **call)
    assert_close(found, expected)


def test_tokens_and_their_mask():
    def model(module):
        return keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                keras.layers.Embedding(6, 3, mask_zero=True),
                make(module, "RNN", 3, return_sequences=True),
                make(module, "GRU", UNITS),
            ]
        )

    theirs, ours = model(keras.layers), model(ksg.layers)
    ours.set_weights(theirs.get_weights())
    tokens = tf.constant([[0, 0, 1, 2, 3], [3, 4, 5, 0, 0]])
    assert_close(ours(tokens), theirs(tokens))
    assert_close(ours(tokens[:, :1]), theirs(tokens[:, :1]))


@pytest.mark.parametrize("name", [*GATED_OR_NOT, "RNN"])
def test_stateful(name):
    theirs, ours = pair(name, stateful=True)
    for _ in range(2):
        assert_close(ours(INPUTS), theirs(INPUTS))
    if name != "RNN":
        # Keras cannot reset the nested states of a stack.
        ours.reset_state()
        theirs.reset_state()
        assert_close(ours(INPUTS), theirs(INPUTS))


def test_bidirectional():
    theirs, ours = (
        keras.layers.Bidirectional(make(module, "LSTM", return_sequences=True))
        for module in (keras.layers, ksg.layers)
    )
    for layer in (theirs, ours):
        layer.build(INPUTS.shape)
    ours.set_weights(theirs.get_weights())
    assert_close(gradients(ours, mask=MASK), gradients(theirs, mask=MASK))
    wrapped = keras.layers.Bidirectional(make(ksg.layers, "GRU", truncation=2))
    assert wrapped.backward_layer.truncation.get_config() == {"length": 2}


class GivenGates:
    """A law that says what it is told."""

    def __init__(self, gates):
        self.given = tf.constant(gates, "float32")

    def gates(self, steps, batch_size=None, seed=None):
        return self.given


def cut_every(length, name):
    """Gradient of a layer of Keras over pieces, states cut between them."""
    theirs, ours = pair(name, return_sequences=True, return_state=True)
    variables = [v.value for v in theirs.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        outputs, state = [], theirs.get_initial_state(BATCH)
        for start in range(0, STEPS, length):
            state = keras.tree.map_structure(tf.stop_gradient, state)
            piece, *state = theirs(
                INPUTS[:, start : start + length], initial_state=state
            )
            outputs.append(piece)
        results = [tf.concat(outputs, axis=1), *keras.tree.flatten(state)]
        loss = tf.add_n(
            [tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results]
        )
    return ours, (results, tape.gradient(loss, [INPUTS, *variables]))


@pytest.mark.parametrize(
    "name, length, jit",
    [
        ("GRU", 1, False),
        ("GRU", 2, True),
        ("GRU", 4, False),
        ("RNN", 1, False),
        ("RNN", 2, True),
    ],
)
def test_fixed_truncation_equals_pieces(name, length, jit):
    plain, expected = cut_every(length, name)
    layer = make(
        ksg.layers,
        name,
        truncation=length,
        return_sequences=True,
        return_state=True,
    )
    layer.set_weights(plain.get_weights())
    found = tf.function(gradients, jit_compile=jit)(layer)
    assert_close(found, expected)
    # Forward it is the same; not so the full gradient.
    full = gradients(plain)
    assert_close(found[0], full[0])
    with pytest.raises(AssertionError):
        assert_close(found[1], full[1], tolerance=1e-3)


@pytest.mark.parametrize("length", [STEPS, 50])
def test_truncation_beyond_the_sequence_is_none(length):
    plain = make(ksg.layers, "LSTM")
    layer = make(ksg.layers, "LSTM", truncation=length)
    layer.set_weights(plain.get_weights())
    assert_close(gradients(layer), gradients(plain), tolerance=0)


@pytest.mark.parametrize(
    "law", [ksg.truncation.Fixed(1), ksg.truncation.Random(1.1, alpha=None)]
)
def test_no_truncation_outside_training(law):
    plain = make(ksg.layers, "LSTM")
    layer = make(ksg.layers, "LSTM", truncation=law)
    layer.set_weights(plain.get_weights())
    expected = gradients(plain, training=False)
    assert_close(gradients(layer, training=False), expected, tolerance=0)
    with pytest.raises(AssertionError):
        assert_close(gradients(layer), expected)


def mean_gradient(law, plain, factor=1.0):
    """Mean over all cut patterns of one row, links worth `factor` more."""
    parts, total = [], 0.0
    for cuts in itertools.product([False, True], repeat=STEPS - 1):
        probability, age, gates = 1.0, 1, [1.0]
        for cut in cuts:
            chance = float(law.cut_probability(age))
            probability *= chance if cut else 1.0 - chance
            gates.append(0.0 if cut else factor / (1.0 - chance))
            age = 1 if cut else age + 1
        layer = make(ksg.layers, "SimpleRNN", truncation=GivenGates(gates))
        layer.set_weights(plain.get_weights())
        parts.append([probability * d for d in gradients(layer)[1]])
        total += probability
    assert total == pytest.approx(1.0)
    return [tf.add_n(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("alpha", [4.0, None])
def test_random_truncation_is_unbiased(alpha):
    law = ksg.truncation.Random(2.0, alpha=alpha)
    plain = make(ksg.layers, "SimpleRNN")
    full = gradients(plain)[1]
    assert_close(mean_gradient(law, plain), full, tolerance=1e-5)
    # The comparison sees what a wrong compensation does.
    with pytest.raises(AssertionError):
        assert_close(mean_gradient(law, plain, 0.9), full, tolerance=1e-3)


def test_random_truncation_draws_by_its_law():
    law = ksg.truncation.Random(2.0)
    layer = make(ksg.layers, "GRU", truncation=law, return_sequences=True)
    seed = tf.cast(layer.cuts.seed_generator.state.value, "int32")
    gates = law.gates(STEPS, BATCH, seed)
    assert gates.shape == (BATCH, STEPS)
    weight = layer.cell.kernel.value
    with tf.GradientTape(persistent=True) as tape:
        found = tf.reduce_sum(layer(INPUTS, training=True))
        outputs, _ = scan(
            layer.cell, INPUTS, layer.get_initial_state(BATCH), gates=gates
        )
        expected = tf.reduce_sum(outputs)
    found = tape.gradient(found, weight)
    assert_close(found, tape.gradient(expected, weight))
    # The next batch has other cuts.
    with tf.GradientTape() as tape:
        again = tf.reduce_sum(layer(INPUTS, training=True))
    with pytest.raises(AssertionError):
        assert_close(tape.gradient(again, weight), found, tolerance=1e-3)


def network(module, **options):
    return keras.Sequential(
        [
            keras.Input((STEPS, FEATURES)),
            make(module, "LSTM", return_sequences=True, **options),
            make(module, "RNN", UNITS, return_sequences=True, **options),
            keras.layers.Dense(1),
        ]
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("jit", [True, False])
def test_trains(policy, jit):
    keras.config.set_dtype_policy(policy)
    try:
        model = network(ksg.layers, truncation=ksg.truncation.Random(2))
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=jit)
    targets = np.cumsum(INPUTS[..., :1], axis=1)
    history = model.fit(INPUTS, targets, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    drawn = model.layers[0].cuts.seed_generator.state.numpy()[1]
    assert drawn == 15


def test_keeps_jit_compilation_possible():
    assert all(
        make(ksg.layers, name).supports_jit for name in [*GATED_OR_NOT, "RNN"]
    )


def test_save_and_load(tmp_path):
    model = network(ksg.layers, truncation=ksg.truncation.Random(2, alpha=6))
    model.compile("sgd", "mse")
    model.fit(INPUTS, INPUTS[..., :1], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(loaded(INPUTS), model(INPUTS), tolerance=0)
    for before, after in zip(model.layers[:2], loaded.layers[:2], strict=True):
        assert type(after) is type(before)
        assert after.truncation.get_config() == {
            "mean_length": 2.0,
            "alpha": 6.0,
        }
        # So that training goes on with the cuts it would have had.
        seed = before.cuts.seed_generator.state.numpy()
        assert seed.tolist() == after.cuts.seed_generator.state.numpy().tolist()
        assert seed[1] == 1
    for _ in range(2):
        losses = [
            m.fit(INPUTS, INPUTS[..., :1], verbose=0).history["loss"]
            for m in (model, loaded)
        ]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_weights_fit_the_layers_of_keras_and_back(tmp_path):
    theirs = network(keras.layers)
    ours = network(ksg.layers, truncation=3)
    path = str(tmp_path / "model.weights.h5")
    ours.save_weights(path)
    theirs.load_weights(path)
    assert_close(theirs(INPUTS), ours(INPUTS))
    theirs.set_weights([w + 0.1 for w in theirs.get_weights()])
    theirs.save_weights(path)
    ours.load_weights(path)
    assert_close(theirs(INPUTS), ours(INPUTS))
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


@pytest.mark.parametrize("name", [*GATED_OR_NOT, "RNN"])
def test_config_is_that_of_keras(name):
    theirs = make(keras.layers, name, name="layer").get_config()
    ours = make(ksg.layers, name, name="layer", truncation=3)
    config = ours.get_config()
    assert config.pop("truncation")["config"] == {"length": 3}
    assert config.keys() == theirs.keys()
    again = type(ours).from_config(ours.get_config())
    assert again.truncation.get_config() == {"length": 3}


@pytest.mark.parametrize("name", [*GATED_OR_NOT, "RNN"])
def test_refuses_unroll(name):
    with pytest.raises(ValueError, match="Received: unroll=True"):
        make(ksg.layers, name, unroll=True)


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_refuses_cudnn(name):
    with pytest.raises(ValueError, match="Received: use_cudnn=True"):
        make(ksg.layers, name, use_cudnn=True)
    assert make(ksg.layers, name, use_cudnn="auto").use_cudnn is False


def test_refuses_another_truncation():
    with pytest.raises(ValueError, match="Received: truncation='fixed'"):
        make(ksg.layers, "GRU", truncation="fixed")
    with pytest.raises(ValueError, match="Received: length=0"):
        make(ksg.layers, "GRU", truncation=0)
