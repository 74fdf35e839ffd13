"""The table of docs/reference/versions.md: a row for each cell, written by the command, kept until it runs again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from support.processes.nodes import PROJECT

PAGE = PROJECT / "docs" / "reference" / "versions.md"
BEGIN, END = "<!-- written by `make matrix` -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """What a cell has come to."""

    cell: str
    ran: str
    source: str
    python: str
    passed: str
    failed: str
    skipped: str
    minutes: str
    day: str

    def __str__(self) -> str:
        """Return it as Markdown."""
        return f"| {' | '.join(astuple(self))} |"


def write(row: Row, order: Sequence[str], page: Path = PAGE) -> None:
    """Put a row in the place of the cell's last one."""
    before, rest = page.read_text().split(BEGIN)
    old, after = rest.split(END)
    rows = {one.cell: one for one in (*_read(old), row)}
    head = Row(*(one.name for one in fields(Row)))
    lines = [str(head), "|" + "---|" * len(fields(Row)), *(str(rows[cell]) for cell in order if cell in rows)]
    shown = "\n".join(lines)
    page.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}")


def _read(table: str) -> list[Row]:
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.strip().splitlines()[2:]]
    return [Row(*row) for row in cells if len(row) == len(fields(Row))]
