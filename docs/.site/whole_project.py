"""Brings into the site what lies outside of docs/ and is linked from there, so that one link works on both.

On a code host `../../examples/quickstart.py` is a file of the repository. Here it becomes a page that shows the file; a
folder becomes a page with all of its files; CHANGELOG.md and its like become pages as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]+)?\)")
FENCE = "`" * 4
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
"""In front of pages that show code: who searches wants to find what is written about it."""
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".html": "html", ".md": "markdown"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each linked file outside of docs/, and for those that they link in turn."""
    waiting = list(files.documentation_pages())
    while waiting:
        file = waiting.pop()
        for target in find_outside(PurePosixPath(file.src_uri), file.content_string):
            if files.get_file_from_path(name_of(target)) is None:
                made = File.generated(config, name_of(target), content=show(target))
                made.inclusion = InclusionLevel.NOT_IN_NAV
                files.append(made)
                waiting.append(made)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Lead links that leave docs/ to the pages that were made of their targets."""
    here = PurePosixPath(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        target = resolve(here, match[1])
        if target is None:
            return match[0]
        return f"]({posixpath.relpath(name_of(target), here.parent)}{match[2] or ''})"

    return LINK.sub(lead, markdown)


def find_outside(here: PurePosixPath, markdown: str) -> list[Path]:
    """Return what a page links outside of docs/."""
    targets = (resolve(here, match[1]) for match in LINK.finditer(markdown))
    return [target for target in targets if target is not None]


def resolve(here: PurePosixPath, link: str) -> Path | None:
    """Return the file or folder outside of docs/ that `link` leads to from the page `here`; None if it is inside."""
    at = posixpath.normpath(posixpath.join("docs", here.parent, link))
    target = PROJECT / at
    return target if not at.startswith("docs") and target.exists() else None


def name_of(target: Path) -> str:
    """Return the source path of the page that is made of a file or a folder."""
    inside = target.relative_to(PROJECT).as_posix()
    return f"project/{inside}" if inside.endswith(".md") else f"project/{inside}.md"


def show(target: Path) -> str:
    """Return a page that shows a file, or all files of a folder."""
    if target.suffix == ".md":
        return lead_from_top(target.read_text())
    inside = target.relative_to(PROJECT).as_posix()
    if target.is_file():
        return f"{UNSEARCHED}# {inside}\n\n{fence(target)}"
    shown = [path for path in sorted(target.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    parts = (f"## {path.relative_to(target).as_posix()}\n\n{fence(path)}" for path in shown)
    return f"{UNSEARCHED}# {inside}\n\n" + "\n".join(parts)


def lead_from_top(markdown: str) -> str:
    """Return the text of a file at the top of the project with links that are right in `project/`."""

    def lead(match: re.Match[str]) -> str:
        link = match[1]
        if "://" in link or link.startswith("#"):
            return match[0]
        return f"](../{link[5:]})" if link.startswith("docs/") else f"](../../{link})"

    return re.sub(r"\]\(([^)\s]+)\)", lead, markdown)


def fence(path: Path) -> str:
    """Return a fenced block with a file's text."""
    return f"{FENCE}{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}{FENCE}\n"
