"""The drop-in layers against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.layers.common import (
    BATCH,
    FEATURES,
    GATED_OR_NOT,
    INPUTS,
    MASK,
    STEPS,
    UNITS,
    assert_close,
    gradients,
    make,
    pair,
    random,
)

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
@pytest.mark.parametrize(
    "name, option",
    [("LSTM", option) for option in OPTIONS]
    + [("RNN", option) for option in OPTIONS]
    + [("SimpleRNN", "states"), ("GRU", "states"), ("GRU", "backwards")],
)
def test_equals_keras(name, option, masked):
    theirs, ours = pair(name, **OPTIONS[option])
    call = {"mask": MASK} if masked else {}
    expected = tf.function(gradients)(theirs, **call)
    assert_close(tf.function(gradients)(ours, **call), expected)


@pytest.mark.parametrize("name", [*GATED_OR_NOT, "RNN"])
def test_a_masked_step_may_hold_anything(name):
    layer = make(ksg.layers, name, return_sequences=True)
    spoiled = tf.where(MASK[..., None], INPUTS, np.nan)
    expected = gradients(layer, mask=MASK)
    found = gradients(layer, mask=MASK, inputs=spoiled)
    assert_close(found, expected, tolerance=0)
    assert not np.any(found[1][0][~MASK])
    assert np.isnan(layer(spoiled)).any()


@pytest.mark.compiled
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


def network(module, kinds=("LSTM", "RNN"), **options):
    stack = [keras.Input((STEPS, FEATURES))]
    for kind in kinds:
        features = FEATURES if len(stack) == 1 else UNITS
        stack.append(
            make(module, kind, features, return_sequences=True, **options)
        )
    return keras.Sequential([*stack, keras.layers.Dense(1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, jit", [("float32", False), ("mixed_bfloat16", True)]
)
def test_trains(policy, jit):
    keras.config.set_dtype_policy(policy)
    try:
        law = ksg.truncation.Random(2)
        model = network(ksg.layers, ["GRU"], truncation=law)
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


@pytest.mark.slow
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
            "hazard": None,
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
    with pytest.raises(ValueError, match="Received: truncation=<class"):
        make(ksg.layers, "GRU", truncation=ksg.truncation.Fixed)
    with pytest.raises(ValueError, match="Received: truncation=0"):
        make(ksg.layers, "GRU", truncation=0)
