"""Packages that some results ask for and that need not be installed."""

import importlib


def require(module, command):
    """Imports a module, or says how to install it.

    Args:
        module: Name of the module.
        command: What installs it.

    Example:

    >>> require("json", "pip install json").dumps(1)
    '1'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module.split('.')[0]}, which is not installed. "
            f"Install it with: {command}"
        ) from error
