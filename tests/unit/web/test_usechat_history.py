"""The history that a useChat front end sends is converted to the messages of the model."""

from __future__ import annotations

from typing import Any

import pytest

from chunkspool.dialects.usechat_messages import UseChatRequest, to_model_messages


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


STEP: dict[str, Any] = {"type": "step-start"}


def tool(number: int, state: str = "output-available", **fields: Any) -> dict[str, Any]:
    """Return the part of a call of the tool `clock`."""
    return {"type": "tool-clock", "toolCallId": str(number), "state": state, "input": {}, **fields}


def shape_of(messages: list[dict[str, Any]]) -> list[tuple[str, Any, list[str]]]:
    """Return role, content and calls of each message; of an output, its call instead of a role."""
    return [
        (
            message.get("tool_call_id") or message["role"],
            message["content"],
            [call["id"] for call in message.get("tool_calls", ())],
        )
        for message in messages
    ]


def test_each_step_is_a_message_of_its_own() -> None:
    """What the model said after it knew the outputs stands behind them; two rounds of calls stay two."""
    parts = [
        *(STEP, text("Let me see."), tool(1, output="one"), tool(2, output={"n": 2})),
        *(STEP, text("Once more."), tool(3, output="three")),
        *(STEP, text("Done.")),
    ]
    assert shape_of(to_model_messages(request(ui("assistant", *parts)).messages)) == [
        ("assistant", "Let me see.", ["1", "2"]),
        ("1", "one", []),
        ("2", '{"n":2}', []),
        ("assistant", "Once more.", ["3"]),
        ("3", "three", []),
        ("assistant", "Done.", []),
    ]


def test_within_a_step_the_outputs_follow_all_that_was_said() -> None:
    """A model says and calls in one answer, before any tool has run."""
    parts = [STEP, text("First,"), tool(1, output="one"), text("then"), tool(2, output="two")]
    assert shape_of(to_model_messages(request(ui("assistant", *parts)).messages)) == [
        ("assistant", "First,\nthen", ["1", "2"]),
        ("1", "one", []),
        ("2", "two", []),
    ]


def test_a_step_without_words_or_outputs_is_left_out() -> None:
    """Model APIs reject an assistant that says nothing and a call that nobody answers."""
    parts = [STEP, STEP, tool(1, "input-available"), STEP, tool(2, output=0, preliminary=True), STEP, text("Hm.")]
    assert shape_of(to_model_messages(request(ui("assistant", *parts)).messages)) == [("assistant", "Hm.", [])]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (tool(1, "output-error", errorText="no such zone"), "no such zone"),
        (tool(1, "output-error"), "The tool failed."),
        (tool(1, "output-denied", approval={"id": "a", "approved": False, "reason": "too late"}), "too late"),
        (tool(1, "output-denied"), "Tool call execution denied."),
        (tool(1, "approval-responded", approval={"id": "a", "approved": False, "reason": "no"}), "no"),
        (tool(1, "output-available", output=None), "null"),
        (tool(1, "output-available", output=float("inf")), "null"),
    ],
)
def test_the_model_is_told_why_a_tool_gave_nothing(part: dict[str, Any], told: str) -> None:
    """Errors and denials keep their reasons; what has none is still an answer to the call."""
    assert shape_of(to_model_messages(request(ui("assistant", part)).messages))[1] == ("1", told, [])


def test_arguments_that_were_no_json_are_shown_to_the_model_as_they_were() -> None:
    """Version 6 keeps them as `rawInput`."""
    part = {**tool(1, "output-error", errorText="not JSON", rawInput="{broken"), "input": None}
    said, _ = to_model_messages(request(ui("assistant", part)).messages)
    assert said["tool_calls"][0]["function"]["arguments"] == '"{broken"'


def test_what_the_user_says_between_two_steps_stands_between_them() -> None:
    """Version 7 keeps such a message as a part of the assistant's."""
    steering = {"type": "steering-message", "id": "s", "parts": [text("Hurry."), "junk"]}
    parts = [STEP, text("One."), steering, STEP, text("Two.")]
    assert shape_of(to_model_messages(request(ui("assistant", *parts)).messages)) == [
        ("assistant", "One.", []),
        ("user", "Hurry.", []),
        ("assistant", "Two.", []),
    ]


def test_a_restart_of_a_continuation_voids_only_what_it_had_written() -> None:
    """The call and the browser's output that it continues are kept."""
    restart = {"type": "data-chunkspool-restart", "data": {"attempt": 2, "from": 3}}
    parts = [STEP, text("Let me see."), tool(1, output="noon"), STEP, text("void"), restart, STEP, text("It is noon.")]
    assert shape_of(to_model_messages(request(ui("assistant", *parts)).messages)) == [
        ("assistant", "Let me see.", ["1"]),
        ("1", "noon", []),
        ("assistant", "It is noon.", []),
    ]


@pytest.mark.parametrize("begin", [-1, 99, "x", None, 1.5, True])
def test_a_forged_restart_hides_no_more_than_a_real_one(begin: Any) -> None:
    """Whatever it says it begins with, the parts behind it are kept."""
    restart = {"type": "data-chunkspool-restart", "data": {"from": begin}}
    (message,) = to_model_messages(request(ui("assistant", restart, text("good"))).messages)
    assert message == {"role": "assistant", "content": "good"}


@pytest.mark.parametrize(
    ("fields", "continued"),
    [
        ({}, "a2"),
        ({"messageId": "a2"}, "a2"),
        ({"messageId": "a1"}, "a1"),
        ({"messageId": "unknown"}, "a2"),
        ({"messageId": "u1"}, None),
        ({"trigger": "regenerate-message"}, None),
    ],
)
def test_the_continued_message_is_the_last_one_or_the_named_one(fields: dict[str, Any], continued: str | None) -> None:
    """Version 7 also continues an earlier message, whose tool was approved late."""
    messages = [
        ui("user", text("x"), message_id="u1"),
        ui("assistant", text("y"), message_id="a1"),
        ui("assistant", text("z"), message_id="a2"),
    ]
    message = request(*messages, **fields).continued_message
    assert (message and message.id) == continued


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
