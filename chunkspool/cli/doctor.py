"""`chunkspool doctor`: shows what is wrong with a deployment, and ends with 0, 1 or 2 by the gravest of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Final

import typer

from chunkspool.cli.execute import run_and_exit
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import one_line
from chunkspool.cli.terminal import write_output
from chunkspool.doctor.examination import Examination
from chunkspool.doctor.finding import LEVELS, Finding, Level, worst_of
from chunkspool.settings import Settings
from chunkspool.store.probes import Role

EXIT_CODES: Final[dict[Level, ExitCode]] = {
    "ok": ExitCode.DONE,
    "warning": ExitCode.UNAVAILABLE,
    "error": ExitCode.USAGE,
}
_INDENT: Final = " " * 11


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(
    *,
    role: Annotated[Role, typer.Option(help="Whose rights the URL's Redis user is to have.")] = "web",
    queue: Annotated[
        list[str] | None, typer.Option("--queue", "-Q", help="Queues of generations; CHUNKSPOOL_QUEUE unless given.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds for each question.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list of findings as one JSON document.")] = False,
) -> None:
    """Examine Redis, broker, workers and web settings; say what to change and why. Exit code 1: warnings, 2: errors."""

    def work() -> ExitCode:
        settings = Settings.from_env()
        queues = tuple(dict.fromkeys(queue or (settings.worker.queue,)))
        found = Examination(settings, queues, role, timeout).findings()
        findings = _print_json(found) if as_json else _print_text(found)
        return EXIT_CODES[worst_of(findings)]

    run_and_exit(work)


def _print_json(found: Iterable[Finding]) -> Sequence[Finding]:
    findings = list(found)
    document = [{**asdict(one), "link": one.link} for one in findings]
    write_output(json.dumps(document, indent=1).encode() + b"\n")
    return findings


def _print_text(found: Iterable[Finding]) -> Sequence[Finding]:
    """Print each group as soon as it is complete: the workers have seconds to answer."""
    findings: list[Finding] = []
    for group, members in groupby(found, key=lambda one: one.group):
        _write(group)
        for one in members:
            findings.append(one)
            _write(*finding_lines(one))
        _write("")
    _write(_count(findings))
    return findings


def finding_lines(finding: Finding) -> list[str]:
    """Return one line on what was found and, where that is not all well, one with what to do."""
    level = finding.level if finding.level == "ok" else finding.level.upper()
    first = f"  {level:<7}  {finding.subject}: {finding.found}"
    return [first, f"{_INDENT}{finding.advice} ({finding.link})"] if finding.advice else [first]


def _count(findings: Sequence[Finding]) -> str:
    counts = [(level, sum(one.level == level for one in findings)) for level in LEVELS]
    return ", ".join(f"{count} {level}{'' if level == 'ok' or count == 1 else 's'}" for level, count in counts)


def _write(*lines: str) -> None:
    text = "".join(f"{line[: len(line) - len(line.lstrip())]}{one_line(line.lstrip())}\n" for line in lines)
    write_output(text.encode())
