"""The site: it is built without a warning, has each page, and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.documents.blocks import PROJECT

import chunkspool.integrations
import chunkspool.testing
import chunkspool.web
import chunkspool.worker

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
"""What a browser fetches without being asked, and from where; of `link` all but the canonical address."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make site` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    # Material for MkDocs would advertise its successor.
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.strip() == ""
    return folder


class Loads(HTMLParser):
    """Collects what a page loads. Feed it the page."""

    def __init__(self) -> None:
        """Nothing is found yet."""
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address, if the tag loads something."""
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and values.get("rel") != "canonical":
            self.found.append(values.get("href", ""))
        elif tag in LOADED:
            self.found.append(values.get(LOADED[tag], ""))


def loads_of(site: Path) -> Iterator[tuple[Path, str]]:
    """Yield each address that a page or a style sheet of the site loads."""
    for page in site.rglob("*.html"):
        parser = Loads()
        parser.feed(page.read_text())
        yield from ((page, address) for address in parser.found)
    for style in site.rglob("*.css"):
        for address in re.findall(r"url\(['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", style.read_text()):
            yield style, "".join(address)


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    """Scripts, styles, fonts and images are the site's own, so it can be read without a network."""
    loads = list(loads_of(site))
    assert len(loads) > 100
    foreign = [(page, address) for page, address in loads if re.match(r"(https?:)?//", address)]
    assert foreign == []


def test_a_foreign_address_would_be_found(tmp_path: Path) -> None:
    """The test above looks at what a browser looks at: scripts, styles, images, fonts, imports."""
    tags = '<script src="//a.example/x.js"></script><link rel="stylesheet" href="https://b.example"><img src="https://c.example">'
    (tmp_path / "page.html").write_text(tags)
    (tmp_path / "style.css").write_text('@import "https://d.example"; a { src: url(https://e.example) }')
    assert sorted(re.findall(r"\w\.example", " ".join(address for _, address in loads_of(tmp_path)))) == [
        f"{letter}.example" for letter in "abcde"
    ]


def test_the_reference_has_every_public_name(site: Path) -> None:
    """Each name that a package lists as its own has a place in the reference."""
    for package in (chunkspool, chunkspool.web, chunkspool.worker, chunkspool.integrations, chunkspool.testing):
        page = package.__name__.rpartition(".")[2]
        text = (site / "reference" / "python" / page / "index.html").read_text()
        # A function may have the name of its module; the site then has it one level deeper.
        found = re.findall(rf'id="{package.__name__}\.(?:\w+\.)?(\w+)"', text)
        assert set(package.__all__) <= set(found), package


def test_every_page_is_there_and_can_be_found(site: Path) -> None:
    """Each Markdown file of docs/ is a page, and the search's index has words of it."""
    pages = [page.relative_to(PROJECT / "docs") for page in (PROJECT / "docs").rglob("*.md")]
    index = (site / "search" / "search_index.json").read_text()
    assert len(pages) > 50
    for page in pages:
        folder = page.parent if page.name == "README.md" else page.with_suffix("")
        assert (site / folder / "index.html").is_file(), page
        assert f'"location":"{"" if str(folder) == "." else f"{folder}/"}"' in index, page


def test_the_drawings_follow_the_scheme(site: Path) -> None:
    """They are part of their pages, so that the toggle of light and dark reaches them."""
    assert 'class="drawing"' in (site / "concepts" / "log" / "index.html").read_text()
    assert "--paper" in (site / "assets" / "site.css").read_text()


def test_examples_can_be_read_there(site: Path) -> None:
    """What lies outside of docs/ and is linked from it is a page, too; the links of such a page lead back."""
    example = site / "project" / "examples" / "quickstart.py" / "index.html"
    assert "create_app" in example.read_text()
    assert 'href="../reference/http/"' in (site / "project" / "index.html").read_text()
