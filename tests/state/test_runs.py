"""What surrounds a run of fit, evaluate and predict."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.state import runs
from tests import zoo

ARRAY = np.zeros((6, 4, 2))


def bind(*args, **kwargs):
    return runs.bind(keras.Model.fit, None, args, kwargs)


def test_arguments_are_bound_by_name():
    assert bind(1, 2, 3, epochs=4) == {
        "x": 1,
        "y": 2,
        "batch_size": 3,
        "epochs": 4,
    }


def test_extra_keywords_are_not_nested():
    found = runs.bind(keras.Model.evaluate, None, (1,), {"_cached": True})
    assert found == {"x": 1, "_cached": True}


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        bind(1, epoch=2)


def dataset():
    return tf.data.Dataset.from_tensor_slices(ARRAY).batch(3)


class Batches(keras.utils.PyDataset):
    """Batches of three rows."""

    num_batches = 2

    def __getitem__(self, index):
        return ARRAY[3 * index : 3 * index + 3]


@pytest.mark.parametrize(
    "given",
    [
        {"x": ARRAY},
        {"x": ARRAY, "batch_size": 3},
        {"x": {"inputs": ARRAY, "reset": ARRAY[..., 0]}, "batch_size": 2},
        {"x": np.zeros((64, 2))},
        {"x": np.zeros((8, 2)), "batch_size": 3, "validation_split": 0.25}
        | {"validation_batch_size": 2},
        {"x": ARRAY, "validation_data": (ARRAY[:4], ARRAY[:4])}
        | {"validation_batch_size": 2},
        {"x": dataset(), "batch_size": 4},
        {"x": Batches(), "validation_data": dataset()},
        {"x": iter([ARRAY])},
        {},
    ],
    ids=[
        "array",
        "array and batch size",
        "inputs in a dict",
        "long array",
        "rows after the split",
        "validation data",
        "dataset",
        "PyDataset",
        "iterator",
        "nothing",
    ],
)
def test_rows_in_whole_batches_are_taken(given):
    runs.check_rows(given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"batch_size": 4}, "x a multiple of batch_size=4 rows, received 6"),
        (
            {"batch_size": 3, "validation_split": 1 / 3},
            "x a multiple of batch_size=3 rows, received 4",
        ),
        (
            {"batch_size": 3, "validation_split": 0.5}
            | {"validation_batch_size": 2},
            "validation_split a multiple of batch_size=2 rows, received 3",
        ),
        (
            {"batch_size": 2, "validation_data": (ARRAY[:3], ARRAY[:3])},
            "validation_data a multiple of batch_size=2 rows, received 3",
        ),
    ],
)
def test_rows_left_over_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        runs.check_rows({"x": ARRAY, **given})


@pytest.mark.parametrize("stateful", [False, True])
def test_what_has_an_order_is_not_shuffled(stateful):
    batches = (batch for batch in [ARRAY])
    for x in dataset(), batches:
        assert runs.shuffling({"x": x}, stateful) is False
        assert runs.shuffling({"x": x, "shuffle": True}, stateful) is True
    assert runs.shuffling({"x": ARRAY, "shuffle": False}, stateful) is False


def test_arrays_are_shuffled_as_by_keras():
    assert runs.shuffling({"x": {"a": ARRAY}}, stateful=False) is True
    assert runs.shuffling({"x": ARRAY, "shuffle": "batch"}, False) == "batch"


def test_shuffling_is_refused_where_keras_would_shuffle():
    with pytest.raises(ValueError, match="Expected shuffle=False"):
        runs.shuffling({"x": {"a": ARRAY}}, stateful=True)
    with pytest.raises(ValueError, match="received a PyDataset with shuffle"):
        runs.shuffling({"x": Batches()}, stateful=True)
    unshuffled = {"x": Batches(), "shuffle": False}
    assert runs.shuffling(unshuffled, stateful=True) is False
    # Keras does not shuffle what has no end, nor what is not stateful.
    assert runs.shuffling({"x": Batches()}, stateful=False) is True
    endless = Batches()
    endless.num_batches = None
    assert runs.shuffling({"x": endless}, stateful=True) is True


@pytest.mark.slow
def test_fit_of_a_dataset_says_nothing_of_shuffling(recwarn):
    model = ksg.SequenceModel.from_model(zoo.network())
    model.compile("sgd", "mse", run_eagerly=True)
    windows = tf.data.Dataset.from_tensor_slices(zoo.data()).batch(3)
    model.fit(windows, verbose=0)
    assert not [w for w in recwarn if "shuffle" in str(w.message)]


def test_resets_are_added_once():
    mine = keras.callbacks.Callback()
    for given, count in (None, 1), (mine, 2), ([mine, mine], 3):
        found = runs.with_own(given, [])
        assert len(found) == count
        assert isinstance(found[-1], runs.ResetCarriedState)
    ready = keras.callbacks.CallbackList(found)
    assert runs.with_own(ready, []) is ready


class Adding(ksg.SequenceModel):
    """Steps that call ours."""

    def test_step(self, data):
        return {**super().test_step(data), "one": tf.constant(1.0)}

    def predict_step(self, data):
        return 2.0 * super().predict_step(data)


class Apart(ksg.SequenceModel):
    """Steps that do all by themselves, as Keras' guides show them."""

    def test_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        return {"loss": self.compute_loss(y=y, y_pred=self(x))}

    def predict_step(self, data):
        return self(keras.utils.unpack_x_y_sample_weight(data)[0])


@pytest.mark.parametrize("stateful", [True, False])
def test_steps_of_the_users_own_that_carry_nothing(stateful):
    """Told of once for each kind of run, after the run."""
    x, y = zoo.data(4)

    def said(run):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run()
        found = [str(each.message) for each in found]
        return [each for each in found if "carries the state" in each]

    def make(cls, stateful):
        model = cls.from_model(zoo.network("simple_rnn"), stateful=stateful)
        model.compile("sgd", "mse")
        options = {"shuffle": False, "verbose": 0}
        return {
            "test_step": [
                lambda: model.evaluate(x, y, verbose=0),
                lambda: model.fit(x, y, validation_data=(x, y), **options),
            ],
            "predict_step": [lambda: model.predict(x, verbose=0)] * 2,
        }

    for step, (first, second) in make(Apart, stateful).items():
        told = said(first)
        assert len(told) == stateful and said(second) == []
        for text in told:
            assert f"`Apart.{step}` has run batches without" in text
            assert "Received: stateful=True" in text
    for ours in make(Adding, True).values():
        assert [said(run) for run in ours] == [[], []]
