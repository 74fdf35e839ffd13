"""The flusher: one thread that writes what all producers of a process have said, in one pipeline at a time."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoScriptError

from chunkspool.errors import (
    ChunkspoolError,
    InternalError,
    LogRolledBack,
    Released,
    SpoolClosed,
    Stopped,
    StoreFull,
    StoreNotReady,
    StoreUnavailable,
)
from chunkspool.events import GenerationFailed, encode
from chunkspool.observer import NOBODY, Observer, RunningChanged
from chunkspool.producing.buffer import Batch
from chunkspool.producing.flush_report import report_flush
from chunkspool.producing.flush_window import FlushWindow
from chunkspool.producing.growth import OnGrown
from chunkspool.producing.outbox import Outbox
from chunkspool.retry import RetryBudget
from chunkspool.settings import LogSettings
from chunkspool.store.commands import ScriptCall
from chunkspool.store.failover import drop_connections
from chunkspool.store.scripts import AppendReply
from chunkspool.store.translate import CLIENT_ERRORS, translate

BEATS = 3
"""Heartbeats of a lease: two may be lost before another worker takes over."""
_AWAKE = -math.inf
NOT_WRITTEN = ("store_unavailable", "The answer could not be written any more.", True)
"""Code, message and retryable of a generation that fails because of Redis."""


@dataclass(frozen=True, slots=True)
class _Release:
    """That this process gives up what it runs. `counts`: the attempts count."""

    counts: bool

    def error(self, outbox: Outbox) -> Released:
        """Return what the producer of an outbox is told."""
        message = f"generation {outbox.generation_id} is released: this process is about to end"
        return Released(message, counts=self.counts)


class Flusher:
    """Writes for all outboxes that are open. Its thread starts with the first one and ends with `close`."""

    def __init__(
        self,
        client: redis.Redis,
        settings: LogSettings,
        on_grown: OnGrown | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        """`client` stays its owner's to close. `on_grown` is told of logs that have become worth a digest."""
        self.observer = observer
        self._client = client
        self._on_grown = on_grown
        self._settings = settings
        self._beat = settings.lease / BEATS
        self._wake = threading.Condition()
        self._outboxes: set[Outbox] = set()
        # Times at which an outbox is due; the number in between makes entries of equal time comparable. An entry was
        # overtaken if its outbox is due at another time by now, or done; nobody waits for such a one.
        self._due: list[tuple[float, int, Outbox]] = []
        self._ticket = itertools.count()
        self._next_beat = 0.0
        self._window = FlushWindow(settings.flush_interval)
        # Until when the thread sleeps; while it is awake, it looks at what is due before it sleeps again.
        self._sleeps_until = _AWAKE
        # The pauses are shared, because Redis is unreachable for all outboxes at once. The time limits are their own.
        self._pauses = RetryBudget()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._releasing: _Release | None = None

    def open(self, outbox: Outbox) -> None:
        """Begin to write for an outbox, and to keep its lease alive. Raises `SpoolClosed`."""
        outbox.sent = time.monotonic()
        with self._wake:
            if self._closing:
                raise SpoolClosed
            self._outboxes.add(outbox)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunkspool-flusher", daemon=True)
                self._thread.start()
            self._wake_by(self._next_beat)
            releasing = self._releasing
        self.observer.observe(RunningChanged(1))
        if releasing is not None:
            outbox.interrupt(releasing.error(outbox))

    def mark(self, outbox: Outbox) -> None:
        """Note that the outbox has something to write, or a full batch."""
        with self._wake:
            # After an error its next try is already set: what is said meanwhile does not make Redis come back earlier.
            if outbox.due is None or outbox.trouble is None:
                self._schedule(outbox, self._due_of(outbox, time.monotonic()))

    def stop(self, generation_id: str) -> None:
        """Interrupt the generation if it runs here: a stop of it was pushed to all processes."""
        with self._wake:
            stopped = [outbox for outbox in self._outboxes if outbox.generation_id == generation_id]
        for outbox in stopped:
            outbox.interrupt(Stopped(f"generation {generation_id} was stopped"))

    def release(self, *, counts: bool) -> None:
        """Interrupt all generations that run here, and those that will: this process is about to end.

        `counts`: their attempts count towards `max_attempts`.
        """
        with self._wake:
            self._releasing = self._releasing or _Release(counts)
            releasing = self._releasing
            outboxes = tuple(self._outboxes)
        for outbox in outboxes:
            outbox.interrupt(releasing.error(outbox))

    def beat_now(self) -> None:
        """Send a heartbeat for every outbox: a pushed stop may have been missed, and the reply carries the flag."""
        with self._wake:
            for outbox in self._outboxes:
                outbox.sent = 0.0
            self._next_beat = 0.0
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, then end the thread. Producers that are still at work get `SpoolClosed`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(self._settings.write_timeout)

    def _run(self) -> None:
        failure: ChunkspoolError = SpoolClosed()
        self._window.start(time.monotonic(), time.thread_time())
        try:
            while (outboxes := self._wait_for_due()) is not None:
                self._flush(outboxes)
                self._window.note(time.monotonic(), time.thread_time())
        except BaseException as error:
            failure = InternalError(f"the thread that writes to Redis failed: {error!r}")
            raise
        finally:
            # Whatever ended this thread: nobody may wait for it.
            with self._wake:
                self._closing = True
                for outbox in tuple(self._outboxes):
                    self._drop(outbox, failure)

    def _wait_for_due(self) -> list[Outbox] | None:
        """Return the outboxes whose time has come; None when closing with nothing left to write."""
        with self._wake:
            while True:
                now = time.monotonic()
                outboxes = self._pop_due(now)
                if outboxes:
                    return outboxes
                if self._closing and not self._due:
                    return None
                due = self._due[0][0] if self._due else self._next_beat
                self._sleeps_until = min(due, self._next_beat) if self._outboxes else math.inf
                self._wake.wait(max(0.0, self._sleeps_until - now) if self._outboxes else None)
                self._sleeps_until = _AWAKE

    def _wake_by(self, due: float) -> None:
        """Wake the thread if it would sleep for longer: to wake it for each token would cost more than the token."""
        if due < self._sleeps_until:
            self._wake.notify()

    def _due_of(self, outbox: Outbox, now: float) -> float:
        return now if outbox.buffer.has_full_batch else self._window.due(now, outbox.flushed)

    def _schedule(self, outbox: Outbox, due: float) -> None:
        """Let the outbox be written at the time `due`, unless it is to be earlier."""
        if outbox.due is None or due < outbox.due:
            self._reschedule(outbox, due)

    def _reschedule(self, outbox: Outbox, due: float) -> None:
        outbox.due = due
        heapq.heappush(self._due, (due, next(self._ticket), outbox))
        self._wake_by(due)

    def _pop_due(self, now: float) -> list[Outbox]:
        outboxes: set[Outbox] = set()
        while self._due:
            due, _, outbox = self._due[0]
            overtaken = due != outbox.due or outbox not in self._outboxes
            if due > now and not overtaken:
                break
            heapq.heappop(self._due)
            if not overtaken:
                outbox.due = None
                outboxes.add(outbox)
        if now >= self._next_beat:
            # Heartbeats are looked for four times a beat: an outbox that opened in between waits a quarter at most.
            self._next_beat = now + self._beat / 4
            outboxes.update(outbox for outbox in self._outboxes if self._must_beat(outbox, now))
        return list(outboxes)

    def _must_beat(self, outbox: Outbox, now: float) -> bool:
        return outbox.due is None and now - outbox.sent >= self._beat

    def _flush(self, outboxes: list[Outbox]) -> None:
        now = time.monotonic()
        work = [(outbox, outbox.buffer.cut()) for outbox in outboxes if outbox in self._outboxes]
        work = [(outbox, batch) for outbox, batch in work if batch is not None or self._must_beat(outbox, now)]
        if not work:
            return
        replies = self._send([outbox.call_of(batch) for outbox, batch in work])
        if self.observer is not NOBODY:
            for observation in report_flush(work, replies, now, time.monotonic()):
                self.observer.observe(observation)
        with self._wake:
            for (outbox, batch), reply in zip(work, replies, strict=True):
                if isinstance(reply, AppendReply):
                    self._take_reply(outbox, batch, reply, now)
                else:
                    self._take_error(outbox, batch, reply)
        self._tell_of_growth(work, replies)

    def _send(self, calls: list[ScriptCall[AppendReply]]) -> list[AppendReply | ChunkspoolError]:
        """Send all calls in one pipeline; each gets its answer or its own error."""
        replies = self._execute(calls)
        again = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if again:
            # SCRIPT FLUSH, a restart or a failover. What was refused was not executed; a whole text cannot be refused.
            for i, reply in zip(again, self._execute([calls[i] for i in again], whole=True), strict=True):
                replies[i] = reply
        found = [
            translate(reply) if isinstance(reply, Exception) else call.parse(reply)
            for call, reply in zip(calls, replies, strict=True)
        ]
        if any(isinstance(one, StoreNotReady) for one in found):
            # A failover: the next try takes a new connection, and the stop listener, whose own is of this pool, too.
            drop_connections(self._client)
        return found

    def _execute(self, calls: list[ScriptCall[AppendReply]], *, whole: bool = False) -> list[Any]:
        try:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                if whole:
                    pipeline.eval(call.script.text, len(call.keys), *call.keys, *call.args)
                else:
                    pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            return list(pipeline.execute(raise_on_error=False))
        except CLIENT_ERRORS as error:
            return [error] * len(calls)

    def _take_reply(self, outbox: Outbox, batch: Batch | None, reply: AppendReply, now: float) -> None:
        self._pauses.renew()
        outbox.retry.renew()
        outbox.trouble, outbox.sent = None, now
        if reply.outcome == "gap":
            # Redis knows fewer events than it had acknowledged: an older copy of it was restored.
            self._fail(outbox, reply.first, now, LogRolledBack(outbox.generation_id))
        elif reply.outcome != "ok":
            self._drop(outbox, outbox.loss_by(reply))
        elif batch is not None and batch.ending is not None:
            self._forget(outbox)
            if reply.status == "running":
                outbox.give_up(outbox.interruption or _Release(counts=False).error(outbox))
            else:
                outbox.end(reply.status, reply.log_size, outcome_wanted=reply.ages.outcome_wanted)
        else:
            if reply.stop_asked:
                outbox.interrupt(Stopped(f"generation {outbox.generation_id} was stopped"))
            if batch is not None:
                outbox.flushed = now
                outbox.note_written(batch.events)
                if outbox.buffer.confirm():
                    self._schedule(outbox, self._due_of(outbox, now))

    def _tell_of_growth(
        self, work: list[tuple[Outbox, Batch | None]], replies: list[AppendReply | ChunkspoolError]
    ) -> None:
        for (outbox, batch), reply in zip(work, replies, strict=True):
            if batch is None or not isinstance(reply, AppendReply):
                continue
            growth = outbox.growth
            if growth.add(reply.last, batch.size, is_last=batch.ending is not None) and self._on_grown is not None:
                self._on_grown(outbox.keys, has_large=growth.has_large)

    def _fail(self, outbox: Outbox, index: int, now: float, error: ChunkspoolError) -> None:
        """End the generation as failed: what is missing of it cannot be written any more."""
        code, message, retryable = NOT_WRITTEN
        outbox.pace.lost_as = code
        failed = GenerationFailed(generation_id=outbox.generation_id, code=code, message=message, retryable=retryable)
        if outbox.buffer.restart_at(index, encode(failed)):
            self._schedule(outbox, now)
        outbox.interrupt(error)

    def _take_error(self, outbox: Outbox, batch: Batch | None, error: ChunkspoolError) -> None:
        """Keep the batch and try again, unless that cannot help or has been tried for too long."""
        outbox.trouble = error
        now = time.monotonic()
        late = outbox.retry.fail()
        if late and isinstance(error, StoreFull) and batch is not None and outbox.interruption is None:
            # A full Redis takes an ending all the same (append.lua): no reader is left waiting.
            outbox.retry.renew()
            self._fail(outbox, batch.index, now, error)
            return
        if late or not isinstance(error, StoreUnavailable | StoreFull):
            self._drop(outbox, error)
            return
        self._reschedule(outbox, now + self._pauses.pause())

    def _drop(self, outbox: Outbox, error: ChunkspoolError) -> None:
        self._forget(outbox)
        outbox.give_up(error)

    def _forget(self, outbox: Outbox) -> None:
        if outbox in self._outboxes:
            self._outboxes.remove(outbox)
            self.observer.observe(RunningChanged(-1))
