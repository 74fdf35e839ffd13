"""A model's server that cannot prove who it is gets no key and no prompt; one of our authority does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import support
from support.missing import skip_missing
from support.models.chunks import DONE, chunk, event
from support.models.message_events import begin, finish, text_block
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
LITELLM = {
    "openai/m": ("OPENAI_BASE_URL", 1),
    "anthropic/m": ("ANTHROPIC_BASE_URL", 1),
    "mistral/m": ("MISTRAL_AZURE_API_BASE", 1),
    "gemini/m": ("GEMINI_API_BASE", 1),
    # It asks for what the model can do before it asks the model, twice.
    "ollama/m": ("OLLAMA_API_BASE", 3),
}
"""Models of several services of LiteLLM: the variable with the address, and the connections of one call."""
ASK_LITELLM = """
import asyncio, json, sys
from support.models.provider_client import model_request
from chunkspool.errors import ProviderError
from chunkspool.provider import Text
from chunkspool.settings import Settings
from chunkspool.tasks.providers import load_provider

async def ask(provider, model):
    try:
        return "".join([one.text async for one in provider.stream(model_request(model)) if isinstance(one, Text)])
    except ProviderError as failed:
        return [failed.code, failed.retryable, failed.message]

async def main():
    provider = load_provider(Settings.checked({"provider": "litellm_api"}))
    print(json.dumps({model: await ask(provider, model) for model in sys.argv[1:]}))
    await provider.aclose()

asyncio.run(main())
"""


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


async def ask_litellm(authority: Authority, ports: dict[str, int]) -> dict[str, Any]:
    """Return each model's answer, or its failure, in a process of its own.

    LiteLLM's HTTP client reads the authorities once, when it is imported.
    """
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY", "GEMINI_API_KEY"), KEY)
    addresses = {LITELLM[model][0]: f"https://{LOOPBACK}:{port}" for model, port in ports.items()}
    paths = {"PYTHONPATH": str(Path(support.__path__[0]).parent), "SSL_CERT_FILE": str(authority.ca.certfile)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ASK_LITELLM, *ports),
        env={**os.environ, **keys, **addresses, **paths},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, complaints.decode()
    answers: dict[str, Any] = json.loads(said)
    return answers


@pytest.mark.parametrize("kind", IMPOSTORS)
async def test_an_impostor_hears_nothing_of_litellm(kind: str, authority: Authority, tmp_path: Path) -> None:
    """Whichever service LiteLLM takes it for, and however it wraps the error: nobody asks a second time."""
    certificate = IMPOSTORS[kind][1](authority, tmp_path)
    with ExitStack() as running:
        strangers = {model: running.enter_context(impostor(tmp_path, certificate)) for model in LITELLM}
        answers = await ask_litellm(authority, {model: stranger.port for model, stranger in strangers.items()})
        for model, stranger in strangers.items():
            code, retryable, message = answers[model]
            assert (model, code, retryable) == (model, "provider_untrusted", False)
            assert "its certificate is not trusted: " in message
            assert (model, stranger.connections) == (model, LITELLM[model][1])
            assert stranger.heard == b""


async def test_litellm_trusts_our_authority(authority: Authority) -> None:
    """The answers of several services are read."""
    chats = answer_with_stream(event(chunk("stop", content="hi")), DONE)
    messages = answer_with_stream(begin() + text_block(0, "hello") + finish())
    answering = {"openai/m": chats, "mistral/m": chats, "anthropic/m": messages}
    with ExitStack() as running:
        models = {model: running.enter_context(RawModel(answer)) for model, answer in answering.items()}
        fronts = {
            model: running.enter_context(TlsFront(authority.sign("server"), urlsplit(server.base_url).port or 0))
            for model, server in models.items()
        }
        answers = await ask_litellm(authority, {model: front.port for model, front in fronts.items()})
        assert answers == {"openai/m": "hi", "mistral/m": "hi", "anthropic/m": "hello"}
        for model in models.values():
            (request,) = model.requests
            assert SECRET in str(request.body)


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
