"""Docstrings of this package as griffe reads them, for the reference."""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^Example:\n\n(?=>>> )(.*)\Z", re.S | re.M)


class Docstrings(griffe.Extension):
    """Gives an example its indented section, where doctests are code."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(section, obj.docstring.value)


def section(found):
    return "Examples:\n" + textwrap.indent(found[1], "    ")
