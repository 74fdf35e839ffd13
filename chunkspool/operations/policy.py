"""Reads and sets the limits of a tenant, and keeps those on event streams. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chunkspool.effects import Operation
from chunkspool.errors import LimitExceeded
from chunkspool.policy import Policy
from chunkspool.settings import Settings
from chunkspool.store.schedule import read_policy, write_policy
from chunkspool.store.streams import HELD_AT_ONCE, HeldStreams, StreamLimit
from chunkspool.store.streams import hold_streams as hold

STREAMS_RETRY_AFTER = 5.0
"""Seconds after which another try may do: streams end as their readers leave."""


def show(settings: Settings) -> Operation[Policy]:
    """Return the limits that hold for the settings' tenant: its own, and the defaults for the others."""
    found = yield from read_policy(settings.log.tenant)
    return settings.policy.with_stored(found)


def change(settings: Settings, values: dict[str, object]) -> Operation[Policy]:
    """Set limits of the settings' tenant; one that is None has its default again. Raises `InvalidInput`.

    Every process goes by them from its next request on: they stand in Redis only.
    """
    given = {name: value for name, value in values.items() if value is not None}
    checked = settings.policy.changed(given)
    stored = checked.stored()
    unset = [name for name, value in values.items() if value is None]
    settings.policy.changed(dict.fromkeys(unset, 1))  # a name that is no limit is an error here, too
    yield from write_policy(settings.log.tenant, {name: stored[name] for name in given}, unset)
    return (yield from show(settings))


_WHO: Final[dict[StreamLimit, str]] = {
    "streams": "the tenant has as many event streams open as it may",
    "owner_streams": "you have as many event streams open as one owner may",
    "chat_streams": "as many event streams of the chat are open as may be",
}


def hold_streams(
    settings: Settings, process: str, held: Sequence[HeldStreams], *, version: int, refuses: bool
) -> Operation[None]:
    """Note how many event streams a process has open. Raises `LimitExceeded` if one too many is new."""
    tenant, limits = settings.log.tenant, settings.policy
    for start in range(0, len(held), HELD_AT_ONCE):
        some = held[start : start + HELD_AT_ONCE]
        limit = yield from hold(tenant, process, some, version=version, limits=limits, refuses=refuses)
        if limit is not None:
            why = f"{_WHO[limit]}: close some, or try again"
            raise LimitExceeded(limit, why, retry_after=STREAMS_RETRY_AFTER)
