"""`make bench`, the web app: the memory of an idle event stream, and replay through uvicorn compared with `subscribe`.

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

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_least, at_most, measure_medians
from bench.harness.run import Measurements, run
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


def measure(environment: Environment) -> list[Figure]:
    """Measure both with one web server."""
    with _run_web_server(environment) as (port, process):
        return [_measure_replay(environment, port), _measure_idle_streams(environment, port, process)]


@contextmanager
def _run_web_server(environment: Environment) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    variables = {**os.environ, variable_of("redis_url"): environment.url}
    command = [sys.executable, "-m", "demo.web", str(port)]
    process = Process.start("web", command, environment.folder, env=variables, cwd=Path(__file__).parents[1])
    try:
        process.wait_until(lambda: is_taken(port), _READY_SECONDS)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()


def _measure_idle_streams(environment: Environment, port: int, process: psutil.Process) -> Figure:
    """Open streams of this many chats, each of which has one event and is then silent."""
    with ExitStack() as open_streams:
        _open_streams(environment, port, WARM, open_streams)
        before = process.memory_info().rss
        _open_streams(environment, port, CONNECTIONS, open_streams)
        kilobytes = (process.memory_info().rss - before) / CONNECTIONS / 1024
    return at_most(f"idle event stream through uvicorn, one of {CONNECTIONS:,}", kilobytes, MOST_KB, " KB", "RSS each")


def _open_streams(environment: Environment, port: int, count: int, open_streams: ExitStack) -> None:
    """Open `count` streams and wait for the first event of each."""
    with selectors.DefaultSelector() as waiting:
        for _ in range(count):
            chat = environment.new_queued_chat()
            stream = open_streams.enter_context(_send_request(port, f"{chat.keys.chat_id}/events?follow=true"))
            waiting.register(stream, selectors.EVENT_READ, bytearray())
        while waiting.get_map():
            for key, _ in waiting.select():
                received: bytearray = key.data
                received += key.fileobj.recv(65_536)  # type: ignore[union-attr]
                if not received.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"no event stream: {bytes(received)!r}")
                if b"\nid: 1\n" in received:
                    waiting.unregister(key.fileobj)


def _measure_replay(environment: Environment, port: int) -> Figure:
    """Alternate: all events through `subscribe` in this process, and through the web server on a socket."""
    chat = environment.new_claimed_chat()
    for _ in range(EVENTS // BATCH):
        environment.store.send(chat.next_append((chat.event,) * BATCH))
    ours, streamed = measure_medians(
        RUNS, partial(_replay_by_subscribe, environment, chat), partial(_replay_by_event_stream, port, chat)
    )
    what = f"replay of {EVENTS:,} events: event stream / subscribe"
    return at_least(what, streamed / ours, LEAST_SHARE, " x", f"{streamed:,.0f} / {ours:,.0f} events/s")


def _replay_by_subscribe(environment: Environment, chat: ReadyChat) -> float:
    async def replay() -> float:
        async with AsyncSpool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
            began = time.perf_counter()
            # The generation is active, so the subscription would wait for events after the log.
            async with spool.subscribe(chat.keys.chat_id, until="forever") as entries:
                async for entry in entries:
                    if entry.seq == EVENTS + 2:
                        break
            return EVENTS / (time.perf_counter() - began)

    return asyncio.run(replay())


def _replay_by_event_stream(port: int, chat: ReadyChat) -> float:
    last = b"\nid: %d\n" % (EVENTS + 2)
    began = time.perf_counter()
    with _send_request(port, f"{chat.keys.chat_id}/events?follow=true") as stream:
        end = b""
        while last not in end:
            end = end[-64:] + stream.recv(1024 * 1024)
    return EVENTS / (time.perf_counter() - began)


def _send_request(port: int, path: str) -> socket.socket:
    stream = socket.create_connection((LOOPBACK, port))
    stream.sendall(f"GET /v1/chats/{path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
    return stream


MEASUREMENTS: Measurements = {"sse": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
