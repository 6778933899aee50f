"""Statistics of estimates, on numbers drawn here."""

import numpy as np
import pytest

from keras_seqgrad.diagnostics.quality import Deviations, moments

GENERATOR = np.random.default_rng(0)
SIZES = (7, 13)


def gradients(scale=1.0):
    return [scale * GENERATOR.normal(size=size) for size in SIZES]


def collect(exact, estimates):
    deviations = Deviations(exact, len(estimates))
    for estimate in estimates:
        deviations.add(estimate)
    return deviations


@pytest.mark.parametrize("count", [3, 16, 21])
def test_measures_by_hand(count):
    exact = gradients()
    estimates = [gradients(0.5) for _ in range(count)]
    found = collect(exact, estimates).quality([0, 1])
    g = np.concatenate(exact)
    drawn = np.array([np.concatenate(each) for each in estimates])
    norms = np.linalg.norm(drawn, axis=1)
    norm = np.linalg.norm(g)
    variance = drawn.var(axis=0, ddof=1).sum() / norm**2
    offset = np.sum((drawn.mean(axis=0) - g) ** 2) / norm**2
    expected = {
        "exact_norm": norm,
        "cosine": np.mean(drawn @ g / norms) / norm,
        "norm_ratio": np.sqrt(np.mean(norms**2)) / norm,
        "relative_variance": variance,
        "squared_bias": offset - variance / count,
        "relative_bias": 0.0,
    }
    error = found.squared_bias_error
    assert error > 0
    if offset - variance / count > 2 * error:
        expected["relative_bias"] = np.sqrt(offset - variance / count)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5), name
    share = expected["relative_bias"] ** 2
    assert found.bias_share == pytest.approx(share / (share + variance))
    first = collect(exact, estimates).quality([0])
    assert first.exact_norm == pytest.approx(np.linalg.norm(exact[0]))
    errors = np.linalg.norm(drawn - g, axis=1) / norm
    np.testing.assert_allclose(collect(exact, estimates).errors(), errors)


@pytest.mark.parametrize("bias", [0.0, 0.6])
def test_squared_bias_is_unbiased_and_its_error_right(bias):
    """Over many experiments; without bias the jackknife errs upward."""
    exact = [np.full(20, 1 / np.sqrt(20))]
    shift = np.zeros(20)
    shift[0] = bias
    found, errors = [], []
    for _ in range(400):
        noise = 0.3 * GENERATOR.normal(size=(16, 20))
        estimates = [[row] for row in exact[0] + shift + noise]
        quality = collect(exact, estimates).quality([0])
        found.append(quality.squared_bias)
        errors.append(quality.squared_bias_error)
    spread = np.std(found)
    assert abs(np.mean(found) - bias**2) < 3 * spread / 20
    # The naive estimate would be off by V / n.
    assert 20 * 0.3**2 / 16 > 10 * spread / 20
    ratio = np.sqrt(np.mean(np.square(errors))) / spread
    assert 0.85 < ratio < (1.2 if bias else 1.7)


@pytest.mark.parametrize("size", [1, 30])
@pytest.mark.parametrize("count", [8, 16])
def test_a_bias_is_found_where_there_is_one(count, size):
    """By two standard errors; Gaussian noise, as large as the gradient."""
    exact = [np.ones(size) / np.sqrt(size)]
    rates = {}
    for bias in (0.0, 2.5):
        found = []
        for _ in range(300):
            noise = GENERATOR.normal(size=(count, size)) / np.sqrt(size)
            drawn = [[row] for row in (1 + bias) * exact[0] + noise]
            quality = collect(exact, drawn).quality([0])
            lower, upper = quality.bias_range
            assert lower <= quality.relative_bias <= upper
            if quality.relative_bias == 0.0:
                assert quality.bias_share == lower == 0.0 < upper
            found.append(quality.relative_bias > 0)
        rates[bias] = np.mean(found)
    assert rates[0.0] < 0.04 and rates[2.5] > 0.9, rates


def test_what_the_picture_and_the_boards_show():
    """By hand: mean 3 (2 from g = 1), V = 1, n = 4, jackknife of four."""
    drawn = [[np.array([v])] for v in (2.0, 3.0, 3.0, 4.0)]
    found = collect([np.array([1.0])], drawn).quality([0])
    variance = 2 / 3
    assert found.squared_bias == pytest.approx(4 - variance / 4)
    # The mean without each, less its own variance over three.
    ones = [(7 / 3) ** 2 - 1 / 9, 4 - 1 / 3, 4 - 1 / 3, (5 / 3) ** 2 - 1 / 9]
    error = np.sqrt(3 / 4 * np.sum((ones - np.mean(ones)) ** 2))
    assert found.squared_bias_error == pytest.approx(error)
    bounds = [np.sqrt(found.squared_bias + sign * error) for sign in (-1, 1)]
    assert found.bias_range == pytest.approx(bounds)
    # The same spread around g is no bias, only what one may hide in.
    found = collect([np.array([3.0])], drawn).quality([0])
    assert found.squared_bias == pytest.approx(-variance / 4 / 9)
    assert found.relative_bias == found.bias_share == 0.0
    hidden = np.sqrt(found.squared_bias_error)
    assert found.bias_range == pytest.approx((0.0, hidden))


def test_one_estimate_has_no_variance():
    exact = [np.array([3.0, 4.0])]
    found = collect(exact, [[np.array([3.0, 1.0])]]).quality([0])
    assert found.relative_bias == pytest.approx(0.6)
    assert found.bias_share == 1.0
    assert (found.relative_variance, found.squared_bias_error) == (0.0, 0.0)
    assert found.relative_bias_error == 0.0
    for _ in range(20):
        found = collect(gradients(), [gradients()]).quality([0, 1])
        assert found.bias_range == (found.relative_bias,) * 2


def test_rounding_is_no_bias():
    exact = [np.array([3.0, 4.0])]
    found = collect(exact, [[exact[0] * (1 + 1e-7)]]).quality([0])
    assert 0 < found.relative_bias < 1e-6 and found.bias_share == 0.0
    found = collect(exact, [[exact[0] * (1 + 1e-4)]]).quality([0])
    assert found.bias_share == 1.0


def test_no_gradient_to_compare_with():
    found = collect([np.zeros(2)], [[np.ones(2)]]).quality([0])
    assert np.isnan([found.cosine, found.relative_bias, found.norm_ratio]).all()


def test_moments_of_blocks_are_those_of_single_estimates():
    drawn = GENERATOR.normal(size=(12, 3)) + 0.5
    squares = np.sum(drawn**2, axis=1)
    blocks = np.array([drawn[k::4].sum(axis=0) for k in range(4)])
    single = moments(drawn @ drawn.T, squares)
    blocked = moments(blocks @ blocks.T, squares)
    np.testing.assert_allclose(single[:2], blocked[:2])
    # A quotient of two noisy numbers, so a wide one.
    assert 0.2 < blocked[2] / single[2] < 5
