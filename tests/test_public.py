"""Every public name: documented in the source, in docs/ and in CHANGELOG.md."""

import inspect
import re
from pathlib import Path

import pytest

from tests.public_names import public_names

ROOT = Path(__file__).parent.parent
API = (ROOT / "docs" / "api.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
NAMES = public_names()

# Names with arguments that refuse nothing, and so have no section "Raises".
RAISES_NOTHING = {
    "ksg.data.text.Corpus",
    "ksg.data.text.bits",
    "ksg.diagnostics.Advice",
    "ksg.diagnostics.BoundaryGradients",
    "ksg.diagnostics.GradientComparison",
    "ksg.diagnostics.GradientQuality",
    "ksg.diagnostics.InfluenceProfile",
    "ksg.diagnostics.JacobianSpectrum",
}


def parameters(value):
    """Names of the arguments a user can give."""
    signature = inspect.signature(value)
    return [name for name in signature.parameters if name != "self"]


def has_section(value, title):
    text = inspect.getdoc(value)
    return re.search(rf"^{title}:\n+( +|>>> )\S", text, re.M) is not None


def test_the_pinned_names_are_there():
    pinned = [
        "ksg.SequenceModel",
        "ksg.data.stream",
        "ksg.data.text.get",
        "ksg.layers.GRU",
        "ksg.layers.LSTM",
        "ksg.layers.RNN",
        "ksg.layers.SimpleRNN",
        "ksg.methods.ARTBP",
        "ksg.methods.BPTT",
        "ksg.methods.RegularizedInversion",
        "ksg.methods.TruncatedBPTT",
        "ksg.methods.get",
        "ksg.truncation.Fixed",
        "ksg.truncation.Random",
    ]
    assert set(pinned) <= set(NAMES)


@pytest.mark.parametrize("name, value", NAMES.items())
def test_docstring_begins_with_one_line(name, value):
    lines = (value.__doc__ or "").splitlines()
    assert lines and lines[0].strip().endswith((".", ":"))
    assert len(lines) == 1 or lines[1].strip() == ""


@pytest.mark.parametrize("name, value", NAMES.items())
def test_docstring_has_its_sections(name, value):
    needed = ["Example"]
    if parameters(value):
        needed.append("Args")
        if name not in RAISES_NOTHING:
            needed.append("Raises")
    missing = [title for title in needed if not has_section(value, title)]
    assert missing == []


@pytest.mark.parametrize("name, value", NAMES.items())
def test_docstring_names_every_argument(name, value):
    given = [p for p in parameters(value) if p not in {"args", "kwargs"}]
    missing = [
        parameter
        for parameter in given
        if not re.search(rf"\b{parameter}\b", value.__doc__)
    ]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_has_a_row_in_the_docs(name):
    assert f"| `{name}` |" in API


@pytest.mark.parametrize("name", NAMES)
def test_is_in_the_changelog(name):
    assert f"`{name}`" in CHANGELOG


def test_the_docs_name_nothing_else():
    rows = re.findall(r"^\| `(ksg\.[\w.]+)` \|", API, flags=re.M)
    assert sorted(set(rows)) == sorted(NAMES)
    assert len(rows) == len(set(rows))
