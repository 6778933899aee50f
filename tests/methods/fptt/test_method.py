"""FPTT against plain Python: updates, regulariser, limits, epochs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, FPTT, TruncatedBPTT
from keras_seqgrad.optimizers import fptt
from tests import zoo

LOSS = keras.losses.MeanSquaredError()
RATE, ALPHA = 0.1, 0.5
FIT = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}


def model_of(
    method, jit=False, per_sequence=False, network=None, eager=None, **options
):
    network = network or zoo.network("simple_rnn", per_sequence=per_sequence)
    model = SequenceModel.from_model(network, **options)
    optimizer = keras.optimizers.SGD(RATE)
    model.compile(
        optimizer, LOSS, method=method, jit_compile=jit, run_eagerly=eager
    )
    return model


def run(network, x, state):
    """Outputs of every step of a one-layer Keras network, and the state."""
    layer, readout = network.layers
    outputs = []
    for step in range(x.shape[1]):
        output, state = layer.cell(x[:, step], state)
        outputs.append(readout(output))
    return tf.stack(outputs, axis=1), state


class Reference:
    """The algorithm in plain Python, on a network of its own."""

    def __init__(self, linear=1.0, alpha=ALPHA, per_sequence=False):
        self.network = zoo.network("simple_rnn", per_sequence=per_sequence)
        self.linear, self.alpha = linear, alpha
        self.variables = self.network.trainable_variables
        self.averages = [v.numpy() for v in self.variables]
        self.multipliers = [0 * v for v in self.averages]

    def sequence(self, x, y, length, loss):
        """One sequence; `loss(y, outputs of the part, start, end)`."""
        state = self.network.layers[0].get_initial_state(zoo.BATCH)
        steps, values = x.shape[1], []
        for start in range(0, steps, length):
            end = min(start + length, steps)
            with tf.GradientTape() as tape:
                outputs, after = run(self.network, x[:, start:end], state)
                value = loss(y, outputs, start, end)
            self.update(tape.gradient(value, self.variables))
            state = after
            values.append(float(value))
        return values

    def update(self, gradients):
        for place, (w, g) in enumerate(
            zip(self.variables, gradients, strict=True)
        ):
            m, v = self.multipliers[place], self.averages[place]
            g = g + self.alpha * (w - v) - self.linear * m
            w.assign_sub(RATE * g)
            m = m - self.alpha * (w.numpy() - v)
            self.multipliers[place] = m
            self.averages[place] = (v + w.numpy() - m / self.alpha) / 2


def at_every_step(y, outputs, start, end):
    return LOSS(y[:, start:end], outputs)


def weighted(y, outputs, start, end):
    """Parts of 3 of 7 steps: 1/3, 2/3, 1, the last one shorter."""
    return (start // 3 + 1) / 3 * LOSS(y, outputs[:, -1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "form, linear, jit",
    [("code", 1.0, True), ("paper", 0.5, False)],
)
def test_updates_of_every_part(form, linear, jit):
    """Two sequences: averages and multipliers go on from one to the next."""
    model = model_of(FPTT(3, ALPHA, form=form, average=None), jit)
    reference = Reference(linear)
    for seed in (0, 1):
        x, y = zoo.data(seed=seed)
        losses = reference.sequence(x, y, 3, at_every_step)
        found = model.train_on_batch(x, y)
        shares = np.array([3, 3, 1]) / 7
        assert found == pytest.approx(np.dot(shares, losses), rel=1e-5)
    optimizer = model.optimizer
    zoo.assert_same(model.get_weights(), reference.network.get_weights())
    zoo.assert_same(optimizer.averages, reference.averages)
    zoo.assert_same(optimizer.multipliers, reference.multipliers)
    assert int(optimizer.iterations) == 6
    # The control: the second sequence begun with a new regulariser.
    control = Reference(linear)
    for seed in (0, 1):
        control.sequence(*zoo.data(seed=seed), 3, at_every_step)
        control.averages = [v.numpy() for v in control.variables]
        control.multipliers = [0 * v for v in control.averages]
    assert zoo.differ(model.get_weights(), control.network.get_weights())


def test_one_target_is_asked_for_at_every_part():
    method = FPTT.authors(3, ALPHA, average=None)
    model = model_of(method, per_sequence=True)
    reference = Reference(per_sequence=True)
    for seed in (0, 1):
        x, y = zoo.data(per_sequence=True, seed=seed)
        losses = reference.sequence(x, y, 3, weighted)
        model.reset_metrics()
        # What is logged is the last part's, which has the weight 1.
        assert model.train_on_batch(x, y) == pytest.approx(losses[-1], 1e-5)
    zoo.assert_same(model.get_weights(), reference.network.get_weights())
    assert int(model.optimizer.iterations) == 6


def test_the_shorter_last_part_is_trained():
    """Its target alone counts: the parts before it say nothing."""
    x, y = zoo.data(per_sequence=True)
    seen = []

    def last(loss, y, y_pred, progress):
        seen.append((loss.shape, tuple(y.shape), tuple(y_pred.shape)))
        return tf.where(progress == 1.0, loss, 0.0 * loss)

    method = FPTT(3, regularize=False, part_loss=last)
    model = model_of(method, per_sequence=True)
    before = model.get_weights()
    model.train_on_batch(x, y)
    reference = Reference(per_sequence=True)
    state = reference.network.layers[0].get_initial_state(zoo.BATCH)
    _, state = run(reference.network, x[:, :6], state)
    with tf.GradientTape() as tape:
        outputs, _ = run(reference.network, x[:, 6:], state)
        loss = LOSS(y, outputs[:, -1])
    for v, g in zip(
        reference.variables,
        tape.gradient(loss, reference.variables),
        strict=True,
    ):
        v.assign_sub(RATE * g)
    zoo.assert_same(model.get_weights(), reference.network.get_weights())
    assert zoo.differ(model.get_weights(), before)
    assert set(seen) == {((), (3, 2), (3, 2))}


OFF = FPTT(length=3, regularize=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, method",
    [
        ("per step", FPTT(length=3, alpha=1e-30, average=None)),
        ("masked", OFF),
        ("carried", OFF),
    ],
    ids=["alpha 0", "masked", "carried"],
)
def test_without_the_regulariser_it_is_truncated_bptt(name, method):
    """Bit for bit, weights, logs and carried state."""
    found = []
    for each in (TruncatedBPTT(3), method, FPTT.authors(length=3)):
        model = model_of(each, stateful=name == "carried")
        logs = []
        for seed in (0, 1):
            x, y = zoo.data(seed=seed)
            if name == "masked":
                mask = np.ones(x.shape[:2], bool)
                mask[1, 4:] = mask[2, :3] = False
                x = {"inputs": x, "mask": mask}
            logs.append(model.train_on_batch(x, y))
        found.append([*model.get_weights(), *logs])
    for a, b in zip(found[0], found[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert zoo.differ(found[0], found[2])


@pytest.mark.slow
@pytest.mark.parametrize("per_sequence", [False, True])
def test_estimate_is_that_of_truncated_bptt(per_sequence):
    x, y = zoo.data(6, per_sequence)
    network = zoo.network("simple_rnn", 2, per_sequence=per_sequence)
    found = [
        model_of(each, network=network).estimate_gradients(x, y)
        for each in (FPTT(2), TruncatedBPTT(3), FPTT(1), BPTT(), FPTT(6))
    ]
    for a, b in [(0, 1), (2, 3)]:
        zoo.assert_same(found[a][1], found[b][1])
        assert float(found[a][0]) == pytest.approx(float(found[b][0]), 1e-6)
    assert zoo.differ(found[0][1], found[3][1])
    assert zoo.differ(found[0][1], found[4][1])


def test_more_parts_than_steps_and_a_part_each_step():
    x, y = zoo.data(5)
    weights = []
    for method in FPTT(5), FPTT(50):
        model = model_of(method)
        model.train_on_batch(x, y)
        assert int(model.optimizer.iterations) == 5
        weights.append(model.get_weights())
    zoo.assert_same(*weights)


@pytest.mark.compiled
def test_lengths_known_only_to_xla():
    batches = [zoo.data(steps) for steps in (7, 4)]
    shape = (zoo.BATCH, None, 2)
    dataset = zoo.generated(batches, shape, shape)
    model = model_of(FPTT(3, average=None), True)
    found = model.fit(dataset, verbose=0).history["loss"]
    twin = model_of(FPTT(3, average=None), eager=True)
    expected = np.mean([twin.train_on_batch(*batch) for batch in batches])
    assert found == pytest.approx([expected], rel=1e-5)
    zoo.assert_same(model.get_weights(), twin.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("average", ["swap", "evaluate", None])
def test_epochs_end_at_the_average(average):
    x, y = zoo.data()
    model = model_of(FPTT(3, average=average))
    history = model.fit(x, y, validation_data=(x, y), **FIT).history
    twin = model_of(FPTT(3, average=None))
    twin.fit(x, y, **FIT)
    plain, last = twin.evaluate(x, y, verbose=0), twin.get_weights()
    averages = [v.numpy() for v in twin.optimizer.averages]
    twin.optimizer.average()
    expected = plain if average is None else twin.evaluate(x, y, verbose=0)
    assert history["val_loss"] == pytest.approx([expected], rel=1e-6)
    assert plain != pytest.approx(twin.evaluate(x, y, verbose=0), rel=1e-4)
    wanted = averages if average == "swap" else last
    zoo.assert_same(model.get_weights(), wanted, 1e-7)


def test_losses_of_regularisers_are_not_weighted():
    """With a data loss of 0 all parts pull the kernel alike."""
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.SimpleRNN(
                2, kernel_initializer="ones", kernel_regularizer="l2"
            ),
        ]
    )
    loss = FPTT(3, regularize=False, part_loss=lambda loss, *_: 0.0 * loss)
    model = model_of(loss, network=network)
    model.train_on_batch(*zoo.data(per_sequence=True))
    shrunk = (1 - 2 * RATE * 0.01) ** 3
    zoo.assert_same(model.get_weights()[:1], [np.full((2, 2), shrunk)])


def test_several_sequence_outputs_are_logged_once():
    inputs = keras.Input((None, 2))
    hidden = keras.layers.GRU(3)(inputs)
    heads = {n: keras.layers.Dense(2, name=n)(hidden) for n in "ab"}
    model = SequenceModel.from_model(keras.Model(inputs, heads))
    compiled = {"loss": {"a": "mse", "b": "mae"}, "metrics": {"a": "mse"}}
    x, y = zoo.data(per_sequence=True)
    method = FPTT(3, regularize=False)
    model.compile(keras.optimizers.SGD(0.0), method=method, **compiled)
    y = {"a": y, "b": -y}
    found = model.fit(x, y, **FIT).history
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    for name, value in expected.items():
        assert found[name] == pytest.approx([value], rel=1e-5), name
    assert int(model.optimizer.iterations) == 3


@pytest.mark.slow
def test_the_optimizer_is_wrapped_once(tmp_path):
    x, y = zoo.data()
    given = fptt.FPTT(keras.optimizers.SGD(RATE), 0.2)
    for optimizer in (given, "sgd"):
        model = SequenceModel.from_model(zoo.network("simple_rnn"))
        model.compile(optimizer, LOSS, method=FPTT(3, 0.2))
        model.fit(x, y, **FIT)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        for each in (model, again):
            assert isinstance(each.optimizer, fptt.FPTT)
            assert fptt.find(each.optimizer.inner_optimizer) is None
        again.fit(x, y, **FIT)
        model.fit(x, y, **FIT)
        zoo.assert_same(again.get_weights(), model.get_weights(), 0.0)
    model.compile("sgd", LOSS, method="bptt")
    assert fptt.find(model.optimizer) is None


def test_loss_scale_stays_outside():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = SequenceModel.from_model(zoo.network("simple_rnn"))
        model.compile("sgd", LOSS, method=FPTT(3))
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = model.optimizer
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert isinstance(scaled.inner_optimizer, fptt.FPTT)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({}, "Give either `parts` or `length`. Received: parts=None"),
        ({"parts": 2, "length": 3}, "either .* Received: parts=2, length=3"),
        ({"parts": 0}, "`parts` must be an integer of 1 or more"),
        ({"length": 1.5}, "`length` must be an integer of 1 or more"),
        ({"parts": 2, "alpha": 0}, "`alpha` must be a number above 0"),
        ({"parts": 2, "part_loss": "x"}, "'weighted'.* or a function"),
        ({"parts": 2, "average": "x"}, r"None\). Received: average='x'"),
    ],
    ids=str,
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match=text):
        FPTT(**arguments)


def test_contradictions_are_refused():
    model = SequenceModel.from_model(zoo.network("simple_rnn"))
    given = fptt.FPTT("sgd", 0.2)
    with pytest.raises(ValueError, match="Expected .*0.2.*received .*0.5"):
        model.compile(given, LOSS, method=FPTT(3))
    with pytest.raises(ValueError, match="optimizer without FPTT, received"):
        model.compile(given, LOSS, method=FPTT(3, regularize=False))
    model.compile("sgd", LOSS, method=FPTT(3, part_loss="weighted"))
    with pytest.raises(ValueError, match="needs one target per sequence"):
        model.fit(*zoo.data(), **FIT)
