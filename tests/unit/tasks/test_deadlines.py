"""An attempt is limited in its length, in the wait for its first token, and in its silences."""

from __future__ import annotations

import asyncio

import pytest

from chunkspool.errors import ProviderError
from chunkspool.settings import Settings
from chunkspool.tasks.deadlines import Deadlines

LONG = 60


def settings(**values: float) -> Settings:
    """Return settings with long time-outs, except for those given."""
    return Settings.checked({"deadline": LONG, "first_token_timeout": LONG, "idle_timeout": LONG, **values})


@pytest.mark.parametrize("code", ["deadline", "first_token_timeout", "idle_timeout"])
async def test_each_clock_has_its_own_code(code: str) -> None:
    """The block is cancelled, and the error names the clock and is retryable."""
    cancelled = False
    with pytest.raises(ProviderError) as raised:
        async with Deadlines(settings(**{code: 0.02})) as deadlines:
            if code == "idle_timeout":
                deadlines.note_delta()
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                cancelled = True
                raise
    assert cancelled
    assert (raised.value.code, raised.value.retryable) == (code, True)
    assert "0.02 seconds" in raised.value.message


async def test_a_model_that_sends_is_not_idle() -> None:
    """Each delta restarts the idle clock; only the silence after the last one is too long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ProviderError, match="idle_timeout"):
        async with Deadlines(settings(first_token_timeout=5, idle_timeout=0.2)) as deadlines:
            for _ in range(10):
                await asyncio.sleep(0.05)
                deadlines.note_delta()
            await asyncio.sleep(LONG)
    assert loop.time() - began >= 10 * 0.05 + 0.2


@pytest.mark.parametrize("progress", [True, False])
async def test_a_server_that_sends_anything_is_not_silent(progress: bool) -> None:
    """Pieces of a tool call and keep-alives restart the clock of silence, before the first word and after it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ProviderError, match="idle_timeout" if progress else "first_token_timeout"):
        async with Deadlines(settings(first_token_timeout=1, idle_timeout=1)) as deadlines:
            for _ in range(6):
                await asyncio.sleep(0.2)
                deadlines.note_sign_of_life(progress=progress)
            await asyncio.sleep(LONG)
    assert loop.time() - began >= 6 * 0.2 + 1


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_server_that_only_sends_keep_alives_is_given_up(has_begun: bool) -> None:
    """A clock of its own bounds it, before the first word and after it."""
    with pytest.raises(ProviderError, match="keepalive_timeout.*nothing but keep-alives for 1.5 seconds") as raised:
        async with Deadlines(settings(first_token_timeout=1, idle_timeout=1, keepalive_timeout=1.5)) as deadlines:
            if has_begun:
                deadlines.note_delta()
            while True:
                await asyncio.sleep(0.01)
                deadlines.note_sign_of_life(progress=False)
    assert raised.value.retryable


async def test_keep_alives_make_no_silence_shorter() -> None:
    """Who allows a longer silence than `keepalive_timeout` gets it."""
    with pytest.raises(ProviderError, match="idle_timeout.*silent for 0.2 seconds"):
        async with Deadlines(settings(idle_timeout=0.2, keepalive_timeout=0.01)) as deadlines:
            deadlines.note_delta()
            await asyncio.sleep(LONG)


async def test_in_time_nothing_happens() -> None:
    """The block's own errors pass unchanged, and no timer is left to cancel what comes after the block."""
    async with Deadlines(settings(deadline=0.05)) as deadlines:
        deadlines.note_delta()
    with pytest.raises(TimeoutError):
        async with Deadlines(settings(deadline=0.05)):
            raise TimeoutError
    await asyncio.sleep(0.1)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_is_not_taken_for_a_deadline() -> None:
    """A stop cancels the same task and must not appear as a time-out."""

    async def attempt() -> None:
        async with Deadlines(settings()):
            await asyncio.sleep(LONG)

    task = asyncio.create_task(attempt())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
