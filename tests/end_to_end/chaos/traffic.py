"""The people of a run: some ask and stop, some read. asyncio, in its own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from end_to_end.chaos.faults import now_ms
from end_to_end.chaos.plan import QUEUES, GenerationPlan, Plan
from end_to_end.chaos.readers import ChaosReader, ChatProgress
from support.checker.observations import Reading

from chunkspool import AsyncSpool, Settings
from chunkspool.errors import ChatNotFound, EnqueueFailed, GenerationNotFound, StoreError
from chunkspool.states import OnActive

T = TypeVar("T")
RETRY = 0.3


@dataclass(slots=True)
class Question:
    """The outcome of one planned generation, as its user saw it."""

    plan: GenerationPlan
    generation_id: str = ""
    failed_ids: list[str] = field(default_factory=list)
    """Generations that could not be enqueued, according to the error."""
    store_failed: bool = False
    """Whether Redis was unreachable during the enqueue: then it may have failed, and its user asked again."""
    asked_at: int = 0
    """When the enqueue had succeeded, in Unix ms."""
    stop: str = ""
    """The stop's outcome: "stopped", "stopping" or "ended", "gone" for a generation that is not there; "": no stop."""
    stopped_at: int = 0
    """When the stop was answered, in Unix ms."""
    waits: bool = False
    """Whether it waits for those before it in its chat, instead of being answered beside them."""


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What the people of a run saw."""

    questions: tuple[Question, ...]
    readings: dict[str, tuple[Reading, ...]]
    retries: int
    """How often somebody had to retry because Redis was unreachable."""


class Traffic:
    """All people of one deployment of a plan."""

    def __init__(self, plan: Plan, db: int, url: str) -> None:
        """Do nothing before `start`. `db`: the deployment."""
        self._plan = plan
        self._db = db
        self._settings = Settings.checked({"redis_url": url})
        self._url = url
        self._questions = tuple(
            Question(generation, waits=number % 2 == 1) for number, generation in enumerate(plan.deployments[db])
        )
        self._readers: list[ChaosReader] = []
        self._retries = 0
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        """Start the traffic."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether everybody has finished."""
        return not self._thread.is_alive()

    def close(self) -> TrafficReport:
        """Cancel whatever still waits, and return what everybody saw."""
        self._closing.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        readings: dict[str, tuple[Reading, ...]] = {}
        for reader in self._readers:
            readings[reader.progress.chat] = (*readings.get(reader.progress.chat, ()), *reader.readings)
        return TrafficReport(self._questions, readings, self._retries + sum(reader.retries for reader in self._readers))

    def _run(self) -> None:
        try:
            asyncio.run(self._run_everybody())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error

    async def _run_everybody(self) -> None:
        progress_of = {question.plan.chat: ChatProgress(question.plan.chat) for question in self._questions}
        async with AsyncExitStack() as spools:
            users = {queue: await spools.enter_async_context(self._spool_of(queue)) for queue in QUEUES}
            # Each reader of a chat is on its own web pod.
            for number in range(self._plan.scale.readers):
                pod = await spools.enter_async_context(AsyncSpool.from_settings(self._settings))
                for chat, progress in progress_of.items():
                    name = f"reader-{number}"
                    self._readers.append(ChaosReader(name, progress, pod, self._plan.rng(self._db, chat, name)))
            tasks = [
                asyncio.ensure_future(self._ask(users[question.plan.queue], question, progress_of))
                for question in self._questions
            ]
            tasks += [asyncio.ensure_future(reader.run()) for reader in self._readers]
            await self._wait(tasks)

    def _spool_of(self, queue: str) -> AsyncSpool:
        return AsyncSpool.from_settings(Settings.checked({"redis_url": self._url, "queue": queue}))

    async def _wait(self, tasks: list[asyncio.Task[None]]) -> None:
        pending = set(tasks)
        while pending and not self._closing.is_set():
            done, pending = await asyncio.wait(pending, timeout=RETRY, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        for task in pending:
            task.cancel()
        for ending in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ending, Exception):
                raise ending

    async def _ask(self, spool: AsyncSpool, question: Question, progress_of: dict[str, ChatProgress]) -> None:
        await asyncio.sleep(question.plan.at)
        progress = progress_of[question.plan.chat]
        await self._retry(lambda: self._enqueue(spool, question), question)
        progress.exists.set()
        if all(other.generation_id for other in self._questions if other.plan.chat == progress.chat):
            progress.all_asked.set()
        if question.plan.stop_after is not None:
            await asyncio.sleep(question.plan.stop_after)
            question.stop = await self._retry(lambda: self._stop(spool, progress.chat, question.generation_id))
            question.stopped_at = now_ms()

    async def _stop(self, spool: AsyncSpool, chat: str, generation_id: str) -> str:
        try:
            (stop,) = await spool.stop(chat, generation_id)
        except (ChatNotFound, GenerationNotFound):
            return "gone"
        return stop.outcome

    async def _enqueue(self, spool: AsyncSpool, question: Question) -> None:
        asked = question.plan
        params = {"paced": {"pieces": asked.pieces, "pace": asked.pace, "refuse_continuing": asked.refuses}}
        on_active: OnActive = "queue" if question.waits else "allow"
        generation = await spool.enqueue(
            asked.chat, asked.name, params=params, request_id=asked.name, on_active=on_active
        )
        question.generation_id = generation.generation_id
        question.asked_at = now_ms()

    async def _retry(self, do: Callable[[], Awaitable[T]], question: Question | None = None) -> T:
        """Do it as often as necessary: a user presses the button again."""
        while True:
            try:
                return await do()
            except (StoreError, EnqueueFailed) as error:
                self._retries += 1
                if question is not None:
                    question.store_failed = True
                    question.failed_ids += [error.generation_id] if isinstance(error, EnqueueFailed) else []
                await asyncio.sleep(RETRY)
