"""All that a server holds, to be compared before and after."""

from __future__ import annotations

from redis import Redis


def contents_of(client: Redis) -> dict[bytes, bytes]:
    """Return every key with its value as DUMP gives it; TTLs are not part of it."""
    return {key: client.dump(key) or b"" for key in client.scan_iter(count=1000)}


def keys_of(client: Redis) -> list[str]:
    """Return the names of the project's keys, sorted."""
    return sorted(key.decode() for key in client.scan_iter(match="cs:*", count=1000))
