"""The scripted provider says what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, ModelRequest, Reasoning, Text, ToolCall, Usage
from tasks.providers.scripted import ScriptedProvider


def request(*, content: Any = "Hello there", model: str | None = None, **params: Any) -> ModelRequest:
    """Return what the provider is asked."""
    return ModelRequest(({"role": "user", "content": content},), model, params)


async def said(asked: ModelRequest, limit: int | None = None) -> list[Delta]:
    """Return all that it says, or so many deltas."""
    found: list[Delta] = []
    async with aclosing(ScriptedProvider().stream(asked)) as deltas:
        async for delta in deltas:
            found.append(delta)
            if len(found) == limit:
                break
    return found


async def test_without_a_script_it_echoes_word_by_word() -> None:
    """The last message; the pieces make the whole."""
    assert await said(request()) == [Text("You"), Text(" said:"), Text(" Hello"), Text(" there")]


async def test_a_script_is_said_step_by_step() -> None:
    """One delta for each thing that can be said, in order."""
    script = [
        {"reasoning": "Hm."},
        {"text": "a", "repeat": 3},
        {"wait": 0},
        {"tool_call": {"id": "c", "name": "clock"}},
        {"usage": [1, 2]},
        {"finish": "length"},
    ]
    told = [Reasoning("Hm."), *[Text("a")] * 3, ToolCall("c", "clock", "{}"), Usage(1, 2), Finish("length")]
    assert await said(request(script=script)) == told == await said(request(script=script))


async def test_an_empty_script_says_nothing() -> None:
    """It is a script, too."""
    assert await said(request(script=[])) == []


async def test_it_fails_as_told_after_what_it_has_said() -> None:
    """With the code, message and retryable of the script."""
    fail = {"code": "rate_limited", "message": "Busy.", "retryable": True}
    deltas = ScriptedProvider().stream(request(script=[{"text": "a"}, {"fail": fail}]))
    assert await anext(deltas) == Text("a")
    with pytest.raises(ProviderError) as caught:
        await anext(deltas)
    assert (caught.value.code, caught.value.message, caught.value.retryable) == ("rate_limited", "Busy.", True)


async def test_it_crashes_as_told() -> None:
    """As a bug in a provider would: with an error that is not ours."""
    with pytest.raises(RuntimeError):
        await said(request(script=[{"crash": True}]))


async def test_its_silence_can_be_cancelled() -> None:
    """As every wait of a provider."""
    task = asyncio.create_task(said(request(script=[{"text": "a"}, {"silent": True}])))
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_pace_is_waited_before_each_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many seconds."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await said(request(script=[{"text": "a", "repeat": 2}, {"wait": 7}], pace=0.5))
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
async def test_a_wrong_script_is_refused_with_its_place(params: dict[str, Any], where: str) -> None:
    """Before anything is said."""
    with pytest.raises(ProviderError) as caught:
        await said(request(**params))
    assert caught.value.code == "invalid_request"
    assert where in caught.value.message


async def test_another_model_is_refused() -> None:
    """Its only model is `scripted`; params of other providers are passed over."""
    assert await said(request(model="scripted", max_tokens=5), limit=1) == [Text("You")]
    with pytest.raises(ProviderError) as caught:
        await said(request(model="gpt-7"))
    assert caught.value.code == "model_not_found"
