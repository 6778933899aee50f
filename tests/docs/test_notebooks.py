"""Notebooks run from first to last cell, on less of everything."""

import json
import re
import runpy
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PROMISED = {
    "start": "the same predictions: True",
    "truncation_length": "advice      ",
    "endless_stream": "the same weights: True",
    "forecasting": "as a week ago",
}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    written = json.loads(path.read_text())["cells"]
    return [cell for cell in written if cell["cell_type"] == kind]


def test_there_are_four():
    assert {path.stem for path in NOTEBOOKS} == set(PROMISED)


def test_a_link_to_colab_beside_each_once_the_project_has_an_address():
    with_colab = runpy.run_path(str(ROOT / "docs" / "hooks.py"))["with_colab"]
    page = (ROOT / "docs" / "notebooks.md").read_text()
    assert with_colab(page, "") == page
    assert with_colab(page, "https://example.org/keras_seqgrad") == page
    given = with_colab(page, "https://github.com/owner/keras_seqgrad/")
    colab = "https://colab.research.google.com/github/owner/keras_seqgrad"
    for path in NOTEBOOKS:
        file = path.relative_to(ROOT)
        assert given.count(f"([in Colab]({colab}/blob/main/{file}))") == 1


@each
@pytest.mark.slow
def test_all_cells_run_in_order(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSG_SMALL", "1")
    matplotlib.use("agg")
    names = {}
    for cell in cells(path):
        code = compile("".join(cell["source"]), cell["id"], "exec")
        exec(code, names)
    drawn = names["plt"].get_fignums()
    names["plt"].close("all")
    assert drawn
    assert PROMISED[path.stem] in capsys.readouterr().out


@each
def test_kept_without_outputs(path):
    for cell in cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@each
def test_the_first_cell_installs(path):
    first, second, *_ = ["".join(cell["source"]) for cell in cells(path)]
    assert '"-m", "pip", "install"' in first and "keras_seqgrad" in first
    assert "import keras_seqgrad as ksg" in second


@each
def test_pages_that_are_named_exist(path):
    text = "".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    titles = {
        page.read_text().splitlines()[0].removeprefix("# ")
        for page in (ROOT / "docs").rglob("*.md")
    }
    assert set(re.findall(r"[Tt]he page \*(.+?)\*", text)) <= titles
