"""The provider for any OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

import httpx2
import openai

from chunkspool.provider import Delta, ModelRequest, SignOfLife
from chunkspool.settings import Settings, variable_of
from chunkspool.tasks.providers.answer_reader import read_answer, stream_of
from chunkspool.tasks.providers.call_retries import call_with_retries
from chunkspool.tasks.providers.chat_completions.chunks import ChunkAssembler
from chunkspool.tasks.providers.chat_completions.params import build_params
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.server_settings import NO_KEY, check_server, sdk_timeout

T = TypeVar("T")

OPENAI_URL = "https://api.openai.com/v1"
"""OpenAI's own server. The SDK's default is not used: it takes a variable OPENAI_BASE_URL that is empty for a URL."""
# The params of vLLM and SGLang, which llama.cpp understands, too: continue the last message instead of answering it.
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


class OpenAIProvider:
    """Streams chat completions. It connects at the first request."""

    can_continue = True

    def __init__(self, settings: Settings) -> None:
        """Check the settings. Raises `SettingsError` when they do not name a server."""
        self._settings = settings
        self._server = check_server("openai_api", "OpenAI's", "openai_base_url", "openai_api_key", settings)
        self._opened: openai.AsyncOpenAI | None = None
        self._first_model: str | None = None

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield the answer. Raises `ProviderError`.

        429, 5xx and a failed connection are retried, but only until the server has begun to answer: readers have seen
        what came before, and it was paid for.
        """
        return read_answer(partial(self._open_body, request), ChunkAssembler())

    async def aclose(self) -> None:
        """Close all connections."""
        opened, self._opened = self._opened, None
        if opened:
            await opened.close()

    @property
    def _client(self) -> openai.AsyncOpenAI:
        # Created in the process and loop that use it: connections survive neither a fork nor the end of their loop.
        if self._opened is None:
            self._opened = openai.AsyncOpenAI(
                api_key=self._server.key or NO_KEY,
                base_url=self._server.url or OPENAI_URL,
                timeout=sdk_timeout(self._settings),
                # Retries are ours (call_retries): the SDK also retries time-outs, and so may pay for a request twice.
                max_retries=0,
                # aiohttp: the default client looks at all its connections at each start and each end of an answer, and
                # takes more than twice as long for a token (docs/bench.md). 0 is no limit: the worker's slots are one.
                http_client=openai.DefaultAioHttpClient(
                    limits=httpx2.Limits(max_connections=0), auth=self._server.auth
                ),
            )
        return self._opened

    async def _open_body(self, request: ModelRequest, resources: AsyncExitStack) -> AsyncIterator[bytes]:
        """Send the request and return the body of its response, still to be read; `resources` closes it."""
        model = request.model or self._settings.provider.model or await self._find_default_model()
        params = build_params(request.params) | (_CONTINUE if request.prefix else {})
        body = {"model": model, "messages": _build_messages(request), "stream": True, **params}
        client = self._client
        # Not `chat.completions.create`: the messages were checked when they were enqueued, and its check of their types
        # takes a tenth of what a start takes.
        stream = await self._call(
            lambda: client.post(
                "/chat/completions", cast_to=object, body=body, stream=True, stream_cls=openai.AsyncStream[object]
            ),
            has_prefix=bool(request.prefix),
        )
        resources.push_async_callback(stream.close)
        return stream_of(stream.response)

    async def _call(self, call: Callable[[], Awaitable[T]], *, has_prefix: bool = False) -> T:
        retries = self._settings.provider.provider_retries
        return await call_with_retries(call, retries, openai.OpenAIError, has_prefix=has_prefix)

    async def _find_default_model(self) -> str:
        """Return the first model that the server lists: many servers are started for a single one."""
        if self._first_model is None and self._server.url:
            client = self._client
            listed = await self._call(lambda: client.get("/models", cast_to=httpx2.Response))
            self._first_model = _first_listed_model(listed)
        if self._first_model is None:
            raise failure(Code.MODEL_NOT_FOUND, f"the request names none, nor does {variable_of('model')}")
        return self._first_model


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
