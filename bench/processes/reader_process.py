"""A process with one reader per chat: through the library's hub, or with a connection each."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis.asyncio

from bench.harness.environment import ReadyChat
from chunkspool import AsyncSpool
from chunkspool.events import Entry
from chunkspool.settings import Settings
from chunkspool.store.entries import items_of_stream

TOKEN_SIZE = 20
"""Characters of a token: the time it was written, which is how the reader knows its age. An event may hold several."""


@dataclass(slots=True)
class _Received:
    """What the readers have received since the last report: the age of each token, in ns.

    Tokens from before `since` do not count.
    """

    since: int = 0
    waits: list[int] = field(default_factory=list)
    events: int = 0
    size: int = 0


Read = Callable[[ReadyChat, _Received], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class ReaderReport:
    """What the readers received since the last report. Times are in ms, `cpu` in seconds, `rss` and `size` in bytes.

    `events` are the deltas, `tokens` what they hold, `size` is the JSON of them all.
    """

    events: int
    tokens: int
    size: int
    p50: float
    p99: float
    longest: float
    cpu: float
    rss: int


class ReaderProcess:
    """The process. Use it as a context manager."""

    def __init__(self, url: str, chats: list[ReadyChat], *, own_connections: bool) -> None:
        """With `own_connections`, each reader uses XREAD BLOCK on its own connection, as most programs do."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, url, chats, own_connections), daemon=True)

    def __enter__(self) -> Self:
        """Start the process; its readers start with `start_readers`."""
        self._process.start()
        return self

    def __exit__(self, _type: object, _error: object, _traceback: TracebackType | None) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()

    def start_readers(self) -> int:
        """Start all readers; return the process's memory before that, in bytes."""
        self._pipe.send("start")
        rss: int = self._pipe.recv()
        return rss

    def collect_report(self, *, then_only_new: bool = False) -> ReaderReport:
        """Return what was received since the last report.

        `then_only_new`: from now on only tokens count that are written from now on, not what readers still replay.
        """
        self._pipe.send("only new" if then_only_new else "report")
        report: ReaderReport = self._pipe.recv()
        return report


def _run(pipe: Connection, url: str, chats: list[ReadyChat], own_connections: bool) -> None:  # noqa: FBT001
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve_orders(pipe, url, chats, own_connections=own_connections))


async def _serve_orders(pipe: Connection, url: str, chats: list[ReadyChat], *, own_connections: bool) -> None:
    received = _Received()
    cpu = time.process_time()
    async with _open_reader(url, own_connections=own_connections) as read, asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        while (order := await asyncio.to_thread(pipe.recv)) is not None:
            if order == "start":
                pipe.send(_resident_bytes())
                tasks = [group.create_task(read(chat, received)) for chat in chats]
                continue
            pipe.send(_report_of(received, time.process_time() - cpu))
            received.since = time.monotonic_ns() if order == "only new" else received.since
            received.waits, received.events, received.size = [], 0, 0
            cpu = time.process_time()
        for task in tasks:
            task.cancel()


def _report_of(received: _Received, cpu: float) -> ReaderReport:
    ms = sorted(wait / 1e6 for wait in received.waits) or [0.0]
    rss = _resident_bytes()
    counts = (received.events, len(received.waits), received.size)
    return ReaderReport(*counts, ms[len(ms) // 2], ms[len(ms) * 99 // 100], ms[-1], cpu, rss)


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.asynccontextmanager
async def _open_reader(url: str, *, own_connections: bool) -> AsyncIterator[Read]:
    if own_connections:
        async with redis.asyncio.Redis.from_url(url, max_connections=100_000, socket_timeout=None) as client:
            yield lambda chat, received: _follow_by_xread(client, chat, received)
    else:
        async with AsyncSpool.from_settings(Settings.checked({"redis_url": url})) as spool:
            yield lambda chat, received: _follow_by_subscribe(spool, chat, received)


async def _follow_by_subscribe(spool: AsyncSpool, chat: ReadyChat, received: _Received) -> None:
    async with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
        async for entry in entries:
            _note_tokens(entry, received)


async def _follow_by_xread(client: redis.asyncio.Redis, chat: ReadyChat, received: _Received) -> None:
    key, last = chat.keys.log, "0"
    while True:
        reply: Any = await client.xread({key: last}, block=0)
        stream = reply[key.encode()][0] if isinstance(reply, dict) else reply[0][1]
        for entry in items_of_stream(stream):
            if isinstance(entry, Entry):
                _note_tokens(entry, received)
                last = f"{entry.seq}-0"


def _note_tokens(entry: Entry, received: _Received) -> None:
    if entry.type == "text.delta":
        now = time.monotonic_ns()
        text: str = entry.event.text  # type: ignore[union-attr]
        said = [int(text[at : at + TOKEN_SIZE]) for at in range(0, len(text), TOKEN_SIZE)]
        new = [now - at for at in said if at >= received.since]
        if new:
            received.events += 1
            received.size += len(entry.raw)
            received.waits += new
