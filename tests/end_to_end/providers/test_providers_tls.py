"""A model's server that cannot prove who it is gets no key and no prompt; one of our authority does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from support.missing import skip_missing
from support.models.chunks import chunk, event
from support.models.provider_client import KEY, SECRET, model_request
from support.models.raw_model import RawModel, answer_with_stream
from support.servers.redis_server import ServerMissing
from support.servers.tls import IMPOSTORS, Authority, TlsFront, impostor

from chunkspool.demo.ports import LOOPBACK
from chunkspool.errors import ProviderError
from chunkspool.provider import Provider, Text
from chunkspool.settings import Settings
from chunkspool.tasks.providers.anthropic_api import AnthropicProvider
from chunkspool.tasks.providers.openai_api import OpenAIProvider

Make = Callable[[str], Provider]


def openai_at(url: str) -> Provider:
    """Return the provider for OpenAI-compatible servers."""
    return OpenAIProvider(Settings.checked({"openai_base_url": url, "openai_api_key": KEY, "model": "m"}))


def anthropic_at(url: str) -> Provider:
    """Return the provider for Anthropic's API."""
    return AnthropicProvider(Settings.checked({"anthropic_base_url": url, "anthropic_api_key": KEY, "model": "m"}))


PROVIDERS: dict[str, Make] = {"openai_api": openai_at, "anthropic_api": anthropic_at}


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Give the only authority that this process trusts."""
    try:
        made = Authority.make(tmp_path / "certificates")
    except ServerMissing as missing:
        skip_missing(missing)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.ca.certfile))
    return made


@pytest.fixture(params=PROVIDERS)
async def provider_of(request: pytest.FixtureRequest) -> AsyncGenerator[Make, None]:
    """Give a function that makes the provider; it is closed after the test."""
    made: list[Provider] = []

    def make(url: str) -> Provider:
        made.append(PROVIDERS[request.param](url))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.mark.parametrize("kind", IMPOSTORS)
async def test_an_impostor_hears_nothing(kind: str, provider_of: Make, authority: Authority, tmp_path: Path) -> None:
    """The generation fails with a code of its own, at once: no second try makes it another server."""
    with impostor(tmp_path, IMPOSTORS[kind][1](authority, tmp_path)) as stranger:
        with pytest.raises(ProviderError, match="its certificate is not trusted") as failed:
            async for _ in provider_of(f"https://{LOOPBACK}:{stranger.port}").stream(model_request()):
                pass
        assert (failed.value.code, failed.value.retryable) == ("provider_untrusted", False)
        assert stranger.connections == 1
        assert stranger.heard == b""


async def test_a_server_of_our_authority(authority: Authority) -> None:
    """Its answer is read."""
    with (
        RawModel(
            answer_with_stream(event(chunk(content="hi")), event(chunk(finish_reason="stop")), b"data: [DONE]\n\n")
        ) as model,
        TlsFront(authority.sign("server"), int(model.base_url.rpartition(":")[2].partition("/")[0])) as front,
    ):
        provider = openai_at(f"https://{LOOPBACK}:{front.port}/v1")
        texts = [one.text async for one in provider.stream(model_request()) if isinstance(one, Text)]
        await provider.aclose()
        assert texts == ["hi"]
        (request,) = model.requests
        assert SECRET in str(request.body)


@pytest.mark.parametrize("make", PROVIDERS.values(), ids=PROVIDERS)
async def test_the_credentials_of_a_url_are_sent_as_a_header(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """To a proxy that wants them; they are in no log and in no error."""
    caplog.set_level(0)
    with RawModel(answer_with_stream()) as model:
        url = model.base_url.replace("//", "//me:hunter%2F2@")
        provider = make(url)
        with pytest.raises(ProviderError) as failed:
            async for _ in provider.stream(model_request()):
                pass
        await provider.aclose()
        (request, *_) = model.requests
    assert request.headers["authorization"] == "Basic bWU6aHVudGVyLzI="
    assert "hunter" not in caplog.text + repr(failed.value) + repr(provider.__dict__) + repr(caplog.records)
