"""Reads and sets the limits of a tenant, and keeps the one on event streams. Without I/O."""

from __future__ import annotations

from chunkspool.effects import Operation
from chunkspool.errors import LimitExceeded
from chunkspool.policy import Policy
from chunkspool.settings import Settings
from chunkspool.store.schedule import hold_streams as hold
from chunkspool.store.schedule import read_policy, write_policy

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


def hold_streams(settings: Settings, process: str, number: int, *, refuses: bool) -> Operation[None]:
    """Note how many event streams of the tenant a process has open. Raises `LimitExceeded` if one too many is new."""
    tenant = settings.log.tenant
    if not (yield from hold(tenant, process, number, limits=settings.policy, refuses=refuses)):
        why = "the tenant has as many event streams open as it may: close some, or try again"
        raise LimitExceeded("streams", why, retry_after=STREAMS_RETRY_AFTER)
