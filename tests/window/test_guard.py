"""Windows that are no numbers: left out, or named by an error."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.state import snapshot
from tests import zoo
from tests.methods.table import TABLE


def make(
    choice="skip", method=None, stateful=False, kind="simple_rnn", **options
):
    model = ksg.SequenceModel.from_model(zoo.network(kind), stateful=stateful)
    sgd = keras.optimizers.SGD(0.01, momentum=0.9)
    options.setdefault("optimizer", sgd)
    options.setdefault("loss", "mse")
    model.compile(
        method=method or ksg.methods.TruncatedBPTT(2),
        on_bad_window=choice,
        **options,
    )
    return model


def spoiled(array, row=1, step=1, value=np.nan):
    array = array.copy()
    array[row, step] = value
    return array


def unequal(first, second, but=()):
    """The groups of two snapshots that are not bit for bit the same."""
    return [
        name
        for name in first
        if name not in but
        and not all(
            np.array_equal(a, b)
            for a, b in zip(first[name], second[name], strict=True)
        )
    ]


# What they keep, another row of the table keeps, too.
ALIKE = {"bptt_checkpointed", "tbptt_stride", "artbp_rows", "dni_lambda"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TABLE.keys() - ALIKE))
def test_a_bad_window_leaves_no_trace(name):
    x, y = zoo.data(4)
    kind = TABLE[name].instead.get("simple_rnn", "simple_rnn")
    model = make(method=TABLE[name].method(), kind=kind)
    model.train_on_batch(x, y)
    before = snapshot.take(model)
    model.reset_metrics()
    model.train_on_batch(x[::-1], y)
    expected = snapshot.take(model)
    snapshot.restore(model, before)
    logs = model.train_on_batch(spoiled(x), y, return_dict=True)
    assert logs["bad_windows"] == 1 and np.isfinite([*logs.values()]).all()
    assert unequal(before, snapshot.take(model)) == ["metrics"]
    model.reset_metrics()
    model.train_on_batch(x[::-1], y)
    assert unequal(snapshot.take(model), expected) == []


def test_metrics_know_nothing_of_it():
    x, y = zoo.data(4)
    options = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}
    found, expected = (
        make(metrics=["mae"])
        .fit(
            np.concatenate(windows),
            np.concatenate([y] * len(windows)),
            **options,
        )
        .history
        for windows in ([spoiled(x), x, spoiled(x), x], [x, x])
    )
    assert found.pop("bad_windows") == [2]
    assert expected.pop("bad_windows") == [0]
    assert found == expected


def message(model, *data):
    with pytest.raises(ValueError, match="of this training is bad") as error:
        model.train_on_batch(*data)
    return str(error.value)


def overflowing(y_true, y_pred):
    """A finite loss with a gradient that is not, where predictions are 0."""
    return tf.reduce_mean(tf.sqrt(tf.abs(y_pred * 0.0)), axis=-1)


def test_what_went_bad_is_named():
    x, y = zoo.data(4)
    model = make("raise")
    model.train_on_batch(x, y)
    before = snapshot.take(model)
    text = "Window 2 of this training is bad: its {} is not finite, in rows {}."
    bad = spoiled(x, [0, 2])
    assert text.format("input", [0, 2]) in message(model, bad, y)
    text = text.replace("2 of", "1 of")
    assert text.format("target", [2]) in message(
        model, x, spoiled(y, 2, value=np.inf)
    )
    assert text.format("input", [0]) in message(
        model, spoiled(x, 0), spoiled(y, 2)
    )
    # Finite, but its square is none.
    assert text.format("loss", "")[:60] in message(
        model, x, spoiled(y, 2, value=1e30)
    )
    assert unequal(before, snapshot.take(model), but=["metrics"]) == []
    model = make("raise", loss=overflowing)
    assert "its gradient is not finite, in no row" in message(model, x, y)


def test_fit_ends_before_the_window_counts():
    x, y = zoo.data(4)
    data = [np.concatenate([x, spoiled(x), x]), np.concatenate([y] * 3)]
    options = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}
    model, other = make("raise"), make("raise")
    for _ in range(2):  # windows are counted from the start of each fit
        with pytest.raises(ValueError, match=r"Window 2 of .* in rows \[1\]"):
            model.fit(*data, **options)
        other.fit(*(each[: zoo.BATCH] for each in data), **options)
        found = snapshot.take(model), snapshot.take(other)
        assert unequal(*found, but=["metrics"]) == []


@pytest.mark.compiled
@pytest.mark.parametrize("jit_compile", [True])
def test_compiled_windows_after_the_bad_one_wait_for_the_host(jit_compile):
    x, y = zoo.data(4)
    data = [np.concatenate([x, spoiled(x), x]), np.concatenate([y] * 3)]
    options = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}
    compile_options = {
        "jit_compile": jit_compile,
        "run_eagerly": False,
        "stateful": True,
    }
    model = make("raise", steps_per_execution=3, **compile_options)
    with pytest.raises(ValueError, match=r"Window 2 of .* in rows \[1\]"):
        model.fit(*data, **options)
    assert model.optimizer.iterations == 2
    other = make("skip", metrics=["mae"], **compile_options)
    history = other.fit(*data, epochs=2, **options).history
    assert history["bad_windows"] == [1, 1]
    assert np.isfinite(history["loss"] + history["mae"]).all()
    assert other.optimizer.iterations == 2 * 2 * 2


def test_only_rows_whose_state_is_lost_restart():
    x, y = zoo.data(4)
    sgd = keras.optimizers.SGD(0.1)
    model = make(stateful=True, optimizer=sgd)
    model.train_on_batch(x, y)
    carried = model.carried["training"]
    state = model.initial_state(zoo.BATCH)
    before = carried.read(state, zoo.BATCH)[0]
    _, expected = model.call_segment(x, before)
    model.train_on_batch(spoiled(x), y)
    found, fresh = carried.read(state, zoo.BATCH)
    assert fresh.numpy().tolist() == [False, True, False]
    for a, b in zip(*map(keras.tree.flatten, (found, expected)), strict=True):
        np.testing.assert_allclose(a[0], b[0], atol=1e-6)
        assert not np.any(a[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rtrl", "uoro", "snap"])
def test_what_a_method_carries_by_row_stays_finite(name):
    x, y = zoo.data(4)
    model = make(method=TABLE[name].method(), stateful=True)
    for each in (x, spoiled(x), x):
        model.train_on_batch(each, y)
    assert all(np.isfinite(v.numpy()).all() for v in zoo.everything(model))


@pytest.mark.parametrize("choice", ["raise", None])
def test_a_row_of_weight_0_changes_nothing(choice):
    x, y = zoo.data(4)
    weight = np.array([1.0, 0.0, 2.0])
    model, other = make(choice, stateful=True), make(choice, stateful=True)
    zeros = spoiled(x, value=0.0)
    model.train_on_batch(spoiled(x), spoiled(y), weight)
    other.train_on_batch(zeros, y, weight)
    assert unequal(snapshot.take(model), snapshot.take(other)) == []
    by_step = np.repeat(weight[:, None], 4, axis=1)
    by_step[1, 3] = 1.0  # now the row counts
    if choice:
        assert "its input is" in message(model, spoiled(x), y, by_step)


def test_masked_steps_are_not_bad():
    x, y = zoo.data(4)
    mask = np.ones(x.shape[:2], bool)
    mask[1, 1] = False
    model = make("raise")
    model.train_on_batch({"inputs": spoiled(x), "mask": mask}, spoiled(y))


def test_a_scaled_loss_may_overflow():
    x, y = zoo.data(4)
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**127
    )
    model = make("raise", optimizer=scaled)
    model.train_on_batch(x, 1e4 * y)
    assert float(scaled.dynamic_scale) < 2.0**127
    assert "its input" in message(model, spoiled(x), y)


def test_terminate_on_nan_sees_no_bad_window():
    x, y = zoo.data(4)
    callbacks = [keras.callbacks.TerminateOnNaN()]
    options = {"batch_size": zoo.BATCH, "verbose": 0, "callbacks": callbacks}
    model = make("skip")
    model.fit(spoiled(x), y, epochs=2, **options)
    assert not model.stop_training
    model = make(None)
    model.fit(spoiled(x), y, epochs=2, **options)
    assert model.stop_training


def test_it_is_saved(tmp_path):
    x, y = zoo.data(4)
    model = make("skip")
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["on_bad_window"] == "skip"
    logs = loaded.train_on_batch(spoiled(x), y, return_dict=True)
    assert logs["bad_windows"] == 1
    assert "bad_windows" not in loaded.evaluate(
        x, y, return_dict=True, verbose=0
    )


def test_refused_choices():
    with pytest.raises(ValueError, match="must be 'raise', 'skip' or None"):
        make("drop")


class Adding(ksg.SequenceModel):
    """A step that calls ours, and adds to its logs."""

    def train_step(self, data):
        return {**super().train_step(data), "one": tf.constant(1.0)}


class Apart(ksg.SequenceModel):
    """A step that does all by itself, as Keras' guides show it."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables),
            self.trainable_variables,
        )
        return {"loss": loss}


@pytest.mark.parametrize(
    "asked, told",
    [
        ({"method": "tbptt"}, r"method=TruncatedBPTT\("),
        ({"on_bad_window": "raise"}, "on_bad_window='raise'"),
        ({"stateful": True}, "stateful=True"),
    ],
)
@pytest.mark.parametrize("run", ["fit", "train_on_batch"])
def test_a_step_of_the_users_own_that_leaves_it_out(run, asked, told):
    compiled = dict(asked)
    stateful = compiled.pop("stateful", False)
    data, options = zoo.data(4), {"shuffle": False} if run == "fit" else {}
    for cls in Apart, Adding:
        model = cls.from_model(zoo.network("simple_rnn"), stateful=stateful)
        model.compile("sgd", "mse", **compiled)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(2):
                logs = getattr(model, run)(*data, **options)
        said = [str(each.message) for each in said]
        said = [each for each in said if "train_step" in each]
        if cls is Apart:
            [found] = said
            assert "`Apart.train_step` has trained a batch with" in found
            assert re.search(told, found)
    assert said == [] and (run != "fit" or logs.history["one"] == [1.0])


def test_a_step_of_the_users_own_may_be_plain_back_propagation(recwarn):
    model = Apart.from_model(zoo.network("simple_rnn"))
    model.compile("sgd", "mse")
    model.fit(*zoo.data(4), verbose=0)
    assert not [w for w in recwarn if "train_step" in str(w.message)]
