"""Calls of a spool that a view consists of: one text of it for `Spool` and for `AsyncSpool`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


# Without slots: in a frozen class with slots, SpoolCall[T](…) is an error (CPython 90562).
@dataclass(frozen=True)
class SpoolCall(Generic[T]):
    """A call that returns a T: `make` is given the spool, and its value is to be awaited where that is an async one.

    `reads_whole`: it reads a whole chat, however long that is.
    """

    make: Callable[[Any], Any]
    reads_whole: bool = False

    def __iter__(self) -> Generator[Self, T, T]:
        """Yield itself to whoever drives the view; return what it was sent."""
        return (yield self)
