"""An outbox: one attempt's way to the log. Its producer fills it, the flusher empties it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from chunkspool.errors import ChunkspoolError, Fenced, LimitExceeded, Stopped
from chunkspool.producing.buffer import Batch, Buffer
from chunkspool.producing.growth import Growth
from chunkspool.producing.pace import Pace
from chunkspool.request import Claim
from chunkspool.retry import RetryBudget
from chunkspool.settings import LogSettings
from chunkspool.store.commands import ScriptCall
from chunkspool.store.keys import ChatKeys
from chunkspool.store.log_size import LogSize
from chunkspool.store.scripts import AppendReply, Appends

ENTRY_BYTES: Final = 24
"""Bytes that an event takes in a log beside its JSON: its id, its time, the stream's own."""


class Outbox:
    """What producer and flusher know of one attempt."""

    def __init__(self, keys: ChatKeys, generation_id: str, settings: LogSettings, claim: Claim) -> None:
        """Begin with an empty buffer."""
        self.keys = keys
        self.generation_id = generation_id
        self.attempt = claim.attempt
        self.appends = Appends(keys, generation_id, claim.attempt, round(settings.lease * 1000), claim.request_id)
        self.buffer = Buffer(generation_id, settings.buffer_bytes, settings.max_event_bytes)
        self.ended: Future[str] = Future()
        """The generation's state once its ending is written, or the error for which none could be."""
        self.interruption: ChunkspoolError | None = None
        """Why the producer must stop; what it has said so far is still written."""
        self.trouble: ChunkspoolError | None = None
        """Why Redis did not take the last batch; None once it has."""
        self.log_size: LogSize | None = None
        self.outcome_wanted = False
        """What the chat's log took when the ending was written."""
        self.sent = 0.0
        """When Redis last answered for it. This one and those below are the flusher's own."""
        self.flushed = 0.0
        self.growth = Growth()
        self.pace = Pace(claim)
        self.retry = RetryBudget(settings.write_timeout)
        self.due: float | None = None
        self._room = claim.room
        self._lock = threading.Lock()
        self._on_interrupt: Callable[[], None] | None = None

    def watch(self, on_interrupt: Callable[[], None]) -> None:
        """Call `on_interrupt` once, in whichever thread learns of the interruption; at once if there was one."""
        with self._lock:
            self._on_interrupt = on_interrupt
            already = self.interruption is not None
        if already:
            on_interrupt()

    def interrupt(self, error: ChunkspoolError) -> None:
        """Tell the producer to stop."""
        with self._lock:
            if self.interruption is not None:
                return
            self.interruption = error
            tell = self._on_interrupt
        self.buffer.unblock()
        if tell is not None:
            tell()

    def note_written(self, events: Sequence[bytes]) -> None:
        """Note what Redis has taken. A log that has no more room ends the generation."""
        if self._room is None:
            return
        self._room -= sum(map(len, events)) + ENTRY_BYTES * len(events)
        if self._room < 0:
            full = f"the log of chat {self.keys.chat_id!r} has reached chat_bytes, so the answer ends here"
            self.interrupt(LimitExceeded("chat_bytes", f"{full}: begin another chat, or erase this one"))

    def end(self, state: str, log_size: LogSize | None, *, outcome_wanted: bool = False) -> None:
        """Note that the ending is written, and whether its outcome is to be told."""
        self.log_size = log_size
        self.outcome_wanted = outcome_wanted
        if not self.ended.done():
            self.ended.set_result(state)
        self.buffer.unblock()

    def give_up(self, error: ChunkspoolError) -> None:
        """Note that nothing more of this attempt can be written."""
        if not self.ended.done():
            self.ended.set_exception(error)
        self.interrupt(error)

    def call_of(self, batch: Batch | None) -> ScriptCall[AppendReply]:
        """Return the call that appends the batch; without one, it is a heartbeat."""
        return self.appends.batch(batch.index, batch.events, batch.ending) if batch else self.appends.batch(1)

    def loss_by(self, reply: AppendReply) -> ChunkspoolError:
        """Return the error for a generation that, by this reply, is no longer this attempt's."""
        name = f"generation {self.generation_id}"
        if reply.outcome == "fenced":
            return Fenced(f"{name}: attempt {self.attempt} was replaced by a newer one")
        if reply.outcome == "gone":
            return Fenced(f"{name} is no longer in Redis: it was erased, it expired, or Redis lost its data")
        if reply.status == "stopped":
            return Stopped(f"{name} was stopped")
        return Fenced(f"{name} has ended: {reply.status}")
