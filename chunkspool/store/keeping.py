"""The doors to how long a chat is kept: its own TTL, and whether it is pinned; see lua/keep.lua."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.policy import Policy
from chunkspool.store.commands import Arg, ScriptCall, Transaction, as_text
from chunkspool.store.index import as_ms, scored
from chunkspool.store.keys import PINS_DUE, ChatKeys
from chunkspool.store.schedule import words_of
from chunkspool.store.scripts import load

PINNED_MS: Final = 90 * 86_400_000
"""The TTL of a pinned chat's keys. The sweep renews it, so it only ends where nobody sweeps any more: what an app keeps
for good is not to outlive the app."""
RENEW_MS: Final = PINNED_MS // 3
"""How long after its last renewal a pinned chat is due again."""
MAKING_MS: Final = 60_000
"""How soon the sweep looks whether a pin that was begun has come to its end."""
KEPT_AT_ONCE: Final = 64
"""Generations whose TTLs one script sets."""
OWNERS_AT_ONCE: Final = 64
"""Owners of a chat whose lists one script keeps for longer."""
PINS_AT_ONCE: Final = 100

What = Literal["keep", "pin", "unpin", "renew"]
KeepOutcome = Literal["kept", "pinned", "gone", "unpinned"]


def keep(keys: ChatKeys, what: What, ttl_ms: int, generation_ids: Sequence[str]) -> ScriptCall[KeepOutcome]:
    """Say for how long the chat and up to `KEPT_AT_ONCE` of its generations are kept, from now on."""

    def parse(reply: list[Any]) -> KeepOutcome:
        outcome: Any = as_text(reply[0])
        return outcome  # type: ignore[no-any-return]

    chat = (keys.seq, keys.log, keys.head, keys.gens, keys.live, keys.gens, keys.readers, keys.digest)
    args: tuple[Arg, ...] = (what, ttl_ms, *generation_ids)
    return ScriptCall(load("keep"), (*chat, *map(keys.gen, generation_ids)), args, parse)


def note(
    keys: ChatKeys,
    what: Literal["keep", "pin", "unpin"],
    limits: Policy | None = None,
    *,
    after_ms: int = RENEW_MS,
    kept_ms: int = PINNED_MS,
    owners: Sequence[str] = (),
) -> ScriptCall[int | None]:
    """Note it in the index; return how many pinned chats the tenant's policy allows, if these are there already.

    `limits`: the defaults, for a pin.
    """
    args: tuple[Arg, ...] = (what, keys.tenant, keys.chat_id, words_of(limits or Policy()), after_ms, kept_ms, *owners)

    def parse(reply: list[Any]) -> int | None:
        return int(reply[1]) if as_text(reply[0]) == "limited" else None

    return ScriptCall(load("note_kept"), (PINS_DUE,), args, parse)


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned chat that is due."""

    tenant: str
    chat_id: str


def list_due(most: int = PINS_AT_ONCE) -> Transaction[list[Pin]]:
    """Read pinned chats whose TTLs are to be renewed."""

    def parse(replies: Sequence[Any]) -> list[Pin]:
        found, time = replies
        now = as_ms(time)
        return [Pin(*name.split(" ", 1)) for name, score in scored(found) if score <= now and " " in name]

    return Transaction((("ZRANGE", PINS_DUE, 0, most - 1, "WITHSCORES"), ("TIME",)), parse)


def renew(keys: ChatKeys, after_ms: int) -> ScriptCall[None]:
    """Note that a pinned chat, if it still is in the index, is due again after so many ms."""
    args = (keys.tenant, keys.chat_id, after_ms, PINNED_MS)
    return ScriptCall(load("renew_pin"), (PINS_DUE,), args, lambda _reply: None)
