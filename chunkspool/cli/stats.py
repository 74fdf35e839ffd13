"""`chunkspool stats`: shows how much there is to do and what is kept, once or again and again."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter

from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import one_line
from chunkspool.cli.stats_lines import stats_lines
from chunkspool.cli.terminal import cancel_on_closed_output, report, write_output
from chunkspool.errors import StoreError
from chunkspool.results import Stats
from chunkspool.spool import AsyncSpool

WATCH_SECONDS: Final = 2.0
_STATS: Final = TypeAdapter(Stats)


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(stats)


def stats(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew every 2 seconds, until Ctrl-C.")] = False,
    queue: Annotated[str | None, typer.Option("--queue", "-Q", help="CHUNKSPOOL_QUEUE unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Show what is queued, runs and is kept, and how full Redis is."""

    async def work(spool: AsyncSpool) -> ExitCode:
        screen = _JsonLines() if as_json else _Table(spool.settings.log.tenant)
        if not watch:
            screen.show(await spool.stats(queue=queue))
            return ExitCode.DONE
        async with cancel_on_closed_output():
            while True:
                try:
                    screen.show(await spool.stats(queue=queue))
                except StoreError as error:
                    screen.show_error(str(error))
                await asyncio.sleep(WATCH_SECONDS)

    run_with_spool(work)


class _JsonLines:
    """One line for each time."""

    def show(self, found: Stats) -> None:
        """Print everything."""
        write_output(_STATS.dump_json(found) + b"\n")

    def show_error(self, text: str) -> None:
        """Say why there is nothing this time."""
        report(f"{text}; trying again")


class _Table:
    """For people: on a terminal each table takes the place of the one before, elsewhere they follow one another."""

    def __init__(self, tenant: str) -> None:
        """`tenant` is the one whose limits are shown."""
        self._tenant = tenant
        self._in_place = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._lines_before = 0

    def show(self, found: Stats) -> None:
        """Print the table."""
        self._print(stats_lines(found, self._tenant))

    def show_error(self, text: str) -> None:
        """Say why there is nothing this time."""
        if self._in_place:
            self._print([one_line(f"{text}; trying again")])
        else:
            report(f"{text}; trying again")

    def _print(self, lines: list[str]) -> None:
        back = ""
        if self._in_place:
            # A line that the terminal would break in two would make the way back longer.
            lines = [line[: shutil.get_terminal_size().columns - 1] for line in lines]
            if self._lines_before:
                back = f"\x1b[{self._lines_before}F\x1b[J"
        elif self._lines_before:
            back = "\n"
        self._lines_before = len(lines)
        write_output((back + "".join(f"{line}\n" for line in lines)).encode(sys.stdout.encoding, "replace"))
