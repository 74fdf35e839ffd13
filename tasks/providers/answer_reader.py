"""Reads an answer from the event stream of a response, whichever API it is in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Protocol

import httpx2

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, SignOfLife
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.sdk_failures import READ_ERRORS, translate_read_error
from chunkspool.tasks.providers.sse_decoder import ServerEvent, SSEDecoder

END_SECONDS = 0.1
"""How long to wait for the end of a body whose answer is complete."""
_KEEP_ALIVE = SignOfLife()
_NO_STREAM = frozenset({"application/json", "text/html"})

OpenBody = Callable[[AsyncExitStack], Awaitable[AsyncIterator[bytes]]]
"""Sends the request and returns the body of the response as it arrives; the stack closes the connection."""


class AnswerAssembler(Protocol):
    """Assembles the events of one answer, fed in order, into deltas. All methods raise `ProviderError`."""

    finished: bool
    """Whether the answer is complete, though more may follow, such as usage."""
    done: bool
    """Whether the server has announced the end of the stream."""

    def feed(self, event: ServerEvent) -> Iterator[Delta | SignOfLife]:
        """Yield the deltas of an event."""

    def feed_last(self, event: ServerEvent) -> Iterator[Delta | SignOfLife]:
        """Yield the deltas of an event that the end of the stream may have cut off."""

    def end(self) -> list[Delta]:
        """Return the deltas that are complete only now; an answer that is not complete is an error."""

    def take_usage(self) -> list[Delta]:
        """Return the usage so far."""


def stream_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Return the body of a response. Raises `ProviderError` if it is no stream."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _NO_STREAM:
        raise failure(Code.NOT_A_STREAM, kind)
    # Each layer of iterators costs a token about a microsecond; two of them only decompress.
    return response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()


async def read_answer(open_body: OpenBody, answer: AnswerAssembler) -> AsyncGenerator[Delta | SignOfLife, None]:
    """Yield the deltas of an answer, and a sign of life for bytes that make none. Raises `ProviderError`."""
    async with AsyncExitStack() as resources:
        body = await open_body(resources)
        decoder = SSEDecoder()
        failed: ProviderError | None = None
        try:
            async for received in body:
                for delta in _feed(answer, decoder.feed(received)):
                    yield delta
                if answer.done:
                    break
        except READ_ERRORS as error:
            failed = translate_read_error(error)
        except ProviderError as error:
            failed = error
            decoder = SSEDecoder()  # what follows a chunk that means a failure is not the answer's end
        if answer.done:
            await _read_to_end(body)
        # Everything below happens outside the except blocks, so that an SDK's error, which may quote the prompt, is not
        # the context of what is raised.
        for delta in _end(answer, decoder, failed):
            yield delta


def _feed(answer: AnswerAssembler, events: Iterable[ServerEvent]) -> Iterator[Delta | SignOfLife]:
    """Yield the deltas of what was received in one piece: a sign of life, if there are none."""
    is_silent = True
    for event in events:
        for delta in answer.feed(event):
            is_silent = False
            yield delta
        if answer.done:
            return
    if is_silent:
        yield _KEEP_ALIVE


def _end(answer: AnswerAssembler, decoder: SSEDecoder, failed: ProviderError | None) -> Iterator[Delta | SignOfLife]:
    """Yield what is complete only now. Raises `failed`, unless the answer is complete all the same."""
    try:
        if not answer.done:
            for event in decoder.end():
                yield from answer.feed_last(event)
        # After the finish reason the answer is complete, so a connection that breaks takes nothing from it.
        if failed is None or answer.finished:
            yield from answer.end()
            return
    except ProviderError as error:
        failed = failed or error
    # A failed answer is paid for, too.
    yield from answer.take_usage()
    raise failed


async def _read_to_end(body: AsyncIterator[bytes]) -> None:
    """Read the rest of the body: only then can the connection serve another request. Do not wait long for it."""
    with suppress(TimeoutError, *READ_ERRORS):
        async with asyncio.timeout(END_SECONDS):
            async for _ in body:
                pass
