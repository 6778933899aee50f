import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.window import agreement
from tests import zoo

TBPTT = ksg.methods.TruncatedBPTT(3)


def spec(*shape, dtype="float32"):
    return tf.TensorSpec((zoo.BATCH, *shape), dtype)


def compiled(network=None, loss="mse", method="bptt", **options):
    model = ksg.SequenceModel.from_model(network or zoo.network())
    model.compile("sgd", loss, method=method, **options)
    return model


def check(x, y=None, weight=None, model=None, trains=True):
    return agreement.check(model or compiled(), (x, y, weight), trains)


def several_inputs():
    """Two inputs with time and one without."""
    a, b = keras.Input((None, 2), name="a"), keras.Input((None, 2), name="b")
    once = keras.Input((3,), name="once")
    layer = keras.layers.LSTM(3, return_sequences=True)
    made = layer(keras.layers.Concatenate()([a, b]), initial_state=[once, once])
    return keras.Model([a, b, once], made)


def two_outputs():
    """One at every step, one a sequence."""
    x = keras.Input((None, 2))
    steps = keras.layers.GRU(2, return_sequences=True, name="steps")(x)
    last = keras.layers.GRU(2, name="last")(x)
    return keras.Model(x, {"steps": steps, "last": last})


X, Y = spec(7, 2), spec(7, 2)


@pytest.mark.parametrize("method", ["bptt", TBPTT])
@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize(
    "x, y, weight, text",
    [
        (X, spec(9, 2), None, r"`y` has 9 time steps, `x` has 7\."),
        (X, spec(4, 2), None, r"`y` has 4 .*\(batch, 7, 2\)|`y` has 4 time"),
        (X, Y, spec(9), r"`sample_weight` has 9 .* Expected \(batch, 7\), or"),
        (X, Y, spec(9, 1), r"`sample_weight` has 9"),
        (
            {"inputs": X, "mask": spec(6, dtype="bool")},
            Y,
            None,
            r"`x\['mask'\]` has 6 time steps, `x\['inputs'\]` has 7",
        ),
        (
            {"inputs": X, "reset": spec(8, dtype="bool")},
            Y,
            None,
            r"`x\['reset'\]` has 8",
        ),
        (
            {"inputs": X, "mask": spec(7, 1, dtype="bool")},
            Y,
            None,
            r"Expected a boolean \(batch, 7\)\. Received: \(3, 7, 1\)",
        ),
    ],
)
def test_another_number_of_steps_is_refused(method, trains, x, y, weight, text):
    with pytest.raises(ValueError, match=text):
        check(x, y, weight, compiled(method=method), trains)


@pytest.mark.parametrize("method", ["bptt", TBPTT])
@pytest.mark.parametrize(
    "y, weight",
    [
        (Y, None),
        (Y, spec(7)),
        (Y, spec()),
        (Y, spec(1)),
        (spec(1, 2), None),
        (spec(None, 2), spec(None)),
    ],
)
def test_one_value_a_sequence_and_unknown_lengths_pass(method, y, weight):
    assert check(X, y, weight, compiled(method=method)) == 7


def test_further_inputs_are_compared_where_they_have_time():
    model = compiled(several_inputs())
    y = spec(7, 3)
    assert check([X, X, spec(3)], y, model=model) == 7
    text = r"`x\[1\]` has 9 time steps, `x\[0\]` has 7.*keras.Input\(\(1, "
    with pytest.raises(ValueError, match=text):
        check([X, spec(9, 2), spec(3)], y, model=model)
    with pytest.raises(ValueError, match=r"`x\['b'\]` has 9"):
        check({"a": X, "b": spec(9, 2), "once": spec(3)}, y, model=model)
    with pytest.raises(ValueError, match=r"hold 3 inputs.*Received 2, of"):
        check([X, X], y, model=model)


def test_targets_and_weights_by_the_name_of_their_output():
    model = compiled(two_outputs(), {"steps": "mse", "last": "mae"})
    y = {"steps": Y, "last": spec(2)}
    assert check(X, y, {"steps": spec(7), "last": spec()}, model) == 7
    with pytest.raises(ValueError, match=r"`y\['steps'\]` has 8"):
        check(X, y | {"steps": spec(8, 2)}, None, model)
    with pytest.raises(ValueError, match=r"`sample_weight\['steps'\]` has 8"):
        check(X, y, {"steps": spec(8), "last": None}, model)
    text = r"`sample_weight\['last'\]` has a time axis, and the output has none"
    with pytest.raises(ValueError, match=text):
        check(X, y, {"steps": None, "last": spec(7)}, model)


@pytest.mark.parametrize("loss", [["mse", None], [None, "mse"]])
def test_targets_of_those_outputs_alone_that_have_a_loss(loss):
    network = two_outputs()
    network = keras.Model(network.inputs, [*network.output.values()])
    x, y = zoo.data()
    target = y if loss[0] else y[:, 0]
    for method in ("bptt", TBPTT):
        compiled(network, loss, method).fit(x, [target], verbose=0)
    if loss[0]:
        with pytest.raises(ValueError, match=r"`y\[0\]` has 5 time steps"):
            compiled(network, loss).fit(x, [y[:, :5]], verbose=0)


@pytest.mark.parametrize(
    "loss, y",
    [
        ("mse", spec(2)),
        ("mse", spec(1)),
        ("mse", spec()),
        ("binary_crossentropy", spec(2)),
        ("sparse_categorical_crossentropy", spec(1, dtype="int32")),
        ("sparse_categorical_crossentropy", spec(dtype="int32")),
    ],
)
def test_targets_without_a_time_axis(loss, y):
    text = r"`y` has no time axis.*Expected \(batch, 7, 2\).*return_sequences"
    with pytest.raises(ValueError, match=text):
        check(X, y, model=compiled(loss=loss))


def test_targets_that_lack_an_axis_by_right():
    sparse = compiled(loss="sparse_categorical_crossentropy")
    for y in (spec(7, dtype="int32"), spec(7), spec(7, 1, dtype="int64")):
        assert check(X, y, model=sparse) == 7
    with pytest.raises(ValueError, match="`y` has 9 time steps"):
        check(X, spec(9, dtype="int32"), model=sparse)

    def once(y, outputs):
        return (outputs[..., 0] - y[:, None]) ** 2

    assert check(X, spec(), model=compiled(loss=once, method=TBPTT)) == 7
    network = keras.Sequential(
        [keras.Input((None, 2)), zoo.recurrent("gru"), keras.layers.Dense(1)]
    )
    assert check(X, spec(7), model=compiled(network, method=TBPTT)) == 7
    assert check(X, spec(1), model=compiled(network, method=TBPTT)) == 7


@pytest.mark.parametrize(
    "x, text",
    [
        (spec(7), r"must have 3 axes. Expected \(batch, time, 2\), received"),
        (spec(7, 2, 1, 1), r"must have 3 axes"),
        (spec(0, 2), r"has no time steps.*received \(3, 0, 2\)"),
        ((X, spec(7)), r"hold 1 inputs.*Received 2, of the shapes \[\(3, 7, 2"),
        ([X] * 3, r"Many sequences are one array \(batch, time, ...\), padded"),
        (tf.TensorSpec(None), r"unknown number of axes.*output_signature"),
        (tf.RaggedTensorSpec((3, None, 2)), r"Pad and mask: .*bucket_by"),
        (np.array([[1], [1, 2]], object), r"`x` is ragged"),
    ],
)
def test_inputs_the_model_cannot_take(x, text):
    with pytest.raises(ValueError, match=text):
        check(x, Y)


def test_ragged_targets_and_a_dataset_of_them():
    ragged = tf.ragged.constant([[[1.0]], [[1.0], [2.0]]], ragged_rank=1)
    with pytest.raises(ValueError, match="`y` is ragged"):
        check(X, ragged)
    data = tf.data.Dataset.from_tensors((ragged, tf.ones((2, 2, 2))))
    with pytest.raises(ValueError, match="`x` is ragged"):
        compiled().fit(data)


def test_the_axis_that_keras_adds_may_be_missing():
    network = keras.Sequential([keras.Input((None, 1)), zoo.recurrent("gru")])
    assert check(spec(7), spec(7, 3), model=compiled(network)) == 7


def test_a_loss_needs_targets():
    text = "The loss 'mse' needs targets. Expected `y`"
    x = np.ones((2, 4, 2), "float32")
    for call in ("fit", "evaluate", "train_on_batch"):
        with pytest.raises(ValueError, match=text):
            getattr(compiled(), call)(x)
    with pytest.raises(ValueError, match=text):
        compiled().estimate_gradients(x, None)
    assert compiled().predict(x, verbose=0).shape == (2, 4, 2)


class OwnLoss(ksg.SequenceModel):
    """Its targets are its own affair."""

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        return tf.reduce_mean(y_pred**2)


def test_a_model_with_a_loss_of_its_own_is_not_asked():
    for method in ("bptt", ksg.methods.BPTT(2)):
        model = OwnLoss.from_model(zoo.network())
        model.compile("sgd", method=method)
        x = np.ones((2, 4, 2), "float32")
        model.fit(x, verbose=0)
        model.fit(x, np.ones((2, 3)), verbose=0)
    model.compile("sgd", method=TBPTT)
    with pytest.raises(ValueError, match="`y` has 3 time steps, `x` has 4"):
        model.fit(x, np.ones((2, 3)), verbose=0)


# --- every way in ----------------------------------------------------------


def ways():
    x, y = zoo.data()
    short = y[:, :5]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return x, short

    return {
        "fit": lambda m: m.fit(x, short, verbose=0),
        "evaluate": lambda m: m.evaluate(x, short, verbose=0),
        "train_on_batch": lambda m: m.train_on_batch(x, short),
        "test_on_batch": lambda m: m.test_on_batch(x, short),
        "estimate": lambda m: m.estimate_gradients(x, short),
        "dataset": lambda m: m.fit(
            tf.data.Dataset.from_tensors((x, short)), verbose=0
        ),
        "generator": lambda m: m.fit(((x, short) for _ in range(2)), verbose=0),
        "pydataset": lambda m: m.fit(Batches(), verbose=0),
        "validation": lambda m: m.fit(
            x, y, validation_data=(x, short), verbose=0
        ),
    }


@pytest.mark.parametrize("way", ways())
def test_every_way_in_names_both_lengths(way):
    model = compiled(method=TBPTT)
    before = model.get_weights()
    with pytest.raises(ValueError, match="y` has 5 time steps, .*x` has 7"):
        ways()[way](model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_predicted_inputs_are_compared():
    model = ksg.SequenceModel.from_model(several_inputs())
    x = [np.ones((2, steps, 2), "float32") for steps in (4, 5)]
    with pytest.raises(ValueError, match=r"`x\[1\]` has 5 .* `x\[0\]` has 4"):
        model.predict([*x, np.ones((2, 3), "float32")], verbose=0)


def test_a_subclass_is_compared_once_its_outputs_are_known():
    class Own(ksg.SequenceModel):
        def initial_state(self, batch_size):
            return tf.zeros((batch_size, 2))

        def call_segment(self, inputs, state, training=False):
            return inputs + state[:, None], state

    model = Own()
    model.compile("sgd", "mse", method=TBPTT)
    x, y = zoo.data()
    with pytest.raises(ValueError, match="`y` has 5 time steps, `x` has 7"):
        model.fit(x, y[:, :5], verbose=0)
    model.evaluate(x, y, verbose=0)


@pytest.mark.compiled
@pytest.mark.parametrize("jit_compile", [False, True])
def test_lengths_that_only_a_step_knows(jit_compile):
    """In a graph an assertion, under XLA the name of what cannot be made."""
    model = compiled(method=TBPTT, jit_compile=jit_compile)
    for steps in (6, 12):
        window = np.ones((2, 10, 2)), np.ones((2, steps, 2))
        data = zoo.generated([window], (2, None, 2), (2, None, 2))
        text = rf"`y` and `x` differ in time steps.*\[{steps}\].*\[10\]"
        if jit_compile:
            text = rf"time_steps_of_y_are_not.*with {steps} .* has 10"
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){text}"):
            model.fit(data, verbose=0)


# --- the note --------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        ksg.methods.TruncatedBPTT(8),
        ksg.methods.SyntheticGradients(8),
        ksg.methods.FPTT(length=8),
        ksg.methods.TargetPropagation(8),
    ],
)
def test_a_length_beyond_the_window_is_noted(method):
    x, y = zoo.data()
    given = {"x": x, "y": y}
    text = r"cuts after every 8 steps, and the windows have 7: none is cut"
    with pytest.warns(UserWarning, match=text):
        agreement.check_run(compiled(method=method), "training", given)


def test_nothing_is_noted_of_a_length_that_fits(recwarn):
    x, y = zoo.data()
    guesses = compiled(method=ksg.methods.SyntheticGradients(8))
    guesses.stateful = True  # and so they cross the end of a window
    fits = compiled(method=ksg.methods.TruncatedBPTT(7))
    for model in fits, compiled(method=ksg.methods.ARTBP(50)), guesses:
        agreement.check_run(model, "training", {"x": x, "y": y})
    assert not [w for w in recwarn if "none is cut" in str(w.message)]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("step", ["train_on_batch", "test_on_batch", "fit"])
def test_lists_of_numbers_are_refused(place, step):
    batch = [*zoo.data(), np.ones((zoo.BATCH, zoo.STEPS))]
    batch[place] = batch[place].tolist()
    text = f"`{['x', 'y', 'sample_weight'][place]}` is made of Python numbers"
    run = getattr(compiled(method=ksg.methods.BPTT()), step)
    with pytest.raises(ValueError, match=text):
        run(batch[0], batch[1], sample_weight=batch[2])
