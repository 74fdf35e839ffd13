"""The chunks of the AI SDK's UI message stream that are more than a type: restarts, and the app's own data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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


def data_chunk(event: DataEvent) -> Chunk:
    """Return the chunk of the app's own data: the SDK's source or file if it is one by name and fields."""
    value = event.value
    if event.name in _FIELDS_OF_SDK_PARTS and isinstance(value, dict):
        needed, optional = _FIELDS_OF_SDK_PARTS[event.name]
        has_fields = needed <= value.keys() <= needed | optional
        if has_fields and all(isinstance(text, str) for text in value.values()):
            return {"type": event.name, **value}
    return {"type": f"data-{event.name}", "data": value}
