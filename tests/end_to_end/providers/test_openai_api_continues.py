"""Promise 9: a model continues a text that is already in the log, or the answer restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.models.chunks import DONE, chunk, events
from support.models.model_servers import LlamaServer
from support.models.provider_client import collect_deltas, collect_failure, model_request, provider_for, text_of
from support.models.raw_model import RawModel, answer_with_error, answer_with_stream

from chunkspool.errors import ContinuationRefused
from chunkspool.provider import Usage


async def test_llama_cpp_continues_a_text(llama: LlamaServer) -> None:
    """The model gets the text as part of its prompt, and does not repeat it."""
    async with provider_for(llama.base_url, model=None) as provider:
        whole = await collect_deltas(provider, model_request(max_tokens=24, temperature=0))
        prefix = text_of(whole)
        rest = await collect_deltas(provider, replace(model_request(max_tokens=12, temperature=0), prefix=prefix))
    assert text_of(rest)
    assert not text_of(rest).strip().startswith(prefix.strip())
    assert isinstance(whole[-1], Usage)
    assert isinstance(rest[-1], Usage)
    assert rest[-1].input_tokens > whole[-1].input_tokens + 20


async def test_the_text_is_sent_as_an_answer_that_has_begun() -> None:
    """It is the last message, by the assistant, with the params of vLLM and SGLang."""
    with RawModel(answer_with_stream(events(chunk(content="b"), chunk(finish_reason="stop")), DONE)) as server:
        async with provider_for(server.base_url) as provider:
            assert text_of(await collect_deltas(provider, replace(model_request(), prefix="a"))) == "b"
        (request,) = server.requests
    assert request.body["messages"][-1] == {"role": "assistant", "content": "a"}
    assert (request.body["continue_final_message"], request.body["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refused_continuation_is_no_other_failure(status: int) -> None:
    """Only after a refused continuation may the same attempt restart the answer."""
    with RawModel(
        answer_with_error(status, {"error": {"message": "unknown field", "param": "continue_final_message"}})
    ) as server:
        async with provider_for(server.base_url) as provider:
            error, before = await collect_failure(provider, replace(model_request(), prefix="a"))
            assert isinstance(error, ContinuationRefused)
            error, before = await collect_failure(provider, model_request())
            assert not isinstance(error, ContinuationRefused)
    assert before == []
