"""A process with one reader per chat: through the library's hub, or with a connection each."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
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

Read = Callable[[ReadyChat, list[int]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class ReaderReport:
    """What the readers received since the last report. Times are in ms, `cpu` in seconds, `rss` in bytes."""

    events: int
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

    def collect_report(self) -> ReaderReport:
        """Return what was received since the last report."""
        self._pipe.send("report")
        report: ReaderReport = self._pipe.recv()
        return report


def _run(pipe: Connection, url: str, chats: list[ReadyChat], own_connections: bool) -> None:  # noqa: FBT001
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve_orders(pipe, url, chats, own_connections=own_connections))


async def _serve_orders(pipe: Connection, url: str, chats: list[ReadyChat], *, own_connections: bool) -> None:
    waits: list[int] = []
    cpu = time.process_time()
    async with _open_reader(url, own_connections=own_connections) as read, asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        while (order := await asyncio.to_thread(pipe.recv)) is not None:
            if order == "start":
                pipe.send(_resident_bytes())
                tasks = [group.create_task(read(chat, waits)) for chat in chats]
                continue
            pipe.send(_report_of(waits, time.process_time() - cpu))
            waits.clear()
            cpu = time.process_time()
        for task in tasks:
            task.cancel()


def _report_of(waits: list[int], cpu: float) -> ReaderReport:
    ms = sorted(wait / 1e6 for wait in waits) or [0.0]
    rss = _resident_bytes()
    return ReaderReport(len(waits), ms[len(ms) // 2], ms[len(ms) * 99 // 100], ms[-1], cpu, rss)


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.asynccontextmanager
async def _open_reader(url: str, *, own_connections: bool) -> AsyncIterator[Read]:
    if own_connections:
        async with redis.asyncio.Redis.from_url(url, max_connections=100_000, socket_timeout=None) as client:
            yield lambda chat, waits: _follow_by_xread(client, chat, waits)
    else:
        async with AsyncSpool.from_settings(Settings.checked({"redis_url": url})) as spool:
            yield lambda chat, waits: _follow_by_subscribe(spool, chat, waits)


async def _follow_by_subscribe(spool: AsyncSpool, chat: ReadyChat, waits: list[int]) -> None:
    async with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
        async for entry in entries:
            _note_wait(entry, waits)


async def _follow_by_xread(client: redis.asyncio.Redis, chat: ReadyChat, waits: list[int]) -> None:
    key, last = chat.keys.log, "0"
    while True:
        reply: Any = await client.xread({key: last}, block=0)
        stream = reply[key.encode()][0] if isinstance(reply, dict) else reply[0][1]
        for entry in items_of_stream(stream):
            if isinstance(entry, Entry):
                _note_wait(entry, waits)
                last = f"{entry.seq}-0"


def _note_wait(entry: Entry, waits: list[int]) -> None:
    if entry.type == "text.delta":
        waits.append(time.monotonic_ns() - int(entry.event.text))  # type: ignore[union-attr]
