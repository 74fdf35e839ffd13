"""Says in lines of plain words what `Spool.stats` returned. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from chunkspool.cli.formatting import duration, one_line
from chunkspool.outcomes import OutcomeLag
from chunkspool.results import Stats, TenantMemory

_SIZES: Final = ((1024**4, "TB"), (1024**3, "GB"), (1024**2, "MB"), (1024, "kB"))
_LIMITS: Final = ("queued", "running", "per_minute", "bytes")
"""Those of the tenant's limits that say how full it can get here."""


def stats_lines(stats: Stats, tenant: str) -> list[str]:
    """Return the lines that `chunkspool stats` prints for people; `tenant` is the one whose limits were read."""
    rows = [
        *_queue_rows(stats),
        *_outcome_rows(stats),
        *_memory_rows(stats),
        ("limits", f"of {tenant}: {_limits(stats)}"),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{one_line(name):<{width}}  {one_line(said)}" for name, said in rows]


def size(number: int) -> str:
    """Return bytes in their largest unit."""
    for unit, name in _SIZES:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"


def _queue_rows(stats: Stats) -> Iterator[tuple[str, str]]:
    yield "queue", stats.queue
    yield "queued", ", ".join(f"{number:,} {priority}" for priority, number in stats.queued.items())
    if stats.oldest_queued is not None:
        waits, sent = stats.generations["waits"], stats.generations["sent"]
        yield "", f"{waits:,} wait for their turn, {sent:,} are with the broker"
        yield "oldest", f"queued for {duration(round(stats.oldest_queued * 1000))}"
    yield "running", f"{stats.running:,}"
    yield "chats", f"{stats.chats:,} of {_plural(stats.tenants, 'tenant')}{_kept(stats)}"


def _kept(stats: Stats) -> str:
    pinned = f", {stats.pinned:,} pinned" if stats.pinned else ""
    return pinned + (f", {stats.to_shorten:,} to be shortened" if stats.to_shorten else "")


def outcome_lag(one: OutcomeLag) -> str:
    """Say how far a group is behind that reads outcomes."""
    if one.set_aside is not None:
        return f"set aside, because it was too slow: it has lost {one.lost:,}"
    if not one.entries:
        return "has read all"
    age = duration(round(one.oldest_seconds * 1000))
    return f"{one.undelivered:,} unread, {one.pending:,} not acknowledged, the oldest since {age}"


def _outcome_rows(stats: Stats) -> Iterator[tuple[str, str]]:
    if "outcomes" in stats.unknown:
        yield "outcomes", f"not known: {stats.unknown['outcomes']}"
    elif stats.outcomes:
        yield "outcomes", f"read by {_plural(len(stats.outcomes), 'group')}"
        yield from ((f"  {one.tenant} {one.group}", outcome_lag(one)) for one in stats.outcomes)


def _memory_rows(stats: Stats) -> Iterator[tuple[str, str]]:
    if stats.used_memory is None:
        yield "redis", f"not known: {stats.unknown['used_memory']}"
    else:
        yield "redis", _fullness(stats.used_memory, stats.max_memory or 0)
    if stats.memory is None:
        yield "memory", f"not known: {stats.unknown['memory']}"
    elif stats.memory.tenants:
        yield "memory", f"about, by tenant; {_plural(stats.memory.sampled, 'chat')} measured"
        yield from _tenant_rows(stats.memory)


def _tenant_rows(memory: TenantMemory) -> Sequence[tuple[str, str]]:
    rows = [(f"  {tenant}", size(taken)) for tenant, taken in memory.tenants.items()]
    return [*rows, ("  all others", size(memory.others))] if memory.others else rows


def _fullness(used: int, most: int) -> str:
    if not most:
        return f"{size(used)} used, no maxmemory"
    return f"{size(used)} of {size(most)} used ({used / most:.0%})"


def _limits(stats: Stats) -> str:
    limits = stats.limits.model_dump()
    said = {name: size(limits[name]) if name == "bytes" else f"{limits[name]:,}" for name in _LIMITS}
    return ", ".join(f"{name} {value}" for name, value in said.items())


def _plural(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
