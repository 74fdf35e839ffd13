"""Runs the promises' tests on every server, broker and Python that can be had: `make matrix`.

Run as `python -m support.matrix [CELL…]`; a cell may be a pattern such as `redis-*`. What it needs is kept in .matrix/.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from support.matrix import table
from support.matrix.cells import Cell, list_cells
from support.matrix.pythons import provide_python
from support.matrix.servers import SERVERS, Missing, version_of
from support.matrix.table import Row
from support.processes.nodes import PROJECT
from support.servers import binaries

FOLDER = PROJECT / ".matrix"
USUAL = ("valkey-9.1", "redis-7.0")
"""The servers of `make test`."""
UNWANTED = {"CI", "PYTHONDONTWRITEBYTECODE"}
"""With CI, what a machine lacks would be a failure; without bytecode, every process would compile everything anew."""


def main() -> int:
    """Run the cells; return 1 if a test has failed."""
    parser = argparse.ArgumentParser(prog="make matrix", description="run the promises' tests on everything")
    parser.add_argument("cells", nargs="*", default=["*"], help="names or patterns; all unless given")
    parser.add_argument("--jobs", default="2", help="how many tests run at a time")
    parser.add_argument("--list", action="store_true", help="show the cells and run nothing")
    asked = parser.parse_args()
    cells = list(list_cells())
    chosen = [one for one in cells if any(fnmatch.fnmatch(one.name, pattern) for pattern in asked.cells)]
    if not chosen:
        parser.error(f"there is no such cell; there are {', '.join(one.name for one in cells)}")
    if asked.list:
        say("\n".join(one.name for one in chosen))
        return 0
    failed = 0
    for cell in chosen:
        row = run(cell, asked.jobs)
        table.write(row, [one.name for one in cells])
        say(str(row))
        failed += not row.failed.isdecimal() or int(row.failed) > 0
    return int(failed > 0)


def run(cell: Cell, jobs: str) -> Row:
    """Run one cell. What cannot be had is a row, too."""
    day = datetime.now(tz=UTC).date().isoformat()
    row = Row(cell.name, "", "", "", "-", "-", "-", "-", day)
    try:
        python = provide_python(cell.python, FOLDER / f"python-{cell.python}") if cell.python else Path(sys.executable)
        row = replace(row, python=_ask(python))
        own, row = _choose_server(cell, row)
    except (Missing, subprocess.CalledProcessError) as error:
        return replace(row, ran=f"nothing: {error}")
    say(f"{cell.name}: {row.ran}, Python {row.python}")
    report = FOLDER / "reports" / f"{cell.name.replace(' ', '-')}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    command = [
        *(str(python), "-m", "pytest", "-n", jobs, "--dist", "worksteal", "-q", "--junitxml", str(report)),
        *cell.options,
        *cell.tests,
    ]
    began = time.monotonic()
    with report.with_suffix(".log").open("w") as log:
        subprocess.run(command, cwd=PROJECT, env={**kept, **own}, stdout=log, stderr=log, check=False)  # noqa: S603 - our own words
    counts = count(report)
    minutes = f"{(time.monotonic() - began) / 60:.1f}"
    return replace(
        row,
        passed=str(counts["passed"]),
        failed=str(counts["failed"]) if counts else "no test ran",
        skipped=str(counts["skipped"]),
        minutes=minutes,
    )


def _choose_server(cell: Cell, row: Row) -> tuple[dict[str, str], Row]:
    """Return what the tests must know of the server, and the row with it."""
    if not cell.server:
        usual = [version_of(SERVERS[name].provide(FOLDER / "servers" / name)) for name in USUAL]
        return {}, replace(row, ran=", ".join(usual), source="by turns")
    source = SERVERS[cell.server]
    program = source.provide(FOLDER / "servers" / cell.server)
    return {binaries.VARIABLE: str(program)}, replace(row, ran=version_of(program), source=source.told)


def count(report: Path) -> Counter[str]:
    """Count the tests of a report by what has become of them."""
    if not report.exists():
        return Counter()
    kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
    return Counter(
        next((kinds[found.tag] for found in case if found.tag in kinds), "passed")
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - pytest's
    )


def _ask(python: Path) -> str:
    command = (str(python), "-c", "import platform; print(platform.python_version())")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - our own words


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
