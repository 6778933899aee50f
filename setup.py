"""The metadata is in pyproject.toml; README's links are completed here."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent
RELATIVE = re.compile(r"\]\((?!\w+:|#)")


def description(readme, project):
    """README as PyPI shows it, where relative links lead nowhere.

    They lead to the version's files at `Source` of `[project.urls]`; as long as
    the project has no address they stay what they are.
    """
    source = project.get("urls", {}).get("Source")
    if source is None:
        return readme
    files = f"{source.rstrip('/')}/blob/v{project['version']}/"
    return RELATIVE.sub(f"]({files}", readme)


if __name__ == "__main__":
    from setuptools import setup

    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    setup(
        long_description=description(
            (ROOT / "README.md").read_text("utf-8"), metadata["project"]
        ),
        long_description_content_type="text/markdown",
    )
