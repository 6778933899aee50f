"""The dynamic regulariser of FPTT as pure functions."""

from keras_seqgrad.tensors import arguments

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
    arguments.choice(form, "form", tuple(FORMS))
    arguments.number(alpha, "alpha", above=0)
    arguments.number(beta, "beta", above=0, most=1)
    arguments.number(weight, "weight", least=0, wanted="a number 0 or more")
    arguments.number(rho, "rho", least=0, most=1)
