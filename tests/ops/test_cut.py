"""Loops that XLA knows the length of, and sequences in pieces."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.layers.scan import scan
from keras_seqgrad.ops import cut, loops
from keras_seqgrad.tensors import devices
from tests import cudnn
from tests.ops.compiled_promises import loop_bodies

CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(2),
    "gru": lambda: keras.layers.GRUCell(2),
    "simple_rnn": lambda: keras.layers.SimpleRNNCell(2),
    "general": lambda: keras.layers.GRUCell(2, activation="silu"),
}


def trip_counts(program):
    """How often each loop turns: what its counter must stay below.

    On a CPU the text does not tell what XLA knows; a counter that goes up to
    a constant is what it knows the turns of.
    """

    def text(name):
        found = re.search(rf"^%{re.escape(name)} .*?^}}", program, re.M | re.S)[
            0
        ]
        called = re.findall(r"calls=%([\w.\-]+)", found)
        return found + "".join(map(text, called))

    counts = []
    for name in re.findall(r" while\(.* condition=%([\w.\-]+)", program):
        condition = text(name)
        assert set(re.findall(r"direction=(\w+)", condition)) == {"LT"}
        limits = re.findall(r"s32\[\] constant\((\d+)\)", condition)
        [limit] = {int(limit) for limit in limits}
        counts.append(limit)
    return counts


def compiled(kind, steps, masked=False):
    """The program of outputs and gradients of one cell."""
    cell = CELLS[kind]()
    cell.build((None, 2))

    @tf.function(jit_compile=True, autograph=False)
    def run(x, *masks):
        with tf.GradientTape() as tape:
            tape.watch(x)
            state = cell.get_initial_state(3)
            mask = masks[0] if masks else None
            outputs, _ = scan(cell, x, state, mask=mask)
        sources = [x, *[v.value for v in cell.trainable_variables]]
        return outputs, tape.gradient(outputs, sources)

    given = [tf.zeros((3, steps, 2))]
    if masked:
        given.append(tf.ones((3, steps), "bool"))
    return run.experimental_get_compiler_ir(*given)(stage="optimized_hlo")


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, steps", [(kind, 129) for kind in CELLS] + [("lstm", 512)]
)
def test_every_trip_count_is_known(kind, steps):
    program = compiled(kind, steps)
    if kind == "general":
        # The first step is before the loop, which counts on from 1.
        expected = [steps, steps]
    else:
        expected = [steps // loops.steps_a_turn(steps)] * 2
    assert sorted(trip_counts(program)) == sorted(expected)
    assert "set-dimension-size" not in program


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "general"])
def test_a_mask_hides_no_trip_count_from_a_gpu(kind, monkeypatch):
    monkeypatch.setattr(devices, "only_cpus", lambda: False)
    expected = [129, 129] if kind == "general" else [43, 43]
    assert trip_counts(compiled(kind, 129, masked=True)) == expected


@pytest.mark.compiled
@pytest.mark.slow
def test_pieces_copy_nothing_that_is_saved(monkeypatch):
    monkeypatch.setattr(cut, "LONG", 512)
    program = compiled("lstm", 512)
    turns = 128 // loops.longest_turn()
    assert sorted(trip_counts(program)) == [4, 4, turns, turns]
    for body in loop_bodies(program):
        assert not re.search(r"= f32\[256,2,.* copy\(", body)


@pytest.mark.compiled
@pytest.mark.slow
def test_trip_counts_of_a_training_step():
    network = keras.Sequential(
        [
            keras.Input((387, 1)),
            keras.layers.LSTM(2, return_sequences=True),
            keras.layers.Dense(1),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(129))
    model.optimizer.build(model.trainable_variables)
    x, y = tf.zeros((2, 387, 1)), tf.zeros((2, 387, 1))

    def train(x, y):
        return model.train_step((x, y))["loss"]

    tf.function(train, autograph=False).get_concrete_function(x, y)
    step = tf.function(train, jit_compile=True, autograph=False)
    program = step.experimental_get_compiler_ir(x, y)(stage="optimized_hlo")
    assert sorted(trip_counts(program)) == [3, 129, 129]


def test_how_sequences_are_cut():
    assert cut.split_steps(None) == (0, 1, None)
    assert cut.split_steps(1023) == (0, 1, 1023)
    assert cut.split_steps(1024) == (0, 8, 128)
    assert cut.split_steps(20_000) == (0, 200, 100)
    assert cut.split_steps(1025) == (1, 8, 128)
    for steps in (1024, 1031, 4001):
        ahead, count, length = cut.split_steps(steps)
        assert ahead + count * length == steps


def test_steps_of_a_turn_divide_them():
    lengths = None, 7, 50, 9, 100
    found = [loops.steps_a_turn(steps) for steps in lengths]
    assert found == [1, 1, 2, 1, 2]
    with cudnn.gpu():
        found = [loops.steps_a_turn(steps) for steps in lengths]
    assert found == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("twins, steps", [(False, 9), (True, 11)])
@pytest.mark.parametrize("kind", ["lstm", "gru", "before", "simple_rnn"])
def test_pieces_change_no_number(kind, twins, steps, monkeypatch):
    """With all links, with steps left over and without."""
    blocks = {"lstm": 4, "simple_rnn": 1}.get(kind, 3)
    count = 2 if kind == "lstm" else 1
    function = {
        "lstm": ksg.ops.lstm,
        "simple_rnn": ksg.ops.simple_rnn,
        "gru": ksg.ops.gru,
        "before": lambda *a, **o: ksg.ops.gru(*a, reset_after=False, **o),
    }[kind]
    generator = np.random.default_rng(0)

    def draw(*shape):
        return tf.constant(generator.normal(size=shape))

    def states():
        return [draw(2, 3) for _ in range(count)]

    bias = [2] if kind == "gru" else []
    weights = [draw(2, 3 * blocks), draw(3, 3 * blocks)]
    weights.append(draw(*bias, 3 * blocks))
    inputs, state, reset_state = draw(2, steps, 2), states(), states()
    twin = [draw(2, steps, 2), *states()] if twins else None
    links = {
        "mask": generator.random((2, steps)) > 0.3,
        "gates": draw(2, steps),
        "reset": generator.random((2, steps)) > 0.7,
        "reset_state": reset_state,
    }
    sources = [inputs, *state, *weights, *reset_state, *(twin or [])]

    def evaluate():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            found = function(inputs, state, *weights, **links, twin=twin)
            flat = tf.nest.flatten(found)
            loss = tf.add_n([tf.reduce_sum(tf.sin(each)) for each in flat])
        return flat + tape.gradient(loss, sources)

    expected = evaluate()
    monkeypatch.setattr(cut, "LONG", 8)
    monkeypatch.setattr(cut, "LENGTHS", [3])
    ahead, pieces, _ = cut.split_steps(steps)
    assert (ahead, pieces) == (steps % 3, 3)
    for one, other in zip(evaluate(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
