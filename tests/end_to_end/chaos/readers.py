"""A reader of a run: comes, reads from some cursor, leaves, comes again, and in the end wants to have it all."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from support.checker.observations import Reading

from chunkspool import AsyncSpool
from chunkspool.errors import ChunkspoolError, StoreError

RETRY = 0.3
FOR_EVER = "it waited until it was sent away"


@dataclass(frozen=True, slots=True)
class Topic:
    """What readers need to know of a chat: that it exists, and that nothing more will be asked in it."""

    chat: str
    exists: asyncio.Event = field(default_factory=asyncio.Event)
    all_asked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Reader:
    """One reader of one chat."""

    name: str
    topic: Topic
    spool: AsyncSpool
    dice: random.Random
    readings: list[Reading] = field(default_factory=list)
    hiccups: int = 0
    """How often it could not begin because Redis was away."""
    _seen: int = 0

    async def run(self) -> None:
        """Read until all was asked and all has ended."""
        await self.topic.exists.wait()
        while not self.topic.all_asked.is_set():
            until = self.dice.choice(["idle", "forever", "forever"])
            await self._read(until, self.dice.randint(1, 60), self.dice.uniform(0.05, 6))
            await asyncio.sleep(self.dice.choice([0, self.dice.uniform(0, 3)]))
        while not await self._read("idle", None, None):  # noqa: ASYNC110 - what it waits for is Redis
            await asyncio.sleep(RETRY)

    def _cursor(self) -> int:
        """Return where to begin: mostly where it left, sometimes anywhere before that."""
        return self._seen if self.dice.random() < 0.6 else self.dice.randint(0, self._seen)

    async def _read(self, until: str, entries: int | None, seconds: float | None) -> bool:
        """Read so many entries for so many seconds at most; return False if it could not begin."""
        after, complete = self._cursor(), entries is None
        got: list[tuple[int, bytes]] = []
        over, error = False, None
        subscription = self.spool.subscribe(self.topic.chat, after, until=until)
        try:
            async with asyncio.timeout(seconds):
                try:
                    await subscription.__aenter__()
                except StoreError:
                    self.hiccups += 1
                    return False
                async for entry in subscription:
                    got.append((entry.seq, entry.raw))
                    if len(got) == entries:
                        break
                else:
                    over = True
        except TimeoutError:
            pass  # it has left
        except ChunkspoolError as raised:
            error = f"{type(raised).__name__}: {raised}"
        except asyncio.CancelledError:
            error = FOR_EVER
            raise
        finally:
            await subscription.__aexit__(None, None, None)
            if got or over or error:
                self.readings.append(Reading(self.name, after, tuple(got), until, over, error, complete))
            self._seen = max(self._seen, got[-1][0] if got else 0)
        return True
