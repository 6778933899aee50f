"""Runs the Python blocks of a page in order, as one program.

    python examples/page.py docs/tutorials/forecasting.md
    python examples/page.py docs/tutorials/forecasting.md SEEDS=1 UNITS=32

NAME=VALUE gives another value, in Python, to what a line `NAME = ...` of the
page sets. A value that is no Python is taken for a text: PATH=my/series.csv.
"""

import ast
import pathlib
import re
import sys

BLOCKS = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def code_of(path):
    """The Python blocks of a page as one text."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    return "\n".join(BLOCKS.findall(text))


def with_settings(code, settings):
    """The code with other values in its lines `NAME = ...`.

    Raises:
        ValueError: A name is not set by exactly one line of its own.
    """
    for name, value in settings.items():
        line = re.compile(rf"^{re.escape(name)} = .*$", re.M)
        found = len(line.findall(code))
        if found != 1:
            raise ValueError(
                "Each name must be one that the page sets once, in a line "
                f"`NAME = ...` of its own. Received: {name!r}, which it sets "
                f"{found} times"
            )
        code = line.sub(lambda _, new=f"{name} = {value!r}": new, code)
    return code


def given(arguments):
    """The settings of a command line."""
    settings = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        try:
            settings[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            settings[name] = value
    return settings


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    page, *arguments = sys.argv[1:]
    exec(with_settings(code_of(page), given(arguments)), {})
