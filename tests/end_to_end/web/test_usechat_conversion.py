"""The history that goes to the model has the order that the AI SDK's own conversion gives it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from support.web.node import SDKS, start_client

from chunkspool.dialects.usechat_messages import UiMessage, to_model_messages

pytestmark = pytest.mark.timeout(300)

Part = dict[str, Any]
Shape = tuple[str, str, tuple[str, ...]]
HISTORIES = 200


def random_parts(random: Random, sdk: int) -> list[Part]:
    """Return the parts of an assistant's message, each call with an id of its own."""
    return [_random_part(random, sdk, str(number)) for number in range(random.randrange(12))]


def _random_part(random: Random, sdk: int, call: str) -> Part:
    tool = {"type": "tool-clock", "toolCallId": call, "input": {}}
    denied = {"id": f"a{call}", "approved": False, "reason": "too late"}
    choices: list[Part] = [
        {"type": "step-start"},
        {"type": "step-start"},
        {"type": "text", "text": f"words {call}"},
        {"type": "text", "text": f"words {call}"},
        {"type": "data-colour", "data": "red"},
        {**tool, "state": "output-available", "output": f"output {call}"},
        {**tool, "type": "dynamic-tool", "toolName": "mail", "state": "output-available", "output": f"output {call}"},
        {**tool, "state": "output-error", "errorText": f"error {call}"},
        {**tool, "state": "output-denied", "approval": denied},
        {**tool, "state": "output-denied"},
        {**tool, "state": "output-available", "output": "so far", "preliminary": True},
        {**tool, "state": "input-available"},
        {**tool, "state": "input-streaming"},
    ]
    if sdk > 6:
        choices.append({"type": "steering-message", "id": call, "parts": [{"type": "text", "text": f"words {call}"}]})
    return random.choice(choices)


def shapes_of_ours(messages: list[dict[str, Any]]) -> list[Shape]:
    """Return role, text and calls of our messages."""
    return [
        (
            message["role"],
            (message["content"] or "").replace("\n", ""),
            tuple(call["id"] for call in message.get("tool_calls", ())) or (message.get("tool_call_id", ""),),
        )
        for message in messages
    ]


def shapes_of_theirs(messages: list[dict[str, Any]]) -> list[Shape]:
    """Return the same of the SDK's; each of its results is a message of ours."""
    shapes: list[Shape] = []
    for message in messages:
        parts = message["content"]
        if message["role"] == "tool":
            results = [part for part in parts if part["type"] == "tool-result"]
            shapes += [("tool", part["output"]["value"], (part["toolCallId"],)) for part in results]
        else:
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            calls = tuple(part["toolCallId"] for part in parts if part["type"] == "tool-call")
            shapes.append((message["role"], text, calls or ("",)))
    return shapes


@pytest.mark.parametrize("sdk", SDKS)
def test_the_model_gets_what_the_sdk_would_send_it(sdk: int) -> None:
    """For random messages: the same roles, words, calls, outputs and reasons, in the same order."""
    random = Random(sdk)  # noqa: S311 - repeatable, not a secret
    histories = [[{"id": "a", "role": "assistant", "parts": random_parts(random, sdk)}] for _ in range(HISTORIES)]
    out, err = start_client(sdk, "convert.mjs").communicate(json.dumps(histories), timeout=200)
    assert out, err
    for history, theirs in zip(histories, json.loads(out), strict=True):
        ours = to_model_messages([UiMessage.model_validate(message) for message in history])
        assert shapes_of_ours(ours) == shapes_of_theirs(theirs), history
