"""Reads JSON from strangers: whatever has the wrong type counts as empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from chunkspool.json_text import to_valid_json

_NOTHING: dict[str, Any] = {}


def decode_object(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `data`, or None if it is none."""
    try:
        decoded = from_json(data)
    except ValueError:
        decoded = _decode_leniently(data)
    return decoded if isinstance(decoded, dict) else None


def _decode_leniently(data: bytes) -> object:
    # Models may split a character between two tokens, and then some servers escape each half of its surrogate pair.
    # pydantic's fast decoder rejects such halves, Python's accepts them.
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def text_in(value: object) -> str:
    """Return `value` if it is a text."""
    return value if isinstance(value, str) else ""


def object_in(value: object) -> Mapping[str, Any]:
    """Return `value` if it is an object."""
    return value if isinstance(value, dict) else _NOTHING


def objects_in(value: object) -> list[dict[str, Any]]:
    """Return the objects in `value` if it is a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count_in(value: object) -> int:
    """Return `value` if it is a count."""
    return max(0, value) if isinstance(value, int) else 0


def json_of(value: object) -> str:
    """Return the JSON text of `value`; nothing for None."""
    return "" if value is None else to_valid_json(value).decode()
