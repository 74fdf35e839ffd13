"""One attempt at a generation: claims it, writes the model's deltas to its log, ends it. Knows nothing of Celery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, aclosing

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import ContinuationRefused, Fenced, GenerationNotFound, LimitExceeded, NotClaimed, Released
from chunkspool.provider import ModelRequest, Provider, SignOfLife
from chunkspool.tasks.deadlines import Deadlines
from chunkspool.tasks.providers import called_by
from chunkspool.tasks.providers.retry_report import observed_by
from chunkspool.tracing.spans import TracedCall, trace_call

Note = Callable[[Producer], None]
"""Told the producer as soon as the generation is claimed."""
TraceCall = Callable[[ModelRequest], AbstractContextManager[TracedCall | None]]


def _note_nothing(_out: Producer) -> None:
    pass


async def generate(
    spool: AsyncSpool, provider: Provider, chat_id: str, generation_id: str, note: Note = _note_nothing
) -> str:
    """Run one attempt with a provider's answer; return what `run` returns."""

    def trace(request: ModelRequest) -> AbstractContextManager[TracedCall | None]:
        name, model = called_by(provider, spool.settings, request)
        return trace_call(spool.tracer, chat_id, request, provider=name, model=model)

    async def write_answer(out: Producer) -> None:
        async with Deadlines(spool.settings) as deadlines:
            with observed_by(spool.observer):
                await pump(provider, out, deadlines, trace)

    return await run(spool, chat_id, generation_id, write_answer, note)


async def run(
    spool: AsyncSpool,
    chat_id: str,
    generation_id: str,
    write_answer: Callable[[Producer], Awaitable[object]],
    note: Note = _note_nothing,
) -> str:
    """Run one attempt; return the generation's state ("completed", "stopped", "failed") or why nothing was done.

    If another attempt seems alive, wait for as long as a dead attempt's lease can last. Raises `NotClaimed` if it is
    still alive then: other generations can make better use of the slot. Raises what `write_answer` raises, which is in
    the log by then, or `StoreError`.
    """
    try:
        async with spool.produce(chat_id, generation_id, wait=spool.settings.log.lease) as out:
            note(out)
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
    note: Note = _note_nothing,
) -> str:
    """Do the same in this thread.

    A process that is told to exit (`SystemExit`: SIGTERM in a child of the prefork pool) releases the generation.
    `exit_counts` is asked then whether the attempt counts towards `max_attempts`.
    """
    told: SystemExit | None = None
    try:
        with spool.produce(chat_id, generation_id, wait=spool.settings.log.lease) as out:
            note(out)
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


async def pump(provider: Provider, out: Producer, deadlines: Deadlines, trace: TraceCall) -> None:
    """Write the whole answer. If the model refuses to continue the text of an earlier attempt, restart it."""
    try:
        await _stream(provider, out, deadlines, trace)
    except ContinuationRefused:
        if not out.request.prefix:
            raise
        # The same attempt, so no other one can claim the generation in between; readers see that the text is void.
        out.restart()
        await _stream(provider, out, deadlines, trace)


async def _stream(provider: Provider, out: Producer, deadlines: Deadlines, trace: TraceCall) -> None:
    with trace(out.request) as traced:
        await _write(provider, out, deadlines, traced)


async def _write(provider: Provider, out: Producer, deadlines: Deadlines, traced: TracedCall | None) -> None:
    async with aclosing(provider.stream(out.request)) as deltas:
        async for delta in deltas:
            if traced is not None:
                traced.note(delta)
            if isinstance(delta, SignOfLife):
                deadlines.note_sign_of_life(progress=delta.progress)
                continue
            deadlines.note_delta()
            out.write(delta)
            # Waits while the buffer is full, so a model that is faster than Redis cannot fill the memory.
            await out.drain()
