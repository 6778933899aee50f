"""A padded row is learnt from as if it ended with its last valid step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel, methods
from keras_seqgrad.window import ends
from keras_seqgrad.window.window import Window
from tests import zoo
from tests.network.networks import Inside

L = keras.layers
pytestmark = pytest.mark.slow
STEPS, LENGTHS = 6, [3, 1, 6]
ROWS = len(LENGTHS)
METHODS = {
    "tbptt": lambda: methods.TruncatedBPTT(2),
    "dni": lambda: methods.SyntheticGradients(2, "linear"),
    "dni_lambda": lambda: methods.SyntheticGradients(2, "linear", lambda_=0.7),
    "weighted": lambda: methods.FPTT(
        length=2, part_loss="weighted", regularize=False
    ),
    "terminal": lambda: methods.FPTT(length=2, regularize=False),
    "tprop": lambda: methods.TargetPropagation(
        2, parameter_steps=2, state_rate=0.1
    ),
    "tprop_zero": lambda: methods.TargetPropagation(
        2, "lagrangian", parameter_steps=2, start="zero"
    ),
}


def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, STEPS, 2)).astype("float32")
    mask = np.arange(STEPS) < np.array(LENGTHS)[:, None]
    return x * mask[..., None], generator.integers(0, 3, ROWS), mask


def model_for(method, masking=True, stateful=False, late=True, **compiled):
    """A model of one target a sequence, or of that and one at every step."""
    keras.utils.set_random_seed(1)
    hidden = inputs = keras.Input((None, 2))
    if masking:
        masking = L.Masking() if masking is True else masking
        hidden = masking(inputs)
    hidden = L.SimpleRNN(3, return_sequences=True)(hidden)
    last = L.Dense(3, "softmax")(L.SimpleRNN(2)(hidden))
    outputs = last if late else [last, L.Dense(2)(hidden)]
    network = keras.Model(inputs, outputs)
    model = SequenceModel.from_model(network, stateful=stateful)
    loss = "sparse_categorical_crossentropy"
    compiled.setdefault("loss", loss if late else [loss, "mse"])
    model.compile(keras.optimizers.SGD(0.1), method=method, **compiled)
    if "synthesis" in model.method_state.parts:
        generator = np.random.default_rng(5)
        network = model.method_state.parts["synthesis"].network
        network.set_weights(
            [
                0.3 * generator.normal(size=w.shape)
                for w in network.get_weights()
            ]
        )
    return model


@pytest.mark.parametrize("name", ["tbptt", "dni", "terminal", "tprop"])
def test_masks_that_only_a_layer_of_ones_own_tells_of(name):
    x, y, _ = data()
    found = []
    for masking in True, Inside(L.Masking()):
        model = model_for(METHODS[name](), masking)
        logs = keras.tree.flatten(model.train_on_batch(x, y))
        found.append([*logs, *model.get_weights()])
    zoo.assert_same(*found, tolerance=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_padded_row_moves_the_parameters_as_the_row_alone(name):
    x, y, mask = data()
    x, y, mask = x[:1], y[:1], mask[:1]
    found, ways = [], [(True, x[:, :3]), (True, x)]
    if name == "tbptt":  # a window has one mask, wherever that comes from
        companion = {"inputs": x + ~mask[..., None], "mask": mask}
        ways.append((False, companion))
    for masking, given in ways:
        model = model_for(METHODS[name](), masking)
        before = model.network.get_weights()
        model.train_on_batch(given, y)
        found.append(model.network.get_weights())
    alone, *others = found
    for other in others:
        zoo.assert_same(other, alone)
    assert zoo.differ(alone, before)


@pytest.mark.parametrize("name", ["tbptt", "dni", "weighted"])
def test_the_gradient_of_a_padded_batch_is_the_mean_of_its_rows(name):
    x, y, _ = data()
    model = model_for(METHODS[name]())
    loss, found = model.estimate_gradients(x, y)
    rows = [
        model.estimate_gradients(x[[row], :length], y[[row]])
        for row, length in enumerate(LENGTHS)
    ]
    losses, gradients = zip(*rows, strict=True)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    expected = [np.mean(each, axis=0) for each in zip(*gradients, strict=True)]
    zoo.assert_same(found, expected)
    # The control: steps of the window tell another story.
    recurrent = found[1]
    assert np.abs(recurrent).max() > 1e-3
    if name == "tbptt":
        before = model.network.get_weights()
        model.train_on_batch(x, y)
        after = model.network.get_weights()
        moved = [(a - b) / 0.1 for a, b in zip(before, after, strict=True)]
        zoo.assert_same(moved, expected, 2e-4)


def test_outputs_of_both_kinds():
    """The target of the sequence counts in the segment where the row ends."""
    x, y, _ = data()
    model = model_for(methods.TruncatedBPTT(3), late=False)
    model.compile(
        keras.optimizers.SGD(0.0),
        ["sparse_categorical_crossentropy", keras.losses.MeanSquaredError()],
        loss_weights=[1.0, 0.0],
        method=methods.TruncatedBPTT(3),
    )
    targets = [y, np.zeros((ROWS, STEPS, 2), "float32")]
    _, found = model.estimate_gradients(x, targets)
    # Each row's own segment, from the state before it.
    expected = None
    for row, length in enumerate(LENGTHS):
        start = (length - 1) // 3 * 3
        one = model_for(methods.TruncatedBPTT(length - start))
        _, each = one.estimate_gradients(x[[row], :length], y[[row]])
        each = [np.asarray(g) / ROWS for g in each]
        if expected is not None:
            each = [a + b for a, b in zip(expected, each, strict=True)]
        expected = each
    zoo.assert_same(found[: len(expected)], expected)
    model.optimizer.learning_rate = 0.1
    before = model.network.get_weights()
    model.train_on_batch(x, targets)
    assert zoo.differ(before, model.network.get_weights())


def test_artbp_cuts_nothing_in_padding():
    x, y, mask = data()
    model = model_for(methods.ARTBP(2, seed=3))
    window = Window(
        model, (x, y, None), model.graph.zero_state(ROWS), training=True
    )
    gates = model.method.gates(window, seed=4).numpy()
    assert gates.shape == mask.shape
    assert np.all(gates[~mask] == 1.0)
    cut = gates[2]
    assert np.any(cut == 0.0)
    np.testing.assert_array_equal(gates[0, :3], cut[:3])


def test_valid_steps():
    x, y, mask = data()
    model = model_for("bptt")

    def window(model, x):
        state = model.graph.zero_state(ROWS)
        return Window(model, (x, y, None), state, training=True)

    found = window(model, x)
    np.testing.assert_array_equal(found.valid, mask)
    assert found.lengths.numpy().tolist() == LENGTHS
    both = window(model, {"inputs": x, "mask": np.roll(mask, 1, axis=0)})
    np.testing.assert_array_equal(both.valid, mask & np.roll(mask, 1, axis=0))
    # Rows without a valid step end with their first.
    assert ends.lengths(tf.zeros((2, 3), "bool")).numpy().tolist() == [1, 1]
    assert window(model_for("bptt", masking=False), x).valid is None


@pytest.mark.parametrize(
    "kind, jit",
    [
        ("tbptt", False),
        ("snap", False),
        pytest.param("tbptt", True, marks=pytest.mark.compiled),
    ],
)
def test_what_is_before_the_last_steps_is_run_piece_by_piece(
    kind, jit, monkeypatch
):
    """And comes to the same, with padding, resets and states carried on."""
    x = np.random.default_rng(0).normal(size=(ROWS, 13, 2)).astype("float32")
    mask = np.arange(13) < np.array([9, 13, 2])[:, None]
    reset = np.zeros((ROWS, 13), "bool")
    reset[0, 5] = reset[1, 3] = True
    x *= mask[..., None]  # so that a layer masks them, too
    given = {"inputs": x, "mask": mask, "reset": reset}
    method = {
        "tbptt": lambda: methods.TruncatedBPTT(2),
        "snap": lambda: methods.SnAp(2),
    }[kind]
    spec = {
        name: tf.TensorSpec((ROWS, None, *each.shape[2:]), each.dtype)
        for name, each in given.items()
    }
    labels = np.array([0, 2, 1])
    lengths, results = [], []
    forward = Window.forward

    def seen(self, segment, *args, **options):
        lengths.append(segment.length)
        return forward(self, segment, *args, **options)

    monkeypatch.setattr(Window, "forward", seen)
    for piece, compiled in (ends.PIECE, False), (3, jit):
        monkeypatch.setattr(ends, "PIECE", piece)
        options = {"jit_compile": compiled, "run_eagerly": not compiled}
        model = model_for(method(), True, True, **options)
        lengths.clear()
        for steps in (13,) if jit else (8, 13):
            cut = {name: each[:, :steps] for name, each in given.items()}
            windows = tf.data.Dataset.from_tensors((cut, labels))
            if jit:  # a compiled step sees no length
                windows = tf.data.Dataset.from_generator(
                    lambda cut=cut: iter([(cut, labels)]),
                    output_signature=(spec, tf.TensorSpec(ROWS, "int64")),
                )
            model.fit(windows, verbose=0)
        results.append(model.get_weights())
        told = {each for each in lengths if isinstance(each, int)}
        assert compiled or (11 in told) == (piece > 3)
        assert compiled or piece > 3 or {3, 2} <= told
    zoo.assert_same(*results)
