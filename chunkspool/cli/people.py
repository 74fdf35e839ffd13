"""`chunkspool erase-owner` erases a person."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from chunkspool.cli.dashed_ids import DashedIds
from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.terminal import confirm_erase, report, write_output
from chunkspool.ids import checked_id
from chunkspool.json_text import to_valid_json
from chunkspool.operations.chats import MAX_CHATS
from chunkspool.results import ErasedOwner
from chunkspool.spool import AsyncSpool


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=DashedIds)(erase_owner)


def erase_owner(
    owner: Annotated[str, typer.Argument(metavar="OWNER", show_default=False, help="Who: the owner of `enqueue`.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first. An erase cannot be undone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was erased as JSON.")] = False,
) -> None:
    """Erase every chat in which an owner has asked, whoever else has, and all else that is noted of them."""

    async def work(spool: AsyncSpool) -> ExitCode:
        checked_id("owner", owner)
        if not (yes or confirm_erase(await _question(spool, owner))):
            report("nothing was erased")
            return ExitCode.DONE
        erased = await spool.erase_owner(owner)
        if as_json:
            failed = [{"chat_id": chat_id, "error": str(error)} for chat_id, error in erased.failed]
            write_output(to_valid_json({**asdict(erased), "failed": failed}) + b"\n")
        report(_told(erased))
        for chat_id, error in erased.failed:
            report(f"chat {chat_id} cannot be erased: {error}")
        return ExitCode.UNAVAILABLE if erased.failed else ExitCode.DONE

    run_with_spool(work)


async def _question(spool: AsyncSpool, owner: str) -> str:
    page = await spool.chats(owner, limit=MAX_CHATS)
    number = len(page.chats) + len(page.failed)
    more = " or more" if page.before else ""
    return f"Erase every chat in which {owner} has asked ({number}{more}), also where others have? [y/N] "


def _told(erased: ErasedOwner) -> str:
    done = "was not erased whole" if erased.failed else "was erased"
    return (
        f"owner {erased.owner_hash} of tenant {erased.tenant} {done}: {erased.chats} chats, "
        f"{erased.generations} generations, {erased.requests} requests, {erased.readings} readings in other chats, "
        f"{erased.stopped} stopped, about {erased.bytes_removed} bytes"
    )
