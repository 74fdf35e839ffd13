"""The history that a useChat front end sends is converted to the messages of the model."""

from __future__ import annotations

from typing import Any

import pytest

from chunkspool.web.dialects.usechat_messages import UseChatRequest, to_model_messages


def request(*messages: dict[str, Any], **fields: Any) -> UseChatRequest:
    """Return a request body with these messages."""
    return UseChatRequest.model_validate({"id": "c1", "messages": list(messages), **fields})


def ui(role: str, *parts: dict[str, Any], message_id: str = "m1") -> dict[str, Any]:
    """Return a UI message."""
    return {"id": message_id, "role": role, "parts": list(parts)}


def text(content: str) -> dict[str, Any]:
    """Return a text part."""
    return {"type": "text", "text": content}


def test_texts_become_contents() -> None:
    """System, user and assistant keep their roles; reasoning, steps and data are not sent to the model."""
    body = request(
        ui("system", text("Be brief.")),
        ui("user", text("Why is the sky blue?")),
        ui("assistant", {"type": "step-start"}, {"type": "reasoning", "text": "hm"}, text("Rayleigh."), text("Air.")),
        ui("user", text("And at night?")),
    )
    assert to_model_messages(body.messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "Rayleigh.\nAir."},
        {"role": "user", "content": "And at night?"},
    ]


def test_files_of_the_user_are_passed_on() -> None:
    """Beside the text: images as image_url, other files as file."""
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}
    paper = {
        "type": "file",
        "mediaType": "application/pdf",
        "url": "data:application/pdf;base64,AA==",
        "filename": "a.pdf",
    }
    (message,) = to_model_messages(request(ui("user", text("What is this?"), image, paper)).messages)
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": image["url"]}},
        {"type": "file", "file": {"file_data": paper["url"], "filename": "a.pdf"}},
    ]


def test_tools_that_have_run_become_calls_and_outputs() -> None:
    """Both static and dynamic tools. A call without an output is left out, because a model would reject it."""
    static = {"type": "tool-clock", "toolCallId": "1", "state": "output-available", "input": {}, "output": {"hour": 12}}
    dynamic = {
        "type": "dynamic-tool",
        "toolName": "mail",
        "toolCallId": "2",
        "state": "output-error",
        "input": {"to": "a"},
        "errorText": "no such address",
    }
    waiting = {"type": "tool-clock", "toolCallId": "3", "state": "input-available", "input": {}}
    said, *outputs = to_model_messages(request(ui("assistant", text("Let me see."), static, dynamic, waiting)).messages)
    assert said["content"] == "Let me see."
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in said["tool_calls"]] == [
        ("1", "clock", "{}"),
        ("2", "mail", '{"to":"a"}'),
    ]
    assert outputs == [
        {"role": "tool", "tool_call_id": "1", "content": '{"hour":12}'},
        {"role": "tool", "tool_call_id": "2", "content": "no such address"},
    ]


def test_the_void_text_of_a_dead_attempt_is_not_sent_to_the_model() -> None:
    """The parts before a restart are dropped, even if the front end sends them."""
    restart = {"type": "data-chunkspool-restart", "data": {"attempt": 2}}
    (message,) = to_model_messages(request(ui("assistant", text("void"), restart, text("good"))).messages)
    assert message == {"role": "assistant", "content": "good"}


def test_empty_messages_are_left_out() -> None:
    """Such as an answer that was stopped before its first word."""
    assert to_model_messages(request(ui("assistant", {"type": "step-start"}), ui("user")).messages) == []


@pytest.mark.parametrize(
    ("last", "fields", "expected"),
    [
        ("user", {}, "m1"),
        ("user", {"trigger": "regenerate-message"}, None),
        ("user", {"messageId": "m1"}, None),
        ("assistant", {}, None),
    ],
)
def test_only_a_new_message_makes_a_request_idempotent(last: str, fields: dict[str, Any], expected: str | None) -> None:
    """A retry of a new message is answered once; regenerating or editing it asks for another answer."""
    assert request(ui(last, text("x")), **fields).fresh_message_id == expected


def test_fields_of_front_ends_and_later_sdks_are_ignored() -> None:
    """Options in `body` and fields of later SDKs do not make a request invalid."""
    assert request(ui("user", text("x")), theme="dark", model="m").model == "m"
