"""A process that waits for a generation hears its signals, also one that did not wake it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from chunkspool import Settings
from tasks.runtime import Runtime


class Heard(Exception):
    """The signal's handler was carried out."""


def say_so(*_: object) -> None:
    """Handle the signal."""
    raise Heard


async def kill_ourselves() -> None:
    """Send the signal from the loop's thread, which must take it: the main one blocks it. Then say nothing more.

    This is the state that a signal leaves which arrives in the moment before the main thread falls asleep: it is
    noted, its handler waits for the main thread, and that was not woken.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.Event().wait()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """Give a runtime; nothing of it connects."""
    made = Runtime(Settings.checked({"provider": "scripted"}))
    yield made
    made.close()


@pytest.fixture
def _unwoken() -> Iterator[None]:
    """Have the signal handled here, but delivered elsewhere."""
    before = signal.signal(signal.SIGUSR1, say_so)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("_unwoken")
def test_a_signal_that_wakes_nobody_is_heard(runtime: Runtime) -> None:
    """A solo worker and a prefork child carry it out while a silent model is waited for."""
    with pytest.raises(Heard):
        runtime.run(kill_ourselves())
