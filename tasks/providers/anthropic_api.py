"""The provider for Anthropic's own Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import anthropic

from chunkspool.provider import Delta, ModelRequest, SignOfLife
from chunkspool.settings import Settings, variable_of
from chunkspool.tasks.providers.answer_reader import read_answer, stream_of
from chunkspool.tasks.providers.anthropic_messages.events import MessageAssembler
from chunkspool.tasks.providers.anthropic_messages.request import build_body
from chunkspool.tasks.providers.call_retries import call_with_retries
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.server_settings import NO_KEY, check_server, sdk_timeout

ANTHROPIC_URL = "https://api.anthropic.com"
"""Anthropic's own server. The SDK's default is not used: it may come from variables and files that are no settings."""


class AnthropicProvider:
    """Streams messages. It connects at the first request."""

    can_continue = True

    def __init__(self, settings: Settings) -> None:
        """Check the settings. Raises `SettingsError` when they do not name a server."""
        self._settings = settings
        self._server = check_server("anthropic_api", "Anthropic's", "anthropic_base_url", "anthropic_api_key", settings)
        self._opened: anthropic.AsyncAnthropic | None = None

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield the answer. Raises `ProviderError`. As with `openai_api`, retries end when the answer begins."""
        return read_answer(partial(self._open_body, request), MessageAssembler())

    async def aclose(self) -> None:
        """Close all connections."""
        opened, self._opened = self._opened, None
        if opened:
            await opened.close()

    @property
    def _client(self) -> anthropic.AsyncAnthropic:
        # Created in the process and loop that use it: connections survive neither a fork nor the end of their loop.
        if self._opened is None:
            self._opened = anthropic.AsyncAnthropic(
                api_key=self._server.key or NO_KEY,
                base_url=self._server.url or ANTHROPIC_URL,
                timeout=sdk_timeout(self._settings),
                # Retries are ours (call_retries): the SDK also retries time-outs, and so may pay for a request twice.
                max_retries=0,
                # The attempt has a span of its call (chunkspool.tracing); the SDK's own may have prompts.
                open_telemetry=False,
                http_client=anthropic.DefaultAsyncHttpxClient(auth=self._server.auth) if self._server.auth else None,
            )
        return self._opened

    async def _open_body(self, request: ModelRequest, resources: AsyncExitStack) -> AsyncIterator[bytes]:
        """Send the request and return the body of its response, still to be read; `resources` closes it."""
        model = request.model or self._settings.provider.model
        if not model:
            raise failure(Code.MODEL_NOT_FOUND, f"the request names none, nor does {variable_of('model')}")
        body = build_body(request)
        create = self._client.messages.with_streaming_response.create
        response = await call_with_retries(
            lambda: resources.enter_async_context(
                create(
                    model=model,
                    messages=body["messages"],
                    max_tokens=body["max_tokens"],
                    stream=True,
                    extra_body=body,
                )
            ),
            self._settings.provider.provider_retries,
            anthropic.AnthropicError,
            has_prefix=bool(request.prefix),
        )
        return stream_of(response.http_response)
