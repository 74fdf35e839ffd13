"""Find keys of the project that would stay in Redis for ever."""

from __future__ import annotations

from redis import Redis

from chunkspool.store.keys import PERMANENT


def immortal_keys(client: Redis) -> list[str]:
    """Return the `cs:` keys that have no TTL and are not on the list of permanent keys."""
    names = [name if isinstance(name, str) else name.decode() for name in client.scan_iter(match="cs:*", count=1000)]
    return sorted(name for name in names if name not in PERMANENT and client.ttl(name) == -1)
