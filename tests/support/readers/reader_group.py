"""Background readers, the same for asyncio and threads, so that a promise is tested once for both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from redis import Redis
from support.chats.spools import async_spool_for, spool_for
from support.waiting import eventually

from chunkspool.events import Entry, TextDelta

ReaderKind = Literal["asyncio", "threads"]
READER_KINDS: tuple[ReaderKind, ...] = ("asyncio", "threads")


@dataclass(eq=False, slots=True)
class BackgroundReader:
    """One reader: what it has received so far, and how it ended."""

    entries: list[Entry] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    may_read: threading.Event = field(default_factory=threading.Event)
    leave: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        """Read without a pause until `may_read` is cleared."""
        self.may_read.set()

    @property
    def seqs(self) -> list[int]:
        """The seqs in order of arrival."""
        return [entry.seq for entry in tuple(self.entries)]

    @property
    def texts(self) -> list[str]:
        """The texts in order of arrival."""
        return [entry.event.text for entry in tuple(self.entries) if isinstance(entry.event, TextDelta)]

    def wait_for(self, seq: int, timeout: float = 20) -> None:
        """Wait until it has everything up to `seq`: no gaps, no duplicates."""
        eventually(lambda: self.entries and self.entries[-1].seq >= seq, timeout)
        seqs = self.seqs
        assert seqs == list(range(seqs[0], seqs[-1] + 1))

    def wait_for_end(self, timeout: float = 20) -> None:
        """Wait until the reader has ended."""
        assert self.ended.wait(timeout), "the reader does not end"


class ReaderGroup(Protocol):
    """A spool whose readers run in the background."""

    def follow(self, chat_id: str, after: int | None = None, **options: Any) -> BackgroundReader:
        """Start a reader."""

    def close(self) -> None:
        """Close the spool, then check that all readers have ended."""


class _AsyncioReaders:
    """Readers as tasks of an event loop that runs in a thread."""

    def __init__(self, url: str, **settings: object) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._spool = async_spool_for(url, **settings)
        self._readers: list[BackgroundReader] = []

    def follow(self, chat_id: str, after: int | None = None, **options: Any) -> BackgroundReader:
        reader = BackgroundReader()
        reading = asyncio.run_coroutine_threadsafe(self._read(reader, chat_id, after, options), self._loop)
        self._readers.append(reader)
        reader.leave = reading.cancel
        return reader

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._spool.aclose(), self._loop).result(30)
        for reader in self._readers:
            reader.may_read.set()
        asyncio.run_coroutine_threadsafe(self._wait_for_readers(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _read(self, reader: BackgroundReader, chat_id: str, after: int | None, options: dict[str, Any]) -> None:
        try:
            async with self._spool.subscribe(chat_id, after, **options) as entries:
                async for entry in entries:
                    reader.entries.append(entry)
                    while not reader.may_read.is_set():  # noqa: ASYNC110 - it is set by another thread
                        await asyncio.sleep(0.005)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            reader.errors.append(error)
        finally:
            reader.ended.set()

    async def _wait_for_readers(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=20)
        assert not [task for task in others if not task.done()]


class _ThreadReaders:
    """Readers as threads."""

    def __init__(self, url: str, **settings: object) -> None:
        self._spool = spool_for(url, **settings)
        self._readers: list[tuple[threading.Thread, BackgroundReader]] = []

    def follow(self, chat_id: str, after: int | None = None, **options: Any) -> BackgroundReader:
        reader = BackgroundReader()
        thread = threading.Thread(target=self._read, args=(reader, chat_id, after, options), daemon=True)
        self._readers.append((thread, reader))
        thread.start()
        return reader

    def close(self) -> None:
        self._spool.close()
        for thread, reader in self._readers:
            reader.may_read.set()
            thread.join(20)
            assert not thread.is_alive()

    def _read(self, reader: BackgroundReader, chat_id: str, after: int | None, options: dict[str, Any]) -> None:
        try:
            with self._spool.subscribe(chat_id, after, **options) as entries:
                reader.leave = lambda: entries.__exit__(None, None, None)
                for entry in entries:
                    reader.entries.append(entry)
                    reader.may_read.wait()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            reader.errors.append(error)
        finally:
            reader.ended.set()


class ReaderGroups:
    """Opens reader groups of one kind, and closes them all in the end."""

    def __init__(self, kind: ReaderKind) -> None:
        """Start without groups."""
        self.kind = kind
        self._open: list[ReaderGroup] = []

    def open(self, url: str, **settings: object) -> ReaderGroup:
        """Open a group; `settings` are its spool's."""
        opened: ReaderGroup = (
            _AsyncioReaders(url, **settings) if self.kind == "asyncio" else _ThreadReaders(url, **settings)
        )
        self._open.append(opened)
        return opened

    def close(self) -> None:
        """Close the groups that are still open."""
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all."""
        self.close()


def count_subscribed_connections(client: Redis) -> int:
    """Return how many connections have subscribed to anything."""
    return len(client.client_list(_type="pubsub"))


def count_subscriptions(client: Redis) -> dict[str, int]:
    """Return for each channel how many connections are subscribed to it."""
    channels = client.pubsub_channels("cs:*")
    return {channel.decode(): count for channel, count in client.pubsub_numsub(*channels)} if channels else {}
