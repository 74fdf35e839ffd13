"""A writer in a process of its own that writes a long answer and is then killed."""

from __future__ import annotations

import threading
from multiprocessing import get_context
from multiprocessing.connection import Connection

from support.chats.spools import spool_for

PIECES = 300
PIECE = "x" * 500


def write_and_be_killed(url: str, chat_id: str, generation_id: str, *, ends: bool) -> None:
    """Write a generation in another process, and kill -9 that before it tells the schedule.

    `ends`: it dies after its ending is written.
    """
    context = get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_write, args=(url, chat_id, generation_id, ends, its))
    process.start()
    try:
        assert mine.poll(60)
        assert mine.recv() == "written"
    finally:
        process.kill()
        process.join(30)


def _write(url: str, chat_id: str, generation_id: str, ends: bool, parent: Connection) -> None:
    from chunkspool.spool.scheduler import Scheduler  # noqa: PLC0415 - only in the child

    # It dies in the moment before it would tell.
    Scheduler.note = lambda *_: None  # type: ignore[method-assign]
    with spool_for(url) as spool:
        with spool.produce(chat_id, generation_id) as out:
            for n in range(PIECES):
                out.data("n", f"{n}{PIECE}")
            while not ends and len(spool.read(chat_id, limit=1000)) < PIECES:
                threading.Event().wait(0.01)
            if not ends:
                _wait_to_be_killed(parent)
        _wait_to_be_killed(parent)


def _wait_to_be_killed(parent: Connection) -> None:
    parent.send("written")
    threading.Event().wait(60)
