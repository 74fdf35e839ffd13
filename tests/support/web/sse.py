"""Parse server-sent events according to the specification, without any code of the library."""

from __future__ import annotations

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
    """Takes a stream in arbitrary pieces and returns complete events.

    `blanks` counts the blocks without data, which the specification ignores and some clients do not.
    """

    last_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)
    blanks: int = 0
    _rest: bytes = b""
    _name: str = "message"
    _data: list[str] = field(default_factory=list)

    def events(self, piece: bytes) -> Iterator[SseEvent]:
        """Return the events that `piece` completes."""
        whole = (self._rest + piece).replace(b"\r\n", b"\n")
        # A \r at the end may be the first half of a line's end.
        keep = whole[-1:] if whole.endswith(b"\r") else b""
        *lines, last = whole.removesuffix(b"\r").replace(b"\r", b"\n").split(b"\n")
        self._rest = last + keep
        for line in lines:
            if line:
                self._take(line.decode())
            elif self._data:
                yield SseEvent(self.last_id, self._name, "\n".join(self._data))
                self._name, self._data = "message", []
            else:
                self._name = "message"
                self.blanks += 1

    def _take(self, line: str) -> None:
        kind, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match kind:
            case "":
                self.comments.append(value)
            case "id":
                self.last_id = value
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "retry":
                self.retry = int(value)


def events_of(stream: bytes) -> list[SseEvent]:
    """Return all events of a stream."""
    return list(SseParser().events(stream))
