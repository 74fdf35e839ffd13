"""One attempt at a generation: claims it, writes the model's deltas to its log, ends it. Knows nothing of Celery."""

from __future__ import annotations

from contextlib import aclosing
from typing import assert_never

from chunkspool import AsyncSpool, Producer
from chunkspool.errors import ContinuationRefused, Fenced, GenerationNotFound, LimitExceeded, NotClaimed
from chunkspool.provider import Delta, Finish, Provider, Reasoning, SignOfLife, Text, ToolCall, Usage
from tasks.deadlines import Deadlines


async def generate(spool: AsyncSpool, provider: Provider, chat_id: str, generation_id: str) -> str:
    """Run one attempt; return the generation's state ("completed", "stopped", "failed") or why nothing was done.

    If another attempt seems alive, wait for as long as a dead attempt's lease can last. Raises `NotClaimed` if it is
    still alive then: other generations can make better use of the slot. Raises `ProviderError`, which is in the log by
    then, or `StoreError`.
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
    except LimitExceeded:
        return out.state  # the chat is full, and its readers know
    except NotClaimed as error:
        if error.outcome == "held":
            raise
        return error.outcome
    return out.state


async def pump(provider: Provider, out: Producer, deadlines: Deadlines) -> None:
    """Write the whole answer. If the model refuses to continue the text of an earlier attempt, restart it."""
    try:
        await _stream(provider, out, deadlines)
    except ContinuationRefused:
        if not out.request.prefix:
            raise
        # The same attempt, so no other one can claim the generation in between; readers see that the text is void.
        out.restart()
        await _stream(provider, out, deadlines)


async def _stream(provider: Provider, out: Producer, deadlines: Deadlines) -> None:
    async with aclosing(provider.stream(out.request)) as deltas:
        async for delta in deltas:
            if isinstance(delta, SignOfLife):
                deadlines.note_sign_of_life(progress=delta.progress)
                continue
            deadlines.note_delta()
            write(delta, out)
            # Waits while the buffer is full, so a model that is faster than Redis cannot fill the memory.
            await out.drain()


def write(delta: Delta, out: Producer) -> None:
    """Write one delta to the log."""
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
