"""The OpenAI provider against real servers: it yields what the model sends."""

from __future__ import annotations

import pytest
from support.models.chunks import DONE, chunk, event, events, tool_call, whole
from support.models.model_servers import LlamaServer, LlmockServer
from support.models.provider_client import KEY, collect_deltas, model_request, provider_for, text_of
from support.models.raw_model import Exchange, RawModel, answer_with_stream

from chunkspool.provider import Finish, ModelRequest, Reasoning, Text, ToolCall, Usage
from chunkspool.settings import Settings
from chunkspool.tasks.providers import openai_api
from chunkspool.tasks.providers.openai_api import OpenAIProvider

USAGE = whole(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 5})


async def test_llama_cpp_answers(llama: LlamaServer) -> None:
    """Text, finish reason and usage of a real llama.cpp server, without naming a model."""
    async with provider_for(llama.base_url, model=None) as provider:
        *texts, finish, usage = await collect_deltas(provider, model_request(max_tokens=30))
    assert len(texts) == 30
    assert text_of(texts).startswith(" w")
    assert finish == Finish("length")
    assert isinstance(usage, Usage)
    assert (usage.input_tokens > 0, usage.output_tokens) == (True, 30)


async def test_llmock_answers(llmock_server: LlmockServer) -> None:
    """The whole text, and usage although params do not ask for it."""
    text = "Rayleigh scattering: \u2028 the short waves are scattered most."
    llmock_server.queue_behaviours({"type": "reply", "text": text})
    async with provider_for(llmock_server.base_url) as provider:
        *texts, finish, usage = await collect_deltas(provider, model_request())
    assert (text_of(texts), finish, type(usage)) == (text, Finish("stop"), Usage)


async def test_llmock_calls_a_tool(llmock_server: LlmockServer) -> None:
    """The pieces of its arguments become one call; params carry the tool to the server."""
    arguments = {"type": "object", "properties": {"place": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": arguments}}
    call = {"name": "weather", "arguments": {"place": "a town whose name needs more than one piece"}}
    llmock_server.queue_behaviours({"type": "reply", "tool_calls": [call]})
    async with provider_for(llmock_server.base_url) as provider:
        made, finish, _ = await collect_deltas(provider, model_request(tools=[tool]))
    assert isinstance(made, ToolCall)
    assert (made.name, finish) == ("weather", Finish("tool_calls"))
    assert made.arguments.replace(" ", "") == str(call["arguments"]).replace("'", '"').replace(" ", "")


async def test_everything_arrives_however_the_bytes_are_cut() -> None:
    """Reasoning, text with unusual characters, tool calls by index, a chunk with usage only: one byte at a time."""
    stream = b": a comment\n\n" + events(
        chunk(role="assistant", content=None),
        chunk(reasoning_content="Hm."),
        chunk(content="a\u2028b\u0085c\x0b 🙂 ü"),
        tool_call(0, id="a", name="clock", arguments=""),
        tool_call(1, id="b", name="map", arguments="{}"),
        tool_call(0, arguments='{"zone": "CET"}'),
        chunk("tool_calls"),
        USAGE,
    )
    told = [
        Reasoning("Hm."),
        Text("a\u2028b\u0085c\x0b 🙂 ü"),
        ToolCall("a", "clock", '{"zone": "CET"}'),
        ToolCall("b", "map", "{}"),
        Finish("tool_calls"),
        Usage(3, 5),
    ]
    bytewise = answer_with_stream(*(stream[i : i + 1] for i in range(len(stream))))
    with RawModel(answer_with_stream(stream), bytewise, answer_with_stream(stream.replace(b"\n", b"\r\n"))) as model:
        async with provider_for(model.base_url) as provider:
            for _ in range(3):
                assert await collect_deltas(provider, model_request()) == told


async def test_the_request_is_what_was_asked() -> None:
    """Messages and params unchanged, the model by name, the key in its header, and usage is requested."""
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "u7"})
    params = {"temperature": 0.5, "seed": 7, "an_extension": {"of": "the server"}}
    with RawModel(answer_with_stream(events(chunk("stop")))) as model:
        async with provider_for(model.base_url) as provider:
            await collect_deltas(provider, ModelRequest(messages, "a-model", params))
            await collect_deltas(provider, model_request(stream_options=None))
        first, second = model.requests
    asked = {"model": "a-model", "messages": list(messages), "stream": True, **params}
    assert first.body == {**asked, "stream_options": {"include_usage": True}}
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert (second.body["model"], "stream_options" in second.body) == ("m", False)


@pytest.mark.parametrize("variable", ["", "http://127.0.0.1:9/v1"])
async def test_without_a_url_in_the_settings_openai_is_asked(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Only the settings decide: OPENAI_BASE_URL itself is ignored, empty (as docker compose passes it) or not."""
    monkeypatch.setenv("OPENAI_BASE_URL", variable)
    with RawModel(answer_with_stream(events(chunk("stop", content="a")))) as model:
        monkeypatch.setattr(openai_api, "OPENAI_URL", model.base_url)
        provider = OpenAIProvider(Settings.checked({"openai_api_key": KEY, "model": "m"}))
        assert text_of(await collect_deltas(provider, model_request())) == "a"
        await provider.aclose()


async def test_one_connection_serves_one_answer_after_the_other() -> None:
    """The body is read to its end, after [DONE], too: a new connection would cost a handshake."""

    def slow_to_end(exchange: Exchange) -> bool:
        exchange.send_head()
        exchange.send_chunk(events(chunk("stop", content="a")))
        exchange.send_chunk(b": still here\n\n")
        exchange.send_chunk(b"")
        return True

    with RawModel(slow_to_end) as model:
        async with provider_for(model.base_url) as provider:
            for _ in range(5):
                assert text_of(await collect_deltas(provider, model_request())) == "a"
        assert (len(model.requests), model.connected) == (5, 1)


@pytest.mark.parametrize("last", [chunk("stop"), chunk()])
async def test_a_body_that_does_not_end_keeps_nobody_waiting(last: bytes) -> None:
    """[DONE] ends the answer, whether or not the body ends."""

    def never_ending(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(events(chunk(content="a"), last))
        exchange.wait_for_disconnect()

    with RawModel(never_ending) as model:
        async with provider_for(model.base_url) as provider:
            assert text_of(await collect_deltas(provider, model_request())) == "a"


@pytest.mark.parametrize("after", [b"", event(b"junk"), event(whole(error={"message": "late"})), DONE[:9]])
async def test_a_failure_after_the_finish_reason_is_ignored(after: bytes) -> None:
    """The answer is complete: a cut connection, junk or an error after that changes nothing."""

    def cut_after_the_finish(exchange: Exchange) -> None:
        exchange.send_head()
        exchange.send_chunk(event(chunk("stop", content="a")) + after)

    with RawModel(cut_after_the_finish) as model:
        async with provider_for(model.base_url) as provider:
            assert await collect_deltas(provider, model_request()) == [Text("a"), Finish("stop")]
