"""What mixes time steps is refused before training, by layer name."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.network import compared
from tests.network.networks import STEPS, L, lstm, signal


def composite(inputs):
    """A layer of the user's own with a recurrent layer inside."""

    class Composite(L.Layer):
        def __init__(self):
            super().__init__(name="mixer")
            self.inside = lstm(2)

        def call(self, inputs):
            return self.inside(inputs)

        def build(self, shape):
            self.inside.build(shape)

    return Composite()(inputs)


class Running(L.Layer):
    """A user's own layer that sums over time."""

    def call(self, inputs):
        return keras.ops.cumsum(inputs, axis=1)


def attention(hidden):
    return L.MultiHeadAttention(1, 2, name="mixer")(hidden, hidden)


def mixing(layer):
    """A recurrent network with `layer` in its midst."""
    inputs = signal()
    return keras.Model(inputs, L.Dense(2)(layer(lstm()(inputs))))


MIXERS = {
    "Bidirectional": L.Bidirectional(lstm(2), name="mixer"),
    "from the end": lstm(2, go_backwards=True, name="mixer"),
    "MultiHeadAttention": attention,
    "Conv1D": L.Conv1D(2, 3, padding="same", name="mixer"),
    "causal Conv1D": L.Conv1D(2, 3, padding="causal", name="mixer"),
    "valid Conv1D": L.Conv1D(2, 3, name="mixer"),
    "pooling in twos": L.MaxPooling1D(2, name="mixer"),
    "doubling": L.UpSampling1D(2, name="mixer"),
    "BatchNormalization inside": L.TimeDistributed(
        L.BatchNormalization(), name="mixer"
    ),
    "normalised over time": L.UnitNormalization(axis=1, name="mixer"),
    "a layer of the user's": Running(name="mixer"),
    "a recurrent layer inside": composite,
    "one step only": L.Lambda(lambda x: x[:, -1], name="mixer"),
}


@pytest.mark.parametrize("name", MIXERS)
def test_a_layer_that_mixes_steps_is_refused_by_name(name):
    model = ksg.SequenceModel.from_model(mixing(MIXERS[name]))
    with pytest.raises(ValueError, match="Layer 'mixer'.* cannot be cut"):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))


@pytest.mark.parametrize(
    "layer",
    [
        L.Flatten(name="mixer"),
        L.Reshape((STEPS, 3), name="mixer"),
        L.Permute((2, 1), name="mixer"),
        L.LayerNormalization(axis=1, name="mixer"),
        L.RepeatVector(STEPS, name="mixer"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_of_a_fixed_length_is_refused_by_name(layer):
    inputs = signal(STEPS)
    sequences = not isinstance(layer, L.RepeatVector)
    hidden = layer(L.LSTM(3, return_sequences=sequences)(inputs))
    if not sequences:
        hidden = L.GRU(2)(hidden)
    network = keras.Model(inputs, L.Dense(2)(hidden))
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match="Layer 'mixer'.* cannot"):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))


@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize(
    "layer",
    [
        L.MaxPooling1D(2, strides=1, name="mixer"),
        L.MaxPooling1D(3, strides=1, padding="same", name="mixer"),
        L.AveragePooling1D(2, name="mixer"),
        L.Conv1D(3, 3, padding="same", name="mixer"),
        L.DepthwiseConv1D(2, name="mixer"),
        L.UpSampling1D(2, name="mixer"),
        L.Cropping1D(1, name="mixer"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_below_a_recurrent_layer_is_named_and_not_that(layer, steps):
    """MaxPooling1D of too few steps would end Python."""
    layer = type(layer).from_config(layer.get_config())
    network = keras.Sequential([signal(steps), layer, lstm(2)])
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match="Layer 'mixer'.* cannot be cut"):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))


def test_a_layer_whose_steps_grow_with_the_sequence_is_named():
    inputs = signal(STEPS)
    hidden = lstm()(inputs)
    products = L.Dot(2, name="mixer")([hidden, hidden])
    network = keras.Model(inputs, lstm(2)(products))
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match=r"mixer' \(Dot\).* of others \(2, "):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))


def test_pooling_over_features_is_taken():
    inputs = keras.Input((None, 4))
    x = L.AveragePooling1D(2, data_format="channels_first")(inputs)
    model = ksg.SequenceModel.from_model(keras.Model(inputs, lstm(2)(x)))
    model.compile("sgd", "mse")


def test_kernels_of_a_single_step_are_taken():
    inputs = keras.Input((None, 4, 3))
    x = L.Conv2D(2, (1, 3), padding="same")(inputs)
    x = L.TimeDistributed(L.Flatten())(L.MaxPooling2D((1, 2))(x))
    x = L.Conv1D(3, 1, padding="causal")(L.AveragePooling1D(1)(x))
    model = ksg.SequenceModel.from_model(keras.Model(inputs, lstm(2)(x)))
    model.compile("sgd", "mse")


def test_a_layer_inside_a_nested_model_is_refused_by_path():
    inner = keras.Sequential(
        [signal(), L.Conv1D(2, 3, padding="causal", name="mixer")], name="inner"
    )
    model = ksg.SequenceModel.from_model(
        keras.Sequential([signal(), lstm(2), inner])
    )
    with pytest.raises(ValueError, match="Layer 'inner/mixer'.* cannot be cut"):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))


def test_a_decoder_that_starts_from_the_last_state_is_refused():
    past, future = signal(name="past"), signal(name="future")
    _, *state = L.LSTM(3, return_state=True)(past)
    hidden = lstm(3, name="decoder")(future, initial_state=state)
    network = keras.Model([past, future], hidden)
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match="'decoder' .*initial_state depends"):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_masks_enter_nested_models_in_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        inner = keras.Sequential([signal(), lstm(2), L.Dense(2)])
        layers = [signal(), L.Masking(), lstm(2), inner, L.SimpleRNN(4)]
        network = keras.Sequential(layers)
    finally:
        keras.config.set_dtype_policy("float32")
    ksg.SequenceModel.from_model(network).compile("sgd", "mse")


def test_frozen_batch_normalisation_is_accepted():
    network = mixing(L.BatchNormalization(trainable=False))
    ksg.SequenceModel.from_model(network).compile("sgd", "mse")


@pytest.mark.parametrize("kind, seed", [("GRU", 5), ("LSTM", 2)])
def test_rounding_that_a_closed_gate_lets_through_is_accepted(kind, seed):
    """Of large inputs, which are drawn for the mask, and relu hands on."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, 2))
    layer = getattr(L, kind)(2, activation="relu", return_sequences=True)
    network = keras.Model(inputs, layer(L.Masking()(inputs)))
    ksg.SequenceModel.from_model(network).compile("sgd", "mse")


def test_large_numbers_count_by_what_a_closed_gate_lets_through():
    given = [np.array([np.inf, -2e3]), np.array([10**6])]
    assert compared.least_scale(given) == pytest.approx(40.0)
    assert compared.least_scale([np.array([9.0])]) == 0.0
    assert compared.least_scale([]) == 0.0
    first, second = np.array([0.1]), np.array([0.103])
    assert compared.differs(first, second, compared.FINE)
    assert not compared.differs(first, second, compared.FINE, least=40.0)
    assert compared.differs(first, second + 0.004, compared.FINE, least=40.0)
