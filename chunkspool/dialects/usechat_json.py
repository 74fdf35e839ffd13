"""JSON as the AI SDK takes it: its parser breaks a stream off at keys that could change a JavaScript prototype."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from chunkspool.json_text import to_valid_json

_SIGNS = (b"__proto__", b"constructor")


def encode_part(part: Any) -> bytes:
    """Return a part of the stream as JSON, without the keys that end it."""
    encoded = to_valid_json(part)
    return to_valid_json(_without_prototypes(part)) if any(sign in encoded for sign in _SIGNS) else encoded


def decode_arguments(arguments: str) -> Any:
    """Return what a model wrote as a call's arguments. Raises `ValueError` if the stream cannot hold it as it is."""
    value = from_json(arguments or "{}", allow_inf_nan=False)
    # 1e400 is JSON, but no number that Python or JavaScript has.
    if to_json(value) != to_json(value, inf_nan_mode="null"):
        raise ValueError("a number is out of range")
    if _without_prototypes(value) != value:
        raise ValueError("a key could change a prototype")
    return value


def _without_prototypes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_prototypes(item) for key, item in value.items() if not _is_prototype(key, item)}
    return [_without_prototypes(item) for item in value] if isinstance(value, list) else value


def _is_prototype(key: str, value: Any) -> bool:
    return key == "__proto__" or (key == "constructor" and isinstance(value, dict) and "prototype" in value)
