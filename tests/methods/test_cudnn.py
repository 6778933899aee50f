"""Every method on Keras' cuDNN kernel: the numbers of the scan."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel, methods
from tests import zoo
from tests.cudnn import gpu
from tests.methods.table import TABLE

MANY = {
    "dni_twins": lambda: methods.SyntheticGradients(2, bootstrap=0.3),
    **{name: row.method for name, row in TABLE.items()},
}
# What weights links inside of segments takes the scan.
SERVED = [n for n, method in MANY.items() if not method().gates_inside]
# Another row runs its segments by the same lines, or another test asks it.
ALIKE = {"dni_next", "dni_twins", "alternating"}


def trained(
    name,
    kind,
    x,
    y,
    per_sequence=False,
    estimated=True,
    use_cudnn="auto",
    **options,
):
    """What a window and an estimate after it give, and which scan they had."""
    keras.utils.set_random_seed(1)
    layer = zoo.recurrent(
        kind,
        return_sequences=not per_sequence,
        dropout=0.3,
        seed=2,
        use_cudnn=use_cudnn,
    )
    network = keras.Sequential(
        [keras.Input((None, 2)), layer, keras.layers.Dense(2)]
    )
    model = SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.SGD(0.1), "mse", method=MANY[name](), **options
    )
    [choice] = model.scans.values()
    history = model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    found = [v.numpy().astype("float32") for v in zoo.everything(model)]
    if estimated:
        found += model.estimate_gradients(x, y, seed=3)[1]
    return [*found, *history.history.values()], choice.scan


def compare(name, kind, *data):
    """The kernel's calls, after the numbers are found to be the scan's."""
    with gpu() as calls:
        found, scan = trained(name, kind, *data, jit_compile=False)
    assert scan == "cudnn" and calls
    expected, scan = trained(name, kind, *data, run_eagerly=True)
    assert scan == "fast"
    zoo.assert_same(found, expected)
    return calls


def test_below_a_head():
    """Truncation cuts by no gates there, where no row is padded."""
    x, y = zoo.data(per_sequence=True)

    def moved(name, **options):
        keras.utils.set_random_seed(1)
        layers = [zoo.recurrent("lstm"), keras.layers.Flatten()]
        inputs = keras.Input((zoo.STEPS, 2))
        network = keras.Sequential([inputs, *layers, keras.layers.Dense(2)])
        model = SequenceModel.from_model(network)
        model.compile("sgd", "mse", method=MANY[name](), **options)
        model.train_on_batch(x, y)
        [choice] = model.scans.values()
        return model.get_weights(), choice.scan

    served = []
    for name in "bptt_checkpointed", "tbptt":
        with gpu() as calls:
            found, scan = moved(name, jit_compile=False)
        assert scan == "cudnn" and calls
        served.append(len(calls))
        expected, scan = moved(name, run_eagerly=True)
        assert scan == "fast"
        zoo.assert_same(found, expected)
    # Both run each segment twice, and by the kernel.
    assert served[0] == served[1]


def test_which_methods_are_served():
    assert {"bptt", "bptt_checkpointed", "tbptt", "dni"} <= {*SERVED}
    assert {"alternating", "fptt", "tprop"} <= {*SERVED}
    left = {*MANY} - {*SERVED}
    assert left == {
        "artbp",
        "artbp_rows",
        "artbp_window",
        "tbptt_stride",
        "inversion",
        "inversion_learned",
        "rtrl",
        "snap",
        "uoro",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*SERVED} - ALIKE))
def test_equals_the_scan(name):
    compare(name, "lstm", *zoo.data(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bptt", "tbptt", "dni"])
def test_one_target_a_sequence(name):
    compare(name, "gru", *zoo.data(3, per_sequence=True), True)


@pytest.mark.compiled
def test_in_a_graph():
    """In a loop over segments, and where a twin would go back beside."""
    calls = compare("dni_twins", "lstm", *zoo.data(5), False, False)
    # A turn of the loop, and the shorter segment behind it.
    assert {(2, True), (1, True)} <= {call[1:] for call in calls}


def test_gates_take_the_scan():
    """Whatever the machine has."""
    x, y = zoo.data(4)
    with gpu() as calls:
        found, scan = trained("artbp", "lstm", x, y, run_eagerly=True)
        assert scan == "fast"
        assert 4 not in {steps for _, steps, _ in calls}
    expected, _ = trained("artbp", "lstm", x, y)
    zoo.assert_same(found, expected)


@pytest.mark.skipif(
    not tf.config.list_physical_devices("GPU"), reason="needs a GPU"
)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("name", SERVED)
def test_kernels_of_a_gpu(name, kind):
    """The real ones, in 64 bits, but for synthesisers, which have 32."""
    keras.config.set_dtype_policy("float64")
    try:
        found, scan = trained(name, kind, *zoo.data(4), jit_compile=False)
        assert scan == "cudnn"
        expected, scan = trained(
            name, kind, *zoo.data(4), use_cudnn=False, jit_compile=False
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert scan == "fast"
    zoo.assert_same(found, expected, 1e-5)
