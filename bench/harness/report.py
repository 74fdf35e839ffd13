"""Figures, their targets, and how they are shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis import Redis
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report. Without a target it only explains the others."""

    what: str
    value: str
    target: str = ""
    met: bool | None = None


def at_most(what: str, value: float, limit: float, unit: str, detail: str = "") -> Figure:
    """Return a figure that must not exceed `limit`."""
    return Figure(what, _format_value(value, unit, detail), f"≤ {limit:g}{unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str, detail: str = "") -> Figure:
    """Return a figure that must not fall below `limit`."""
    return Figure(what, _format_value(value, unit, detail), f"≥ {limit:g}{unit}", value >= limit)


def measure_medians(runs: int, *measures: Callable[[], float]) -> list[float]:
    """Return the median of each measure. They take turns (A B A B …), so that a noisy moment affects them all."""
    rounds = [[measure() for measure in measures] for _ in range(runs)]
    return [statistics.median(figures) for figures in zip(*rounds, strict=True)]


def describe_machine(client: Redis, kind: str) -> str:
    """Return in one line where the figures were measured."""
    info = client.info("server")
    version = info.get("valkey_version") or info["redis_version"]
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, {kind} {version}, persistence off, loopback"


def show(console: Console, figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table("figure", "measured", "target", "")
    for figure in figures:
        verdict = "" if figure.met is None else "[green]met[/]" if figure.met else "[red]missed[/]"
        table.add_row(figure.what, figure.value, figure.target, verdict)
    console.print(table)


def _format_value(value: float, unit: str, detail: str) -> str:
    return f"{value:.2f}{unit}" + (f"  ({detail})" if detail else "")
