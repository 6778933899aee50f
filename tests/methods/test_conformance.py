"""What every method promises, driven by one table."""

import functools

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad import SequenceModel, methods
from tests import update_order, zoo
from tests.methods.table import AT_ONCE, ONE_STEP, TABLE

ROWS = 2
SHORT = 3  # steps of a whole segment and of a shorter one
WHOLE = 4  # of two whole ones: to trace a shorter one takes a third of the time
# They take the whole state as one vector, and many passes.
IN_ONE_VECTOR = {"rtrl", "uoro"}


def data(steps):
    x, y = zoo.data(steps)
    return x[:ROWS], y[:ROWS]


def network_for(name, **options):
    kind = TABLE[name].instead.get("simple_rnn", "simple_rnn")
    return zoo.network(kind, **options)


def make(name, network=None, stateful=False, method=None, **options):
    network = network or network_for(name)
    model = SequenceModel.from_model(network, stateful=stateful)
    options.setdefault("optimizer", keras.optimizers.SGD(TABLE[name].rate))
    options.setdefault("loss", "mse")
    options.setdefault("jit_compile", False)
    model.compile(method=method or TABLE[name].method(), **options)
    return model


def fit(model, x, y, **options):
    return model.fit(x, y, batch_size=ROWS, verbose=0, **options)


def fit_often(model, x, y, epochs):
    """The losses of epochs in which the same batch is seen ten times."""
    x, y = zoo.repeated(10, x, y)
    return fit(model, x, y, epochs=epochs, shuffle=False).history["loss"]


def first_like(name):
    """The first row of a method that a row's method is a kind of."""
    method = TABLE[name].method()
    return next(
        other
        for other, row in TABLE.items()
        if isinstance(method, type(row.method()))
    )


@functools.cache
def standing(name):
    """A model for the tests that estimate only, which changes nothing."""
    return make(name)


def test_the_table_covers_every_method():
    public = {
        value
        for name in methods.__all__
        if isinstance(value := getattr(methods, name), type)
        and value is not methods.Method
    }
    assert {type(row.method()) for row in TABLE.values()} == public


# These differ from their class's first row in nothing that has a length, and
# tests of their own run them under XLA.
ELSEWHERE = {"bptt_checkpointed", "tbptt_stride", "artbp_rows"}
ELSEWHERE |= {"inversion_learned"}
# Where training is more than the estimate. That of SnAp and RTRL is UORO's.
ESTIMATED = {"tbptt", "dni", "fptt", "tprop", "uoro"}
# What has a length is its parent's, or is in `AT_ONCE`.
ALIKE = ELSEWHERE | {"alternating", "dni_lambda"}


def more_variables(name):
    sgd = keras.optimizers.SGD(TABLE[name].rate, momentum=0.5, clipnorm=1.0)
    return {"stateful": True, "optimizer": sgd}


@pytest.mark.compiled
@pytest.mark.parametrize("name", [n for n in TABLE if n != "dni_lambda"])
def test_compiled_equals_eager_learns_and_never_retraces(name, tmp_path):
    """On a cell with a scan of its own.

    The first row of each class has two states; one of them has a shorter last
    segment, which is traced once more, and a cell without a scan of its own
    above the other. What remembers nothing from window to window is asked
    about one. Where no test of unknown lengths looks at the order of updates,
    it is looked at here.
    """
    first = name == first_like(name)
    estimates = name in ESTIMATED
    graph = {"jit_compile": name not in ELSEWHERE}
    x, _ = data(WHOLE + 1 if name == "tbptt" else WHOLE)
    y = 0.3 * np.cumsum(x, axis=1)
    two_states = first and name not in IN_ONE_VECTOR
    kinds = ("lstm",) if two_states else ("simple_rnn",)
    kinds = ("lstm", "own") if name == "tbptt" else kinds
    kinds = [TABLE[name].instead.get(kind, kind) for kind in kinds]
    found = []
    for compiled in {"run_eagerly": True}, graph:
        keras.utils.set_random_seed(1)
        layers = [zoo.recurrent(kind) for kind in kinds]
        layers += [keras.layers.Dense(2), counting := zoo.Counting()]
        network = keras.Sequential([keras.Input((None, 2)), *layers])
        options = more_variables(name) if name in ELSEWHERE else {}
        model = make(name, network, **options, **compiled)
        epochs = 1 + bool(model.method_state.variables)
        run = functools.partial(fit, model, x, y, epochs=epochs, shuffle=False)
        if name in ELSEWHERE and compiled is graph:
            update_order.check(run, tmp_path)
        else:
            run()
        history = model.history.history["loss"]
        learnt = [v.numpy() for v in model.method_state.variables]
        found.append([*network.get_weights(), *learnt, history])
        if estimates:
            found[-1] += model.estimate_gradients(x[:, :WHOLE], y[:, :WHOLE])[1]
    zoo.assert_same(*found, tolerance=2e-4)
    before = counting.calls
    last = fit_often(model, x, y, epochs=3)
    if estimates:
        model.estimate_gradients(x[:, :WHOLE], y[:, :WHOLE])
    assert counting.calls == before > 0
    assert last[-1] < 0.8 * history[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_exact_or_not(name):
    x, y = data(SHORT)
    network = network_for(name, layers=2)
    _, found = make(name, network).estimate_gradients(x, y)
    exact = exact_gradients(TABLE[name].instead.get("simple_rnn", "simple_rnn"))
    if TABLE[name].gradient == "exact":
        zoo.assert_same(found, exact)
    else:
        assert zoo.differ(found, exact)


@functools.cache
def exact_gradients(kind):
    """What Keras finds for two layers of a kind."""
    network = zoo.network(kind, layers=2)
    loss = keras.losses.MeanSquaredError()
    return zoo.keras_gradients(network, *data(SHORT), loss)[1]


@pytest.mark.parametrize("name", TABLE)
def test_no_variable_is_one_that_a_gpu_lacks(name):
    """Those of 32-bit integers lie with the host, out of reach of XLA."""
    assert "int32" not in {v.dtype for v in zoo.everything(standing(name))}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_moves_as_often_as_it_says_estimates_unmoved_and_resumes(
    name, tmp_path
):
    """An estimate changes nothing; resumed is what was never interrupted."""
    x, y = data(SHORT)
    momentum = keras.optimizers.SGD(TABLE[name].rate, momentum=0.9)
    network = network_for(name, dropout=0.3)
    whole = make(name, network, optimizer=momentum, metrics=["mae"])
    saved = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    fit(whole, x, y, epochs=2, callbacks=[saved])
    assert int(whole.optimizer.iterations) == 2 * TABLE[name].updates

    watched = [
        *zoo.everything(whole),
        *whole.optimizer.variables,
        *whole.metrics_variables,
    ]
    before = [v.numpy() for v in watched]
    first = whole.estimate_gradients(x, y)
    second = whole.estimate_gradients(x, y)
    for variable, value in zip(watched, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    zoo.assert_same(second[1], first[1], tolerance=1e-7)

    again = keras.models.load_model(tmp_path / "1.keras")
    assert isinstance(again, SequenceModel)
    assert repr(again.method) == repr(whole.method)
    fit(again, x, y, epochs=2, initial_epoch=1)
    pairs = [(*m.weights, *m.optimizer.variables) for m in (again, whole)]
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_float64_is_float32_with_more_digits(name, float64):
    found, start = [], None
    for floatx in ("float64", "float32"):
        keras.config.set_floatx(floatx)
        network = network_for(name, dtype=floatx)
        start = start or network.get_weights()
        network.set_weights(start)
        model = make(name, network, weighted_metrics=["mae"])
        x, y = (each.astype(floatx) for each in data(SHORT))
        weight = np.linspace(0.5, 1.0, y[..., 0].size).reshape(y.shape[:2])
        logs = model.fit(x, y, sample_weight=weight, verbose=0).history
        found.append([*model.get_weights(), *logs.values()])
    assert found[0][0].dtype == "float64"
    zoo.assert_same(found[1], found[0], tolerance=1e-3)


# bfloat16 differs in that nothing is scaled, as in float32: asked of one method
# of each family.
IN_HALF = [("mixed_float16", name) for name in TABLE]
IN_HALF += [("mixed_bfloat16", name) for name in ("bptt", "tbptt", "dni")]
IN_HALF += [("mixed_bfloat16", name) for name in ("tprop", "snap")]


@pytest.mark.slow
@pytest.mark.parametrize("policy, name", IN_HALF)
def test_mixed_precision(name, policy):
    x, _ = data(SHORT)
    y = 0.3 * np.cumsum(x, axis=1)
    keras.config.set_dtype_policy(policy)
    try:
        model = make(name)
        history = fit(model, x, y, epochs=2).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert np.isfinite(history).all() and history[-1] < history[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_weighted_steps_count_and_others_do_not(name):
    x, y = data(SHORT)
    weight = np.ones((ROWS, SHORT), "float32")
    weight[:, 1] = 0.0
    model = standing(name)
    _, found = model.estimate_gradients(x, y, weight)
    changed = y.copy()
    changed[:, 1] += 10.0
    _, same = model.estimate_gradients(x, changed, weight)
    zoo.assert_same(same, found)
    _, other = model.estimate_gradients(x, changed, np.ones_like(weight))
    assert zoo.differ(other, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_masked_steps_carry_the_state_on(name):
    """A window and the same window with a hole of masked steps, all NaN."""
    x, y = data(WHOLE)
    model = standing(name)
    if TABLE[name].gradient != "exact":
        # The hole moves the cuts; what must hold is that nothing leaks in.
        mask = np.ones((ROWS, WHOLE), bool)
        mask[:, 1:3] = False
        _, found = model.estimate_gradients({"inputs": x, "mask": mask}, y)
        x[:, 1:3] = y[:, 1:3] = np.nan
        _, same = model.estimate_gradients({"inputs": x, "mask": mask}, y)
        zoo.assert_same(same, found)
        return
    hole = np.full((ROWS, 2, 2), np.nan, "float32")
    mask = np.ones((ROWS, WHOLE + 2), bool)
    mask[:, 1:3] = False
    longer = [np.concatenate([a[:, :1], hole, a[:, 1:]], 1) for a in (x, y)]
    _, expected = model.estimate_gradients(x, y)
    _, found = model.estimate_gradients(
        {"inputs": longer[0], "mask": mask}, longer[1]
    )
    zoo.assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_no_gradient_crosses_a_reset(name):
    x, y = data(WHOLE)
    reset = np.zeros((ROWS, WHOLE), bool)
    reset[:, 3] = True
    weight = np.zeros((ROWS, WHOLE), "float32")
    weight[:, 3] = 1.0
    model = standing(name)
    _, found = model.estimate_gradients(
        {"inputs": x, "reset": reset}, y, weight
    )
    changed = x.copy()
    changed[:, :3] *= -1.0
    _, same = model.estimate_gradients(
        {"inputs": changed, "reset": reset}, y, weight
    )
    zoo.assert_same(same, found)
    nothing = {"inputs": changed, "reset": np.zeros_like(reset)}
    _, other = model.estimate_gradients(nothing, y, weight)
    assert zoo.differ(other, found)


@pytest.mark.compiled
@pytest.mark.parametrize("name", [n for n in TABLE if n not in ALIKE])
def test_unknown_lengths_several_steps_an_execution(name, tmp_path):
    """As eagerly; no update of a variable comes before an earlier read."""
    # The last segment is a shorter one, a whole one, or the only one.
    lengths = (3, 4, 1) if name not in AT_ONCE else (4, 5)
    batches = [data(steps) for steps in lengths]
    shape = (ROWS, None, 2)
    dataset = zoo.generated(batches, shape, shape)

    def made(**options):
        keras.utils.set_random_seed(1)
        if name in AT_ONCE:
            options["method"] = AT_ONCE[name]()
            options["network"] = network_for(name, dropout=0.3)
        return make(name, **more_variables(name), **options)

    model = made(steps_per_execution=1 if name in ONE_STEP else 2)
    update_order.check(lambda: model.fit(dataset, verbose=0), tmp_path)
    found = [variable.numpy() for variable in zoo.everything(model)]
    model = made(run_eagerly=True)
    model.reset_state()
    for x, y in batches:
        model.train_on_batch(x, y)
    TABLE[name].epoch_end(model)
    expected = [variable.numpy() for variable in zoo.everything(model)]
    zoo.assert_same([1.0 * f for f in found], [1.0 * e for e in expected])


def test_names_and_refusal_of_others():
    for name in methods.BY_NAME:
        assert isinstance(ksg.methods.get(name), methods.Method)
    with pytest.raises(ValueError, match=r"'artbp', 'bptt'.*Received: method"):
        ksg.methods.get("other")
