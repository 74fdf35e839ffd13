"""What an AI SDK front end sends: its body, and its UI messages as the messages of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_json

ModelMessage = dict[str, Any]
Id = Annotated[str, Field(min_length=1, max_length=1000)]


class UiMessage(BaseModel):
    """One message of the history: a front end's own fields are its own."""

    model_config = ConfigDict(frozen=True)

    id: str = Field("", max_length=1000)
    role: Literal["system", "user", "assistant"]
    parts: list[dict[str, JsonValue]]


class UseChatRequest(BaseModel):
    """The body of `POST /api/chat`. Further fields are ignored: front ends add some, and so will later SDKs."""

    model_config = ConfigDict(frozen=True)

    id: Id
    messages: list[UiMessage] = Field(min_length=1)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: Id | None = None  # noqa: N815 - the SDK's own name
    model: str | None = Field(None, min_length=1, max_length=200)
    params: dict[str, JsonValue] | None = None

    @property
    def continues_message(self) -> bool:
        """Whether the answer goes on in the last message: after tools that ran in the browser."""
        return self.trigger == "submit-message" and self.messages[-1].role == "assistant"

    @property
    def fresh_message_id(self) -> str | None:
        """The id of the user's message if this is the first time that an answer to it is asked for."""
        last = self.messages[-1]
        fresh = self.trigger == "submit-message" and self.messageId is None and last.role == "user"
        return last.id if fresh and last.id else None


def model_messages(messages: Iterable[UiMessage]) -> list[ModelMessage]:
    """Return the history in the chat-completions shape: text, files of the user, tool calls with their outputs."""
    found: list[ModelMessage] = []
    for message in messages:
        if message.role == "assistant":
            found += _assistant(message.parts)
        elif content := _content(message.parts):
            found.append({"role": message.role, "content": content})
    return found


def _content(parts: list[dict[str, JsonValue]]) -> str | list[ModelMessage]:
    """Return a text, or a list where there are files too."""
    files = [file for part in parts if (file := _file(part))]
    text = _text(parts)
    if not files:
        return text
    return [{"type": "text", "text": text}, *files] if text else files


def _text(parts: list[dict[str, JsonValue]]) -> str:
    texts = (part.get("text") for part in parts if part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _file(part: dict[str, JsonValue]) -> ModelMessage | None:
    if part.get("type") != "file" or not isinstance(part.get("url"), str):
        return None
    if str(part.get("mediaType", "")).startswith("image/"):
        return {"type": "image_url", "image_url": {"url": part["url"]}}
    return {"type": "file", "file": {"file_data": part["url"], "filename": str(part.get("filename", "file"))}}


def _assistant(parts: list[dict[str, JsonValue]]) -> list[ModelMessage]:
    """Return the assistant's message, and one for each of its tools that has an output."""
    parts = _valid(parts)
    calls = [(part, _tool_name(part)) for part in parts if _has_output(part)]
    said: ModelMessage = {"role": "assistant", "content": _text(parts) or None}
    if calls:
        said["tool_calls"] = [_call(part, name) for part, name in calls]
    elif said["content"] is None:
        return []
    return [said, *(_output(part) for part, _ in calls)]


def _valid(parts: list[dict[str, JsonValue]]) -> list[dict[str, JsonValue]]:
    """Return the parts behind the last restart: those before it are an attempt that died."""
    restarts = [i for i, part in enumerate(parts) if part.get("type") == "data-chunkspool-restart"]
    return parts[restarts[-1] + 1 :] if restarts else parts


def _tool_name(part: dict[str, JsonValue]) -> str:
    kind = str(part["type"])
    return str(part.get("toolName", "")) if kind == "dynamic-tool" else kind.removeprefix("tool-")


def _has_output(part: dict[str, JsonValue]) -> bool:
    kind = part.get("type")
    is_tool = isinstance(kind, str) and (kind == "dynamic-tool" or kind.startswith("tool-"))
    return is_tool and isinstance(part.get("toolCallId"), str) and str(part.get("state")).startswith("output-")


def _call(part: dict[str, JsonValue], name: str) -> ModelMessage:
    arguments = to_json(part.get("input") if part.get("input") is not None else {}).decode()
    return {"id": part["toolCallId"], "type": "function", "function": {"name": name, "arguments": arguments}}


def _output(part: dict[str, JsonValue]) -> ModelMessage:
    output = part.get("output", part.get("errorText"))
    content = output if isinstance(output, str) else to_json(output).decode()
    return {"role": "tool", "tool_call_id": part["toolCallId"], "content": content}
