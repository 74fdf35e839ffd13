"""Every Redis key and channel of the project is built here, and every id that goes into one is checked here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chunkspool.errors import InvalidId

STOPS = "cs:stops"
"""Channel on which a stop is pushed to the worker processes; a message is the generation's id."""

UNENDED = "cs:{places}:unended"
"""Sorted set, `<tenant> <chat id> <generation id>` by the ms of its enqueue: what the sweep goes through."""

RESENT = "cs:{places}:resent"
"""Sorted set, as `UNENDED`, by the ms at which the sweep has sent the message anew: that one may wait in the queue."""

FRONT = "cs:{places}:front"
"""String: the enqueue time (ms) of the newest generation that a worker has taken. The queue has come this far."""

SWEEPING = "cs:{places}:sweeping"
"""String: there while a sweep is under way or was a moment ago."""

PERMANENT: frozenset[str] = frozenset()
"""Keys that may live without a TTL. None so far: promise 10 has no exception yet."""

MAX_ID_LENGTH = 128
ID_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.:@~+=-]{0,127}"
_ID = re.compile(ID_PATTERN)
_TENANT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@~+=-]{0,127}")


def place_of(generation_id: str) -> str:
    """Return the key of a string, `<tenant> <chat id>`: where a generation is, for a revoke knows nothing but its id.

    It stands in no chat's hash tag, so no script touches it.
    """
    return f"cs:{{places}}:{checked_id('generation_id', generation_id)}"


def checked_id(kind: str, value: object) -> str:
    """Return `value` if it can be an id of this `kind` ("chat_id", "request_id", …), else raise `InvalidId`.

    An id is 1 to 128 characters of ``A-Z a-z 0-9 _ . : @ ~ + = -`` and starts with a letter, a digit or ``_``.
    A tenant has no colon, because tenants stand in keys that have no braces around them.
    """
    pattern = _TENANT if kind == "tenant" else _ID
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise InvalidId(kind, value)


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
        """Hash: `active`, the ids of the generations that have not ended, oldest first, separated by spaces."""
        return self._key("head")

    @property
    def gens(self) -> str:
        """Sorted set: the chat's generations by the time (ms) at which their hash expires."""
        return self._key("gens")

    @property
    def readers(self) -> str:
        """Hash: how far each reader has played."""
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

    def unended(self, generation_id: str) -> str:
        """Return the member of `UNENDED` that stands for a generation."""
        return f"{self.tenant} {self.chat_id} {checked_id('generation_id', generation_id)}"

    def writer(self, generation_id: str) -> tuple[str, ...]:
        """Return the KEYS of every script that writes to the log, in the order that `lua/prelude.lua` reads."""
        return (self.seq, self.log, self.head, self.gens, self.live, self.gen(generation_id))
