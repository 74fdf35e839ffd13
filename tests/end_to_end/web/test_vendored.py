"""The page's vendored library is the published one, and is kept at the version whose licences lie beside it."""

from __future__ import annotations

import json
from pathlib import Path

from support.web.npm import install_packages
from support.web.proxies import FOLDER

VENDOR = Path(__file__).parents[3] / "chunkspool" / "web" / "static" / "vendor"


def test_markdown_it_is_unmodified() -> None:
    """Byte for byte what npm has, but for the last line, which names a file that is not served."""
    packages = install_packages(FOLDER)
    published = (packages / "markdown-it/dist/browser/markdown-it.esm.min.mjs").read_text()
    code, _, last_line = published.rstrip("\n").rpartition("\n")
    assert last_line.startswith("//# sourceMappingURL=")
    assert (VENDOR / "markdown-it.mjs").read_text() == f"{code}\n"


def test_each_licence_is_that_of_the_installed_version() -> None:
    """Of markdown-it and of the two packages that are built into it."""
    packages = install_packages(FOLDER)
    licences = (VENDOR / "markdown-it.LICENSE.txt").read_text()
    for name in ("markdown-it", "entities", "mdurl"):
        version = json.loads((packages / name / "package.json").read_text())["version"]
        assert f"== {name} {version}\n" in licences
        assert (packages / name / "LICENSE").read_text().strip() in licences
