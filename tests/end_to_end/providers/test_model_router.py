"""One worker serves several providers: the model's name chooses one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.models.chunks import chunk, events
from support.models.message_events import begin, finish, text_block
from support.models.provider_client import collect_deltas, collect_failure, model_request, text_of
from support.models.raw_model import RawModel, answer_with_stream

from chunkspool.errors import SettingsError
from chunkspool.provider import Provider
from chunkspool.settings import Settings
from chunkspool.tasks.providers import load_provider

OPENAI = answer_with_stream(events(chunk("stop", content="from openai")))
ANTHROPIC = answer_with_stream(begin() + text_block(0, "from anthropic") + finish())


@asynccontextmanager
async def router_for(openai: RawModel, anthropic: RawModel, **values: object) -> AsyncIterator[Provider]:
    """Provide what the settings load."""
    servers = {
        "openai_base_url": openai.base_url,
        "anthropic_base_url": anthropic.base_url.removesuffix("/v1"),
    }
    provider = load_provider(Settings.checked({"provider": "openai_api, anthropic_api", **servers, **values}))
    try:
        yield provider
    finally:
        await provider.aclose()


@pytest.mark.parametrize(
    ("model", "told", "asked"),
    [
        ("anthropic/claude-x", "from anthropic", "claude-x"),
        ("openai/gpt-x", "from openai", "gpt-x"),
        ("gpt-x", "from openai", "gpt-x"),
        ("mistral/large", "from openai", "mistral/large"),
        ("openai/anthropic/claude-x", "from openai", "anthropic/claude-x"),
        ("claude-y", "from anthropic", "claude-y"),
        ("anthropic/", "from openai", "anthropic/"),
        (None, "from anthropic", "claude-default"),
    ],
)
async def test_the_models_name_chooses_the_provider(model: str | None, told: str, asked: str) -> None:
    """By the table, by a prefix, or the first one; the request's name goes before the setting's."""
    with RawModel(OPENAI) as openai, RawModel(ANTHROPIC) as anthropic:
        table = {"model_providers": "claude-* = anthropic_api", "model": "claude-default"}
        async with router_for(openai, anthropic, **table) as provider:
            assert text_of(await collect_deltas(provider, model_request(model))) == told
        (request,) = openai.requests + anthropic.requests
    assert request.body["model"] == asked


async def test_without_any_model_the_first_provider_decides() -> None:
    """It may have a default of its own."""
    with RawModel(OPENAI) as openai, RawModel(ANTHROPIC) as anthropic:
        async with router_for(openai, anthropic, provider="anthropic_api,openai_api") as provider:
            error, _ = await collect_failure(provider, model_request())
        assert (error.code, openai.requests, anthropic.requests) == ("model_not_found", [], [])


async def test_a_single_provider_gets_every_name_unchanged() -> None:
    """A gateway's own models have such names."""
    with RawModel(OPENAI) as openai, RawModel(ANTHROPIC) as anthropic:
        async with router_for(openai, anthropic, provider="openai_api") as provider:
            await collect_deltas(provider, model_request("anthropic/claude-x"))
        assert openai.requests[0].body["model"] == "anthropic/claude-x"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"model_providers": "claude-*"}, "CHUNKSPOOL_MODEL_PROVIDERS: 'claude-\\*' must be"),
        ({"model_providers": "=openai_api"}, "CHUNKSPOOL_MODEL_PROVIDERS: '=openai_api' must be"),
        ({"model_providers": "x=scripted"}, "one of the providers.*: openai_api, anthropic_api"),
        ({"provider": "openai_api,openai_api"}, "names a provider twice"),
        ({"provider": "openai_api,ekko"}, "'ekko': no such provider"),
        ({"provider": "openai_api,"}, "'': no such provider"),
        ({"anthropic_api_key": "a b"}, "ANTHROPIC_API_KEY has a space"),
    ],
)
async def test_a_wrong_table_ends_the_worker_at_its_start(values: dict[str, object], why: str) -> None:
    """With a message that names the setting."""
    with RawModel(OPENAI) as openai, RawModel(ANTHROPIC) as anthropic, pytest.raises(SettingsError, match=why):
        async with router_for(openai, anthropic, **values):
            pass


async def test_all_must_be_able_to_continue() -> None:
    """The setting `recovery` counts for whichever model is asked."""
    with RawModel(OPENAI) as openai, RawModel(ANTHROPIC) as anthropic:
        async with router_for(openai, anthropic, recovery="continue") as provider:
            assert getattr(provider, "can_continue", False)
