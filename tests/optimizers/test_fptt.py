"""The dynamic regulariser: numbers by hand, its promises, and Keras' duties."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.optimizers import FPTT
from tests import zoo
from tests.optimizers.by_hand import BY_HAND

SGD = keras.optimizers.SGD
# Strong enough for its effect to show in a few updates.
AUTHORS = {"alpha": 0.5, "form": "code"}


def number(value=0.0):
    return keras.Variable(np.float32(value), name="w")


def step(optimizer, variable, target, curvature=1.0):
    """One update on curvature (w - target)^2 / 2."""
    gradient = curvature * (tf.convert_to_tensor(variable) - target)
    optimizer.apply([gradient], [variable])
    [multiplier], [average] = optimizer.multipliers, optimizer.averages
    return [float(v) for v in (variable, multiplier, average)]


@pytest.mark.parametrize("form", BY_HAND)
@pytest.mark.parametrize("jit", [False, True])
def test_ten_updates_by_hand(form, jit):
    optimizer = FPTT(SGD(0.5), alpha=0.5, beta=0.5, form=form)
    variable = number()
    optimizer.build([variable])
    compiled = tf.function(
        lambda target: optimizer.apply([variable - target], [variable]),
        jit_compile=jit,
        autograph=False,
    )
    held = variable, *optimizer.multipliers, *optimizer.averages
    for count, expected in enumerate(BY_HAND[form]):
        compiled(tf.constant(1.0 if count % 2 == 0 else -2.0))
        found = [float(v) for v in held]
        assert found == pytest.approx(expected, abs=1e-6), count
    assert int(optimizer.iterations) == 10


def test_the_tables_differ():
    assert BY_HAND["code"][1] != BY_HAND["paper"][1]


@pytest.mark.parametrize("form, equal", [("code", True), ("paper", False)])
def test_multiplier_is_the_gradient_at_the_exact_minimiser(form, equal):
    """On a quadratic one step of rate 1 / (curvature + alpha) is exact."""
    alpha, differences = 0.7, []
    variable = number(0.3)
    optimizer = FPTT(SGD(0.1), alpha, form=form)
    for curvature, target in [(1.0, 2.0), (3.0, -1.0), (0.5, 4.0), (2.0, 0.0)]:
        optimizer.learning_rate = 1 / (curvature + alpha)
        w, m, _ = step(optimizer, variable, target, curvature)
        differences.append(abs(m - curvature * (w - target)))
    # The first update has no multiplier yet, so that both forms agree.
    assert differences[0] < 1e-6
    assert (max(differences) < 1e-5) == equal
    if not equal:
        assert min(differences[1:]) > 0.05


def test_weight_and_rho():
    """One update from w = 1, m = 2, v = 0 with gradient 0, rate 1."""
    for form, weight, rho, expected in [
        ("code", 1.0, 0.0, 1 - 0.5 + 2),
        ("code", 3.0, 0.0, 1 - 1.5 + 2),
        ("code", 1.0, 0.25, 1 - 0.5 + 1.5),
        ("code", 1.0, 1.0, 1 - 0.5),
        ("paper", 1.0, 0.0, 1 - 0.5 + 1),
        ("paper", 0.0, 0.5, 1 + 0.5),
    ]:
        optimizer = FPTT(SGD(1.0), 0.5, 0.5, form, weight, rho)
        variable = number(1.0)
        optimizer.build([variable])
        optimizer.multipliers[0].assign(2.0)
        optimizer.started.assign(True)
        optimizer.apply([tf.constant(0.0)], [variable])
        assert float(variable) == pytest.approx(expected), (form, weight, rho)


def settle(alpha, form="code"):
    """Distance from the minimiser of three losses taken in turn."""
    losses = [(1.0, 1.0), (2.0, -2.0), (5.0, 3.0)]
    best = sum(a * c for a, c in losses) / sum(a for a, _ in losses)
    variable = number()
    optimizer = FPTT(SGD(0.1), alpha, form=form)
    rates = [tf.constant(1 / (a + alpha)) for a, _ in losses]

    def turn(_):
        for rate, (curvature, target) in zip(rates, losses, strict=True):
            optimizer.learning_rate = rate
            optimizer.apply([curvature * (variable - target)], [variable])
        return (_ + 1,)

    optimizer.build([variable])
    tf.function(
        lambda: tf.while_loop(
            lambda i: i < 10 + 5 * int(alpha), turn, (tf.constant(0),)
        ),
        autograph=False,
    )()
    distances = []
    for rate, (curvature, target) in zip(rates, losses, strict=True):
        optimizer.learning_rate = rate
        distances.append(
            abs(step(optimizer, variable, target, curvature)[0] - best)
        )
    return max(distances)


@pytest.mark.compiled
@pytest.mark.parametrize("form", BY_HAND)
def test_reaches_the_minimiser_of_the_summed_loss(form):
    """At a distance of order 1 / alpha; each loss alone is far away."""
    near, nearer = settle(100.0, form), settle(1000.0, form)
    assert near < 0.1
    assert nearer < 0.02
    # Without the regulariser every update ends in its own minimum.
    assert settle(1e-6, form) == pytest.approx(3.5, abs=0.01)


# --- duties -----------------------------------------------------------------


def weights(seed=0):
    generator = np.random.default_rng(seed)
    shapes = [(3, 2), (2,)]
    return [
        keras.Variable(generator.normal(size=s).astype("float32"), name=f"v{i}")
        for i, s in enumerate(shapes)
    ]


def gradients(count, seed=1):
    generator = np.random.default_rng(seed)
    return [
        [
            tf.constant(generator.normal(size=s).astype("float32"))
            for s in [(3, 2), (2,)]
        ]
        for _ in range(count)
    ]


def run(optimizer, each, variables=None):
    variables = variables or weights()
    for gradient in each:
        optimizer.apply(gradient, variables)
    return variables


def reference(each, rate=0.1, alpha=0.5, change=lambda g: g):
    """The rule in NumPy, SGD inside; `change` is what clips."""
    values = [v.numpy().astype("float64") for v in weights()]
    averages = [v.copy() for v in values]
    multipliers = [0 * v for v in values]
    for gradient in each:
        total = [
            g.numpy() + alpha * (w - v) - m
            for g, w, v, m in zip(
                gradient, values, averages, multipliers, strict=True
            )
        ]
        for place, direction in enumerate(change(total)):
            values[place] = w = values[place] - rate * direction
            m = multipliers[place] - alpha * (w - averages[place])
            multipliers[place] = m
            averages[place] = 0.5 * averages[place] + 0.5 * w - m / 2 / alpha
    return values, averages


def norm_clipped(total, limit=0.5):
    norm = np.sqrt(sum(np.sum(g**2) for g in total))
    return [g * min(1.0, limit / norm) for g in total]


@pytest.mark.parametrize(
    "options, change",
    [
        ({}, lambda g: g),
        ({"clipvalue": 0.2}, lambda g: [np.clip(x, -0.2, 0.2) for x in g]),
        ({"global_clipnorm": 0.5}, norm_clipped),
    ],
    ids=["plain", "value", "norm"],
)
def test_regulariser_comes_before_clipping(options, change):
    each = gradients(6)
    optimizer = FPTT(SGD(0.1, **options), **AUTHORS)
    variables = run(optimizer, each)
    expected, averages = reference(each, change=change)
    zoo.assert_same(variables, expected)
    zoo.assert_same(optimizer.averages, averages)
    if options:
        assert zoo.differ(variables, reference(each)[0])


def test_momentum_of_the_inner_optimizer_sees_the_regulariser():
    """Adam along the sum, against Adam alone on gradients made by hand."""
    each = gradients(5)
    optimizer = FPTT(keras.optimizers.Adam(0.1), **AUTHORS)
    variables, by_hand = weights(), weights()
    adam = keras.optimizers.Adam(0.1)
    averages = [v.numpy() for v in by_hand]
    multipliers = [0 * v for v in averages]
    for gradient in each:
        run(optimizer, [gradient], variables)
        adam.apply(
            [
                g + 0.5 * (w - v) - m
                for g, w, v, m in zip(
                    gradient, by_hand, averages, multipliers, strict=True
                )
            ],
            by_hand,
        )
        for place, w in enumerate(by_hand):
            multipliers[place] -= 0.5 * (w.numpy() - averages[place])
            averages[place] = (averages[place] + w.numpy()) / 2
            averages[place] -= multipliers[place]
    zoo.assert_same(variables, by_hand)


def test_accumulated_gradients_are_one_update():
    each = gradients(6)
    whole = FPTT(SGD(0.1, clipnorm=0.4))
    expected = run(
        whole,
        [
            [(a + b) / 2 for a, b in zip(each[i], each[i + 1], strict=True)]
            for i in (0, 2, 4)
        ],
    )
    parted = FPTT(SGD(0.1, clipnorm=0.4, gradient_accumulation_steps=2))
    found = run(parted, each)
    zoo.assert_same(found, expected)
    zoo.assert_same(parted.averages, whole.averages)
    zoo.assert_same(parted.multipliers, whole.multipliers)
    assert int(parted.iterations) == int(whole.iterations) == 3


@pytest.mark.parametrize("constant", [False, True])
def test_loss_scale_changes_nothing(constant):
    each = gradients(4)
    expected = run(FPTT(SGD(0.1, clipnorm=0.4)), each)
    if constant:
        optimizer = FPTT(SGD(0.1, clipnorm=0.4, loss_scale_factor=256.0))
    else:
        optimizer = keras.optimizers.LossScaleOptimizer(
            FPTT(SGD(0.1, clipnorm=0.4, loss_scale_factor=8.0)), 256.0
        )
    assert float(optimizer.scale_loss(1.0)) == 256.0
    scaled = [[256.0 * g for g in gradient] for gradient in each]
    zoo.assert_same(run(optimizer, scaled), expected)


def test_a_skipped_update_moves_nothing():
    optimizer = FPTT(SGD(0.1))
    scaled = keras.optimizers.LossScaleOptimizer(optimizer, 4.0)
    variables = run(scaled, gradients(2))
    held = [*variables, *optimizer.multipliers, *optimizer.averages]
    before = [v.numpy() for v in held]
    scaled.apply([g * np.inf for g in gradients(1)[0]], variables)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_moving_average_of_the_inner_optimizer():
    each = gradients(3)
    options = {"use_ema": True, "ema_momentum": 0.5}
    optimizer = FPTT(SGD(0.1, **options), **AUTHORS)
    variables = run(optimizer, each)
    zoo.assert_same(variables, reference(each)[0])
    ema = reference(each[:1])[0]
    for count in (2, 3):
        now = reference(each[:count])[0]
        ema = [(e + w) / 2 for e, w in zip(ema, now, strict=True)]
    optimizer.finalize_variable_values(variables)
    zoo.assert_same(variables, ema)


def test_average_moves_the_parameters():
    each = gradients(3)
    for reset in (True, False):
        optimizer = FPTT(SGD(0.1), **AUTHORS)
        variables = run(optimizer, each)
        before = [m.numpy() for m in optimizer.multipliers]
        optimizer.average(reset_multipliers=reset)
        zoo.assert_same(variables, reference(each)[1])
        kept = [m * (not reset) for m in before]
        zoo.assert_same(optimizer.multipliers, kept)


def test_average_before_the_first_update_changes_nothing():
    variables = weights()
    optimizer = FPTT(SGD(0.1))
    optimizer.build(variables)
    # The average begins where training begins, not where it was built.
    variables[0].assign(variables[0] + 1.0)
    before = [v.numpy() for v in variables]
    optimizer.average()
    zoo.assert_same(variables, before, 0.0)
    optimizer.apply([0.0 * g for g in gradients(1)[0]])
    zoo.assert_same(variables, before, 0.0)
    zoo.assert_same(optimizer.averages, before, 0.0)


def test_a_variable_without_gradient_and_a_sparse_one():
    variables = weights()
    optimizer = FPTT(SGD(0.1))
    row = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), (3, 2))
    dense = tf.convert_to_tensor(row)
    first = variables[1].numpy()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        run(optimizer, [[row, None], [row, None]], variables)
    expected = weights()
    twin = FPTT(SGD(0.1))
    for _ in range(2):
        twin.apply([dense], expected[:1])
    zoo.assert_same(variables[:1], expected[:1])
    np.testing.assert_array_equal(variables[1].numpy(), first)
    optimizer.average()
    np.testing.assert_array_equal(variables[1].numpy(), first)
