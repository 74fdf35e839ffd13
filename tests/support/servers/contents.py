"""Everything a server holds, to be compared before and after, or searched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import Redis

_READ: dict[bytes, Callable[[Redis, bytes], Any]] = {
    b"string": lambda client, key: client.get(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"stream": lambda client, key: client.xrange(key),
    b"none": lambda _client, _key: "",  # it has expired since the scan
}


_OF_NOBODY = ("cs:{index}:rate:", "cs:{index}:slots:", "cs:{index}:clock:")
"""What the schedule notes of the time and of its workers: it is no chat's, and changes with every request."""


def _is_of_a_chat(key: bytes) -> bool:
    return not key.decode().startswith(_OF_NOBODY)


def read_contents(client: Redis) -> dict[bytes, Any]:
    """Return every key with its value, without TTLs and without what is of no chat."""
    # Not with DUMP, which returns a large hash's fields in an order that changes without writes.
    return {key: _READ[client.type(key)](client, key) for key in filter(_is_of_a_chat, client.scan_iter(count=1000))}


def list_keys(client: Redis) -> list[str]:
    """Return the names of the project's keys, sorted."""
    return sorted(key.decode() for key in filter(_is_of_a_chat, client.scan_iter(match="cs:*", count=1000)))


def find_keys_containing(client: Redis, text: str) -> list[str]:
    """Return all keys, of any owner, with `text` in their name or anywhere in their value."""
    found = [
        key.decode()
        for key in client.scan_iter(count=1000)
        if text in key.decode() or text in str(_READ[client.type(key)](client, key))
    ]
    return sorted(found)
