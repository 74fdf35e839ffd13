"""A group's outcomes as a loop sees them: handed out, acknowledged, waited for; sync and async."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from chunkspool.effects import Operation
from chunkspool.errors import ChunkspoolError, InvalidInput, StoreUnavailable
from chunkspool.ids import checked_id
from chunkspool.operations import outcomes
from chunkspool.outcomes import Outcome, Until

BATCH_MAX = 16
POLLS = (0.02, 0.5)
"""Seconds between two looks at a stream that has nothing: the first one, and the longest."""
JOIN_SECONDS = 60.0
"""How often a consumer says again that it is there."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a consumer reads its group's outcomes; see `Spool.outcomes`. Raises `InvalidInput`."""

    tenant: str
    group: str
    consumer: str
    until: Until = "forever"
    claim_after: float = 60.0
    max_deliveries: int = 5
    batch: int = 16
    again: bool = False

    def __post_init__(self) -> None:
        """Check it."""
        checked_id("group", self.group)
        checked_id("consumer", self.consumer)
        if self.until not in ("forever", "drained"):
            raise InvalidInput(f'until={self.until!r}: use "forever" or "drained"')
        if not 1 <= self.batch <= BATCH_MAX:
            raise InvalidInput(f"batch={self.batch}: from 1 to {BATCH_MAX}")
        if self.max_deliveries < 1 or not self.claim_after > 0:
            raise InvalidInput("max_deliveries is at least 1, and claim_after more than 0 seconds")

    @staticmethod
    def new_consumer() -> str:
        """Return a name that no other consumer has."""
        return f"c-{secrets.token_hex(6)}"


class _Shelf:
    """What was handed to this consumer and not yet to its loop."""

    def __init__(self, reading: Reading, patience: float) -> None:
        """`patience`: for how many seconds Redis may be away."""
        self.reading = reading
        self._patience = patience
        self._ready: deque[Outcome] = deque()
        self._fresh_until = 0.0
        self._cursor = "0-0"
        self._pause = POLLS[0]
        self._away_since: float | None = None
        self._joined = time.monotonic()

    def pop(self) -> Outcome | None:
        """Return the next one. What has lain here for too long may be another consumer's by now: it is left to it."""
        if time.monotonic() > self._fresh_until:
            self._ready.clear()
        return self._ready.popleft() if self._ready else None

    def next_step(self) -> Operation[Any]:
        """Return what to do to get more."""
        one = self.reading
        if time.monotonic() - self._joined > JOIN_SECONDS:
            self._joined = time.monotonic()
            return outcomes.join(one.tenant, one.group)
        return self._take()

    def _take(self) -> Operation[bool]:
        one = self.reading
        asked = time.monotonic()
        handed = yield from outcomes.take(
            one.tenant,
            one.group,
            one.consumer,
            batch=one.batch,
            claim_after=one.claim_after,
            max_deliveries=one.max_deliveries,
            cursor=self._cursor,
        )
        self._away_since = None
        self._cursor = handed.cursor
        self._ready.extend(handed.found or ())
        self._fresh_until = asked + one.claim_after / 2
        if self._ready:
            self._pause = POLLS[0]
        elif one.until == "drained" and not handed.set_aside and self._cursor == "0-0":
            raise _Drained
        return True

    def pause(self) -> float:
        """Return for how long to wait before another look; 0 where there is more to look at."""
        if self._ready or self._cursor != "0-0":
            return 0.0
        self._pause, now = min(self._pause * 1.5, POLLS[1]), self._pause
        return now

    def pause_after(self, error: StoreUnavailable) -> float:
        """Return for how long to wait for a Redis that is away. Raises the error once that has been too long."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > self._patience:
            raise error
        return POLLS[1]


class _Drained(Exception):
    """There is nothing to hand out."""


class OutcomeStream:
    """The outcomes of a tenant, for one consumer of a group: loop over it in its `with` block, and acknowledge.

    What is not acknowledged is handed out again, to whichever consumer of the group asks. One thread at a time.
    """

    def __init__(
        self, run: Callable[[Operation[Any]], Any], wait: Callable[[float], object], reading: Reading, patience: float
    ) -> None:
        """Do nothing yet; `Spool.outcomes` makes it."""
        self._run = run
        self._wait = wait
        self._reading = reading
        self._shelf = _Shelf(reading, patience)

    @property
    def group(self) -> str:
        """The group."""
        return self._reading.group

    @property
    def consumer(self) -> str:
        """The consumer's name in it."""
        return self._reading.consumer

    def __enter__(self) -> Self:
        """Join the group, or make it. Raises `OutcomeGroupDropped` or `StoreError`."""
        one = self._reading
        self._run(outcomes.join(one.tenant, one.group, again=one.again))
        return self

    def __exit__(self, *_: object) -> None:
        """Leave. What is not acknowledged is handed out to others in `claim_after` seconds."""
        with suppress(ChunkspoolError):
            self._run(outcomes.leave(self._reading.tenant, self.group, self.consumer))

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Outcome:
        """Wait for the next outcome. Raises `OutcomeGroupDropped`, `StoreError` or `SpoolClosed`."""
        while True:
            outcome = self._shelf.pop()
            if outcome is not None:
                return outcome
            try:
                self._run(self._shelf.next_step())
            except _Drained:
                raise StopIteration from None
            except StoreUnavailable as error:
                pause = self._shelf.pause_after(error)
            else:
                pause = self._shelf.pause()
            if pause:
                self._wait(pause)

    def ack(self, *done: Outcome) -> int:
        """Acknowledge outcomes; return how many were still this group's to acknowledge. Once more is no error."""
        return int(self._run(outcomes.acknowledge(self._reading.tenant, self.group, done)))

    def set_aside(self, outcome: Outcome, why: str = "") -> bool:
        """Give an outcome up: `Spool.dead_outcomes` has it then. Tell whether it was still this group's."""
        return bool(self._run(outcomes.set_aside(self._reading.tenant, self.group, outcome, why)))


class AsyncOutcomeStream:
    """The same, awaited: see `OutcomeStream`. One task at a time."""

    def __init__(self, run: Callable[[Operation[Any]], Awaitable[Any]], reading: Reading, patience: float) -> None:
        """Do nothing yet; `AsyncSpool.outcomes` makes it."""
        self._run = run
        self._reading = reading
        self._shelf = _Shelf(reading, patience)

    @property
    def group(self) -> str:
        """The group."""
        return self._reading.group

    @property
    def consumer(self) -> str:
        """The consumer's name in it."""
        return self._reading.consumer

    async def __aenter__(self) -> Self:
        """Join the group, or make it. Raises `OutcomeGroupDropped` or `StoreError`."""
        one = self._reading
        await self._run(outcomes.join(one.tenant, one.group, again=one.again))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave. What is not acknowledged is handed out to others in `claim_after` seconds."""
        with suppress(ChunkspoolError):
            await self._run(outcomes.leave(self._reading.tenant, self.group, self.consumer))

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Outcome:
        """Wait for the next outcome. Raises `OutcomeGroupDropped`, `StoreError` or `SpoolClosed`."""
        while True:
            outcome = self._shelf.pop()
            if outcome is not None:
                return outcome
            try:
                await self._run(self._shelf.next_step())
            except _Drained:
                raise StopAsyncIteration from None
            except StoreUnavailable as error:
                pause = self._shelf.pause_after(error)
            else:
                pause = self._shelf.pause()
            if pause:
                await asyncio.sleep(pause)

    async def ack(self, *done: Outcome) -> int:
        """Acknowledge outcomes; see `OutcomeStream.ack`."""
        return int(await self._run(outcomes.acknowledge(self._reading.tenant, self.group, done)))

    async def set_aside(self, outcome: Outcome, why: str = "") -> bool:
        """Give an outcome up; see `OutcomeStream.set_aside`."""
        return bool(await self._run(outcomes.set_aside(self._reading.tenant, self.group, outcome, why)))
