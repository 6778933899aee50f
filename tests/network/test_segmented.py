"""A subclass with its own `initial_state` and `call_segment`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo

METHODS = [
    ksg.methods.BPTT(),
    ksg.methods.BPTT(checkpoint_every=3),
    ksg.methods.TruncatedBPTT(3),
    ksg.methods.TruncatedBPTT(4, 2),
    ksg.methods.ARTBP(3, seed=1),
]


@keras.saving.register_keras_serializable("tests")
class Own(ksg.SequenceModel):
    """A leaky unit whose start is learned, written with a loop."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.cell = zoo.PlainCell(units)
        self.readout = keras.layers.Dense(2)
        self.start = self.add_weight(shape=(units,), name="start")
        self.calls = 0

    def initial_state(self, batch_size):
        return tf.tile(self.start[None], [batch_size, 1])

    def call_segment(self, inputs, state, training=False):
        self.calls += 1
        outputs = []
        for step in tf.unstack(inputs, axis=1):
            output, (state,) = self.cell(step, [state])
            outputs.append(self.readout(output))
        return tf.stack(outputs, axis=1), state

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class AtEnd(Own):
    """One output for each sequence."""

    def call_segment(self, inputs, state, training=False):
        outputs, state = super().call_segment(inputs, state, training)
        return outputs[:, -1], state


def built(kind=Own, steps=zoo.STEPS, **options):
    keras.utils.set_random_seed(4)
    model = kind(**options)
    model(np.zeros((zoo.BATCH, steps, zoo.FEATURES), "float32"))
    return model


def tape(model, x, y, weight=None):
    """(loss, gradients) by a tape over the plain loop."""
    with tf.GradientTape() as recorded:
        start = model.initial_state(len(x))
        outputs, _ = model.call_segment(tf.constant(x), start)
        loss = keras.losses.MeanSquaredError()(y, outputs, weight)
    return loss, recorded.gradient(loss, model.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_gradients_in_the_limit_of_bptt(method):
    """Cut nowhere, each method gives the gradient of the tape."""
    window = 3 if isinstance(method, ksg.methods.TruncatedBPTT) else zoo.STEPS
    model = built(steps=window)
    x, y = zoo.data(window)
    if isinstance(method, ksg.methods.ARTBP):
        method = ksg.methods.ARTBP(1e9, seed=1)
    model.compile("sgd", "mse", method=method, jit_compile=False)
    loss, found = model.estimate_gradients(x, y)
    expected_loss, expected = tape(model, x, y)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    zoo.assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", METHODS[2:], ids=lambda method: type(method).__name__
)
def test_a_subclass_gives_what_the_same_network_gives(method):
    """Own weights, truncated: against a network with the same cell."""
    network = keras.Sequential(
        [
            keras.Input((None, zoo.FEATURES)),
            keras.layers.RNN(zoo.PlainCell(), return_sequences=True),
            keras.layers.Dense(2),
        ]
    )
    model = built()
    model.start.assign(tf.zeros_like(model.start))
    network.set_weights([w.numpy() for w in model.trainable_variables[1:]])
    other = ksg.SequenceModel.from_model(network)
    x, y = zoo.data()
    for each in model, other:
        own = method.from_config(method.get_config())
        each.compile("sgd", "mse", method=own, jit_compile=False)
    _, found = model.estimate_gradients(x, y)
    _, expected = other.estimate_gradients(x, y)
    zoo.assert_same(found[1:], expected)
    assert zoo.differ(found, tape(model, x, y)[1])


def test_reset_and_mask():
    model = built()
    model.compile("sgd", "mse", jit_compile=False)
    x, y = zoo.data()
    reset = np.zeros((zoo.BATCH, zoo.STEPS), bool)
    reset[:, 4] = True
    mask = np.ones_like(reset)
    mask[:, 6:] = False
    given = {"inputs": x, "reset": reset, "mask": mask}
    loss, found = model.estimate_gradients(given, y)
    first, second = (
        tape(model, x[:, :4], y[:, :4]),
        tape(model, x[:, 4:6], y[:, 4:6]),
    )
    assert float(loss) * 6 == pytest.approx(
        4 * float(first[0]) + 2 * float(second[0]), rel=1e-5
    )
    expected = [
        (4 * a + 2 * b) / 6 for a, b in zip(first[1], second[1], strict=True)
    ]
    zoo.assert_same(found, expected)
    whole = model.predict(given, verbose=0)
    alone = model.predict(x[:, 4:], verbose=0)
    np.testing.assert_allclose(whole[:, 4:6], alone[:, :2], atol=1e-6)


def before_recurrence():
    """Layers before the first recurrent one, which see no explicit mask."""
    numbers = keras.Input((None, zoo.FEATURES))
    tokens = keras.Input((None,), dtype="int32")
    start = keras.Input((3,))
    read = keras.layers.Dense(3, activation="relu")(numbers)
    read = keras.layers.LayerNormalization()(read)
    looked_up = keras.layers.Embedding(4, 3)(tokens)
    state = keras.layers.Dense(3)(start)
    hidden = zoo.recurrent("gru")(read + looked_up, initial_state=state)
    return ksg.SequenceModel([numbers, tokens, start], hidden + read)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [before_recurrence, lambda: built()])
def test_masked_steps_of_inputs_may_hold_anything(kind):
    model = kind()
    model.compile("sgd", "mse", jit_compile=False)
    x, _ = zoo.data()
    tokens = np.tile(np.arange(zoo.STEPS) % 4, (zoo.BATCH, 1))
    start = np.ones((zoo.BATCH, 3), "float32")
    mask = np.ones((zoo.BATCH, zoo.STEPS), bool)
    mask[0] = mask[1, 2:5] = False

    def results(number, token, given_mask=mask):
        given = x.copy()
        given[~mask] = number
        if not model.is_opaque:
            given = [given, np.where(mask, tokens, token), start]
        given = {"inputs": given, "mask": given_mask}
        y = np.zeros((*mask.shape, model(given).shape[-1]))
        loss, gradients = model.estimate_gradients(given, y)
        return [loss, model(given), *gradients]

    expected = results(0.0, 0)
    for number in np.nan, np.inf, 1e30:
        zoo.assert_same(results(number, -1), expected, tolerance=0)
    # The control: in steps that count they are seen.
    assert np.isnan(results(np.nan, 0, np.ones_like(mask))[2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS[::2], ids=repr)
def test_one_output_for_each_sequence(method):
    model = built(AtEnd)
    model.compile("sgd", "mse", method=method, jit_compile=False)
    x, y = zoo.data(per_sequence=True)
    loss, found = model.estimate_gradients(x, y)
    expected_loss, expected = tape(model, x, y)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    exact = isinstance(method, ksg.methods.BPTT)
    assert zoo.differ(found, expected) != exact
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()


@pytest.mark.compiled
def test_stateful_training_learns_and_never_retraces():
    model = built(stateful=True)
    method = ksg.methods.TruncatedBPTT(2)
    model.compile("adam", "mse", method=method, jit_compile=True)
    x, y = zoo.data(8)
    x, y = (np.concatenate([a[:, :4], a[:, 4:]]) for a in (x, y))
    fit = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}
    first = model.fit(x, y, **fit).history["loss"]
    calls = model.calls
    last = model.fit(x, y, epochs=20, **fit).history["loss"]
    assert model.calls == calls
    assert last[-1] < first[0]


def test_a_base_class_alone_is_refused():
    with pytest.raises(ValueError, match="inputs and outputs, a network, or"):
        ksg.SequenceModel()


def test_a_learned_start_beside_an_own_one_is_refused():
    with pytest.raises(ValueError, match="says itself where sequences start"):
        Own(learn_initial_state=True)


def test_summary_shows_the_layers_of_the_network():
    lines = []
    model = ksg.SequenceModel.from_model(zoo.network("lstm"))
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert "lstm (LSTM)" in text and "state" not in text


def of_network(**options):
    layers = [
        keras.Input((None, 3)),
        keras.layers.GRU(2, return_sequences=True),
    ]
    return ksg.SequenceModel.from_model(keras.Sequential(layers), **options)


def test_a_model_of_a_sequence_model_is_refused():
    model = of_network()
    with pytest.raises(ValueError, match="no SequenceModel yet") as refusal:
        ksg.SequenceModel.from_model(model, stateful=True)
    assert "ksg.SequenceModel(model.input, model.output" in str(refusal.value)
    second = ksg.SequenceModel(model.input, model.output, stateful=True)
    pairs = zip(second.weights, model.weights, strict=True)
    assert all(a is b for a, b in pairs)


@pytest.mark.parametrize("beside", ["reset", "mask"])
def test_a_segment_takes_nothing_beside_its_inputs(beside):
    model, x = of_network(), np.zeros((2, 1, 3), "float32")
    inputs = {"inputs": x, beside: np.ones((2, 1), bool)}
    with pytest.raises(ValueError, match="takes the inputs alone") as refusal:
        model.call_segment(inputs, model.initial_state(2))
    assert f"['inputs', '{beside}']" in str(refusal.value)
    assert "`predict_on_batch`" in str(refusal.value)
