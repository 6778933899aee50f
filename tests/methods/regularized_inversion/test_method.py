"""TP-RI against targets and local losses written out in plain Python."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, RegularizedInversion
from keras_seqgrad.window.pullback import pull_window
from keras_seqgrad.window.window import Window
from tests import zoo
from tests.methods.regularized_inversion import reference

L = keras.layers
LOSS = keras.losses.MeanSquaredError()
RATE = 0.05


def compiled(network, method, **options):
    model = SequenceModel.from_model(network)
    options.setdefault("optimizer", "sgd")
    model.compile(loss=LOSS, method=method, **options)
    return model


def readout_gradients(readout, states, y, per_sequence):
    """dL/dh_t of every step, and the readout's own gradient."""
    with tf.GradientTape() as tape:
        tape.watch(states)
        if per_sequence:
            outputs = readout(states[-1])
        else:
            outputs = tf.stack([readout(state) for state in states], axis=1)
        loss = LOSS(y, outputs)
    by_states, by_weights = tape.gradient(
        loss, (states, readout.trainable_variables)
    )
    return (
        loss,
        [np.zeros(states[0].shape) if g is None else g for g in by_states],
        by_weights,
    )


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    "propagation, per_sequence",
    [
        ("linearized", False),
        ("linearized", True),
        ("difference", False),
        ("none", False),
    ],
)
def test_is_the_gradient_of_the_local_losses(propagation, local, per_sequence):
    network = zoo.network("simple_rnn", per_sequence=per_sequence)
    x, y = zoo.data(per_sequence=per_sequence)
    layer, readout = network.layers
    start = tf.zeros((zoo.BATCH, 3))
    states = reference.run(layer.cell, x, start)
    loss, by_states, by_readout = readout_gradients(
        readout, states[1:], y, per_sequence
    )
    found = reference.targets(
        reference.tanh_rule(layer.cell, propagation, 0.3),
        x,
        states,
        by_states,
        RATE * zoo.BATCH,
    )
    by_layer, other = (
        reference.local_gradient(
            layer.cell, x, start, found, each, layer.trainable_variables
        )
        for each in (local, not local)
    )
    method = RegularizedInversion(RATE, 0.3, propagation, local)
    model = compiled(network, method)
    estimated, gradients = model.estimate_gradients(x, y)
    assert float(estimated) == pytest.approx(float(loss), rel=1e-5)
    expected = [g / RATE for g in by_layer] + by_readout
    zoo.assert_same(gradients, expected, 2e-4)
    assert zoo.differ(gradients[:3], [g / RATE for g in other])


def linear(regularization, orthogonal=True):
    """A compiled model whose step is linear, with orthogonal U."""
    keras.utils.set_random_seed(2)
    start = "orthogonal" if orthogonal else "random_normal"
    network = keras.Sequential(
        [
            keras.Input((None, zoo.FEATURES)),
            L.SimpleRNN(
                4,
                activation="linear",
                recurrent_initializer=start,
                return_sequences=True,
            ),
            L.Dense(2),
        ]
    )
    return compiled(network, RegularizedInversion(RATE, regularization))


def gated(model, x, y, gate):
    """The gradient of BPTT with every link weighted by `gate`."""
    window = Window(
        model, (x, y, None), model.start_state(x, zoo.BATCH), training=True
    )
    gates = tf.fill((zoo.STEPS,), float(gate))
    return pull_window(window, gates)[1]


def test_orthogonal_and_linear_is_bptt_with_shorter_links():
    """U·Uᵀ = I makes the inverse Uᵀ / (1 + r), the Jacobian's transpose."""
    x, y = zoo.data()
    for regularization in (3.0, 1e-6):
        model = linear(regularization)
        exact = compiled(model.network, BPTT()).estimate_gradients(x, y)[1]
        model = linear(regularization)
        _, found = model.estimate_gradients(x, y)
        zoo.assert_same(found, gated(model, x, y, 1 / (1 + regularization)))
        assert zoo.differ(found, exact) == (regularization > 1)
    zoo.assert_same(found, exact)
    other = linear(1e-6, orthogonal=False)
    _, found = other.estimate_gradients(x, y)
    assert zoo.differ(found, gated(other, x, y, 1.0))


def test_through_time_with_a_large_regularization_is_bptt():
    """Only the last state's local loss is left; one target a sequence."""
    network = zoo.network("simple_rnn", per_sequence=True)
    x, y = zoo.data(per_sequence=True)
    exact = compiled(network, BPTT()).estimate_gradients(x, y)[1]
    far = []
    for regularization in (1.0, 10.0, 100.0, 1e6):
        method = RegularizedInversion(RATE, regularization, local=False)
        _, found = compiled(network, method).estimate_gradients(x, y)
        far.append(np.abs(found[1] - exact[1]).max())
    assert far == sorted(far, reverse=True) and far[0] > 100 * far[-1]
    zoo.assert_same(found, exact)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, propagation",
    [("gru", "linearized"), ("gru_before", "linearized"), ("gru", "learned")],
)
def test_one_step_is_bptt(kind, propagation):
    """Nothing goes back; the lower of two layers gets what BPTT gives it."""
    network = zoo.network(kind, layers=2)
    regularization = None if propagation == "learned" else 1.0
    exact = compiled(network, BPTT())
    method = RegularizedInversion(RATE, regularization, propagation)
    model = compiled(network, method)
    # Steps of which all but the first are padding.
    x, y = zoo.data()
    mask = np.arange(zoo.STEPS) < np.full((zoo.BATCH, 1), 1)
    given = {"inputs": x, "mask": mask}
    zoo.assert_same(
        model.estimate_gradients(given, y)[1],
        exact.estimate_gradients(given, y)[1],
    )
    given["mask"] = np.ones_like(mask)
    assert zoo.differ(
        model.estimate_gradients(given, y)[1],
        exact.estimate_gradients(given, y)[1],
    )


def test_a_lower_layer_gets_the_upper_ones_local_losses():
    network = zoo.network("simple_rnn", layers=2)
    x, y = zoo.data()
    lower, upper, readout = network.layers
    start = tf.zeros((zoo.BATCH, 3))
    below = reference.run(lower.cell, x, start)
    between = tf.stack(below[1:], axis=1)
    above = reference.run(upper.cell, between, start)
    _, by_states, by_readout = readout_gradients(readout, above[1:], y, False)
    rate = RATE * zoo.BATCH
    rule = reference.tanh_rule(upper.cell, "linearized", 0.3)
    found = reference.targets(rule, between, above, by_states, rate)
    sources = [between, *upper.trainable_variables]
    by_between, *by_upper = reference.local_gradient(
        upper.cell, between, start, found, True, sources
    )
    rule = reference.tanh_rule(lower.cell, "linearized", 0.3)
    handed_down = tf.unstack(by_between / RATE, axis=1)
    found = reference.targets(rule, x, below, handed_down, rate)
    by_lower = reference.local_gradient(
        lower.cell, x, start, found, True, lower.trainable_variables
    )
    model = compiled(network, RegularizedInversion(RATE, 0.3))
    _, gradients = model.estimate_gradients(x, y)
    expected = [g / RATE for g in [*by_lower, *by_upper]] + by_readout
    zoo.assert_same(gradients, expected, 2e-4)


@pytest.mark.parametrize("propagation", ["linearized", "difference"])
def test_training_moves_recurrent_weights_by_the_target_rate(propagation):
    network = zoo.network("simple_rnn")
    x, y = zoo.data()
    method = RegularizedInversion(0.25, 2.0, propagation)
    optimizer = keras.optimizers.SGD(0.125)
    model = compiled(network, method, optimizer=optimizer)
    loss, gradients = model.estimate_gradients(x, y)
    before = network.get_weights()
    history = model.fit(x, y, batch_size=3, verbose=0).history
    moved = [b - a for b, a in zip(before, network.get_weights(), strict=True)]
    factors = [0.25, 0.25, 0.25, 1.0, 1.0]
    expected = [
        0.125 * factor * gradient.numpy()
        for factor, gradient in zip(factors, gradients, strict=True)
    ]
    zoo.assert_same(moved, expected, 1e-4)
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)


def test_a_scaled_loss_changes_no_target():
    """The difference rule is not linear: it must see the true displacement."""
    x, y = zoo.data()
    found = []
    for scale in (None, 1024.0):
        network = zoo.network("simple_rnn")
        model = compiled(
            network,
            RegularizedInversion(0.5, 0.1, "difference"),
            optimizer=keras.optimizers.SGD(0.1, loss_scale_factor=scale),
        )
        model.fit(x, y, batch_size=3, verbose=0)
        found.append(network.get_weights())
    zoo.assert_same(*found)


@pytest.mark.parametrize("local", [True, False])
def test_masked_steps_and_resets(local):
    """A hole changes nothing; two documents are two windows."""
    x, y = zoo.data()
    method = RegularizedInversion(RATE, 0.3, local=local)
    model = compiled(zoo.network("simple_rnn"), method)
    _, expected = model.estimate_gradients(x, y)
    hole = np.full((zoo.BATCH, 2, 2), 9.0, "float32")
    mask = np.ones((zoo.BATCH, zoo.STEPS + 2), bool)
    mask[:, 3:5] = False
    longer = [np.concatenate([a[:, :3], hole, a[:, 3:]], 1) for a in (x, y)]
    given = {"inputs": longer[0], "mask": mask}
    _, found = model.estimate_gradients(given, longer[1])
    zoo.assert_same(found, expected)
    reset = np.zeros((zoo.BATCH, zoo.STEPS), bool)
    reset[:, 4] = True
    _, found = model.estimate_gradients({"inputs": x, "reset": reset}, y)
    _, first = model.estimate_gradients(x[:, :4], y[:, :4])
    _, second = model.estimate_gradients(x[:, 4:], y[:, 4:])
    # Losses are means over steps.
    pairs = zip(first, second, strict=True)
    zoo.assert_same(found, [4 / 7 * a + 3 / 7 * b for a, b in pairs])
    assert zoo.differ(found, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_a_learned_start_gets_the_first_steps_local_loss(masked):
    network = zoo.network("simple_rnn")
    x, y = zoo.data()
    model = SequenceModel.from_model(network, learn_initial_state=True)
    start = model.initial_state_weights[0]
    start.assign([0.3, -0.2, 0.1])
    model.compile("sgd", LOSS, method=RegularizedInversion(RATE, 0.3))
    mask = np.ones((zoo.BATCH, zoo.STEPS), bool)
    if masked:
        # The rows start at the third step.
        mask[:, :2] = False
        reset = np.zeros_like(mask)
        reset[:, 1] = True
        x[:, :2] = 5.0
        given = {"inputs": x, "mask": mask, "reset": reset}
        # Masked steps have no loss, the others weigh as many steps more.
        _, gradients = model.estimate_gradients(given, y)
        x, y = x[:, 2:], y[:, 2:]
    else:
        _, gradients = model.estimate_gradients(x, y)
    names = [v.path for v in model.trainable_variables]
    (place,) = [i for i, name in enumerate(names) if "initial" in name]
    layer, readout = network.layers
    first = tf.repeat(tf.convert_to_tensor(start)[tf.newaxis], zoo.BATCH, 0)
    states = reference.run(layer.cell, x, first)
    _, by_states, _ = readout_gradients(readout, states[1:], y, False)
    found = reference.targets(
        reference.tanh_rule(layer.cell, "linearized", 0.3),
        x,
        states,
        by_states,
        RATE * zoo.BATCH,
    )
    with tf.GradientTape() as tape:
        tape.watch(first)
        after = layer.cell(x[:, 0], [first])[0]
        loss = 0.5 * tf.reduce_sum((after - found[0]) ** 2) / zoo.BATCH
    expected = tf.reduce_sum(tape.gradient(loss, first), axis=0) / RATE
    zoo.assert_same([gradients[place]], [expected], 1e-4)


def cosine(gradients, exact):
    """Over the three weights of the recurrent layer."""
    a, b = (
        np.concatenate([np.ravel(g) for g in each[:3]])
        for each in (gradients, exact)
    )
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_cosine_to_bptt_at_the_papers_settings(seed):
    """Temporal order, T = 60, r = 10, 100 units, batch 20.

    The authors' code has .9993 through time and .373 locally with one seed.
    Both depend on the size of the input weights: ours are .9995 and .29 with
    U(±.1), .9985 and .45 with Keras' own start.
    """
    keras.utils.set_random_seed(seed)
    small = keras.initializers.RandomUniform(-0.1, 0.1, seed=seed)
    network = keras.Sequential(
        [
            keras.Input((60, 6)),
            L.SimpleRNN(100, kernel_initializer=small),
            L.Dense(4),
        ]
    )
    task = ksg.data.tasks.TemporalOrder(60)
    x, y = next(iter(task.dataset(20, 1, seed=seed)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = SequenceModel.from_model(network)

    def gradients(method):
        model.compile("sgd", loss, method=method)
        return model.estimate_gradients(x, y)[1]

    exact = gradients(BPTT())
    through_time = gradients(RegularizedInversion(0.01, 10.0, local=False))
    assert 0.999 < cosine(through_time, exact) < 0.99995
    local = gradients(RegularizedInversion(0.01, 10.0))
    assert 0.2 < cosine(local, exact) < 0.5
    zoo.assert_same(local[3:], exact[3:])
