"""Find keys of the project that would stay in Redis forever."""

from __future__ import annotations

from redis import Redis


def find_keys_without_ttl(client: Redis) -> list[str]:
    """Return the `cs:` keys that have no TTL."""
    names = [name if isinstance(name, str) else name.decode() for name in client.scan_iter(match="cs:*", count=1000)]
    return sorted(name for name in names if client.ttl(name) == -1)
