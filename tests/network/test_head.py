"""What of a model needs all steps at once, and what is before it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.network.graph import Graph
from tests.network.networks import STEPS, L, lstm, signal

X = np.ones((2, 3, 2), "float32")


class Pool(L.Layer):
    """A user's own pooling by learned shares."""

    def build(self, shape):
        self.scores = self.add_weight((shape[-1], 1), name="scores")

    def call(self, inputs):
        scores = keras.ops.matmul(inputs, self.scores)
        return keras.ops.sum(keras.ops.softmax(scores, 1) * inputs, axis=1)


class Running(L.Layer):
    """A user's own layer that gives each step the mean of all before it."""

    def call(self, inputs):
        counts = keras.ops.cumsum(keras.ops.ones_like(inputs), axis=1)
        return keras.ops.cumsum(inputs, axis=1) / counts


def compiled(network, **options):
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", **options)
    return model


def by_shares():
    inputs = signal()
    hidden = lstm()(inputs)
    shares = L.Softmax(axis=1, name="shares")(L.Dense(1)(hidden))
    return keras.Model(inputs, L.Dense(2)(keras.ops.sum(shares * hidden, 1)))


def attended():
    inputs = signal()
    hidden = L.Dense(3)(lstm()(inputs))
    seen = L.MultiHeadAttention(1, 2, name="seen")(hidden, hidden)
    return keras.Model(inputs, L.Dense(2)(L.LayerNormalization()(seen)))


def both():
    """An output of every step, made before, and one of all, and a context."""
    inputs, context = signal(STEPS), keras.Input((2,))
    hidden, *state = L.LSTM(3, return_sequences=True, return_state=True)(inputs)
    steps = L.Dense(2)(hidden)
    flat = [L.Flatten(name="a")(hidden), L.Flatten(name="b")(inputs)]
    joined = L.Concatenate()([*flat, *state, L.Dense(2)(context)])
    return keras.Model([inputs, context], [steps, L.Dense(2)(joined)])


def nested():
    pool = keras.Sequential([signal(features=3), Pool(), L.Dense(4)])
    pool.name = "pool"
    return keras.Sequential([signal(), lstm(), pool, L.Dense(2)])


HEADS = {
    "shares": (by_shares, ["shares"], [False]),
    "attention": (attended, ["seen"], [True]),
    "flattened": (both, ["a", "b"], [True, False]),
    "nested": (nested, ["pool"], [False]),
    "own": (
        lambda: keras.Sequential([signal(), lstm(), Pool(name="own")]),
        ["own"],
        [False],
    ),
    "own, of steps": (
        lambda: keras.Sequential([signal(), lstm(), Running(name="own")]),
        ["own"],
        [True],
    ),
    "fewer steps": (
        lambda: keras.Sequential(
            [signal(), lstm(), L.Conv1D(2, 3, name="c"), L.GlobalMaxPooling1D()]
        ),
        ["c"],
        [False],
    ),
    "of fewer steps": (
        lambda: keras.Sequential([signal(), lstm(), L.Conv1D(2, 3, name="c")]),
        ["c"],
        [False],
    ),
    "backwards": (
        lambda: keras.Sequential(
            [signal(STEPS), lstm(), L.Bidirectional(lstm(2), name="two")]
        ),
        ["two"],
        [True],
    ),
    "from the end": (
        lambda: keras.Sequential(
            [signal(), lstm(), lstm(2, go_backwards=True, name="end")]
        ),
        ["end"],
        [True],
    ),
    "the last of the end": (
        lambda: keras.Sequential(
            [signal(), lstm(), L.GRU(2, go_backwards=True, name="end")]
        ),
        ["end"],
        [False],
    ),
}


def given(network):
    generator = np.random.default_rng(0)
    flat = [
        generator.normal(size=(2, *(n or STEPS for n in t.shape[1:])))
        for t in network.inputs
    ]
    flat = [each.astype("float32") for each in flat]
    return flat if len(flat) > 1 else flat[0]


@pytest.mark.parametrize("name", HEADS)
def test_is_found_and_runs_as_keras_runs_it(name):
    make, names, temporal = HEADS[name]
    network = make()
    model = compiled(network)
    assert model.network_head.names == names
    assert model.temporal_outputs == temporal
    x = given(network)
    pairs = zip(
        *(keras.tree.flatten(f(x)) for f in (model, network)), strict=True
    )
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_takes_features_before_the_shortest_way_out():
    """What no gradient comes through is made once more, of the inputs."""
    tokens = keras.Input((None,), dtype="int32")
    mask = keras.ops.not_equal(tokens, 0)[:, None]
    hidden = lstm()(L.Embedding(5, 2)(tokens))
    attention = L.MultiHeadAttention(1, 2, name="seen")
    seen = attention(hidden, hidden, attention_mask=mask)
    network = keras.Model(tokens, L.GlobalAveragePooling1D()(seen))
    model = compiled(network)
    assert model.temporal_made == [True]
    assert model.made_specs[0].shape[-1] == 3
    x = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])
    np.testing.assert_allclose(model(x), network(x), atol=1e-6)


def test_a_model_without_one_has_none():
    model = compiled(keras.Sequential([signal(), lstm(), L.Dense(2)]))
    assert model.network_head is None
    assert model.made_specs == model.output_specs


def test_a_subclass_may_have_a_head_of_its_own():
    class Own(ksg.SequenceModel):
        def __init__(self):
            super().__init__()
            self.head = L.Dense(2)

        def initial_state(self, batch_size):
            return tf.zeros((batch_size, 2))

        def call_segment(self, inputs, state, training=False):
            return self.head(inputs), state

    model = Own()
    model.compile("sgd", "mse", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(X, X))
    assert model.network_head is None and model.network_uncut is None


def test_a_layer_of_a_fixed_length_that_no_one_knows():
    """It shows itself when the network is traced for other lengths."""
    weigh = L.EinsumDense("btf,t->bf", (3,), name="weigh")
    network = keras.Sequential([signal(STEPS), lstm(), weigh, L.Dense(2)])
    assert Graph(network).head.names == ["weigh"]


def behind(layer):
    return keras.Sequential([signal(STEPS), lstm(), layer, L.GRU(2)])


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (behind(L.Conv1D(2, 3, name="c")), "Layer 'c' .Conv1D. cannot be cut"),
        (behind(L.Conv1D(2, 3, name="c", padding="same")), "steps around a"),
        (behind(Running(name="own")), "Layer 'own' cannot be cut in time"),
        (
            keras.Sequential([signal(), L.Bidirectional(L.GRU(2), name="two")]),
            "Layer 'two' .* backward half",
        ),
        (
            keras.Sequential([signal(), lstm(name="end", go_backwards=True)]),
            "Layer 'end' .* reads the sequence from the end.* Nothing else",
        ),
        (
            keras.Sequential(
                [
                    signal(),
                    lstm(),
                    keras.Sequential(
                        [signal(features=3), lstm(2), L.Conv1D(2, 3, name="c")],
                        name="inner",
                    ),
                ]
            ),
            "Layer 'inner/c' .Conv1D. cannot be cut",
        ),
    ],
)
def test_what_has_recurrent_layers_behind_or_beside_it_is_none(network, text):
    with pytest.raises(ValueError, match=text):
        compiled(network, method=ksg.methods.SnAp(2))


def test_what_knows_of_segments_alone_is_refused(tmp_path):
    model = compiled(by_shares(), run_eagerly=True)
    for call in [
        lambda: model.call_segment(np.ones((1, 2, 2)), model.initial_state(1)),
        lambda: model.export_steps(tmp_path / "steps"),
        lambda: model({"inputs": X, "reset": X[..., 0] > 0}),
        lambda: model.fit({"inputs": X, "reset": X[..., 0] > 0}, X[:, 0]),
    ]:
        with pytest.raises(ValueError, match=r"\['shares'\] need all steps"):
            call()


@pytest.mark.slow
def test_saved_and_exported(tmp_path):
    model = compiled(both())
    x = given(model.network)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.network_head.names == ["a", "b"]
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    assert set(served.signatures) == {"serve", "serving_default"}
    for again in loaded(x), served.serve(x):
        for found, wanted in zip(again, model(x), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
