"""`make bench`, the web app: the memory of an idle event stream, and a replay through uvicorn beside `subscribe`.

`python -m bench.sse`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil

from bench.harness.environment import Ground, ReadyChat
from bench.harness.report import Line, at_least, at_most, medians
from bench.harness.run import Figures, run
from chunkspool import AsyncSpool
from chunkspool.settings import Settings, variable_of
from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process

CONNECTIONS, WARM = 1000, 50
MOST_KB = 60.0
EVENTS, BATCH = 10_000, 250
RUNS = 5
LEAST_SHARE = 0.6
_READY_SECONDS = 30.0


def measured(ground: Ground) -> list[Line]:
    """Measure both with one server."""
    with _server(ground) as (port, process):
        return [_replay(ground, port), _idle(ground, port, process)]


@contextmanager
def _server(ground: Ground) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    environment = {**os.environ, variable_of("redis_url"): ground.url}
    command = [sys.executable, "-m", "demo.web", str(port)]
    process = Process.start("web", command, ground.folder, env=environment, cwd=Path(__file__).parents[1])
    try:
        process.wait_until(lambda: is_taken(port), _READY_SECONDS)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()


def _idle(ground: Ground, port: int, process: psutil.Process) -> Line:
    """Open streams of as many chats, each of which has said one event and then is silent."""
    with ExitStack() as open_streams:
        _open(ground, port, WARM, open_streams)
        before = process.memory_info().rss
        _open(ground, port, CONNECTIONS, open_streams)
        kilobytes = (process.memory_info().rss - before) / CONNECTIONS / 1024
    return at_most(f"idle event stream through uvicorn, {CONNECTIONS:,} of them", kilobytes, MOST_KB, " KB", "RSS each")


def _open(ground: Ground, port: int, count: int, open_streams: ExitStack) -> None:
    """Open `count` streams and wait for the first event of each."""
    with selectors.DefaultSelector() as waiting:
        for _ in range(count):
            chat = ground.queued()
            stream = open_streams.enter_context(_asked(port, f"{chat.keys.chat_id}/events?follow=true"))
            waiting.register(stream, selectors.EVENT_READ, bytearray())
        while waiting.get_map():
            for key, _ in waiting.select():
                received: bytearray = key.data
                received += key.fileobj.recv(65_536)  # type: ignore[union-attr]
                if not received.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"no event stream: {bytes(received)!r}")
                if b"\nid: 1\n" in received:
                    waiting.unregister(key.fileobj)


def _replay(ground: Ground, port: int) -> Line:
    """Take turns: all events through `subscribe` in this process, and through the server on a socket."""
    chat = ground.claimed()
    for _ in range(EVENTS // BATCH):
        ground.store.send(chat.batch((chat.event,) * BATCH))
    ours, passed = medians(RUNS, partial(_subscribed, ground, chat), partial(_passed, port, chat))
    what = f"replay of {EVENTS:,} events: event stream / subscribe"
    return at_least(what, passed / ours, LEAST_SHARE, " x", f"{passed:,.0f} / {ours:,.0f} events/s")


def _subscribed(ground: Ground, chat: ReadyChat) -> float:
    async def replay() -> float:
        async with AsyncSpool.from_settings(Settings.checked({"redis_url": ground.url})) as spool:
            began = time.perf_counter()
            # The generation is active: what comes after the log would be waited for.
            async with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
                async for entry in entries:
                    if entry.seq == EVENTS + 2:
                        break
            return EVENTS / (time.perf_counter() - began)

    return asyncio.run(replay())


def _passed(port: int, chat: ReadyChat) -> float:
    last = b"\nid: %d\n" % (EVENTS + 2)
    began = time.perf_counter()
    with _asked(port, f"{chat.keys.chat_id}/events?follow=true") as stream:
        end = b""
        while last not in end:
            end = end[-64:] + stream.recv(1024 * 1024)
    return EVENTS / (time.perf_counter() - began)


def _asked(port: int, path: str) -> socket.socket:
    stream = socket.create_connection((LOOPBACK, port))
    stream.sendall(f"GET /v1/chats/{path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
    return stream


FIGURES: Figures = {"sse": measured}

if __name__ == "__main__":
    sys.exit(run(FIGURES, __doc__))
