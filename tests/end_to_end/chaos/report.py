"""Show what a run did and what came of it."""

from __future__ import annotations

import statistics
from collections import Counter

from end_to_end.chaos.plan import FaultKind
from end_to_end.chaos.run import Outcome
from end_to_end.chaos.verdict import seconds_by_kind
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(console: Console, outcome: Outcome) -> None:
    """Print everything, the violations last."""
    verdict = outcome.verdict
    console.rule(
        f"[bold]chaos[/] · seed {outcome.plan.seed} · {outcome.server} · {outcome.seconds:.0f} s", align="left"
    )
    for what, value in _summary_lines(outcome):
        console.print(f"{what:<12}{escape(value)}", highlight=False)
    table = Table("recovered from", "faults", "generations hit", "median", "worst")
    done = Counter(fault.kind for fault in outcome.seen.faults)
    for kind, seconds in seconds_by_kind(verdict.recoveries).items():
        middle = f"{statistics.median(seconds):.2f} s"
        table.add_row(kind, str(done[kind]), str(len(seconds)), middle, f"{seconds[-1]:.2f} s")
    console.print(table)
    for silence in reversed(verdict.silences):
        console.print(
            f"silent for {silence.seconds:.1f} s after {silence.after}: {silence.generation_id}", highlight=False
        )
    for violation in verdict.violations:
        console.print(f"[red]✗[/] {escape(str(violation))}", highlight=False)
    colour = "red" if verdict.violations else "green"
    console.print(f"[{colour}]violations  {len(verdict.violations)}[/]")


def _summary_lines(outcome: Outcome) -> list[tuple[str, str]]:
    verdict, seen = outcome.verdict, outcome.seen
    done = Counter(fault.kind for fault in seen.faults)
    questions = [one for deployment in seen.deployments for one in deployment.report.questions]
    readings = [one for deployment in seen.deployments for many in deployment.report.readings.values() for one in many]
    told = sum(one.told for one in readings)
    retries = sum(deployment.report.retries for deployment in seen.deployments)
    endings = ", ".join(f"{n} {kind.removeprefix('generation.')}" for kind, n in sorted(verdict.endings.items()))
    ends = sorted((fault.ended - fault.began) / 1000 for fault in seen.faults if fault.kind is FaultKind.TERMINATE)
    ended = f"median {statistics.median(ends):.1f} s, longest {ends[-1]:.1f} s" if ends else "none"
    undisturbed = sum(1 for _ in seen.neighbour.undisturbed(seen.faults))
    chats = sum(len(deployment.chats) for deployment in seen.deployments)
    return [
        ("generations", f"{verdict.generations} in {chats} chats of {len(seen.deployments)} deployments: {endings}"),
        (
            "attempts",
            f"{verdict.attempts}, {verdict.restarted} generations more than one; {len(seen.calls)} model calls",
        ),
        ("faults", ", ".join(f"{kind}: {done[kind]}" for kind in FaultKind if done[kind])),
        ("SIGTERM", f"until the worker had exited: {ended}"),
        ("stops", str(sum(question.stop != "" for question in questions))),
        ("readers", f"{len(readings)} subscriptions of {verdict.events} events, {told} told that the log had changed"),
        ("retries", f"{retries} calls of users and readers"),
        ("other app", f"{len(seen.neighbour.sent)} tasks, {undisturbed} while nothing happened to Redis"),
        ("", f"its worker died {len(seen.neighbour.deaths)} times of what happened to Redis"),
    ]
