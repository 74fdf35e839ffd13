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

import psutil

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from bench.harness.web_server import run_web_server
from chunkspool import fold
from chunkspool.demo.ports import LOOPBACK
from chunkspool.events import DataEvent, Event, ToolCallEvent, ToolResultEvent

SIZES = (200_000, 1_000_000)
PER_GENERATION, BATCH = 10_000, 250
FOLDED = 40_000
MOST_SECONDS, MOST_RATIO = 1.0, 3.0
IDLE = 2.0
RESUMED = 1_000_000
PATIENCE = 120.0
TICK = 0.01


def measure(environment: Environment) -> list[Figure]:
    """Measure a snapshot and a resume, each with a web server of its own, and `fold`."""
    with run_web_server(environment) as (port, process):
        with _watch(partial(_check_health, port)) as waits:
            time.sleep(IDLE)
        figures = [_health("health checks while nothing else runs", waits)]
        figures += [figure for size in SIZES for figure in _measure_snapshots(environment, port, process, size)]
    with run_web_server(environment) as (port, process):
        figures += _measure_resumes(environment, port, process)
    return [*figures, *_measure_fold()]


def _measure_snapshots(environment: Environment, port: int, process: psutil.Process, size: int) -> Iterator[Figure]:
    chat = _write_chat(environment, size)
    path = f"/v1/chats/{chat.keys.chat_id}"
    for call in ("first", "second", "third"):
        with _watch(partial(_check_health, port)) as waits, _watch(lambda: process.memory_info().rss / 1e6) as memory:
            seconds, told = _fetch(port, path)
        what = f"snapshot of {size:,} events, {call} call"
        yield (
            at_most(what, seconds, MOST_SECONDS, " s", told)
            if call == "third"
            else Figure(what, f"{seconds:.2f} s  ({told})")
        )
        yield _health("  health checks meanwhile", waits)
        yield Figure("  memory of the web server", f"{memory[0]:.0f} MB, at most {max(memory):.0f} MB")
    seconds, told = _fetch(port, f"{path}?limit=10")
    yield at_most("  its last ten answers (`limit=10`)", seconds * 1000, 100, " ms", told)


def _measure_resumes(environment: Environment, port: int, process: psutil.Process) -> Iterator[Figure]:
    """Resume a running answer; the stream is read up to the last event that there is."""
    chat = environment.new_claimed_chat()
    _fill(environment, chat, RESUMED)
    for call in ("first", "second"):
        with _watch(partial(_check_health, port)) as waits, _watch(lambda: process.memory_info().rss / 1e6) as memory:
            seconds, told = _fetch(port, f"/api/chat/{chat.keys.chat_id}/stream")
        yield Figure(f"resume of a running answer of {RESUMED:,} events, {call} call", f"{seconds:.2f} s  ({told})")
        yield Figure("  memory of the web server", f"{memory[0]:.0f} MB, at most {max(memory):.0f} MB")
        yield _health("  health checks meanwhile", waits)


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


def _write_chat(environment: Environment, events: int) -> ReadyChat:
    """Write a chat of ended generations."""
    chat = environment.new_claimed_chat()
    for _ in range(events // PER_GENERATION - 1):
        _fill(environment, chat, PER_GENERATION)
        environment.end(chat)
        environment.add_generation(chat)
    _fill(environment, chat, PER_GENERATION)
    environment.end(chat)
    return chat


def _fill(environment: Environment, chat: ReadyChat, events: int) -> None:
    for _ in range(events // BATCH):
        environment.store.send(chat.next_append((chat.event,) * BATCH))


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


def _health(what: str, waits: list[float]) -> Figure:
    return Figure(what, f"median {statistics.median(waits):.1f} ms, longest {max(waits):.1f} ms  (of {len(waits)})")


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
