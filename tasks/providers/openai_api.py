"""The provider for any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, TypeVar

import httpx2
import openai
from openai import AsyncAPIResponse

from chunkspool.errors import ContinuationRefused, ProviderError, SettingsError
from chunkspool.provider import Delta, ModelRequest
from chunkspool.settings import Settings, variable_of
from tasks.providers.call_retries import call_with_retries
from tasks.providers.chat_chunks import ChunkAssembler
from tasks.providers.failures import Code, failure
from tasks.providers.openai_failures import READ_ERRORS, translate_read_error
from tasks.providers.sse_decoder import SSEDecoder

T = TypeVar("T")

OPENAI_URL = "https://api.openai.com/v1"
"""OpenAI's own server. The SDK's default is not used: it takes a variable OPENAI_BASE_URL that is empty for a URL."""
# The SDK requires a key, even for servers that need none.
_NO_KEY = "none"
_KEY = re.compile(r"[!-~]+")
_CONNECT_SECONDS = 10.0
_END_SECONDS = 0.1
_RESERVED = frozenset({"messages", "model", "stream"})
# The params of vLLM and SGLang, which llama.cpp understands, too: continue the last message instead of answering it.
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
_NO_STREAM = frozenset({"application/json", "text/html"})


class OpenAIProvider:
    """Streams chat completions. It connects at the first request."""

    can_continue = True

    def __init__(self, settings: Settings) -> None:
        """Check the settings. Raises `SettingsError` when they do not name a server."""
        self._settings = settings
        self._key = settings.provider.openai_api_key.get_secret_value() if settings.provider.openai_api_key else ""
        self._url = settings.provider.openai_base_url
        _check_settings(self._url, self._key)
        self._opened: openai.AsyncOpenAI | None = None
        self._first_model: str | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Yield the answer. Raises `ProviderError`.

        429, 5xx and a failed connection are retried, but only until the server has begun to answer: readers have seen
        what came before, and it was paid for.
        """
        answer = ChunkAssembler()
        async with AsyncExitStack() as resources:
            response = await self._open_response(request, resources)
            events = await resources.enter_async_context(aclosing(_read_events(response)))
            try:
                async for event in events:
                    for delta in answer.feed(event):
                        yield delta
                    if answer.done:
                        await _read_to_end(events)
                        break
            except ProviderError:
                # After the finish reason the answer is complete, so a connection that breaks takes nothing from it.
                if not answer.finished:
                    raise
            for delta in answer.end():
                yield delta

    async def aclose(self) -> None:
        """Close all connections."""
        opened, self._opened = self._opened, None
        if opened:
            await opened.close()

    @property
    def _client(self) -> openai.AsyncOpenAI:
        # Created in the process and loop that use it: connections survive neither a fork nor the end of their loop.
        if self._opened is None:
            # A worker's own clocks (tasks/deadlines.py) run out long before these; they are for a caller without any.
            silence = 2 * max(self._settings.worker.first_token_timeout, self._settings.worker.idle_timeout)
            self._opened = openai.AsyncOpenAI(
                api_key=self._key or _NO_KEY,
                base_url=self._url or OPENAI_URL,
                timeout=openai.Timeout(silence, connect=min(silence, _CONNECT_SECONDS)),
                # Retries are ours (call_retries): the SDK also retries time-outs, and so may pay for a request twice.
                max_retries=0,
                # aiohttp: the default client looks at all its connections at each start and each end of an answer, and
                # takes more than twice as long for a token (docs/bench.md). 0 is no limit: the worker's slots are one.
                http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=0)),
            )
        return self._opened

    async def _open_response(self, request: ModelRequest, resources: AsyncExitStack) -> AsyncAPIResponse[Any]:
        """Send the request and return its response, with the body still to be read; `resources` closes it."""
        params = _build_params(request.params) | (_CONTINUE if request.prefix else {})
        model = request.model or self._settings.provider.model or await self._find_default_model()
        create = self._client.chat.completions.with_streaming_response.create
        response = await self._call(
            lambda: resources.enter_async_context(
                create(
                    model=model,
                    messages=_build_messages(request),  # type: ignore[arg-type]  # checked when it was enqueued
                    stream=True,
                    extra_body=params,
                )
            ),
            has_prefix=bool(request.prefix),
        )
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _NO_STREAM:
            raise failure(Code.NOT_A_STREAM, kind)
        return response

    async def _call(self, call: Callable[[], Awaitable[T]], *, has_prefix: bool = False) -> T:
        """Return what `call` returns, after retries. Raises `ContinuationRefused` if a prefix may be what was rejected.

        Servers have no code for that. A 400 or 422 may have another cause, but then the request without the prefix,
        which comes next, fails in the same way.
        """
        try:
            return await call_with_retries(call, self._settings.provider.provider_retries)
        except ProviderError as error:
            if not has_prefix or error.code != Code.INVALID_REQUEST:
                raise
            rejected = error
        raise ContinuationRefused(rejected.code, rejected.message, retryable=rejected.retryable)

    async def _find_default_model(self) -> str:
        """Return the first model that the server lists: many servers are started for a single one."""
        if self._first_model is None and self._url:
            client = self._client
            listed = await self._call(lambda: client.get("/models", cast_to=httpx2.Response))
            self._first_model = _first_listed_model(listed)
        if self._first_model is None:
            raise failure(Code.MODEL_NOT_FOUND, f"the request names none, nor does {variable_of('model')}")
        return self._first_model


async def _read_events(response: AsyncAPIResponse[Any]) -> AsyncGenerator[bytes, None]:
    """Yield the data of each event. Raises `ProviderError`."""
    decoder = SSEDecoder()
    try:
        async for received in response.iter_bytes():
            for event in decoder.feed(received):
                yield event
    except READ_ERRORS as error:
        meaning = translate_read_error(error)
    else:
        return
    raise meaning  # out here the SDK's error is not its context: it may quote the prompt


async def _read_to_end(events: AsyncIterator[bytes]) -> None:
    """Read the rest of the body: only then can the connection serve another request. Do not wait long for it."""
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(_END_SECONDS):
            async for _ in events:
                pass


def _first_listed_model(listed: httpx2.Response) -> str | None:
    try:
        models = listed.json()["data"]
        return str(models[0]["id"])
    except (ValueError, LookupError, TypeError):
        return None  # the list is empty, or it is no such list


def _build_messages(request: ModelRequest) -> list[Mapping[str, Any]]:
    """Return the conversation. A prefix becomes its last message: an answer of the assistant that has begun."""
    begun = [{"role": "assistant", "content": request.prefix}] if request.prefix else []
    return [*request.messages, *begun]


def _build_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request's further fields. A param of None removes a field: some servers reject stream_options."""
    taken = sorted(_RESERVED & params.keys())
    if taken:
        raise failure(Code.INVALID_REQUEST, f"params may not set {', '.join(taken)}")
    wanted = {"stream_options": {"include_usage": True}, **params}
    return {name: value for name, value in wanted.items() if value is not None}


def _check_settings(url: str | None, key: str) -> None:
    if not url and not key:
        raise SettingsError(
            f"the provider openai_api needs {variable_of('openai_base_url')} (any OpenAI-compatible server), "
            f"{variable_of('openai_api_key')} (OpenAI's own), or both"
        )
    if url and not _is_url(url):
        raise SettingsError(f"{variable_of('openai_base_url')} must be a URL that starts with http:// or https://")
    # Such a key could not be sent as a header: every request would fail, with the key in the error's text.
    if key and not _KEY.fullmatch(key):
        raise SettingsError(
            f"{variable_of('openai_api_key')} has a space, a line break or a character that no API key has"
        )


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
