"""Chunks of a chat completion, as servers send them."""

from __future__ import annotations

import json
from typing import Any

DONE = b"data: [DONE]\n\n"


def chunk(finish: str | None = None, /, **delta: Any) -> bytes:
    """Return a chunk with this delta and finish reason."""
    return whole(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def whole(**fields: Any) -> bytes:
    """Return a chunk with these fields."""
    return json.dumps({"id": "c1", "object": "chat.completion.chunk", **fields}, ensure_ascii=False).encode()


def tool_call(index: int | None, **fields: Any) -> bytes:
    """Return a chunk with part of a tool call: `id`, `name` and `arguments` as given."""
    function = {name: fields[name] for name in ("name", "arguments") if name in fields}
    piece = {"index": index, "function": function, **({"id": fields["id"]} if "id" in fields else {})}
    return chunk(tool_calls=[piece])


def event(data: bytes) -> bytes:
    """Return a server-sent event."""
    return b"data: " + data + b"\n\n"


def events(*chunks: bytes) -> bytes:
    """Return a stream of these chunks, including its end."""
    return b"".join(map(event, chunks)) + DONE
