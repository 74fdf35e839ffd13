"""What a web user may choose without a hook of the app's: little, and whatever is refused says what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from chunkspool import Settings
from chunkspool.request import GenerationRequest
from chunkspool.web import AskedGeneration, Refused, SafeAdmission

REQUEST = Request({"type": "http", "headers": []})
SAFE = SafeAdmission(frozenset({"small", "large"}), max_tokens=1000)
USER = {"role": "user", "content": "x"}
PIXEL = "data:image/png;base64,AA=="
CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
OTHER_SERVER = "http://169.254.169.254/latest/meta-data"


def admit(
    *messages: dict[str, Any],
    model: str | None = None,
    safe: SafeAdmission = SAFE,
    on_active: Any = "reject",
    params: dict[str, Any] | None = None,
    is_of_usechat: bool = False,
) -> AskedGeneration:
    """Return what becomes of a user's request."""
    request = GenerationRequest.checked(prompt=None, messages=messages or (USER,), model=model, params=params)
    asked = AskedGeneration.of(request, on_active=on_active, request_id="r", is_of_usechat=is_of_usechat)
    return safe(REQUEST, "default", "chat", asked)


GOOD_PARAMS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 2.0, "top_p": 0.5},
    {"presence_penalty": -2, "frequency_penalty": 2},
    {"max_tokens": 1000},
    {"max_completion_tokens": 1},
    {"n": 1},
    {"seed": -(2**63)},
    {"stop": "\n"},
    {"stop": ["a"] * 4},
    {"reasoning_effort": "low"},
    {"response_format": {"type": "json_object"}},
]
BAD_PARAMS: list[tuple[dict[str, Any], str]] = [
    ({"n": 100}, "it may be 1"),
    ({"max_tokens": 1001}, "a whole number from 1 to 1000"),
    ({"max_tokens": 0}, "a whole number from 1 to 1000"),
    ({"max_tokens": True}, "a whole number"),
    ({"max_tokens": 10.0}, "a whole number"),
    ({"max_completion_tokens": 10**30}, "a whole number"),
    ({"temperature": 2.1}, "a number from 0 to 2"),
    ({"temperature": "1"}, "a number from 0 to 2"),
    ({"top_p": -0.1}, "a number from 0 to 1"),
    ({"seed": 2**63}, "a whole number"),
    ({"stop": []}, "up to 4"),
    ({"stop": ["a"] * 5}, "up to 4"),
    ({"stop": [["a"]]}, "up to 4"),
    ({"stop": "x" * 201}, "200 characters"),
    ({"reasoning_effort": "xhigh"}, "'high'"),
    ({"reasoning_effort": {}}, "'high'"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "json_object"),
    ({"tools": []}, "params may not have 'tools'; they may have temperature, top_p"),
    ({"service_tier": "priority"}, "'service_tier'"),
    ({"api_base": OTHER_SERVER}, "'api_base'"),
    ({"user": "another"}, "'user'"),
    ({"stream_options": None}, "'stream_options'"),
    ({"stream": False}, "'stream'"),
    ({"messages": []}, "'messages'"),
    ({"model": "huge"}, "'model'"),
    ({"extra_body": {}, "extra_headers": {}, "metadata": {}, "logprobs": True}, "and 1 more"),
    ({"x" * 10_000: 1}, "..."),
]
GOOD_MESSAGES: list[list[dict[str, Any]]] = [
    [{**USER, "name": "Ann"}],
    [{**USER, "id": "m/ü 1"}, {"role": "assistant", "content": "y", "id": "a1"}],
    [USER, {"role": "assistant", "content": "y"}, USER],
    [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
    ],
    [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            ],
        }
    ],
    [{"role": "user", "content": [{"type": "file", "file": {"file_data": PIXEL, "filename": "a.png"}}]}],
    [USER, {"role": "assistant", "content": [{"type": "text", "text": "y"}]}, USER],
]
BAD_MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"role": "system", "content": "obey"}, "the role 'system' is not allowed; it may be user, assistant, tool"),
    ({"role": "developer", "content": "obey"}, "the role 'developer'"),
    ({**USER, "cache_control": {"type": "ephemeral"}}, "'cache_control' is not allowed"),
    ({**USER, "tool_calls": [CALL]}, "'tool_calls' is not allowed"),
    ({**USER, "name": ""}, "name must be a text"),
    ({**USER, "name": {"a": 1}}, "name must be a text"),
    ({**USER, "ui": {"part_of": "x"}}, "'ui' is not allowed"),
    ({**USER, "ui": {}}, "'ui' is not allowed"),
    ({"role": "assistant", "content": "y", "ui": {"continues": True, "id": "g1"}}, "'ui' is not allowed"),
    ({**USER, "id": "a\x1b[2J"}, "its id has characters"),
    ({**USER, "id": "a\nb"}, "its id has characters"),
    ({"role": "assistant", "content": "y", "prefix": True}, "'prefix' is not allowed"),
    ({"role": "assistant", "content": None, "tool_calls": "x"}, "tool_calls must be a list"),
    ({"role": "assistant", "content": None, "tool_calls": [{**CALL, "more": 1}]}, "tool_calls must be a list"),
    (
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
        "tool_calls",
    ),
    ({"role": "tool", "content": "12"}, "tool_call_id must be"),
    ({"role": "tool", "content": "12", "tool_call_id": "c1", "name": "system"}, "'name' is not allowed"),
    (
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]},
        "of type 'image_url'",
    ),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": OTHER_SERVER}}]}, "data: URL"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": OTHER_SERVER}]}, "data: URL"),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL, "more": 1}}]},
        "fields that are not",
    ),
    ({"role": "user", "content": [{"type": "file", "file": {"file_data": OTHER_SERVER}}]}, "data: URL"),
    ({"role": "user", "content": [{"type": "file", "file": {"file_id": "another-user's"}}]}, "lacks one"),
    ({"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}, "fields that are not"),
    ({"role": "user", "content": [{"type": "text", "text": 1}]}, "fields that are not"),
    ({"role": "user", "content": [{"type": ["text"]}]}, "a part of type ['text'] is not allowed"),
    ({"role": "user", "content": [{}]}, "a part of type None is not allowed"),
    ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "file, image_url, text are"),
]


@pytest.mark.parametrize("params", GOOD_PARAMS, ids=str)
def test_params_that_shape_an_answer_pass_within_their_bounds(params: dict[str, Any]) -> None:
    """They reach the provider as they are."""
    assert admit(params=params).params == params


@pytest.mark.parametrize(("params", "says"), BAD_PARAMS, ids=lambda value: str(value)[:40])
def test_other_params_and_other_values_are_refused(params: dict[str, Any], says: str) -> None:
    """What costs more, reaches other servers, hides the usage or is not known; the text says what is allowed."""
    with pytest.raises(Refused) as refused:
        admit(params=params)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_param_that_is_null_is_not_set() -> None:
    """Front ends send null for what their user left alone."""
    assert admit(params={"temperature": None, "top_p": 1}).params == {"top_p": 1}


@pytest.mark.parametrize("messages", GOOD_MESSAGES, ids=lambda value: str(value)[:60])
def test_a_conversation_passes_unchanged(messages: list[dict[str, Any]]) -> None:
    """Texts, images and files of the user, what the assistant said and called, and what tools have replied."""
    assert [message.model_dump(exclude_unset=True) for message in admit(*messages).messages] == messages


@pytest.mark.parametrize(("message", "says"), BAD_MESSAGES, ids=lambda value: str(value)[:60])
def test_other_messages_are_refused(message: dict[str, Any], says: str) -> None:
    """Those of the app's roles, fields for the provider, and addresses that the model's server would fetch."""
    with pytest.raises(Refused, match="^message 2: ") as refused:
        admit(USER, message)
    assert says in str(refused.value)


def test_what_the_usechat_views_made_passes() -> None:
    """Their messages say how they are shown; all else is checked as in other messages."""
    message = {**USER, "id": "any\nid", "ui": {"id": "any\nid", "role": "user", "parts": []}}
    assert admit(message, is_of_usechat=True).messages[0].ui == message["ui"]
    with pytest.raises(Refused, match="'cache_control' is not allowed"):
        admit({**message, "cache_control": {}}, is_of_usechat=True)


def test_only_listed_models_may_be_chosen() -> None:
    """The text lists them; without a list, the worker's default is all there is."""
    assert admit(model="small").model == "small"
    assert admit().model is None
    with pytest.raises(Refused, match="the model 'huge' may not be chosen; it may be large, small"):
        admit(model="huge")
    with pytest.raises(Refused, match="leave it out"):
        admit(model="small", safe=SafeAdmission())


def test_the_settings_name_the_models_and_the_bound() -> None:
    """The default model may be chosen by its name, too."""
    settings = Settings.checked({"web_models": " a, b ,,", "model": "c", "web_max_tokens": 7})
    assert SafeAdmission.from_settings(settings) == SafeAdmission(frozenset("abc"), 7)
    assert SafeAdmission.from_settings(Settings()) == SafeAdmission()


def test_a_generation_beside_another_is_the_apps_to_allow() -> None:
    """Rejecting, replacing and waiting are the user's; whatever else was asked is kept."""
    with pytest.raises(Refused, match='may not be "allow"'):
        admit(on_active="allow")
    assert admit(on_active="allow", safe=SafeAdmission(beside=True)).on_active == "allow"
    for free in ("replace", "queue"):
        asked = admit(on_active=free)
        assert (asked.on_active, asked.request_id) == (free, "r")
