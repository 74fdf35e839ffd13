"""The provider for any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from random import SystemRandom
from typing import Any, TypeVar

import httpx2
import openai
from openai import AsyncAPIResponse

from chunkspool.errors import ContinuationRefused, ProviderError, SettingsError
from chunkspool.provider import Delta, ModelRequest
from chunkspool.settings import Settings, variable_of
from tasks.providers.chat_chunks import Answer
from tasks.providers.event_stream import EventStream
from tasks.providers.failures import AGAIN, Code, failure
from tasks.providers.openai_failures import CALL_ERRORS, READ_ERRORS, of_call, of_read

T = TypeVar("T")

FIRST_PAUSE = 0.5
"""Seconds between the first two tries, about; each further pause is twice as long."""
MAX_PAUSE = 30.0
"""Seconds between two tries at most. A provider that asks for more is not waited for."""
OPENAI_URL = "https://api.openai.com/v1"
"""OpenAI's own server. Said to the SDK, which would take an OPENAI_BASE_URL that is set but empty for a URL."""
# Servers without keys want none, and the SDK wants one.
_NO_KEY = "none"
_KEY = re.compile(r"[!-~]+")
_CONNECT_SECONDS = 10.0
_DRAIN_SECONDS = 0.1
_OURS = frozenset({"messages", "model", "stream"})
# vLLM's and SGLang's words, which llama.cpp understands, too: the last message is gone on with, not answered.
_CONTINUING = {"continue_final_message": True, "add_generation_prompt": False}
_NO_STREAM = frozenset({"application/json", "text/html"})
_dice = SystemRandom()


class OpenAIProvider:
    """Nothing is connected before the first request."""

    can_continue = True

    def __init__(self, settings: Settings) -> None:
        """Check the settings. Raises `SettingsError` when they do not say where the models are."""
        self._settings = settings
        self._key = settings.provider.openai_api_key.get_secret_value() if settings.provider.openai_api_key else ""
        self._url = settings.provider.openai_base_url
        _check(self._url, self._key)
        self._made: openai.AsyncOpenAI | None = None
        self._first_model: str | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Yield the answer. Raises `ProviderError`.

        429, 5xx and a failed connection are tried again, but only before the server has begun to answer.
        """
        answer = Answer()
        async with AsyncExitStack() as opened:
            response = await self._answered(request, opened)
            events = await opened.enter_async_context(aclosing(_events(response)))
            try:
                async for event in events:
                    for delta in answer.feed(event):
                        yield delta
                    if answer.done:
                        await _drain(events)
                        break
            except ProviderError:
                # What comes after the model has finished can add nothing to the answer.
                if not answer.finished:
                    raise
            for delta in answer.end():
                yield delta

    async def aclose(self) -> None:
        """Close all connections."""
        made, self._made = self._made, None
        if made:
            await made.close()

    @property
    def _client(self) -> openai.AsyncOpenAI:
        # Made in the process and loop that use it: connections survive neither a fork nor their loop.
        if self._made is None:
            # The attempt's own clocks run out long before; this one is for a caller that has none.
            silence = 2 * max(self._settings.worker.first_token_timeout, self._settings.worker.idle_timeout)
            self._made = openai.AsyncOpenAI(
                api_key=self._key or _NO_KEY,
                base_url=self._url or OPENAI_URL,
                timeout=openai.Timeout(silence, connect=min(silence, _CONNECT_SECONDS)),
                max_retries=0,
            )
        return self._made

    async def _answered(self, request: ModelRequest, opened: AsyncExitStack) -> AsyncAPIResponse[Any]:
        """Send the request; `opened` closes the response, whose body is yet to be read."""
        params = _checked(request.params) | (_CONTINUING if request.prefix else {})
        model = request.model or self._settings.provider.model or await self._default_model()
        create = self._client.chat.completions.with_streaming_response.create
        response = await self._continuing(
            request,
            lambda: opened.enter_async_context(
                create(
                    model=model,
                    messages=_messages(request),  # type: ignore[arg-type]  # checked when it was enqueued
                    stream=True,
                    extra_body=params,
                )
            ),
        )
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _NO_STREAM:
            raise failure(Code.NOT_A_STREAM, kind)
        return response

    async def _continuing(self, request: ModelRequest, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` gives. Raises `ContinuationRefused` where the server knows no prefix."""
        try:
            return await self._patiently(ask)
        except ProviderError as refusal:
            if not request.prefix or refusal.code != Code.INVALID_REQUEST:
                raise
            meaning = refusal
        raise ContinuationRefused(meaning.code, meaning.message, retryable=meaning.retryable)

    async def _default_model(self) -> str:
        """Return the model of a server that was started for it: the first one that it lists."""
        if self._first_model is None and self._url:
            client = self._client
            listed = await self._patiently(lambda: client.get("/models", cast_to=httpx2.Response))
            self._first_model = _first_model(listed)
        if self._first_model is None:
            raise failure(Code.MODEL_NOT_FOUND, f"none was asked for, and {variable_of('model')} names none")
        return self._first_model

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` gives, asking again while that may help. Raises `ProviderError`."""
        failures = 0
        while True:
            try:
                return await ask()
            except CALL_ERRORS as error:
                meaning, after = of_call(error)
            # Out here the SDK's error is not its context: it quotes the server, which may quote the prompt.
            if meaning.code not in AGAIN or after > MAX_PAUSE or failures >= self._settings.provider.provider_retries:
                raise meaning
            await asyncio.sleep(max(after, _pause(failures)))
            failures += 1


async def _events(response: AsyncAPIResponse[Any]) -> AsyncGenerator[bytes, None]:
    """Yield the data of each event. Raises `ProviderError`."""
    stream = EventStream()
    try:
        async for received in response.iter_bytes():
            for event in stream.feed(received):
                yield event
    except READ_ERRORS as error:
        meaning = of_read(error)
    else:
        return
    raise meaning


async def _drain(events: AsyncIterator[bytes]) -> None:
    """Read the end of the body: only then can the connection serve another request."""
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in events:
                pass


def _pause(failures: int) -> float:
    """Return the seconds to wait after so many failures before the last one."""
    # Not all at once: what made a provider fail for one has made it fail for all.
    return min(FIRST_PAUSE * 2.0**failures, MAX_PAUSE / 2) * _dice.uniform(0.75, 1.25)


def _first_model(listed: httpx2.Response) -> str | None:
    try:
        models = listed.json()["data"]
        return str(models[0]["id"])
    except (ValueError, LookupError, TypeError):
        # It has none, or has no such list.
        return None


def _messages(request: ModelRequest) -> list[Mapping[str, Any]]:
    """Return the conversation; where there is a prefix, its last message is an answer that has begun."""
    begun = [{"role": "assistant", "content": request.prefix}] if request.prefix else []
    return [*request.messages, *begun]


def _checked(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the request. A param of None is left out, for servers that refuse what is set here."""
    taken = sorted(_OURS & params.keys())
    if taken:
        raise failure(Code.INVALID_REQUEST, f"params may not set {', '.join(taken)}")
    wanted = {"stream_options": {"include_usage": True}, **params}
    return {name: value for name, value in wanted.items() if value is not None}


def _check(url: str | None, key: str) -> None:
    if not url and not key:
        raise SettingsError(
            f"the provider openai_api needs {variable_of('openai_base_url')} (any OpenAI-compatible server), "
            f"{variable_of('openai_api_key')} (OpenAI's own), or both"
        )
    if url and not _is_url(url):
        raise SettingsError(f"{variable_of('openai_base_url')} must be a URL that starts with http:// or https://")
    if key and not _KEY.fullmatch(key):
        raise SettingsError(f"{variable_of('openai_api_key')} has a space, a line break or a letter that no key has")


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
