"""Many writers of one chat, to be run in separate processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from support.chats.logs import CHAT
from support.chats.spools import spool_for

from chunkspool import Spool

PIECES = 40


def pieces_of(name: str) -> list[str]:
    """Return what the writer `name` writes, piece by piece."""
    return [f"<{name}:{number}>" for number in range(PIECES)]


def write_concurrently(url: str, process: int, threads: int) -> dict[str, str]:
    """Start `threads` writers at once, each with its own generation; return generation id -> writer's name."""
    start = Barrier(threads)
    with spool_for(url, max_active=1000) as spool, ThreadPoolExecutor(threads) as pool:
        names = [f"{process}.{thread}" for thread in range(threads)]
        ids = pool.map(lambda name: _write(spool, name, start), names)
        return dict(zip(ids, names, strict=True))


def _write(spool: Spool, name: str, start: Barrier) -> str:
    start.wait(30)
    generation = spool.enqueue(CHAT, name, on_active="allow")
    with spool.produce(CHAT, generation.generation_id) as out:
        for number, piece in enumerate(pieces_of(name)):
            out.text(piece)
            if number % 10 == 9:
                out.data("mark", number)  # so that not all of the text is one event
    return generation.generation_id
