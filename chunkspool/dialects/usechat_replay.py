"""Turns a UI message back into the chunks of which the AI SDK builds the same message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from chunkspool.dialects.usechat_chunks import Chunk
from chunkspool.dialects.usechat_messages import UiMessage, UiPart, is_tool, tool_name_of
from chunkspool.json_text import to_valid_json

_UNCHANGED = {
    "source-url": ("sourceId", "url"),
    "source-document": ("sourceId", "mediaType", "title"),
    "file": ("url", "mediaType"),
    # Of later versions than 6: only a client of theirs can have sent one.
    "reasoning-file": ("url", "mediaType"),
    "custom": ("kind",),
}
"""Parts whose chunk has the same type and fields, with the fields that it needs."""


def tool_call_ids(parts: Iterable[UiPart]) -> Iterator[str]:
    """Yield the ids of the tool calls among `parts`."""
    for part in parts:
        if is_tool(part):
            yield str(part["toolCallId"])


def replay_chunks(message: UiMessage, *, sdk: int) -> Iterator[Chunk]:
    """Yield the chunks of `message`, from its `start` on, for a client whose SDK has the major version `sdk`.

    A part that no chunk can make is left out, because the SDK gives up on a stream at a chunk that it does not know.
    """
    start: Chunk = {"type": "start", "messageId": message.id}
    if isinstance(message.metadata, dict):
        start["messageMetadata"] = message.metadata
    yield start
    for number, part in enumerate(message.parts):
        yield from _chunks_of(part, f"earlier-{number}", sdk)


def _chunks_of(part: UiPart, own_id: str, sdk: int) -> Iterator[Chunk]:
    kind = part.get("type")
    if not isinstance(kind, str):
        return
    if kind == "step-start":
        yield {"type": "start-step"}
    elif kind in {"text", "reasoning"}:
        yield from _text_chunks(kind, part, own_id)
    elif is_tool(part):
        yield from _tool_chunks(part, sdk)
    elif kind.startswith("data-"):
        yield {"type": kind, "data": part.get("data"), **_texts(part, "id")}
    elif kind in _UNCHANGED and all(isinstance(part.get(name), str) for name in _UNCHANGED[kind]):
        needed = {name: part[name] for name in _UNCHANGED[kind]}
        yield {"type": kind, **needed, **_texts(part, "title", "filename"), **_provider_metadata(part)}
    elif kind == "steering-message" and isinstance(part.get("id"), str):
        yield {"type": kind, "id": part["id"], "parts": list(_steering_parts(part.get("parts")))}


def _text_chunks(kind: str, part: UiPart, own_id: str) -> Iterator[Chunk]:
    # A reasoning part keeps the id of its chunks, a text part does not.
    part_id = part.get("id") if isinstance(part.get("id"), str) else own_id
    yield {"type": f"{kind}-start", "id": part_id, **_provider_metadata(part)}
    if text := part.get("text"):
        yield {"type": f"{kind}-delta", "id": part_id, "delta": str(text)}
    if part.get("state") != "streaming":
        yield {"type": f"{kind}-end", "id": part_id}


def _steering_parts(parts: Any) -> Iterator[Chunk]:
    for part in parts if isinstance(parts, list) else ():
        match part:
            case {"type": "text", "text": str(text)}:
                yield {"type": "text", "text": text}
            case {"type": "file", "mediaType": str(media_type), "url": str(url)}:
                yield {"type": "file", "mediaType": media_type, "url": url, **_texts(part, "filename")}


def _tool_chunks(part: UiPart, sdk: int) -> Iterator[Chunk]:
    state, call_id = part.get("state"), part["toolCallId"]
    call: Chunk = {"toolCallId": call_id, "toolName": tool_name_of(part), **_call_details(part)}
    if state == "output-error" and part.get("input") is None and "rawInput" in part:
        error = {"input": part["rawInput"], "errorText": _error_of(part)}
        yield {"type": "tool-input-error", **call, **error}
    elif state in {"output-available", "output-error", "input-streaming"}:
        # In pieces: at a whole input, the SDK would ask the browser to run the tool once more.
        yield {"type": "tool-input-start", **call}
        if "input" in part:
            yield {
                "type": "tool-input-delta",
                "toolCallId": call_id,
                "inputTextDelta": to_valid_json(part["input"]).decode(),
            }
        yield from _approval_chunks(part, sdk)
        if state != "input-streaming":
            yield {"type": "tool-output-available", "toolCallId": call_id, **_result_of(part)}
        if state == "output-error":
            yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": _error_of(part)}
    else:
        yield {"type": "tool-input-available", **call, "input": part.get("input")}
        yield from _approval_chunks(part, sdk)
        if state == "output-denied":
            yield {"type": "tool-output-denied", "toolCallId": call_id}


def _approval_chunks(part: UiPart, sdk: int) -> Iterator[Chunk]:
    approval = part.get("approval")
    if not isinstance(approval, dict) or not isinstance(approval.get("id"), str):
        return
    own = {"approvalId": approval["id"]}
    yield {"type": "tool-approval-request", "toolCallId": part["toolCallId"], **own}
    if isinstance(approval.get("approved"), bool) and sdk > 6:  # noqa: PLR2004 - 6 gives up on the stream at this chunk
        yield {"type": "tool-approval-response", **own, "approved": approval["approved"], **_texts(approval, "reason")}


def _call_details(part: UiPart) -> Chunk:
    details: Chunk = {**_texts(part, "title"), **_provider_metadata(part, "callProviderMetadata")}
    if isinstance(part.get("toolMetadata"), dict):
        details["toolMetadata"] = part["toolMetadata"]
    if isinstance(part.get("providerExecuted"), bool):
        details["providerExecuted"] = part["providerExecuted"]
    if part.get("type") == "dynamic-tool":
        details["dynamic"] = True
    return details


def _result_of(part: UiPart) -> Chunk:
    result: Chunk = {"output": part.get("output"), **_provider_metadata(part, "resultProviderMetadata")}
    return {**result, "preliminary": True} if part.get("preliminary") is True else result


def _error_of(part: UiPart) -> str:
    return str(part.get("errorText") or "The tool failed.")


def _provider_metadata(part: UiPart, name: str = "providerMetadata") -> Chunk:
    """Return the metadata if the SDK takes it: an object for each provider."""
    metadata = part.get(name)
    is_sound = isinstance(metadata, dict) and all(isinstance(value, dict) for value in metadata.values())
    return {"providerMetadata": metadata} if is_sound else {}


def _texts(source: dict[str, Any], *names: str) -> Chunk:
    return {name: source[name] for name in names if isinstance(source.get(name), str)}
