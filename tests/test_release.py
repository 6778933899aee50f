"""What a release says of itself agrees, and holds what its tests read."""

import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.matrix import ROWS, SHORTER

ROOT = Path(__file__).parent.parent
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = METADATA["project"]


def read(name):
    return (ROOT / name).read_text()


def test_the_changelog_has_the_version_and_its_day():
    headings = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.M)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(
        rf"\[{re.escape(PROJECT['version'])}\] - \d{{4}}-\d\d-\d\d", headings[1]
    )


def test_pins_are_what_the_matrix_runs():
    """The first of its rows, in the metadata, README and CONTRIBUTING."""
    python, tensorflow, keras = ROWS[0]
    assert PROJECT["requires-python"] == f">={python}"
    assert f"keras>={keras}" in PROJECT["dependencies"]
    extras = PROJECT["optional-dependencies"]
    modules = {"gpu": "tensorflow[and-cuda]"}
    for name in "tensorflow", "tensorflow-cpu", "gpu":
        found = modules.get(name, name)
        assert extras[name] == [f"{found}>={tensorflow}"]
    said = f"Keras {keras} and TensorFlow {tensorflow}, or later ones"
    assert said in read("README.md") and said in read("docs/index.md")
    rows = re.findall(r"^\| (3\.\d+) \| (\S+) \| (\S+) \|", table(), re.M)
    assert rows == ROWS


def table():
    text = read("CONTRIBUTING.md")
    return text[text.index("## Run the tests on other versions") :]


def test_every_python_of_the_matrix_is_classified():
    named = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if "::" in c}
    assert {python for python, _, _ in ROWS} <= named


def test_the_matrix_finds_what_it_shortens():
    for whole, _ in SHORTER:
        assert read("README.md").count(whole) == 1


def test_the_sdist_holds_all_that_is_kept():
    """Every file under version control is named by MANIFEST.in, or built in."""
    if not (ROOT / ".git").exists():
        pytest.skip("no working copy")
    result = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    )
    kept = {path.split("/")[0] for path in result.stdout.split()}
    words = set(re.findall(r"\S+", read("MANIFEST.in")))
    always = {"keras_seqgrad", "pyproject.toml", "setup.py", "README.md"}
    assert kept - words - always == {"LICENSE", "MANIFEST.in"}


def test_links_of_the_readme_on_pypi():
    """Relative as long as there is no address, then none of them."""
    description = runpy.run_path(str(ROOT / "setup.py"))["description"]
    readme = read("README.md")
    assert description(readme, PROJECT | {"urls": {}}) == readme
    urls = {"Source": "https://example.org/owner/keras_seqgrad/"}
    given = description(readme, PROJECT | {"urls": urls})
    files = f"{urls['Source']}blob/v{PROJECT['version']}/"
    assert f"]({files}docs/which_method.md)" in given
    links = re.findall(r"\]\(([^)]*)\)", readme)
    relative = [link for link in links if not link.startswith("http")]
    assert len(relative) > 40
    assert given.count(f"]({files}") == len(relative)
