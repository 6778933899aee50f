"""Features of a whole sequence, repeated for all of its steps."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import STEPS, L, lstm, signal

pytestmark = pytest.mark.slow

X, Y = zoo.data(STEPS)
# As many as there are steps, which must not be taken for these.
STILL = np.random.default_rng(4).normal(size=(zoo.BATCH, STEPS))
STILL = STILL.astype("float32")
REPEATED = {
    "layer": lambda x: L.RepeatVector(STEPS)(x),
    "function": lambda x: keras.ops.repeat(x[:, None], STEPS, axis=1),
    "from behind": lambda x: keras.ops.repeat(x[:, None], STEPS, axis=-2),
    "broadcast": lambda x: x[:, None],  # the same by Keras alone
}


def network(how="layer", steps=STEPS, masked=False):
    keras.utils.set_random_seed(1)
    inputs, still = signal(steps=steps), keras.Input((STEPS,), name="still")
    hidden = L.Masking()(inputs) if masked else inputs
    joined = L.Add()([L.Dense(3)(hidden), REPEATED[how](L.Dense(3)(still))])
    return keras.Model([inputs, still], L.Dense(2)(lstm()(joined)))


def trained(model, x=X, **options):
    model.compile(keras.optimizers.SGD(0.3), "mse", **options)
    for _ in range(2):
        model.train_on_batch([x, STILL], Y)
    return model.get_weights()


@pytest.mark.parametrize("how", ["layer", "function"])
def test_training_is_that_of_keras(how):
    expected = trained(network(how))
    for method in ksg.methods.BPTT(), ksg.methods.BPTT(3):
        model = ksg.SequenceModel.from_model(network(how))
        zoo.assert_same(trained(model, method=method), expected)
    outputs = network(how)([X, STILL])
    model = ksg.SequenceModel.from_model(network(how))
    found = model.predict([X, STILL], verbose=0)
    zoo.assert_same([found], [outputs.numpy()])


@pytest.mark.parametrize("how", ["layer", "from behind"])
@pytest.mark.parametrize("name", ["tbptt", "dni", "fptt", "snap", "artbp"])
def test_every_method_has_it_as_what_is_broadcast(name, how):
    """Padded rows, too: no mask of the sequence is that of the features."""
    x = np.array(X)
    x[0, 4:] = 0.0
    found = []
    for kind in how, "broadcast":
        model = ksg.SequenceModel.from_model(network(kind, masked=True))
        method = ksg.methods.get(name)
        found.append(trained(model, x, method=method, jit_compile=False))
    zoo.assert_same(*found)


def test_any_number_of_steps_and_step_by_step():
    """Keras knows one length alone."""
    model = ksg.SequenceModel.from_model(network(steps=None), stateful=True)
    model.compile("sgd", "mse", method="tbptt")
    expected = network(steps=None)([X, STILL])
    pieces = [
        model.predict_on_batch([X[:, t : t + 1], STILL]) for t in range(STEPS)
    ]
    zoo.assert_same([np.concatenate(pieces, axis=1)], [expected.numpy()])


def test_what_is_repeated_for_no_sequence_stays():
    """Three places that become an initial state."""
    keras.utils.set_random_seed(1)
    inputs, still = signal(), keras.Input((STEPS,))
    places = L.Flatten()(L.RepeatVector(3)(L.Dense(1)(still)))
    hidden = lstm()(inputs, initial_state=[places, places])
    stock = keras.Model([inputs, still], L.Dense(2)(hidden))
    start = stock.get_weights()
    expected = trained(stock)
    stock.set_weights(start)
    model = ksg.SequenceModel.from_model(stock)
    zoo.assert_same(trained(model, method=ksg.methods.BPTT(2)), expected)


def test_saved_and_loaded(tmp_path):
    model = ksg.SequenceModel.from_model(network())
    trained(model, method="tbptt")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict([X, STILL], verbose=0)
    zoo.assert_same([loaded.predict([X, STILL], verbose=0)], [expected])


def test_what_is_known_at_the_end_is_not_repeated():
    """As in an autoencoder, whose decoder begins when all has been read."""
    inputs = signal(steps=STEPS)
    code = L.RepeatVector(STEPS, name="again")(L.GRU(3)(inputs))
    coder = keras.Model(inputs, L.Dense(2)(lstm()(code)))
    with pytest.raises(ValueError, match=r"'again'.*cannot be cut in time"):
        ksg.SequenceModel.from_model(coder).compile("sgd", "mse")
