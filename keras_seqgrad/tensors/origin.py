"""Whose code something is."""


def is_own(code):
    """Whether a class or a function is the user's own.

    That is not Keras' nor this package's: nothing is known of it.
    """
    home = getattr(code, "__module__", None) or ""
    return home.partition(".")[0] not in ("keras", "keras_seqgrad")


def overrides(obj, method):
    """Whether a method of an object is written by the user."""
    return is_own(next(c for c in type(obj).__mro__ if method in vars(c)))
