"""Models of every day compile, and train with the loss of stock Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.network.networks import L, lstm, signal

ops = keras.ops
# Of unlike sizes: Keras 3.15 adds (n, 1, 1) to (n, n, 1) along the wrong axis.
ROWS, STEPS = 4, 3
WORDS = ["red", "green", "blue"]


def integers(high, *shape, low=0):
    return np.random.default_rng(2).integers(low, high, shape).astype("int32")


def floats(*shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def head(hidden):
    return L.Dense(1)(lstm(2)(hidden))


def tokens(between, size, features=(), dtype="int32", low=0, high=None):
    """Tokens, what is made of them, an embedding; and a batch of them."""
    inputs = keras.Input((None, *features), dtype=dtype)
    network = keras.Model(inputs, head(L.Embedding(size, 2)(between(inputs))))
    return network, integers(high or size, ROWS, STEPS, *features, low=low)


def columns():
    inputs = keras.Input((None, 2), dtype="int32")
    words = L.Embedding(5, 2)(inputs[..., 0])
    flags = L.Embedding(2, 2)(inputs[..., 1])
    network = keras.Model(inputs, head(L.Concatenate()([words, flags])))
    return network, integers(2, ROWS, STEPS, 2)


def nested_embedding():
    inner = keras.Input((None,), dtype="int32")
    inner = keras.Model(inner, L.Embedding(2, 2)(inner), name="inner")
    inputs = keras.Input((None,), dtype="int32")
    return keras.Model(inputs, head(inner(inputs))), integers(2, ROWS, STEPS)


def strings(mode):
    inputs = keras.Input((None,), dtype="string")
    found = L.StringLookup(
        vocabulary=WORDS, output_mode=mode, num_oov_indices=0
    )(inputs)
    found = L.Embedding(3, 2)(found) if mode == "int" else found
    x = np.array(WORDS)[integers(3, ROWS, STEPS)]
    return keras.Model(inputs, head(found)), tf.constant(x)


def integer_lookup():
    inputs = keras.Input((None,), dtype="int64")
    found = L.IntegerLookup(vocabulary=[97, 98, 99], num_oov_indices=0)(inputs)
    network = keras.Model(inputs, head(L.Embedding(3, 2)(found)))
    return network, integers(100, ROWS, STEPS, low=97).astype("int64")


def categories():
    inputs = keras.Input((None,), dtype="int32")
    found = L.CategoryEncoding(3, output_mode="one_hot")(inputs)
    return keras.Model(inputs, head(found)), integers(3, ROWS, STEPS)


def one_hot():
    inputs = keras.Input((None,), dtype="int32")
    found = ops.one_hot(inputs, 3)
    return keras.Model(inputs, head(found)), integers(3, ROWS, STEPS)


def constant_start(rows):
    inputs = signal()
    state = [tf.constant(floats(rows, 2)), tf.constant(floats(rows, 2))]
    hidden = lstm(2)(inputs, initial_state=state)
    return keras.Model(inputs, L.Dense(1)(hidden)), floats(ROWS, STEPS, 2)


def on_signal(between, steps=None, x=None):
    inputs = signal(steps)
    x = floats(ROWS, steps or STEPS, 2) if x is None else x
    return keras.Model(inputs, head(between(inputs))), x


def named(as_dict):
    given = {
        "mask": signal(features=2, name="mask"),
        "inputs": signal(features=1, name="inputs"),
    }
    hidden = head(L.Concatenate()([*given.values()]))
    network = keras.Model(given if as_dict else [*given.values()], hidden)
    x = {"inputs": floats(ROWS, STEPS, 1), "mask": floats(ROWS, STEPS, 2)}
    return network, x


def hidden_by_infinity():
    """A choice over features, of which one is always ruled out."""

    def choose(x):
        return ops.softmax(ops.where([False, True, False], -np.inf, x))

    inputs = signal(features=3)
    network = keras.Model(inputs, head(choose(inputs)))
    return network, floats(ROWS, STEPS, 3)


def log_of_relu():
    inputs = signal()
    hidden = lstm(2, activation="relu")(inputs)
    network = keras.Model(inputs, L.Dense(1)(ops.log(hidden + 1e-3)))
    return network, floats(ROWS, STEPS, 2)


def beside():
    """One number of the sequence, added to the single feature of each step."""
    signal, once = keras.Input((None, 1)), keras.Input((2,))
    number = L.Reshape((1, 1))(L.Dense(1)(once))
    network = keras.Model([signal, once], head(L.Add()([signal, number])))
    return network, [floats(ROWS, STEPS, 1), floats(ROWS, 2)]


def speaker():
    """A start from a table, read by one integer a sequence."""
    inputs, number = signal(), keras.Input((), dtype="int32")
    start = L.Embedding(2, 2)(number)
    hidden = lstm(2)(inputs, initial_state=[start, start])
    network = keras.Model([inputs, number], L.Dense(1)(hidden))
    return network, [floats(ROWS, STEPS, 2), integers(2, ROWS)]


def frames():
    inputs = keras.Input((None, 4, 4, 1), dtype="uint8")
    scaled = L.Rescaling(1 / 255)(inputs)
    seen = L.TimeDistributed(L.Conv2D(2, 3))(scaled)
    seen = L.TimeDistributed(L.Flatten())(seen)
    x = integers(256, ROWS, STEPS, 4, 4, 1).astype("uint8")
    return keras.Model(inputs, head(seen)), x


def fixed_rows():
    inputs = keras.Input(batch_shape=(ROWS, None, 2))
    network = keras.Model(inputs, head(inputs + tf.ones((ROWS, 1, 1))))
    return network, floats(ROWS, STEPS, 2)


def whole_numbers_into_floats():
    """A nested model of floats on integers, as Keras casts them."""
    inner = keras.Input((None, 2))
    inner = keras.Model(inner, inner / 2)
    inputs = keras.Input((None, 2), dtype="int32")
    return keras.Model(inputs, head(inner(inputs))), integers(9, ROWS, STEPS, 2)


EVERYDAY = {
    "one step": lambda: on_signal(L.Dense(2), 1),
    "two steps": lambda: on_signal(L.Dense(2), 2),
    "a long fixed length": lambda: on_signal(L.Dense(2), 50),
    "columns of integers": columns,
    "embedding of x + 1": lambda: tokens(lambda x: x + 1, 3, high=2),
    "embedding of x - 1": lambda: tokens(lambda x: x - 1, 3, low=1, high=4),
    "embedding of 2 x": lambda: tokens(lambda x: 2 * x, 5, high=3),
    "embedding of a rounded float": lambda: tokens(
        lambda x: ops.cast(9.9 * x, "int32"), 10, dtype="float32", high=1
    ),
    "embedding, reshaped": lambda: tokens(L.Reshape((-1,)), 2, (1,)),
    "embedding, nested": nested_embedding,
    "one word": lambda: tokens(lambda x: x, 1),
    "strings": lambda: strings("int"),
    "strings, one-hot": lambda: strings("one_hot"),
    "integers of a vocabulary": integer_lookup,
    "categories": categories,
    "one-hot": one_hot,
    "constant start, one row": lambda: constant_start(1),
    "constant start, all rows": lambda: constant_start(ROWS),
    "inputs named as companions": lambda: named(True),
    "inputs named as companions, in a list": lambda: named(False),
    "minus infinity": hidden_by_infinity,
    "logarithm of what is positive": log_of_relu,
    "logarithm": lambda: on_signal(ops.log, x=np.exp(floats(ROWS, STEPS, 2))),
    "a start from a table": speaker,
    "a number beside all steps": beside,
    "frames": frames,
    "a batch size": fixed_rows,
    "integers into floats": whole_numbers_into_floats,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYDAY)
def test_trains_with_the_loss_of_keras(name):
    """In two segments, the last of one step: what Keras makes of all."""
    if name == "strings, one-hot" and keras.version() < "3.14":
        pytest.skip("this Keras makes one vector of a sequence of strings")
    network, x = EVERYDAY[name]()
    model = ksg.SequenceModel.from_model(network)
    rows, steps, *_ = keras.tree.flatten(x)[0].shape
    method = ksg.methods.TruncatedBPTT(max(steps - 1, 1))
    model.compile(keras.optimizers.SGD(0.0), "mse", method=method)
    y = floats(rows, steps, 1)
    right = keras.losses.MeanSquaredError()(y, network(x))
    logs = model.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0).history
    assert logs["loss"][0] == pytest.approx(float(right), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("as_dict", [True, False])
def test_inputs_named_as_companions_may_have_companions(as_dict):
    """They are predicted, estimated and compared as in Keras, and masked."""
    network, x = named(as_dict)
    y = floats(ROWS, STEPS, 1)
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    right = network(x)
    np.testing.assert_allclose(model(x), right, atol=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0), right, atol=1e-6)
    loss, _ = model.estimate_gradients(x, y)
    squares = np.square(y - right)
    assert float(loss) == pytest.approx(squares.mean(), rel=1e-5)
    compared = ksg.diagnostics.compare_gradients(model, x, y)
    assert compared["BPTT()"].cosine == pytest.approx(1.0)
    mask = np.ones((ROWS, STEPS), bool)
    mask[:, 2:] = False
    loss, _ = model.estimate_gradients({"inputs": x, "mask": mask}, y)
    assert float(loss) == pytest.approx(squares[:, :2].mean(), rel=1e-5)


def test_a_list_of_inputs_may_be_given_by_name():
    """Whatever order the names have: one of them has no time axis."""
    inputs, context = signal(name="later"), keras.Input((2,), name="early")
    hidden = lstm(2)(inputs) + L.Dense(2)(context)[:, None]
    network = keras.Model([inputs, context], hidden)
    model = ksg.SequenceModel.from_model(network)
    method = ksg.methods.TruncatedBPTT(2)
    model.compile(keras.optimizers.SGD(0.0), "mse", method=method)
    x, y = [floats(ROWS, STEPS, 2), floats(ROWS, 2)], floats(ROWS, STEPS, 2)
    right = keras.losses.MeanSquaredError()(y, network(x))
    x = {"later": x[0], "early": x[1]}
    for given in x, {"inputs": x, "mask": np.ones((ROWS, STEPS), bool)}:
        found = model.train_on_batch(given, y)
        assert float(found) == pytest.approx(float(right), rel=1e-5)
        model.reset_metrics()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.1),
        lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1),
    ],
    ids=["adam", "clipped"],
)
@pytest.mark.parametrize("length", [None, 2])
def test_a_token_moves_by_the_sum_of_its_gradients(optimizer, length):
    """Stock Keras gives optimizers the gradient of each place on its own."""
    network, _ = tokens(lambda inputs: inputs, 3)
    x, y = np.array([[0, 0, 1, 0]]), np.ones((1, 4, 1))
    expected = keras.models.clone_model(network)
    expected.set_weights(network.get_weights())
    variables = expected.trainable_variables
    with tf.GradientTape() as tape:
        loss = keras.losses.MeanSquaredError()(y, expected(x))
    gradients = tape.gradient(loss, variables)
    assert isinstance(gradients[0], tf.IndexedSlices)
    optimizer().apply([tf.convert_to_tensor(g) for g in gradients], variables)
    model = ksg.SequenceModel.from_model(network)
    model.compile(optimizer(), "mse", method=ksg.methods.BPTT(length))
    model.fit(x, y, verbose=0)
    for ours, theirs in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", [L.LSTM, L.GRU])
def test_a_float32_head_under_mixed_precision(dtype, kind):
    policy = keras.dtype_policies.DTypePolicy(f"mixed_{dtype}")
    network = keras.Sequential(
        [
            signal(),
            kind(8, return_sequences=True, dtype=policy),
            L.Dense(2, dtype=policy),
            L.Activation("softmax", dtype="float32"),
        ]
    )
    ksg.SequenceModel.from_model(network).compile("sgd", "mse")


class Own(L.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.draws = keras.random.SeedGenerator(1)

    def call(self, inputs, training=False):
        return self.function(inputs, training, self.draws)


def noisy(x, training, seed):
    return x + keras.random.normal(ops.shape(x), seed=seed) if training else x


def sampled(x, training, seed):
    """As in a variational autoencoder: random whatever the mode."""
    return x + tf.random.normal(tf.shape(x))


def augmented(x, training, seed):
    """Some steps are left out, whole."""
    kept = keras.random.uniform(ops.shape(x[..., :1]), seed=seed) > 0.3
    return x * ops.cast(kept, x.dtype) if training else x


DRAWING = {
    "noise in training": lambda: Own(noisy),
    "noise always": lambda: Own(sampled),
    "steps left out": lambda: Own(augmented),
    "dropout always": lambda: lambda x: L.Dropout(0.5)(x, training=True),
    "a norm estimated in training": lambda: L.SpectralNormalization(L.Dense(2)),
}


@pytest.mark.parametrize("name", DRAWING)
def test_layers_that_draw_are_accepted_and_left_as_they_were(name):
    network, x = on_signal(lambda x: Own(lambda y, *_: y)(DRAWING[name]()(x)))
    before = [v.numpy() for v in network.variables]
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    rates = [layer.rate for layer in network.layers if "dropout" in layer.name]
    assert rates == [0.5] * len(rates)
