"""`chunkspool outcomes`: shows how generations end, who reads that, and what was set aside."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter

from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import duration, one_line
from chunkspool.cli.stats_lines import outcome_lag
from chunkspool.cli.terminal import cancel_on_closed_output, report, write_output
from chunkspool.errors import InvalidInput
from chunkspool.outcomes import DeadOutcome, Outcome, OutcomeLag
from chunkspool.spool import AsyncSpool

_OUTCOME: Final = TypeAdapter(Outcome)
_LAG: Final = TypeAdapter(OutcomeLag)
_DEAD: Final = TypeAdapter(DeadOutcome)
_TEXT: Final = 60
_PAGE: Final = 100


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(outcomes)


def outcomes(
    *,
    group: Annotated[
        str | None, typer.Option(help="Read and acknowledge for this group, which is made if there is none.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C. Without --group: from now on.")
    ] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Show what groups could not handle, newest first.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="End the group, with all that it has not read.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Make the group anew that was set aside.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Show how generations end. Without options: the groups that read it, and how far they are behind."""

    async def work(spool: AsyncSpool) -> ExitCode:
        if (drop or again) and group is None:
            raise InvalidInput("name the group: --group NAME")
        if drop:
            await spool.drop_outcome_group(group or "")
        elif dead:
            await _show_dead(spool, as_json=as_json)
        elif group is None and not follow:
            await _show_groups(spool, as_json=as_json)
        else:
            await _read(spool, group, follow=follow, again=again, as_json=as_json)
        return ExitCode.DONE

    run_with_spool(work)


async def _read(spool: AsyncSpool, group: str | None, *, follow: bool, again: bool, as_json: bool) -> None:
    async with (
        cancel_on_closed_output(),
        _group_of(spool, group) as name,
        spool.outcomes(name, until="forever" if follow else "drained", again=again) as found,
    ):
        async for outcome in found:
            write_output(_OUTCOME.dump_json(outcome, by_alias=True) + b"\n" if as_json else _lines([_row(outcome)]))
            await found.ack(outcome)


@asynccontextmanager
async def _group_of(spool: AsyncSpool, name: str | None) -> AsyncIterator[str]:
    """Provide the group; without a name, one that ends with this command."""
    if name is not None:
        yield name
        return
    own = f"cli-{secrets.token_hex(4)}"
    try:
        yield own
    finally:
        await spool.drop_outcome_group(own)


async def _show_groups(spool: AsyncSpool, *, as_json: bool) -> None:
    found = await spool.outcome_lag()
    if as_json:
        write_output(b"".join(_LAG.dump_json(one) + b"\n" for one in found))
    elif found:
        write_output(_lines(f"{one.group}  {outcome_lag(one)}" for one in found))
    else:
        report("no group reads the tenant's outcomes, so none are kept")


async def _show_dead(spool: AsyncSpool, *, as_json: bool) -> None:
    before = None
    while page := await spool.dead_outcomes(before=before, limit=_PAGE):
        if as_json:
            write_output(b"".join(_DEAD.dump_json(one, by_alias=True) + b"\n" for one in page))
        else:
            write_output(
                _lines(f"{one.group}  {one.why or 'handed out too often'}  {_row(one.outcome)}" for one in page)
            )
        before = page[-1].id


def _row(one: Outcome) -> str:
    took = duration(one.ended - one.created)
    why = one.code or one.stopped_by or one.finish_reason or "-"
    text = "(long; see the log)" if one.text is None else one.text[:_TEXT]
    return f"{one.generation_id}  {one.state:<9}  {why}  {took}  {one.chat_id}  {text}"


def _lines(rows: Iterable[str]) -> bytes:
    return b"".join(one_line(row).rstrip().encode() + b"\n" for row in rows)
