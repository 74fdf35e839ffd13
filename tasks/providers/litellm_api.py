"""The provider for whatever LiteLLM knows (Bedrock, Vertex AI, Azure and a hundred others), by its library."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import openai

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, ModelRequest, SignOfLife
from chunkspool.settings import Settings, variable_of
from chunkspool.tasks.providers.answer_reader import read_answer
from chunkspool.tasks.providers.call_retries import call_with_retries
from chunkspool.tasks.providers.certificates import untrusted_failure
from chunkspool.tasks.providers.chat_completions.chunks import ChunkAssembler
from chunkspool.tasks.providers.chat_completions.params import build_params
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.litellm_addresses import check_addresses
from chunkspool.tasks.providers.sdk_failures import translate_call_error
from chunkspool.tasks.providers.server_settings import sdk_timeout

RESERVED = frozenset(
    {"api_base", "api_key", "base_url", "custom_llm_provider", "extra_headers", "fallbacks", "max_retries"}
    | {"model_list", "num_retries", "timeout"}
)
"""What decides where a request goes, with which key, and how often: the worker's to say, not the caller's."""
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_DONE = b"data: [DONE]\n\n"


class LiteLLMProvider:
    """Streams chat completions through LiteLLM, which reads each service's key from the variable of its own."""

    can_continue = False

    def __init__(self, settings: Settings) -> None:
        """Load the library, which takes seconds. Raises `ModuleNotFoundError` where it is not installed.

        Raises `SettingsError` for a service's address with a password in it.
        """
        check_addresses(os.environ, settings.provider.provider.replace(" ", "").split(","))
        self._settings = settings
        self._library = load_library()
        # They write to stderr by themselves, past the worker's log, which keeps prompts out.
        for name in _LOGGERS:
            logging.getLogger(name).handlers.clear()

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield the answer. Raises `ProviderError`. Retries are as `openai_api`'s."""
        return read_answer(partial(self._open_body, request), ChunkAssembler())

    async def aclose(self) -> None:
        """Close all connections."""
        await self._library.close_litellm_async_clients()

    async def _open_body(self, request: ModelRequest, resources: AsyncExitStack) -> AsyncIterator[bytes]:
        """Send the request and return its chunks as the event stream that a server would have sent."""
        params = build_params(request.params, RESERVED)
        model = request.model or self._settings.provider.model
        if not model:
            raise failure(Code.MODEL_NOT_FOUND, f"the request names none, nor does {variable_of('model')}")
        retries = self._settings.provider.provider_retries
        chunks = await call_with_retries(partial(self._complete, model, request, params), retries, openai.OpenAIError)
        resources.push_async_callback(chunks.aclose)
        return _body_of(chunks)

    async def _complete(self, model: str, request: ModelRequest, params: dict[str, Any]) -> Any:
        call = self._library.acompletion(
            **params,
            model=model,
            messages=[dict(message) for message in request.messages],
            stream=True,
            timeout=sdk_timeout(self._settings).read,
            # Retries are ours (call_retries).
            num_retries=0,
            max_retries=0,
        )
        try:
            return await call
        except openai.OpenAIError:
            raise
        except Exception as error:  # noqa: BLE001 - a hundred services, each with errors of its own
            failed = untrusted_failure(error) or failure(Code.PROVIDER_ERROR)
        # Not where it was caught: an error that nobody knows may quote the prompt or the key.
        raise failed


async def _body_of(chunks: Any) -> AsyncGenerator[bytes, None]:
    """Yield the chunks as server-sent events, and the end that LiteLLM has seen. Raises `ProviderError`."""
    failed: ProviderError | None = None
    try:
        async for chunk in chunks:
            yield b"data: %b\n\n" % chunk.model_dump_json(exclude_none=True).encode()
    except openai.OpenAIError as error:
        failed, _ = translate_call_error(error)
    except Exception as error:  # noqa: BLE001 - as above
        failed = untrusted_failure(error) or failure(Code.PROVIDER_ERROR)
    if failed is not None:
        raise failed
    yield _DONE


def load_library() -> Any:
    """Load LiteLLM, quietly and without the network. Raises `ModuleNotFoundError` where it is not installed."""
    # Its table of prices would be fetched from the network as it is imported.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # noqa: PLC0415 - large, and after the line above

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm
