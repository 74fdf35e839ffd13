"""A busy provider is asked again within the attempt, as long as that may help and as slowly as it asks for."""

from __future__ import annotations

from typing import Any

import pytest
from end_to_end.providers.test_openai_api_failures import cut_refusal, refused
from support.metrics.recorder import Recorder
from support.models.chunks import chunk, events
from support.models.model_servers import LlmockServer
from support.models.provider_client import collect_deltas, collect_failure, model_request, provider_for, text_of
from support.models.raw_model import AnswerFunction, RawModel, answer_with_error, answer_with_stream, close_connection

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.observer import Retried
from chunkspool.provider import Text
from chunkspool.tasks.providers import call_retries
from chunkspool.tasks.providers.failures import Code
from chunkspool.tasks.providers.retry_report import observed_by

FINE = answer_with_stream(events(chunk("stop", content="fine")))


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of half a second and more."""
    monkeypatch.setattr(call_retries, "FIRST_PAUSE", 0.01)


@pytest.mark.parametrize("answer", [refused(429), refused(503), close_connection, cut_refusal])
async def test_a_busy_provider_is_asked_until_it_answers(answer: AnswerFunction) -> None:
    """Readers see nothing of failures before the first chunk."""
    with RawModel(answer, answer, FINE) as model:
        async with provider_for(model.base_url) as provider:
            assert text_of(await collect_deltas(provider, model_request())) == "fine"
        assert len(model.requests) == 3
        assert len({str(request.body) for request in model.requests}) == 1


async def test_each_further_call_is_told_to_who_observes_the_attempt() -> None:
    """Two failures, two retries; nothing of a provider that is asked outside an attempt."""
    seen = Recorder()
    with RawModel(refused(429), refused(503), FINE, refused(429), FINE) as model:
        async with provider_for(model.base_url) as provider:
            with observed_by(seen):
                await collect_deltas(provider, model_request())
            await collect_deltas(provider, model_request())
    assert seen.all_of(Retried) == [Retried("model")] * 2


async def test_an_unreachable_server_has_its_own_code() -> None:
    """Nobody listens on the port; after all retries the code says so."""
    async with provider_for(f"http://{LOOPBACK}:{free_port()}/v1", provider_retries=2) as provider:
        error, _ = await collect_failure(provider, model_request())
    assert error.code == Code.PROVIDER_UNREACHABLE


async def test_retry_after_is_waited_for() -> None:
    """The pause is at least as long as the provider asks for."""
    with RawModel(answer_with_error(429, retry_after="1"), FINE) as model:
        async with provider_for(model.base_url) as provider:
            await collect_deltas(provider, model_request())
        first, second = model.requests
    assert second.at - first.at >= 1


async def test_a_retry_after_that_is_too_long_is_not_waited_for() -> None:
    """The worker's slot is not held for minutes; the reader sees when to try again."""
    with RawModel(answer_with_error(503, retry_after="600")) as model:
        async with provider_for(model.base_url) as provider:
            error, _ = await collect_failure(provider, model_request())
        assert len(model.requests) == 1
    assert (error.code, error.retryable) == (Code.PROVIDER_UNAVAILABLE, True)
    assert "try again in 600 seconds" in error.message


async def test_llmock_finds_no_fault_in_the_retries(
    llmock_server: LlmockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checks Retry-After, back-off, retry storms and retried refusals; a slow response is no failure."""
    monkeypatch.setattr(call_retries, "FIRST_PAUSE", 0.2)
    fails: list[dict[str, Any]] = [
        {"type": "fail", "status": 429, "retry_after": 1},
        {"type": "fail", "status": 500, "times": 3},
        {"type": "fail", "status": 400},
    ]
    async with provider_for(llmock_server.base_url) as provider:
        for fail in fails:
            llmock_server.queue_behaviours(fail, {"type": "delay", "seconds": 0.3})
            if fail["status"] == 400:
                await collect_failure(provider, model_request())
            else:
                assert Text in map(type, await collect_deltas(provider, model_request()))
    assert [request["status"] for request in llmock_server.requests()] == [429, 200, 500, 500, 500, 200, 400]
    assert llmock_server.findings() == set()
