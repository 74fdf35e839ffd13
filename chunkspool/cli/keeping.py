"""`chunkspool keep`, `pin` and `unpin` say how long a chat is kept; `chunkspool retention` shortens logs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic_core import to_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chunkspool.cli.dashed_ids import DashedIds
from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import plain
from chunkspool.cli.quantities import parse_seconds
from chunkspool.cli.stats_lines import size
from chunkspool.cli.terminal import report, write_output
from chunkspool.results import RetentionStep
from chunkspool.spool import AsyncSpool

Chat = Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help="The chat's id.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (keep, pin, unpin, retention):
        app.command(cls=DashedIds)(command)


def keep(
    chat: Chat,
    ttl: Annotated[str, typer.Argument(metavar="TTL", show_default=False, help="How long, such as 7d, 12h or 90s.")],
) -> None:
    """Keep a chat for so long from now on, and for as long after what is asked in it later."""

    async def work(spool: AsyncSpool) -> ExitCode:
        await spool.keep(chat, parse_seconds("ttl", ttl))
        return ExitCode.DONE

    run_with_spool(work)


def pin(chat: Chat) -> None:
    """Keep a chat for good. The limit “pinned” of its tenant says how many may be."""

    async def work(spool: AsyncSpool) -> ExitCode:
        await spool.pin(chat)
        return ExitCode.DONE

    run_with_spool(work)


def unpin(chat: Chat) -> None:
    """Let a chat expire again: after its own TTL from now on, or that of its tenant."""

    async def work(spool: AsyncSpool) -> ExitCode:
        await spool.unpin(chat)
        return ExitCode.DONE

    run_with_spool(work)


def retention(
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", show_default=False, help="Whose chats; the setting's.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")] = False,
    after: Annotated[
        str | None, typer.Option(metavar="STEP", help="Go on after this step: an “after” of --json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object for each step.")] = False,
) -> None:
    """Shorten the logs of a tenant's chats as its policy says: “keep_events” and “keep_bytes”.

    Whole answers go, the oldest first. What is interrupted can be run again, or go on with --after.
    """

    async def work(spool: AsyncSpool) -> ExitCode:
        of_tenant = spool if tenant is None else spool.for_tenant(tenant)
        policy = await of_tenant.policy()
        if policy.keep_events is None and policy.keep_bytes is None:
            report("nothing is to be dropped: neither keep_events nor keep_bytes is set")
            return ExitCode.DONE
        total = _Total()
        with _progress(shows=not as_json) as show:
            step_after = after
            while True:
                step = await of_tenant.retain(after=step_after, dry_run=dry_run)
                total.add(step)
                show(total)
                if as_json:
                    write_output(_json_line(step))
                for chat_id, error in step.failed:
                    report(f"chat {chat_id} cannot be read: {error}")
                step_after = step.after
                if step_after is None:
                    break
        if not as_json:
            write_output(plain(f"{total.line(dry_run=dry_run)}\n").encode())
        return ExitCode.UNAVAILABLE if total.failed else ExitCode.DONE

    run_with_spool(work)


def _json_line(step: RetentionStep) -> bytes:
    names = ("looked_at", "chats", "shortened", "events", "log_bytes", "after")
    failed = {chat_id: str(error) for chat_id, error in step.failed}
    return to_json({name: getattr(step, name) for name in names} | {"failed": failed}) + b"\n"


class _Total:
    """What all steps did together."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.looked_at = self.chats = self.shortened = self.events = self.log_bytes = self.failed = 0

    def add(self, step: RetentionStep) -> None:
        """Add a step."""
        self.looked_at += step.looked_at
        self.chats = max(step.chats, self.looked_at)
        self.shortened += len(step.shortened)
        self.events += step.events
        self.log_bytes += step.log_bytes
        self.failed += len(step.failed)

    def line(self, *, dry_run: bool) -> str:
        """Say it in words."""
        would = "would be dropped" if dry_run else "were dropped"
        return (
            f"{self.looked_at:,} chats were looked at: {self.events:,} events of {self.shortened:,} "
            f"{would}, about {size(self.log_bytes)}"
        )


@contextmanager
def _progress(*, shows: bool) -> Iterator[Callable[[_Total], None]]:
    """Show a bar on standard error, if a person looks at it."""
    if not shows or not sys.stderr.isatty():
        yield lambda _total: None
        return
    columns = (TextColumn("chats"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("chats", total=None)
        yield lambda total: bar.update(task, total=total.chats, completed=total.looked_at)
