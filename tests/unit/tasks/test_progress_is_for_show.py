"""Progress changes nothing but what Celery's monitors show of a running task, and nobody waits for it."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.events.event import Event
from celery.events.state import State
from support.waiting import eventually

from chunkspool import Producer
from chunkspool.producing.tally import Tally
from chunkspool.tasks import progress
from chunkspool.tasks.progress import ProgressReporter
from chunkspool.tasks.progress_events import EVENT, Progress

TASK = "0" * 32
CLOCK = count(1)


def tell(state: State, kind: str, **fields: Any) -> None:
    """Let a monitor receive an event."""
    received = {"uuid": TASK, "hostname": "w@host", "pid": 1, "clock": next(CLOCK), "local_received": time.time()}
    state.event(Event(kind, **received, **fields))


def tell_progress(state: State, kind: str = EVENT) -> None:
    """Let a monitor receive how far the task is."""
    fields = Progress(TASK, "chunkspool.generate", 412, 430, 38.4).fields()
    tell(state, kind, **{name: value for name, value in fields.items() if name != "uuid"})


@pytest.mark.parametrize("kind", ["received", "started", "succeeded", "failed", "revoked", "rejected", "retried"])
def test_no_state_changes(kind: str) -> None:
    """Whatever the state of a task that has started is, and whatever comes next: it is as if nothing had been told."""
    with_it, without = State(), State()
    for state in (with_it, without):
        tell(state, "task-received", name="chunkspool.generate")
        tell(state, "task-started", timestamp=1.0)
        if state is with_it:
            tell_progress(state)
            assert (state.tasks[TASK].state, state.tasks[TASK].started) == ("STARTED", 1.0)
            assert state.tasks[TASK].result == "412 chunks, 38 tokens/s"
        tell(state, f"task-{kind}")
        if state is with_it and kind != "retried":
            tell_progress(state)
    assert with_it.tasks[TASK].state == without.tasks[TASK].state


def test_a_state_can_be_kept() -> None:
    """Flower pickles it into its database."""
    state = State()
    tell_progress(state)
    kept = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
    assert kept.tasks[TASK].result == "412 chunks, 38 tokens/s"


def test_why_its_type_is_no_word_of_ours() -> None:
    """Celery makes a state of such a word, which a revoke does not replace."""
    state = State()
    tell(state, "task-started")
    tell_progress(state, "task-progress")
    tell(state, "task-revoked")
    assert state.tasks[TASK].state == "PROGRESS"


class Broker:
    """Takes what is sent, or freezes, or refuses it."""

    def __init__(self) -> None:
        """Begin well."""
        self.taken: list[tuple[float, Progress]] = []
        self.tries = 0
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def send(self, told: list[Progress]) -> None:
        """Take it."""
        self.tries += 1
        self.open.wait()
        if self.error is not None:
            raise self.error
        self.taken += [(time.monotonic(), one) for one in told]

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let seconds pass twenty times as fast."""
    for name in ("INTERVAL", "PAUSE", "IDLE"):
        monkeypatch.setattr(progress, name, getattr(progress, name) / 20)


@pytest.fixture
def broker() -> Iterator[Broker]:
    """Give a broker; nobody waits for it after the test."""
    broker = Broker()
    yield broker
    broker.open.set()


def saying(tally: Tally) -> Producer:
    """Return what counts as a producer here."""
    return cast("Producer", SimpleNamespace(tally=tally))


def test_a_frozen_broker_holds_nobody_up(broker: Broker) -> None:
    """A task that ends waits half a second at most, for its own event; others do not wait at all."""
    broker.open.clear()
    reporter, tally = ProgressReporter(broker), Tally()
    with reporter.follow("a", "task", lambda: True) as note:
        note(saying(tally))
        tally.add("word")
        eventually(lambda: broker.tries)
        began = time.monotonic()
        with reporter.follow("b", "task", lambda: True) as other:
            other(saying(Tally()))
        assert time.monotonic() - began < 0.2
    assert time.monotonic() - began < 1.5


def test_a_broker_that_refuses_is_left_alone(broker: Broker) -> None:
    """For a while; then it is told how far the task is by then."""
    broker.error = OSError("away")
    reporter, tally = ProgressReporter(broker), Tally()
    with reporter.follow("a", "task", lambda: True) as note:
        note(saying(tally))
        tally.add("word")
        eventually(lambda: broker.tries == 1)
        broker.error = None
        tally.add("word")
        began = time.monotonic()
        eventually(lambda: broker.taken)
        assert time.monotonic() - began > progress.PAUSE / 2
    assert broker.taken[-1][1].chunks == 2


def test_a_standstill_is_told_once(broker: Broker) -> None:
    """And the model's own count of tokens takes the place of the estimate."""
    reporter, tally = ProgressReporter(broker), Tally()
    with reporter.follow("a", "task", lambda: True) as note:
        note(saying(tally))
        for _ in range(3):
            tally.add("eightletters")
        eventually(lambda: broker.taken and broker.taken[-1][1].tokens_per_second == 0)
        tally.output_tokens = 12
        eventually(lambda: broker.taken[-1][1].tokens == 12)
        eventually(lambda: broker.taken[-1][1].tokens_per_second == 0)
        told = len(broker.taken)
        threading.Event().wait(progress.INTERVAL * 5)
    assert [one.tokens for _, one in broker.taken] == [9, 9, 12, 12]
    assert len(broker.taken) == told == 4


def test_its_thread_ends_and_begins_again(broker: Broker) -> None:
    """With nothing to tell it has no connection and costs nothing."""
    reporter = ProgressReporter(broker)
    for expected in (1, 2):
        tally = Tally()
        with reporter.follow("a", "task", lambda: True) as note:
            note(saying(tally))
            tally.add("word")
            eventually(lambda expected=expected: broker.tries >= expected)
        eventually(lambda: not any(one.name == "chunkspool-progress" for one in threading.enumerate()))


def test_one_that_cannot_be_shown_hides_no_other(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is it silent: it is logged once."""
    reporter, bad, good = ProgressReporter(broker), Tally(), Tally()
    bad.output_tokens = cast("int", "7")
    good.add("word")
    with reporter.follow("a", "task", lambda: True) as note, reporter.follow("b", "task", lambda: True) as other:
        note(saying(bad))
        eventually(lambda: caplog.records)
        other(saying(good))
        eventually(lambda: broker.taken)
    assert {one.task_id for _, one in broker.taken} == {"b"}
    assert len(caplog.records) == 1


def test_nothing_is_told_of_what_was_not_claimed(broker: Broker) -> None:
    """A task that waits for another attempt, or for which nobody wants events."""
    reporter, tally = ProgressReporter(broker), Tally()
    tally.add("word")
    with reporter.follow("a", "task", lambda: True), reporter.follow("b", "task", lambda: False) as note:
        note(saying(tally))
        threading.Event().wait(progress.INTERVAL * 5)
    assert broker.tries == 0
