"""The code on pages runs, and prints what the pages say where they promise."""

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def read(name):
    return (ROOT / name).read_text()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.mark.slow
def test_coming_from_keras(capsys):
    """On shorter sequences."""
    text = read("docs/coming_from.md")
    code = "\n".join(blocks(text, "python"))
    whole = "ROWS, STEPS, LENGTH, EPOCHS = 8, 200, 20, 2"
    assert code.count(whole) == 1
    exec(code.replace(whole, "ROWS, STEPS, LENGTH, EPOCHS = 8, 12, 4, 2"), {})
    assert capsys.readouterr().out == "".join(blocks(text, "text"))


def test_code_of_others_is_python():
    for code in blocks(read("docs/coming_from.md"), "py"):
        compile(code, "their loop", "exec")


@pytest.mark.slow
def test_which_method(capsys):
    """On tiny models, whose advice is another."""
    text = read("docs/which_method.md")
    code = "\n".join(blocks(text, "python"))
    for whole, small in [
        (
            "EPOCHS, UNITS, STEPS = 32, 200_000, 4, 64, 100",
            "EPOCHS, UNITS, STEPS = 2, 40, 1, 2, 4",
        ),
        ("MarkedSymbol(30, delay=(40, 50))", "MarkedSymbol(8, delay=(3, 4))"),
    ]:
        assert code.count(whole) == 1
        code = code.replace(whole, small)
    code = code.replace("jit_compile=True", "jit_compile=False")
    names = {}
    exec(code, names)
    printed = capsys.readouterr().out
    assert printed.count("advice      ") == text.count("\nadvice      ") == 4
    assert names["advice"].numbers["stateful"]


def reasons(text):
    """From the title to what a page has alone."""
    text = text[: text.index("## Install")]
    return text.replace("](docs/", "](")


def test_readme_and_front_page_give_the_same_reasons():
    readme, front = read("README.md"), read("docs/index.md")
    assert reasons(readme) == reasons(front)
    tables = [re.findall(r"^\|.*\|$", t, re.M) for t in (readme, front)]
    assert [row.replace("](docs/", "](") for row in tables[0]] == tables[1]


def test_every_reason_names_its_figure():
    """The figures of the first page are those of the pages it names."""
    figures = {
        "benchmarks.md": ["| 122 |", "| 951 |", "| 0.48 |", "| 1.73 |"],
        "methods/snap.md": ["| 5,824 | 1.000 |", "| 6,400 | .129 |"],
        "methods/artbp.md": ["| −22.00 |", "| +24.97 ± 7.95 |"],
    }
    for page, found in figures.items():
        text = read(f"docs/{page}")
        assert [figure for figure in found if figure not in text] == []


def test_names_on_pages_exist():
    """What pages call `ksg.…` is there; files and folders are not meant."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "docs").rglob("*.ipynb")
    names = set()
    for page in pages:
        names |= set(re.findall(r"\bksg((?:\.\w+)+)", page.read_text()))
    assert len(names) > 80
    wrong = []
    for name in sorted(names):
        try:
            pkgutil.resolve_name(f"keras_seqgrad{name}")
        except (AttributeError, ImportError):
            wrong.append(name)
    assert wrong == []


def test_every_page_is_in_the_contents():
    written = {
        str(page.relative_to(ROOT / "docs"))
        for page in (ROOT / "docs").rglob("*.md")
    }
    listed = re.findall(r"(?:: |- )(\S+\.md)$", read("mkdocs.yml"), re.M)
    assert sorted(listed) == sorted(written)


def test_links_of_the_first_page_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", read("README.md")):
        assert "//" in link or (ROOT / link.partition("#")[0]).exists(), link


def test_files_named_on_pages_exist():
    folders = "benchmarks|docs|examples|keras_seqgrad|tests"
    named = re.compile(rf"\b(?:{folders})/[\w/]+\.(?:py|md|json)\b")
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    files = {name for page in pages for name in named.findall(page.read_text())}
    assert len(files) > 40
    assert {name for name in files if not (ROOT / name).exists()} == set()
