"""No call keeps Redis from its other callers: each script at the maximum that its header states, by the slow log."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.servers.redis_server import PrivateServer, run_second_server
from support.waiting import eventually

from chunkspool.events import Entry, GenerationCompleted, MessageEvent, TextDelta, encode
from chunkspool.ids import new_generation_id
from chunkspool.operations.chats import MAX_TITLE
from chunkspool.operations.new_messages import MESSAGES_MAX, RECENT_MAX
from chunkspool.outcomes import Outcome
from chunkspool.policy import Policy
from chunkspool.producing.buffer import BATCH_BYTES, BATCH_EVENTS
from chunkspool.settings import LogSettings
from chunkspool.spool.outcome_stream import BATCH_MAX
from chunkspool.states import ON_ACTIVE, OnActive, Priority
from chunkspool.store import chats, erasures, forks, keeping, outcomes, removal, retention, schedule, scripts, totals
from chunkspool.store.blocks import BLOCK_BYTES
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall
from chunkspool.store.digests import MAX_DIGEST_BYTES
from chunkspool.store.index import INDEX_PAGE, Member, forget, list_again, note_swept
from chunkspool.store.keeping import KEPT_AT_ONCE
from chunkspool.store.keys import PINS_DUE, RETENTION_DUE, SIZES_DUE, TOUCHED_DUE, ChatKeys, QueueKeys, TenantKeys
from chunkspool.store.log_size import LogSize
from chunkspool.store.removal import REMOVED_AT_ONCE
from chunkspool.store.retention import DROPPED_AT_ONCE
from chunkspool.store.scripts import REPLACED_AT_ONCE, WAITING_AT_ONCE
from chunkspool.store.streams import HELD_AT_ONCE, HeldStreams, StreamLimit, hold_streams
from chunkspool.store.totals import EXPIRED_AT_ONCE
from chunkspool.store.touched import TOUCHED_AT_ONCE, Touched, leave, recheck, touch

MAX_MICROSECONDS = 5000
ENOUGH, PATIENCE = 3, 40
"""The slow log measures by the clock, and a busy machine takes the server's CPU away in the middle of a script. So the
quickest run counts: of the first few, or of more where these were all disturbed."""
LISTED_MAX = 100_000
TTL_MS = LEASE_MS = 600_000
MANY = 50_000
LEFT_BY_OLDER_VERSIONS = 6000
MEGABYTE = b'"%b"' % (b"x" * (LogSettings().max_request_bytes - 2))
HALF = MEGABYTE[: len(MEGABYTE) // 2]
OUTCOME_BYTES = 100 * 1024
"""The most that `outcome_text_bytes` may be."""
QUEUE = QueueKeys("chunkspool")


class Chat:
    """A chat that is filled by hand."""

    def __init__(self, client: Redis, name: str, crowd: int) -> None:
        """`crowd`: so many further generations are active."""
        self.client = client
        self.store = Store(client)
        self.keys = ChatKeys("default", name)
        self.crowd = crowd

    def enqueue(
        self, *, request: bytes = b"{}", request_id: str | None = None, on_active: OnActive = "allow", **options: Any
    ) -> str:
        """Make a generation; return its id."""
        generation_id = new_generation_id()
        call = scripts.enqueue(
            self.keys,
            generation_id,
            request,
            model=None,
            active=(),
            on_active=on_active,
            ttl_ms=TTL_MS,
            request_id=request_id,
            **options,
        )
        assert self.store.send(call).outcome == "created"
        return generation_id

    def fill(self, number: int = REPLACED_AT_ONCE) -> list[str]:
        """Make so many generations that nobody has claimed; return their ids."""
        return [self.enqueue(max_active=10**6) for _ in range(number)]

    def claim_call(self, generation_id: str) -> ScriptCall[Any]:
        """Return a claim."""
        return scripts.claim(
            self.keys, generation_id, token=generation_id, lease_ms=LEASE_MS, max_attempts=3, model=None
        )

    def run(self, **options: Any) -> str:
        """Make a generation and claim it; return its id."""
        generation_id = self.enqueue(**options)
        assert self.store.send(self.claim_call(generation_id)).outcome == "claimed"
        return generation_id

    def join_crowd(self, *, in_front: bool = True) -> None:
        """Add the crowd to the active generations; where the ids in use stand behind it, they are found last."""
        if self.crowd:
            crowd = [new_generation_id() for _ in range(self.crowd)]
            active = (self.client.hget(self.keys.head, "active") or b"").decode().split()
            self.client.hset(self.keys.head, "active", " ".join([*crowd, *active] if in_front else [*active, *crowd]))

    def list_expired(self) -> None:
        """List many generations that have expired."""
        self.client.zadd(self.keys.gens, {f"expired-{n}": 1 for n in range(MANY)})


def enqueue(on_active: OnActive) -> Callable[[Chat], ScriptCall[Any]]:
    """Return what enqueues with a large request and transcript while as many are active as may be."""

    def make(chat: Chat) -> ScriptCall[Any]:
        is_beside = on_active in {"allow", "queue"}
        active = chat.fill(REPLACED_AT_ONCE - is_beside)
        chat.join_crowd(in_front=False)
        chat.list_expired()
        return scripts.enqueue(
            chat.keys,
            new_generation_id(),
            HALF,
            model=None,
            active=() if is_beside else active,
            on_active=on_active,
            ttl_ms=TTL_MS,
            request_id="request",
            transcript=scripts.NewTranscript(HALF, None),
        )

    return make


def converse(on_active: OnActive) -> Callable[[Chat], ScriptCall[Any]]:
    """Return what enqueues with as many new messages as may be, half as large as a request may be."""

    def make(chat: Chat) -> ScriptCall[Any]:
        active = chat.fill(REPLACED_AT_ONCE - (on_active == "allow"))
        chat.join_crowd(in_front=False)
        own_id = new_generation_id()
        message = MessageEvent(
            generation_id=own_id, id="m", role="user", content="x" * (len(HALF) // MESSAGES_MAX - 150)
        )
        events = scripts.NewEvents((encode(message),) * MESSAGES_MAX, 0, b"{}", (), ("0123456789",) * RECENT_MAX)
        return scripts.enqueue(
            chat.keys,
            own_id,
            HALF,
            model=None,
            active=() if on_active == "allow" else active,
            on_active=on_active,
            ttl_ms=TTL_MS,
            request_id="request",
            events=events,
        )

    return make


def claim(chat: Chat) -> ScriptCall[Any]:
    """Claim a generation with a large request."""
    generation_id = chat.enqueue(request=MEGABYTE)
    chat.join_crowd()
    return chat.claim_call(generation_id)


def append(last: int) -> Callable[[Chat], ScriptCall[Any]]:
    """Return what appends a full batch that ends the generation, with an event of `last` bytes before the ending."""

    def make(chat: Chat) -> ScriptCall[Any]:
        generation_id = chat.run(request_id="request")
        chat.join_crowd()
        text = "x" * (BATCH_BYTES // BATCH_EVENTS - 100)
        deltas = [TextDelta(generation_id=generation_id, text=text) for _ in range(BATCH_EVENTS - 2)]
        long = TextDelta(generation_id=generation_id, text="x" * last)
        events = [encode(event) for event in (*deltas, long, GenerationCompleted(generation_id=generation_id))]
        return scripts.append(
            chat.keys, generation_id, attempt=1, index=1, lease_ms=LEASE_MS, events=events, ending="completed"
        )

    return make


def stop(chat: Chat) -> ScriptCall[Any]:
    """End a generation that waits."""
    generation_id = chat.enqueue()
    chat.join_crowd()
    return scripts.stop(chat.keys, generation_id, by="user", reason="x" * 500)


def lose(chat: Chat) -> ScriptCall[Any]:
    """End a generation that is lost."""
    generation_id = chat.enqueue()
    chat.join_crowd()
    return scripts.lose(chat.keys, generation_id, silent_ms=0)


def add_block(chat: Chat) -> ScriptCall[Any]:
    """Add a block that cannot be compressed to a digest that has many."""
    seq = 10_000_001
    for at in (seq - 5000, seq):
        chat.client.xadd(chat.keys.log, {"t": "1", "e": "{}"}, id=f"{at}-0")
    chat.client.expire(chat.keys.log, TTL_MS // 1000)
    chat.client.hset(chat.keys.head, "log", "log")
    lines = "".join(f"{'x' * 200}\n" for _ in range(2000))
    digest = {"chain": "chain", "last": seq - 5000, "bytes": 50_000_000, "index": lines}
    chat.client.hset(chat.keys.digest, mapping=digest)
    args = ("chain", "chain", "log", seq - 4999, seq, "1", "x" * 200, os.urandom(BLOCK_BYTES), MAX_DIGEST_BYTES)
    keys = chat.keys.log, chat.keys.head, chat.keys.digest
    return ScriptCall(scripts.load("add_block"), keys, args, _added)


def _added(reply: list[Any]) -> bool:
    assert reply == [b"added"]
    return True


def open_stream(chat: Chat) -> ScriptCall[Any]:
    """Open one more where a thousand processes have some of tenant, owner and chat, half of which were killed."""
    limits: tuple[StreamLimit, ...] = ("streams", "owner_streams", "chat_streams")
    held = [HeldStreams(limit, "name", 1) for limit in limits]
    call = hold_streams("default", "one-more", held, version=1, limits=Policy(owner_streams=10**6), refuses=True)
    for key in call.keys:
        chat.client.hset(key, mapping={f"{n:016x}": f"1 {1 if n % 2 else 2**53} 1" for n in range(1000)})
    return call


def renew_streams(chat: Chat) -> ScriptCall[Any]:
    """Tell of as many chats as a call may, of which many processes have streams."""
    held = [HeldStreams("chat_streams", f"chat-{n}", 1) for n in range(HELD_AT_ONCE)]
    call = hold_streams("default", "one-more", held, version=1, limits=Policy(), refuses=False)
    for key in call.keys:
        chat.client.hset(key, mapping={f"{n:016x}": f"1 {2**53} 1" for n in range(100)})
    return call


def count_logs(chat: Chat, number: int, *, owners: int, ends: int = 2**53, tenant: str = "default") -> None:
    """Count the logs of as many chats, of which the first belong to so many owners; by hand, as there may be many."""
    scopes: dict[str, list[str]] = {tenant: []}
    for n in range(number):
        scopes[tenant].append(f"chat-{n} /" if n >= owners else f"chat-{n} {n:016x}")
        if n < owners:
            scopes[f"{tenant}/{n:016x}"] = [f"chat-{n} {n:016x}"]
    for scope, lines in scopes.items():
        pairs = [line.split() for line in lines]
        sizes = {name: f"1000 1 {owner}" for name, owner in pairs}
        chat.client.hset(f"cs:{{index}}:sizes:{scope}", mapping={**sizes, "/": str(1000 * len(sizes))})
        chat.client.zadd(f"cs:{{index}}:sizes_until:{scope}", dict.fromkeys(sizes, ends))
        chat.client.zadd(SIZES_DUE, {scope: ends})


def count_sizes(chat: Chat) -> ScriptCall[Any]:
    """Measure as many chats as a call may, each of another owner, where as many as it may take out have expired."""
    count_logs(chat, MANY, owners=schedule.LOOK_AT)
    for n in range(9):
        count_logs(chat, EXPIRED_AT_ONCE // 9 + 1, owners=0, ends=1, tenant=f"tenant-{n}")
    sizes = [(f"chat-{n}", LogSize(10**9, 2, TTL_MS)) for n in range(schedule.LOOK_AT)]
    return totals.count_sizes("default", sizes, expired=EXPIRED_AT_ONCE)


def expire(chat: Chat) -> ScriptCall[Any]:
    """End a generation that is no longer wanted."""
    generation_id = chat.enqueue(expires_ms=1)
    chat.client.hset(chat.keys.gen(generation_id), "expires", 1)
    chat.join_crowd()
    return scripts.expire(chat.keys, generation_id)


def unpublish(chat: Chat) -> ScriptCall[Any]:
    """Let the last of many publishers fail."""
    generation_id = chat.enqueue(request_id="request")
    chat.join_crowd()
    chat.client.hset(chat.keys.gen(generation_id), "publishers", " ".join([generation_id] * 32))
    return scripts.unpublish(chat.keys, generation_id, "request", generation_id)


def publish_again(chat: Chat) -> ScriptCall[Any]:
    """Add one more to many publishers."""
    generation_id = chat.enqueue(request_id="request")
    chat.client.hset(chat.keys.gen(generation_id), "publishers", " ".join(f"{n:08}" for n in range(31)))
    return scripts.publish_again(chat.keys, generation_id, "token")


def mark_read(chat: Chat) -> ScriptCall[Any]:
    """Note a reader among many."""
    chat.enqueue()
    chat.client.hset(chat.keys.readers, mapping={f"reader-{n}": 1 for n in range(MANY)})
    return scripts.mark_read(chat.keys, "one-more", 1, is_noted=True)


def place(chat: Chat, *, owner: str | None = None, priority: Priority = "interactive") -> str:
    """Reserve a place of a generation; return its id."""
    generation_id = new_generation_id()
    assert not chat.store.send(reserve_call(chat, generation_id, owner=owner, priority=priority)).limit
    return generation_id


def reserve_call(
    chat: Chat, generation_id: str, *, owner: str | None = None, priority: Priority = "interactive", queued: int = 10**6
) -> ScriptCall[schedule.Reservation]:
    """Return what reserves a place."""
    limits = Policy(queued=queued, owner_queued=queued, per_minute=10**6, owner_per_minute=10**6)
    return schedule.reserve(
        chat.keys,
        QUEUE,
        generation_id,
        task="task",
        owner=owner,
        priority=priority,
        place_ms=TTL_MS,
        size=1,
        limits=limits,
    )


def offer_slots_of_many(chat: Chat) -> None:
    """Have a thousand workers, as many as are remembered, of which half have gone without a word."""
    slots = {f"worker-{n}@host": f"1 {1 if n % 2 else 2**53}" for n in range(1000)}
    chat.client.hset("cs:{index}:slots:chunkspool", mapping=slots)


def reserve(chat: Chat) -> ScriptCall[Any]:
    """Meet the limits of tenant and owner, where all that count have ended unnoticed, and many are too old."""
    ids = [place(chat, owner="owner") for _ in range(4 * schedule.LOOK_AT)]
    chat.client.delete(QUEUE.unfinished)
    chat.client.zadd(QUEUE.unfinished, {f"default chat {new_generation_id()}": 1 for _ in range(MANY)})
    for owner in (None, "owner"):
        chat.client.zadd(chats.list_key("default", owner), {f"chat-{n}": n for n in range(LISTED_MAX + 200)})
    offer_slots_of_many(chat)
    return reserve_call(chat, new_generation_id(), owner="owner", queued=len(ids))


def meet_bytes(chat: Chat) -> ScriptCall[Any]:
    """Meet the limit of a tenant's logs, of which many have expired unnoticed, beside all of the case above."""
    call = reserve(chat)
    count_logs(chat, MANY, owners=0, ends=1)
    limits = Policy(queued=10**6, owner_queued=10**6, per_minute=10**6, owner_per_minute=10**6, bytes=1000)
    args = list(call.args)
    args[4] = schedule.words_of(limits)
    return ScriptCall(call.script, call.keys, tuple(args), call.parse)


def wait_in_lines(chat: Chat, tenants: int) -> list[schedule.Note]:
    """Reserve as many places as there are notes in a call; return what says that they wait."""
    notes: list[schedule.Note] = []
    for n in range(schedule.NOTES_MAX):
        tenant = Chat(chat.client, "chat", 0)
        tenant.keys = ChatKeys(f"tenant-{n % tenants}", "chat")
        generation_id = place(tenant, owner=f"owner-{n}", priority="batch" if n % 2 else "interactive")
        notes.append(("wait", tenant.keys.member(generation_id)))
    return notes


def put_into_lines(chat: Chat) -> ScriptCall[Any]:
    """Let as many wait as a call may tell of, each of another owner, and take out as many as it may."""
    notes = wait_in_lines(chat, 100)
    offer_slots_of_many(chat)
    return schedule.schedule(QUEUE, notes, limits=Policy(), tidies=True)


def look_at_full_tenants(chat: Chat) -> ScriptCall[Any]:
    """Find nobody among many tenants that run all that they may, while many have ended unnoticed."""
    for _ in range(3):
        chat.store.send(schedule.schedule(QUEUE, wait_in_lines(chat, 100), limits=Policy(), most=0))
    offer_slots_of_many(chat)
    over = {f"default chat {new_generation_id()}": 1 for _ in range(MANY)}
    chat.client.zadd(QUEUE.running, over)
    chat.client.zadd(QUEUE.sent, over)
    notes = wait_in_lines(chat, 100)
    chat.client.hset("cs:{index}:slots:chunkspool", "large", f"1000000 {2**53}")
    return schedule.schedule(QUEUE, notes, limits=Policy(running=0), tidies=True)


def end_many(chat: Chat) -> ScriptCall[Any]:
    """End as many as a call may tell of, each with a log that is counted for an owner, and hand over as many."""
    notes = wait_in_lines(chat, 100)
    chat.store.send(schedule.schedule(QUEUE, notes, limits=Policy(), most=0))
    waiting = wait_in_lines(chat, 100)
    chat.store.send(schedule.schedule(QUEUE, waiting, limits=Policy(), most=0))
    offer_slots_of_many(chat)
    for n in range(schedule.NOTES_MAX):
        count_logs(chat, 1000, owners=1, ends=1, tenant=f"tenant-{n}")
    size = LogSize(10**9, chat.client.time()[0] * 1000, TTL_MS)
    return schedule.schedule(QUEUE, [("end", one[1], size) for one in notes], limits=Policy(), tidies=True)


def forget_places(chat: Chat) -> ScriptCall[Any]:
    """Forget as many that wait as a call may."""
    ids = [place(chat, owner=f"owner-{n}") for n in range(schedule.NOTES_MAX)]
    notes: list[schedule.Note] = [("wait", chat.keys.member(each)) for each in ids]
    chat.store.send(schedule.schedule(QUEUE, notes, limits=Policy(), most=0))
    return schedule.forget(chat.keys, [(each, "chunkspool") for each in ids])


def position(chat: Chat) -> ScriptCall[Any]:
    """Find the last of a batch among many owners and tenants."""
    for _ in range(4):
        chat.store.send(schedule.schedule(QUEUE, wait_in_lines(chat, 100), limits=Policy(), most=0))
    ids = [place(chat, owner=f"owner-{n}", priority="batch") for n in range(schedule.NOTES_MAX)]
    notes: list[schedule.Note] = [("wait", chat.keys.member(each)) for each in ids]
    chat.store.send(schedule.schedule(QUEUE, notes, limits=Policy(), most=0))
    return schedule.position(chat.keys, ids[-1])


def restore_head(chat: Chat) -> ScriptCall[Any]:
    """Write `head` again where many are active."""
    chat.enqueue()
    chat.client.delete(chat.keys.head)
    return scripts.restore_head(chat.keys, [new_generation_id() for _ in range(max(REPLACED_AT_ONCE, chat.crowd))])


def fill_to_erase(chat: Chat) -> tuple[list[str], list[str]]:
    """Make as many generations as are removed at once; return their ids and their requests'."""
    request_ids = [f"request-{n}" for n in range(REMOVED_AT_ONCE)]
    ids = [chat.enqueue(request_id=each, max_active=10**6) for each in request_ids]
    chat.client.hset(chat.keys.readers, mapping={f"reader-{n}": 1 for n in range(MANY)})
    return ids, request_ids


def erase(chat: Chat) -> ScriptCall[Any]:
    """Erase a chat in which all generations are active."""
    ids, request_ids = fill_to_erase(chat)
    keys = chat.keys
    return removal.erase(keys, active=ids, generation_ids=ids, request_ids=request_ids, listed=len(ids))


def erase_some(chat: Chat) -> ScriptCall[Any]:
    """Take a step of the erase of a chat that has more generations."""
    ids, request_ids = fill_to_erase(chat)
    chat.list_expired()
    chat.join_crowd(in_front=False)
    return removal.erase_some(chat.keys, active=ids, generation_ids=ids, request_ids=request_ids)


def forget_gone(chat: Chat) -> ScriptCall[Any]:
    """Find that all of a page are gone."""
    chat.enqueue()
    gone = [new_generation_id() for _ in range(REMOVED_AT_ONCE)]
    chat.client.hset(chat.keys.head, "active", " ".join(gone))
    chat.join_crowd()
    return removal.forget_gone(chat.keys, gone)


def free_next(chat: Chat) -> ScriptCall[Any]:
    """Let the next begin after as many as one call looks at, whose hashes are gone, and keep as many that wait."""
    first, *waiting = (chat.enqueue(on_active="queue", max_active=10**6) for _ in range(WAITING_AT_ONCE + 1))
    chat.client.delete(chat.keys.gen(first))
    chat.client.hset(chat.keys.head, "active", " ".join(new_generation_id() for _ in range(63)))
    chat.join_crowd(in_front=False)
    return scripts.free_next(chat.keys, waiting)


def claim_behind(chat: Chat) -> ScriptCall[Any]:
    """Refuse one that waits, as far as a call looks."""
    waits = [chat.enqueue(on_active="queue", max_active=10**6) for _ in range(2)][1]
    chat.client.hset(chat.keys.head, "active", " ".join([*(new_generation_id() for _ in range(64)), waits]))
    chat.join_crowd(in_front=False)
    return chat.claim_call(waits)


def touch_many(chat: Chat) -> ScriptCall[Any]:
    """Note as many people as a call may, each of whom has touched some chats."""
    people = [f"{n:016x}" for n in range(TOUCHED_AT_ONCE)]
    chat.client.zadd(TOUCHED_DUE, {f"default/{n:016x}": n for n in range(MANY)})
    for one in people:
        chat.client.zadd(OF_TENANT.touched(one), {f"chat-{n}": n for n in range(100)})
    return touch("default", chat.keys.chat_id, people, TTL_MS)


def recheck_touched(chat: Chat) -> ScriptCall[Any]:
    """Forget half of as many chats as a call may, of a person who has touched many."""
    chat.client.zadd(OF_TENANT.touched("person"), {f"chat-{n}": n for n in range(MANY)})
    seen = [(Touched(f"chat-{n}", n), None if n % 2 else TTL_MS) for n in range(TOUCHED_AT_ONCE)]
    return recheck("default/person", seen)


def leave_lists(chat: Chat) -> ScriptCall[Any]:
    """Take a chat out of as many lists as a call may, in half of which it is the only one."""
    chat.client.zadd(TOUCHED_DUE, {f"default/{n:016x}": n for n in range(MANY)})
    lists = [(OF_TENANT.touched(f"{n:016x}"), 1) for n in range(TOUCHED_AT_ONCE)]
    for number, (key, _) in enumerate(lists):
        chat.client.zadd(key, {"chat": 1, **({f"chat-{n}": n for n in range(100)} if number % 2 else {})})
    return leave("chat", lists)


def fill_to_erase_person(chat: Chat) -> erasures.Person:
    """Let a person touch many chats, and be one of many who have."""
    person = erasures.Person("default", "person")
    chat.client.zadd(OF_TENANT.touched(person.hash), {f"chat-{n}": n for n in range(MANY)})
    chat.client.zadd(TOUCHED_DUE, {f"default/{n:016x}": n for n in range(MANY)})
    return person


def begin_erasure(chat: Chat) -> ScriptCall[Any]:
    """Begin to erase a person."""
    return erasures.begin(fill_to_erase_person(chat), is_asked_for=True)


def settle_erasure(chat: Chat) -> ScriptCall[Any]:
    """Go through the first chat of a person, which many others have touched, too."""
    person = fill_to_erase_person(chat)
    chat.store.send(erasures.begin(person, is_asked_for=True))
    chat.client.hset(person.leaving, mapping={f"list-{n} chat-0": n for n in range(MANY)})
    return erasures.settle(person, "chat-0", TTL_MS)


def end_erasure(chat: Chat) -> ScriptCall[Any]:
    """End the erasure of a person who had large lists."""
    person = fill_to_erase_person(chat)
    chat.store.send(erasures.begin(person, is_asked_for=True))
    chat.client.delete(person.erasing)
    for key in OF_TENANT.of_person(person.hash)[:3]:
        chat.client.zadd(key, {f"chat-{n}": n for n in range(MANY)})
    return erasures.end(person)


def sweep_page(chat: Chat) -> list[Member]:
    """Return a page of the sweep."""
    ids = [new_generation_id() for _ in range(INDEX_PAGE)]
    return [Member(chat.keys.member(each), chat.keys, each, 1) for each in ids]


def keep_places(chat: Chat) -> ScriptCall[Any]:
    """Renew all places of a page of the sweep."""
    return scripts.transaction(note_swept(QUEUE, 1, 1, sweep_page(chat), TTL_MS))


def forget_members(chat: Chat) -> ScriptCall[Any]:
    """Forget all members of a page of the sweep."""
    page = sweep_page(chat)
    chat.store.send(list_again(QUEUE, page))
    return scripts.transaction(forget(QUEUE, [member.name for member in page]))


def set_title(chat: Chat) -> ScriptCall[Any]:
    """Give a chat that many are active in the longest title."""
    chat.enqueue()
    chat.join_crowd()
    return chats.set_title(chat.keys, "🦉" * MAX_TITLE)


def unlist(chat: Chat) -> ScriptCall[Any]:
    """Take as many out of a long list as one call may."""
    key = chats.list_key("default", None)
    chat.client.zadd(key, {f"chat-{n}": n for n in range(MANY)})
    return chats.unlist(key, [chats.Listed(f"chat-{n}", n) for n in range(chats.UNLISTED_AT_ONCE)])


def fill_copy(chat: Chat, number: int) -> None:
    """Let a copy have so many events."""
    with chat.client.pipeline(transaction=False) as pipeline:
        for seq in range(1, number + 1):
            pipeline.xadd(chat.keys.copy("token"), {"t": 1, "e": b"x" * 100}, id=f"{seq}-0")
        pipeline.execute()


def stage_fork(size: int) -> Callable[[Chat], ScriptCall[Any]]:
    """Return what adds as many events to a long copy as one step takes, each of so many bytes."""

    def make(chat: Chat) -> ScriptCall[Any]:
        fill_copy(chat, 1000)
        event = TextDelta(generation_id="g", text="")
        number = min(forks.STEP_EVENTS, forks.STEP_BYTES // size)
        entries = [Entry(1001 + n, 1, event, b"x" * size) for n in range(max(1, number))]
        return forks.stage(chat.keys, "token", 1000, entries)

    return make


def make_fork(chat: Chat) -> ScriptCall[Any]:
    """Let a long copy become a log, with all that a chat has from the beginning."""
    fill_copy(chat, 10_000)
    recent = [f"{n:010}" for n in range(64)]
    title = "🦉" * MAX_TITLE
    owners = [f"{n:016x}" for n in range(forks.OWNERS_MAX)]
    return forks.make(chat.keys, "token", last=10_000, ttl_ms=TTL_MS, owners=owners, title=title, recent=recent)


def reserve_fork(chat: Chat) -> ScriptCall[Any]:
    """Find room only where many logs of the tenant and the owner have expired, and a place in full lists."""
    owner = schedule.hash_of("default", "owner")
    for tenant in ("default", f"default/{owner}"):
        count_logs(chat, MANY, owners=0, ends=1, tenant=tenant)
    for each in (None, "owner"):
        chat.client.zadd(chats.list_key("default", each), {f"chat-{n}": n for n in range(LISTED_MAX + 200)})
    limits = Policy(bytes=MANY * 1000 - 50_000, owner_bytes=MANY * 1000 - 50_000)
    size = LogSize(1000, chat.client.time()[0] * 1000, TTL_MS)
    return forks.reserve_fork(chat.keys, "owner", size, limits)


def drop(chat: Chat) -> ScriptCall[Any]:
    """Return what drops as many events as one call may, of a log that goes on behind them."""
    generation_id = chat.run()
    with chat.client.pipeline(transaction=False) as pipe:
        event = encode(TextDelta(generation_id=generation_id, text="word "))
        for seq in range(3, DROPPED_AT_ONCE + 103):
            pipe.xadd(chat.keys.log, {"t": 1795892461420, "e": event}, id=f"{seq}-0")
        pipe.hset(chat.keys.gen(generation_id), "status", "completed")
        pipe.execute()
    chat.join_crowd(in_front=False)
    chat.client.hset(chat.keys.head, "active", "")
    return retention.drop(chat.keys, chat.store.send(retention.look(chat.keys)), DROPPED_AT_ONCE)


def chats_after(chat: Chat) -> ScriptCall[Any]:
    """Return what reads a page of many chats, all of which expire in the same ms."""
    chat.client.zadd("cs:{index}:sizes_until:default", {f"other-{n:06}": 10**12 for n in range(2 * MANY)})
    return retention.chats_after("default", 10**12, f"other-{MANY:06}", 200)


def keep(chat: Chat) -> ScriptCall[Any]:
    """Return what sets the TTLs of as many generations as one call may."""
    chat.list_expired()
    ids = [chat.enqueue(max_active=10**6, request_id=f"request-{n}") for n in range(KEPT_AT_ONCE)]
    chat.join_crowd()
    return keeping.keep(chat.keys, "pin", TTL_MS, ids)


def note_kept(chat: Chat) -> ScriptCall[Any]:
    """Return what pins one of many."""
    chat.client.zadd(PINS_DUE, {f"default other-{n}": n for n in range(MANY)})
    chat.client.zadd("cs:{index}:pinned:default", {f"other-{n}": n for n in range(MANY)})
    owners = [f"{n:016x}" for n in range(64)]
    return keeping.note(chat.keys, "pin", Policy(pinned=MANY + 1), owners=owners)


def renew_pin(chat: Chat) -> ScriptCall[Any]:
    """Return what says of one of many that it was renewed."""
    chat.client.zadd(PINS_DUE, {f"default other-{n}": n for n in range(MANY)} | {f"default {chat.keys.chat_id}": 1})
    return keeping.renew(chat.keys, TTL_MS)


def settle_retention(chat: Chat) -> ScriptCall[Any]:
    """Return what takes as many chats off the list as one call may."""
    chat.client.zadd(RETENTION_DUE, {f"default other-{n}": n for n in range(MANY)})
    due = chat.store.send(retention.list_due(0))
    return retention.settle([(one, None if n % 2 else 1000) for n, one in enumerate(due)])


def outcome(number: int, text: str = "") -> Outcome:
    """Return an outcome of which little is known."""
    known = {field.name: None for field in dataclasses.fields(Outcome)}
    own = {"id": "", "tenant": "default", "chat_id": "chat", "generation_id": f"g-{number}", "state": "completed"}
    times = dict.fromkeys(("attempt", "created", "ended", "first", "last"), 10**13)
    return Outcome(**{**known, **own, **times, "text": text, "log_expired": False, "deliveries": 1})  # type: ignore[arg-type]


def tell(chat: Chat, number: int, size: int, *, groups: int = 1) -> None:
    """Let so many outcomes of a size wait for groups."""
    for group in range(groups):
        chat.store.send(outcomes.join("default", f"group-{group}"))
    stored = outcome(1, "x" * size).encode()
    with chat.client.pipeline(transaction=False) as pipeline:
        for _ in range(number):
            pipeline.xadd(TenantKeys("default").outcomes, {"o": stored, "c": chat.keys.chat_id})
        pipeline.execute()


def take_all(chat: Chat, number: int, *, batch: int = BATCH_MAX) -> ScriptCall[Any]:
    """Hand out so many to a consumer that vanishes; return what the next consumer sends."""
    for _ in range(0, number, batch):
        chat.store.send(take("gone", 10**8, batch=batch))
    return take("next", 1, batch=batch)


def take(consumer: str, claim_after_ms: int, *, batch: int = BATCH_MAX) -> ScriptCall[Any]:
    """Return what hands out outcomes."""
    return outcomes.take(
        "default",
        "group-0",
        consumer,
        batch=batch,
        claim_after_ms=claim_after_ms,
        max_deliveries=1,
        cursor="0-0",
    )


def relay_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Bring large ones where one group has read little and another one has to go."""
    tell(chat, 700, OUTCOME_BYTES)
    chat.store.send(outcomes.join("default", "other"))
    found = [outcome(n, "x" * OUTCOME_BYTES) for n in range(outcomes.RELAYED_AT_ONCE)]
    return outcomes.relay("default", found, read_at=chat.client.time()[0] * 1000, most_bytes=2**20)


def next_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Get new ones, as many and as large as may be."""
    tell(chat, 100, OUTCOME_BYTES)
    return take("consumer", 10**8)


def next_poison(chat: Chat) -> ScriptCall[Any]:
    """Find only such as have been handed out too often."""
    tell(chat, 100, OUTCOME_BYTES)
    call = take_all(chat, 100)
    eventually(lambda: chat.client.xpending_range(TenantKeys("default").outcomes, "group-0", "-", "+", 1, idle=2))
    return call


def ack_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Acknowledge many, of which all then leave."""
    tell(chat, 100, OUTCOME_BYTES)
    take_all(chat, 100)
    ids = [entry.decode() for entry, _ in chat.client.xrange(TenantKeys("default").outcomes)]
    return outcomes.acknowledge("default", "group-0", ids)


def join_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Join a group of very many consumers."""
    tell(chat, 1, 10)
    for n in range(1000):
        chat.client.xgroup_createconsumer(TenantKeys("default").outcomes, "group-0", f"c-{n}")
    return outcomes.join("default", "group-0")


def leave_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Leave it."""
    join_outcomes(chat)
    return outcomes.leave("default", "group-0", "c-999")


def lag_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Ask how far a hundred groups are behind, with large outcomes."""
    tell(chat, 100, 1000, groups=100)
    return outcomes.lag("default")


def forget_outcomes(chat: Chat) -> ScriptCall[Any]:
    """Remove the outcomes of a chat that has all."""
    tell(chat, 100, OUTCOME_BYTES)
    return outcomes.forget_chat(chat.keys)


def mark_outcome(chat: Chat) -> ScriptCall[Any]:
    """Mark one that has ended."""
    generation_id = chat.enqueue(outcome_wanted=True)
    chat.client.hset(chat.keys.gen(generation_id), "status", "failed")
    chat.client.hset(chat.keys.gen(generation_id), "ended", 1)
    return outcomes.mark(chat.keys, generation_id)


OF_TENANT = TenantKeys("default")
CASES: dict[str, Sequence[Callable[[Chat], ScriptCall[Any]]]] = {
    "ack_outcomes": [ack_outcomes],
    "forget_outcomes": [forget_outcomes],
    "join_outcomes": [join_outcomes],
    "lag_outcomes": [lag_outcomes],
    "leave_outcomes": [leave_outcomes],
    "mark_outcome": [mark_outcome],
    "next_outcomes": [next_outcomes, next_poison],
    "relay_outcomes": [relay_outcomes],
    "add_block": [add_block],
    "begin_erasure": [begin_erasure],
    "append": [append(last=900), append(last=43_000)],
    "chats_after": [chats_after],
    "claim": [claim, claim_behind],
    "count_sizes": [count_sizes],
    "drop": [drop],
    "end_erasure": [end_erasure],
    "enqueue": [
        *(enqueue(on_active) for on_active in ON_ACTIVE),
        converse("replace"),
        converse("allow"),
    ],
    "erase": [erase],
    "erase_some": [erase_some],
    "expire": [expire],
    "forget": [forget_places],
    "forget_gone": [forget_gone],
    "free_next": [free_next],
    "hold_streams": [open_stream, renew_streams],
    "keep": [keep],
    "leave": [leave_lists],
    "lose": [lose],
    "make_fork": [make_fork],
    "mark_read": [mark_read],
    "note_kept": [note_kept],
    "position": [position],
    "publish_again": [publish_again],
    "renew_pin": [renew_pin],
    "recheck_touched": [recheck_touched],
    "reserve": [reserve, meet_bytes],
    "reserve_fork": [reserve_fork],
    "restore_head": [restore_head],
    "schedule": [put_into_lines, look_at_full_tenants, end_many],
    "set_title": [set_title],
    "settle_retention": [settle_retention],
    "stage_fork": [stage_fork(900), stage_fork(10), stage_fork(10**6)],
    "settle_erasure": [settle_erasure],
    "stop": [stop],
    "touch": [touch_many],
    "transaction": [keep_places, forget_members],
    "unlist": [unlist],
    "unpublish": [unpublish],
}


@pytest.fixture(scope="module")
def own_client(redis_server: PrivateServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Provide a client of a server that writes every call to its slow log."""
    with run_second_server(redis_server, tmp_path_factory.mktemp("slow_log")) as server, server.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 1000)
        yield client


def measure(client: Redis, call: ScriptCall[Any]) -> int:
    """Send a call; return how many microseconds the slow log says it took."""
    client.script_load(call.script.text)
    client.slowlog_reset()
    Store(client).send(call)
    (took,) = [entry["duration"] for entry in client.slowlog_get(10) if entry["command"].startswith(b"EVALSHA")]
    return int(took)


@pytest.mark.parametrize("crowd", [0, LEFT_BY_OLDER_VERSIONS], ids=["full", "left by an older version"])
@pytest.mark.parametrize("name", CASES)
def test_no_script_takes_longer_than_five_milliseconds(own_client: Redis, name: str, crowd: int) -> None:
    """Each script at its maximum; also in a chat in which an older version has let thousands be active."""
    for number, make in enumerate(CASES[name]):
        took: list[int] = []
        while len(took) < ENOUGH or (min(took) > MAX_MICROSECONDS and len(took) < PATIENCE):
            own_client.flushall()
            took.append(measure(own_client, make(Chat(own_client, f"chat-{len(took)}", crowd))))
        assert min(took) <= MAX_MICROSECONDS, f"{name} {number}: {took}"


def test_every_script_is_tried_and_states_its_maximum() -> None:
    """A new script gets a case here, and a line in its header."""
    folder = Path(str(files("chunkspool.store"))) / "lua"
    texts = {file.stem: file.read_text() for file in folder.glob("*.lua")}
    assert set(texts) == {
        "prelude",
        "schedule_prelude",
        "sizes_prelude",
        "chats_prelude",
        "outcomes_prelude",
        "touch_prelude",
        *CASES,
    }
    assert [name for name in CASES if "-- Maximum: " not in texts[name]] == []
