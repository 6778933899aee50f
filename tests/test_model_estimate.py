"""`estimate_gradients` is exact where it should be, and changes nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import NETWORKS

LOSS = keras.losses.MeanSquaredError()
METHODS = {
    "bptt": lambda: ksg.methods.BPTT(),
    "checkpointed": lambda: ksg.methods.BPTT(checkpoint_every=3),
    "tbptt": lambda: ksg.methods.TruncatedBPTT(3),
    "overlapping": lambda: ksg.methods.TruncatedBPTT(4, 3),
    "artbp": lambda: ksg.methods.ARTBP(3, seed=1),
}


class Counting(ksg.SequenceModel):
    """Counts how often its loss is traced."""

    traces = 0

    def compute_loss(self, *args, **kwargs):
        self.traces += 1
        return super().compute_loss(*args, **kwargs)


def snapshot(model):
    return [
        v.numpy()
        for v in [
            *zoo.everything(model),
            *model.optimizer.variables,
            *model.metrics_variables,
        ]
    ]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.compiled
def test_nothing_changes_under_xla():
    """Also: a second call never retraces, and draws what training will."""
    x, y = zoo.data()
    network = zoo.network("simple_rnn", dropout=0.4)
    model = Counting.from_model(network, stateful=True)
    method = METHODS["artbp"]()
    model.compile(
        "adam", LOSS, metrics=["mae"], method=method, jit_compile=True
    )
    model.train_on_batch(x, y)
    before = snapshot(model)
    loss, gradients = model.estimate_gradients(x, y)
    traces = model.traces
    again, same = model.estimate_gradients(x, y)
    assert model.traces == traces
    assert_equal(snapshot(model), before)
    assert float(loss) == float(again)
    assert_equal(gradients, same)
    model.train_on_batch(x, y)
    assert zoo.differ(snapshot(model), before)


@pytest.mark.compiled
def test_run_eagerly_runs_eagerly():
    x, y = zoo.data()
    found = []
    for eagerly in (False, True):
        model = Counting.from_model(zoo.network("simple_rnn"))
        model.compile(
            "sgd",
            LOSS,
            method=METHODS["tbptt"](),
            jit_compile=False,
            run_eagerly=eagerly,
        )
        found.append(model.estimate_gradients(x, y)[1])
        calls = model.traces
        model.estimate_gradients(x, y)
        assert (model.traces > calls) == eagerly
    zoo.assert_same(*found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["integer tokens", "masked own cell"])
def test_weights_and_masks_are_those_of_keras(kind):
    keras.utils.set_random_seed(3)
    network = NETWORKS[kind]()
    generator = np.random.default_rng(0)
    if kind == "integer tokens":
        x = generator.integers(1, 5, (zoo.BATCH, zoo.STEPS))
        x[0, -3:] = 0
        weight = generator.random((zoo.BATCH, zoo.STEPS)).astype("float32")
    else:
        x, _ = zoo.data()
        x[1, -2:] = x[2, :1] = 0
        weight = generator.random((zoo.BATCH,)).astype("float32")
    y = generator.normal(size=network(x).shape).astype("float32")
    expected = zoo.keras_gradients(network, x, y, LOSS, weight)
    model = ksg.SequenceModel.from_model(network)
    for name in "bptt", "checkpointed":
        model.compile("sgd", LOSS, method=METHODS[name](), jit_compile=False)
        loss, gradients = model.estimate_gradients(x, y, weight)
        assert float(loss) == pytest.approx(float(expected[0]), rel=1e-5)
        dense = tf.convert_to_tensor
        zoo.assert_same([*map(dense, gradients)], [*map(dense, expected[1])])
        _, unweighted = model.estimate_gradients(x, y)
        assert zoo.differ([*map(dense, unweighted)], [*map(dense, expected[1])])


def test_gradient_reaches_what_makes_the_initial_state():
    """Under truncation only from the first segment."""
    keras.utils.set_random_seed(3)
    network = NETWORKS["state from an input"]()
    x, y = zoo.data()
    context = np.random.default_rng(5).normal(size=(zoo.BATCH, 4))
    x = [x, context.astype("float32")]
    makers = {id(v) for at in (2, 3) for v in network.layers[at].variables}
    assert len(makers) == 3

    def of_makers(gradients):
        pairs = zip(network.trainable_variables, gradients, strict=True)
        return [g for v, g in pairs if id(v) in makers]

    expected = of_makers(zoo.keras_gradients(network, x, y, LOSS)[1])
    # Truncated: the loss of the first three steps alone, in its share.
    parts = [x[0][:, :3], x[1]], y[:, :3]
    first = of_makers(zoo.keras_gradients(network, *parts, LOSS)[1])
    model = ksg.SequenceModel.from_model(network)
    for name, wanted in (
        ("bptt", expected),
        (
            "tbptt",
            [g * 3 / zoo.STEPS for g in first],
        ),
    ):
        model.compile("sgd", LOSS, method=METHODS[name](), jit_compile=False)
        _, gradients = model.estimate_gradients(x, y)
        zoo.assert_same(of_makers(gradients), wanted)
        before = [v.numpy() for v in network.trainable_variables]
        model.train_on_batch(x, y)
        after = [v.numpy() for v in network.trainable_variables]
        moved = [a - b for a, b in zip(after, before, strict=True)]
        assert all(np.any(m) for m in of_makers(moved))
        network.set_weights(before)
    assert zoo.differ(first, expected)


def test_a_seed_replaces_the_draws():
    x, y = zoo.data(12)
    model = ksg.SequenceModel.from_model(zoo.network("simple_rnn"))
    model.compile("sgd", LOSS, method=METHODS["artbp"](), jit_compile=False)
    drawn = [model.estimate_gradients(x, y, seed=s)[1] for s in (3, 3, 4)]
    assert_equal(drawn[0], drawn[1])
    assert any(np.any(a != b) for a, b in zip(drawn[0], drawn[2], strict=True))


def test_not_compiled_is_refused():
    model = ksg.SequenceModel.from_model(zoo.network("simple_rnn"))
    with pytest.raises(ValueError, match=r"Call `compile\(..., method"):
        model.estimate_gradients(*zoo.data())
