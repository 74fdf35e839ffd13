"""A process that appends events to many chats at a steady rate; each event holds the time it was sent to Redis."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from bench.harness.environment import ReadyChat
from chunkspool.producing.buffer import encode_delta
from chunkspool.store.client import connect

AT_ONCE = 64
"""The maximum of appends in one round trip. A writer that is on time sends only the few that are due."""
PAUSE = 0.0005


@dataclass(frozen=True, slots=True)
class WriterReport:
    """How many events were written, and how many a second.

    `late`: how many ms late another process, which only slept for 1 ms at a time, woke up (p99).
    """

    events: int
    rate: float
    late: float = 0.0


class WriterProcess:
    """The process. Use it as a context manager."""

    def __init__(self, url: str, chats: list[ReadyChat]) -> None:
        """Start nothing yet. No one else may write to `chats`."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, url, chats), daemon=True)

    def __enter__(self) -> Self:
        """Start the process."""
        self._process.start()
        return self

    def __exit__(self, _type: object, _error: object, _traceback: TracebackType | None) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()

    def write(self, rate: float, seconds: float) -> WriterReport:
        """Append `rate` events a second, chat after chat, for this many seconds."""
        self._pipe.send((rate, seconds))
        waits = []
        began = time.perf_counter()
        while not self._pipe.poll(0.001):
            now = time.perf_counter()
            waits.append((now - began) * 1000 - 1)
            began = now
        report: WriterReport = self._pipe.recv()
        return replace(report, late=sorted(waits)[len(waits) * 99 // 100])


def _run(pipe: Connection, url: str, chats: list[ReadyChat]) -> None:
    client = connect(url)
    turns = itertools.cycle(chats)
    while (order := pipe.recv()) is not None:
        rate, seconds = order
        sent, began = 0, time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            due = min(int(now * rate) - sent, AT_ONCE)
            if due <= 0:
                time.sleep(PAUSE)
                continue
            pipeline = client.pipeline(transaction=False)
            sent_at = time.monotonic_ns()
            for chat in itertools.islice(turns, due):
                # 20 characters, as in the other figures; the clock is the machine's, so other processes can compare.
                call = chat.next_append((encode_delta(chat.generation_id, "text", f"{sent_at:020d}"),))
                pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            pipeline.execute()
            sent += due
        pipe.send(WriterReport(sent, sent / (time.perf_counter() - began)))
    client.close()
