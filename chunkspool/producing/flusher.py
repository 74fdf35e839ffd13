"""The flusher: one thread that writes what all producers of a process have said, in one pipeline at a time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from typing import Any

import redis
from redis.exceptions import NoScriptError, RedisError

from chunkspool.errors import ChunkspoolError, Fenced, HandedOver, Stopped, StoreFull, StoreUnavailable
from chunkspool.events import GenerationFailed, encode
from chunkspool.producing.buffer import Batch
from chunkspool.producing.outbox import Lane
from chunkspool.settings import Settings
from chunkspool.store import scripts
from chunkspool.store.client import translate
from chunkspool.store.commands import Call
from chunkspool.store.scripts import Appended

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between tries while Redis is away: doubled from the first to the longest."""
BEATS = 3
"""Heartbeats of a lease: two may be lost before another worker takes over."""
NOT_WRITTEN = ("store_unavailable", "The answer could not be written any more.", True)
"""Code, message and retryable of a generation that fails because of Redis."""


class Flusher:
    """Writes for all lanes that are open. Its thread starts with the first one and ends with `close`."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """`client` stays its owner's to close."""
        self._client = client
        self._settings = settings
        self._beat = settings.lease / BEATS
        self._wake = threading.Condition()
        self._lanes: set[Lane] = set()
        self._dirty: deque[Lane] = deque()
        self._due: list[tuple[float, int, Lane]] = []
        self._ticket = itertools.count()
        self._next_beat = 0.0
        self._pause = FIRST_PAUSE
        self._thread: threading.Thread | None = None
        self._closing = False
        self._handing_over = False

    def open(self, lane: Lane) -> None:
        """Begin to write for a lane, and to keep its lease alive."""
        lane.sent = time.monotonic()
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the spool was closed")
            self._lanes.add(lane)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunkspool-flusher", daemon=True)
                self._thread.start()
            self._wake.notify()
            handing_over = self._handing_over
        if handing_over:
            lane.interrupt(_handed_over(lane))

    def mark(self, lane: Lane) -> None:
        """Note that the lane has something to write."""
        with self._wake:
            self._dirty.append(lane)
            self._wake.notify()

    def stop_asked(self, generation_id: str) -> None:
        """Interrupt the generation if it runs here: a stop of it was pushed to all processes."""
        with self._wake:
            asked = [lane for lane in self._lanes if lane.generation_id == generation_id]
        for lane in asked:
            lane.interrupt(Stopped(f"generation {generation_id} was stopped"))

    def hand_over(self) -> None:
        """Interrupt all generations that run here, and those that will: this process is about to end."""
        with self._wake:
            self._handing_over = True
            lanes = tuple(self._lanes)
        for lane in lanes:
            lane.interrupt(_handed_over(lane))

    def beat_now(self) -> None:
        """Send a heartbeat for every lane: a pushed stop may have been missed, and its reply carries the flag."""
        with self._wake:
            for lane in self._lanes:
                lane.sent = 0.0
            self._next_beat = 0.0
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, then end the thread. Producers that are still at work get `StoreUnavailable`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(self._settings.write_timeout)

    def _run(self) -> None:
        try:
            while (lanes := self._next_lanes()) is not None:
                self._flush(lanes)
        finally:
            # Whatever ended this thread: nobody may wait for it.
            with self._wake:
                self._closing = True
                for lane in tuple(self._lanes):
                    self._drop(lane, StoreUnavailable("nothing is written any more: the spool was closed"))

    def _next_lanes(self) -> list[Lane] | None:
        with self._wake:
            return self._wait_for_due()

    def _wait_for_due(self) -> list[Lane] | None:
        """Return the lanes whose time has come; None when closing with nothing left to write."""
        while True:
            now = time.monotonic()
            while self._dirty:
                lane = self._dirty.popleft()
                self._schedule(lane, max(now, lane.flushed + self._settings.flush_interval))
            lanes = self._due_at(now)
            if lanes:
                return lanes
            if self._closing and not self._due:
                return None
            due = self._due[0][0] if self._due else self._next_beat
            self._wake.wait(max(0.0, min(due, self._next_beat) - now) if self._lanes else None)

    def _schedule(self, lane: Lane, due: float) -> None:
        if not lane.scheduled:
            lane.scheduled = True
            heapq.heappush(self._due, (due, next(self._ticket), lane))

    def _due_at(self, now: float) -> list[Lane]:
        lanes: set[Lane] = set()
        while self._due and self._due[0][0] <= now:
            lane = heapq.heappop(self._due)[2]
            lane.scheduled = False
            lanes.add(lane)
        if now >= self._next_beat:
            self._next_beat = now + self._beat / 4
            lanes.update(lane for lane in self._lanes if self._must_beat(lane, now))
        return list(lanes)

    def _must_beat(self, lane: Lane, now: float) -> bool:
        return not lane.scheduled and now - lane.sent >= self._beat

    def _flush(self, lanes: list[Lane]) -> None:
        now = time.monotonic()
        work = [(lane, lane.buffer.cut()) for lane in lanes if lane in self._lanes]
        work = [(lane, batch) for lane, batch in work if batch is not None or self._must_beat(lane, now)]
        if not work:
            return
        replies = self._send([self._append(lane, batch) for lane, batch in work])
        with self._wake:
            for (lane, batch), reply in zip(work, replies, strict=True):
                if isinstance(reply, Appended):
                    self._taken(lane, batch, reply, now)
                else:
                    self._not_taken(lane, batch, reply)

    def _append(self, lane: Lane, batch: Batch | None) -> Call[Appended]:
        return scripts.append(
            lane.keys,
            lane.generation_id,
            attempt=lane.attempt,
            index=batch.index if batch else 1,
            lease_ms=round(self._settings.lease * 1000),
            events=batch.events if batch else (),
            ending=batch.ending if batch else None,
        )

    def _send(self, calls: list[Call[Appended]]) -> list[Appended | Exception]:
        """Send all calls in one pipeline; each gets its answer or its own error."""
        replies = self._execute(calls)
        again = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if again:
            # SCRIPT FLUSH, a restart or a failover. What was refused was not executed; a whole text cannot be refused.
            for i, reply in zip(again, self._execute([calls[i] for i in again], whole=True), strict=True):
                replies[i] = reply
        return [
            reply if isinstance(reply, Exception) else call.parse(reply)
            for call, reply in zip(calls, replies, strict=True)
        ]

    def _execute(self, calls: list[Call[Appended]], *, whole: bool = False) -> list[Any]:
        try:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                if whole:
                    pipeline.eval(call.script.text, len(call.keys), *call.keys, *call.args)
                else:
                    pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            return list(pipeline.execute(raise_on_error=False))
        except (RedisError, OSError) as error:
            return [error] * len(calls)

    def _taken(self, lane: Lane, batch: Batch | None, reply: Appended, now: float) -> None:
        self._pause, lane.failing_since, lane.sent = FIRST_PAUSE, None, now
        if reply.outcome == "gap":
            lost = "Redis has lost events that it had acknowledged (an old copy was restored)"
            self._begin_anew(lane, reply.first, now, StoreUnavailable(lost))
        elif reply.outcome != "ok":
            self._drop(lane, _lost(lane, reply))
        elif batch is not None and batch.ending is not None:
            self._lanes.discard(lane)
            if reply.status == "running":
                lane.give_up(lane.interruption or _handed_over(lane))
            else:
                lane.end(reply.status)
        else:
            if reply.stop_asked:
                lane.interrupt(Stopped(f"generation {lane.generation_id} was stopped"))
            if batch is not None:
                lane.flushed = now
                if lane.buffer.written():
                    self._schedule(lane, now + self._settings.flush_interval)

    def _begin_anew(self, lane: Lane, index: int, now: float, error: ChunkspoolError) -> None:
        """End the generation as failed: what is missing of it cannot be written any more."""
        code, message, retryable = NOT_WRITTEN
        failed = GenerationFailed(generation=lane.generation_id, code=code, message=message, retryable=retryable)
        if lane.buffer.restart_at(index, encode(failed)):
            self._schedule(lane, now)
        lane.interrupt(error)

    def _not_taken(self, lane: Lane, batch: Batch | None, error: Exception) -> None:
        """Keep the batch and try again, unless that cannot help or has been tried for too long."""
        ours = translate(error)
        now = time.monotonic()
        lane.failing_since = now if lane.failing_since is None else lane.failing_since
        late = now - lane.failing_since >= self._settings.write_timeout
        if late and isinstance(ours, StoreFull) and batch is not None and lane.interruption is None:
            # A full Redis takes an ending all the same (append.lua): no reader is left waiting.
            lane.failing_since = None
            self._begin_anew(lane, batch.index, now, ours)
            return
        if late or not isinstance(ours, StoreUnavailable | StoreFull):
            self._drop(lane, ours)
            return
        self._schedule(lane, now + self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _drop(self, lane: Lane, error: ChunkspoolError) -> None:
        self._lanes.discard(lane)
        lane.give_up(error)


def _handed_over(lane: Lane) -> HandedOver:
    return HandedOver(f"generation {lane.generation_id} is handed over: this process is about to end")


def _lost(lane: Lane, reply: Appended) -> ChunkspoolError:
    """Return the error for a generation that is no longer this attempt's."""
    name = f"generation {lane.generation_id}"
    if reply.outcome == "fenced":
        return Fenced(f"{name}: attempt {lane.attempt} was replaced by a newer one")
    if reply.outcome == "gone":
        return Fenced(f"{name} is not in Redis any more: it was erased, it expired, or Redis has lost its data")
    if reply.status == "stopped":
        return Stopped(f"{name} was stopped")
    return Fenced(f"{name} has ended: {reply.status}")
