"""A request in the shape of chat completions becomes one of the Messages API."""

from __future__ import annotations

from typing import Any

import pytest

from chunkspool.errors import ProviderError
from chunkspool.provider import ModelRequest
from chunkspool.tasks.providers.anthropic_messages.request import MAX_TOKENS, build_body

CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "CET"}'}}


def body(*messages: dict[str, Any], prefix: str = "", **params: Any) -> dict[str, Any]:
    """Return the body of a request with these messages."""
    return build_body(ModelRequest(messages, None, params, prefix))


def text(content: str) -> dict[str, str]:
    """Return a block of text."""
    return {"type": "text", "text": content}


def test_instructions_are_no_messages() -> None:
    """Wherever they stand in the conversation."""
    built = body(
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "developer", "content": [{"type": "text", "text": "c"}]},
    )
    assert built == {
        "system": [text("a"), text("c")],
        "messages": [{"role": "user", "content": [text("b")]}],
        "max_tokens": MAX_TOKENS,
    }


def test_tool_results_follow_their_calls_in_one_message() -> None:
    """The API takes them in no other order; empty texts beside a call, which it rejects, are left out."""
    second = {"id": "c2", "function": {"name": "map", "arguments": ""}}
    built = body(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "tool", "tool_call_id": "c2", "content": [text("north")]},
        {"role": "user", "content": "and now?"},
        prefix="Now",
    )
    assert built["messages"] == [
        {"role": "user", "content": [text("a")]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "clock", "input": {"zone": "CET"}},
                {"type": "tool_use", "id": "c2", "name": "map", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "noon"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [text("north")]},
                text("and now?"),
            ],
        },
        {"role": "assistant", "content": [text("Now")]},
    ]


@pytest.mark.parametrize("arguments", ["{", "7", "[]", "null", '"x"'])
def test_arguments_that_are_no_object_stay_readable(arguments: str) -> None:
    """One call that a model got wrong must not make the whole chat unusable."""
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    (message,) = body({"role": "assistant", "content": None, "tool_calls": [call]})["messages"]
    assert message["content"][0]["input"] == {"arguments": arguments}


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://x.example/a.png", {"type": "url", "url": "https://x.example/a.png"}),
        ("data:image/png;base64,AAAA", {"type": "base64", "media_type": "image/png", "data": "AAAA"}),
    ],
)
def test_images_keep_their_source(url: str, source: dict[str, str]) -> None:
    """A URL, or the bytes themselves."""
    (message,) = body({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})["messages"]
    assert message["content"] == [{"type": "image", "source": source}]


def test_blocks_of_the_api_itself_stay_as_they_are() -> None:
    """Documents, and blocks with cache_control."""
    blocks = [{"type": "document", "source": {"type": "text"}}, {**text("a"), "cache_control": {"type": "ephemeral"}}]
    assert body({"role": "user", "content": blocks})["messages"][0]["content"] == blocks


@pytest.mark.parametrize("kind", ["input_audio", "file"])
def test_what_the_api_does_not_take_is_an_error(kind: str) -> None:
    """Left out, it would change the question."""
    with pytest.raises(ProviderError, match=f"takes no part of the type {kind}"):
        body({"role": "user", "content": [{"type": kind}]})


@pytest.mark.parametrize("name", ["model", "messages", "stream", "system"])
def test_params_may_not_replace_what_was_asked(name: str) -> None:
    """They would go into the same JSON object."""
    with pytest.raises(ProviderError, match=f"params may not set {name}"):
        body({"role": "user", "content": "a"}, **{name: "x"})


def test_params_of_openai_are_translated_and_all_others_stay() -> None:
    """So that an app can change the model without changing its params."""
    function = {"name": "clock", "description": "Tells the time.", "parameters": {"type": "object"}}
    own = {"type": "web_search_20250305", "name": "web_search"}
    built = body(
        {"role": "user", "content": "a"},
        max_completion_tokens=7,
        stop="END",
        tools=[{"type": "function", "function": function}, {"type": "function", "function": {"name": "now"}}, own],
        tool_choice={"type": "function", "function": {"name": "clock"}},
        thinking={"type": "adaptive"},
        stream_options={"include_usage": True},
        temperature=None,
    )
    del built["messages"]
    assert built == {
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "tools": [
            {"name": "clock", "description": "Tells the time.", "input_schema": {"type": "object"}},
            {"name": "now", "input_schema": {"type": "object", "properties": {}}},
            own,
        ],
        "tool_choice": {"type": "tool", "name": "clock"},
        "thinking": {"type": "adaptive"},
    }
    assert body({"role": "user", "content": "a"}, max_tokens=9)["max_tokens"] == 9


@pytest.mark.parametrize(
    ("given", "built"),
    [("auto", {"type": "auto"}), ("required", {"type": "any"}), ("none", {"type": "none"}), ({"type": "any"},) * 2],
)
def test_a_tool_choice_has_another_shape(given: object, built: object) -> None:
    """One in the shape of the API stays."""
    assert body({"role": "user", "content": "a"}, tool_choice=given)["tool_choice"] == built
