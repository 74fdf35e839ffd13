"""The door to the count of open event streams: of a tenant, of its owners and of its chats, in all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.policy import Policy
from chunkspool.store.commands import Arg, ScriptCall, as_text
from chunkspool.store.keys import TenantKeys
from chunkspool.store.schedule import hash_of, words_of
from chunkspool.store.scripts import load

STREAMS_MS: Final = 30_000
"""How long the event streams of a process count after it last told of them."""
HELD_AT_ONCE: Final = 50
"""Counts that one script notes."""
StreamLimit = Literal["streams", "owner_streams", "chat_streams"]


@dataclass(frozen=True, slots=True)
class HeldStreams:
    """How many event streams a process has open: of a tenant, or of the owner or the chat called `name`."""

    limit: StreamLimit
    name: str
    number: int


def hold_streams(
    tenant: str, process: str, held: Sequence[HeldStreams], *, version: int, limits: Policy, refuses: bool
) -> ScriptCall[StreamLimit | None]:
    """Note how many event streams a process has open; the limit, and nothing noted, if one too many is new.

    `held`: up to `HELD_AT_ONCE`, three where one is new. `version` grows with each call of a process: what comes late
    changes nothing.
    """

    def parse(reply: list[Any]) -> StreamLimit | None:
        if as_text(reply[0]) == "held":
            return None
        return next(one.limit for one in held if one.limit == as_text(reply[1]))

    of_tenant = TenantKeys(tenant)
    keys = tuple(of_tenant.held_streams(one.limit, hash_of(tenant, one.name)) for one in held)
    args: list[Arg] = [process, version, STREAMS_MS, tenant, words_of(limits), "1" if refuses else ""]
    for one in held:
        args += [one.limit, one.number]
    return ScriptCall(load("hold_streams"), keys, tuple(args), parse)
