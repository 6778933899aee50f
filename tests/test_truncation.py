import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.truncation import Fixed, Random

LAWS = [Random(6, alpha=4.0), Random(6, alpha=6.0), Random(6, alpha=None)]
LAWS += [Random(6, hazard=0.5), Random(6, alpha=None, hazard=0.4)]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_mean_length_of_the_law(law):
    ages = np.arange(1, 4_000_000)
    survival = np.cumprod(1.0 - law.cut_probability(ages))
    assert 1.0 + survival.sum() == pytest.approx(6.0, rel=1e-4)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_drawn_lengths_follow_the_law(law):
    lengths = law.draw_lengths(200_000, np.random.default_rng(0))
    ages = np.arange(1, 6)
    cut = law.cut_probability(ages)
    expected = cut * np.concatenate([[1.0], np.cumprod(1.0 - cut)[:-1]])
    found = [(lengths == age).mean() for age in ages]
    np.testing.assert_allclose(found, expected, atol=0.004)


def test_cut_probability_by_hand():
    assert Random(50, alpha=4.0).cut_probability(2) == pytest.approx(3 / 102)
    assert Random(50, alpha=None).cut_probability(9) == pytest.approx(1 / 50)


def test_few_lengths_by_hand():
    law = Random(50, alpha=4.0, hazard=0.5)
    ratio = 2 ** (1 / 3)
    scale = 0.5 * ratio / (ratio - 1) - 1
    first = int(0.5 * scale * 50 / (scale + 0.5))
    second = first + int(0.5 * (scale * 50 + first) / (scale + 0.5))
    assert (first, second) == (18, 41)
    ages = np.arange(1, 60)
    chances = law.cut_probability(ages)
    assert ages[chances > 0].tolist() == [18, 41]
    expected = 23 * (scale + 1) / (scale * 50 + 41)
    assert chances[40] == pytest.approx(expected)
    constant = Random(50, alpha=None, hazard=0.5)
    assert constant.cut_probability(75) == pytest.approx(0.5)
    assert constant.cut_probability(74) == 0.0


def test_few_lengths_have_the_tail_of_all():
    """Links far off are worth as much but for a factor that does not grow."""
    lengths = np.arange(1, 3000)
    few, all_of_them = (
        np.cumprod(1.0 - Random(50, hazard=hazard).cut_probability(lengths))
        for hazard in (0.5, None)
    )
    ratio = few / all_of_them
    assert 0.35 < ratio.min() < ratio.max() < 2.1
    # Negative control: the same under another exponent.
    other = np.cumprod(1.0 - Random(50, 5.0, 0.5).cut_probability(lengths))
    assert (other / all_of_them).min() < 0.1


@pytest.mark.compiled
@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("rows", [None, 4000])
def test_gates_are_cuts_or_their_compensation(law, rows):
    steps = 12 if rows else 4000
    draw = tf.function(lambda seed: law.gates(steps, rows, seed))
    gates = np.atleast_2d(draw(tf.constant([3, 5])).numpy())
    np.testing.assert_array_equal(gates[:, 0], 1.0)
    age = np.ones(len(gates))
    for gate in gates[:, 1:].T:
        cut = gate == 0.0
        kept = 1.0 - law.cut_probability(age)
        np.testing.assert_allclose(gate[~cut], 1.0 / kept[~cut], rtol=1e-5)
        age = np.where(cut, 1.0, age + 1.0)
    # Every gate has the expectation 1; the first is no link of the law.
    assert gates[:, 1:].mean() == pytest.approx(1.0, abs=0.03)


def test_rows_have_cuts_of_their_own():
    gates = Random(3).gates(50, 2, tf.constant([1, 1])).numpy()
    assert (gates[0] != gates[1]).any()


@pytest.mark.compiled
def test_draws_repeat_with_their_seed_and_under_xla():
    law = Random(5)
    draw = tf.function(lambda seed: law.gates(30, None, seed), jit_compile=True)
    first = law.gates(30, None, tf.constant([7, 0])).numpy()
    np.testing.assert_allclose(draw(tf.constant([7, 0])), first, rtol=1e-6)
    assert (draw(tf.constant([7, 1])).numpy() != first).any()


def test_link_weights_are_the_gates_of_an_uncut_piece():
    law = Random(5, alpha=4.0)
    expected = [1.0, *(1.0 / (1.0 - law.cut_probability([1, 2, 3])))]
    np.testing.assert_allclose(law.link_weights(4), expected, rtol=1e-6)


def test_fixed_gates():
    assert Fixed(3).gates(7).numpy().tolist() == [1, 1, 1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Random(1), "`mean_length` must be more than 1 step"),
        (lambda: Random(5, alpha=2.0), "`alpha` must be more than 2"),
        (
            lambda: Random(5, hazard=1.0),
            "`hazard` must be 0.1 or more and below",
        ),
        (lambda: Fixed(0), "`length` must be an integer of 1 or more"),
        (lambda: Fixed(2.5), "Received: length=2.5"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("law", [*LAWS, Fixed(4)], ids=repr)
def test_round_trip(law):
    config = keras.saving.serialize_keras_object(law)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(law)
    assert again.get_config() == law.get_config()
