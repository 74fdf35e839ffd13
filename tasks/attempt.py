"""One attempt at a generation: claim it, pump the model's deltas into its log, end it. Knows nothing of Celery."""

from __future__ import annotations

from contextlib import aclosing
from typing import assert_never

from chunkspool import AsyncSpool, Producer
from chunkspool.errors import ContinuationRefused, Fenced, GenerationNotFound, NotClaimed
from chunkspool.provider import Delta, Finish, Provider, Reasoning, Text, ToolCall, Usage
from tasks.deadlines import Deadlines


async def generate(spool: AsyncSpool, provider: Provider, chat_id: str, generation_id: str) -> str:
    """Run one attempt and return how the generation stands: "completed", "stopped", "failed", or why nothing was done.

    Another attempt that seems alive is waited for as long as a dead one's lease can last. Raises `ProviderError`
    (the log has it already), `NotClaimed` when the other attempt does live: the slot is better used by others, or
    `StoreError`.
    """
    try:
        async with (
            spool.produce(chat_id, generation_id, wait=spool.settings.log.lease) as out,
            Deadlines(spool.settings) as deadlines,
        ):
            await pump(provider, out, deadlines)
    except GenerationNotFound:
        return "gone"
    except Fenced:
        return "fenced"
    except NotClaimed as error:
        if error.outcome == "held":
            raise
        return error.outcome
    return out.state


async def pump(provider: Provider, out: Producer, deadlines: Deadlines) -> None:
    """Write all that the model says; begin anew with one that refuses to continue what was said before."""
    try:
        await _stream(provider, out, deadlines)
    except ContinuationRefused:
        if not out.request.prefix:
            raise
        out.restart()
        await _stream(provider, out, deadlines)


async def _stream(provider: Provider, out: Producer, deadlines: Deadlines) -> None:
    async with aclosing(provider.stream(out.request)) as deltas:
        async for delta in deltas:
            deadlines.heard()
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
