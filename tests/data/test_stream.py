import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.data.stream import stream
from keras_seqgrad.truncation import Random

LAW = Random(8, alpha=4.0)


def join(windows):
    return np.concatenate([np.asarray(window) for window in windows], axis=1)


def pieces(dataset):
    """Valid part of every random window: (inputs, targets, weights)."""
    found = []
    for x, y, weight in dataset.as_numpy_iterator():
        steps = int(x["mask"][0].sum())
        for array in (x["mask"], weight):
            assert (array[:, :steps] != 0).all()
            assert (array[:, steps:] == 0).all()
        found.append((x["inputs"][:, :steps], y[:, :steps], weight[:, :steps]))
    return found


def lengths(dataset):
    return [inputs.shape[1] for inputs, _, _ in pieces(dataset)]


def test_constant_windows_continue_each_other_in_every_row():
    tokens = np.arange(100, 150)
    dataset = stream(tokens, batch_size=3, window=4)
    windows = list(dataset)
    # 49 inputs make 3 rows of 16, which are 4 windows of 4.
    assert len(windows) == 4 and int(dataset.cardinality()) == 4
    assert dataset.element_spec[0].shape == (3, 4)
    rows = tokens[:48].reshape(3, 16)
    np.testing.assert_array_equal(join(x for x, _ in windows), rows)
    np.testing.assert_array_equal(join(y for _, y in windows), rows + 1)


@pytest.mark.parametrize(
    "drop, widths", [(True, [5, 5, 5]), (False, [5, 5, 5, 1])]
)
def test_last_shorter_window_is_dropped_or_kept(drop, widths):
    dataset = stream(np.arange(50), 3, 5, drop_remainder=drop)
    assert [x.shape[1] for x, _ in dataset] == widths
    assert int(dataset.cardinality()) == len(widths)


def test_given_targets_are_aligned_and_not_shifted():
    values = np.random.default_rng(0).normal(size=(21, 3)).astype("float32")
    targets = 2 * values[:, :1]
    windows = list(stream(values, 2, 5, targets=targets))
    assert windows[0][0].shape == (2, 5, 3)
    for x, y in windows:
        np.testing.assert_array_equal(y, 2 * x[..., :1])
    rows = values[:20].reshape(2, 10, 3)
    np.testing.assert_array_equal(join(x for x, _ in windows), rows)


@pytest.mark.parametrize("window", [4, LAW])
@pytest.mark.parametrize("as_positions", [True, False])
def test_reset_marks_the_first_token_of_each_document(window, as_positions):
    tokens = np.arange(61)
    first = np.array([0, 7, 20, 33, 60])
    starts = first if as_positions else np.isin(tokens, first)
    for element in stream(tokens, 3, window, document_starts=starts):
        x = element[0]
        expected = np.isin(x["inputs"], first)
        if "mask" in x:
            expected &= x["mask"].numpy()
        np.testing.assert_array_equal(x["reset"], expected)


def test_random_windows_cover_every_row_once():
    tokens = np.arange(301)
    found = pieces(stream(tokens, 3, LAW, seed=1))
    rows = tokens[:300].reshape(3, 100)
    np.testing.assert_array_equal(join(x for x, _, _ in found), rows)
    np.testing.assert_array_equal(join(y for _, y, _ in found), rows + 1)


def test_windows_are_padded_to_the_next_bucket():
    dataset = stream(np.arange(301), 3, LAW, bucket_lengths=[100, 6, 20])
    for x, y, weight in dataset:
        steps = int(x["mask"][0].numpy().sum())
        bucket = next(b for b in (6, 20, 100) if b >= steps)
        assert x["inputs"].shape == y.shape == weight.shape == (3, bucket)


@pytest.mark.slow
def test_cuts_are_new_in_every_epoch_and_the_same_for_a_seed():
    first, second = (stream(np.arange(2001), 2, LAW, seed=5) for _ in "ab")
    epochs = [lengths(first), lengths(first)]
    assert epochs[0] != epochs[1]
    assert epochs == [lengths(second), lengths(second)]
    assert epochs[0] != lengths(stream(np.arange(2001), 2, LAW, seed=6))


def test_without_a_seed_the_global_one_decides():
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(lengths(stream(np.arange(2001), 2, LAW)))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.slow
def test_pieces_follow_the_law():
    drawn = np.array(lengths(stream(np.arange(16_001), 1, LAW, seed=0))[:-1])
    deviation = drawn.std() / np.sqrt(len(drawn))
    assert abs(drawn.mean() - 8) < 4 * deviation < 1.5
    for age in (1, 2, 5, 10):
        alive = (drawn >= age).sum()
        share = (drawn == age).sum() / alive
        probability = float(LAW.cut_probability(age))
        error = np.sqrt(probability * (1 - probability) / alive)
        assert abs(share - probability) < 4 * error
    # Negative control: the constant law of the same mean is rejected.
    expected = 1 - (1 - 1 / 8) ** 3
    share = (drawn <= 3).mean()
    assert abs(share - expected) > 4 * np.sqrt(expected / len(drawn))


def test_every_step_of_an_epoch_weighs_the_same():
    found = pieces(stream(np.arange(4001), 2, LAW, seed=0))
    for x, _, weight in found:
        np.testing.assert_allclose(weight, x.shape[1] / 8, rtol=1e-6)
    # Keras divides by the valid steps, batch * n: what is left is 1 / mean.
    per_step = [w / w.shape[1] for _, _, w in found]
    np.testing.assert_allclose(np.concatenate(per_step, 1), 1 / 8, rtol=1e-6)
    total = sum(step.sum() / 2 for step in per_step)
    np.testing.assert_allclose(total, 2000 / 8, rtol=1e-5)


def stateful_model():
    """Keras' own LSTM on the dictionary that random windows yield."""
    inputs = keras.Input((None,), batch_size=2, dtype="int32", name="inputs")
    mask = keras.Input((None,), batch_size=2, dtype="bool", name="mask")
    x = keras.layers.Embedding(11, 4)(inputs)
    x = keras.layers.LSTM(5, return_sequences=True, stateful=True)(x, mask=mask)
    outputs = keras.layers.Dense(11)(x)
    model = keras.Model({"inputs": inputs, "mask": mask}, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


def reset(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.LSTM):
            layer.reset_state()


@pytest.mark.slow
def test_losses_of_keras_add_up_to_that_of_the_whole_rows():
    tokens = np.random.default_rng(0).integers(0, 11, 97)
    model = stateful_model()
    # Large weights, so that what the state says shows in the loss.
    for variable in model.trainable_variables:
        variable.assign(10 * variable)
    rows = tokens[:96].reshape(2, 48)
    whole = {"inputs": rows, "mask": np.ones((2, 48), bool)}
    targets = tokens[1:].reshape(2, 48)
    expected = float(model.compute_loss(whole, targets, model(whole)))

    def losses(carry):
        reset(model)
        for x, y, weight in stream(tokens, 2, LAW, seed=2):
            if not carry:
                reset(model)
            prediction = model(x)
            yield [
                float(model.compute_loss(x, y, prediction, weight)),
                float(model.compute_loss(x, y, prediction)),
            ]

    weighted, plain = np.transpose(list(losses(carry=True)))
    np.testing.assert_allclose(weighted.sum() * 8 / 48, expected, rtol=1e-6)
    # Negative controls: equal weights for all pieces, and a state that is lost.
    assert abs(plain.mean() / expected - 1) > 1e-2
    forgotten, _ = np.transpose(list(losses(carry=False)))
    assert abs(forgotten.sum() * 8 / 48 / expected - 1) > 1e-2


@pytest.mark.compiled
def test_fit_on_an_endless_stream_of_random_windows():
    tokens = np.random.default_rng(0).integers(0, 11, 401)
    dataset = stream(tokens, 2, LAW, seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Your input ran out of data")
        model = stateful_model()
        model.fit(dataset.repeat(), steps_per_epoch=25, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 50


def test_fit_on_constant_windows_knows_the_number_of_steps():
    class Steps(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            assert self.params["steps"] == 10

    inputs = keras.Input((20,), batch_size=2, dtype="int32")
    outputs = keras.layers.Embedding(11, 11)(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    dataset = stream(np.arange(401) % 11, 2, 20)
    model.fit(dataset, epochs=2, verbose=0, callbacks=[Steps()])
    assert int(model.optimizer.iterations) == 20


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"window": 50},
            "one window of 50 steps, but 99 input steps make 3 rows of 33",
        ),
        ({"window": 2.5}, r"must be an integer .* Received: window=2.5"),
        ({"window": 0}, "`window` must be an integer of 1 or more"),
        ({"batch_size": 0}, "`batch_size` must be an integer of 1 or more"),
        ({"batch_size": 100}, "100 rows of 0"),
        ({"batch_size": 100, "window": LAW}, "window of 1 steps, but 99"),
        ({"tokens": np.zeros(9)}, "Received: tokens of shape .9,. and dtype f"),
        ({"tokens": np.zeros((9, 2), int)}, "targets=targets"),
        ({"targets": np.zeros(7)}, "one entry for each step of `tokens`"),
        ({"bucket_lengths": [4]}, "`bucket_lengths` is for random windows"),
        ({"seed": 3}, "`seed` is for random windows only"),
        ({"document_starts": [100]}, "positions .* for 100 tokens"),
        ({"document_starts": [True]}, "`document_starts` must be a boolean"),
        (
            {"window": LAW, "bucket_lengths": [8, 16]},
            r"must hold a whole row \(33 steps\).*\n?.*\[8, 16\]",
        ),
        ({"window": LAW, "bucket_lengths": [0.5]}, "list of positive integers"),
        ({"window": LAW, "bucket_lengths": 0}, "an integer of 1 or more"),
    ],
)
def test_refusals(arguments, message):
    arguments = {"tokens": np.arange(100), "batch_size": 3, **arguments}
    arguments.setdefault("window", 4)
    with pytest.raises(ValueError, match=message):
        stream(**arguments)


@pytest.mark.compiled
def test_a_window_compiles_once_for_each_bucket():
    traced = []

    @tf.function(jit_compile=True)
    def mean(x):
        traced.append(x.shape)
        return tf.reduce_mean(tf.cast(x, "float32"))

    for x, _, _ in stream(np.arange(401), 2, LAW, bucket_lengths=[16, 200]):
        mean(x["inputs"])
    assert set(traced) == {(2, 16), (2, 200)} or set(traced) == {(2, 16)}
    assert len(traced) == len(set(traced))
