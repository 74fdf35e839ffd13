"""Read generations on threads and on an event loop while servers die, and tell what became of each reader."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.checker.observations import Reading

from chunkspool import AsyncSpool, Generation, Settings, Spool


@dataclass(slots=True)
class Outcome:
    """One reader: what it has got so far, and how it ended."""

    asked: Generation
    face: str
    entries: list[tuple[int, bytes]] = field(default_factory=list)
    error: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def reading(self) -> Reading:
        """What the checker wants to know."""
        asked = self.asked
        return Reading(self.face, asked.after, tuple(self.entries), until=asked.generation_id, ended=self.error is None)


@contextmanager
def outcomes(settings: Settings, generations: Sequence[Generation]) -> Iterator[list[Outcome]]:
    """Read each generation twice, on a thread and on an event loop; give the readers when all have begun."""
    with Spool.from_settings(settings) as spool:
        found = [Outcome(one, face) for one in generations for face in ("threads", "asyncio")]
        threads = [threading.Thread(target=_read, args=(spool, one), daemon=True) for one in found[::2]]
        threads.append(threading.Thread(target=asyncio.run, args=(_read_all(settings, found[1::2]),), daemon=True))
        for thread in threads:
            thread.start()
        yield found


def _read(spool: Spool, outcome: Outcome) -> None:
    try:
        asked = outcome.asked
        with spool.subscribe(asked.chat_id, asked.after, until=asked.generation_id) as entries:
            for entry in entries:
                outcome.entries.append((entry.seq, entry.raw))
    except Exception as error:  # noqa: BLE001 - it is the test's to judge
        outcome.error = error
    finally:
        outcome.over.set()


async def _read_all(settings: Settings, found: Sequence[Outcome]) -> None:
    async with AsyncSpool.from_settings(settings) as spool:
        await asyncio.gather(*(_read_one(spool, one) for one in found))


async def _read_one(spool: AsyncSpool, outcome: Outcome) -> None:
    try:
        asked = outcome.asked
        async with spool.subscribe(asked.chat_id, asked.after, until=asked.generation_id) as entries:
            async for entry in entries:
                outcome.entries.append((entry.seq, entry.raw))
    except Exception as error:  # noqa: BLE001 - it is the test's to judge
        outcome.error = error
    finally:
        outcome.over.set()
