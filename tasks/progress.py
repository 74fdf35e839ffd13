"""Tells Celery's monitors once a second how far running generations are, in a thread that nobody waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from celery.utils.log import get_logger

from chunkspool import Producer
from chunkspool.per_process import PerProcess
from chunkspool.producing.tally import Tally
from chunkspool.tasks.attempt import Note
from chunkspool.tasks.event_switch import switch_of
from chunkspool.tasks.progress_events import EventSender, Progress

logger = get_logger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two events of a generation, at least."""
PAUSE: Final = 10.0
"""Seconds without events after the broker has not taken one."""
IDLE: Final = 30.0
"""Seconds without a generation after which thread and connection end."""
PATIENCE: Final = 0.5
"""Seconds that a task that has ended waits for its last event, which would replace its result if it came later."""


class Sender(Protocol):
    """Takes what is to be sent."""

    def send(self, told: list[Progress]) -> None:
        """Send it, or raise."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(slots=True, eq=False)
class _Followed:
    """A generation that runs here."""

    task_id: str
    task_name: str
    is_wanted: Callable[[], bool]
    tally: Tally | None = None
    chunks: int = 0
    tokens: int = 0
    since: float = field(default_factory=time.monotonic)
    rate: float = 0.0
    has_failed: bool = False

    def note(self, out: Producer) -> None:
        """Take note that it was claimed."""
        self.since = time.monotonic()
        self.tally = out.tally

    def advance(self, now: float) -> Progress | None:
        """Return what is new; None if nothing is. That it has come to a standstill is told once."""
        if self.tally is None or now - self.since < INTERVAL or not self.is_wanted():
            return None
        chunks, tokens = self.tally.chunks, self.tally.tokens
        # An estimate may turn out to be too high as soon as the model has counted.
        rate = max(0, tokens - self.tokens) / (now - self.since)
        if (chunks, rate) == (self.chunks, self.rate):
            return None
        self.chunks, self.tokens, self.since, self.rate = chunks, tokens, now, rate
        return Progress(self.task_id, self.task_name, chunks, tokens, rate)


class ProgressReporter:
    """Follows the generations of a process. Its thread starts with the first and ends when there are none."""

    def __init__(self, sender: Sender) -> None:
        """Use the sender, in one thread."""
        self._sender = sender
        self._changed = threading.Condition()
        self._followed: set[_Followed] = set()
        self._sending: frozenset[_Followed] = frozenset()
        self._thread: threading.Thread | None = None

    @contextmanager
    def follow(self, task_id: str, task_name: str, is_wanted: Callable[[], bool]) -> Iterator[Note]:
        """Tell how far a task is, within the block, from the moment on when its producer is noted."""
        one = _Followed(task_id, task_name, is_wanted)
        with self._changed:
            self._followed.add(one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunkspool-progress", daemon=True)
                self._thread.start()
        try:
            yield one.note
        finally:
            with self._changed:
                self._followed.discard(one)
                self._changed.wait_for(lambda: one not in self._sending, PATIENCE)

    def _run(self) -> None:
        quiet_until = idle_since = time.monotonic()
        while True:
            time.sleep(INTERVAL)
            now = time.monotonic()
            with self._changed:
                if self._followed:
                    idle_since = now
                elif now - idle_since >= IDLE:
                    self._thread = None
                    break
                told, failures = ({}, []) if now < quiet_until else self._advance(now)
                self._sending = frozenset(told)
            for failure in failures:
                logger.error("no progress of a generation is shown any more", exc_info=failure)
            if told and not self._send(list(told.values())):
                quiet_until = time.monotonic() + PAUSE
            with self._changed:
                self._sending = frozenset()
                self._changed.notify_all()
        self._sender.close()

    def _advance(self, now: float) -> tuple[dict[_Followed, Progress], list[Exception]]:
        """Return what is new, and what went wrong: a generation that fails here is left out from then on."""
        told: dict[_Followed, Progress] = {}
        failures: list[Exception] = []
        for one in self._followed:
            if one.has_failed:
                continue
            try:
                progress = one.advance(now)
            except Exception as error:  # noqa: BLE001 - it is for show only, and other generations are shown, too
                one.has_failed = True
                failures.append(error)
            else:
                if progress is not None:
                    told[one] = progress
        return told, failures

    def _send(self, told: list[Progress]) -> bool:
        try:
            self._sender.send(told)
        except Exception as error:  # noqa: BLE001 - whatever a broker's client raises: it is for show only
            # The worker itself says that its broker is away.
            logger.debug("no progress is shown for %g seconds: %s", PAUSE, error)
            return False
        return True


class ProcessProgress:
    """The reporter of each process: threads and connections do not survive a fork."""

    def __init__(self) -> None:
        """Begin with none."""
        self._worker: tuple[Any, str] | None = None
        self._reporter = PerProcess(self._make)

    @contextmanager
    def follow(self, task: Any) -> Iterator[Note]:
        """Tell how far a running task is, if its worker sends events of tasks."""
        switch = switch_of(task.app) if task else None
        if switch is None or not task.send_events:
            yield _note_nothing
            return
        self._worker = (task.app, task.request.hostname)
        with self._reporter.get().follow(task.request.id, task.name, switch.is_on) as note:
            yield note

    def _make(self) -> ProgressReporter:
        assert self._worker is not None  # noqa: S101 - set by whoever asks for a reporter
        return ProgressReporter(EventSender(*self._worker))


def _note_nothing(_out: Producer) -> None:
    pass
