"""`chunkspool chats` lists chats; `chunkspool title` names one."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import TypeAdapter

from chunkspool.cli.dashed_ids import DashedIds
from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import duration, one_line
from chunkspool.cli.terminal import report, write_output
from chunkspool.operations.chats import MAX_CHATS
from chunkspool.results import ChatSummary
from chunkspool.spool import AsyncSpool

_SUMMARY = TypeAdapter(ChatSummary)
_ROW = "{:>7}  {:<9}  {:>7}  {:<36}  {}"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(cls=DashedIds)(chats)
    app.command(cls=DashedIds)(title)


def chats(
    *,
    owner: Annotated[str | None, typer.Option(help="Only those in which this owner has asked something.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_CHATS, help="How many to show.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="PAGE", help="Show those after this page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """List the tenant's chats, the one that was asked last first."""

    async def work(spool: AsyncSpool) -> ExitCode:
        page = await spool.chats(owner, before=before, limit=limit)
        if as_json:
            lines = [_SUMMARY.dump_json(one, by_alias=True) + b"\n" for one in page.chats]
        else:
            heading = _ROW.format("asked", "state", "seq", "chat", "title").encode()
            lines = [line + b"\n" for line in (heading, *(_row(one, page.now) for one in page.chats))]
        write_output(b"".join(lines))
        for chat_id, error in page.failed:
            report(f"chat {chat_id} cannot be read: {error}")
        if page.before is not None:
            report(f"there are more: --before {page.before}")
        return ExitCode.UNAVAILABLE if page.failed else ExitCode.DONE

    run_with_spool(work)


def title(
    chat: Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help="The chat's id.")],
    text: Annotated[str | None, typer.Argument(metavar="[TITLE]", help="One line; without it the title goes.")] = None,
) -> None:
    """Give a chat a title, or take it away."""

    async def work(spool: AsyncSpool) -> ExitCode:
        await spool.set_title(chat, text)
        return ExitCode.DONE

    run_with_spool(work)


def _row(chat: ChatSummary, now: int) -> bytes:
    state = "-" if chat.newest is None else chat.newest.state
    return (
        one_line(_ROW.format(duration(now - chat.asked), state, chat.last, chat.chat_id, _remarks(chat)))
        .rstrip()
        .encode()
    )


def _remarks(chat: ChatSummary) -> str:
    return " ".join(filter(None, ("[pinned]" if chat.pinned else "", chat.title)))
