"""Call the OpenAI provider without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, ModelRequest, Provider, SignOfLife, Text
from chunkspool.settings import Settings
from chunkspool.tasks.providers.openai_api import OpenAIProvider

SECRET = "what-the-user-asked"
KEY = "sk-the-key-of-this-test"


@asynccontextmanager
async def provider_for(base_url: str, **values: object) -> AsyncIterator[Provider]:
    """Provide a provider for the server at `base_url`; `values` are further settings."""
    settings = {
        "model": "m",
        "openai_api_key": KEY,
        "first_token_timeout": 10,
        "idle_timeout": 10,
        **values,
        "openai_base_url": base_url,
    }
    provider = OpenAIProvider(Settings.checked(settings))
    try:
        yield provider
    finally:
        await provider.aclose()


def model_request(model: str | None = None, **params: Any) -> ModelRequest:
    """Return a request."""
    return ModelRequest(({"role": "user", "content": SECRET},), model, params)


async def collect_deltas(provider: Provider, request: ModelRequest) -> list[Delta]:
    """Return everything the model says."""
    async with aclosing(provider.stream(request)) as deltas:
        return [delta async for delta in deltas if not isinstance(delta, SignOfLife)]


async def collect_failure(provider: Provider, request: ModelRequest) -> tuple[ProviderError, list[Delta]]:
    """Return the error that ends the answer, and the deltas before it."""
    before: list[Delta] = []
    try:
        async with aclosing(provider.stream(request)) as deltas:
            async for delta in deltas:
                if not isinstance(delta, SignOfLife):
                    before.append(delta)  # noqa: PERF401 - it is wanted also when the loop ends with an error
    except ProviderError as error:
        return error, before
    raise AssertionError(f"it did not fail but said {before}")


def text_of(deltas: list[Delta]) -> str:
    """Return the text of the deltas."""
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))
