"""How one attempt gets on, for whoever observes: when it said what. Values only; its flusher keeps it."""

from __future__ import annotations

import time

from chunkspool.request import Claim


class Pace:
    """The times of one attempt, in seconds of the monotonic clock."""

    __slots__ = ("_queued", "awaits_first", "code", "first", "lost_as", "newest", "output_tokens")

    def __init__(self, claim: Claim) -> None:
        """Begin when it was claimed."""
        self._queued = time.monotonic() - claim.age
        self.awaits_first = claim.speaks_first
        """Whether nothing was said in the generation yet."""
        self.first: float | None = None
        """When the first chunk of this attempt was in the log."""
        self.newest: float | None = None
        """When the newest was."""
        self.output_tokens = 0
        """As the provider has counted them so far."""
        self.code: str | None = None
        """The code of the failure that its producer has ended with."""
        self.lost_as: str | None = None
        """The code of the failure that takes the place of any ending, because Redis did not take what came before."""

    def age_at(self, now: float) -> float:
        """Return for how long the generation has been there."""
        return now - self._queued

    def output_per_second(self, now: float) -> float | None:
        """Return the tokens per second since the first chunk; None where either is not known."""
        if not self.output_tokens or self.first is None or now <= self.first:
            return None
        return self.output_tokens / (now - self.first)
