"""The model server of the chaos suite: it sends what the request says, and its records are true."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from support.models.paced_model_process import ModelProcess
from support.waiting import eventually

from chunkspool import Settings
from chunkspool.errors import ProviderError
from chunkspool.provider import Finish, ModelRequest, SignOfLife, Text
from chunkspool.tasks.providers.openai_api import OpenAIProvider

ASKED = {"role": "user", "content": "Say it."}
NAMED = SignOfLife(model="paced")
"""What comes before the first piece: which model it is."""


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ModelProcess]:
    """Give a running model server."""
    model = ModelProcess.start(sys.executable, tmp_path)
    yield model
    model.stop()


@pytest.fixture
async def provider(model: ModelProcess) -> AsyncIterator[OpenAIProvider]:
    """Give the provider that workers use."""
    settings = Settings.checked({"openai_base_url": model.base_url, "openai_api_key": "worker-1"})
    provider = OpenAIProvider(settings)
    yield provider
    await provider.aclose()


def request(*messages: dict[str, Any], **paced: Any) -> ModelRequest:
    """Return a request."""
    return ModelRequest((ASKED, *messages), None, {"paced": paced})


async def test_it_sends_what_the_request_says(provider: OpenAIProvider, model: ModelProcess) -> None:
    """Every piece names its call, and the record has prompt, key and text."""
    said = [delta async for delta in provider.stream(request(pieces=3))]
    assert said == [NAMED, Text("<1.0>"), Text("<1.1>"), Text("<1.2>"), Finish("stop")]
    (call,) = model.fetch_calls()
    assert (call.number, call.key, call.prompt, call.prefix) == (1, "worker-1", "Say it.", "")
    assert call.pieces == ["<1.0>", "<1.1>", "<1.2>"]
    assert call.finished is not None
    assert call.closed is None


async def test_it_sees_its_connection_closed(provider: OpenAIProvider, model: ModelProcess) -> None:
    """Also while it is silent; the record has what it had sent until then."""
    async with aclosing(provider.stream(request(pieces=5, silent_after=1))) as deltas:
        assert [await anext(deltas), await anext(deltas)] == [NAMED, Text("<1.0>")]
        assert not model.fetch_calls()[0].ended
    # In a thread: the client's loop closes the connection in its next round.
    call = await asyncio.to_thread(eventually, lambda: next((one for one in model.fetch_calls() if one.closed), None))
    assert call is not None
    assert call.pieces == ["<1.0>"]
    assert call.finished is None


async def test_it_continues_a_text(provider: OpenAIProvider, model: ModelProcess) -> None:
    """A last message of the assistant is in the record, and its pieces are not sent again."""
    so_far = {"role": "assistant", "content": "<7.0><7.1>"}
    said = [delta async for delta in provider.stream(request(so_far, pieces=4))]
    assert said == [NAMED, Text("<1.2>"), Text("<1.3>"), Finish("stop")]
    assert model.fetch_calls()[0].prefix == "<7.0><7.1>"


async def test_it_refuses_to_continue_if_the_request_says_so(provider: OpenAIProvider, model: ModelProcess) -> None:
    """The record shows a refused call, which nobody pays for."""
    with pytest.raises(ProviderError):
        await anext(provider.stream(request({"role": "assistant", "content": "<7.0>"}, refuse_continuing=True)))
    (call,) = model.fetch_calls()
    assert (call.refused, call.pieces) == (True, [])
