"""Every Redis key and channel of the project is built here."""

from __future__ import annotations

from dataclasses import dataclass

from chunkspool.ids import checked_id

STOPS = "cs:stops"
"""Channel on which a stop is pushed to the worker processes; a message is the generation's id."""

UNFINISHED = "cs:{index}:unfinished"
"""Sorted set, `<tenant> <chat id> <generation id>` by the ms of its enqueue: what the sweep goes through."""

REPUBLISHED = "cs:{index}:republished"
"""Sorted set, as `UNFINISHED`, by the ms at which the sweep published the message again: it may wait in the queue."""

WATERMARK = "cs:{index}:watermark"
"""String: the enqueue time (ms) of the newest generation that a worker has claimed. The queue has come this far."""

SWEEP_LOCK = "cs:{index}:sweep_lock"
"""String: there while a sweep is under way or was a moment ago."""


def place_of(generation_id: str) -> str:
    """Return the key of a string, `<tenant> <chat id>`: where a generation is, because a revoke only has the task id.

    It stands in no chat's hash tag, so no script touches it.
    """
    return f"cs:{{index}}:place:{checked_id('generation_id', generation_id)}"


@dataclass(frozen=True, slots=True)
class ChatKeys:
    """The keys of one chat. They share one hash tag, so that one script may touch them all on Redis Cluster."""

    tenant: str
    chat_id: str

    def __post_init__(self) -> None:
        """Check both ids: no key is ever built from an unchecked one."""
        checked_id("tenant", self.tenant)
        checked_id("chat_id", self.chat_id)

    def _key(self, name: str) -> str:
        return f"cs:{{{self.tenant}/{self.chat_id}}}:{name}"

    @property
    def seq(self) -> str:
        """String: the counter. It outlives the log."""
        return self._key("seq")

    @property
    def log(self) -> str:
        """Stream: the events, entry id `<seq>-0`."""
        return self._key("log")

    @property
    def head(self) -> str:
        """Hash: `active`, the ids of generations that have not ended, oldest first; `born` (see lua/prelude.lua)."""
        return self._key("head")

    @property
    def gens(self) -> str:
        """Sorted set: the chat's generations by the time (ms) at which their hash expires."""
        return self._key("gens")

    @property
    def readers(self) -> str:
        """Hash: reader -> the seq up to which it has read."""
        return self._key("readers")

    @property
    def live(self) -> str:
        """Channel: frames."""
        return self._key("live")

    def gen(self, generation_id: str) -> str:
        """Return the key of a hash: one generation."""
        return self._key(f"gen:{checked_id('generation_id', generation_id)}")

    def request(self, request_id: str) -> str:
        """Return the key of a string, `<generation id> <after>`: what an enqueue with this request id made."""
        return self._key(f"request:{checked_id('request_id', request_id)}")

    def unfinished(self, generation_id: str) -> str:
        """Return the member of `UNFINISHED` that stands for a generation."""
        return f"{self.tenant} {self.chat_id} {checked_id('generation_id', generation_id)}"

    def writer(self, generation_id: str) -> tuple[str, ...]:
        """Return the KEYS of every script that writes to the log, in the order that `lua/prelude.lua` reads."""
        return (self.seq, self.log, self.head, self.gens, self.live, self.gen(generation_id))
