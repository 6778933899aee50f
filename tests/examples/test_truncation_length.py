import re

import pytest

from tests.examples import script

PAGE = script.ROOT / "docs" / "tutorials" / "truncation_length.md"
SOURCE = script.ROOT / "examples" / "truncation_length.py"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
SMALL = {
    "LENGTH, WINDOW, ROWS = 20, 200, 32": "LENGTH, WINDOW, ROWS = 2, 4, 2",
    "CHARACTERS, EPOCHS = 400_000, 2": "CHARACTERS, EPOCHS = 18, 1",
    "corpus.valid": "corpus.valid[:18]",
    "LSTM(128": "LSTM(4",
    "LENGTHS = (10, 20, 50, 100)": "LENGTHS = (2, 4)",
    "ARTBP(20)": "ARTBP(2)",
    "jit_compile=True": "jit_compile=False",
    "for length in (10, 50, 100)": "for length in (4,)",
    "for length in (50, 100)": "for length in (4,)",
    "stride=10": "stride=2",
    "max_share=None": "max_share=None, repeats=3, images=False",
    "compare = ksg.diagnostics.compare_gradients": """
def compare(*data, **options):
    return ksg.diagnostics.compare_gradients(*data, repeats=3, **options)
""",
}


def lines(code):
    return [line for line in code.splitlines() if line.strip()]


def test_the_page_and_the_script_are_the_same_code():
    code = re.sub(r'\A""".*?"""\n', "", SOURCE.read_text(), flags=re.S)
    assert lines("\n".join(BLOCKS)) == lines(code)


@pytest.mark.slow
def test_the_blocks_run_in_order(tmp_path, monkeypatch, capsys, eagerly):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(BLOCKS)
    for full, small in SMALL.items():
        assert code.count(full) == 1
        code = code.replace(full, small)
    names = {}
    exec(code, names)
    printed = capsys.readouterr().out
    scores = re.findall(r"(\d\.\d{3})(?: bits|\n)", printed)
    assert len(scores) >= 4
    assert names["found"]["BPTT"].relative_bias < 1e-5
    assert names["found"]["TBPTT 4"].relative_bias < 1e-5
    assert names["found"]["TBPTT 2"].relative_bias > 1e-3
    assert len(names["history"]["gradient_bias"]) == 2
    assert "TruncatedBPTT(length=4, stride=2)" in printed
    for name in ("influence.png", "gradients.png"):
        assert (tmp_path / "runs" / "truncation_length" / name).exists()
