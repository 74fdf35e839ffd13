"""What the chunks of a chat completion say, as the servers of this world send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.models.chunks import chunk, tool_call, whole

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, Reasoning, Text, ToolCall, Usage
from tasks.providers.chat_chunks import DONE, Answer

SECRET = "what-the-user-asked"


def said(*chunks: bytes) -> list[Delta]:
    """Feed an answer and return all that it says."""
    answer = Answer()
    return [delta for one in chunks for delta in answer.feed(one)] + answer.end()


def failure(*chunks: bytes) -> ProviderError:
    """Feed an answer and return the error that it ends with."""
    with pytest.raises(ProviderError) as caught:
        said(*chunks)
    return caught.value


def test_text_comes_piece_by_piece_and_empty_pieces_say_nothing() -> None:
    """A first delta has content null or empty; the end gives the finish reason."""
    chunks = [chunk(role="assistant", content=None), chunk(content=""), chunk(content="Hel"), chunk(content="lo")]
    assert said(*chunks, chunk("stop"), DONE) == [Text("Hel"), Text("lo"), Finish("stop")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(name: str) -> None:
    """DeepSeek, vLLM and llama.cpp call it reasoning_content, OpenRouter and Ollama reasoning."""
    assert said(chunk(**{name: "Hm."}), chunk(content="Yes."), chunk("stop")) == [
        Reasoning("Hm."),
        Text("Yes."),
        Finish("stop"),
    ]


def test_reasoning_under_both_names_is_said_once() -> None:
    """Some servers fill both."""
    assert said(chunk("stop", reasoning_content="Hm.", reasoning="Hm."))[0] == Reasoning("Hm.")


def test_a_refusal_is_text() -> None:
    """OpenAI sends what the model says instead under another name."""
    assert said(chunk("stop", content=None, refusal="I cannot."))[0] == Text("I cannot.")


def test_tool_calls_grow_by_index_and_come_whole_before_the_finish() -> None:
    """Pieces of several calls may come in turns; each becomes one call with all its arguments."""
    chunks = [
        tool_call(0, id="a", name="clock", arguments=""),
        tool_call(1, id="b", name="map", arguments='{"x"'),
        tool_call(0, arguments='{"zone":'),
        tool_call(1, arguments=":1}"),
        tool_call(0, arguments='"CET"}'),
        chunk("tool_calls"),
    ]
    assert said(*chunks) == [
        ToolCall("a", "clock", '{"zone":"CET"}'),
        ToolCall("b", "map", '{"x":1}'),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize("index", [None, 0])
def test_tool_calls_with_one_index_are_told_apart_by_their_ids(index: int | None) -> None:
    """Some servers send whole calls without an index, or with the same one for all."""
    chunks = [tool_call(index, id=name, name=name, arguments="{}") for name in ("a", "b")]
    assert said(*chunks, chunk("tool_calls"))[:2] == [ToolCall("a", "a", "{}"), ToolCall("b", "b", "{}")]


def test_a_tool_call_that_repeats_its_id_in_every_piece_is_one() -> None:
    """And one without any id gets one."""
    chunks = [tool_call(0, id="a", name="clock", arguments="{"), tool_call(0, id="a", arguments="}")]
    assert said(*chunks, chunk("tool_calls"))[0] == ToolCall("a", "clock", "{}")
    assert said(tool_call(0, name="clock", arguments="{}"), chunk("stop"))[0] == ToolCall("call_0", "clock", "{}")


def test_arguments_that_are_json_become_its_text() -> None:
    """Some servers send an object instead of the text of one; none at all is an empty text."""
    assert said(tool_call(0, id="a", name="f", arguments={"x": 1}), chunk("stop"))[0] == ToolCall("a", "f", '{"x":1}')
    assert said(tool_call(0, id="a", name="f", arguments=None), chunk("stop"))[0] == ToolCall("a", "f", "")


def test_usage_comes_last_and_once() -> None:
    """In a chunk without choices, or with every chunk: then the last one counts."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    first = whole(choices=[{"index": 0, "delta": {"content": "a"}}], usage=usage | {"completion_tokens": 1})
    assert said(first, chunk("stop"), whole(choices=[], usage=usage), DONE) == [Text("a"), Finish("stop"), Usage(3, 5)]
    assert said(whole(choices=[], usage=None), chunk("stop")) == [Finish("stop")]


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None}, {"prompt_tokens": "7", "completion_tokens": -1}])
def test_odd_usage_is_no_reason_to_lose_an_answer(usage: dict[str, Any]) -> None:
    """What is no count counts nothing."""
    assert said(chunk("stop", content="a"), whole(choices=[], usage=usage))[:2] == [Text("a"), Finish("stop")]


def test_only_the_first_of_several_answers_is_taken() -> None:
    """A generation is one answer, whatever params ask for."""
    second = whole(choices=[{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}])
    assert said(chunk(content="A"), second, chunk("stop")) == [Text("A"), Finish("stop")]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": {}},
        {"choices": [None, 7, {}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": 7, "tool_calls": 7, "reasoning": []}}]},
        {"choices": [{"delta": {"tool_calls": [None]}}]},
        {"object": "unheard.of", "x": [1]},
    ],
)
def test_what_is_not_understood_is_passed_over(odd: dict[str, Any]) -> None:
    """Servers add fields and chunks of their own."""
    assert said(json.dumps(odd).encode(), chunk("stop", content="a")) == [Text("a"), Finish("stop")]


def test_halves_of_a_character_are_kept() -> None:
    """Models split an emoji between tokens, and some servers send each half as an escape."""
    halves = [rb'{"choices":[{"delta":{"content":"\ud83d"}}]}', rb'{"choices":[{"delta":{"content":"\ude00"}}]}']
    assert said(*halves, chunk("stop"))[:2] == [Text("\ud83d"), Text("\ude00")]


@pytest.mark.parametrize("junk", [b"{", b"\xff", b"7", b"[]", b"null", b"[" * 100_000, f"{SECRET}".encode()])
def test_junk_is_a_failure_that_does_not_quote_it(junk: bytes) -> None:
    """Neither the chunk nor the decoder's error is for readers."""
    error = failure(chunk(content="a"), junk)
    assert (error.code, error.retryable) == ("malformed_response", True)
    assert SECRET not in str(error)


def test_an_answer_without_an_end_broke_off() -> None:
    """No finish reason and no [DONE]: half an answer must not pass for a whole one."""
    assert failure(chunk(content="a")).code == "truncated"
    assert failure().code == "truncated"


def test_either_end_is_enough() -> None:
    """Some servers send no finish reason, others no [DONE]; calls that were open are closed."""
    assert said(chunk(content="a"), DONE) == [Text("a")]
    assert said(chunk("length", content="a")) == [Text("a"), Finish("length")]
    assert said(tool_call(0, id="a", name="f", arguments="{}"), DONE) == [ToolCall("a", "f", "{}")]


@pytest.mark.parametrize(
    ("error", "code", "retryable", "shown"),
    [
        ({"message": SECRET, "type": "server_error"}, "provider_error", True, "(server_error)"),
        ({"message": SECRET, "code": 502}, "provider_unavailable", True, "(HTTP 502)"),
        ({"message": SECRET, "code": "429", "type": "x"}, "rate_limited", True, "(HTTP 429, x)"),
        ({"message": SECRET, "code": 400, "type": "BadRequest"}, "invalid_request", False, "(HTTP 400, BadRequest)"),
        ({"code": "context_length_exceeded"}, "context_length_exceeded", False, "(context_length_exceeded)"),
        ({"type": "insufficient_quota"}, "quota_exhausted", False, "(insufficient_quota)"),
        ({"code": f"not a name: {SECRET}"}, "provider_error", True, "answered."),
        (SECRET, "provider_error", True, "answered."),
        ([7], "provider_error", True, "answered."),
    ],
)
def test_an_error_in_the_stream_is_a_failure_with_the_servers_names(
    error: object, code: str, retryable: bool, shown: str
) -> None:
    """Its code and type are told, its words are not: they may quote the prompt."""
    raised = failure(chunk(content="a"), whole(error=error))
    assert (raised.code, raised.retryable) == (code, retryable)
    assert shown in raised.message
    assert SECRET not in str(raised)
