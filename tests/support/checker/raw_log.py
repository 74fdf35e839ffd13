"""Read chats as they are stored in Redis, with redis-py and json only, without any code of the library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

PAGE = 1000
ENDINGS = frozenset({"generation.completed", "generation.stopped", "generation.failed"})


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One entry of a stream: its id, the server's time in Unix ms, and the stored event."""

    id: str
    at: int
    data: bytes

    @property
    def seq(self) -> int | None:
        """The seq, if the id is `<seq>-0`."""
        number, _, rest = self.id.partition("-")
        return int(number) if rest == "0" else None

    @property
    def event(self) -> dict[str, Any] | None:
        """The event, if it is a JSON object with a type and a generation."""
        try:
            event = json.loads(self.data)
        except ValueError:
            return None
        known = isinstance(event, dict) and isinstance(event.get("type"), str)
        return event if known and isinstance(event.get("generation"), str) else None


@dataclass(frozen=True, slots=True)
class RawChat:
    """A chat's log and its counter (None if there is none)."""

    name: str
    counter: int | None
    entries: tuple[RawEntry, ...]


@dataclass(frozen=True, slots=True)
class ReadableEntry:
    """A stream entry whose event could be read."""

    seq: int
    at: int
    event: Mapping[str, Any]

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.event["type"])


def generations_of(chat: RawChat) -> dict[str, list[ReadableEntry]]:
    """Return each generation's readable entries, in log order."""
    generations: dict[str, list[ReadableEntry]] = {}
    for entry in chat.entries:
        event = entry.event
        if event is not None and entry.seq is not None:
            generations.setdefault(event["generation"], []).append(ReadableEntry(entry.seq, entry.at, event))
    return generations


def read_raw_chat(client: Redis, name: str, tenant: str = "default") -> RawChat:
    """Return a chat; without a log it has no entries."""
    prefix = f"cs:{{{tenant}/{name}}}"
    counter: Any = client.get(f"{prefix}:seq")
    return RawChat(name, None if counter is None else int(counter), tuple(_read_entries(client, f"{prefix}:log")))


def _read_entries(client: Redis, key: str) -> Iterator[RawEntry]:
    after = "-"
    while page := _read_page(client, key, after):
        for entry_id, fields in page:
            after = f"({entry_id.decode()}"
            yield RawEntry(entry_id.decode(), int(fields.get(b"t", 0)), fields.get(b"e", b""))


def _read_page(client: Redis, key: str, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    page: Any = client.xrange(key, after, "+", PAGE)
    return list(page)
