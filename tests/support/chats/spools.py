"""Create spools for tests, with a short lease and short pauses."""

from __future__ import annotations

import secrets

from redis import Redis
from support.chats.logs import KEYS

from chunkspool import AsyncSpool, Settings, Spool
from chunkspool.events import Event, encode
from chunkspool.states import EndState
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import AppendReply


def settings_for(url: str, **values: object) -> Settings:
    """Return a test's settings; `values` override its defaults. Most tests count seqs, and do so without questions."""
    usual = {"ttl": 600, "write_timeout": 10, "flush_interval": 0.002, "keep_messages": False}
    return Settings.checked({"redis_url": url, **usual, **values})


def spool_for(url: str, **values: object) -> Spool:
    """Return a spool; the caller closes it."""
    return Spool.from_settings(settings_for(url, **values))


def async_spool_for(url: str, **values: object) -> AsyncSpool:
    """Return an async spool; the caller closes it."""
    return AsyncSpool.from_settings(settings_for(url, **values))


def claim_and_die(client: Redis, generation_id: str, lease: float, keys: ChatKeys = KEYS) -> int:
    """Claim a generation and disappear like a killed worker; return the attempt's number."""
    claim = scripts.claim(
        keys,
        generation_id,
        token=secrets.token_hex(8),
        lease_ms=round(lease * 1000),
        max_attempts=1000,
        model=None,
    )
    claimed = Store(client).send(claim)
    assert claimed.outcome == "claimed"
    return claimed.attempt


def append_by_hand(
    client: Redis,
    generation_id: str,
    index: int,
    *events: Event,
    ending: EndState | None = None,
    attempt: int = 1,
    lease: float = 60.0,
    keys: ChatKeys = KEYS,
) -> AppendReply:
    """Append a batch without a producer, immediately, even as an attempt that was thought to be dead."""
    encoded = [encode(event) for event in events]
    lease_ms = round(lease * 1000)
    call = scripts.append(
        keys, generation_id, attempt=attempt, index=index, lease_ms=lease_ms, events=encoded, ending=ending
    )
    return Store(client).send(call)
