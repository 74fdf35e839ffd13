"""What can be asked of Redis, as values: a script call, or a transaction. `store.client` sends them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
Arg = str | bytes | int
Command = tuple[Arg, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and its SHA-1, by which EVALSHA knows it."""

    name: str
    text: str
    sha: str


@dataclass(frozen=True, slots=True)
class ScriptCall(Generic[T]):
    """One script with its KEYS and ARGV, and how to read its reply. An operation says ``reply = yield from call``."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    parse: Callable[[list[Any]], T]

    def __iter__(self) -> Generator[Self, T, T]:
        """Yield itself to whoever drives the operation; return what it was sent."""
        return (yield self)


@dataclass(frozen=True, slots=True)
class Transaction(Generic[T]):
    """Commands that run as one MULTI/EXEC, so that they see one moment, and how to read their replies.

    `entries`: how many entries of a log they may bring. An operation says ``found = yield from transaction``.
    """

    commands: tuple[Command, ...]
    parse: Callable[[Sequence[Any]], T]
    entries: int = 0

    def __iter__(self) -> Generator[Self, T, T]:
        """Yield itself to whoever drives the operation; return what it was sent."""
        return (yield self)


def as_text(value: Any) -> str:
    """Return a reply's string, whether or not the client decodes replies."""
    return value.decode() if isinstance(value, bytes) else str(value)


def as_bytes(value: Any) -> bytes:
    """Return a reply's bytes, whether or not the client decodes replies."""
    return value if isinstance(value, bytes) else str(value).encode()
