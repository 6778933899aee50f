"""What the site adds to the Markdown pages, when MkDocs builds it."""

import html
import re
import tomllib
from pathlib import Path

TABLE = re.compile(r"<table>.*?</table>", re.S)
ROW = re.compile(r"<tr>.*?</tr>", re.S)
FORMULA = re.compile(r"<(?:div|span) class=\"arithmatex\"")
CODE = re.compile(r"<code>[^<]+</code>")
HEADER = re.compile(r"<th[^>]*>(.*?)</th>", re.S)
NAME = re.compile(r"^\| `(ksg\.[\w.]+)` \|", re.M)
JOINT = re.compile(r"(?<!<)[(=._/]")
INDEX, NOTEBOOKS = "api.md", "notebooks.md"
# Pages of the reference say where the docstring of a public name is.
SHOWN = re.compile(r"^::: (\S+)\n    options:\n      heading: (ksg\S+)$", re.M)
NOTEBOOK = re.compile(r"\]\((notebooks/\w+\.ipynb)\)")
COLAB = "https://colab.research.google.com/github/"
GITHUB = "https://github.com/"


def addresses():
    """What `[project.urls]` of pyproject.toml has, nothing before a release."""
    path = Path(__file__).parent.parent / "pyproject.toml"
    return tomllib.loads(path.read_text())["project"].get("urls", {})


def on_config(config):
    """The site is where the project says that its documentation is."""
    config.site_url = addresses().get("Documentation", config.site_url)
    return config


def with_colab(markdown, source):
    """A link beside every notebook that opens it in Colab, from GitHub."""
    if not source.startswith(GITHUB):
        return markdown
    files = COLAB + source.removeprefix(GITHUB).rstrip("/") + "/blob/main/docs/"
    return NOTEBOOK.sub(rf"\g<0> ([in Colab]({files}\1))", markdown)


def on_page_markdown(markdown, page, **_):
    """Public names lead to their docstrings, and notebooks to Colab."""
    if page.file.src_uri == NOTEBOOKS:
        return with_colab(markdown, addresses().get("Source", ""))
    if page.file.src_uri != INDEX:
        return markdown
    texts = [p.read_text() for p in Path(__file__).parent.glob("api/*.md")]
    places = {name: at for text in texts for at, name in SHOWN.findall(text)}
    return NAME.sub(lambda m: f"| [`{m[1]}`][{places[m[1]]}] |", markdown)


def on_page_content(content, **_):
    """Tables fit narrow pages; the search finds words, not TeX."""
    content = FORMULA.sub(r"\g<0> data-search-exclude", content)
    return TABLE.sub(lambda found: breakable(labelled(found[0])), content)


def labelled(table):
    """A table whose cells say in `data-label` what their column is.

    A narrow page shows that beside them.
    """
    labels = [
        html.escape(html.unescape(re.sub(r"<[^>]+>", "", text)).strip())
        for text in HEADER.findall(table)
    ]

    def row(found):
        left = iter(labels)
        return re.sub(
            r"<td", lambda _: f'<td data-label="{next(left, "")}"', found[0]
        )

    return ROW.sub(row, table)


def breakable(table):
    """A table whose code may break where a name has its joints."""
    return CODE.sub(lambda code: JOINT.sub(r"\g<0><wbr/>", code[0]), table)
