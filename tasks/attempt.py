"""One attempt at a generation: claims it, writes the model's deltas to its log, ends it. Knows nothing of Celery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import ContinuationRefused, Fenced, GenerationNotFound, LimitExceeded, NotClaimed, Released
from chunkspool.provider import Provider, SignOfLife
from chunkspool.tasks.deadlines import Deadlines
from chunkspool.tasks.providers.retry_report import observed_by


async def generate(spool: AsyncSpool, provider: Provider, chat_id: str, generation_id: str) -> str:
    """Run one attempt with a provider's answer; return what `run` returns."""

    async def write_answer(out: Producer) -> None:
        async with Deadlines(spool.settings) as deadlines:
            with observed_by(spool.observer):
                await pump(provider, out, deadlines)

    return await run(spool, chat_id, generation_id, write_answer)


async def run(
    spool: AsyncSpool, chat_id: str, generation_id: str, write_answer: Callable[[Producer], Awaitable[object]]
) -> str:
    """Run one attempt; return the generation's state ("completed", "stopped", "failed") or why nothing was done.

    If another attempt seems alive, wait for as long as a dead attempt's lease can last. Raises `NotClaimed` if it is
    still alive then: other generations can make better use of the slot. Raises what `write_answer` raises, which is in
    the log by then, or `StoreError`.
    """
    try:
        async with spool.produce(chat_id, generation_id, wait=spool.settings.log.lease) as out:
            await write_answer(out)
    except LimitExceeded:
        return out.state  # the chat is full, and its readers know
    except (GenerationNotFound, Fenced, NotClaimed) as error:
        return _why_nothing_was_done(error)
    return out.state


def run_blocking(
    spool: Spool,
    chat_id: str,
    generation_id: str,
    write_answer: Callable[[Producer], object],
    exit_counts: Callable[[], bool],
) -> str:
    """Do the same in this thread.

    A process that is told to exit (`SystemExit`: SIGTERM in a child of the prefork pool) releases the generation.
    `exit_counts` is asked then whether the attempt counts towards `max_attempts`.
    """
    told: SystemExit | None = None
    try:
        with spool.produce(chat_id, generation_id, wait=spool.settings.log.lease) as out:
            try:
                write_answer(out)
            except SystemExit as error:
                told = error
                raise Released(generation_id, counts=exit_counts()) from None
    except LimitExceeded:
        return out.state  # as above
    except (GenerationNotFound, Fenced, NotClaimed) as error:
        return _why_nothing_was_done(error)
    except Released:
        if told is None:
            raise
    if told is not None:
        raise told
    return out.state


def _why_nothing_was_done(error: GenerationNotFound | Fenced | NotClaimed) -> str:
    match error:
        case GenerationNotFound():
            return "gone"
        case Fenced():
            return "fenced"
        case NotClaimed(outcome="held"):
            raise error
    return error.outcome


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
