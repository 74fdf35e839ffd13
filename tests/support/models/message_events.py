"""Events of Anthropic's Messages API, as its documentation describes them."""

from __future__ import annotations

import json
from typing import Any

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def message_event(kind: str, **fields: Any) -> bytes:
    """Return an event of this type."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def begin(**usage: int) -> bytes:
    """Return the event that begins a message."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-test",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1, **usage},
    }
    return message_event("message_start", message=message)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    """Return a whole block of the content: its start, its deltas and its end."""
    first = message_event("content_block_start", index=index, content_block=start)
    pieces = [message_event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return b"".join([first, *pieces, message_event("content_block_stop", index=index)])


def text_block(index: int, *texts: str) -> bytes:
    """Return a block of text."""
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return block(index, {"type": "text", "text": ""}, *deltas)


def tool_block(index: int, call_id: str, name: str, *pieces: str) -> bytes:
    """Return a block that calls a tool."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, *deltas)


def finish(reason: str | None = "end_turn", **usage: int) -> bytes:
    """Return the events that end a message."""
    delta = {"stop_reason": reason, "stop_sequence": None}
    last = message_event("message_delta", delta=delta, usage={"output_tokens": 15, **usage})
    return last + message_event("message_stop")


def stream_error(kind: str, message: str = "Overloaded") -> bytes:
    """Return the event of a failure in mid-stream."""
    return message_event("error", error={"type": kind, "message": message})
