"""Saved, loaded and resumed training is uninterrupted training."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo
from tests.network.test_segmented import Own

METHODS = {
    "bptt": ksg.methods.BPTT(checkpoint_every=2),
    "tbptt": ksg.methods.TruncatedBPTT(3, 2),
    "artbp": ksg.methods.ARTBP(3, alpha=None, seed=5),
    "artbp unseeded": ksg.methods.ARTBP(3),
}
FIT = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}


def model_of(method, kind="simple_rnn", **options):
    network = zoo.network(kind, **options.pop("network", {}))
    model = ksg.SequenceModel.from_model(network, **options)
    model.compile("adam", "mse", method=method, metrics=["mae"])
    return model


def two_batches():
    parts = [zoo.data(4, seed=seed) for seed in (0, 1)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def round_trip(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def numbers_of(model):
    return [
        v.numpy()
        for v in [
            *zoo.everything(model),
            *model.optimizer.variables,
        ]
    ]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, carried",
    [
        ("bptt", False),
        ("tbptt", True),
        ("artbp", True),
        ("artbp unseeded", False),
    ],
)
def test_resumed_is_uninterrupted_bit_for_bit(name, carried, tmp_path):
    options = {"stateful": carried, "learn_initial_state": carried}
    options["network"] = {"dropout": 0.5}
    x, y = two_batches()
    model = model_of(METHODS[name], **options)
    model.fit(x, y, **FIT)
    loaded = round_trip(model, tmp_path)
    assert type(loaded) is ksg.SequenceModel
    assert repr(loaded.method) == repr(METHODS[name])
    assert loaded.optimizer.iterations == model.optimizer.iterations > 0
    assert_equal(numbers_of(loaded), numbers_of(model))
    expected = model.fit(x, y, **FIT).history
    found = loaded.fit(x, y, **FIT).history
    assert found == expected
    assert_equal(numbers_of(loaded), numbers_of(model))


@pytest.mark.slow
def test_the_carried_state_is_saved(tmp_path):
    model = model_of("bptt", kind="stacked", stateful=True)
    x, y = zoo.data()
    model.train_on_batch(x, y)
    model.predict_on_batch(x)
    loaded = round_trip(model, tmp_path)
    expected = model.predict_on_batch(x)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), expected)
    assert loaded.train_on_batch(x, y) == model.train_on_batch(x, y)
    loaded.reset_state()
    assert zoo.differ([loaded.predict_on_batch(x)], [expected])


@pytest.mark.slow
def test_a_subclass_is_saved(tmp_path):
    model = Own(units=4, stateful=True)
    model.compile("adam", "mse", method=METHODS["artbp"], jit_compile=False)
    x, y = two_batches()
    model.fit(x, y, **FIT)
    loaded = round_trip(model, tmp_path)
    assert type(loaded) is Own
    assert_equal(numbers_of(loaded), numbers_of(model))
    expected = model.fit(x, y, **FIT).history
    assert loaded.fit(x, y, **FIT).history == expected


@pytest.mark.slow
def test_weights_of_one_method_go_to_another(tmp_path):
    """Trained by one method, gone on with by another."""
    model = model_of(METHODS["artbp"])
    x, y = two_batches()
    model.fit(x, y, **FIT)
    loaded = round_trip(model, tmp_path)
    loaded.compile("sgd", "mse", method="bptt", jit_compile=False)
    assert_equal(loaded.get_weights(), loaded.network.get_weights())
    loaded.fit(x, y, **FIT)
    again = round_trip(loaded, tmp_path)
    assert_equal(again.get_weights(), loaded.get_weights())


def test_not_compiled(tmp_path):
    model = ksg.SequenceModel.from_model(zoo.network(), name="chosen")
    loaded = round_trip(model, tmp_path)
    assert loaded.method is None
    assert loaded.name == "chosen"
    x, _ = zoo.data()
    np.testing.assert_array_equal(loaded(x), model(x))
    with pytest.raises(ValueError, match="Call `compile"):
        loaded.estimate_gradients(x, x)


def test_the_precision_is_saved(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = model_of("bptt", stateful=True)
        x, y = two_batches()
        model.fit(x, y, **FIT)
    finally:
        keras.config.set_dtype_policy("float32")
    loaded = round_trip(model, tmp_path)
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    kinds = [v.dtype for v in zoo.everything(model)]
    assert [v.dtype for v in zoo.everything(loaded)] == kinds
    expected = model.fit(x, y, **FIT).history
    assert loaded.fit(x, y, **FIT).history == expected


def test_a_clone_starts_from_the_same_config():
    model = model_of(METHODS["tbptt"], stateful=True)
    clone = keras.models.clone_model(model)
    assert type(clone) is ksg.SequenceModel
    assert clone.stateful
    assert clone.get_config()["network"] == model.get_config()["network"]
