"""One attempt at a generation: claim it, pump the model's deltas into its log, end it. Knows nothing of Celery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import assert_never

from chunkspool import AsyncSpool, Producer
from chunkspool.errors import Fenced, GenerationNotFound, NotClaimed, ProviderError
from chunkspool.provider import Delta, Finish, Provider, Reasoning, Text, ToolCall, Usage


async def generate(spool: AsyncSpool, provider: Provider, chat_id: str, generation_id: str) -> str:
    """Run one attempt and return how the generation stands: "completed", "stopped", "failed", or why nothing was done.

    While another attempt of it is alive, wait for that one: its worker may be about to die. Raises `ProviderError`
    (the log has it already), `NotClaimed` when the other attempt outlives the deadline, or `StoreError`.
    """
    deadline = spool.settings.deadline
    try:
        async with spool.produce(chat_id, generation_id, wait=deadline) as out, _within(deadline):
            await pump(provider, out)
    except GenerationNotFound:
        return "gone"
    except Fenced:
        return "fenced"
    except NotClaimed as error:
        if error.outcome == "held":
            raise
        return error.outcome
    return out.state


async def pump(provider: Provider, out: Producer) -> None:
    """Write all that the model says."""
    async with aclosing(provider.stream(out.request)) as deltas:
        async for delta in deltas:
            write(delta, out)
            await out.drain()


def write(delta: Delta, out: Producer) -> None:
    """Write one delta."""
    match delta:
        case Text():
            out.text(delta.text)
        case Reasoning():
            out.reasoning(delta.text)
        case ToolCall():
            out.tool_call(delta.id, delta.name, delta.arguments)
        case Usage():
            out.usage(delta.input_tokens, delta.output_tokens)
        case Finish():
            out.finish(delta.reason)
        case _:
            assert_never(delta)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Give the block so many seconds: Celery's own time limits do not hold on threads."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        message = f"The answer was not complete after {seconds:g} seconds."
        raise ProviderError("deadline", message, retryable=True) from None
