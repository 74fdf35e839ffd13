"""What the checker knows besides the log: requests, the model server's output, what readers received."""

from __future__ import annotations

from dataclasses import dataclass

from support.checker.raw_log import RawChat


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One model call: the text that the model server sent, after the `prefix` it was to continue from."""

    number: int
    text: str
    prefix: str = ""
    whole: bool = True
    """Whether it was sent completely."""
    began: int | None = None
    """When the call arrived, in Unix ms."""


@dataclass(frozen=True, slots=True)
class EnqueuedGeneration:
    """One generation that was enqueued. `calls` are ordered by number, or None if nobody recorded them."""

    generation_id: str
    calls: tuple[ModelOutput, ...] | None = None
    stopped_by: frozenset[str] = frozenset()
    """Who asked for a stop, as `generation.stopped` would name them."""
    stop_accepted: bool = False
    """Whether a stop was acknowledged before the generation had ended."""
    may_fail: frozenset[str] = frozenset()
    """The codes of `generation.failed` that are not a violation."""
    may_be_gone: bool = False
    """Whether Redis came back without it: an older copy that was made before it was enqueued."""
    forgot_calls: bool = False
    """Whether Redis came back without the attempts of some calls."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one subscription received: `entries` after the cursor `after`, as (seq, stored bytes)."""

    reader: str
    after: int
    entries: tuple[tuple[int, bytes], ...]
    until: str = "forever"
    """When it was to end: "idle", "forever" or a generation's id."""
    ended: bool = False
    """Whether it ended by itself, rather than because the reader left."""
    error: str | None = None
    """The error that was raised, or that it waited forever."""
    complete: bool = False
    """Whether it started after the last request and was therefore to receive everything."""
    behind: bytes | None = None
    """The entry `after` as the reader had got it, if it came back by that entry's own cursor, not by its bare seq."""
    told: bool = False
    """Whether it was told that the log is no longer the one that it has read."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything known about one chat."""

    generations: tuple[EnqueuedGeneration, ...] = ()
    readings: tuple[Reading, ...] = ()
    earlier: tuple[RawChat, ...] = ()
    """The chat as it was each time before Redis came back with an older copy."""
