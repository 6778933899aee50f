"""Each rule of the advice, and that nothing changes by it."""

import json

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.diagnostics import advise
from tests import zoo
from tests.network.test_segmented import Own

L = keras.layers
STEPS = 6
X = np.zeros((2, STEPS, 1), "float32")
Y = np.ones((2, STEPS, 1), "float32")


def decaying(rate, layer=None, one_target=False, **options):
    """h ← rate · h on inputs of 0, compared with 1."""
    if layer is None:
        layer = L.SimpleRNN(1, "linear", return_sequences=not one_target)
    network = keras.Sequential([keras.Input((None, 1)), layer])
    layer.set_weights(
        [np.zeros((1, 1)), np.array([[rate]]), *layer.get_weights()[2:]]
    )
    model = ksg.SequenceModel.from_model(network, **options)
    model.compile("sgd", "mse", jit_compile=False)
    return model


def asked(model, y=Y, memory=None, **options):
    return advise(model, X, y, memory, verbose=False, **options)


@pytest.mark.slow
def test_what_dies_soon_is_cut():
    """E(j) / sum = λ^(j+1), whose mean over j < K is (1 - λ^K) / K."""
    model = decaying(0.5)
    advice = asked(model, tolerance=0.3)
    assert repr(advice.method) == "TruncatedBPTT(length=3)"
    assert advice.length == advice.numbers["suggested_length"] == 3
    assert advice.numbers["decay_rate"] == pytest.approx(0.5, rel=1e-4)
    # Of the exact gradient, the sum of (1 - λ^t) over t = 1 … T, is kept that
    # of every three steps.
    exact = sum(1 - 0.5**t for t in range(1, STEPS + 1))
    kept = STEPS / 3 * sum(1 - 0.5**t for t in range(1, 4))
    bias = advice.numbers["measured_bias"]
    assert bias == {3: pytest.approx(1 - kept / exact, rel=1e-4)}
    # More than half of the window is not much less than all of it.
    advice = asked(model, tolerance=0.2)
    assert advice.numbers["suggested_length"] == 5
    assert repr(advice.method) == "BPTT()"
    # And nothing is cut at a length that does not fit.
    advice = asked(model, tolerance=0.3, memory=48 + 2 * 48)
    assert advice.numbers["longest_that_fits"] == 2
    assert repr(advice.method) == "SnAp(length=1)"


@pytest.mark.slow
def test_less_and_less_memory():
    model = decaying(0.97)
    advice = asked(model)
    numbers = advice.numbers
    assert repr(advice.method) == "BPTT()" and advice.length is None
    # Two products of one row and column, and the layer's output; 2 rows,
    # forward and backward, in 4 bytes. Three weights, four times.
    step, fixed = 2 * 4 * 2 * 3, 4 * 4 * 3
    assert numbers["bytes_a_step"] == step
    assert numbers["bytes"] == fixed + STEPS * step
    # sqrt(6) is about 2, so 3 states are stored.
    assert numbers["bytes_checkpointed"] == fixed + 2 * step + 3 * 2 * 4
    assert numbers["bytes_of_traces"] == 2 * 4 * 3
    short = asked(model, memory=numbers["bytes"] - 1)
    assert repr(short.method) == "BPTT(checkpoint_every='auto')"
    shorter = asked(model, memory=numbers["bytes_checkpointed"] - 1)
    # What the traces take is not there for steps.
    fits = (numbers["bytes_checkpointed"] - 1 - fixed - 24) // step
    assert fits < shorter.numbers["longest_that_fits"]
    assert repr(shorter.method) == f"SnAp(length={fits})"
    least = asked(model, memory=fixed + step)
    assert repr(least.method) == "TruncatedBPTT(length=1)"
    with pytest.raises(ValueError, match="Not one step fits: 2 rows take"):
        asked(model, memory=fixed + step - 1)


@pytest.mark.slow
def test_streams():
    """Beyond the window of a stream there is more to be learned."""
    advice = asked(decaying(1.0, stateful=True))
    assert advice.numbers["suggested_length"] is None
    assert repr(advice.method) == f"SnAp(length={STEPS})"
    assert "beyond the window" in advice.reason
    assert repr(asked(decaying(1.0)).method) == "BPTT()"
    own = L.RNN(zoo.PlainCell(1), return_sequences=True)
    advice = asked(decaying(0.3, own, stateful=True))
    assert "has no trace rule" in advice.numbers["snap"]
    assert repr(advice.method) == f"TruncatedBPTT(length={STEPS})"


@pytest.mark.slow
def test_one_target():
    model = decaying(0.5, one_target=True)
    advice = asked(model, Y[:, 0])
    assert repr(advice.method) == "BPTT()"
    tight = advice.numbers["bytes_checkpointed"] - 1
    # 0.5^K < 0.3, measured within the window.
    advice = asked(model, Y[:, 0], tight, tolerance=0.3)
    assert repr(advice.method) == "TruncatedBPTT(length=2)"
    lost = 0.5**2 - 0.5**STEPS
    bias = advice.numbers["measured_bias"][2]
    assert bias == pytest.approx(lost / (1 - 0.5**STEPS), rel=1e-4)


@pytest.mark.slow
def test_printed_and_kept(capsys):
    model = decaying(0.5)
    advice = advise(model, X, Y, tolerance=0.3)
    said = capsys.readouterr().out
    assert said == f"{advice}\n"
    lines = said.splitlines()
    assert len(lines) <= 10
    assert lines[0] == "model       3 parameters, state not carried"
    assert lines[1] == "window      2 rows, 6 steps, targets at steps"
    assert "× 0.5 a step; 30% or less lie beyond 3 steps" in lines[2]
    assert "advice      TruncatedBPTT(length=3)" in lines
    data = json.loads(json.dumps(advice.to_dict()))
    assert data["method"] == "TruncatedBPTT(length=3)" and data["length"] == 3


@pytest.mark.slow
def test_nothing_changes():
    x, y = zoo.data(4)
    model = ksg.SequenceModel.from_model(zoo.network("gru"), stateful=True)
    model.compile("adam", "mse", method=ksg.methods.SnAp(3), jit_compile=False)
    model.fit(x, y, batch_size=zoo.BATCH, shuffle=False, verbose=0)
    kept = [*zoo.everything(model), *model.optimizer.variables]
    before = [variable.numpy() for variable in kept]
    method = model.method
    advices = [advise(model, x, y, verbose=False) for _ in range(2)]
    assert advices[0].to_dict() == advices[1].to_dict()
    assert model.method is method
    for variable, value in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_refusals():
    model = decaying(0.5)
    with pytest.raises(ValueError, match="`tolerance` must be above 0 and"):
        asked(model, tolerance=1)
    with pytest.raises(ValueError, match="`memory` must be a number above 0"):
        asked(model, memory=0)
    with pytest.raises(ValueError, match="2 steps or more, received 1"):
        advise(model, X[:, :1], Y[:, :1])
    bare = ksg.SequenceModel.from_model(zoo.network("gru"))
    with pytest.raises(ValueError, match="Call `compile"):
        advise(bare, *zoo.data())
    own = Own()
    own.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(ValueError, match="received a subclass with its own"):
        advise(own, *zoo.data())
