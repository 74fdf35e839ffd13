"""The scripted provider runs its script, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, ModelRequest, Reasoning, Text, ToolCall, Usage
from chunkspool.tasks.providers.scripted import ScriptedProvider


def request(*, content: Any = "Hello there", model: str | None = None, **params: Any) -> ModelRequest:
    """Return a request to the provider."""
    return ModelRequest(({"role": "user", "content": content},), model, params)


async def collect(asked: ModelRequest, limit: int | None = None) -> list[Delta]:
    """Return all deltas, or the first `limit` ones."""
    found: list[Delta] = []
    async with aclosing(ScriptedProvider().stream(asked)) as deltas:
        async for delta in deltas:
            found.append(delta)
            if len(found) == limit:
                break
    return found


async def test_without_a_script_it_echoes_word_by_word() -> None:
    """It echoes the last message; joined, the pieces are the whole text."""
    assert await collect(request()) == [Text("You"), Text(" said:"), Text(" Hello"), Text(" there")]


async def test_a_script_is_run_step_by_step() -> None:
    """Each kind of step yields its delta, in order."""
    script = [
        {"reasoning": "Hm."},
        {"text": "a", "repeat": 3},
        {"wait": 0},
        {"tool_call": {"id": "c", "name": "clock"}},
        {"usage": [1, 2]},
        {"finish": "length"},
    ]
    told = [Reasoning("Hm."), *[Text("a")] * 3, ToolCall("c", "clock", "{}"), Usage(1, 2), Finish("length")]
    assert await collect(request(script=script)) == told == await collect(request(script=script))


async def test_an_empty_script_yields_nothing() -> None:
    """It is not taken for a missing one, which would echo."""
    assert await collect(request(script=[])) == []


async def test_it_fails_where_the_script_says() -> None:
    """After the steps before it, with the script's code, message and retryable."""
    fail = {"code": "rate_limited", "message": "Busy.", "retryable": True}
    deltas = ScriptedProvider().stream(request(script=[{"text": "a"}, {"fail": fail}]))
    assert await anext(deltas) == Text("a")
    with pytest.raises(ProviderError) as caught:
        await anext(deltas)
    assert (caught.value.code, caught.value.message, caught.value.retryable) == ("rate_limited", "Busy.", True)


async def test_it_crashes_where_the_script_says() -> None:
    """As a bug in a provider would: with an error that is not one of ours."""
    with pytest.raises(RuntimeError):
        await collect(request(script=[{"crash": True}]))


async def test_its_silence_can_be_cancelled() -> None:
    """Like every wait of a provider."""
    task = asyncio.create_task(collect(request(script=[{"text": "a"}, {"silent": True}])))
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_pace_is_waited_before_each_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await collect(request(script=[{"text": "a", "repeat": 2}, {"wait": 7}], pace=0.5))
    assert waited == [0.5, 0.5, 0.5, 7]


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"script": "text"}, "script"),
        ({"script": [{"txt": "a"}]}, "script.0.txt"),
        ({"script": [{}]}, "exactly one"),
        ({"script": [{"text": "a", "finish": "stop"}]}, "exactly one"),
        ({"script": [{"text": "a", "repeat": 0}]}, "script.0.repeat"),
        ({"script": [{"wait": -1}]}, "script.0.wait"),
        ({"script": [{"fail": {"code": "x"}}]}, "script.0.fail.message"),
        ({"pace": "slow"}, "pace"),
    ],
)
async def test_an_invalid_script_is_rejected_with_the_place(params: dict[str, Any], where: str) -> None:
    """Before the first delta."""
    with pytest.raises(ProviderError) as caught:
        await collect(request(**params))
    assert caught.value.code == "invalid_request"
    assert where in caught.value.message


async def test_another_model_is_rejected() -> None:
    """Its only model is `scripted`; params of other providers are ignored."""
    assert await collect(request(model="scripted", max_tokens=5), limit=1) == [Text("You")]
    with pytest.raises(ProviderError) as caught:
        await collect(request(model="gpt-7"))
    assert caught.value.code == "model_not_found"
