"""Rows of a batch, carried by the replicas that train them."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.state.rows import Rows
from tests import replicas, zoo

ROWS, WINDOWS = 4, 3


def windows(count=WINDOWS):
    """A stream of `count` windows of four rows."""
    generator = np.random.default_rng(0)
    steps = ROWS * count * 2
    x, y = generator.normal(size=(2, steps, zoo.FEATURES)).astype("float32")
    return ksg.data.stream(x, ROWS, 2, targets=y)


def model(method="bptt", layers=zoo.network):
    made = ksg.SequenceModel.from_model(layers("simple_rnn"), stateful=True)
    made.compile(
        keras.optimizers.SGD(0.1), "mse", method=method, jit_compile=False
    )
    return made


def carried(trained, run="training"):
    return [rows.numpy() * 1.0 for rows in trained.carried[run].rows]


@pytest.fixture(scope="module")
def alone():
    """A model after an epoch on one device."""
    trained = model()
    trained.fit(windows(), verbose=0)
    return trained


@pytest.fixture(scope="module")
def together():
    """The same on two replicas."""
    with replicas.strategy().scope():
        trained = model()
    trained.fit(windows(), verbose=0)
    return trained


def test_each_replica_has_its_rows_and_their_order_is_kept():
    strategy = replicas.strategy()
    with strategy.scope():
        rows = Rows((4, 1), "int32", "rows")
        marks = Rows((4,), "bool", "marks")
    assert marks.numpy().tolist() == [True] * 4
    # XLA on a GPU has no others; what is read has the state's type.
    assert rows.value.dtype == "int64" and rows.numpy().dtype == "int32"
    rows.assign(np.arange(4)[:, None])
    found = strategy.run(lambda: tf.convert_to_tensor(rows))
    local = strategy.experimental_local_results(found)
    assert [part.numpy().tolist() for part in local] == [[[0], [1]], [[2], [3]]]
    strategy.run(lambda: rows.assign(tf.convert_to_tensor(rows) * 10))
    rows.put(7, np.array([False, True, True, False]))
    assert rows.numpy().tolist() == [[0], [7], [7], [30]]
    # Where there is no strategy they are all there.
    assert tf.convert_to_tensor(rows).numpy().tolist() == [[0], [7], [7], [30]]


def test_a_stream_gives_each_replica_rows_that_follow_each_other():
    tokens = np.arange(4 * 6 + 1)
    stream = ksg.data.stream(tokens, batch_size=4, window=3)
    strategy = replicas.strategy()
    for place, (x, y) in enumerate(
        strategy.experimental_distribute_dataset(stream)
    ):
        first, second = strategy.experimental_local_results(x)
        start = 3 * place
        assert first[:, 0].numpy().tolist() == [start, 6 + start]
        assert second[:, 0].numpy().tolist() == [12 + start, 18 + start]
        assert strategy.experimental_local_results(y)[1][0, 0] == 13 + start


@pytest.mark.slow
def test_two_replicas_carry_what_one_device_does(alone, together):
    zoo.assert_same(together.get_weights(), alone.get_weights(), 1e-6)
    zoo.assert_same(carried(together), carried(alone), 1e-6)
    outputs = [m.predict(windows(), verbose=0) for m in (alone, together)]
    zoo.assert_same(outputs[:1], outputs[1:], 1e-6)
    losses = [m.evaluate(windows(), verbose=0) for m in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_row_starts_anew_on_the_replica_that_has_it(together):
    before = carried(together)
    together.reset_state(rows=[1, 2])
    state, fresh = carried(together)
    assert fresh.tolist() == [0, 1, 1, 0]
    assert not state[1:3].any()
    np.testing.assert_array_equal(state[[0, 3]], before[0][[0, 3]])
    for rows, value in zip(
        together.carried["training"].rows, before, strict=True
    ):
        rows.assign(value.astype(rows.dtype))


def test_an_estimate_is_that_of_all_rows_and_changes_nothing(alone, together):
    [(x, y)] = windows(1)
    before = carried(together)
    expected, found = [m.estimate_gradients(x, y) for m in (alone, together)]
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    zoo.assert_same(found[1], expected[1], 1e-5)
    zoo.assert_same(carried(together), before, 0)
    with replicas.strategy().scope():
        with pytest.raises(ValueError, match="outside of strategy.scope"):
            together.estimate_gradients(x, y)


@pytest.mark.parametrize("there", [True, False], ids=["to_one", "to_two"])
def test_rows_go_from_replicas_to_one_device_and_back(
    alone, together, there, tmp_path
):
    path = str(tmp_path / "model.weights.h5")
    (together if there else alone).save_weights(path)
    if there:
        loaded = model()
    else:
        with replicas.strategy().scope():
            loaded = model()
    loaded.load_weights(path)
    zoo.assert_same(carried(loaded), carried(alone), 1e-6)


def run_with_memory(several, *callbacks):
    """An epoch, with a synthesiser's memory, on two replicas or one."""
    scope = contextlib.nullcontext()
    with replicas.strategy().scope() if several else scope:
        trained = model(ksg.methods.SyntheticGradients(1, "linear"))
    trained.fit(windows(), callbacks=[*callbacks], verbose=0)
    return trained


@pytest.fixture(scope="module")
def not_stopped():
    return run_with_memory(False)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["to_one", "to_two"])
def test_a_stopped_run_goes_on_with_other_replicas(
    first, not_stopped, tmp_path
):
    """Stopped in the middle of an epoch."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    def backup():
        return ksg.callbacks.BackupAndRestore(tmp_path / "run", save_freq=1)

    with pytest.raises(KeyboardInterrupt):
        run_with_memory(first, Stop(), backup())
    found = run_with_memory(not first, backup())
    zoo.assert_same(found.get_weights(), not_stopped.get_weights(), 1e-6)
    zoo.assert_same(carried(found), carried(not_stopped), 1e-6)


def test_shares_must_be_of_one_size(together):
    with replicas.strategy().scope():
        fresh = model()
    x, y = np.ones((3, 2, zoo.FEATURES)), np.ones((3, 2, 2))
    with pytest.raises(ValueError, match="multiple of 2 rows.*received 3"):
        fresh.fit(x, y, 3, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match="received train_on_batch"):
        fresh.train_on_batch(x, y)
    strategy, x = replicas.strategy(), tf.ones((2, 2, zoo.FEATURES))
    with pytest.raises(ValueError, match="make no room.*call of the step"):
        strategy.run(fresh.train_step, args=((x, tf.ones((2, 2, 2))),))
