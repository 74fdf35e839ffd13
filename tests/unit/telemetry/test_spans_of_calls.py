"""The span of a model's call says what the semantic conventions name, and nothing that was said."""

from __future__ import annotations

import pytest
from support.telemetry.recording_tracer import RecordingTracer

from chunkspool import Settings
from chunkspool.errors import ProviderError
from chunkspool.provider import Finish, ModelRequest, Reasoning, SignOfLife, Text, ToolCall, ToolResult, Usage
from chunkspool.tasks.providers import called_by
from chunkspool.tasks.providers.model_router import ModelRouter
from chunkspool.tasks.providers.scripted import ScriptedProvider
from chunkspool.tracer import NO_TRACER
from chunkspool.tracing.spans import trace_call

SECRET = "secret"
REQUEST = ModelRequest(({"role": "user", "content": SECRET},), "m", {"max_tokens": 9, "top_p": True, "stop": [SECRET]})


def test_a_whole_call() -> None:
    """Numbers and names; the time of the first piece is that of the first, whatever its kind."""
    tracer = RecordingTracer()
    with trace_call(tracer, "chat", REQUEST, provider="anthropic_api", model="m") as call:
        assert call
        for delta in (
            SignOfLife(model="m-2026"),
            SignOfLife(progress=True),
            Reasoning(SECRET),
            Text(SECRET),
            ToolCall("a", SECRET, SECRET),
            ToolResult("a", SECRET),
            Usage(1, 2),
            Usage(3, 4),
            Finish("stop"),
        ):
            call.note(delta)
    (span,) = tracer.spans
    assert (span.name, span.kind, span.failed) == ("chat m", "client", None)
    assert isinstance(span.attributes.pop("gen_ai.response.time_to_first_chunk"), float)
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.conversation.id": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
    }


def test_a_server_that_writes_sentences_into_names() -> None:
    """Does not get them into a span."""
    tracer = RecordingTracer()
    with trace_call(tracer, "chat", REQUEST, provider="mine", model="a secret model") as call:
        assert call
        call.note(SignOfLife(model="a secret model"))
        call.note(Finish("a secret reason"))
    (span,) = tracer.spans
    assert span.name == "chat"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["other"]
    assert SECRET not in repr(span)


def test_a_call_that_fails() -> None:
    """Has the code as its error, and no first piece."""
    tracer = RecordingTracer()
    failed = ProviderError("rate_limited", SECRET, retryable=True)
    with pytest.raises(ProviderError), trace_call(tracer, "c", REQUEST, provider="openai_api", model="m"):
        raise failed
    assert tracer.spans[0].failed == "rate_limited"
    assert SECRET not in repr(tracer.spans)


def test_without_a_tracer_there_is_no_call() -> None:
    """A token then costs nothing more."""
    with trace_call(NO_TRACER, "chat", REQUEST, provider="openai_api", model="m") as call:
        assert call is None


def test_the_provider_is_the_one_that_answers() -> None:
    """Of several, the one that the model's name stands for."""
    settings = Settings.checked({"provider": "scripted", "model": "d"})
    one = ScriptedProvider()
    assert called_by(one, settings, REQUEST) == ("scripted", "m")
    several = ModelRouter(settings, {"openai_api": one, "anthropic_api": one})
    asked = [called_by(several, settings, ModelRequest((), model)) for model in ("anthropic/claude", "x", None)]
    assert asked == [("anthropic_api", "claude"), ("openai_api", "x"), ("openai_api", "d")]
