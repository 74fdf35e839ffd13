"""Somebody's tests, which use the fixtures of the pytest plugin: test_pytest_plugin.py runs them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, current_app
from kombu.transport.memory import Channel, Transport
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Settings, Spool
from chunkspool.errors import ChatNotFound
from chunkspool.tasks import generation_task as runtime_of
from chunkspool.testing import answer_of, answers_of, assert_answers, read_to_end
from chunkspool.testing.model import ScriptedModel
from chunkspool.testing.worker import Worker
from chunkspool.worker import generation_task

started = threading.Event()


@generation_task(name="users.shout")
async def shout(out: Producer) -> None:
    """Answer as a coroutine."""
    out.text(str(out.request.messages[-1]["content"]).upper())
    await out.drain()


@generation_task(name="users.broken")
def broken(out: Producer) -> None:
    """Raise in the middle of an answer."""
    out.text("half ")
    raise LookupError("somebody's bug")


@generation_task(name="users.endless")
def endless(out: Producer) -> None:
    """Write until stopped."""
    while True:
        out.text(".")
        started.set()
        threading.Event().wait(0.01)


def _state() -> tuple[Any, ...]:
    """Return what a test could leave behind in its process."""
    threads = {thread.name for thread in threading.enumerate()}
    exchanges, bindings = Transport.global_state.exchanges, Transport.global_state.bindings
    app = current_app._get_current_object()  # noqa: SLF001 - Celery's name for it
    return threads, set(Channel.queues), set(exchanges), set(bindings), id(app), id(runtime_of._runtime)  # noqa: SLF001


@pytest.fixture(autouse=True)
def nothing_is_left(chunkspool_server: str) -> Iterator[None]:
    """Check that the fixtures of a test are gone after it: made before them, this one ends after them."""
    assert chunkspool_server
    before = _state()
    yield
    eventually(lambda: _state() == before)  # a thread that was told to end may need a moment


def test_a_scripted_model_answers(
    chunkspool_spool: Spool, chunkspool_worker: Worker, chunkspool_model: ScriptedModel
) -> None:
    """Scripts come in their order, whatever model and params a request names; without one it echoes."""
    chunkspool_model.will_say("Good ", {"reasoning": "hm"}, {"usage": [3, 4]}, "morning")
    chunkspool_model.will_fail("rate_limited", "Too many.", retryable=True)
    for _ in range(3):
        chunkspool_spool.enqueue("chat", "hello", model="gpt-9", params={"temperature": 1})
        read_to_end(chunkspool_spool, "chat")
    first, failed, echo = answers_of(chunkspool_spool, "chat")
    assert (first.text, first.reasoning, first.state) == ("Good morning", "hm", "completed")
    assert (failed.state, failed.error_code, failed.error) == ("failed", "rate_limited", "Too many.")
    assert echo.text == "You said: hello"
    assert [request.model for request in chunkspool_model.requests] == ["gpt-9"] * 3
    assert chunkspool_worker.errors != []


@pytest.mark.chunkspool(task="users.shout")
def test_a_coroutine_answers(
    chunkspool_settings: Settings, chunkspool_broker: Celery, chunkspool_worker: Worker
) -> None:
    """A task that is `async def`, asked by an async web app."""

    async def ask() -> str:
        async with AsyncSpool.from_settings(chunkspool_settings, celery_app=chunkspool_broker) as spool:
            asked = await spool.enqueue("chat", "hello")
            async with spool.subscribe("chat", after=asked.after) as entries:
                return "".join([e.event.text for e in [e async for e in entries] if e.type == "text.delta"])  # type: ignore[union-attr]

    assert asyncio.run(ask()) == "HELLO"
    assert chunkspool_worker.errors == []


def test_nothing_is_asked(chunkspool_spool: Spool) -> None:
    """A test of a request that is refused."""
    with pytest.raises(ChatNotFound):
        chunkspool_spool.status("chat")


@pytest.mark.chunkspool(task="users.broken")
def test_a_bug_is_shown(chunkspool_spool: Spool, chunkspool_worker: Worker) -> None:
    """The answer failed; the test sees the exception itself, and how the conversation went."""
    asked = chunkspool_spool.enqueue("chat", "hello")
    answer = answer_of(chunkspool_spool, "chat", asked.generation_id)
    assert (answer.text, answer.state) == ("half ", "failed")
    with pytest.raises(AssertionError, match=r"completed: 'whole'\nand found\n  failed: 'half '"):
        assert_answers(chunkspool_spool, "chat", "whole")
    with pytest.raises(AssertionError, match="has no answer of generation 'other'"):
        answer_of(chunkspool_spool, "chat", "other")
    while not chunkspool_worker.errors:  # noted when the task has returned, after the ending
        threading.Event().wait(0.01)
    assert [repr(error) for error in chunkspool_worker.errors] == ['LookupError("somebody\'s bug")']


@pytest.mark.chunkspool(task="users.endless")
@pytest.mark.usefixtures("chunkspool_worker")
def test_a_stop_arrives(chunkspool_spool: Spool) -> None:
    """What runs is stopped as in production."""
    started.clear()
    chunkspool_spool.enqueue("chat", "hello")
    assert started.wait(10)
    chunkspool_spool.stop("chat")
    assert answer_of(chunkspool_spool, "chat").state == "stopped"


@pytest.mark.chunkspool(task="users.endless")
@pytest.mark.usefixtures("chunkspool_worker")
def test_what_still_runs_ends_with_the_test(chunkspool_spool: Spool) -> None:
    """The worker releases it; `nothing_is_left` looks."""
    started.clear()
    chunkspool_spool.enqueue("chat", "hello")
    assert started.wait(10)
    with pytest.raises(
        AssertionError, match=r"has not ended after 0\.1 seconds: generation [\w-]+ is (running|stalled)$"
    ):
        read_to_end(chunkspool_spool, "chat", timeout=0.1)


def test_without_a_worker_it_waits(chunkspool_spool: Spool) -> None:
    """And whoever waits for the answer is told what may be missing."""
    chunkspool_spool.enqueue("chat", "hello")
    with pytest.raises(AssertionError, match="is queued; does the test use the fixture chunkspool_worker"):
        read_to_end(chunkspool_spool, "chat", timeout=0.1)


@pytest.mark.chunkspool(task="users.nowhere")
@pytest.mark.usefixtures("chunkspool_worker")
def test_a_task_that_nobody_imported(chunkspool_spool: Spool) -> None:
    """It is said in the answer, at once."""
    chunkspool_spool.enqueue("chat", "hello")
    answer = answer_of(chunkspool_spool, "chat")
    assert (answer.state, answer.error_code) == ("failed", "no_such_task")
    assert "'users.nowhere'" in (answer.error or "")


@pytest.mark.chunkspool(max_active=20)
@pytest.mark.usefixtures("chunkspool_worker")
def test_more_than_there_are_slots(chunkspool_spool: Spool) -> None:
    """Generations take turns."""
    for number in range(20):
        chunkspool_spool.enqueue(f"chat-{number}", "hello")
    for number in range(20):
        assert_answers(chunkspool_spool, f"chat-{number}", "You said: hello")


class TestOwnApp:
    """Tests with an app of their own, whose broker does not exist."""

    @pytest.fixture
    def chunkspool_app(self) -> Iterator[Celery]:
        """Give an app with tasks that only it has."""
        app = Celery("users", broker="redis://nowhere.invalid:1/0", set_as_current=False)

        @app.task(name="users.plain")
        def plain(tenant: str, chat_id: str, generation_id: str) -> None:
            with Spool.from_settings(self.settings) as all_tenants:
                spool = all_tenants.for_tenant(tenant)
                with spool.produce(chat_id, generation_id) as out:
                    out.text("plain")

        yield app
        app.close()

    @pytest.mark.chunkspool(task="users.plain")
    def test_its_tasks_run(
        self, chunkspool_settings: Settings, chunkspool_spool: Spool, chunkspool_worker: Worker
    ) -> None:
        """Those of `@app.task`, too."""
        type(self).settings = chunkspool_settings
        chunkspool_spool.enqueue("chat", "hello")
        assert_answers(chunkspool_spool, "chat", "plain")
        assert chunkspool_worker.errors == []

    settings: Settings
