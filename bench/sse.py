"""`make bench`, the web app: the memory of an idle event stream, and replay through uvicorn and by views.

`python -m bench.sse`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, aclosing, closing
from functools import partial

import psutil

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_least, at_most, measure_medians
from bench.harness.run import Measurements, run
from bench.harness.web_server import run_web_server, send_request
from chunkspool import AsyncSpool, Spool
from chunkspool.settings import Settings
from chunkspool.views import EventStream, follow

CONNECTIONS, WARM = 1000, 50
MOST_KB = 60.0
EVENTS, BATCH = 10_000, 250
RUNS = 5
LEAST_SHARE = 0.6
LAST = b"\nid: %d." % (EVENTS + 2)


def measure(environment: Environment) -> list[Figure]:
    """Measure both with one web server."""
    with run_web_server(environment) as (port, process):
        return [
            _measure_replay(environment, port),
            _measure_views(environment, "open", _replay_by_open),
            _measure_views(environment, "open_async", _replay_by_open_async),
            _measure_idle_streams(environment, port, process),
        ]


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
            stream = open_streams.enter_context(send_request(port, f"{chat.keys.chat_id}/events?follow=true"))
            waiting.register(stream, selectors.EVENT_READ, bytearray())
        while waiting.get_map():
            for key, _ in waiting.select():
                received: bytearray = key.data
                received += key.fileobj.recv(65_536)  # type: ignore[union-attr]
                if not received.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"no event stream: {bytes(received)!r}")
                if b"\nid: 1." in received:
                    waiting.unregister(key.fileobj)


def _measure_replay(environment: Environment, port: int) -> Figure:
    """Alternate: all events through `subscribe` in this process, and through the web server on a socket."""
    chat = _fill_chat(environment)
    ours, streamed = measure_medians(
        RUNS, partial(_replay_by_subscribe, environment, chat), partial(_replay_by_event_stream, port, chat)
    )
    what = f"replay of {EVENTS:,} events: event stream / subscribe"
    return at_least(what, streamed / ours, LEAST_SHARE, " x", f"{streamed:,.0f} / {ours:,.0f} events/s")


def _measure_views(environment: Environment, name: str, replay: Callable[[str, ReadyChat], float]) -> Figure:
    """Alternate: `subscribe`, and the body of a stream of `chunkspool.views`, which no server sends."""
    chat = _fill_chat(environment)
    ours, streamed = measure_medians(
        RUNS, partial(_replay_by_subscribe, environment, chat), partial(replay, environment.url, chat)
    )
    what = f"replay of {EVENTS:,} events: chunkspool.views, `{name}` / subscribe"
    return at_least(what, streamed / ours, LEAST_SHARE, " x", f"{streamed:,.0f} / {ours:,.0f} events/s")


def _fill_chat(environment: Environment) -> ReadyChat:
    chat = environment.new_claimed_chat()
    for _ in range(EVENTS // BATCH):
        environment.store.send(chat.next_append((chat.event,) * BATCH))
    return chat


def _replay_by_open(url: str, chat: ReadyChat) -> float:
    with Spool.from_url(url) as spool:
        began = time.perf_counter()
        stream = follow(spool, chat.keys.chat_id)
        if stream is None:
            raise RuntimeError("the chat has no events")
        with closing(stream.open(spool)) as pieces:
            next(piece for piece in pieces if LAST in piece)
        return EVENTS / (time.perf_counter() - began)


def _replay_by_open_async(url: str, chat: ReadyChat) -> float:
    async def replay(stream: EventStream) -> float:
        async with AsyncSpool.from_url(url) as spool, aclosing(stream.open_async(spool)) as pieces:
            async for piece in pieces:
                if LAST in piece:
                    break
        return EVENTS / (time.perf_counter() - began)

    with Spool.from_url(url) as spool:
        began = time.perf_counter()
        stream = follow(spool, chat.keys.chat_id)
        if stream is None:
            raise RuntimeError("the chat has no events")
        return asyncio.run(replay(stream))


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
    began = time.perf_counter()
    with send_request(port, f"{chat.keys.chat_id}/events?follow=true") as stream:
        end = b""
        while LAST not in end:
            end = end[-64:] + stream.recv(1024 * 1024)
    return EVENTS / (time.perf_counter() - began)


MEASUREMENTS: Measurements = {"sse": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
