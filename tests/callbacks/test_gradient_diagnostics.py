"""Diagnostics during fit: what is written, and that nothing is touched."""

import csv
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import keras_seqgrad as ksg
from keras_seqgrad import methods
from keras_seqgrad.callbacks import GradientDiagnostics
from tests import zoo
from tests.network.test_segmented import Own

STEPS = 4  # two segments
NAME = "TruncatedBPTT(length=3)"
TAG = "TruncatedBPTT_length=3"


def make(method=None, network=None, rate=0.05, stateful=False, **options):
    network = network or zoo.network("simple_rnn", dropout=0.5)
    model = ksg.SequenceModel.from_model(network, stateful=stateful)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    options.setdefault("jit_compile", False)
    method = method or methods.TruncatedBPTT(3)
    model.compile(optimizer, "mse", method=method, **options)
    return model


def fit(model, *callbacks, epochs=2, batches=3):
    x, y = zoo.data(STEPS)
    x, y = (np.concatenate([a] * batches) for a in (x, y))
    return model.fit(
        x, y, 3, epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    ).history


def quick(folder, *args, **options):
    options = {"images": False, "max_share": None, "repeats": 3, **options}
    return GradientDiagnostics(folder, zoo.data(STEPS), *args, **options)


def read(folder):
    """Everything written: by tag, the values by step."""
    sizes = {event_accumulator.TENSORS: 0}
    events = event_accumulator.EventAccumulator(str(folder), sizes).Reload()
    return {
        tag: {
            event.step: tf.make_ndarray(event.tensor_proto)
            for event in events.Tensors(tag)
        }
        for tag in events.Tags()["tensors"]
    }


def own():
    model = Own()
    optimizer = keras.optimizers.SGD(0.05)
    method = methods.TruncatedBPTT(3)
    model.compile(optimizer, "mse", method=method, jit_compile=False)
    return model


def check_synthesizer(found):
    last = max(found["method/synthesizer_loss"])
    assert found["method/synthesizer_loss"][last] > 0
    assert found["synthesizer/relative_error"][0] == pytest.approx(1.0)
    # One boundary in each of three rows.
    assert found["synthesizer/errors_at_boundaries"][last][:, 2].sum() == 3


def check_cuts(found):
    lengths = found["cuts/lengths"][0]
    mean = 3 * STEPS / lengths[:, 2].sum()
    assert found["cuts/mean_length"][0] == pytest.approx(mean)
    errors = found["gradient_errors/ARTBP_mean_length=3.0"][0]
    assert errors[:, 2].sum() == 3


def check_average(found):
    distances = found["fptt/distance_from_average"]
    assert [*distances] == [4] and distances[4] > 0


def check_images(found):
    for tag in ("state_gradients", "influence_profile"):
        width, height, content = found[tag][0]
        image = tf.image.decode_png(content)
        assert image.shape[:2] == (int(height), int(width))
        assert int(width) >= 600 and len(np.unique(image)) > 20


def check_no_images(found):
    assert "state_gradients" not in found
    assert found["gradient_cosine/BPTT"][0] == pytest.approx(1.0)


MODELS = {
    "tbptt": (lambda: make(steps_per_execution=2), check_images),
    "dni": (
        lambda: make(methods.SyntheticGradients(3), stateful=True),
        check_synthesizer,
    ),
    "artbp": (lambda: make(methods.ARTBP(3)), check_cuts),
    "fptt": (lambda: make(methods.FPTT(3)), check_average),
    "subclass": (own, check_no_images),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_training_is_the_same_to_the_last_bit(tmp_path, name, eagerly):
    """With dropout, momentum, a carried state, two batches an execution."""
    make_model, check = MODELS[name]
    found = []
    for watched in (False, True):
        # Before Keras 3.13 the seed leaves Keras' own generator alone.
        keras.utils.clear_session()
        keras.utils.set_random_seed(3)
        model = make_model()
        options = {"images": name in ("tbptt", "subclass"), "max_lag": 2}
        if name == "subclass":
            options["methods"] = ["bptt", model.method]
        own = [quick(tmp_path, 2, **options)] if watched else []
        batches = 2 if name in ("artbp", "subclass") else 3
        history = fit(model, *own, epochs=1, batches=batches)
        values = [*zoo.everything(model), *model.optimizer.variables]
        found.append([v.numpy() for v in values])
        # Whatever else draws from Keras' own generator.
        found[-1] += [keras.random.normal((2,)).numpy(), history["loss"]]
    for plain, measured in zip(*found, strict=True):
        np.testing.assert_array_equal(measured, plain)
    check(read(tmp_path))


@pytest.mark.slow
def test_a_disturbed_seed_would_be_seen():
    """The control of the test above."""

    class Drawing(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.running_variables[0].assign_add([0, 1])

    found = []
    for callbacks in ([], [Drawing()]):
        keras.utils.set_random_seed(3)
        model = make()
        fit(model, *callbacks, epochs=1, batches=1)
        found.append(model.get_weights())
    assert zoo.differ(*found)


@pytest.mark.slow
def test_written_numbers_are_those_of_the_comparison(tmp_path):
    x, y = zoo.data(STEPS)
    model = make(rate=0.0)
    fit(model, quick(tmp_path, 1, card={"data": "zoo | numbers"}), batches=1)
    quality = ksg.diagnostics.compare_gradients(model, x, y)[NAME]
    found = read(tmp_path)
    for tag, value in {
        "gradient_cosine": quality.cosine,
        "gradient_bias": quality.relative_bias,
        "gradient_bias_lower": quality.relative_bias,
        "gradient_bias_upper": quality.relative_bias,
        "gradient_bias_share": 1.0,
        "gradient_variance": 0.0,
        "exact_norm": quality.exact_norm,
    }.items():
        values = found[f"{tag}/{TAG}"]
        # When training begins, and after each batch of 2 updates.
        assert list(values) == [0, 2, 4]
        np.testing.assert_allclose(list(values.values()), value, rtol=1e-5)
    assert f"gradient_cosine_by_group/{TAG}/dense" in found
    assert found["diagnostics/seconds"][2] > 0
    assert 0 < found["diagnostics/share_of_training_time"][2]
    card = found["run"][0].item().decode()
    for text in (
        "- **data**: zoo | numbers",
        f"`{model.method!r}`",
        "epochs=2, steps=1",
    ):
        assert text in card


@pytest.mark.slow
def test_logs_are_seen_by_other_callbacks(tmp_path):
    stop = keras.callbacks.EarlyStopping(
        "gradient_cosine", mode="max", patience=1, min_delta=2.0
    )
    file = tmp_path / "log.csv"
    callbacks = [quick(tmp_path, 1), keras.callbacks.CSVLogger(file), stop]
    history = fit(make(), *callbacks, epochs=5, batches=1)
    # The cosine never rises by 2.
    assert len(history["loss"]) == 2
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    written = [float(row["gradient_cosine"]) for row in rows]
    np.testing.assert_allclose(written, history["gradient_cosine"], rtol=1e-6)
    assert written[0] != written[1]
    both = {"a": "bptt", "b": methods.ARTBP(3)}
    own = quick(tmp_path, 1, methods=both)
    history = fit(make(), own, epochs=1, batches=1)
    assert history["gradient_cosine/a"][0] == pytest.approx(1.0)
    assert history["gradient_bias_share/b"][0] < 1.0
    # What draws nothing has no error, what draws has one.
    for name, drawn in ("a", False), ("b", True):
        lower, upper = (
            history[f"gradient_bias_{end}/{name}"][0]
            for end in ("lower", "upper")
        )
        assert (upper > lower) is drawn


@pytest.mark.slow
def test_a_measurement_waits_for_its_share_of_the_time(tmp_path):
    callback = quick(tmp_path, 1, max_share=1e-6)
    fit(make(), callback, epochs=2, batches=2)
    # The first one, and one whose cost was not known yet.
    assert callback.measured == 2
    assert callback.put_off == 2 * 2 - 1
    assert read(tmp_path)["diagnostics/seconds"].keys() == {0, 2}


def test_refusals_before_training(tmp_path, monkeypatch):
    model = make()
    before = [v.numpy() for v in zoo.everything(model)]
    with pytest.raises(ValueError, match="3 rows and 4 steps is too large"):
        fit(model, quick(tmp_path, memory_limit=1000))
    with pytest.raises(ValueError, match="`repeats` must be 3 or more"):
        fit(model, quick(tmp_path, repeats=2))
    x, y = zoo.data(STEPS)
    short = GradientDiagnostics(tmp_path, (x[:2], y[:2]))
    with pytest.raises(ValueError, match="Expected 3, received 2"):
        fit(make(stateful=True), short)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"needs tensorboard.*\[tensorboard"):
        fit(model, quick(tmp_path))
    for variable, value in zip(zoo.everything(model), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    plain = zoo.network()
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a ksg.SequenceModel"):
        plain.fit(x, y, verbose=0, callbacks=[quick(tmp_path)])


def test_refused_arguments(tmp_path):
    x, y = zoo.data(STEPS)
    with pytest.raises(ValueError, match=r"`probe` must be \(x, y\)"):
        GradientDiagnostics(tmp_path, x)
    with pytest.raises(ValueError, match="Received: tuple of 1"):
        GradientDiagnostics(tmp_path, (x,))
    with pytest.raises(ValueError, match="max_share=0"):
        GradientDiagnostics(tmp_path, (x, y), max_share=0)
    with pytest.raises(ValueError, match="`every` must be an integer"):
        GradientDiagnostics(tmp_path, (x, y), every=0)
