"""An observer that remembers what it was told."""

from __future__ import annotations

from typing import TypeVar

from support.waiting import eventually

from chunkspool.observer import Observation

T = TypeVar("T")


class Recorder:
    """Remembers all observations, in their order."""

    def __init__(self) -> None:
        """Nothing was observed yet."""
        self._seen: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        """Remember it."""
        self._seen.append(observation)

    def all_of(self, kind: type[T]) -> list[T]:
        """Return the observations of one kind so far."""
        return [one for one in tuple(self._seen) if isinstance(one, kind)]

    def only(self, kind: type[T]) -> T:
        """Return the only observation of a kind; it may still be on its way."""
        eventually(lambda: self.all_of(kind))
        (one,) = self.all_of(kind)
        return one
