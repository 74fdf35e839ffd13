"""Tells the schedule what begins and ends in this process, and hands over whose turn it is then."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis

from chunkspool.effects import Effect, Pause, Publish, SendAll, Tell, drive
from chunkspool.errors import BrokerRefused, GenerationNotFound, NotClaimed, StoreRefused
from chunkspool.observer import NOBODY, Observer
from chunkspool.operations.schedule import schedule
from chunkspool.per_process import PerProcess
from chunkspool.producing.producer import Producer
from chunkspool.retry import RetryBudget
from chunkspool.settings import Settings
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.states import ENDED
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys
from chunkspool.store.log_size import LogSize
from chunkspool.store.schedule import NOTES_MAX, Note

_LOG = logging.getLogger(__name__)
GATHER = 0.003
"""Seconds that notes are gathered: where hundreds begin and end in a second, one call tells of several."""
KEPT_MAX = 10_000
"""Notes that are kept while Redis is away; what is dropped, the sweep finds."""
CLOSE_SECONDS = 5.0


class Scheduler:
    """Its thread starts with the first note; in a forked child it starts again."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        dispatcher: Dispatcher | None,
        observer: Observer = NOBODY,
        on_outcome: Callable[[ChatKeys], None] = lambda _keys: None,
    ) -> None:
        """`client` and `dispatcher` stay their owner's to close. Without a dispatcher, it hands nothing over.

        `on_outcome` is told of chats in which something has ended here whose outcome is to be told.
        """
        self._client = client
        self._on_outcome = on_outcome
        self._settings = settings
        self._dispatcher = dispatcher
        self._observer = observer
        self._thread = PerProcess(self._start)

    def note(self, *notes: Note) -> None:
        """Tell of it soon; never wait for Redis."""
        self._thread.get().add(notes)

    @contextmanager
    def follow(self, keys: ChatKeys, generation_id: str) -> Iterator[Followed]:
        """Within the block, a generation is claimed and written; its beginning and its end are noted."""
        followed = Followed(self, keys.member(generation_id))
        try:
            yield followed
        except GenerationNotFound:
            self.note(("end", followed.member))
            raise
        except NotClaimed as error:
            if error.outcome != "held":
                self.note(("behind" if error.outcome == "behind" else "end", followed.member))
            raise
        finally:
            if followed.has_ended:
                self.note(("end", followed.member, followed.log_size))
            if followed.outcome_wanted:
                self._on_outcome(keys)

    def close(self) -> None:
        """Tell what is noted, if Redis is there, and end the thread."""
        thread = self._thread.take()
        if thread is not None:
            thread.close()

    def _start(self) -> _Thread:
        thread = _Thread(self._client, self._settings, self._dispatcher, self._observer)
        thread.start()
        return thread


class Followed:
    """One generation, as long as this process has it."""

    def __init__(self, scheduler: Scheduler, member: str) -> None:
        """Begin before it is claimed."""
        self.member = member
        self._scheduler = scheduler
        self._producer: Producer | None = None

    def note_claimed(self, producer: Producer) -> Producer:
        """Note that it was claimed; return its producer."""
        self._producer = producer
        self._scheduler.note(("run", self.member))
        return producer

    @property
    def log_size(self) -> LogSize | None:
        """What the chat's log took when its ending was written."""
        return None if self._producer is None else self._producer.log_size

    @property
    def outcome_wanted(self) -> bool:
        """Whether its outcome is to be told."""
        return self._producer is not None and self._producer.outcome_wanted

    @property
    def has_ended(self) -> bool:
        """Whether its ending is written."""
        return self._producer is not None and self._producer.state in ENDED


class _Thread:
    """The thread of one process."""

    def __init__(
        self, client: redis.Redis, settings: Settings, dispatcher: Dispatcher | None, observer: Observer
    ) -> None:
        """Start nothing yet."""
        self._observer = observer
        self._store = Store(client, patient=False, observer=observer)
        self._settings = settings
        self._dispatcher = dispatcher
        self._notes: deque[Note] = deque(maxlen=KEPT_MAX)
        self._told = ""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._retry = RetryBudget()
        self._thread = threading.Thread(target=self._run, name="chunkspool-schedule", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, notes: tuple[Note, ...]) -> None:
        """Take notes."""
        self._notes.extend(notes)
        self._wake.set()

    def close(self) -> None:
        """Tell what is noted and end."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            is_last = self._closing.is_set()
            if not is_last:
                self._closing.wait(GATHER)
            while self._notes:
                if not self._tell() and self._closing.is_set():
                    return  # the sweep will find it
            if is_last:
                return

    def _tell(self) -> bool:
        notes = [self._notes.popleft() for _ in range(min(len(self._notes), NOTES_MAX))]
        try:
            drive(schedule(self._settings, notes, publishes=self._dispatcher is not None), self._perform)
        except Exception as error:  # noqa: BLE001 - redis-py's own, too, where a connection is closed under it: the thread lives on
            self._tell_people(error)
            # Whatever came of it: each note says what is so, and may be said twice. Those that do not fit any more are
            # the oldest, and the sweep finds them.
            self._notes.extendleft(reversed(notes[: KEPT_MAX - len(self._notes)]))
            self._closing.wait(self._retry.pause())
            return False
        self._retry.renew()
        self._told = ""
        return True

    def _tell_people(self, error: Exception) -> None:
        """Say once what only a person can mend: a right or a password that is wrong keeps others waiting."""
        if not isinstance(error, StoreRefused | BrokerRefused):
            return
        reason = getattr(error, "right", "") or type(error).__name__  # the text names a generation, each time another
        if reason != self._told:
            self._told = reason
            _LOG.error("the generations that wait are not handed to the workers from here: %s", error)

    def _perform(self, effect: Effect) -> object:
        if isinstance(effect, Publish):
            if self._dispatcher is not None:
                self._dispatcher.publish(effect.tenant, effect.chat_id, effect.generation_id, effect.queue, effect.task)
            return None
        if isinstance(effect, Tell):
            self._observer.observe(effect.observation)
            return None
        if isinstance(effect, SendAll):
            return self._store.send_all(effect.transactions, at_once=False)
        if isinstance(effect, Pause):
            with suppress(InterruptedError):
                time.sleep(effect.seconds)
            return None
        return self._store.send(effect)
