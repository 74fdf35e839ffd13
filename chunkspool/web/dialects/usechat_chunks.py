"""The chunks of the AI SDK's UI message stream: how one is written, and which stand for the app's own data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import to_json

from chunkspool.events import DataEvent

Chunk = dict[str, Any]

RESTART: Final = "data-chunkspool-restart"
"""Type of the part that marks a restart: what its generation has said before is void."""
_FIELDS_OF_SDK_PARTS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "source-url": (frozenset({"sourceId", "url"}), frozenset({"title"})),
    "source-document": (frozenset({"sourceId", "mediaType", "title"}), frozenset({"filename"})),
    "file": (frozenset({"url", "mediaType"}), frozenset()),
}
"""Parts of the SDK that an app writes as data of that name: the fields that they need, and those that they may have."""


def encode_chunk(chunk: Chunk) -> bytes:
    """Return the chunk as JSON that the SDK reads.

    Numbers that JSON cannot hold become null. Names with which an object could change its prototype are left out: the
    SDK gives up on the whole stream at the first of them.
    """
    raw = to_json(chunk, inf_nan_mode="null")
    if b'"__proto__"' in raw or (b'"constructor"' in raw and b'"prototype"' in raw):
        return to_json(_without_prototypes(chunk), inf_nan_mode="null")
    return raw


def data_chunk(event: DataEvent) -> Chunk:
    """Return the chunk of the app's own data: the SDK's source or file if it is one by name and fields."""
    value = event.value
    if event.name in _FIELDS_OF_SDK_PARTS and isinstance(value, dict):
        needed, optional = _FIELDS_OF_SDK_PARTS[event.name]
        has_fields = needed <= value.keys() <= needed | optional
        if has_fields and all(isinstance(text, str) for text in value.values()):
            return {"type": event.name, **value}
    return {"type": f"data-{event.name}", "data": value}


def _without_prototypes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_prototypes(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: _without_prototypes(item)
            for key, item in value.items()
            if key != "__proto__" and not (key == "constructor" and isinstance(item, dict) and "prototype" in item)
        }
    return value
