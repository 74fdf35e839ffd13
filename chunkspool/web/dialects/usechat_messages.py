"""What an AI SDK front end sends: the request body, and the conversion of its UI messages to model messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chunkspool.json_text import to_valid_json
from chunkspool.web.dialects.usechat import RESTART

UiPart = dict[str, JsonValue]
ModelMessage = dict[str, Any]
SdkId = Annotated[str, Field(min_length=1, max_length=1000)]


class HistoryMessage(BaseModel):
    """One message of the history, a `UIMessage` of the SDK. Further fields are ignored."""

    model_config = ConfigDict(frozen=True)

    id: str = Field("", max_length=1000)
    role: Literal["system", "user", "assistant"]
    parts: list[UiPart]


class UseChatRequest(BaseModel):
    """The body of `POST /api/chat`. Unknown fields are ignored: front ends add their own, and later SDKs will, too."""

    model_config = ConfigDict(frozen=True)

    id: SdkId
    messages: list[HistoryMessage] = Field(min_length=1)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: SdkId | None = None  # noqa: N815 - the SDK's own name
    model: str | None = Field(None, min_length=1, max_length=200)
    params: dict[str, JsonValue] | None = None

    @property
    def continues_message(self) -> bool:
        """Whether the answer extends the last message: the SDK asks for that after tools have run in the browser."""
        return self.trigger == "submit-message" and self.messages[-1].role == "assistant"

    @property
    def fresh_message_id(self) -> str | None:
        """The id of the user's message if it is new; None if it is edited or its answer is regenerated."""
        last = self.messages[-1]
        fresh = self.trigger == "submit-message" and self.messageId is None and last.role == "user"
        return last.id if fresh and last.id else None


def to_model_messages(messages: Iterable[HistoryMessage]) -> list[ModelMessage]:
    """Return the history in the chat-completions shape: texts, the user's files, tool calls with their outputs."""
    converted: list[ModelMessage] = []
    for message in messages:
        if message.role == "assistant":
            converted += _assistant_messages(message.parts)
        elif content := _content_of(message.parts):
            converted.append({"role": message.role, "content": content})
    return converted


def _content_of(parts: list[UiPart]) -> str | list[ModelMessage]:
    """Return a text, or a list if there are files, too."""
    files = [file for part in parts if (file := _file_of(part))]
    text = _text_of(parts)
    if not files:
        return text
    return [{"type": "text", "text": text}, *files] if text else files


def _text_of(parts: list[UiPart]) -> str:
    texts = (part.get("text") for part in parts if part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _file_of(part: UiPart) -> ModelMessage | None:
    if part.get("type") != "file" or not isinstance(part.get("url"), str):
        return None
    if str(part.get("mediaType", "")).startswith("image/"):
        return {"type": "image_url", "image_url": {"url": part["url"]}}
    return {"type": "file", "file": {"file_data": part["url"], "filename": str(part.get("filename", "file"))}}


def _assistant_messages(parts: list[UiPart]) -> list[ModelMessage]:
    """Return the assistant's message, and a tool message for each of its calls that has an output.

    A call without an output is left out, because model APIs reject it.
    """
    parts = _parts_after_restart(parts)
    calls = [(part, _tool_name_of(part)) for part in parts if _has_output(part)]
    message: ModelMessage = {"role": "assistant", "content": _text_of(parts) or None}
    if calls:
        message["tool_calls"] = [_tool_call_of(part, name) for part, name in calls]
    elif message["content"] is None:
        return []
    return [message, *(_tool_message_of(part) for part, _ in calls)]


def _parts_after_restart(parts: list[UiPart]) -> list[UiPart]:
    """Return the parts after the last restart: those before it are void."""
    restarts = [i for i, part in enumerate(parts) if part.get("type") == RESTART]
    return parts[restarts[-1] + 1 :] if restarts else parts


def _tool_name_of(part: UiPart) -> str:
    kind = str(part["type"])
    return str(part.get("toolName", "")) if kind == "dynamic-tool" else kind.removeprefix("tool-")


def _has_output(part: UiPart) -> bool:
    kind = part.get("type")
    is_tool = isinstance(kind, str) and (kind == "dynamic-tool" or kind.startswith("tool-"))
    return is_tool and isinstance(part.get("toolCallId"), str) and str(part.get("state")).startswith("output-")


def _tool_call_of(part: UiPart, name: str) -> ModelMessage:
    arguments = to_valid_json(part.get("input") if part.get("input") is not None else {}).decode()
    return {"id": part["toolCallId"], "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool_message_of(part: UiPart) -> ModelMessage:
    output = part.get("output", part.get("errorText"))
    content = output if isinstance(output, str) else to_valid_json(output).decode()
    return {"role": "tool", "tool_call_id": part["toolCallId"], "content": content}
