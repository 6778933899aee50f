import json
import re

import pytest

from tests.examples import script

PAGE = script.ROOT / "docs" / "tutorials" / "endless_streams.md"
RESULTS = sorted((script.ROOT / "docs" / "results").glob("online_*.json"))
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
SMALL = {
    "UNITS, WINDOWS = 200, 32, 32, 50": "UNITS, WINDOWS = 10, 2, 2, 4",
    "(batch + 1) % 10": "(batch + 1) % 2",
    "save_freq=5": "save_freq=1",
    "delay=(40, 50)": "delay=(4, 6)",
    "jit_compile=True": "jit_compile=False",
}


@pytest.mark.slow
def test_the_blocks_run_in_order(tmp_path, monkeypatch, capsys, eagerly):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(BLOCKS)
    for full, small in SMALL.items():
        assert code.count(full) == 1
        code = code.replace(full, small)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("SnAp(length=10) [0.")
    assert printed[1].startswith("TruncatedBPTT(length=20) [0.")
    same = "the same weights: True"
    assert printed[2:] == ["stopped", same, same]


def test_tables_are_those_of_the_results():
    example, page = script.load("online_stream"), PAGE.read_text()
    assert RESULTS
    for path in RESULTS:
        written = json.loads(path.read_text())
        assert example.summarise(written["runs"]) in page, path.name
