"""Gradients beside the exact one: known answers, and planted errors."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods import ARTBP, BPTT, TruncatedBPTT
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import Constant
from tests.window.test_added import lossy

STEPS = 5  # two segments of three steps at most
compare = ksg.diagnostics.compare_gradients


def make(network=None, method="bptt", stateful=False, **options):
    network = network or zoo.network("simple_rnn")
    model = ksg.SequenceModel.from_model(network, stateful=stateful)
    options.setdefault("jit_compile", False)
    model.compile("sgd", "mse", method=method, **options)
    return model


class Planted(BPTT):
    """The exact gradient, with a bias and noise of known size."""

    random = True

    def __init__(self, bias, noise):
        super().__init__()
        self.bias, self.noise = bias, noise

    def estimate(self, window, seed=None):
        loss, gradients = super().estimate(window, seed)
        spoiled = []
        for place, gradient in enumerate(gradients):
            drawn = tf.random.stateless_normal(
                tf.shape(gradient), tf.stack([seed, place])
            )
            spoiled.append((1.0 + self.bias) * gradient + self.noise * drawn)
        return loss, spoiled


class Uncompensated(ARTBP):
    """Random cuts, and links of weight 1."""

    def gates(self, window, seed=None):
        return tf.minimum(super().gates(window, seed), 1.0)


def balancing(length=40):
    """The linear system, whose gradient is known in closed form."""
    task = ksg.data.tasks.InfluenceBalancing(length)
    cell = ksg.data.tasks.InfluenceBalancingCell()
    layers = keras.Input((None, 1)), keras.layers.RNN(cell, True)
    x, y = np.zeros((1, length, 1), "f"), np.ones((1, length, 1), "f")
    return task, make(keras.Sequential(layers)), x, y


def truncated(task, theta, steps, length):
    """Gradient of twice the task's loss by TBPTT, by hand in float64."""
    state, slope = np.ones(task.units), np.zeros(task.units)
    total = 0.0
    for step in range(steps):
        if step % length == 0:
            slope = np.zeros(task.units)
        state = task.matrix @ state + theta * task.direction
        slope = task.matrix @ slope + task.direction
        total += 2 * (state[0] - 1.0) * slope[0]
    return total / steps


@pytest.mark.slow
def test_exact_against_itself():
    x, y = zoo.data(STEPS)
    found = compare(make(), x, y, ["bptt", BPTT(2), TruncatedBPTT(STEPS)])
    for method in found.qualities:
        for quality in found.qualities[method].values():
            assert quality.cosine == pytest.approx(1.0, abs=1e-6)
            assert quality.norm_ratio == pytest.approx(1.0, abs=1e-5)
            assert quality.relative_bias < 1e-5
            assert quality.bias_share == quality.relative_variance == 0.0


@pytest.mark.slow
def test_truncation_of_a_linear_system_in_closed_form():
    task, model, x, y = balancing(10)
    lengths = (3, 8)
    found = compare(model, x, y, [TruncatedBPTT(k) for k in lengths])
    exact = truncated(task, 0.5, 10, 10)
    assert exact == pytest.approx(2 * task.gradient(0.5, 10)[1])
    for length in lengths:
        quality = found[f"TruncatedBPTT(length={length})"]
        ratio = truncated(task, 0.5, 10, length) / exact
        assert quality.exact_norm == pytest.approx(abs(exact), rel=1e-4)
        assert quality.norm_ratio == pytest.approx(abs(ratio), rel=1e-4)
        assert quality.relative_bias == pytest.approx(abs(ratio - 1), rel=1e-3)
        assert quality.cosine == pytest.approx(np.sign(ratio))


@pytest.mark.compiled
def test_random_cuts_with_and_without_compensation():
    _, model, x, y = balancing()
    methods = {"with": ARTBP(8), "without": Uncompensated(8)}
    found = compare(model, x, y, methods, repeats=200)
    good, bad = found["with"], found["without"]
    assert abs(good.squared_bias) < 2 * good.squared_bias_error
    assert bad.squared_bias > 5 * bad.squared_bias_error
    assert good.relative_variance > bad.relative_variance > 0
    assert bad.bias_share > 0.5 > good.bias_share


@pytest.mark.compiled
def test_planted_bias_and_noise():
    x, y = zoo.data(STEPS)
    model = make()
    size = sum(int(tf.size(v)) for v in model.trainable_variables)
    methods = {"biased": Planted(0.3, 0.01), "noisy": Planted(0.0, 0.01)}
    found = compare(model, x, y, methods, repeats=64)
    biased, noisy = found["biased"], found["noisy"]
    assert abs(biased.squared_bias - 0.09) < 3 * biased.squared_bias_error
    assert biased.squared_bias_error < 0.01
    assert biased.relative_bias_error == pytest.approx(
        biased.squared_bias_error / 0.6, rel=0.2
    )
    assert abs(noisy.squared_bias) < 2 * noisy.squared_bias_error
    variance = size * 0.01**2 / noisy.exact_norm**2
    for quality in (biased, noisy):
        assert quality.relative_variance == pytest.approx(variance, rel=0.1)
    assert len(found.errors["noisy"]) == 64
    assert np.mean(found.errors["noisy"] ** 2) == pytest.approx(
        noisy.relative_variance, rel=0.1
    )


@pytest.mark.slow
def test_groups_are_layers_or_what_a_function_says():
    x, y = zoo.data(STEPS)
    inner = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.SimpleRNN(3, return_sequences=True),
        ]
    )
    network = keras.Sequential(
        [keras.Input((None, 2)), inner, keras.layers.Dense(2, name="out")]
    )
    model = make(network, TruncatedBPTT(3))
    found = compare(model, x, y)
    [groups] = found.qualities.values()
    assert list(groups) == ["all", inner.layers[0].name, "out"]
    norms = [quality.exact_norm for quality in groups.values()]
    assert norms[0] ** 2 == pytest.approx(norms[1] ** 2 + norms[2] ** 2)
    found = compare(model, x, y, groups=lambda variable: variable.name)
    [groups] = found.qualities.values()
    assert set(groups) == {"all", "kernel", "recurrent_kernel", "bias"}
    assert groups["recurrent_kernel"].relative_bias > 0.01


@pytest.mark.slow
def test_learned_guesses_are_those_of_the_compiled_method():
    x, y = zoo.data(STEPS)
    method = ksg.methods.SyntheticGradients(3, Constant(2.0), scale=0.0)
    model = make(method=method)
    scaled = ksg.methods.SyntheticGradients(3, Constant(5.0), scale=1.0)
    others = {"mine": method, "tbptt": TruncatedBPTT(3), "scaled": scaled}
    found = compare(model, x, y, others)
    assert found["mine"].relative_bias == pytest.approx(
        found["tbptt"].relative_bias, rel=1e-4
    )
    assert found["scaled"].relative_bias > 2 * found["mine"].relative_bias
    with pytest.raises(
        ValueError, match=r"\('synthesis'\).*compiled with BPTT"
    ):
        compare(make(), x, y, [scaled])


@pytest.mark.slow
def test_dropout_is_no_error_and_nothing_changes():
    x, y = zoo.data(STEPS)
    model = make(zoo.network("simple_rnn", dropout=0.5), stateful=True)
    model.fit(x, y, 3, shuffle=False, verbose=0)
    watched = [*zoo.everything(model), *model.metrics_variables]
    before = [v.numpy() for v in watched]
    found = compare(model, x, y, ["bptt", ARTBP(3, seed=1)], repeats=3)
    assert found["BPTT()"].relative_bias < 1e-5
    for variable, value in zip(watched, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    with pytest.raises(ValueError, match="Expected 3, received 2"):
        compare(model, x[:2], y[:2])


@pytest.mark.compiled
def test_under_xla():
    x, y = zoo.data(STEPS)
    network = zoo.network("simple_rnn")
    found, expected = (
        compare(make(network, TruncatedBPTT(3), **options), x, y)
        for options in ({"jit_compile": True}, {"run_eagerly": True})
    )
    [found], [expected] = found.qualities.values(), expected.qualities.values()
    for name, quality in expected.items():
        for measure in ("exact_norm", "norm_ratio", "cosine", "relative_bias"):
            value = getattr(quality, measure)
            other = getattr(found[name], measure)
            assert other == pytest.approx(value, rel=1e-3, abs=1e-5), measure


@pytest.mark.slow
def test_weights_and_masks():
    x, y = zoo.data(STEPS)
    model = make(method=TruncatedBPTT(3))
    weight = np.ones((zoo.BATCH, STEPS), "float32")
    weight[:, 3:] = 0.0
    name = "TruncatedBPTT(length=3)"
    # Only the first segment counts, which truncation sees whole.
    assert compare(model, x, y, None, 3, weight)[name].relative_bias < 1e-5
    assert compare(model, x, y)[name].relative_bias > 0.05
    mask = weight > 0
    found = compare(
        make(method=TruncatedBPTT(3)), {"inputs": x, "mask": mask}, y
    )
    assert found[name].relative_bias < 1e-5


def test_losses_that_layers_add_need_no_checkpoints():
    x, y = zoo.data(STEPS)
    with pytest.raises(ValueError, match="losses that layers add themselves"):
        compare(make(lossy()), x, y)
    found = compare(make(lossy()), x, y, checkpoint_every=None)
    assert found["BPTT()"].relative_bias < 1e-6


@pytest.mark.slow
def test_as_table_data_and_picture(tmp_path, monkeypatch):
    x, y = zoo.data(STEPS)
    found = compare(make(), x, y, ["bptt", ARTBP(3, seed=1)], repeats=4)
    name = "ARTBP(mean_length=3.0, seed=1)"
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["method", "group", "cosine"]
    assert lines[1].startswith("BPTT()") and " 1.0000 " in lines[1]
    assert lines[-1].startswith("exact gradient: ")
    data = json.loads(json.dumps(found.to_dict()))
    assert data[name]["repeats"] == len(data[name]["errors"]) == 4
    assert data[name]["groups"]["all"]["cosine"] == found[name].cosine
    assert data["BPTT()"]["repeats"] == 1 and data[name]["seconds"] > 0
    frame = found.to_frame()
    assert frame.loc[(name, "dense"), "cosine"] == pytest.approx(1.0)
    figure = found.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5_000
    assert [axis.get_title() for axis in figure.axes][1] == "relative bias"
    assert figure.axes[-1].get_legend() is not None
    # Groups are bars side by side, "all" the first: whiskers are the range.
    [_, bars, *_] = figure.axes[1].containers
    whiskers = [ends[:, 1] for ends in bars.errorbar.lines[2][0].get_segments()]
    ranges = [groups["all"].bias_range for groups in found.qualities.values()]
    np.testing.assert_allclose(whiskers, ranges, atol=1e-12)
    assert whiskers[1][0] < whiskers[1][1]
    single = dataclasses.replace(
        found,
        qualities={
            name: {"all": groups["all"], "one": groups["all"]}
            for name, groups in found.qualities.items()
        },
    )
    legend = single.plot().axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["one"]
    for module, call in [
        ("pandas", found.to_frame),
        ("matplotlib", found.plot),
    ]:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"needs {module}.*pip install"):
            call()


def test_refusals():
    x, y = zoo.data(STEPS)
    model = make()
    with pytest.raises(ValueError, match="`repeats` must be 3 or more.*=2"):
        compare(model, x, y, repeats=2)
    with pytest.raises(ValueError, match=r"methods that differ.*'BPTT\(\)'"):
        compare(model, x, y, ["bptt", BPTT()])
    with pytest.raises(ValueError, match="methods that differ"):
        compare(model, x, y, [])
    with pytest.raises(ValueError, match="`method` must be"):
        compare(model, x, y, ["no method"])
    bare = ksg.SequenceModel.from_model(zoo.network())
    with pytest.raises(ValueError, match="Call `compile"):
        compare(bare, x, y)
    inversion = ksg.methods.RegularizedInversion(0.1, 1.0)
    with pytest.raises(ValueError, match="no regularised inverse"):
        compare(make(zoo.network("lstm")), x, y, [inversion])
