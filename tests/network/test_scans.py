"""Which scan runs a model's layers, whether XLA does, and what is refused."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo
from tests.cudnn import gpu


def made(*layers, method="bptt", **options):
    """A SequenceModel of recurrent layers and a readout, compiled."""
    network = keras.Sequential(
        [keras.Input((None, 2)), *layers, keras.layers.Dense(2)]
    )
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=method, **options)
    return model


def lstm(**options):
    return keras.layers.LSTM(3, return_sequences=True, **options)


def gru(**options):
    return keras.layers.GRU(3, return_sequences=True, **options)


def only(model):
    [choice] = model.scans.values()
    return choice


def test_a_cpu_knows_no_kernels():
    model = made(lstm(name="below"), gru(name="above", activation="silu"))
    assert model.scans == {
        "below": ("fast", "no GPU is visible"),
        "above": ("general", "activations without a fast scan"),
    }
    assert not model.jit_compile


def test_before_compile():
    network = keras.Sequential([keras.Input((None, 2)), lstm()])
    with gpu():
        model = ksg.SequenceModel.from_model(network)
        assert only(model) == ("fast", "the model is not compiled")


def test_of_a_subclass():
    class Own(ksg.SequenceModel):
        def initial_state(self, batch_size):
            return keras.ops.zeros((batch_size, 1))

        def call_segment(self, inputs, state, training=False):
            return inputs, state

    model = Own()
    model.compile("sgd", "mse")
    assert model.scans == {}


@pytest.mark.parametrize(
    "method, options, jit, found",
    [
        ("bptt", {}, True, "fast: jit_compile=True"),
        ("tbptt", {}, True, "fast: jit_compile=True"),
        (
            "tbptt",
            {"jit_compile": False},
            False,
            "cudnn: a GPU is visible, and XLA is not used",
        ),
        ("bptt", {"jit_compile": True}, True, "fast: jit_compile=True"),
        (
            "bptt",
            {"run_eagerly": True},
            False,
            "cudnn: a GPU is visible, and XLA is not used",
        ),
        (
            "artbp",
            {},
            True,
            "fast: jit_compile=True",
        ),
        (
            "artbp",
            {"jit_compile": False},
            False,
            "fast: ARTBP needs a scan: gates, or one of its own",
        ),
        (
            "snap",
            {"jit_compile": False},
            False,
            "fast: SnAp needs a scan: gates, or one of its own",
        ),
        (
            "tbptt_stride",
            {"jit_compile": False},
            False,
            "fast: TruncatedBPTT needs a scan: gates, or one of its own",
        ),
    ],
)
def test_one_rule_on_a_gpu(method, options, jit, found):
    method = {
        "artbp": ksg.methods.ARTBP(2),
        "tbptt": ksg.methods.TruncatedBPTT(2),
        "tbptt_stride": ksg.methods.TruncatedBPTT(4, 2),
    }.get(method, method)
    with gpu():
        with pytest.MonkeyPatch.context() as patch:
            # Nothing is run here.
            patch.setattr(ksg.SequenceModel, "compile", PLAIN)
            model = made(lstm(), method=method, **options)
        assert bool(model.jit_compile) == jit
        assert ": ".join(only(model)) == found


PLAIN = ksg.SequenceModel.compile


@pytest.mark.parametrize(
    "layers, scans",
    [
        ([lstm, lambda: gru(use_cudnn=True)], ["cudnn", "cudnn"]),
        ([lstm, gru], ["fast", "fast"]),
        ([lstm, lambda: gru(activation="silu")], ["fast", "general"]),
        ([lambda: ksg.layers.LSTM(3)], ["fast"]),
        ([lambda: keras.layers.Masking(), lstm], ["fast"]),
        ([lambda: gru(use_cudnn=True), lambda: zoo.recurrent("simple_rnn")],
         ["cudnn", "fast"]),
    ],
)  # fmt: skip
def test_xla_unless_a_layer_asks_for_its_kernel(layers, scans):
    with gpu():
        model = made(*(make() for make in layers))
        assert model.jit_compile == ("cudnn" not in scans)
        assert [choice.scan for choice in model.scans.values()] == scans


def test_a_forced_kernel_that_cannot_be():
    forced = lstm(use_cudnn=True, name="memory")
    with pytest.raises(
        ValueError, match=r"'memory' cannot be run by cuDNN: no GPU is visible"
    ):
        made(forced)
    with gpu():
        with pytest.raises(ValueError, match="cuDNN: ARTBP needs a scan"):
            made(forced, method=ksg.methods.ARTBP(2))
        with pytest.raises(ValueError, match="cuDNN: cuDNN needs activation"):
            made(gru(activation="silu", use_cudnn=True))
        with pytest.raises(ValueError, match="cuDNN: a layer makes a mask"):
            made(keras.layers.Masking(), forced)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ksg.SequenceModel, "compile", PLAIN)
            with pytest.raises(ValueError, match="cuDNN: jit_compile=True"):
                made(forced, jit_compile=True)


@pytest.mark.parametrize("companion", ["mask", "reset"])
def test_masks_and_resets_beside_the_inputs_take_the_scan(companion):
    x, y = zoo.data()
    flags = np.ones(x.shape[:2], bool)
    batch = {"inputs": x, companion: flags}
    layer = lstm(name="memory")
    with gpu() as calls:
        model = made(layer, jit_compile=False)
        model.train_on_batch(batch, y)
        assert calls == []
        model.train_on_batch(x, y)
        assert len(calls) == 1
        layer.use_cudnn = True
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="'memory' cannot .* on a window"):
            model.train_on_batch(batch, y)


def test_the_steps_of_fit_alone():
    """What is called directly may be compiled by anybody."""
    x, y = zoo.data()
    with gpu() as calls:
        model = made(lstm(), jit_compile=False)
        model(x)
        model.call_segment(x, model.initial_state(zoo.BATCH))
        assert calls == []
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)
        model.estimate_gradients(x, y)
        assert [steps for _, steps, _ in calls if steps > 1] == [7, 7, 7]


def test_other_models_may_not_use_xla():
    """Stock Keras on the same layers runs cuDNN, which XLA cannot."""
    with gpu():
        layer = lstm()
        network = keras.Sequential(
            [keras.Input((None, 2)), layer, keras.layers.Dense(2)]
        )
        model = ksg.SequenceModel.from_model(network)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ksg.SequenceModel, "compile", PLAIN)
            model.compile("sgd", "mse", jit_compile=True)
        network.compile("sgd", "mse")
        assert model.jit_compile and not network.jit_compile
        assert not layer.supports_jit
        model.jit_compile = True
        assert model.jit_compile
