"""Chunks of a chat completion become deltas, in all the variants that real servers send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.models.chunks import chunk, tool_call, whole

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, Reasoning, SignOfLife, Text, ToolCall, Usage
from chunkspool.tasks.providers.chat_completions.chunks import DONE, ChunkAssembler
from chunkspool.tasks.providers.sse_decoder import ServerEvent

SECRET = "what-the-user-asked"


def assemble(*chunks: bytes) -> list[Delta]:
    """Return the deltas of an answer with these chunks."""
    assembler = ChunkAssembler()
    fed = [delta for one in chunks for delta in assembler.feed(ServerEvent(one))]
    return [delta for delta in fed if not isinstance(delta, SignOfLife)] + assembler.end()


def fail_to_assemble(*chunks: bytes) -> ProviderError:
    """Return the error that an answer with these chunks ends with."""
    with pytest.raises(ProviderError) as caught:
        assemble(*chunks)
    return caught.value


def test_what_usage_consists_of_is_read() -> None:
    """Cached and reasoning tokens are for metrics; of a server that writes nonsense there, nothing is read."""
    usage = {"prompt_tokens": 10, "completion_tokens": 7}
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 5}}
    for more, expected in ((details, (4, 5)), (dict.fromkeys(details, "many"), (0, 0)), ({}, (0, 0))):
        deltas = assemble(chunk("stop", content="x"), whole(choices=[], usage=usage | more))
        (read,) = (delta for delta in deltas if isinstance(delta, Usage))
        assert (read.input_tokens, read.output_tokens) == (10, 7)
        assert (read.cached_tokens, read.reasoning_tokens) == expected


def test_text_comes_piece_by_piece_without_empty_pieces() -> None:
    """The first delta has content null or empty; the last one has the finish reason."""
    chunks = [chunk(role="assistant", content=None), chunk(content=""), chunk(content="Hel"), chunk(content="lo")]
    assert assemble(*chunks, chunk("stop"), DONE) == [Text("Hel"), Text("lo"), Finish("stop")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(name: str) -> None:
    """DeepSeek, vLLM and llama.cpp call it reasoning_content, OpenRouter and Ollama call it reasoning."""
    assert assemble(chunk(**{name: "Hm."}), chunk(content="Yes."), chunk("stop")) == [
        Reasoning("Hm."),
        Text("Yes."),
        Finish("stop"),
    ]


def test_reasoning_under_both_names_counts_once() -> None:
    """Some servers fill both names."""
    assert assemble(chunk("stop", reasoning_content="Hm.", reasoning="Hm."))[0] == Reasoning("Hm.")


def test_a_refusal_is_text() -> None:
    """OpenAI sends the text of a refusal under another name."""
    assert assemble(chunk("stop", content=None, refusal="I cannot."))[0] == Text("I cannot.")


def test_tool_calls_are_assembled_by_index_before_the_finish() -> None:
    """Pieces of several calls may alternate; each becomes one call with all its arguments."""
    chunks = [
        tool_call(0, id="a", name="clock", arguments=""),
        tool_call(1, id="b", name="map", arguments='{"x"'),
        tool_call(0, arguments='{"zone":'),
        tool_call(1, arguments=":1}"),
        tool_call(0, arguments='"CET"}'),
        chunk("tool_calls"),
    ]
    assert assemble(*chunks) == [
        ToolCall("a", "clock", '{"zone":"CET"}'),
        ToolCall("b", "map", '{"x":1}'),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize("index", [None, 0])
def test_tool_calls_with_one_index_are_told_apart_by_their_ids(index: int | None) -> None:
    """Some servers send whole calls without an index, or with the same one for all."""
    chunks = [tool_call(index, id=name, name=name, arguments="{}") for name in ("a", "b")]
    assert assemble(*chunks, chunk("tool_calls"))[:2] == [ToolCall("a", "a", "{}"), ToolCall("b", "b", "{}")]


def test_a_tool_call_that_repeats_its_id_in_every_piece_is_one() -> None:
    """A call without any id gets one."""
    chunks = [tool_call(0, id="a", name="clock", arguments="{"), tool_call(0, id="a", arguments="}")]
    assert assemble(*chunks, chunk("tool_calls"))[0] == ToolCall("a", "clock", "{}")
    assert assemble(tool_call(0, name="clock", arguments="{}"), chunk("stop"))[0] == ToolCall("call_0", "clock", "{}")


def test_arguments_that_are_json_become_its_text() -> None:
    """Some servers send an object instead of its text; missing arguments become an empty text."""
    assert assemble(tool_call(0, id="a", name="f", arguments={"x": 1}), chunk("stop"))[0] == ToolCall(
        "a", "f", '{"x":1}'
    )
    assert assemble(tool_call(0, id="a", name="f", arguments=None), chunk("stop"))[0] == ToolCall("a", "f", "")


def test_usage_comes_last_and_once() -> None:
    """It comes in a chunk without choices, or with every chunk; then the last one counts."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    first = whole(choices=[{"index": 0, "delta": {"content": "a"}}], usage=usage | {"completion_tokens": 1})
    assert assemble(first, chunk("stop"), whole(choices=[], usage=usage), DONE) == [
        Text("a"),
        Finish("stop"),
        Usage(3, 5),
    ]
    assert assemble(whole(choices=[], usage=None), chunk("stop")) == [Finish("stop")]


@pytest.mark.parametrize("extension", [{"x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}}, {}])
def test_usage_may_stand_elsewhere(extension: dict[str, Any]) -> None:
    """In the last choice, or among a server's own extensions."""
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    if not extension:
        choice |= {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    assert assemble(whole(choices=[choice], **extension)) == [Finish("stop"), Usage(3, 5)]


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None}, {"prompt_tokens": "7", "completion_tokens": -1}])
def test_invalid_usage_does_not_lose_the_answer(usage: dict[str, Any]) -> None:
    """A value that is no count is taken as 0."""
    assert assemble(chunk("stop", content="a"), whole(choices=[], usage=usage))[:2] == [Text("a"), Finish("stop")]


def test_only_the_first_of_several_answers_is_taken() -> None:
    """A generation is one answer, even if params ask for several."""
    second = whole(choices=[{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}])
    assert assemble(chunk(content="A"), second, chunk("stop")) == [Text("A"), Finish("stop")]


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
def test_unknown_chunks_are_ignored(odd: dict[str, Any]) -> None:
    """Servers send fields and chunks of their own."""
    assert assemble(json.dumps(odd).encode(), chunk("stop", content="a")) == [Text("a"), Finish("stop")]


def test_halves_of_a_character_are_kept() -> None:
    """Models split an emoji between tokens, and some servers send each half as an escape."""
    halves = [rb'{"choices":[{"delta":{"content":"\ud83d"}}]}', rb'{"choices":[{"delta":{"content":"\ude00"}}]}']
    assert assemble(*halves, chunk("stop"))[:2] == [Text("\ud83d"), Text("\ude00")]


@pytest.mark.parametrize("junk", [b"{", b"\xff", b"7", b"[]", b"null", b"[" * 100_000, f"{SECRET}".encode()])
def test_junk_is_a_failure_without_a_quote(junk: bytes) -> None:
    """Readers see neither the chunk nor the decoder's error."""
    error = fail_to_assemble(chunk(content="a"), junk)
    assert (error.code, error.retryable) == ("malformed_response", True)
    assert SECRET not in str(error)


def test_an_answer_without_an_end_is_truncated() -> None:
    """Without a finish reason and without [DONE], half an answer must not pass for a whole one."""
    assert fail_to_assemble(chunk(content="a")).code == "truncated"
    assert fail_to_assemble().code == "truncated"


def test_either_end_is_enough() -> None:
    """Some servers send no finish reason, others no [DONE]; open tool calls are closed at either."""
    assert assemble(chunk(content="a"), DONE) == [Text("a")]
    assert assemble(chunk("length", content="a")) == [Text("a"), Finish("length")]
    assert assemble(tool_call(0, id="a", name="f", arguments="{}"), DONE) == [ToolCall("a", "f", "{}")]


@pytest.mark.parametrize(
    ("error", "code", "retryable", "shown"),
    [
        ({"message": SECRET, "type": "server_error"}, "provider_error", True, "(server_error)"),
        ({"message": SECRET, "code": 502}, "provider_unavailable", True, "(HTTP 502)"),
        ({"message": SECRET, "code": "429", "type": "x"}, "rate_limited", True, "(HTTP 429, x)"),
        ({"message": SECRET, "code": 400, "type": "BadRequest"}, "invalid_request", False, "(HTTP 400, BadRequest)"),
        ({"code": "context_length_exceeded"}, "context_length_exceeded", False, "(context_length_exceeded)"),
        ({"type": "insufficient_quota"}, "quota_exhausted", False, "(insufficient_quota)"),
        ({"code": f"not a name: {SECRET}"}, "provider_error", True, "answering."),
        (SECRET, "provider_error", True, "answering."),
        ([7], "provider_error", True, "answering."),
    ],
)
def test_an_error_in_the_stream_is_a_failure_with_the_servers_code(
    error: object, code: str, retryable: bool, shown: str
) -> None:
    """Readers see its code and type, but not its message, which may quote the prompt."""
    raised = fail_to_assemble(chunk(content="a"), whole(error=error))
    assert (raised.code, raised.retryable) == (code, retryable)
    assert shown in raised.message
    assert SECRET not in str(raised)
