"""Ids: which text can be one, and how a generation's is made."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from typing import Annotated, Final

from pydantic import Field

from chunkspool.errors import InvalidId

MAX_ID_LENGTH: Final = 128
ID_PATTERN: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.:@~+=-]{0,127}"
GenerationId = Annotated[str, Field(serialization_alias="generation")]
"""A generation's id in a value that becomes JSON, where its name is `generation`, as in the events."""
_ID = re.compile(ID_PATTERN)
_TENANT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.@~+=-]{0,127}")


def checked_id(kind: str, value: object) -> str:
    """Return `value` if it can be an id of this `kind` ("chat_id", "request_id", …), else raise `InvalidId`.

    An id is 1 to 128 characters of ``A-Z a-z 0-9 _ . : @ ~ + = -`` and starts with a letter, a digit, ``_`` or
    ``-`` (which nanoid's ids may).
    A tenant has no colon, because tenants stand in keys that have no braces around them.
    """
    pattern = _TENANT if kind == "tenant" else _ID
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise InvalidId(kind, value)


def new_generation_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562 §5.7), which sorts by the time it was made. Python has none before 3.14.

    48 bits of milliseconds, then 74 random bits.
    """
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | 0b10 << 62
    value |= secrets.randbits(12) << 64 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
