"""`make bench`, big chats: a snapshot and a resume of a very long chat, and what other requests feel of it meanwhile.

`python -m bench.big_chats`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

import psutil

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from bench.harness.web_server import run_web_server
from chunkspool import fold
from chunkspool.demo.ports import LOOPBACK
from chunkspool.events import DataEvent, Event, ToolCallEvent, ToolResultEvent
from chunkspool.producing.growth import Growth
from chunkspool.spool.digest_keeper import DigestKeeper

SIZES = (10_000, 100_000, 1_000_000)
PER_GENERATION, BATCH = 10_000, 250
LATE = 100
FOLDED = 40_000
MOST_SECONDS, MOST_RATIO = 1.0, 3.0
SLOWER, LEAST_MS = 3.0, 50.0
"""How much longer than while nothing runs the longest health check may take, and what is never too long."""
IDLE = 4.0
PATIENCE = 120.0
TICK = 0.01


def measure(environment: Environment) -> list[Figure]:
    """Measure snapshots and resumes, each chat with a web server of its own, and `fold`."""
    figures = []
    for size in SIZES:
        for shape, write in (("many generations", _write_many), ("one that runs", _write_one)):
            chat, detail = write(environment, size)
            with run_web_server(environment) as (port, process):
                figures.append(Figure(f"{size:,} events, {shape}", detail))
                figures += _measure_chat(port, process, chat, size)
    return [*figures, *_measure_fold()]


def _measure_chat(port: int, process: psutil.Process, chat: ReadyChat, size: int) -> Iterator[Figure]:
    with _watch(partial(_check_health, port)) as idle:
        time.sleep(IDLE)
    yield Figure("  health checks while nothing else runs", _tell_of(idle))
    path = f"/v1/chats/{chat.keys.chat_id}"
    requests = (
        ("first snapshot", path),
        ("second snapshot", path),
        ("its last ten answers (`limit=10`)", f"{path}?limit=10"),
        (f"resume from {LATE} events before the end", f"{path}/events?after={size - LATE}"),
        ("useChat resume", f"/api/chat/{chat.keys.chat_id}/stream"),
    )
    for what, asked in requests:
        with _watch(partial(_check_health, port)) as waits, _watch(lambda: process.memory_info().rss / 1e6) as memory:
            seconds, told = _fetch(port, asked)
        yield at_most(f"  {what}", seconds, MOST_SECONDS, " s", f"{told}, {memory[0]:.0f} → {max(memory):.0f} MB")
        most = max(LEAST_MS, round(SLOWER * max(idle)))
        yield at_most("    longest health check meanwhile", max(waits), most, " ms", _tell_of(waits))


def _measure_fold() -> Iterator[Figure]:
    """Twice as many events take about twice as long."""
    for what, make in (("data events", _data_events), ("tool calls with results", _tool_calls)):
        times = []
        for count in (FOLDED, 2 * FOLDED):
            events = make(count)
            times.append(min(_time_fold(events) for _ in range(3)))
        detail = f"{times[0]:.3f} → {times[1]:.3f} s"
        yield at_most(f"fold of {2 * FOLDED:,} {what} / of {FOLDED:,}", times[1] / times[0], MOST_RATIO, " x", detail)


def _time_fold(events: list[Event]) -> float:
    began = time.process_time()
    fold(events)
    return time.process_time() - began


def _data_events(count: int) -> list[Event]:
    return [DataEvent(generation_id="g", name="mark", value=i) for i in range(count)]


def _tool_calls(count: int) -> list[Event]:
    events: list[Event] = []
    for i in range(count // 2):
        events += [
            ToolCallEvent(generation_id="g", id=f"call-{i}", name="clock", arguments="{}"),
            ToolResultEvent(generation_id="g", id=f"call-{i}", output=i),
        ]
    return events


def _write_many(environment: Environment, events: int) -> tuple[ReadyChat, str]:
    """Write a chat of generations that have all ended."""
    chat = environment.new_claimed_chat()
    with _Writer(environment, chat) as writer:
        for _ in range(events // PER_GENERATION - 1):
            writer.fill(PER_GENERATION)
            writer.end()
            environment.add_generation(chat)
        writer.fill(PER_GENERATION)
        writer.end()
    return chat, writer.detail


def _write_one(environment: Environment, events: int) -> tuple[ReadyChat, str]:
    """Write a chat whose only generation still runs."""
    chat = environment.new_claimed_chat()
    with _Writer(environment, chat) as writer:
        writer.fill(events)
    return chat, writer.detail


class _Writer:
    """Writes a chat as fast as it can and keeps its digest meanwhile, as a worker does."""

    def __init__(self, environment: Environment, chat: ReadyChat) -> None:
        self._environment = environment
        self._chat = chat
        self._keeper = DigestKeeper(environment.client)
        self._growth = Growth()
        self._began = time.monotonic()
        self.detail = ""

    def fill(self, events: int) -> None:
        """Write so many events."""
        for _ in range(events // BATCH):
            batch = (self._chat.event,) * BATCH
            reply = self._environment.store.send(self._chat.next_append(batch))
            self._note(reply.last, sum(map(len, batch)), is_last=False)

    def end(self) -> None:
        """End the generation."""
        self._environment.end(self._chat)
        self._note(PER_GENERATION, 0, is_last=True)

    def _note(self, seq: int, size: int, *, is_last: bool) -> None:
        if self._growth.add(seq, size, is_last=is_last):
            self._keeper.note(self._chat.keys, has_large=self._growth.has_large)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until the digest is there."""
        written = time.monotonic()
        while not self._keeper.is_idle:
            time.sleep(TICK)
        self._keeper.close()
        self.detail = f"written in {written - self._began:.1f} s, read {time.monotonic() - written:.1f} s later"


def _fetch(port: int, path: str) -> tuple[float, str]:
    """Ask for `path`; return the seconds until its body is there, and what came. A stream is read until it is quiet."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE)
    connection.request("GET", path)
    reply = connection.getresponse()
    size = 0
    if reply.getheader("content-type", "").startswith("text/event-stream"):
        connection.sock.settimeout(1.0)
        last = began
        try:
            while piece := reply.read1(1024 * 1024):
                size, last = size + len(piece), time.perf_counter()
                if piece == b":\n":
                    break
        except TimeoutError:
            pass
        seconds = last - began
    else:
        size = len(reply.read())
        seconds = time.perf_counter() - began
    connection.close()
    return seconds, f"{reply.status}, {size / 1e6:.1f} MB"


def _tell_of(waits: list[float]) -> str:
    return f"median {statistics.median(waits):.1f} ms, longest {max(waits):.1f} ms of {len(waits)}"


def _check_health(port: int) -> float:
    """Return how many milliseconds a health check takes."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - began) * 1000


@contextmanager
def _watch(take: Callable[[], float]) -> Iterator[list[float]]:
    """Collect what `take` returns, again and again, while the block runs."""
    taken, is_over = [take()], threading.Event()

    def watch() -> None:
        while not is_over.wait(TICK):
            taken.append(take())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield taken
    finally:
        is_over.set()
        thread.join()


MEASUREMENTS: Measurements = {"big chats": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
