"""Cancelling closes the connection to the model's server, so nobody pays for an answer that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from support.models.chunks import chunk, event, events
from support.models.model_servers import LlamaServer
from support.models.provider_client import collect_deltas, model_request, provider_for
from support.models.raw_model import (
    AnswerFunction,
    Exchange,
    RawModel,
    answer_with_error,
    answer_with_stream,
    stay_silent,
)
from support.waiting import eventually

from chunkspool.provider import Provider, Text


def silent_after_the_headers(exchange: Exchange) -> None:
    """Send the headers, and then nothing."""
    exchange.send_head()
    exchange.wait_for_disconnect()


def silent_in_mid_answer(exchange: Exchange) -> None:
    """Send one chunk, and then nothing."""
    exchange.send_head()
    exchange.send_chunk(event(chunk(content="a")))
    exchange.wait_for_disconnect()


def talkative(exchange: Exchange) -> None:
    """Send chunks forever."""
    exchange.send_head()
    with suppress(ConnectionError):
        while True:
            exchange.send_chunk(event(chunk(content="a")))
            time.sleep(0.001)
    exchange.wait_for_disconnect()


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread or process does."""
    await asyncio.to_thread(eventually, condition)


@asynccontextmanager
async def start_reading(provider: Provider) -> AsyncIterator[asyncio.Task[object]]:
    """Give a task that reads an answer; the block has to cancel it."""
    task: asyncio.Task[object] = asyncio.create_task(collect_deltas(provider, model_request()))
    yield task
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("answer", [stay_silent, silent_after_the_headers, silent_in_mid_answer, talkative])
async def test_a_cancelled_answer_closes_its_connection(answer: AnswerFunction) -> None:
    """Before the headers, after them, in a silence and between chunks; the next request is served."""
    with RawModel(answer, answer_with_stream(events(chunk("stop", content="b")))) as model:
        async with provider_for(model.base_url) as provider:
            async with start_reading(provider) as task:
                await wait_until(lambda: model.requests)
                task.cancel()
            await wait_until(lambda: model.disconnected == 1)
            assert Text("b") in await collect_deltas(provider, model_request())


async def test_the_other_answers_continue() -> None:
    """One of ten is cancelled: only its connection is closed."""
    with RawModel(silent_in_mid_answer) as model:
        async with provider_for(model.base_url) as provider:
            tasks = [asyncio.create_task(collect_deltas(provider, model_request())) for _ in range(10)]
            await wait_until(lambda: len(model.requests) == 10)
            tasks[3].cancel()
            done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await wait_until(lambda: model.disconnected)
            assert (done, len(others), model.disconnected) == ({tasks[3]}, 9, 1)
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        await wait_until(lambda: model.disconnected == 10)


async def test_leaving_the_iteration_closes_the_connection() -> None:
    """Without a cancellation, by leaving the block."""
    with RawModel(talkative) as model:
        async with provider_for(model.base_url) as provider:
            async with aclosing(provider.stream(model_request())) as deltas:
                assert await anext(deltas) == Text("a")
            await wait_until(lambda: model.disconnected == 1)


async def test_a_pause_between_two_tries_can_be_cancelled() -> None:
    """No further request is sent."""
    with RawModel(answer_with_error(429, retry_after="20")) as model:
        async with provider_for(model.base_url) as provider:
            async with start_reading(provider) as task:
                await wait_until(lambda: model.requests)
                await asyncio.wait({task}, timeout=0.1)
                task.cancel()
            assert len(model.requests) == 1


async def test_closing_the_provider_frees_all_connections() -> None:
    """Also those that were kept for the next answer."""

    def kept(exchange: Exchange) -> None:
        answer_with_stream(events(chunk("stop")))(exchange)
        exchange.wait_for_disconnect()

    with RawModel(kept) as model:
        async with provider_for(model.base_url) as provider:
            await collect_deltas(provider, model_request())
            assert model.disconnected == 0
        await wait_until(lambda: model.disconnected == 1)


async def test_llama_cpp_stops_computing(llama: LlamaServer) -> None:
    """The closed connection makes the server stop the computation."""
    async with provider_for(llama.base_url) as provider:
        async with start_reading(provider) as task:
            await wait_until(lambda: llama.count_busy_slots() == 1)
            task.cancel()
        await wait_until(lambda: llama.count_busy_slots() == 0)
