"""Scans that stop behind the longest row: nothing changes but the work."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.ops import stop
from keras_seqgrad.ops.lstm import FastLSTM
from keras_seqgrad.tensors import devices

STEPS = 8
SCANS = {
    "lstm": (ksg.ops.lstm, 4, 2, []),
    "gru": (ksg.ops.gru, 3, 1, [2]),
    "simple_rnn": (ksg.ops.simple_rnn, 1, 1, []),
}
# Rows of two, 1 for a step that is taken.
MASKS = {
    "padding": ["11100000", "11000000"],
    "holes": ["10100000", "01000000"],
    "nothing": ["00000000", "00000000"],
    "left": ["00011111", "00000111"],
    "all": ["11111111", "11111111"],
}
RESETS = ["01000000", "00001000"]


def flags(rows):
    return tf.constant([[step == "1" for step in row] for row in rows])


def draw(*shape, seed=0):
    return tf.constant(np.random.default_rng([seed, *shape]).normal(size=shape))


def links_for(mask, linked):
    links = {"mask": flags(MASKS[mask])}
    if linked:
        links |= {"reset": flags(RESETS), "gates": abs(draw(2, STEPS))}
    return links


def as_long(inputs, mask, **_):
    """`inputs`, of unknown length where the mask is."""
    return inputs[:, : mask.shape[1] or tf.shape(mask)[1]]


def fast(kind, twins):
    """`run(**links)` of a fast scan: its results and all gradients."""
    function, blocks, states, bias = SCANS[kind]

    def state(seed):
        return [draw(2, 3, seed=seed + i) for i in range(states)]

    weights = [draw(2, 3 * blocks), draw(3, 3 * blocks)]
    weights.append(draw(*bias, 3 * blocks))
    inputs, start, fresh = draw(2, STEPS, 2), state(1), state(5)
    twin = [draw(2, STEPS, 2, seed=3), *state(7)] if twins else None

    def run(**links):
        if "reset" in links:
            links["reset_state"] = fresh
        sources = [inputs, *start, *weights, *fresh, *(twin or [])]
        return derived(
            lambda: function(
                as_long(inputs, **links), start, *weights, twin=twin, **links
            ),
            sources,
        )

    return run


def general(seen=None):
    """The same of a step of one's own, which outputs no state."""
    kernel = tf.Variable(draw(2, 3))
    inputs, start, fresh = draw(2, STEPS, 2), draw(2, 3), draw(2, 3, seed=1)
    shown, again = draw(2, 3, seed=2), draw(2, 3, seed=3)

    def step(x, state):
        if seen is not None:
            seen.append(x)
        h, count = state
        new = tf.tanh(x @ kernel + h)
        return new * h, [new, count + 1]

    def run(**links):
        if "reset" in links:
            number = tf.constant([7, 7])
            links["reset_state"] = [fresh, number]
            links["reset_output"] = again
        return derived(
            lambda: ksg.ops.rnn(
                step,
                as_long(inputs, **links),
                [start, tf.constant([0, 0])],
                previous_output=shown,
                **links,
            ),
            [inputs, start, fresh, shown, again, kernel],
        )

    return run


def derived(function, sources):
    with tf.GradientTape() as tape:
        tape.watch(sources)
        flat = tf.nest.flatten(function())
        real = [tensor for tensor in flat if tensor.dtype.is_floating]
        loss = tf.add_n([tf.reduce_sum(tf.sin(each)) for each in real])
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    return [*flat, *gradients]


def same(run, monkeypatch, links):
    """Asserts equal bits with and without an early stop."""
    found = run(**links)
    with monkeypatch.context() as patch:
        patch.setattr(devices, "only_cpus", lambda: False)
        expected = run(**links)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


RUNS = {
    **{kind: lambda kind=kind: fast(kind, False) for kind in SCANS},
    "lstm_twins": lambda: fast("lstm", True),
    "general": general,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "kind, linked",
    [(kind, True) for kind in RUNS] + [("lstm", False), ("general", False)],
)
def test_equal_to_all_steps(kind, mask, linked, monkeypatch):
    same(RUNS[kind](), monkeypatch, links_for(mask, linked))


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["lstm", "general"])
def test_compiled_and_of_unknown_length(kind, known, monkeypatch):
    run = RUNS[kind]()
    links = links_for("holes", True)
    spec = tf.TensorSpec([2, STEPS if known else None], "bool")

    def compiled(mask, **others):
        step = tf.function(
            lambda mask: run(mask=mask, **others),
            input_signature=[spec],
            jit_compile=known,
            autograph=False,
        )
        return step(mask)

    same(compiled, monkeypatch, links)


@pytest.mark.parametrize(
    "options",
    [
        {"go_backwards": True},
        {"dtype": "float16"},
        {"dtype": "mixed_float16"},
        {"recurrent_dropout": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("mask", ["padding", "holes", "nothing"])
def test_layers(mask, options, monkeypatch):
    layer = ksg.layers.LSTM(
        3, return_sequences=True, return_state=True, seed=0, **options
    )
    inputs = tf.cast(draw(2, STEPS, 2), layer.compute_dtype)
    layer.build(inputs.shape)
    weights = [variable.value for variable in layer.trainable_variables]
    seeds = [variable.numpy() for variable in layer.non_trainable_variables]

    def run(mask):
        for variable, seed in zip(
            layer.non_trainable_variables, seeds, strict=True
        ):
            variable.assign(seed)
        return derived(
            lambda: layer(inputs, mask=mask, training=True), [inputs, *weights]
        )

    same(run, monkeypatch, {"mask": flags(MASKS[mask])})


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        ksg.methods.BPTT(checkpoint_every=2),
        ksg.methods.TruncatedBPTT(2),
        ksg.methods.ARTBP(3, cuts="window"),
        ksg.methods.SyntheticGradients(2),
    ],
    ids=lambda method: type(method).__name__,
)
def test_training(method, monkeypatch):
    """Segments that are nothing but padding, logs and carried states too."""
    x, y = draw(2, STEPS, 1), draw(2, STEPS, 1, seed=1)

    def train(**links):
        keras.utils.set_random_seed(0)
        network = keras.Sequential(
            [
                keras.Input((STEPS, 1)),
                keras.layers.SimpleRNN(2, return_sequences=True),
                keras.layers.Dense(1),
            ]
        )
        model = ksg.SequenceModel.from_model(network, stateful=True)
        made = type(method).from_config(method.get_config())
        sgd = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(sgd, "mse", method=made)
        given = {"inputs": x, **links}
        # The second window begins from the state that the first has left.
        logs = [model.train_on_batch(given, y) for _ in range(2)]
        return [*logs, *[variable.numpy() for variable in model.weights]]

    links = links_for("padding", linked=True)
    del links["gates"]
    same(train, monkeypatch, links)


def test_how_many_steps_must_run():
    def count(mask, reset=None):
        mask = tf.transpose(flags(mask))
        reset = None if reset is None else tf.transpose(flags(reset))
        return int(stop.steps_to_run(mask.shape[0], mask, reset))

    assert count(["1100", "1000"]) == 2
    assert count(["1010", "0000"]) == 3
    assert count(["0000", "0000"]) == 0
    assert count(["1100", "1000"], ["0000", "0010"]) == 3
    assert count(["0011", "0001"]) == 4


def test_where_all_steps_are_known(monkeypatch):
    mask = flags(["1", "0"])
    assert stop.steps_to_run(5, None, None) == 5
    assert stop.steps_to_run(1, flags(["0"]), None) == 1
    assert int(stop.steps_to_run(2, mask, None)) == 1
    devices = [
        tf.config.LogicalDevice(f"/device:{kind}:0", kind)
        for kind in ("CPU", "GPU")
    ]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)
    assert stop.steps_to_run(2, mask, None) == 2


@pytest.mark.parametrize("mask, turns", [("padding", 1), ("nothing", 0)])
def test_a_fast_scan_runs_the_turns_it_must(mask, turns, monkeypatch):
    seen = []

    def counted(name):
        method = getattr(FastLSTM, name)

        def count(self, *arguments):
            seen.append(name)
            return method(self, *arguments)

        monkeypatch.setattr(FastLSTM, name, count)

    counted("step")
    counted("pull")
    fast("lstm", False)(mask=flags(MASKS[mask]))
    assert seen == ["step"] * 4 * turns + ["pull"] * 4 * turns


@pytest.mark.parametrize("mask, steps", [("padding", 3), ("nothing", 1)])
def test_the_general_scan_runs_the_steps_it_must(mask, steps):
    seen = []
    general(seen)(mask=flags(MASKS[mask]))
    assert len(seen) == 2 * steps


def test_a_step_that_draws_is_never_left_out():
    """What is drawn behind the padding does not hang on it."""
    seed = tf.Variable(0)

    def step(x, state):
        seed.assign_add(1)
        return x, state

    ksg.ops.rnn(
        step,
        tf.zeros((2, STEPS, 1)),
        [tf.zeros((2, 1))],
        mask=flags(MASKS["padding"]),
        random_state=[seed],
    )
    assert int(seed) == STEPS
