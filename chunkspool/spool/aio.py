"""The asyncio face: the same calls as the sync one, awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import JsonValue
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from chunkspool.effects import Effect, Operation, Pause, Publish, SendAll, Tell, drive_async
from chunkspool.errors import LimitExceeded, SettingsError
from chunkspool.events import Entry
from chunkspool.logs.context import logged_as
from chunkspool.observer import LimitHit, Observer, guard
from chunkspool.operations import (
    chats,
    claim,
    digests,
    enqueue,
    erase_chat,
    erase_owner,
    fork,
    keeping,
    outcomes,
    policy,
    query,
    retention,
    stats,
    stop,
)
from chunkspool.operations.schedule import schedule
from chunkspool.operations.sweep import sweep
from chunkspool.outcomes import DeadOutcome, OutcomeLag, Until
from chunkspool.policy import Policy
from chunkspool.producing.producer import Producer
from chunkspool.producing.producer_factory import ProducerFactory
from chunkspool.reading.hub_asyncio import AsyncHub
from chunkspool.reading.subscription import AsyncSubscription
from chunkspool.results import (
    ChatPage,
    ChatStatus,
    ErasedOwner,
    Fork,
    Generation,
    RetentionStep,
    Snapshot,
    Stats,
    Stop,
    Swept,
    Transcript,
)
from chunkspool.settings import Settings
from chunkspool.spool.arguments import (
    Messages,
    need_dispatcher,
    need_open,
    request_for,
    settings_from_urls,
    starting_point,
    wants_history,
)
from chunkspool.spool.digest_keeper import DigestKeeper
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.spool.equipped import warn_unless_equipped
from chunkspool.spool.outcome_relay import OutcomeRelay
from chunkspool.spool.outcome_stream import AsyncOutcomeStream, Reading
from chunkspool.spool.scheduler import Scheduler
from chunkspool.states import OnActive, Priority
from chunkspool.store.client import AsyncStore, connect, connect_async, database_of
from chunkspool.store.digests import Digest, DigestPart
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import WorkerSlots
from chunkspool.store.streams import HeldStreams
from chunkspool.tracer import Tracer
from chunkspool.tracing.choose import choose_tracer
from chunkspool.tracing.spans import trace_attempt, trace_enqueue

if TYPE_CHECKING:  # so that `import chunkspool` does not load Celery
    from celery import Celery

T = TypeVar("T")


class AsyncSpool:
    """The asyncio face: the same calls, awaited. Use it on one event loop; nothing connects before the first call."""

    def __init__(
        self,
        redis: AsyncRedis,
        celery_app: Celery | None = None,
        *,
        tenant: str = "default",
        settings: Settings | None = None,
        writer: Redis | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Use clients and a Celery app of your own; all stay yours to close. See `Spool`.

        `writer` is a sync client, which only `produce` needs: the flusher is a thread, for sync and async alike.
        """
        self.settings = settings or Settings.checked({"tenant": tenant})
        self.observer = guard(observer)
        self.tracer: Tracer = choose_tracer(self.settings)
        self._store = AsyncStore(redis, observer=self.observer)
        self._db = database_of(redis)
        self._dispatcher = Dispatcher(self.settings, celery_app, self.observer) if celery_app or settings else None
        self._keeper = None if writer is None else DigestKeeper(writer)
        self._producers = None
        if writer is not None and self._keeper is not None:
            self._producers = ProducerFactory(writer, self.settings, self._keeper.note, self.observer)
        self._scheduler = None
        self._relay: OutcomeRelay | None = None
        if writer is not None:
            self._relay = OutcomeRelay(writer, self.settings.log)
            self._scheduler = Scheduler(writer, self.settings, self._dispatcher, self.observer, self._relay.note)
        log = self.settings.log
        self._hub = AsyncHub(redis, read_timeout=log.read_timeout, recheck=log.recheck, observer=self.observer)
        self._closed = threading.Event()
        self._own_clients: tuple[AsyncRedis, Redis] | None = None
        self._enqueuing: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_url(
        cls, redis_url: str, broker_url: str | None = None, *, tenant: str = "default", observer: Observer | None = None
    ) -> Self:
        """Connect to `redis_url`; Celery's broker is `broker_url`, or the same Redis. Raises `SettingsError`."""
        return cls.from_settings(settings_from_urls(redis_url, broker_url, tenant), observer=observer)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        celery_app: Celery | None = None,
        observer: Observer | None = None,
    ) -> Self:
        """Read all settings from the environment; send through `celery_app`, if given. Raises `SettingsError`."""
        return cls.from_settings(Settings.from_env(environ), celery_app=celery_app, observer=observer)

    @classmethod
    def from_settings(
        cls, settings: Settings, *, celery_app: Celery | None = None, observer: Observer | None = None
    ) -> Self:
        """Connect to `settings.log.redis_url` when first used; send through `celery_app`, if given.

        Raises `SettingsError`.
        """
        clients = connect_async(settings.log.redis_url), connect(settings.log.redis_url)
        spool = cls(clients[0], celery_app, settings=settings, writer=clients[1], observer=observer)
        spool._own_clients = clients
        return spool

    def for_tenant(self, tenant: str) -> Self:
        """Return this spool for another tenant. They share connections and threads; close only the first."""
        other = copy(self)
        other.settings = self.settings.for_tenant(tenant)
        return other

    async def enqueue(
        self,
        chat_id: str,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        on_active: OnActive = "reject",
        ttl: float | None = None,
        owner: str | None = None,
        priority: Priority = "interactive",
        expires: float | None = None,
        transcript: JsonValue = None,
        replaces: str | None = None,
        history: bool | None = None,
        keep_messages: bool | None = None,
    ) -> Generation:
        """Hand a generation to a worker, as `Spool.enqueue` does.

        A caller that is cancelled meanwhile (a web client that hung up) leaves no half of it: it is finished behind
        its back.
        """
        request = request_for(
            self._dispatcher,
            prompt=prompt,
            messages=messages,
            model=model,
            params=params,
            history=wants_history(self.settings, prompt=prompt, history=history, replaces=replaces),
            replaces=replaces,
        )
        keys = self._keys(chat_id)

        async def run() -> Generation:
            with trace_enqueue(self.tracer, keys.tenant, keys.chat_id, self.settings.worker.queue) as traced:
                operation = enqueue.enqueue(
                    keys,
                    self.settings,
                    request,
                    on_active=on_active,
                    ttl=ttl,
                    request_id=request_id,
                    owner=owner,
                    priority=priority,
                    expires=expires,
                    transcript=transcript,
                    trace=traced.stored,
                    replaces=replaces,
                    edits=prompt is not None,
                    keep_messages=keep_messages,
                )
                return traced.note(await self._run(operation))

        task = asyncio.ensure_future(run())
        self._enqueuing.add(task)
        task.add_done_callback(self._enqueuing.discard)
        return await asyncio.shield(task)

    def subscribe(
        self, chat_id: str, after: int | str | None = None, *, reader: str | None = None, until: str = "idle"
    ) -> AsyncSubscription:
        """Replay what comes after the cursor `after`, then follow; in an `async with` block. See `Spool.subscribe`."""
        keys = self._keys(chat_id)
        return AsyncSubscription(self._hub, *starting_point(keys, after, reader, until))

    async def read(self, chat_id: str, after: int | str = 0, limit: int = 500) -> list[Entry]:
        """Return up to `limit` entries after the cursor `after`, without waiting. Raises what `subscribe` does."""
        return await self._run(query.read(self._keys(chat_id), after, limit))

    async def mark_read(self, chat_id: str, reader: str, seq: int) -> int:
        """Remember that `reader` has played the chat up to `seq`. See `Spool.mark_read`."""
        return await self._run(query.mark_read(self._keys(chat_id), reader, seq))

    async def last_read(self, chat_id: str, reader: str) -> int:
        """Return the seq up to which `reader` has played. See `Spool.last_read`."""
        return await self._run(query.last_read(self._keys(chat_id), reader))

    async def stop(
        self, chat_id: str, generation_id: str | None = None, *, reason: str | None = None
    ) -> tuple[Stop, ...]:
        """Stop one generation, or all that are active in the chat. See `Spool.stop`."""
        keys, publishes = self._keys(chat_id), self._dispatcher is not None
        return await self._run(stop.stop(keys, self.settings, generation_id, "user", reason, publishes=publishes))

    async def revoke(self, generation_id: str) -> Stop | None:
        """Stop a generation by its id alone. See `Spool.revoke`."""
        publishes = self._dispatcher is not None
        return await self._run(stop.revoke(generation_id, self.settings, self._db, publishes=publishes))

    async def chats(self, owner: str | None = None, *, before: str | None = None, limit: int = 50) -> ChatPage:
        """Return some chats, the one that was asked last first. See `Spool.chats`."""
        tenant = self.settings.log.tenant
        return await self._run(chats.show_chats(tenant, self._db, owner, before, limit))

    async def set_title(self, chat_id: str, title: str | None) -> None:
        """Give the chat a title; None takes it away. See `Spool.set_title`."""
        await self._run(chats.set_title(self._keys(chat_id), title))

    async def status(
        self,
        chat_id: str,
        *,
        generation_ids: Collection[str] | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> ChatStatus:
        """Say how the chat and its generations stand. See `Spool.status`."""
        return await self._run(query.status(self._keys(chat_id), generation_ids, before, limit))

    async def snapshot(
        self, chat_id: str, *, before: int | str | None = None, limit: int | None = None, within: float | None = None
    ) -> Snapshot:
        """Return the chat's answers and the seq they stand at. See `Spool.snapshot`."""
        return await self._run(query.snapshot(self._keys(chat_id), before, limit, within))

    async def digest(self, chat_id: str, *, after: int | str = 0, within: float | None = None) -> Digest:
        """Return the chat as it stands, in blocks of merged events. See `Spool.digest`."""
        return await self._run(digests.make_digest(self._keys(chat_id), within, after))

    async def load_digest(
        self, digest: Digest, generation_ids: Collection[str] | None = None, start: int = 0
    ) -> DigestPart:
        """Return the digest's entries from block `start` on. See `Spool.load_digest`."""
        return await self._run(digests.load_part(digest, generation_ids, start))

    async def transcript(self, chat_id: str) -> Transcript | None:
        """Return the newest transcript of the chat. See `Spool.transcript`."""
        return await self._run(query.transcript(self._keys(chat_id)))

    async def fork(
        self, chat_id: str, at: int | str | None = None, *, to: str, ttl: float | None = None, owner: str | None = None
    ) -> Fork:
        """Make the chat `to` of what this one holds up to and including `at`. See `Spool.fork`."""
        operation = fork.fork(self._keys(chat_id), self._keys(to), self.settings, at=at, ttl=ttl, owner=owner)
        return await self._run(operation)

    async def keep(self, chat_id: str, ttl: float) -> None:
        """Keep the chat for `ttl` seconds from now on, and after what is asked later. See `Spool.keep`."""
        await self._run(keeping.keep(self._keys(chat_id), ttl))

    async def pin(self, chat_id: str) -> None:
        """Keep the chat for good. See `Spool.pin`."""
        await self._run(keeping.pin(self._keys(chat_id), self.settings))

    async def unpin(self, chat_id: str) -> None:
        """Let the chat expire again. See `Spool.unpin`."""
        await self._run(keeping.unpin(self._keys(chat_id), self.settings))

    async def retain(self, *, after: str | None = None, dry_run: bool = False) -> RetentionStep:
        """Shorten the logs of the tenant's next chats. See `Spool.retain`."""
        return await self._run(retention.step(self.settings, self._db, after, dry_run=dry_run))

    async def erase(self, chat_id: str) -> None:
        """Remove every key of the chat. See `Spool.erase`."""
        await self._run(erase_chat.erase(self._keys(chat_id)))

    async def erase_owner(self, owner: str) -> ErasedOwner:
        """Erase every chat in which `owner` has asked, and what else is noted of them. See `Spool.erase_owner`."""
        return await self._run(erase_owner.erase_owner(self.settings.log.tenant, owner, self._db))

    async def sweep(self, *, queue_is_empty: bool | None = None, queue: str | None = None) -> Swept:
        """Publish lost messages again and end what stays lost. See `Spool.sweep`."""
        queue = queue or self.settings.worker.queue
        if queue_is_empty is None:
            known = self._dispatcher
            queue_is_empty = known is not None and await asyncio.to_thread(known.is_empty, queue)
        return await self._run(sweep(self.settings, queue=queue, queue_is_empty=queue_is_empty, db=self._db))

    async def stats(self, *, queue: str | None = None) -> Stats:
        """Return how much there is to do in a queue, the settings' own unless given, and what all tenants keep.

        It takes a bounded number of commands and about a second at most, however much there is; what the server refuses
        to tell is None. Raises `StoreError`.
        """
        return await self._run(stats.stats(self.settings, queue, self._db))

    def outcomes(
        self,
        group: str,
        consumer: str | None = None,
        *,
        until: Until = "forever",
        claim_after: float = 60.0,
        max_deliveries: int = 5,
        batch: int = 16,
        again: bool = False,
    ) -> AsyncOutcomeStream:
        """Read how the tenant's generations have ended, in an `async with` block. See `Spool.outcomes`."""
        reading = Reading(
            self.settings.log.tenant,
            group,
            consumer or Reading.new_consumer(),
            until=until,
            claim_after=claim_after,
            max_deliveries=max_deliveries,
            batch=batch,
            again=again,
        )
        return AsyncOutcomeStream(self._run, reading, self.settings.log.read_timeout)

    async def outcome_lag(self) -> tuple[OutcomeLag, ...]:
        """Return how far each group of the tenant is behind, also those that were set aside. Raises `StoreError`."""
        return await self._run(outcomes.lags(self.settings.log.tenant))

    async def dead_outcomes(self, *, before: str | None = None, limit: int = 100) -> tuple[DeadOutcome, ...]:
        """Return outcomes that groups could not handle, the newest first. See `Spool.dead_outcomes`."""
        return await self._run(outcomes.dead(self.settings.log.tenant, before, limit))

    async def forget_dead_outcomes(self, *gone: DeadOutcome) -> int:
        """Remove outcomes that were set aside; return how many there were. Raises `StoreError`."""
        return await self._run(outcomes.forget_dead(self.settings.log.tenant, gone))

    async def drop_outcome_group(self, group: str) -> None:
        """End a group, with all that it has not read; no error if there is none. Raises `InvalidId` or `StoreError`."""
        await self._run(outcomes.drop_group(self.settings.log.tenant, group))

    async def policy(self) -> Policy:
        """Return the limits that hold for this spool's tenant. See `Spool.policy`."""
        return await self._run(policy.show(self.settings))

    async def set_policy(self, **limits: float | None) -> Policy:
        """Set limits of this spool's tenant. See `Spool.set_policy`."""
        return await self._run(policy.change(self.settings, dict(limits)))

    async def hold_streams(self, process: str, held: Sequence[HeldStreams], *, version: int, refuses: bool) -> None:
        """Note how many event streams a web process has open. See `Spool.hold_streams`."""
        await self._run(policy.hold_streams(self.settings, process, held, version=version, refuses=refuses))

    async def offer_slots(self, worker: str, slots: int, *, queue: str | None = None) -> int:
        """Say how many generations `worker` can run at once. See `Spool.offer_slots`."""
        offered = WorkerSlots(worker, slots)
        return await self._run(schedule(self.settings, (), queue=queue or "", worker=offered, tidies=True))

    @asynccontextmanager
    async def produce(self, chat_id: str, generation_id: str, *, wait: float = 0) -> AsyncIterator[Producer]:
        """Claim a generation and write it in an `async with` block. See `Spool.produce`."""
        if self._producers is None or self._scheduler is None:
            raise SettingsError("to produce, AsyncSpool needs a sync client too: AsyncSpool(redis, writer=Redis(…))")
        warn_unless_equipped()
        keys = self._keys(chat_id)
        leaving = self._producers.is_releasing
        stored = await self._run(claim.read_trace(keys, generation_id)) if self.tracer.is_on else None
        with (
            logged_as(keys.tenant, keys.chat_id, generation_id) as logged,
            trace_attempt(self.tracer, keys.tenant, keys.chat_id, generation_id, stored) as traced,
            self._scheduler.follow(keys, generation_id) as followed,
        ):
            with traced.claim() as claiming:
                taken = await self._run(
                    claim.claim(keys, generation_id, self.settings, wait, leaving=leaving, span=traced.stored)
                )
                claiming.set("chunkspool.attempt", taken.attempt)
            logged.note_attempt(taken.attempt)
            traced.note_claimed(taken.attempt)
            made = followed.note_claimed(self._producers.make(keys, generation_id, taken))
            try:
                async with made as out:
                    with traced.answer():
                        yield out
            finally:
                traced.note_ended(made.state)

    def release(self, *, counts: bool = False) -> None:
        """Free all generations that this process writes, from whichever thread. See `Spool.release`."""
        if self._producers is not None:
            self._producers.release(counts=counts)

    async def aclose(self) -> None:
        """End the readers and the threads of `produce`, and close the connections that this spool made itself.

        Whatever is called later raises `SpoolClosed`.
        """
        if self._enqueuing:
            await asyncio.wait(self._enqueuing)
        self._closed.set()
        await self._hub.aclose()
        if self._producers is not None:
            await asyncio.to_thread(self._producers.close)
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.close)
        if self._relay is not None:
            await asyncio.to_thread(self._relay.close)
        if self._scheduler is not None:
            await asyncio.to_thread(self._scheduler.close)
        if self._dispatcher is not None:
            await asyncio.to_thread(self._dispatcher.close)
        if self._own_clients is not None:
            await self._own_clients[0].aclose()
            self._own_clients[1].close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    def _keys(self, chat_id: str) -> ChatKeys:
        return ChatKeys(self.settings.log.tenant, chat_id, self._db)

    async def _run(self, operation: Operation[T]) -> T:
        try:
            return await drive_async(operation, self._perform)
        except LimitExceeded as error:
            self.observer.observe(LimitHit(error.limit))
            raise

    async def _perform(self, effect: Effect) -> object:
        need_open(self._closed)
        if isinstance(effect, Publish):
            publish = need_dispatcher(self._dispatcher).publish
            message = effect.tenant, effect.chat_id, effect.generation_id, effect.queue, effect.task
            await asyncio.to_thread(publish, *message)
        elif isinstance(effect, SendAll):
            return await self._store.send_all(effect.transactions, at_once=False)
        elif isinstance(effect, Pause):
            await asyncio.sleep(effect.seconds)
        elif isinstance(effect, Tell):
            self.observer.observe(effect.observation)
        else:
            return await self._store.send(effect)
        return None
