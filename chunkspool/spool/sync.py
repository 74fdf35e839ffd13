"""The sync face: all that a web app does with its chats, called and waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import JsonValue
from redis import Redis

from chunkspool.effects import Effect, Operation, Pause, Publish, SendAll, Tell, drive
from chunkspool.errors import LimitExceeded
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
from chunkspool.reading.hub_threads import ThreadHub
from chunkspool.reading.subscription import Subscription
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
from chunkspool.spool.outcome_stream import OutcomeStream, Reading
from chunkspool.spool.scheduler import Scheduler
from chunkspool.states import OnActive, Priority
from chunkspool.store.client import Store, connect, database_of
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


class Spool:
    """The sync face. It may be shared by threads; nothing connects before the first call."""

    def __init__(
        self,
        redis: Redis,
        celery_app: Celery | None = None,
        *,
        tenant: str = "default",
        settings: Settings | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Use a client and a Celery app of your own; both stay yours to close.

        A spool without a `celery_app` sends to `settings.broker`; one that has neither can do all but enqueue.
        Without `settings`, the defaults hold; `tenant` is then used, otherwise the settings' own. `observer` is told of
        what happens here: see `chunkspool.observer`.
        """
        self.settings = settings or Settings.checked({"tenant": tenant})
        self.observer = guard(observer)
        self.tracer: Tracer = choose_tracer(self.settings)
        self._store = Store(redis, observer=self.observer)
        self._db = database_of(redis)
        self._dispatcher = Dispatcher(self.settings, celery_app, self.observer) if celery_app or settings else None
        self._keeper = DigestKeeper(redis)
        self._producers = ProducerFactory(redis, self.settings, self._keeper.note, self.observer)
        self._relay = OutcomeRelay(redis, self.settings.log)
        self._scheduler = Scheduler(redis, self.settings, self._dispatcher, self.observer, self._relay.note)
        log = self.settings.log
        self._hub = ThreadHub(redis, read_timeout=log.read_timeout, recheck=log.recheck, observer=self.observer)
        self._closed = threading.Event()
        self._owns_client = False

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
        spool = cls(connect(settings.log.redis_url), celery_app, settings=settings, observer=observer)
        spool._owns_client = True
        return spool

    def for_tenant(self, tenant: str) -> Self:
        """Return this spool for another tenant. They share connections and threads; close only the first."""
        other = copy(self)
        other.settings = self.settings.for_tenant(tenant)
        return other

    def enqueue(
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
        """Hand a generation to a worker and return at once.

        Pass either a `prompt` (one user message) or `messages` (chat-completions shape). `params` go to the provider as
        they are. The same `request_id` again returns the same generation. `ttl`: seconds that the chat is kept after
        its last event; of its generations the one with the longest counts. `owner`: whose it is. `priority`:
        "interactive", or "batch" for what may wait until nobody else does. `expires`: seconds after which it is no
        longer wanted if no worker has begun it: it fails with the code "expired". `transcript`: the conversation as
        your client shows it, any JSON; it is kept as long as the generation, for `transcript` to return, until the
        chat's next one comes.

        `on_active` says what happens while another generation is active in the chat: "reject" raises `ChatBusy`,
        "queue" lets this one wait until those before it have ended, "replace" stops them, "allow" runs beside them.

        What is new of the conversation is written into the log before it, unless `keep_messages` is False: of
        `messages`, those after the last one of the assistant. `replaces`: a generation of which this is another
        version; without a prompt and messages it is asked the same, and a prompt is the new text of its question, of
        which all else stays. System messages may be given with a prompt. `history`: the model gets what the log has of
        the conversation, in front of these messages; unless said otherwise, also with `replaces` and no question in
        `messages`.

        Raises `InvalidRequest`, `InvalidId`, `GenerationNotFound` for `replaces`, `ChatBusy`, `LimitExceeded`,
        `EnqueueFailed` or `StoreError`.
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
            return traced.note(self._run(operation))

    def subscribe(
        self, chat_id: str, after: int | str | None = None, *, reader: str | None = None, until: str = "idle"
    ) -> Subscription:
        """Replay what comes after the cursor `after`, then follow; to be used in a `with` block.

        `after` is the seq of the last event you have, or that entry's `cursor`, which also notices when the log is
        another one by now. Without `after` it begins where `reader` left off (see `mark_read`), or at the chat's first
        event. `until`: "idle" (until nothing is active in the chat), "forever", or a generation's id (to its ending).
        Raises `InvalidCursor` and `InvalidId` here; entering the block or iterating raises `ChatNotFound`,
        `GenerationNotFound`, `CursorExpired`, `CursorAhead`, `CorruptLog` or `StoreError`.
        """
        keys = self._keys(chat_id)
        return Subscription(self._hub, *starting_point(keys, after, reader, until))

    def read(self, chat_id: str, after: int | str = 0, limit: int = 500) -> list[Entry]:
        """Return up to `limit` entries after the cursor `after`, without waiting. Raises what `subscribe` does."""
        return self._run(query.read(self._keys(chat_id), after, limit))

    def mark_read(self, chat_id: str, reader: str, seq: int) -> int:
        """Remember that `reader` has played the chat up to `seq`; return how far it has: it never goes back.

        Raises `InvalidId`, `InvalidCursor`, `ChatNotFound`, `CursorAhead` (there is no such seq yet) or `StoreError`.
        """
        return self._run(query.mark_read(self._keys(chat_id), reader, seq))

    def last_read(self, chat_id: str, reader: str) -> int:
        """Return the seq up to which `reader` has played, 0 if it never said. Raises `ChatNotFound` or `StoreError`."""
        return self._run(query.last_read(self._keys(chat_id), reader))

    def stop(self, chat_id: str, generation_id: str | None = None, *, reason: str | None = None) -> tuple[Stop, ...]:
        """Stop one generation, or all that are active in the chat; once more is no error.

        Raises `ChatNotFound`, `GenerationNotFound`, `InvalidRequest` (a reason over 500 characters) or `StoreError`.
        """
        keys, publishes = self._keys(chat_id), self._dispatcher is not None
        return self._run(stop.stop(keys, self.settings, generation_id, "user", reason, publishes=publishes))

    def revoke(self, generation_id: str) -> Stop | None:
        """Stop a generation by its id alone, which is its Celery task's, too; None for a task that is no generation.

        Celery's own revoke is a message to the workers that are up, and lost without them. This one is kept in Redis:
        a worker that comes up later skips the task. Raises `InvalidId` or `StoreError`.
        """
        publishes = self._dispatcher is not None
        return self._run(stop.revoke(generation_id, self.settings, self._db, publishes=publishes))

    def chats(self, owner: str | None = None, *, before: str | None = None, limit: int = 50) -> ChatPage:
        """Return some chats, the one that was asked last first: of the tenant, or those that `owner` has asked in.

        `before`: a page's `before`, for the chats after those of that page. `limit`: up to 500. A chat is listed from
        its first question until its log expires or it is erased; of more than 100,000 those go first that were asked
        longest ago. Raises `InvalidInput`, `InvalidId` or `StoreError`.
        """
        return self._run(chats.show_chats(self.settings.log.tenant, self._db, owner, before, limit))

    def set_title(self, chat_id: str, title: str | None) -> None:
        """Give the chat a title, one line of up to 200 characters; None takes it away.

        Raises `InvalidInput`, `ChatNotFound` or `StoreError`.
        """
        self._run(chats.set_title(self._keys(chat_id), title))

    def status(
        self,
        chat_id: str,
        *,
        generation_ids: Collection[str] | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> ChatStatus:
        """Say how the chat and its generations stand.

        All of them; with `limit`, so many of the newest, and with `before` (a status's `before`) of those in front of
        that one; or those of `generation_ids` that exist, which is quick however many the chat has. They are read in
        steps, so not all as of one moment. Raises `ChatNotFound`, `InvalidInput`, `InvalidId` or `StoreError`.
        """
        return self._run(query.status(self._keys(chat_id), generation_ids, before, limit))

    def snapshot(
        self, chat_id: str, *, before: int | str | None = None, limit: int | None = None, within: float | None = None
    ) -> Snapshot:
        """Return the chat's answers and the seq they stand at.

        With `limit`, only so many of the newest; with `before` (a snapshot's `before`) of those that began before that
        seq. Raises `ChatNotFound`, `InvalidInput`, `StoreError`, or, after `within` seconds, `DigestUnfinished`.
        """
        return self._run(query.snapshot(self._keys(chat_id), before, limit, within))

    def digest(self, chat_id: str, *, after: int | str = 0, within: float | None = None) -> Digest:
        """Return the chat as it stands, in blocks of merged events: what is old is not read again from the log.

        `after`: only what follows that cursor is needed; more may come. Raises `ChatNotFound`, `InvalidCursor`,
        `StoreError`, or, after `within` seconds, `DigestUnfinished`.
        """
        return self._run(digests.make_digest(self._keys(chat_id), within, after))

    def load_digest(self, digest: Digest, generation_ids: Collection[str] | None = None, start: int = 0) -> DigestPart:
        """Return the digest's entries of these generations (None: of all) in some blocks, from block `start` on.

        Raises `CursorExpired` or `CursorAhead` where the chat has expired or was erased, or `StoreError`.
        """
        return self._run(digests.load_part(digest, generation_ids, start))

    def transcript(self, chat_id: str) -> Transcript | None:
        """Return the newest transcript that `enqueue` was given in this chat; None without one.

        Raises `ChatNotFound`, `InvalidId`, `CorruptLog` or `StoreError`.
        """
        return self._run(query.transcript(self._keys(chat_id)))

    def fork(
        self, chat_id: str, at: int | str | None = None, *, to: str, ttl: float | None = None, owner: str | None = None
    ) -> Fork:
        """Make the chat `to` of what this one holds up to and including `at`: a seq, or the cursor of an entry.

        Without `at`, of all that it holds. At a question, its generation comes with it. The events keep their seqs;
        what has not ended there is ended in the fork, by "fork". From then on, the two have nothing to do with each
        other: each is asked, kept and erased for itself.
        Readers' marks and transcripts stay behind. `ttl` and `owner` are as in `enqueue`.

        Raises `ChatExists` unless nothing is known of `to`; `ChatNotFound`, `CursorAhead`, `CursorExpired`,
        `CorruptLog`, `InvalidInput`, `LimitExceeded` or `StoreError`. Nothing stays then of what it has begun.
        """
        operation = fork.fork(self._keys(chat_id), self._keys(to), self.settings, at=at, ttl=ttl, owner=owner)
        return self._run(operation)

    def keep(self, chat_id: str, ttl: float) -> None:
        """Keep the chat for `ttl` seconds from now on, and for as long after what is asked in it later.

        It replaces what its generations said until now. Of later ones, a `ttl` of their own counts; a pinned chat is
        kept whatever anybody says, and has this TTL once it is unpinned. Raises `ChatNotFound`, `InvalidRequest` (other
        than 1 second to a year) or `StoreError`.
        """
        self._run(keeping.keep(self._keys(chat_id), ttl))

    def pin(self, chat_id: str) -> None:
        """Keep the chat for good, with all that it holds: nothing of it expires, and retention drops nothing of it.

        The limit `pinned` of the tenant's policy says how many chats may be; by default none. Its TTLs are long, and
        renewed by the sweep. Raises `ChatNotFound`, `LimitExceeded` or `StoreError`.
        """
        self._run(keeping.pin(self._keys(chat_id), self.settings))

    def unpin(self, chat_id: str) -> None:
        """Let the chat expire again: after its own TTL from now on, or that of its tenant. Raises as `pin` does."""
        self._run(keeping.unpin(self._keys(chat_id), self.settings))

    def retain(self, *, after: str | None = None, dry_run: bool = False) -> RetentionStep:
        """Shorten the logs of the tenant's next 200 chats as its policy says: `keep_events` and `keep_bytes`.

        What has ended goes, the oldest first; what is active and the newest answer stay. The sweep does this by itself
        where something has ended; this is for a policy that has changed. `after`: a step's `after`. `dry_run`: only say
        what would be dropped. Raises `InvalidInput` or `StoreError`.
        """
        return self._run(retention.step(self.settings, self._db, after, dry_run=dry_run))

    def erase(self, chat_id: str) -> None:
        """Remove every key of the chat; live attempts are stopped, readers get `ChatNotFound`. Raises `StoreError`."""
        self._run(erase_chat.erase(self._keys(chat_id)))

    def erase_owner(self, owner: str) -> ErasedOwner:
        """Erase every chat in which `owner` has asked, and what else is noted of them; return what was removed.

        A chat in which others have asked, too, goes as a whole, and so do the forks that anybody has made of it. What
        has not ended is stopped first; what the owner asks meanwhile stays. Where it is cut short, the sweep goes on
        with it. It is said in the log, without content (the logger `chunkspool.audit`). Raises `InvalidId` or
        `StoreError`.
        """
        return self._run(erase_owner.erase_owner(self.settings.log.tenant, owner, self._db))

    def sweep(self, *, queue_is_empty: bool | None = None, queue: str | None = None) -> Swept:
        """Publish lost messages of a queue again, whoever's they are; end what stays lost, and return what was done.

        `queue` is the settings' own unless given. `queue_is_empty`: the broker holds no message in it; it is asked
        unless given. Workers that were equipped sweep by themselves. Any number of other processes may do so, too:
        within one `sweep_interval` the first of them does the work. A generation that cannot be read stops nobody
        else's (`Swept.failed`). Raises `EnqueueFailed` or `StoreError`.
        """
        queue = queue or self.settings.worker.queue
        if queue_is_empty is None:
            queue_is_empty = self._dispatcher is not None and self._dispatcher.is_empty(queue)
        return self._run(sweep(self.settings, queue=queue, queue_is_empty=queue_is_empty, db=self._db))

    def stats(self, *, queue: str | None = None) -> Stats:
        """Return how much there is to do in a queue, the settings' own unless given, and what all tenants keep.

        It takes a bounded number of commands and about a second at most, however much there is; what the server refuses
        to tell is None. Raises `StoreError`.
        """
        return self._run(stats.stats(self.settings, queue, self._db))

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
    ) -> OutcomeStream:
        """Read how the tenant's generations have ended, in a `with` block: each once, until it is acknowledged.

        Entering the block makes the `group` if there is none; it gets the outcomes of all generations that are asked
        for from then on. Each is handed to one consumer of the group, whose name no other process may have; None makes
        one up. What is not acknowledged within `claim_after` seconds is handed out again, at most `max_deliveries`
        times in all; then it is set aside: `dead_outcomes`. `batch`: how many are fetched at once, up to 16; the loop
        is to take less than half of `claim_after` for each. `until`: "forever", or "drained": until there is none to
        hand out.

        A group that leaves more unread than `outcome_bytes` holds is set aside: entering the block then raises
        `OutcomeGroupDropped`; `again` makes it anew. Raises `InvalidInput` here.
        """
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
        return OutcomeStream(self._run, self._closed.wait, reading, self.settings.log.read_timeout)

    def outcome_lag(self) -> tuple[OutcomeLag, ...]:
        """Return how far each group of the tenant is behind, also those that were set aside. Raises `StoreError`."""
        return self._run(outcomes.lags(self.settings.log.tenant))

    def dead_outcomes(self, *, before: str | None = None, limit: int = 100) -> tuple[DeadOutcome, ...]:
        """Return outcomes that groups could not handle, the newest first, up to 100.

        The last 1,000 are kept, for 30 days. `before`: the `id` of the last one that you have. Raises `InvalidInput` or
        `StoreError`.
        """
        return self._run(outcomes.dead(self.settings.log.tenant, before, limit))

    def forget_dead_outcomes(self, *gone: DeadOutcome) -> int:
        """Remove outcomes that were set aside; return how many there were. Raises `StoreError`."""
        return self._run(outcomes.forget_dead(self.settings.log.tenant, gone))

    def drop_outcome_group(self, group: str) -> None:
        """End a group, with all that it has not read; no error if there is none. Raises `InvalidId` or `StoreError`."""
        self._run(outcomes.drop_group(self.settings.log.tenant, group))

    def policy(self) -> Policy:
        """Return the limits that hold for this spool's tenant. Raises `StoreError`."""
        return self._run(policy.show(self.settings))

    def set_policy(self, **limits: float | None) -> Policy:
        """Set limits of this spool's tenant, by their names in `Policy`; None gives one its default again.

        They stand in Redis, so every process goes by them from its next request on. Returns the limits that hold now.
        Raises `InvalidInput` or `StoreError`.
        """
        return self._run(policy.change(self.settings, dict(limits)))

    def hold_streams(self, process: str, held: Sequence[HeldStreams], *, version: int, refuses: bool) -> None:
        """Note how many event streams of this tenant, its owners and its chats a web process has open.

        To be said again within 30 seconds, or they count no more. `refuses`: one is new, and `held` are its tenant, its
        owner and its chat; if that is one too many for one of them, nothing is noted. `version` is to grow with each
        call of the process: what comes late changes nothing. Raises `LimitExceeded` or `StoreError`.
        """
        self._run(policy.hold_streams(self.settings, process, held, version=version, refuses=refuses))

    def offer_slots(self, worker: str, slots: int, *, queue: str | None = None) -> int:
        """Say how many generations `worker` can run at once: so many are handed over, those whose turn it is first.

        To be said again within 20 seconds, or it is forgotten; 0 when the worker goes. `queue` is the settings' own
        unless given. Returns how many messages were published. Raises `EnqueueFailed` or `StoreError`.
        """
        offered = WorkerSlots(worker, slots)
        return self._run(schedule(self.settings, (), queue=queue or "", worker=offered, tidies=True))

    @contextmanager
    def produce(self, chat_id: str, generation_id: str, *, wait: float = 0) -> Iterator[Producer]:
        """Claim a generation and write it in a `with` block; see `Producer`.

        `wait`: seconds to wait for another attempt that still has it. Raises `NotClaimed`, `GenerationNotFound` or
        `StoreError`.
        """
        warn_unless_equipped()
        keys = self._keys(chat_id)
        leaving = self._producers.is_releasing
        stored = self._run(claim.read_trace(keys, generation_id)) if self.tracer.is_on else None
        with (
            logged_as(keys.tenant, keys.chat_id, generation_id) as logged,
            trace_attempt(self.tracer, keys.tenant, keys.chat_id, generation_id, stored) as traced,
            self._scheduler.follow(keys, generation_id) as followed,
        ):
            with traced.claim() as claiming:
                taken = self._run(
                    claim.claim(keys, generation_id, self.settings, wait, leaving=leaving, span=traced.stored)
                )
                claiming.set("chunkspool.attempt", taken.attempt)
            logged.note_attempt(taken.attempt)
            traced.note_claimed(taken.attempt)
            made = followed.note_claimed(self._producers.make(keys, generation_id, taken))
            try:
                with made as out, traced.answer():
                    yield out
            finally:
                traced.note_ended(made.state)

    def release(self, *, counts: bool = False) -> None:
        """Give up all generations that this process writes, for other processes: this one is about to end.

        What was said is written; no ending is. Blocks of `produce` get `Released`, those that begin later as well.
        `counts`: the attempts count towards `max_attempts`, because something is wrong with this process.
        """
        self._producers.release(counts=counts)

    def close(self) -> None:
        """End the readers and the threads of `produce`, and close the connections that this spool made itself.

        Whatever is called later raises `SpoolClosed`.
        """
        self._closed.set()
        self._hub.close()
        self._producers.close()
        self._keeper.close()
        self._relay.close()
        self._scheduler.close()
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
        return ChatKeys(self.settings.log.tenant, chat_id, self._db)

    def _run(self, operation: Operation[T]) -> T:
        try:
            return drive(operation, self._perform)
        except LimitExceeded as error:
            self.observer.observe(LimitHit(error.limit))
            raise

    def _perform(self, effect: Effect) -> object:
        need_open(self._closed)
        if isinstance(effect, Publish):
            message = effect.tenant, effect.chat_id, effect.generation_id, effect.queue, effect.task
            need_dispatcher(self._dispatcher).publish(*message)
        elif isinstance(effect, SendAll):
            return self._store.send_all(effect.transactions, at_once=False)
        elif isinstance(effect, Pause):
            time.sleep(effect.seconds)
        elif isinstance(effect, Tell):
            self.observer.observe(effect.observation)
        else:
            return self._store.send(effect)
        return None
