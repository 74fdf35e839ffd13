"""The fenced blocks of the README and of docs/, as the site shows them: with the files that they include."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[3]
PAGES = (
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((PROJECT / "docs").rglob("*.md")),
)
_OPEN = re.compile(r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?$')
_INCLUDED = re.compile(r'^--8<-- "(?P<path>[^":]+)(?::(?P<first>\d*):(?P<last>\d*))?"$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A block, and where its text begins. `title`: the file that it is, if a reader is to write one."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    @property
    def name(self) -> str:
        """Its page and line, for the names of tests."""
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def find_blocks(page: Path) -> Iterator[Block]:
    """Yield a page's blocks. Raises `ValueError` for a fence that is written in a way that the site would not show."""
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened is None and line.lstrip().startswith("```"):
            opened, lines = _OPEN.match(line), []
            if opened is None:
                raise ValueError(f"{page}:{number}: {line}")
        elif opened is not None and line == f"{opened['indent']}```":
            text = "".join(f"{one}\n" for one in lines)
            yield Block(page, number - len(lines), opened["language"], opened["title"], _include(text))
            opened = None
        elif opened is not None:
            lines.append(line.removeprefix(opened["indent"]))


def all_blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages."""
    return [block for page in PAGES for block in find_blocks(page) if block.language in languages]


def commands_of(block: Block) -> list[str]:
    """Return the commands that a console block shows: what follows each `$`, with its continued lines."""
    joined = block.text.replace("\\\n", " ")
    return re.findall(r"^\$ (.+)$", joined, re.MULTILINE)


def is_example(text: str) -> bool:
    """Say whether all of a block stands in one of the examples, which have tests of their own."""
    return any(text in path.read_text() for path in (PROJECT / "examples").rglob("*.py"))


def _include(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        lines = (PROJECT / match["path"]).read_text().splitlines()
        first, last = match["first"] or 1, match["last"] or len(lines)
        return "\n".join(lines[int(first) - 1 : int(last)])

    return _INCLUDED.sub(read, text)
