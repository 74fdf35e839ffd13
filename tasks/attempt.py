"""One attempt at a generation: claims it, writes the model's deltas to its log, ends it. Knows nothing of Celery."""

from __future__ import annotations

from contextlib import aclosing

from chunkspool import AsyncSpool, Producer
from chunkspool.errors import ContinuationRefused, Fenced, GenerationNotFound, NotClaimed
from chunkspool.provider import Provider, SignOfLife
from chunkspool.tasks.deadlines import Deadlines


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
            out.write(delta)
            # Waits while the buffer is full, so a model that is faster than Redis cannot fill the memory.
            await out.drain()
