"""A process that waits for a generation handles its signals, also one that did not wake it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chunkspool import Settings
from chunkspool.tasks.runtime import Runtime


class SignalHandled(Exception):
    """The signal's handler has run."""


def handle_signal(*_: object) -> None:
    """Handle the signal."""
    raise SignalHandled


async def kill_ourselves() -> None:
    """Send the signal from the loop's thread, which receives it because the main thread blocks it. Then stay silent.

    That is how things stand after a signal has arrived just before the main thread went to sleep: Python has noted
    it, its handler waits for the main thread, and nothing has woken that.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.Event().wait()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """Give a runtime that connects nowhere."""
    made = Runtime(Settings.checked({"provider": "scripted"}), lambda: True)
    yield made
    made.close()


@pytest.fixture
def _main_thread_not_woken() -> Iterator[None]:
    """Handle the signal in the main thread, but have it delivered to another one."""
    before = signal.signal(signal.SIGUSR1, handle_signal)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("_main_thread_not_woken")
def test_a_signal_that_wakes_nobody_is_handled(runtime: Runtime) -> None:
    """A solo worker and a prefork child handle it while they wait for a silent model."""
    with pytest.raises(SignalHandled):
        runtime.run(kill_ourselves())


def test_a_thread_of_a_pool_sleeps_until_its_generation_has_ended(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no signals. A thousand that woke up in between took more of a core than their generations."""
    waits = list[object]()
    monkeypatch.setattr(concurrent.futures, "wait", lambda *_: waits.append(_))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(runtime.run, asyncio.sleep(0.01, "done")).result(20) == "done"
    assert waits == []
