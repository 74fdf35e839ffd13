"""`Spool` and `AsyncSpool`: all that a web app does with its chats. Two drivers of the same operations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from chunkspool.effects import Operation, Pause, Publish, Step, drive, drive_async
from chunkspool.errors import SettingsError, StoreUnavailable
from chunkspool.events import Entry
from chunkspool.operations import claim, enqueue, query, stop
from chunkspool.operations.sweep import sweep
from chunkspool.producing.producer import Producer
from chunkspool.producing.writer import Writer
from chunkspool.reading.cursor import Cursor
from chunkspool.reading.hub_asyncio import AsyncHub
from chunkspool.reading.hub_threads import Hub
from chunkspool.reading.subscription import AsyncSubscription, Subscription
from chunkspool.request import GenerationRequest
from chunkspool.results import ChatStatus, Generation, Snapshot, Stop
from chunkspool.settings import Settings
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.store.client import AsyncStore, Store, connect, connect_async
from chunkspool.store.commands import Reads
from chunkspool.store.keys import ChatKeys, checked_id
from chunkspool.store.scripts import OnActive

if TYPE_CHECKING:  # so that `import chunkspool` does not load Celery
    from celery import Celery

T = TypeVar("T")


class Spool:
    """The sync face. It may be shared by threads; nothing connects before the first call."""

    def __init__(
        self,
        redis: Redis,
        celery_app: Celery | None = None,
        *,
        tenant: str = "default",
        settings: Settings | None = None,
    ) -> None:
        """Use a client and a Celery app of your own; both stay yours to close.

        A spool without a `celery_app` sends to `settings.broker`; one that has neither can do all but enqueue.
        Without `settings`, the defaults hold; `tenant` is then used, otherwise the settings' own.
        """
        self.settings = settings or Settings.checked({"tenant": tenant})
        self._store = Store(redis)
        self._dispatcher = Dispatcher(self.settings, celery_app) if celery_app or settings else None
        self._writer = Writer(redis, self.settings)
        self._hub = Hub(redis, read_timeout=self.settings.read_timeout, recheck=self.settings.recheck)
        self._closed = threading.Event()
        self._owns_client = False

    @classmethod
    def from_url(cls, redis_url: str, broker_url: str | None = None, *, tenant: str = "default") -> Self:
        """Connect to `redis_url`; Celery's broker is `broker_url`, or the same Redis. Raises `SettingsError`."""
        return cls.from_settings(_settings(redis_url, broker_url, tenant))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read all settings from the environment. Raises `SettingsError`."""
        return cls.from_settings(Settings.from_env(environ))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Connect to `settings.redis_url` when first used. Raises `SettingsError`."""
        spool = cls(connect(settings.redis_url), settings=settings)
        spool._owns_client = True
        return spool

    def for_tenant(self, tenant: str) -> Self:
        """Return this spool for another tenant. They share connections and threads; close only the first."""
        other = copy(self)
        other.settings = self.settings.model_copy(update={"tenant": checked_id("tenant", tenant)})
        return other

    def enqueue(
        self,
        chat_id: str,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        on_active: OnActive = "reject",
        ttl: float | None = None,
        owner: str | None = None,
    ) -> Generation:
        """Hand a generation to a worker and return at once.

        Pass either a `prompt` (one user message) or `messages` (chat-completions shape). `params` go to the provider as
        they are. The same `request_id` again returns the same generation. `on_active` says what happens while another
        generation is active in the chat. `ttl`: seconds that the chat is kept after its last event; of its generations
        the one with the longest counts. `owner`: whose it is.

        Raises `InvalidRequest`, `InvalidId`, `ChatBusy`, `EnqueueFailed` or `StoreError`.
        """
        _demanded(self._dispatcher)
        request = GenerationRequest.checked(prompt=prompt, messages=messages, model=model, params=params)
        return self._run(
            enqueue.enqueue(
                self._keys(chat_id),
                self.settings,
                request,
                on_active=on_active,
                ttl=ttl,
                request_id=request_id,
                owner=owner,
            )
        )

    def subscribe(
        self, chat_id: str, after: int | None = None, *, reader: str | None = None, until: str = "idle"
    ) -> Subscription:
        """Replay what comes after the cursor `after`, then follow; to be used in a `with` block.

        Without `after` it begins where `reader` left off (see `mark_played`), or at the chat's first event. `until`:
        "idle" (until nothing is active in the chat), "forever", or a generation's id (until its ending).
        Raises `InvalidCursor` and `InvalidId` here; entering the block or iterating raises `ChatNotFound`,
        `GenerationNotFound`, `CursorExpired`, `CursorAhead`, `CorruptLog` or `StoreError`.
        """
        keys = self._keys(chat_id)
        cursor = Cursor(keys, 0 if after is None else after, until)
        return Subscription(self._hub, cursor, _start(keys, after, reader))

    def read(self, chat_id: str, after: int = 0, limit: int = 500) -> list[Entry]:
        """Return up to `limit` entries after the cursor `after`, without waiting. Raises what `subscribe` does."""
        return self._run(query.read(self._keys(chat_id), after, limit))

    def mark_played(self, chat_id: str, reader: str, seq: int) -> int:
        """Remember that `reader` has played the chat up to `seq`; return how far it has: it never goes back.

        Raises `InvalidId`, `InvalidCursor`, `ChatNotFound`, `CursorAhead` (there is no such seq yet) or `StoreError`.
        """
        return self._run(query.mark_played(self._keys(chat_id), reader, seq))

    def played(self, chat_id: str, reader: str) -> int:
        """Return the seq up to which `reader` has played, 0 if it never said. Raises `ChatNotFound` or `StoreError`."""
        return self._store.send(query.played(self._keys(chat_id), reader))

    def stop(self, chat_id: str, generation_id: str | None = None, *, reason: str | None = None) -> tuple[Stop, ...]:
        """Stop one generation, or all that are active in the chat; once more is no error.

        Raises `ChatNotFound`, `GenerationNotFound`, `InvalidRequest` (a reason over 500 characters) or `StoreError`.
        """
        return self._run(stop.stop(self._keys(chat_id), generation_id, "user", reason))

    def revoke(self, task_id: str) -> Stop | None:
        """Stop a generation by its Celery task's id alone, whoever's it is; None if the task is no generation.

        Celery's own revoke is a message to the workers that are up, and lost without them. This one is kept in Redis:
        a worker that comes up later skips the task. Raises `InvalidId` or `StoreError`.
        """
        return self._run(stop.revoke(task_id))

    def status(self, chat_id: str) -> ChatStatus:
        """Say how the chat and its generations stand. Raises `ChatNotFound` or `StoreError`."""
        return self._run(query.chat_status(self._keys(chat_id)))

    def snapshot(self, chat_id: str) -> Snapshot:
        """Return the chat's answers and the seq they stand at. Raises `ChatNotFound` or `StoreError`."""
        return self._run(query.snapshot(self._keys(chat_id)))

    def erase(self, chat_id: str) -> None:
        """Remove every key of the chat; live attempts are stopped, readers get `ChatNotFound`. Raises `StoreError`."""
        self._run(stop.erase(self._keys(chat_id)))

    def sweep(self, *, queue_is_empty: bool) -> tuple[str, ...]:
        """Send lost messages of all tenants anew; end what stays lost, and return the ids of what has ended.

        `queue_is_empty`: the broker holds no message of a generation. Any number of processes may call it; within one
        `sweep_interval` the first of them does the work. Raises `EnqueueFailed` or `StoreError`.
        """
        return self._run(sweep(self.settings, queue_is_empty=queue_is_empty))

    @contextmanager
    def produce(self, chat_id: str, generation_id: str, *, wait: float = 0) -> Iterator[Producer]:
        """Claim a generation and write it in a `with` block; see `Producer`.

        `wait`: seconds to wait for another attempt that still has it. Raises `NotClaimed`, `GenerationNotFound` or
        `StoreError`.
        """
        keys = self._keys(chat_id)
        leaving = self._writer.is_handing_over
        claimed = self._run(claim.claim(keys, generation_id, self.settings, wait, leaving=leaving))
        with self._writer.producer(keys, generation_id, claimed) as out:
            yield out

    def hand_over(self) -> None:
        """Free all generations that this process writes for other processes, because it is about to end.

        What was said is written; no ending is. Blocks of `produce` get `HandedOver`, those that begin later as well.
        """
        self._writer.hand_over()

    def close(self) -> None:
        """End the readers and the threads of `produce`, and close the connections that this spool made itself.

        Whatever is called later raises `StoreUnavailable`.
        """
        self._closed.set()
        self._hub.close()
        self._writer.close()
        if self._dispatcher is not None:
            self._dispatcher.close()
        if self._owns_client:
            self._store.client.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _keys(self, chat_id: str) -> ChatKeys:
        return ChatKeys(self.settings.tenant, chat_id)

    def _run(self, operation: Operation[T]) -> T:
        return drive(operation, self._do)

    def _do(self, step: Step) -> object:
        _demand_open(self._closed)
        if isinstance(step, Publish):
            _demanded(self._dispatcher).publish(step.tenant, step.chat_id, step.generation_id)
        elif isinstance(step, Pause):
            time.sleep(step.seconds)
        else:
            return self._store.send(step)
        return None


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
    ) -> None:
        """Use clients and a Celery app of your own; all stay yours to close. See `Spool`.

        `writer` is a sync client, which only `produce` needs: the flusher is a thread, for sync and async alike.
        """
        self.settings = settings or Settings.checked({"tenant": tenant})
        self._store = AsyncStore(redis)
        self._dispatcher = Dispatcher(self.settings, celery_app) if celery_app or settings else None
        self._writer = None if writer is None else Writer(writer, self.settings)
        self._hub = AsyncHub(redis, read_timeout=self.settings.read_timeout, recheck=self.settings.recheck)
        self._closed = threading.Event()
        self._own_clients: tuple[AsyncRedis, Redis] | None = None
        self._enqueuing: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_url(cls, redis_url: str, broker_url: str | None = None, *, tenant: str = "default") -> Self:
        """Connect to `redis_url`; Celery's broker is `broker_url`, or the same Redis. Raises `SettingsError`."""
        return cls.from_settings(_settings(redis_url, broker_url, tenant))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read all settings from the environment. Raises `SettingsError`."""
        return cls.from_settings(Settings.from_env(environ))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Connect to `settings.redis_url` when first used. Raises `SettingsError`."""
        clients = connect_async(settings.redis_url), connect(settings.redis_url)
        spool = cls(clients[0], settings=settings, writer=clients[1])
        spool._own_clients = clients
        return spool

    def for_tenant(self, tenant: str) -> Self:
        """Return this spool for another tenant. They share connections and threads; close only the first."""
        other = copy(self)
        other.settings = self.settings.model_copy(update={"tenant": checked_id("tenant", tenant)})
        return other

    async def enqueue(
        self,
        chat_id: str,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        on_active: OnActive = "reject",
        ttl: float | None = None,
        owner: str | None = None,
    ) -> Generation:
        """Hand a generation to a worker, as `Spool.enqueue` does.

        A caller that is cancelled meanwhile (a web client that hung up) leaves no half of it: it is finished behind
        its back.
        """
        _demanded(self._dispatcher)
        request = GenerationRequest.checked(prompt=prompt, messages=messages, model=model, params=params)
        operation = enqueue.enqueue(
            self._keys(chat_id),
            self.settings,
            request,
            on_active=on_active,
            ttl=ttl,
            request_id=request_id,
            owner=owner,
        )
        task = asyncio.ensure_future(self._run(operation))
        self._enqueuing.add(task)
        task.add_done_callback(self._enqueuing.discard)
        return await asyncio.shield(task)

    def subscribe(
        self, chat_id: str, after: int | None = None, *, reader: str | None = None, until: str = "idle"
    ) -> AsyncSubscription:
        """Replay what comes after the cursor `after`, then follow; in an `async with` block. See `Spool.subscribe`."""
        keys = self._keys(chat_id)
        cursor = Cursor(keys, 0 if after is None else after, until)
        return AsyncSubscription(self._hub, cursor, _start(keys, after, reader))

    async def read(self, chat_id: str, after: int = 0, limit: int = 500) -> list[Entry]:
        """Return up to `limit` entries after the cursor `after`, without waiting. Raises what `subscribe` does."""
        return await self._run(query.read(self._keys(chat_id), after, limit))

    async def mark_played(self, chat_id: str, reader: str, seq: int) -> int:
        """Remember that `reader` has played the chat up to `seq`. See `Spool.mark_played`."""
        return await self._run(query.mark_played(self._keys(chat_id), reader, seq))

    async def played(self, chat_id: str, reader: str) -> int:
        """Return the seq up to which `reader` has played. See `Spool.played`."""
        return await self._store.send(query.played(self._keys(chat_id), reader))

    async def stop(
        self, chat_id: str, generation_id: str | None = None, *, reason: str | None = None
    ) -> tuple[Stop, ...]:
        """Stop one generation, or all that are active in the chat. See `Spool.stop`."""
        return await self._run(stop.stop(self._keys(chat_id), generation_id, "user", reason))

    async def revoke(self, task_id: str) -> Stop | None:
        """Stop a generation by its Celery task's id alone. See `Spool.revoke`."""
        return await self._run(stop.revoke(task_id))

    async def status(self, chat_id: str) -> ChatStatus:
        """Say how the chat and its generations stand. Raises `ChatNotFound` or `StoreError`."""
        return await self._run(query.chat_status(self._keys(chat_id)))

    async def snapshot(self, chat_id: str) -> Snapshot:
        """Return the chat's answers and the seq they stand at. Raises `ChatNotFound` or `StoreError`."""
        return await self._run(query.snapshot(self._keys(chat_id)))

    async def erase(self, chat_id: str) -> None:
        """Remove every key of the chat. See `Spool.erase`."""
        await self._run(stop.erase(self._keys(chat_id)))

    async def sweep(self, *, queue_is_empty: bool) -> tuple[str, ...]:
        """Send lost messages anew and end what stays lost. See `Spool.sweep`."""
        return await self._run(sweep(self.settings, queue_is_empty=queue_is_empty))

    @asynccontextmanager
    async def produce(self, chat_id: str, generation_id: str, *, wait: float = 0) -> AsyncIterator[Producer]:
        """Claim a generation and write it in an `async with` block. See `Spool.produce`."""
        if self._writer is None:
            raise SettingsError("to produce, AsyncSpool needs a sync client too: AsyncSpool(redis, writer=Redis(…))")
        keys = self._keys(chat_id)
        leaving = self._writer.is_handing_over
        claimed = await self._run(claim.claim(keys, generation_id, self.settings, wait, leaving=leaving))
        async with self._writer.producer(keys, generation_id, claimed) as out:
            yield out

    def hand_over(self) -> None:
        """Free all generations that this process writes, from whichever thread. See `Spool.hand_over`."""
        if self._writer is not None:
            self._writer.hand_over()

    async def aclose(self) -> None:
        """End the readers and the threads of `produce`, and close the connections that this spool made itself.

        Whatever is called later raises `StoreUnavailable`.
        """
        if self._enqueuing:
            await asyncio.wait(self._enqueuing)
        self._closed.set()
        await self._hub.aclose()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
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
        return ChatKeys(self.settings.tenant, chat_id)

    async def _run(self, operation: Operation[T]) -> T:
        return await drive_async(operation, self._do)

    async def _do(self, step: Step) -> object:
        _demand_open(self._closed)
        if isinstance(step, Publish):
            publish = _demanded(self._dispatcher).publish
            await asyncio.to_thread(publish, step.tenant, step.chat_id, step.generation_id)
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            return await self._store.send(step)
        return None


def _settings(redis_url: str, broker_url: str | None, tenant: str) -> Settings:
    return Settings.checked({"redis_url": redis_url, "broker_url": broker_url, "tenant": tenant})


def _start(keys: ChatKeys, after: int | None, reader: str | None) -> Reads[int] | None:
    """Return the read of the cursor to begin after, where it is not given."""
    if reader is None:
        return None
    start = query.played(keys, reader)
    return start if after is None else None


def _demand_open(closed: threading.Event) -> None:
    if closed.is_set():
        raise StoreUnavailable("the spool was closed")


def _demanded(dispatcher: Dispatcher | None) -> Dispatcher:
    if dispatcher is None:
        raise SettingsError("to enqueue, the spool needs a Celery app: Spool(redis, celery_app)")
    return dispatcher
