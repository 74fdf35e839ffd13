"""What the checker is given beside the log: what was asked, what the model server sent, what readers got."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One model call: the text that the model server sent, after the `prefix` that it was to go on from."""

    number: int
    text: str
    prefix: str = ""
    whole: bool = True
    """Whether it was sent to its end."""
    began: int | None = None
    """When it came, in Unix ms."""


@dataclass(frozen=True, slots=True)
class EnqueuedGeneration:
    """One generation that was enqueued. `calls` in the order of their numbers, or None where nobody recorded them."""

    generation_id: str
    calls: tuple[ModelOutput, ...] | None = None
    stopped_by: frozenset[str] = frozenset()
    """Who asked for a stop, as `generation.stopped` would name them."""
    stop_accepted: bool = False
    """Whether a stop was acknowledged before the generation had ended."""
    may_fail: frozenset[str] = frozenset()
    """The codes of `generation.failed` that are no violation."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one subscription gave: `entries` after the cursor `after`, as (seq, stored bytes)."""

    reader: str
    after: int
    entries: tuple[tuple[int, bytes], ...]
    until: str = "forever"
    """What it was to last until: "idle", "forever" or a generation's id."""
    ended: bool = False
    """Whether it ended by itself, not because the reader left."""
    error: str | None = None
    """What was raised, or that it waited for ever."""
    complete: bool = False
    """Whether it began when nothing more was going to be asked, and was to get all there is."""


@dataclass(frozen=True, slots=True)
class Observations:
    """All that is known of one chat."""

    generations: tuple[EnqueuedGeneration, ...] = ()
    readings: tuple[Reading, ...] = ()
