"""Parse server-sent events according to the specification, without any code of the library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event of a stream."""

    id: str
    name: str
    data: str

    @property
    def seq(self) -> int:
        """The seq in its id, which may also say of which log it is."""
        return int(self.id.partition(".")[0])


@dataclass(slots=True)
class SseParser:
    """Takes a stream in arbitrary pieces and returns complete events."""

    rest: bytes = b""
    last_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)

    def events(self, piece: bytes) -> Iterator[SseEvent]:
        """Return the events that `piece` completes."""
        self.rest += piece
        *blocks, self.rest = re.split(rb"\n\n", self.rest)
        for block in blocks:
            name, data = "message", list[str]()
            for line in re.split(r"\r\n|\r|\n", block.decode()):
                kind, _, value = line.partition(":")
                value = value.removeprefix(" ")
                match kind:
                    case "":
                        self.comments.append(value)
                    case "id":
                        self.last_id = value
                    case "event":
                        name = value
                    case "data":
                        data.append(value)
                    case "retry":
                        self.retry = int(value)
            if data:
                yield SseEvent(self.last_id, name, "\n".join(data))


def events_of(stream: bytes) -> list[SseEvent]:
    """Return all events of a stream."""
    return list(SseParser().events(stream))
