"""Turns a request in the shape of chat completions into one of the Messages API; pure.

Messages, tools and a few params have another shape there. Everything else goes to the server as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chunkspool.provider import ModelRequest
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.json_values import decode_object, object_in, objects_in, text_in

MAX_TOKENS = 4096
"""`max_tokens` of a request that sets none: the API requires it, and this is what every model takes."""
_RESERVED = frozenset({"messages", "model", "stream", "system"})
_INSTRUCTING = ("system", "developer")
_DATA_URL = re.compile(r"data:(?P<type>[^;,]+);base64,(?P<data>.*)", re.DOTALL)
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}

Block = Mapping[str, Any]


def build_body(request: ModelRequest) -> dict[str, Any]:
    """Return the request's fields, without its model. Raises `ProviderError` for what the API cannot express."""
    taken = sorted(_RESERVED & request.params.keys())
    if taken:
        raise failure(Code.INVALID_REQUEST, f"params may not set {', '.join(taken)}")
    system = [block for message in request.messages if _instructs(message) for block in _read_blocks(message)]
    begun = [{"role": "assistant", "content": request.prefix}] if request.prefix else []
    messages = _merge([*(message for message in request.messages if not _instructs(message)), *begun])
    return {"messages": messages, **({"system": system} if system else {}), **_build_params(request.params)}


def _instructs(message: Mapping[str, Any]) -> bool:
    return message.get("role") in _INSTRUCTING


def _merge(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the conversation with adjacent messages of one side made one: results must follow their calls together."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.get("role") == "assistant" else "user"
        blocks = list(_read_result(message) if message.get("role") == "tool" else _read_blocks(message))
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        elif blocks:
            merged.append({"role": role, "content": blocks})
    return merged


def _read_blocks(message: Mapping[str, Any]) -> Iterator[Block]:
    content = message.get("content")
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        # The API rejects empty texts, and some front ends send them beside a tool call.
        if part.get("type") != "text" or part.get("text"):
            yield _read_part(part)
    for call in objects_in(message.get("tool_calls")):
        yield _read_call(call)


def _read_part(part: Mapping[str, Any]) -> Block:
    """Return the block that a part means. Parts that the API itself has, such as documents, stay as they are."""
    if part.get("type") in ("file", "input_audio"):
        raise failure(Code.INVALID_REQUEST, f"the Messages API takes no part of the type {part['type']}")
    if part.get("type") == "refusal":
        return {"type": "text", "text": text_in(part.get("refusal"))}
    if part.get("type") != "image_url":
        return part
    url = text_in(object_in(part.get("image_url")).get("url"))
    inline = _DATA_URL.fullmatch(url)
    if inline is None:
        return {"type": "image", "source": {"type": "url", "url": url}}
    return {"type": "image", "source": {"type": "base64", "media_type": inline["type"], "data": inline["data"]}}


def _read_call(call: Mapping[str, Any]) -> Block:
    function = object_in(call.get("function"))
    arguments = text_in(function.get("arguments")) or "{}"
    given = decode_object(arguments.encode(errors="replace"))
    # Models write arguments that are no object. The API takes nothing else, and the model must see what it wrote.
    readable = {"arguments": arguments} if given is None else given
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": readable}


def _read_result(message: Mapping[str, Any]) -> Iterator[Block]:
    content = message.get("content")
    blocks = list(_read_blocks(message)) if isinstance(content, list) else content or ""
    yield {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": blocks}


def _build_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the further fields. A param of None is left out, as are those that only OpenAI's servers know."""
    given = {name: value for name, value in params.items() if value is not None and name != "stream_options"}
    limit = given.pop("max_completion_tokens", MAX_TOKENS)
    built = {"max_tokens": limit, **given}
    if "stop" in built:
        stop = built.pop("stop")
        built["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if "tools" in built:
        built["tools"] = [_read_tool(tool) for tool in objects_in(built["tools"])]
    if "tool_choice" in built:
        built["tool_choice"] = _read_choice(built["tool_choice"])
    return built


def _read_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tool. One that is not in the shape of chat completions stays as it is."""
    if tool.get("type") != "function" or "function" not in tool:
        return tool
    function = object_in(tool["function"])
    schema = object_in(function.get("parameters")) or {"type": "object", "properties": {}}
    described = {"description": function["description"]} if function.get("description") else {}
    return {"name": function.get("name"), **described, "input_schema": schema}


def _read_choice(choice: object) -> object:
    if isinstance(choice, str):
        return {"type": _CHOICES.get(choice, choice)}
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "tool", "name": object_in(choice.get("function")).get("name")}
    return choice
