"""What happens to generations, told to whoever measures: the seam between the library and its metrics.

Each observation is made where the thing happens, by the process that did it, once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from chunkspool.states import EndState, Priority

_LOG = logging.getLogger(__name__)

RetryOf = Literal["redis", "model", "broker"]
ReplayResult = Literal["hit", "miss", "expired"]


@dataclass(frozen=True, slots=True)
class GenerationQueued:
    """A generation was made."""

    priority: Priority


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """An attempt has claimed a generation. `waited`: seconds since it could begin, of the first attempt only."""

    number: int
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptFenced:
    """An attempt learned that the generation is another one's, or was ended without it."""


@dataclass(frozen=True, slots=True)
class GenerationEnded:
    """The ending of a generation was written: by its worker, a stop, the sweep, or whoever else found it dead.

    `code` is that of a failure. `seconds` have passed since it was queued, `stop_seconds` since the first request to
    stop it, if that is how it ended; None where it is not known. `output_per_second`: tokens, from the first chunk on.
    """

    state: EndState
    code: str | None = None
    seconds: float | None = None
    stop_seconds: float | None = None
    output_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class FirstChunkWritten:
    """The first part of an answer is in the log, `seconds` after the generation was queued."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Flushed:
    """One pipeline has brought what several attempts said to the log: `seconds` for the round trip.

    `sizes`: for each number of bytes, how many events have it; none in a heartbeat. `gaps`: for each attempt, the
    seconds since its chunk before.
    """

    seconds: float
    sizes: Mapping[int, int]
    gaps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """A model's provider has counted so many more tokens. Cached ones are also input, reasoning ones also output."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class MessageRedelivered:
    """The broker has delivered a generation's message again: its worker died, was drained, or lacked Redis."""


@dataclass(frozen=True, slots=True)
class Retried:
    """A call failed and is made again: of Redis, of a model's provider, or a message's sending."""

    of: RetryOf


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A request or an event stream was refused, or an answer ended, because of a limit."""

    limit: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """A reader asked for a chat from a cursor on: "hit", it is there; "miss", there is no such chat or generation.

    "expired": the log begins later, or is another one by now.
    """

    result: ReplayResult


@dataclass(frozen=True, slots=True)
class ReadersChanged:
    """So many more readers of this process follow a chat live; fewer, if `by` is negative."""

    by: int


@dataclass(frozen=True, slots=True)
class ReaderOverflowed:
    """A reader was slower than its chat: it goes on in the log."""


@dataclass(frozen=True, slots=True)
class HubReconnected:
    """The connection on which a process's readers hear of new events was lost, and made again."""


@dataclass(frozen=True, slots=True)
class RunningChanged:
    """So many more attempts run in this process; fewer, if `by` is negative."""

    by: int


Observation = (
    GenerationQueued
    | AttemptBegan
    | AttemptFenced
    | GenerationEnded
    | FirstChunkWritten
    | Flushed
    | TokensUsed
    | MessageRedelivered
    | Retried
    | LimitHit
    | Replayed
    | ReadersChanged
    | ReaderOverflowed
    | HubReconnected
    | RunningChanged
)


class Observer(Protocol):
    """Is told of each observation, in whichever thread made it, some of them under a lock of the library's.

    It must be quick, never wait, and never call the spool. What it raises is logged once, and harms nobody.
    """

    def observe(self, observation: Observation) -> None:
        """Take note."""


class _Nobody:
    """Takes no note."""

    __slots__ = ()

    def observe(self, observation: Observation) -> None:
        """Do nothing."""


NOBODY: Final[Observer] = _Nobody()
"""Who observes unless somebody else does. Where it costs something to make an observation, ask for it first."""


class _Guarded:
    """Keeps from the library what an observer raises."""

    __slots__ = ("_has_failed", "observer")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._has_failed = False

    def observe(self, observation: Observation) -> None:
        """Pass it on."""
        try:
            self.observer.observe(observation)
        except Exception:  # noqa: BLE001 - whatever it raises: no generation may end because of its metrics
            if not self._has_failed:
                self._has_failed = True
                _LOG.exception("the observer %r failed; what it raises from now on is not logged", self.observer)


def guard(observer: Observer | None) -> Observer:
    """Return an observer that raises nothing; `NOBODY` for None."""
    if observer is None or observer is NOBODY:
        return NOBODY
    return observer if isinstance(observer, _Guarded) else _Guarded(observer)


def unguarded(observer: Observer) -> Observer:
    """Return the observer that `guard` was given."""
    return observer.observer if isinstance(observer, _Guarded) else observer
