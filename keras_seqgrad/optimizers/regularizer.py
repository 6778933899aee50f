"""The dynamic regulariser of FPTT as pure functions."""

import math
import numbers

# What the multiplier's term of the regulariser is worth in each form.
FORMS = {"code": 1.0, "paper": 0.5}


def regularizer_gradient(variable, multiplier, average, alpha, linear, weight):
    """Gradient of -linear <W, lambda> + weight alpha/2 ||W - average||^2."""
    return weight * alpha * (variable - average) - linear * multiplier


def moved(variable, multiplier, average, alpha, beta):
    """(multiplier, average) after an update that led to `variable`."""
    multiplier = multiplier - alpha * (variable - average)
    average = (
        (1.0 - beta) * average + beta * variable - (beta / alpha) * multiplier
    )
    return multiplier, average


def check_settings(alpha, beta, form, weight, rho):
    """Refuses settings of the regulariser that are out of their range."""
    if form not in FORMS:
        raise ValueError(
            f"`form` must be one of {tuple(FORMS)}. Received: form={form!r}"
        )
    for name, value, fits, range_text in [
        ("alpha", alpha, lambda x: x > 0, "above 0"),
        ("beta", beta, lambda x: 0 < x <= 1, "in (0, 1]"),
        ("weight", weight, lambda x: x >= 0, "0 or more"),
        ("rho", rho, lambda x: 0 <= x <= 1, "in [0, 1]"),
    ]:
        number = isinstance(value, numbers.Real) and math.isfinite(value)
        if not number or not fits(value):
            raise ValueError(
                f"`{name}` must be a number {range_text}. "
                f"Received: {name}={value!r}"
            )
