"""Ids of generations: UUIDs of version 7, which sort by the time they were made."""

from __future__ import annotations

import secrets
import time
import uuid


def new_generation_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds, 74 random bits. Python has none before 3.14."""
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | 0b10 << 62
    value |= secrets.randbits(12) << 64 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
