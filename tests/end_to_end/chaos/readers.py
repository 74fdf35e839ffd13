"""A reader of a run: reads from some cursor, leaves, comes back, and in the end reads everything."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from support.checker.observations import Reading

from chunkspool import AsyncSpool, Entry
from chunkspool.errors import ChatNotFound, ChunkspoolError, CursorAhead, CursorExpired, StoreError

RETRY = 0.3
NEVER_ENDED = "it waited until it was cancelled"


class ReadEntry(NamedTuple):
    """An entry that a reader has got: its cursor, and its stored bytes, if it is known by more than its seq."""

    cursor: str
    raw: bytes | None


BEGINNING = ReadEntry("0", None)


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
    _read_entries: list[ReadEntry] = field(default_factory=lambda: [BEGINNING])
    """By their seqs."""

    async def run(self) -> None:
        """Read until everything was asked and has ended."""
        await self.progress.exists.wait()
        while not self.progress.all_asked.is_set():
            until = self.rng.choice(["idle", "forever", "forever"])
            await self._read(until, self.rng.randint(1, 60), self.rng.uniform(0.05, 6))
            await self._pause(self.rng.choice([0, self.rng.uniform(0, 3), self.rng.uniform(3, 20)]))
        while not await self._read("idle", None, None):  # noqa: ASYNC110 - it waits for Redis
            await asyncio.sleep(RETRY)

    async def _pause(self, seconds: float) -> None:
        """Stay away for so long, or until everything was asked: a log that went back may have grown again by then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.progress.all_asked.wait()

    def _choose_start(self) -> ReadEntry:
        """Return where to start: usually where it left off, sometimes anywhere before; sometimes by the bare seq."""
        last = len(self._read_entries) - 1
        seq = last if self.rng.random() < 0.6 else self.rng.randint(0, last)
        return self._read_entries[seq] if self.rng.random() < 0.8 else ReadEntry(str(seq), None)

    async def _read(self, until: str, entries: int | None, seconds: float | None) -> bool:
        """Read at most this many entries for at most this many seconds; return False if that has to be repeated."""
        (cursor, behind), complete = self._choose_start(), entries is None
        after = int(cursor.partition(".")[0])
        got: list[tuple[int, bytes]] = []
        ended, error, told, gone = False, None, False, False
        subscription = self.spool.subscribe(self.progress.chat, cursor, until=until)
        try:
            async with asyncio.timeout(seconds):
                try:
                    await subscription.__aenter__()
                except StoreError:
                    self.retries += 1
                    return False
                async for entry in subscription:
                    got.append((entry.seq, entry.raw))
                    self._note(entry)
                    if len(got) == entries:
                        break
                else:
                    ended = True
        except TimeoutError:
            pass  # the reader leaves
        except (CursorAhead, CursorExpired, ChatNotFound) as change:
            told, gone = True, isinstance(change, ChatNotFound)
            self._read_entries = [BEGINNING]
        except ChunkspoolError as raised:
            error = f"{type(raised).__name__}: {raised}"
        except asyncio.CancelledError:
            error = NEVER_ENDED
            raise
        finally:
            await subscription.__aexit__(None, None, None)
            if got or ended or error or told:
                self.readings.append(Reading(self.name, after, tuple(got), until, ended, error, complete, behind, told))
        return gone or not told

    def _note(self, entry: Entry) -> None:
        # One that it had read before has its own cursor again: the log was written anew since then.
        del self._read_entries[entry.seq :]
        self._read_entries.append(ReadEntry(entry.cursor, entry.raw))
