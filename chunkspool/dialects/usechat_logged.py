"""The messages of a front end as the log has them: what a model is told, each with what it takes to show it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from chunkspool.dialects.usechat_messages import ModelMessage, UiMessage, UiPart, UseChatRequest, to_model_messages
from chunkspool.events import MessageEvent

MAX_ID: Final = 1000
"""Characters that a message's id may have."""
_CONTINUES: Final = "continues"
"""Marks a message that an answer extends."""
_PART_OF: Final = "part_of"
"""Marks what is shown as a part of another message, by the id of that one."""
_ANY_IMAGE: Final = "image/*"
_ANY_FILE: Final = "application/octet-stream"


class ToolOutput(NamedTuple):
    """The output of a call that no front end of the AI SDK has sent."""

    call_id: str
    output: object


def to_logged_messages(request: UseChatRequest, *, only_new: bool) -> list[ModelMessage]:
    """Return the request's messages for a model, with the ids and the `ui` that the log needs.

    `only_new`: without those that an answer has followed, because the log supplies them.
    """
    sent, continued = request.sent, request.continued_message
    is_last = continued is None or continued is sent[-1]
    groups = [_to_logged(message, continues=message is continued and is_last) for message in sent]
    if not is_last and continued is not None:
        # What is new is not at the end, and only there the log looks for it.
        groups.append([_only_shown(continued, continues=True)])
    if only_new:
        groups = _only_new(sent, groups, continued)
    return [message for group in groups for message in group]


def to_message_event(message: UiMessage, generation_id: str, *, continues: bool = False) -> MessageEvent:
    """Return the event that the log would have of a message that was kept beside it."""
    ui = _ui(message, continues=continues)
    return MessageEvent.model_validate({"generation": generation_id, "id": message.id, "role": message.role, "ui": ui})


def continued_by(asked: Iterable[MessageEvent]) -> UiMessage | None:
    """Return the message that an answer extends which was asked with these; None if it is one of its own."""
    for event in asked:
        if _ui_of(event).get(_CONTINUES) is True:
            message = _parse(_ui_of(event))
            if message is not None and message.role == "assistant":
                return message
    return None


def shown_as(event: MessageEvent) -> UiMessage | None:
    """Return the message that a front end shows for the event; None for none of its own.

    What is not from a front end of the AI SDK is made of what the model was told.
    """
    ui = _ui_of(event)
    if _PART_OF in ui or ui.get(_CONTINUES) is True:
        return None
    message = _parse(ui)
    if message is None:
        return _rebuild(event)
    parts = _with_urls(message.parts, event.content) if message.role == "user" else message.parts
    return message.model_copy(update={"id": message.id or event.id, "parts": parts})


def output_of(event: MessageEvent) -> ToolOutput | None:
    """Return the output of a tool that the event brings, unless it is a part of a message that is shown."""
    call_id = (event.model_extra or {}).get("tool_call_id")
    if event.role != "tool" or _ui_of(event) or not isinstance(call_id, str):
        return None
    try:
        return ToolOutput(call_id, from_json(event.content) if isinstance(event.content, str) else event.content)
    except ValueError:
        return ToolOutput(call_id, event.content)


def _to_logged(message: UiMessage, *, continues: bool) -> list[ModelMessage]:
    said = to_model_messages([message])
    if message.role == "system":
        return said
    if not said:
        return [_only_shown(message, continues=continues)]
    if message.role == "user":
        return [{**said[0], **_kept_of_user(message, said[0]["content"])}]
    parts = [
        {**one, **_id_of_part(message, one, number), "ui": {_PART_OF: message.id}} for number, one in enumerate(said)
    ]
    parts[-1]["ui"] = _ui(message, continues=continues)
    if parts[-1]["role"] == "assistant":
        parts[-1].update(_id(message.id))
    return parts


def _only_shown(message: UiMessage, *, continues: bool) -> ModelMessage:
    """Return a message that says nothing to the model."""
    return {"role": "assistant", "content": None, "ui": _ui(message, continues=continues)}


def _only_new(
    sent: list[UiMessage], groups: list[list[ModelMessage]], continued: UiMessage | None
) -> list[list[ModelMessage]]:
    """Return the app's messages, and those that no answer has followed."""
    of_the_app = [group for message, group in zip(sent, groups, strict=False) if message.role == "system"]
    if continued is not None:
        at = next(at for at, message in enumerate(sent) if message is continued)
        outputs = [one for one in _behind_the_assistant(groups[at]) if one["role"] == "tool"]
        if not outputs:
            return [*of_the_app, [_only_shown(continued, continues=True)]]
        return [*of_the_app, outputs[:-1], [{**outputs[-1], "ui": _ui(continued, continues=True)}]]
    last = max((at for at, message in enumerate(sent) if message.role == "assistant"), default=-1)
    return [*of_the_app, *(group for at, group in enumerate(groups) if at > last and sent[at].role == "user")]


def _behind_the_assistant(group: list[ModelMessage]) -> list[ModelMessage]:
    last = max((at for at, message in enumerate(group) if message["role"] == "assistant"), default=-1)
    return group[last + 1 :]


def _kept_of_user(message: UiMessage, content: Any) -> dict[str, Any]:
    """Return the id, and how the message is shown unless that follows from its content."""
    rebuilt = UiMessage(id=message.id, role="user", parts=list(_parts_of(content)))
    if rebuilt.model_dump(exclude_none=True) == message.model_dump(exclude_none=True):
        return _id(message.id)
    slim = [_without_url(part) for part in message.parts]
    return {**_id(message.id), "ui": _ui(message.model_copy(update={"parts": slim}), continues=False)}


def _ui(message: UiMessage, *, continues: bool) -> dict[str, Any]:
    shown = message.model_dump(mode="python", exclude_unset=True)
    return {**shown, _CONTINUES: True} if continues else shown


def _id(own_id: str) -> dict[str, Any]:
    return {"id": own_id} if own_id else {}


def _id_of_part(message: UiMessage, part: ModelMessage, number: int) -> dict[str, Any]:
    """Return an id that the part has in every request that repeats it."""
    made = f"{message.id}/{part.get('tool_call_id', number)}"
    return _id(made) if message.id and len(made) <= MAX_ID else {}


def _ui_of(event: MessageEvent) -> dict[str, Any]:
    ui = (event.model_extra or {}).get("ui")
    return ui if isinstance(ui, dict) else {}


def _parse(ui: dict[str, Any]) -> UiMessage | None:
    """Return the message; None for what is none: any client may have sent it."""
    try:
        return UiMessage.model_validate(ui)
    except ValidationError:
        return None


def _rebuild(event: MessageEvent) -> UiMessage | None:
    own_id = event.id[:MAX_ID]
    if event.role == "user":
        return UiMessage(id=own_id, role="user", parts=list(_parts_of(event.content)))
    parts = [*_parts_of(event.content), *_calls_of((event.model_extra or {}).get("tool_calls"))]
    return UiMessage(id=own_id, role="assistant", parts=parts) if parts and event.role == "assistant" else None


def _parts_of(content: Any) -> Iterator[UiPart]:
    """Yield the parts of a content: files first, as the SDK sends them."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    said = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    for part in said:
        if (file := _file_of(part)) is not None:
            yield file
    for part in said:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            yield {"type": "text", "text": part["text"]}


def _file_of(part: dict[str, Any]) -> UiPart | None:
    kind = part.get("type")
    held = part.get(kind) if kind in {"image_url", "file"} else None
    if not isinstance(held, dict):
        return None
    url = held.get("url" if kind == "image_url" else "file_data")
    if not isinstance(url, str):
        return None
    name = held.get("filename")
    named = {"filename": name} if isinstance(name, str) else {}
    media_type = _media_type(url, _ANY_IMAGE if kind == "image_url" else _ANY_FILE)
    return {"type": "file", "mediaType": media_type, **named, "url": url}


def _media_type(url: str, unknown: str) -> str:
    if url[:5].lower() == "data:":
        return url[5:].partition(",")[0].partition(";")[0] or unknown
    return unknown


def _without_url(part: UiPart) -> UiPart:
    """Return a file without its URL, which may be large and is in the content, too."""
    is_file = part.get("type") == "file" and isinstance(part.get("url"), str)
    return {name: value for name, value in part.items() if name != "url"} if is_file else part


def _with_urls(parts: list[UiPart], content: Any) -> list[UiPart]:
    """Return the parts with the URLs of the content's files; a file that the app has taken out is left out."""
    urls = (part["url"] for part in _parts_of(content) if part["type"] == "file")
    whole: list[UiPart] = []
    for part in parts:
        if part.get("type") != "file" or "url" in part:
            whole.append(part)
        elif (url := next(urls, None)) is not None:
            whole.append({**part, "url": url})
    return whole


def _calls_of(calls: Any) -> Iterator[UiPart]:
    for call in calls if isinstance(calls, list) else ():
        match call:
            case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}} if name:
                yield {
                    "type": f"tool-{name}",
                    "toolCallId": call_id,
                    "state": "input-available",
                    "input": _read(arguments),
                }


def _read(arguments: str) -> Any:
    try:
        return from_json(arguments or "{}", allow_inf_nan=False)
    except ValueError:
        return arguments
