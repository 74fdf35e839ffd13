"""The flusher: one thread that writes what all producers of a process have said, in one pipeline at a time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import redis
from redis.exceptions import NoScriptError, RedisError

from chunkspool import scripts
from chunkspool.buffer import Batch, Buffer
from chunkspool.errors import ChunkspoolError, Fenced, Stopped, StoreFull, StoreUnavailable
from chunkspool.keys import ChatKeys
from chunkspool.scripts import Appended
from chunkspool.settings import Settings
from chunkspool.store import translate

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between tries while Redis is away: doubled from the first to the longest."""


class Lane:
    """One attempt's way to the log. Its producer fills the buffer, the flusher empties it."""

    def __init__(self, keys: ChatKeys, generation_id: str, attempt: int, max_event_bytes: int) -> None:
        """`on_interrupt` is called in the flusher's thread, once."""
        self.keys = keys
        self.generation_id = generation_id
        self.attempt = attempt
        self.buffer = Buffer(generation_id, max_event_bytes)
        self.ended: Future[str] = Future()
        """The generation's state, once its ending is written; or the error for which none could be."""
        self.interruption: ChunkspoolError | None = None
        self.on_interrupt: Callable[[], None] = lambda: None
        self.sent = 0.0
        self.failing_since: float | None = None
        self.scheduled = False

    def interrupt(self, error: ChunkspoolError) -> None:
        """Tell the producer to stop; what it has said so far is still written."""
        if self.interruption is None:
            self.interruption = error
            self.on_interrupt()

    def give_up(self, error: ChunkspoolError) -> None:
        """Nothing more of this attempt can be written."""
        if not self.ended.done():
            self.ended.set_exception(error)
        self.interrupt(error)


class Flusher:
    """Writes for all lanes that are open. Its thread starts with the first one and ends with `close`."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """`client` stays its owner's to close."""
        self._client = client
        self._settings = settings
        self._lease_ms = round(settings.lease * 1000)
        self._beat = settings.lease / 3
        self._wake = threading.Condition()
        self._lanes: dict[str, Lane] = {}
        self._dirty: deque[Lane] = deque()
        self._due: list[tuple[float, int, Lane]] = []
        self._ticket = itertools.count()
        self._pause = FIRST_PAUSE
        self._thread: threading.Thread | None = None
        self._closing = False

    def open(self, lane: Lane) -> None:
        """Begin to write for a lane, and to keep its lease alive."""
        lane.sent = time.monotonic() - self._settings.flush_interval  # the first event goes out at once
        with self._wake:
            self._lanes[lane.generation_id] = lane
            self._push(lane, time.monotonic() + self._beat)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunkspool-flusher", daemon=True)
                self._thread.start()
            self._wake.notify()

    def mark(self, lane: Lane) -> None:
        """The lane has something to write."""
        self._dirty.append(lane)
        with self._wake:
            self._wake.notify()

    def stop_asked(self, generation_id: str) -> None:
        """A stop was pushed to this process; it is no matter here if the generation runs elsewhere."""
        lane = self._lanes.get(generation_id)
        if lane is not None:
            lane.interrupt(Stopped(f"generation {generation_id} was stopped"))

    def beat_now(self) -> None:
        """Send a heartbeat for every lane: a pushed stop may have been missed, and its reply carries the flag."""
        with self._wake:
            for lane in self._lanes.values():
                lane.sent = 0.0
                self._push(lane, 0.0)
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(self._settings.write_timeout)

    def _push(self, lane: Lane, due: float) -> None:
        heapq.heappush(self._due, (due, next(self._ticket), lane))

    def _run(self) -> None:
        while True:
            with self._wake:
                lanes = self._wait_for_due()
            if lanes:
                self._flush(lanes)
            elif self._closing:
                return

    def _wait_for_due(self) -> list[Lane]:
        """Return the lanes whose time has come, each once; an empty list when closing with nothing left."""
        while True:
            now = time.monotonic()
            while self._dirty:
                lane = self._dirty.popleft()
                if not lane.scheduled:
                    lane.scheduled = True
                    self._push(lane, max(now, lane.sent + self._settings.flush_interval))
            lanes: dict[str, Lane] = {}
            while self._due and self._due[0][0] <= now:
                lane = heapq.heappop(self._due)[2]
                if lane.generation_id in self._lanes:
                    lanes[lane.generation_id] = lane
            if lanes or (self._closing and not self._lanes):
                return list(lanes.values())
            if self._closing and not any(lane.scheduled for lane in self._lanes.values()):
                return []
            self._wake.wait(self._due[0][0] - now if self._due else None)

    def _flush(self, lanes: list[Lane]) -> None:
        now = time.monotonic()
        work: list[tuple[Lane, Batch | None]] = []
        for lane in lanes:
            lane.scheduled = False
            batch = lane.buffer.cut()
            if batch is not None or now - lane.sent >= self._beat:
                work.append((lane, batch))
            else:
                self._push(lane, lane.sent + self._beat)
        if not work:
            return
        replies = self._send([self._append(lane, batch) for lane, batch in work])
        for (lane, batch), reply in zip(work, replies, strict=True):
            if isinstance(reply, Appended):
                self._taken(lane, batch, reply, now)
            else:
                self._not_taken(lane, reply)

    def _append(self, lane: Lane, batch: Batch | None) -> scripts.Call[Appended]:
        return scripts.append(
            lane.keys,
            lane.generation_id,
            attempt=lane.attempt,
            index=batch.index if batch else 1,
            lease_ms=self._lease_ms,
            events=batch.events if batch else (),
            ending=batch.ending if batch else None,
        )

    def _send(self, calls: list[scripts.Call[Appended]]) -> list[Appended | Exception]:
        """Send all calls in one pipeline; each gets its answer or its own error."""
        replies = self._execute(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # SCRIPT FLUSH, a restart or a failover: teach the server again. What was refused was not executed.
            try:
                self._client.script_load(calls[0].script.text)
            except (RedisError, OSError) as error:
                return [error] * len(calls)
            again = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            for i, reply in zip(again, self._execute([calls[i] for i in again]), strict=True):
                replies[i] = reply
        return [
            reply if isinstance(reply, Exception) else call.parse(reply)
            for call, reply in zip(calls, replies, strict=True)
        ]

    def _execute(self, calls: list[scripts.Call[Appended]]) -> list[Any]:
        try:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            return list(pipeline.execute(raise_on_error=False))
        except (RedisError, OSError) as error:
            return [error] * len(calls)

    def _taken(self, lane: Lane, batch: Batch | None, reply: Appended, now: float) -> None:
        self._pause, lane.failing_since, lane.sent = FIRST_PAUSE, None, now
        if reply.outcome == "gap":
            lane.buffer.restart_at(reply.first)
            lane.interrupt(StoreUnavailable("Redis has lost events that it had acknowledged (restored from an old copy)"))
            self._reschedule(lane, now)
        elif reply.outcome != "ok":
            self._drop(lane, _lost(lane, reply))
        elif batch is not None and batch.ending is not None:
            self._lanes.pop(lane.generation_id, None)
            lane.ended.set_result(reply.status)
        else:
            if reply.stop_asked:
                lane.interrupt(Stopped(f"generation {lane.generation_id} was stopped"))
            if batch is not None and lane.buffer.written():
                self._reschedule(lane, now + self._settings.flush_interval)
            else:
                self._reschedule(lane, now + self._beat)

    def _not_taken(self, lane: Lane, error: Exception) -> None:
        """Keep the batch and try again, unless that cannot help or has been tried for too long."""
        ours = translate(error)
        now = time.monotonic()
        lane.failing_since = now if lane.failing_since is None else lane.failing_since
        hopeless = not isinstance(ours, StoreUnavailable | StoreFull)
        if hopeless or now - lane.failing_since >= self._settings.write_timeout:
            self._drop(lane, ours)
            return
        self._reschedule(lane, now + self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _reschedule(self, lane: Lane, due: float) -> None:
        with self._wake:
            self._push(lane, due)

    def _drop(self, lane: Lane, error: ChunkspoolError) -> None:
        self._lanes.pop(lane.generation_id, None)
        lane.give_up(error)


def _lost(lane: Lane, reply: Appended) -> ChunkspoolError:
    """Return the error for a generation that is no longer this attempt's."""
    name = f"generation {lane.generation_id}"
    if reply.outcome == "fenced":
        return Fenced(f"{name}: attempt {lane.attempt} was replaced by a newer one")
    if reply.outcome == "gone":
        return Fenced(f"{name} was erased, or it expired")
    if reply.status == "stopped":
        return Stopped(f"{name} was stopped")
    return Fenced(f"{name} has ended: {reply.status}")
