"""What the site adds to the Markdown pages, when MkDocs builds it."""

import html
import re
from pathlib import Path

TABLE = re.compile(r"<table>.*?</table>", re.S)
ROW = re.compile(r"<tr>.*?</tr>", re.S)
FORMULA = re.compile(r"<(?:div|span) class=\"arithmatex\"")
CODE = re.compile(r"<code>[^<]+</code>")
HEADER = re.compile(r"<th[^>]*>(.*?)</th>", re.S)
NAME = re.compile(r"^\| `(ksg\.[\w.]+)` \|", re.M)
JOINT = re.compile(r"(?<!<)[(=._/]")
INDEX = "api.md"
# Pages of the reference say where the docstring of a public name is.
SHOWN = re.compile(r"^::: (\S+)\n    options:\n      heading: (ksg\S+)$", re.M)


def on_page_markdown(markdown, page, **_):
    """Names in the table of public names lead to their docstrings."""
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
