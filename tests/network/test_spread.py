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


def trained(model, x=X, steps=2, **options):
    model.compile(keras.optimizers.SGD(0.3), "mse", **options)
    for _ in range(steps):
        model.train_on_batch([x, STILL], Y)
    return model.get_weights()


@pytest.mark.parametrize("how", ["layer", "function", "from behind"])
def test_training_is_that_of_keras(how):
    expected = trained(network(how), steps=1)
    for method in ksg.methods.BPTT(), ksg.methods.BPTT(3):
        model = ksg.SequenceModel.from_model(network(how))
        found = trained(model, steps=1, method=method)
        zoo.assert_same(found, expected)
    outputs = network(how)([X, STILL])
    model = ksg.SequenceModel.from_model(network(how))
    found = model.predict([X, STILL], verbose=0)
    zoo.assert_same([found], [outputs.numpy()])


METHODS = {
    "tbptt": ksg.methods.TruncatedBPTT(3),
    "dni": ksg.methods.SyntheticGradients(3),
    "fptt": ksg.methods.FPTT(2),
    "snap": ksg.methods.SnAp(3),
    "artbp": ksg.methods.ARTBP(3, seed=0),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_it_as_what_is_broadcast(name):
    """Padded rows, too: no mask of the sequence is that of the features."""
    x = np.array(X)
    x[0, 4:] = 0.0
    found = []
    for kind in "layer", "broadcast":
        model = ksg.SequenceModel.from_model(network(kind, masked=True))
        options = {"method": METHODS[name], "jit_compile": False}
        found.append(trained(model, x, **options))
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
        model = ksg.SequenceModel.from_model(coder)
        model.compile("sgd", "mse", method="fptt")
