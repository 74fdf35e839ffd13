"""Streams the run of a Pydantic AI agent. Extra: `pydantic-ai`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from chunkspool.integrations.extras import needs_extra
from chunkspool.integrations.failures import translate
from chunkspool.integrations.private_loop import iterate
from chunkspool.integrations.stream_provider import StreamProvider
from chunkspool.provider import Delta, ModelRequest, SignOfLife

with needs_extra("pydantic-ai", "pydantic_ai"):
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.exceptions import UserError

    from chunkspool.integrations.pydantic_ai_events import EventReader
    from chunkspool.integrations.pydantic_ai_messages import pydantic_ai_history

Prepare = Callable[[ModelRequest], Mapping[str, Any]]


async def astream_pydantic_ai(
    agent: AbstractAgent[Any, Any], user_prompt: Any = None, **options: Any
) -> AsyncGenerator[Delta | SignOfLife, None]:
    """Yield the answer of an agent. Cancelling the task that iterates ends the run and the model's stream.

    `user_prompt` and `options` (`message_history`, `deps`, `usage_limits` …) go to its `run_stream_events`. An output
    that is an object is said as JSON. Raises `ProviderError`.
    """
    reader = EventReader()
    failed: Exception | None = None
    try:
        async with agent.run_stream_events(user_prompt, **options) as events:
            try:
                async for event in events:
                    # An event means that the run goes on, so a turn that is over has been counted by now.
                    for delta in (*_usage_of(events, reader, event), *reader.feed(event)):
                        yield delta
            except Exception as error:  # noqa: BLE001 - a framework passes on whatever its parts raise
                failed = translate(error)
                _note_usage(events, reader)
    except Exception as error:  # noqa: BLE001 - what closing the run raises
        failed = failed or translate(error)
    for delta in reader.take_usage():
        yield delta
    # Outside the blocks above: an SDK's error, which may quote the prompt, is not the context of what is raised.
    if failed is not None:
        raise failed


def stream_pydantic_ai(
    agent: AbstractAgent[Any, Any], user_prompt: Any = None, **options: Any
) -> Generator[Delta | SignOfLife, None, None]:
    """Do what `astream_pydantic_ai` does in a thread without an asyncio loop, on a loop of its own."""
    return iterate(partial(astream_pydantic_ai, agent, user_prompt, **options))


def pydantic_ai_provider(agent: AbstractAgent[Any, Any], prepare: Prepare | None = None) -> StreamProvider:
    """Return a provider of the worker that answers by an agent.

    `prepare` turns a request into the arguments of its `run_stream_events`. Without it the agent gets the messages as
    its `message_history`; the request's model and params are not used.
    """
    return StreamProvider(partial(_stream_request, agent, prepare or _prepare))


def _stream_request(
    agent: AbstractAgent[Any, Any], prepare: Prepare, request: ModelRequest
) -> AsyncGenerator[Delta | SignOfLife, None]:
    return astream_pydantic_ai(agent, **prepare(request))


def _prepare(request: ModelRequest) -> Mapping[str, Any]:
    return {"message_history": pydantic_ai_history(request.messages)}


def _usage_of(events: Any, reader: EventReader, event: Any) -> list[Delta]:
    """Return what the run has cost, where a turn of the model is over."""
    if event.event_kind in ("part_delta", "part_end"):
        return []
    _note_usage(events, reader)
    return reader.take_usage()


def _note_usage(events: Any, reader: EventReader) -> None:
    with suppress(UserError):  # the run has not started, or is one that cannot tell
        reader.note_usage(events.usage)
