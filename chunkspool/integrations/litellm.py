"""Streams a completion of LiteLLM, by its functions or by a Router. Extra: `litellm`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any

from chunkspool.integrations.extras import needs_extra
from chunkspool.integrations.failures import translate
from chunkspool.integrations.stream_provider import StreamProvider
from chunkspool.provider import Delta, ModelRequest, SignOfLife, Usage

with needs_extra("litellm", "httpx2", "openai", "litellm"):
    from chunkspool.tasks.providers.chat_completions.chunks import DONE, ChunkAssembler
    from chunkspool.tasks.providers.chat_completions.params import build_params
    from chunkspool.tasks.providers.failures import Code
    from chunkspool.tasks.providers.litellm_api import RESERVED, load_library
    from chunkspool.tasks.providers.sse_decoder import ServerEvent

    load_library()

Complete = Callable[..., Awaitable[Any]]
"""`litellm.acompletion`, or that of a Router."""


def stream_litellm(answer: Any, *, paid: Usage | None = None) -> Generator[Delta | SignOfLife, None, None]:
    """Yield the answer of a call such as `litellm.completion(…, stream=True)`. Close it to end the model's stream.

    Raises `ProviderError`. A generation that takes several calls passes what the earlier ones have cost as `paid`.
    """
    chunks = _Chunks(paid)
    failed: Exception | None = None
    try:
        with ExitStack() as resources:
            if _is_whole(answer):
                answer = [answer]
            elif hasattr(answer, "close"):
                resources.callback(answer.close)
            for chunk in answer:
                yield from chunks.feed(chunk)
    except Exception as error:  # noqa: BLE001 - a hundred services, each with errors of its own
        failed = translate(error, Code.PROVIDER_ERROR)
    # Outside the block above: an SDK's error, which may quote the prompt, is not the context of what is raised.
    yield from chunks.end(failed)


async def astream_litellm(answer: Any, *, paid: Usage | None = None) -> AsyncGenerator[Delta | SignOfLife, None]:
    """Yield the answer of a call such as `litellm.acompletion(…, stream=True)`, which it awaits.

    Cancelling the task that iterates ends the model's stream. Raises `ProviderError`; `paid` as in `stream_litellm`.
    """
    chunks = _Chunks(paid)
    failed: Exception | None = None
    try:
        async with AsyncExitStack() as resources:
            opened = await answer if inspect.isawaitable(answer) else answer
            if hasattr(opened, "aclose"):
                resources.push_async_callback(opened.aclose)
            if _is_whole(opened):
                for delta in chunks.feed(opened):
                    yield delta
            else:
                async for chunk in opened:
                    for delta in chunks.feed(chunk):
                        yield delta
    except Exception as error:  # noqa: BLE001 - as above
        failed = translate(error, Code.PROVIDER_ERROR)
    for delta in chunks.end(failed):
        yield delta


def litellm_provider(complete: Complete, **arguments: Any) -> StreamProvider:
    """Return a provider of the worker that answers by `complete`, such as a Router's `acompletion`.

    `arguments` are those of every call (`model`, `timeout` …). A request's model and params go first, but its params
    may not say where the request goes, or with which key.
    """
    return StreamProvider(partial(_stream_request, complete, arguments))


async def _stream_request(
    complete: Complete, arguments: Mapping[str, Any], request: ModelRequest
) -> AsyncGenerator[Delta | SignOfLife, None]:
    call = {**arguments, **build_params(request.params, RESERVED)}
    if request.model:
        call["model"] = request.model
    stream = astream_litellm(complete(**call, messages=[dict(one) for one in request.messages], stream=True))
    try:
        async for delta in stream:
            yield delta
    finally:
        await stream.aclose()


class _Chunks:
    """Reads the chunks of one answer, as those of every server that speaks chat completions."""

    def __init__(self, paid: Usage | None) -> None:
        self._assembler = ChunkAssembler()
        self._paid = paid or Usage(0, 0)

    def feed(self, chunk: Any) -> Iterator[Delta | SignOfLife]:
        """Yield what a chunk says; a sign of life, if it says nothing. Raises `ProviderError`."""
        is_silent = True
        for delta in self._assembler.feed(ServerEvent(chunk.model_dump_json(exclude_none=True).encode())):
            is_silent = False
            yield delta
        if is_silent:
            yield SignOfLife()

    def end(self, failed: Exception | None) -> Iterator[Delta | SignOfLife]:
        """Yield what is complete only now. Raises `failed`, unless the answer is complete all the same."""
        if failed is not None and not self._assembler.finished:
            yield from map(self._add, self._assembler.take_usage())
            raise failed
        if failed is None:
            yield from self._assembler.feed(ServerEvent(DONE))
        yield from map(self._add, self._assembler.end())

    def _add(self, delta: Delta) -> Delta:
        """Return the delta; a usage with what was paid before."""
        if not isinstance(delta, Usage):
            return delta
        before = self._paid
        return Usage(before.input_tokens + delta.input_tokens, before.output_tokens + delta.output_tokens)


def _is_whole(answer: object) -> bool:
    """Tell whether this is a whole answer: the call was made without `stream=True`."""
    return hasattr(answer, "model_dump_json")
