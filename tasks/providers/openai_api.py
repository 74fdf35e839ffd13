"""The provider for any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from random import SystemRandom
from typing import Any, TypeVar

import httpx2
import openai
from openai import AsyncAPIResponse

from chunkspool.errors import ProviderError, SettingsError
from chunkspool.provider import Delta, ModelRequest
from chunkspool.settings import Settings, variable_of
from tasks.providers.chat_chunks import Answer
from tasks.providers.event_stream import EventStream
from tasks.providers.openai_failures import cut, failure_of, silent

T = TypeVar("T")

MAX_PAUSE = 30.0
"""Seconds between two tries at most. A provider that asks for more is not waited for."""
_FIRST_PAUSE = 0.5
_CONNECT_SECONDS = 10.0
_DRAIN_SECONDS = 0.1
# Servers without keys want none, and the SDK wants one.
_NO_KEY = "none"
_OURS = frozenset({"messages", "model", "stream"})
_dice = SystemRandom()


class OpenAIProvider:
    """Nothing is connected before the first request."""

    def __init__(self, settings: Settings) -> None:
        """Check the settings. Raises `SettingsError` when they do not say where the models are."""
        _check(settings)
        self._settings = settings
        self._made: openai.AsyncOpenAI | None = None
        self._first_model: str | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Yield the answer. Raises `ProviderError`.

        429, 5xx and a failed connection are tried again, but only before the server has begun to answer.
        """
        answer, events = Answer(), EventStream()
        async with AsyncExitStack() as stack:
            response = await self._answered(request, stack)
            try:
                async with aclosing(_received(response)) as received:
                    async for data in received:
                        for chunk in events.feed(data):
                            for delta in answer.feed(chunk):
                                yield delta
                        if answer.done:
                            await _drain(received)
                            break
                for chunk in events.end():
                    for delta in answer.feed(chunk):
                        yield delta
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
            key, silence = self._settings.openai_api_key, self._settings.provider_timeout
            self._made = openai.AsyncOpenAI(
                api_key=(key and key.get_secret_value()) or _NO_KEY,
                base_url=self._settings.openai_base_url,
                timeout=openai.Timeout(silence, connect=min(silence, _CONNECT_SECONDS)),
                max_retries=0,
            )
        return self._made

    async def _answered(self, request: ModelRequest, stack: AsyncExitStack) -> AsyncAPIResponse[Any]:
        """Send the request; `stack` closes the response, whose body is yet to be read."""
        params = _checked_params(request.params)
        model = request.model or self._settings.model or await self._default_model()
        create = self._client.chat.completions.with_streaming_response.create
        response = await self._patiently(
            lambda: stack.enter_async_context(
                create(
                    model=model,
                    messages=list(request.messages),  # type: ignore[arg-type]  # checked when it was enqueued
                    stream=True,
                    extra_body={"stream_options": {"include_usage": True}, **params},
                )
            )
        )
        _check_is_stream(response)
        return response

    async def _default_model(self) -> str:
        """Return the model of a server that was started for it: the first one that it lists."""
        if self._first_model is None and self._settings.openai_base_url:
            client = self._client
            page = await self._patiently(client.models.list)
            # A server that has none sends null for the list.
            self._first_model = next((model.id for model in page.data or ()), None)
        if self._first_model is None:
            message = f"No model was asked for, and {variable_of('model')} names none."
            raise ProviderError("model_not_found", message, retryable=False)
        return self._first_model

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` gives, asking again while that may help. Raises `ProviderError`."""
        failures = 0
        while True:
            try:
                return await ask()
            except openai.OpenAIError as error:
                failure = failure_of(error)
                if not failure.again or failure.after > MAX_PAUSE or failures >= self._settings.provider_retries:
                    # Neither the SDK's error nor its traceback: they quote the server, which may quote the prompt.
                    raise failure.error from None
            await asyncio.sleep(max(failure.after, _pause(failures)))
            failures += 1


def _check_is_stream(response: AsyncAPIResponse[Any]) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in {"text/html", "application/json"}:
        message = f"The model's provider did not answer with a stream but with {kind}."
        raise ProviderError("malformed_response", message, retryable=False)


async def _received(response: AsyncAPIResponse[Any]) -> AsyncGenerator[bytes, None]:
    """Yield what arrives. Raises `ProviderError` when nothing does, or the connection is lost."""
    try:
        async for data in response.iter_bytes():
            yield data
    except httpx2.TimeoutException:
        raise silent() from None
    except (httpx2.RequestError, OSError):
        raise cut() from None


async def _drain(received: AsyncIterator[bytes]) -> None:
    """Read the end of the body: only then can the connection serve another request."""
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in received:
                pass


def _pause(failures: int) -> float:
    """Return the seconds to wait after so many failures before the last one."""
    # Not all at once: what made a provider fail for one has made it fail for all.
    return min(_FIRST_PAUSE * 2.0**failures, MAX_PAUSE / 2) * _dice.uniform(0.75, 1.25)


def _checked_params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    taken = sorted(_OURS & params.keys())
    if taken:
        message = f"params may not set {', '.join(taken)}."
        raise ProviderError("invalid_request", message, retryable=False)
    return params


def _check(settings: Settings) -> None:
    url, key = settings.openai_base_url, settings.openai_api_key
    if not url and not (key and key.get_secret_value()):
        raise SettingsError(
            f"the provider openai_api needs {variable_of('openai_base_url')} (any OpenAI-compatible server), "
            f"{variable_of('openai_api_key')} (OpenAI's own), or both"
        )
    if url and not url.startswith(("http://", "https://")):
        raise SettingsError(f"{variable_of('openai_base_url')} must start with http:// or https://")
