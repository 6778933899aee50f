"""The site builds, fetches nothing from elsewhere, and its tables fit."""

import functools
import http.server
import importlib.util
import json
import os
import pkgutil
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.public_names import public_names

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDED = ["mkdocs", "material", "mkdocstrings"]
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

needs_mkdocs = pytest.mark.skipif(
    bool(MISSING), reason=f"the extra `docs` is not installed: {MISSING}"
)
# What a browser loads by itself; links are left to the reader.
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?P<source>[^\s\">]+)"
    r"|<link\b(?=[^>]*\brel=\"?(?:stylesheet|preconnect|icon|preload))[^>]*"
    r"\bhref=\"?(?P<link>[^\s\">]+)"
)
IN_STYLES = re.compile(r"url\(\s*[\"']?((?:https?:)?//[^)]+)|@import")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; keeps what pages post, and ask for in vain."""

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.results.put(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    def send_error(self, code, *args):
        self.server.missing.append(self.path)
        super().send_error(code, *args)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that a strict build has written."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d"]
    result = subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def pages(site):
    return sorted(site.rglob("*.html"))


def test_the_reference_has_every_public_name():
    text = "".join(p.read_text() for p in (ROOT / "docs/api").glob("*.md"))
    shown = re.findall(r"^::: (\S+)\n +options:\n +heading: (\S+)$", text, re.M)
    assert len(shown) == text.count(":::")
    found = {name: pkgutil.resolve_name(path) for path, name in shown}
    assert found == public_names()


@needs_mkdocs
@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    assert len(pages(site)) > 30
    for page in pages(site):
        loaded = [a or b for a, b in LOADED.findall(page.read_text())]
        assert loaded
        assert [address for address in loaded if "//" in address] == []
    for style in site.rglob("*.css"):
        assert IN_STYLES.findall(style.read_text()) == []


@needs_mkdocs
@pytest.mark.slow
def test_no_page_can_be_edited(site):
    for page in pages(site):
        assert "Edit this page" not in page.read_text()


@needs_mkdocs
@pytest.mark.slow
def test_the_search_knows_every_public_name_and_no_tex(site):
    index = site / "search" / "search_index.json"
    entries = json.loads(index.read_text())["docs"]
    titles = {entry["title"] for entry in entries}
    assert public_names().keys() - titles == set()
    assert [entry for entry in entries if "\\(" in entry["text"]] == []
    assert [entry for entry in entries if "\\frac" in entry["text"]] == []
    [table] = [each for each in entries if each["location"] == "#methods"]
    for name in ("BPTT", "SnAp", "UORO"):
        assert f"{name}(" in table["text"]


@needs_mkdocs
@pytest.mark.slow
def test_cells_know_their_column(site):
    text = (site / "benchmarks" / "index.html").read_text()
    cells = re.findall(r"<td[^>]*>", text)
    assert cells and all("data-label=" in cell for cell in cells)
    assert 'data-label="over PyTorch"' in text


@needs_mkdocs
@pytest.mark.slow
def test_doctests_of_the_reference_are_code(site):
    text = (site / "api" / "methods" / "index.html").read_text()
    assert "<blockquote>" not in text
    assert "{purpose}" not in (site / "api/layers/index.html").read_text()
    assert "checkpoint_every" in text


@pytest.fixture(scope="module")
def seen(site, tmp_path_factory):
    """What a browser saw of every page, narrow and wide, and asked in vain."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    names = [str(p.parent.relative_to(site)) for p in pages(site)]
    addresses = [f"{name}/" for name in names]
    (site / "pages.json").write_text(json.dumps(addresses))
    shutil.copy(HERE / "measure.html", site)
    handler = functools.partial(Handler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.results, server.missing = queue.Queue(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu"]
    options += ["--remote-debugging-port=0", "--window-size=1400,1000"]
    options += [f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]
    address = f"http://127.0.0.1:{server.server_port}/measure.html"
    browser = subprocess.Popen(
        [CHROMIUM, *options, address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        results = server.results.get(timeout=120)
    finally:
        os.killpg(browser.pid, signal.SIGTERM)
        browser.wait()
        server.shutdown()
        server.server_close()
        (site / "measure.html").unlink()
    assert len(results) == 2 * len(addresses)
    return results, server.missing


@needs_mkdocs
@pytest.mark.slow
def test_no_table_or_formula_is_wider_than_its_page(seen):
    results, _ = seen
    assert sum(result["tables"] for result in results) > 60
    wide = [(r["page"], r["width"], r["found"]) for r in results]
    assert [each for each in wide if each[2]] == []


@needs_mkdocs
@pytest.mark.slow
def test_every_formula_is_rendered(seen):
    results, _ = seen
    assert sum(result["formulas"] for result in results) > 200
    assert [result for result in results if result["raw"]] == []


@needs_mkdocs
@pytest.mark.slow
def test_a_browser_asks_no_other_host_and_finds_all(seen):
    results, missing = seen
    assert [result for result in results if result["foreign"]] == []
    assert missing == []
