"""A reader of a run: reads from some cursor, leaves, comes back, and in the end reads everything."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from support.checker.observations import Reading

from chunkspool import AsyncSpool
from chunkspool.errors import ChunkspoolError, StoreError

RETRY = 0.3
NEVER_ENDED = "it waited until it was cancelled"


@dataclass(frozen=True, slots=True)
class ChatProgress:
    """What readers need to know of a chat: that it exists, and when its last request was made."""

    chat: str
    exists: asyncio.Event = field(default_factory=asyncio.Event)
    all_asked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class ChaosReader:
    """One reader of one chat."""

    name: str
    progress: ChatProgress
    spool: AsyncSpool
    rng: random.Random
    readings: list[Reading] = field(default_factory=list)
    retries: int = 0
    """How often it could not start because Redis was unreachable."""
    _seen: int = 0

    async def run(self) -> None:
        """Read until everything was asked and has ended."""
        await self.progress.exists.wait()
        while not self.progress.all_asked.is_set():
            until = self.rng.choice(["idle", "forever", "forever"])
            await self._read(until, self.rng.randint(1, 60), self.rng.uniform(0.05, 6))
            await asyncio.sleep(self.rng.choice([0, self.rng.uniform(0, 3)]))
        while not await self._read("idle", None, None):  # noqa: ASYNC110 - it waits for Redis
            await asyncio.sleep(RETRY)

    def _choose_cursor(self) -> int:
        """Return where to start: usually where it left off, sometimes anywhere before."""
        return self._seen if self.rng.random() < 0.6 else self.rng.randint(0, self._seen)

    async def _read(self, until: str, entries: int | None, seconds: float | None) -> bool:
        """Read at most this many entries for at most this many seconds; return False if it could not start."""
        after, complete = self._choose_cursor(), entries is None
        got: list[tuple[int, bytes]] = []
        ended, error = False, None
        subscription = self.spool.subscribe(self.progress.chat, after, until=until)
        try:
            async with asyncio.timeout(seconds):
                try:
                    await subscription.__aenter__()
                except StoreError:
                    self.retries += 1
                    return False
                async for entry in subscription:
                    got.append((entry.seq, entry.raw))
                    if len(got) == entries:
                        break
                else:
                    ended = True
        except TimeoutError:
            pass  # the reader leaves
        except ChunkspoolError as raised:
            error = f"{type(raised).__name__}: {raised}"
        except asyncio.CancelledError:
            error = NEVER_ENDED
            raise
        finally:
            await subscription.__aexit__(None, None, None)
            if got or ended or error:
                self.readings.append(Reading(self.name, after, tuple(got), until, ended, error, complete))
            self._seen = max(self._seen, got[-1][0] if got else 0)
        return True
