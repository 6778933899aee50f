"""Docstrings share their texts without showing it."""

import re

import pytest

from keras_seqgrad.ops.documentation import filled
from tests.public_names import public_names


def test_a_line_becomes_its_text_as_far_to_the_right():
    @filled(rule="\nOne:\n    two.\n")
    def documented():
        """All.

        Args:
            {rule}
            {not} a line of its own.
        """

    lines = documented.__doc__.splitlines()[2:5]
    indent = len(lines[0]) - len("Args:")
    expected = ["Args:", "    One:", "        two."]
    assert [line[indent:] for line in lines] == expected
    assert "{not} a line" in documented.__doc__


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError, match="rle"):

        @filled(rule="One.")
        def documented():
            """
            {rle}
            """


@pytest.mark.parametrize("name, value", public_names().items())
def test_no_public_docstring_is_left_to_fill(name, value):
    assert not re.search(r"^ *\{\w+\}$", value.__doc__, flags=re.M)
