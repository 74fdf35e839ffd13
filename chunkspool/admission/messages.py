"""The messages that a web user may send unless the app says otherwise: a conversation, and nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chunkspool.errors import Refused, shown
from chunkspool.request import Message

MAX_NAME = 64
_FIELDS: Mapping[str, frozenset[str]] = {
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "tool_calls"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
_PARTS: Mapping[str, frozenset[str]] = {
    "user": frozenset({"text", "image_url", "file"}),
    "assistant": frozenset({"text"}),
    "tool": frozenset({"text"}),
}
"""The parts that a message's content may have, by its role. A system's and a developer's messages are the app's."""


def check_messages(messages: Sequence[Message], *, are_shown: bool = False) -> None:
    """Raise `Refused` for a message that only the app may send.

    `are_shown`: a front end of the AI SDK has sent them, and it was the app that said how they are shown (`ui`).
    """
    for number, message in enumerate(messages, 1):
        fault = (None if are_shown else _fault_of_log_fields(message)) or _fault_of(message)
        if fault is not None:
            raise Refused(f"message {number}: {fault}")


def _fault_of_log_fields(message: Message) -> str | None:
    """Return what is wrong with the fields that are for the log alone, which readers of the chat get."""
    if message.ui is not None:
        return "'ui' is not allowed: what is shown of a message is its content"
    return None if message.id is None or message.id.isprintable() else "its id has characters that cannot be printed"


def _fault_of(message: Message) -> str | None:
    role = message.role
    if role not in _FIELDS:
        return f"the role {role!r} is not allowed; it may be {', '.join(_FIELDS)}"
    extra = message.model_extra or {}
    unknown = sorted({"role", "content", *extra} - _FIELDS[role])
    if unknown:
        return f"{shown(unknown[0])} is not allowed; with the role {role!r}, {', '.join(sorted(_FIELDS[role]))} are"
    if not _is_short_text(extra.get("name", "x"), MAX_NAME):
        return f"name must be a text of 1 to {MAX_NAME} characters"
    if role == "tool" and not _is_short_text(extra.get("tool_call_id")):
        return "tool_call_id must be the id of a tool call"
    calls = extra.get("tool_calls", [])
    if not (isinstance(calls, list) and all(map(_is_call, calls))):
        return "tool_calls must be a list of {id, type: 'function', function: {name, arguments}}, all of them texts"
    return _fault_of_content(message.content, _PARTS[role])


def _fault_of_content(content: str | list[dict[str, Any]] | None, kinds: frozenset[str]) -> str | None:
    if not isinstance(content, list):
        return None
    for part in content:
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in kinds:
            return f"a part of type {shown(kind)} is not allowed; {', '.join(sorted(kinds))} are"
        if not _FITS[kind](part):
            return (
                f"a part of type {kind!r} has fields that are not allowed, or lacks one; an image or a file must be "
                "a data: URL, because what another URL names would be fetched by the model's server"
            )
    return None


def _is_text_part(part: Mapping[str, Any]) -> bool:
    return part.keys() == {"type", "text"} and isinstance(part["text"], str)


def _is_image_part(part: Mapping[str, Any]) -> bool:
    image = part.get("image_url")
    if part.keys() != {"type", "image_url"} or not isinstance(image, dict):
        return False
    return (
        image.keys() <= {"url", "detail"}
        and _is_data_url(image.get("url"))
        and _is_short_text(image.get("detail", "x"))
    )


def _is_file_part(part: Mapping[str, Any]) -> bool:
    file = part.get("file")
    if part.keys() != {"type", "file"} or not isinstance(file, dict):
        return False
    is_named = _is_short_text(file.get("filename", "x"))
    return file.keys() <= {"file_data", "filename"} and _is_data_url(file.get("file_data")) and is_named


_FITS = {"text": _is_text_part, "image_url": _is_image_part, "file": _is_file_part}


def _is_call(call: object) -> bool:
    if not isinstance(call, dict) or call.keys() != {"id", "type", "function"}:
        return False
    function = call["function"]
    if not isinstance(function, dict) or function.keys() != {"name", "arguments"}:
        return False
    is_named = _is_short_text(call["id"]) and _is_short_text(function["name"])
    return is_named and call["type"] == "function" and isinstance(function["arguments"], str)


def _is_short_text(value: object, longest: int = 1000) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= longest


def _is_data_url(value: object) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"
