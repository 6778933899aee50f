"""Networks of every form that a SequenceModel may be made from."""

import keras
import numpy as np

from tests import zoo

L = keras.layers
STEPS = zoo.STEPS


def signal(steps=None, features=zoo.FEATURES, name=None):
    return keras.Input((steps, features), name=name)


def lstm(units=3, **options):
    return L.LSTM(units, return_sequences=True, **options)


@keras.saving.register_keras_serializable("tests")
class Inside(keras.layers.Layer):
    """A user's own layer: of its mask only what it gives tells."""

    def __init__(self, layer, **options):
        super().__init__(**options)
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, inputs):
        return self.layer(inputs)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


def skip_connections():
    inputs = signal()
    first = lstm()(inputs)
    second = lstm()(first)
    joined = L.Concatenate()([L.Add()([first, second]), inputs])
    return keras.Model(inputs, L.Dense(2)(joined))


def keras_functions():
    inputs = signal()
    hidden = keras.ops.tanh(lstm()(inputs) * 2.0) - 0.5
    joined = keras.ops.concatenate([hidden, inputs[..., :1]], axis=-1)
    return keras.Model(inputs, keras.ops.swapaxes(joined, -1, -1))


def acting_on_steps():
    return keras.Sequential(
        [
            signal(),
            L.TimeDistributed(L.Dense(4, activation="relu")),
            L.LayerNormalization(),
            L.Dropout(0.5),
            L.Reshape((-1, 2, 2)),
            L.TimeDistributed(L.Flatten()),
            L.Conv1D(3, 1),
            lstm(),
            L.Activation("relu"),
            L.Dense(2),
        ]
    )


def nested():
    inner_input = signal()
    inner = keras.Model(inner_input, lstm(name="inside")(inner_input))
    deep = keras.Sequential([signal(features=3), L.GRU(2, name="deep")])
    inputs = signal()
    hidden = L.Dense(2)(inputs)
    return keras.Model(inputs, L.Dense(2)(deep(inner(hidden))))


def nested_in_sequential():
    inner = keras.Sequential([signal(), lstm(), L.Dense(2)])
    outer = keras.Sequential([signal(), inner, lstm(), L.Dense(2)])
    return outer


def called_twice():
    shared = lstm(2)
    first, second = signal(name="first"), signal(name="second")
    return keras.Model(
        [first, second], L.Dense(2)(shared(shared(first)) + second)
    )


def static_beside():
    """A number per sequence, broadcast over time."""
    inputs, context = signal(), keras.Input((2,))
    hidden = lstm(3)(inputs)
    wide = L.Reshape((1, 3))(L.Dense(3)(context))
    return keras.Model([inputs, context], L.Dense(2)(hidden + wide))


def state_from_input():
    inputs, context = signal(), keras.Input((4,))
    start = [L.Dense(3)(context), L.Dense(3, use_bias=False)(context)]
    hidden = lstm(3)(inputs, initial_state=start)
    return keras.Model([inputs, context], L.Dense(2)(hidden))


def returning_state():
    inputs = signal()
    hidden, *state = lstm(3, return_state=True)(inputs)
    return keras.Model(inputs, [L.Dense(2)(hidden), *state])


def signal_beside():
    """An input with time that no recurrent layer reads."""
    first, second = signal(name="first"), signal(name="second")
    hidden = L.Concatenate()([lstm()(first), second])
    return keras.Model([first, second], L.Dense(2)(hidden))


def siamese():
    """A nested model called twice."""
    inner = keras.Sequential([signal(), lstm(), L.Dense(2)], name="inner")
    first, second = signal(name="first"), signal(name="second")
    return keras.Model([first, second], inner(first) - inner(inner(second)))


def fixed_length():
    return keras.Sequential([signal(steps=STEPS), lstm(), L.Dense(2)])


def dictionaries():
    a, b = signal(name="a"), signal(name="b", features=1)
    hidden = lstm()(L.Concatenate()([a, b]))
    outputs = {
        "late": L.Dense(1, name="late")(hidden),
        "early": L.Dense(2, name="early")(L.Dense(2)(a)),
    }
    return keras.Model({"a": a, "b": b}, outputs)


def convolutional():
    inputs = keras.Input((None, 4, 1))
    return keras.Model(
        inputs,
        L.ConvLSTM1D(2, 3, padding="same", return_sequences=True)(inputs),
    )


def convolutional_2d():
    inputs = keras.Input((None, 3, 3, 1))
    return keras.Model(
        inputs, L.ConvLSTM2D(1, 2, return_sequences=True)(inputs)
    )


def embedded(dtype):
    inputs = keras.Input((None,), dtype=dtype)
    hidden = L.Embedding(5, 3, mask_zero=True)(inputs)
    return keras.Model(inputs, L.Dense(2)(lstm()(lstm()(hidden))))


def masked_readout():
    return keras.Sequential([signal(), L.Masking(0.0), L.GRU(3), L.Dense(2)])


def masked_own_cell():
    return keras.Sequential(
        [
            signal(),
            L.Masking(0.0),
            zoo.recurrent("own"),
            zoo.recurrent("stacked", return_sequences=False),
            L.Dense(2),
        ]
    )


NETWORKS = {
    "skip connections": skip_connections,
    "keras.ops": keras_functions,
    "layers acting on steps": acting_on_steps,
    "nested": nested,
    "nested in Sequential": nested_in_sequential,
    "one layer called twice": called_twice,
    "one nested model called twice": siamese,
    "signal beside": signal_beside,
    "static input": static_beside,
    "state as output": returning_state,
    "state from an input": state_from_input,
    "fixed length": fixed_length,
    "dictionaries": dictionaries,
    "ConvLSTM1D": convolutional,
    "ConvLSTM2D": convolutional_2d,
    "integer tokens": lambda: embedded("int32"),
    "float tokens": lambda: embedded("float32"),
    "masked readout": masked_readout,
    "masked own cell": masked_own_cell,
}


def numbers(network, steps=STEPS, seed=0):
    """Random inputs in the structure the network takes."""
    generator = np.random.default_rng(seed)

    def draw(tensor):
        shape = [zoo.BATCH, *tensor.shape[1:]]
        shape = [steps if size is None else size for size in shape]
        if len(shape) == 2 and shape[1] == steps:
            tokens = generator.integers(1, 5, shape)
            tokens[0, -3:] = 0
            return tokens.astype(tensor.dtype)
        drawn = generator.normal(size=shape).astype("float32")
        if len(shape) == 3:
            drawn[1, -2:] = 0
            drawn[2, :1] = 0
        return drawn

    inputs = (
        network.inputs[0]
        if isinstance(network, keras.Sequential)
        else (network.input)
    )
    return keras.tree.map_structure(draw, inputs)
