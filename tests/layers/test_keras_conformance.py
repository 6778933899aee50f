"""Keras' own unit tests of its recurrent layers, run on the layers here.

The test files that Keras ships are loaded with `layers.LSTM` and its kin
replaced. What Keras expects of `unroll=True` are the same numbers as without,
so that the option is dropped here: the expectations stay.
"""

import importlib.util

import keras
import pytest

import keras_seqgrad as ksg

SUITES = {
    "lstm_test": "LSTMTest",
    "gru_test": "GRUTest",
    "simple_rnn_test": "SimpleRNNTest",
    "rnn_test": "RNNTest",
    "stacked_rnn_cells_test": "StackedRNNTest",
    "bidirectional_test": "SimpleRNNTest",
}

# Tests of Keras that say nothing about the layers here, and why.
CANNOT_APPLY = {
    "test_keeps_use_cudnn": "asks for use_cudnn=True, which is refused",
    "test_fused_lstm_eligibility": "expects the cuDNN path to be open",
    "test_fused_gru_eligibility": "expects the cuDNN path to be open",
}


def without_unroll(layer_class):
    """`layer_class`, for which the argument `unroll` means nothing."""

    class Tolerant(type(layer_class)):
        def __call__(cls, *args, unroll=False, **kwargs):
            return super().__call__(*args, **kwargs)

    name = layer_class.__name__
    tolerant = Tolerant(name, (layer_class,), {"__module__": __name__})
    return keras.saving.register_keras_serializable("conformance")(tolerant)


class Layers:
    """`keras.layers`, the recurrent layers replaced."""

    LSTM = without_unroll(ksg.layers.LSTM)
    GRU = without_unroll(ksg.layers.GRU)
    SimpleRNN = without_unroll(ksg.layers.SimpleRNN)
    RNN = without_unroll(ksg.layers.RNN)

    def __getattr__(self, name):
        return getattr(keras.layers, name)


def load(name):
    """A test file of Keras as a module of its own, or None."""
    try:
        found = importlib.util.find_spec(f"keras.src.layers.rnn.{name}")
    except ModuleNotFoundError:
        found = None
    if found is None:
        return None
    spec = importlib.util.spec_from_file_location(
        f"conformance_{name}", found.origin
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.layers = Layers()
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, keras.layers.Layer):
            keras.saving.register_keras_serializable(name)(value)
    return module


def suite(cases):
    """The test class `cases` without what cannot apply."""
    skipped = {
        test: pytest.mark.skip(reason=reason)(getattr(cases, test))
        for test, reason in CANNOT_APPLY.items()
        if hasattr(cases, test)
    }
    return type(cases.__name__, (cases,), skipped)


MODULES = {name: load(name) for name in SUITES}

# Layers that Keras lacks, in the way in which it tests its own.
LINEAR = {
    "LRU": {"units": 3},
    "MinGRU": {"units": 3},
    "MinLSTM": {"units": 3, "candidate": "positive"},
    "RGLRU": {"units": 2},
    "QRNN": {"units": 3},
    "CausalConv1D": {"filters": 3, "kernel_size": 2},
}


@pytest.mark.skipif(MODULES["rnn_test"] is None, reason="no tests of Keras")
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_layers_that_keras_lacks(name, sequences):
    case = MODULES["rnn_test"].testing.TestCase()
    given = LINEAR[name]
    width = given.get("units", given.get("filters")) if name != "LRU" else 2
    case.run_layer_test(
        getattr(ksg.layers, name),
        init_kwargs={
            **LINEAR[name],
            "dropout": 0.5,
            "return_sequences": sequences,
            "bias_regularizer" if name != "LRU" else "output_regularizer": "l2",
        },
        input_shape=(3, 2, 2),
        expected_output_shape=(3, 2, width) if sequences else (3, width),
        expected_num_seed_generators=1,
        expected_num_losses=1,
        supports_masking=True,
        custom_objects={},
    )


def test_keras_ships_its_tests():
    missing = [name for name, module in MODULES.items() if module is None]
    if missing:
        pytest.skip(f"this Keras comes without {missing}")


def test_the_layers_are_replaced():
    for module in filter(None, MODULES.values()):
        assert issubclass(module.layers.LSTM, ksg.layers.LSTM)
        assert module.layers.LSTM is not keras.layers.LSTM


globals().update(
    {
        f"Test_{name}": suite(getattr(module, SUITES[name]))
        for name, module in MODULES.items()
        if module is not None
    }
)
