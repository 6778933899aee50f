"""TPROP against BPTT, truncated BPTT and a recurrence worked by hand."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, TargetPropagation, TruncatedBPTT
from tests import zoo

FIT = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}


def compiled(network, method, jit=False, rate=0.1, eagerly=False, **options):
    model = SequenceModel.from_model(network, **options)
    model.compile(
        keras.optimizers.SGD(rate),
        "mse",
        method=method,
        jit_compile=jit,
        run_eagerly=eagerly,
    )
    return model


def gradients(network, method, x, y, weight=None, eagerly=False):
    model = compiled(network, method, eagerly=eagerly)
    return model.estimate_gradients(x, y, weight)


def distance(found, expected):
    """Relative distance of two gradients."""
    found, expected = (
        np.concatenate([np.ravel(part) for part in parts])
        for parts in (found, expected)
    )
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


# --- the limits ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in zoo.KINDS if k != "gru_before"])
def test_true_states_and_no_multipliers_are_truncated_bptt(kind):
    """One step from the states of a forward pass, 7 steps in blocks of 3."""
    x, y = zoo.data()
    network = zoo.network(kind, layers=2 if kind == "lstm" else 1)
    weight = np.random.default_rng(0).random((zoo.BATCH, zoo.STEPS))
    mask = np.ones((zoo.BATCH, zoo.STEPS), bool)
    mask[1, 2:4] = mask[2, 5:] = False
    reset = np.zeros_like(mask)
    reset[0, 3] = reset[2, 1] = True
    given = {"inputs": x, "mask": mask, "reset": reset}
    data = given, y, weight.astype("float32")
    expected = gradients(network, TruncatedBPTT(3), *data, eagerly=True)
    found = gradients(network, TargetPropagation(3, parameter_steps=1), *data)
    zoo.assert_same(found[1], expected[1])
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-6)
    if kind != "lstm":
        return
    method = TargetPropagation(3, parameter_steps=3, state_rate=0.3)
    more = gradients(network, method, *data, eagerly=True)
    assert zoo.differ(more[1], expected[1])


def test_one_target_a_sequence():
    x, y = zoo.data(6, per_sequence=True)
    network = zoo.network("gru", per_sequence=True)
    _, expected = gradients(network, TruncatedBPTT(3), x, y)
    method = TargetPropagation(3, parameter_steps=1)
    _, found = gradients(network, method, x, y)
    zoo.assert_same(found, expected)
    # Targets that move bring the loss of the last block to the first.
    method = TargetPropagation(3, state_rate=1.0, state_optimizer="sgd")
    _, moved = gradients(network, method, x, y)
    _, exact = gradients(network, BPTT(), x, y)
    assert distance(moved, exact) < 0.8 * distance(found, exact)


@pytest.mark.slow
def test_a_window_of_one_block_is_bptt():
    x, y = zoo.data()
    network = zoo.network("lstm")
    _, expected = gradients(network, BPTT(), x, y)
    steps = {"parameter_steps": 2}
    for scheme in ("penalty", "lagrangian", "admm"):
        more = steps | ({"state_steps": 2} if scheme == "admm" else {})
        method = TargetPropagation(zoo.STEPS, scheme, start="zero", **more)
        zoo.assert_same(gradients(network, method, x, y)[1], expected)
    method = TargetPropagation(zoo.STEPS - 1, start="zero", **steps)
    assert zoo.differ(gradients(network, method, x, y)[1], expected)


def converged(penalty, **options):
    """ADMM that does not move parameters before its targets have converged."""
    return TargetPropagation(
        3,
        "admm",
        penalty,
        state_steps=100,
        state_optimizer="sgd",
        state_rate=0.25 / penalty,
        **options,
    )


@pytest.mark.compiled
def test_a_large_penalty_approaches_bptt():
    x, y = zoo.data(6)
    network = zoo.network("simple_rnn")
    _, exact = gradients(network, BPTT(), x, y, eagerly=True)
    _, cut = gradients(network, TruncatedBPTT(3), x, y, eagerly=True)
    errors = []
    for penalty in (10.0, 100.0):
        # Before the epoch from which multipliers move, they are 0.
        method = converged(penalty, multipliers_from=1)
        errors.append(distance(gradients(network, method, x, y)[1], exact))
    # The error goes with 1 / penalty, and ends far below truncation's.
    assert errors[1] < 0.15 * errors[0]
    assert errors[1] < 0.05 * distance(cut, exact)
    # Multipliers do that without a large penalty.
    method = converged(10.0, rounds=3)
    assert distance(gradients(network, method, x, y)[1], exact) < (
        0.5 * errors[0]
    )


# --- by hand ---------------------------------------------------------------


class ByHand:
    """h_t = w h_(t-1) + v x_t, outputs h_t, in three blocks of two steps.

    For a row, with targets p_1 and p_2 between the blocks, block b runs

        a = w p_b + v x,  c = w a + v x'      from p_0 = 0
        l_b = ((a - y)^2 + (c - y')^2) / 2

    and binds with  penalty/2 (c + u_b - p_(b+1))^2. So, with d the derivative
    of the row's sum by c and a,

        d_c = c - y' + penalty (c + u_b - p_(b+1))      d_a = a - y + w d_c
        by p_b: w d_a - penalty (c_(b-1) + u_(b-1) - p_b)
        by w: d_a p_b + d_c a           by v: d_a x + d_c x'
    """

    def __init__(self, method, x, y, rate):
        self.method, self.rate = method, rate
        self.x, self.y = x[..., 0].astype("float64"), y[..., 0]
        self.w, self.v = 0.8, 0.5
        self.p = np.zeros((len(x), 2))
        self.u = np.zeros((len(x), 2))
        self.squares = np.full((len(x), 2), 0.1)
        if method.start == "forward":
            for block in range(2):  # the second starts from the first's end
                self.p[:, block] = self.ends()[:, block]

    def ends(self):
        return self.run()[1]

    def run(self):
        starts = np.concatenate([np.zeros((len(self.p), 1)), self.p], axis=1)
        a = self.w * starts + self.v * self.x[:, 0::2]
        return a, self.w * a + self.v * self.x[:, 1::2], starts

    def step(self, parameters, targets):
        a, c, starts = self.run()
        pull = self.method.penalty * (c[:, :2] + self.u - self.p)
        d_c = c - self.y[:, 1::2]
        d_c[:, :2] += pull
        d_a = a - self.y[:, 0::2] + self.w * d_c
        by_p = self.w * d_a[:, 1:] - pull
        # The window's loss is a mean over rows and blocks.
        by_w = (d_a * starts + d_c * a).sum() / a.size
        by_v = (d_a * self.x[:, 0::2] + d_c * self.x[:, 1::2]).sum() / a.size
        if targets:
            self.squares += by_p**2
            if self.method.state_optimizer == "adagrad":
                by_p = by_p / np.sqrt(self.squares)
            self.p = self.p - self.method.state_rate * by_p
        if parameters:
            self.w -= self.rate * by_w
            self.v -= self.rate * by_v

    def window(self):
        apart = self.method.scheme == "admm"
        for _ in range(self.method.rounds or 1):
            for _ in range(self.method.state_steps or 0):
                self.step(parameters=False, targets=True)
            for _ in range(self.method.parameter_steps):
                self.step(parameters=True, targets=not apart)
            if self.method.scheme == "penalty":
                continue
            gap = self.ends()[:, :2] - self.p
            if self.method.multiplier_form == "code":
                gap = 0.1 * self.method.penalty * (gap + self.u) / 2
            self.u = self.u + gap


def linear(method, jit=False):
    network = keras.Sequential(
        [
            keras.Input((6, 1)),
            keras.layers.SimpleRNN(
                1, activation=None, use_bias=False, return_sequences=True
            ),
        ]
    )
    network.set_weights([np.array([[0.5]]), np.array([[0.8]])])
    return compiled(network, method, jit)


@pytest.mark.parametrize(
    "method, jit",
    [
        (TargetPropagation(2, penalty=2.0, state_rate=0.3), False),
        (
            TargetPropagation(
                2,
                "lagrangian",
                0.7,
                parameter_steps=2,
                rounds=3,
                state_rate=0.3,
                multiplier_form="code",
            ),
            False,
        ),
        (
            TargetPropagation(
                2,
                "admm",
                1.5,
                parameter_steps=2,
                state_steps=3,
                rounds=3,
                start="zero",
                state_optimizer="sgd",
            ),
            True,
        ),
    ],
    ids=["penalty", "lagrangian", "admm"],
)
def test_a_scalar_linear_recurrence_by_hand(method, jit):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 4, 6, 1)).astype("float32")
    model = linear(method, jit)
    hand = ByHand(method, x, y, 0.1)
    hand.window()
    model.train_on_batch(x, y)
    found = [float(v.numpy().item()) for v in model.trainable_variables]
    assert found == pytest.approx([hand.v, hand.w], rel=1e-5)
    # The control: what multipliers, or the penalty, have done.
    other = ByHand(method, x, y, 0.1)
    other.method = TargetPropagation(2, penalty=1e-9)
    other.window()
    assert abs(other.w - hand.w) > 1e-3
