"""`chunkspool show` prints the conversation of a chat; `chunkspool fork` makes a chat of its beginning."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from chunkspool.cli.conversation_lines import Telling
from chunkspool.cli.dashed_ids import DashedIds
from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.terminal import report, write_output
from chunkspool.errors import ChunkspoolError, CorruptLog, CursorExpired
from chunkspool.spool import AsyncSpool

Chat = Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help="The chat's id.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(cls=DashedIds)(show)
    app.command(cls=DashedIds)(fork)


def show(
    chat: Chat, *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False
) -> None:
    """Show the conversation: who said what and when, which answers were stopped or failed, which version counts."""

    async def work(spool: AsyncSpool) -> ExitCode:
        telling = Telling(chat)
        code = await _read(spool, telling)
        if as_json:
            write_output(telling.document())
        else:
            text = "".join(f"{line}\n" for line in telling.lines())
            write_output(text.encode(sys.stdout.encoding, "replace"))
        return code

    run_with_spool(work)


def fork(
    chat: Chat,
    to: Annotated[str, typer.Argument(metavar="NEW", show_default=False, help="The id of the chat to make.")],
    *,
    at: Annotated[
        str | None, typer.Option(metavar="N", help="Up to which event, by its seq or cursor; all unless given.")
    ] = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds that it is kept; as any chat unless given.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
) -> None:
    """Make a chat of the beginning of another one. From then on, each is asked, kept and erased for itself."""

    async def work(spool: AsyncSpool) -> ExitCode:
        made = await spool.fork(chat, at, to=to, ttl=ttl, owner=owner)
        report(f"chat {made.chat_id} was made, up to seq {made.seq}")
        return ExitCode.DONE

    run_with_spool(work)


async def _read(spool: AsyncSpool, telling: Telling) -> ExitCode:
    """Read what the chat holds now. What cannot be read, or is no longer there, is passed over and told."""
    status = await spool.status(telling.chat_id, generation_ids=())
    code, seq = ExitCode.DONE, status.first - 1
    after: int | str = seq
    while seq < status.last:
        lost: ChunkspoolError
        try:
            for entry in await spool.read(telling.chat_id, after):
                telling.add(entry)
                seq, after = entry.seq, entry.cursor
            continue
        except CorruptLog as error:
            if error.seq is None:
                raise
            lost, seq = error, error.seq
        except CursorExpired as error:
            if error.first <= seq + 1:
                raise
            lost, seq = error, error.first - 1
        report(str(lost))
        code, after = ExitCode.UNAVAILABLE, seq
    return code
