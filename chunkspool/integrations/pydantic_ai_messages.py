"""Turns messages in the shape of chat completions into those of Pydantic AI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_ai.messages import (
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.json_values import object_in, objects_in, text_in


def pydantic_ai_history(messages: Sequence[Mapping[str, Any]]) -> list[ModelMessage]:
    """Return the conversation. Raises `ProviderError` for a role or a part that Pydantic AI has no word for."""
    names = {call["id"]: call["name"] for message in messages for call in _calls_of(message)}
    read: list[ModelMessage] = []
    for message in messages:
        if message.get("role") == "assistant":
            read.append(ModelResponse(parts=list(_read_answer(message))))
        else:
            read.append(ModelRequest(parts=[_read_request(message, names)]))
    return read


def _read_request(message: Mapping[str, Any], names: Mapping[str, str]) -> ModelRequestPart:
    match message.get("role"):
        case "system" | "developer":
            return SystemPromptPart(_text_of(message.get("content")))
        case "user":
            return UserPromptPart(_read_prompt(message.get("content")))
        case "tool":
            of_call = text_in(message.get("tool_call_id"))
            return ToolReturnPart(names.get(of_call, "tool"), _text_of(message.get("content")), of_call)
        case role:
            raise failure(Code.INVALID_REQUEST, f"a message of the role {role!r:.40}")


def _read_answer(message: Mapping[str, Any]) -> Iterator[ModelResponsePart]:
    if text := _text_of(message.get("content")):
        yield TextPart(text)
    for call in _calls_of(message):
        yield ToolCallPart(call["name"], call["arguments"], call["id"])


def _calls_of(message: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for call in objects_in(message.get("tool_calls")):
        function = object_in(call.get("function"))
        fields = {"id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
        yield {name: text_in(value) for name, value in fields.items()}


def _read_prompt(content: object) -> str | list[UserContent]:
    """Return a question: a text, or a list of texts and images."""
    return content if isinstance(content, str) else [_read_user_part(part) for part in objects_in(content)]


def _read_user_part(part: Mapping[str, Any]) -> UserContent:
    match part.get("type"):
        case "text":
            return text_in(part.get("text"))
        case "image_url":
            return ImageUrl(url=text_in(object_in(part.get("image_url")).get("url")))
        case kind:
            raise failure(Code.INVALID_REQUEST, f"a part of the type {kind!r:.40}")


def _text_of(content: object) -> str:
    return content if isinstance(content, str) else "".join(text_in(part.get("text")) for part in objects_in(content))
