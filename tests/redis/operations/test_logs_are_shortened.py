"""A log that may only be so long drops whole answers from the oldest on, and whoever reads learns of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, ENDINGS, KEYS
from support.chats.random_chats import read_stored_entries, seeded_random, write_random_chat
from support.chats.spools import spool_for
from support.chats.steps import run_until, sweep
from support.servers.contents import find_keys_containing
from support.waiting import eventually

from chunkspool import Spool, fold
from chunkspool.effects import Effect, drive
from chunkspool.errors import CorruptLog, CursorExpired, InvalidInput
from chunkspool.operations.digests import make_digest
from chunkspool.operations.retention import STEP, Dropped, shorten
from chunkspool.operations.retention import step as take_step
from chunkspool.policy import Policy
from chunkspool.results import RetentionStep
from chunkspool.store.blocks import BLOCK_BYTES
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.keys import PINS_DUE, RETENTION_DUE, ChatKeys
from chunkspool.store.retention import drop, look

MEMBER = f"default {CHAT}"


def say(
    spool: Spool, text: str = "Yes.", chat: str = CHAT, *, pieces: int = 5, prompt: str = "Really?", size: int = 1
) -> str:
    """Ask and answer, in so many pieces; return the generation's id."""
    made = spool.enqueue(chat, prompt)
    with spool.produce(chat, made.generation_id) as out:
        for n in range(pieces):
            out.data("n", f"{n}" * size)
        out.text(text)
    return made.generation_id


def retain(spool: Spool, client: Redis, **options: Any) -> RetentionStep:
    """Take a step, once what has ended is in the index."""
    eventually(lambda: client.zscore("cs:{index}:sizes_until:default", CHAT) is not None)
    return spool.retain(**options)


def shorten_now(spool: Spool, client: Redis) -> Dropped:
    """Shorten the chat's log as its policy says."""
    store = Store(client)

    def perform(effect: Effect) -> object:
        assert isinstance(effect, ScriptCall | Transaction)
        return store.send(effect)

    return drive(shorten(KEYS, spool.policy()), perform)


def begun_in(spool: Spool) -> list[str]:
    """Return the generations of the chat's snapshot."""
    return [one.generation_id for one in spool.snapshot(CHAT).answers]


def check_whole(client: Redis, active: frozenset[str] = frozenset()) -> None:
    """Fail unless the log is whole generations, from the first event to the ending of each that is not active."""
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    for _, raw in read_stored_entries(client):
        event = json.loads(raw)
        first.setdefault(event["generation"], event["type"])
        last[event["generation"]] = event["type"]
    assert set(first.values()) <= {"generation.queued", "message"}
    assert {kind for one, kind in last.items() if one not in active} <= ENDINGS


def test_the_sweep_shortens_what_has_ended(spool: Spool, client: Redis) -> None:
    """By the list of chats in which something has ended; that list is empty afterwards."""
    spool.set_policy(keep_events=20)
    ids = [say(spool) for _ in range(5)]  # nine events each
    eventually(lambda: client.zscore(RETENTION_DUE, MEMBER) is not None)
    assert client.pttl(RETENTION_DUE) > 0
    assert spool.stats().to_shorten == 1
    sweep(spool, client)
    assert begun_in(spool) == ids[3:]
    assert client.zcard(RETENTION_DUE) == 0
    check_whole(client)
    status = spool.status(CHAT)
    assert status.last - status.first + 1 == client.xlen(KEYS.log) <= 20


def test_without_a_policy_nothing_is_noted_and_nothing_dropped(spool: Spool, client: Redis) -> None:
    """A log is kept whole."""
    say(spool)
    sweep(spool, client)
    assert not client.exists(RETENTION_DUE)
    assert retain(spool, client).shortened == ()
    assert spool.status(CHAT).first == 1


def test_the_setting_holds_where_a_tenant_has_no_policy(redis_url: str, client: Redis) -> None:
    """As with all limits."""
    with spool_for(redis_url, keep_events=20) as spool:
        ids = [say(spool) for _ in range(4)]
        spool.set_policy(keep_events=1000)
        assert retain(spool, client).shortened == ()
        spool.set_policy(keep_events=None)
        assert retain(spool, client).shortened == (CHAT,)
        assert begun_in(spool) == ids[2:]


def test_bytes_bound_a_log_too(spool: Spool, client: Redis) -> None:
    """As Redis measures them; what is counted for the tenant goes down at once."""
    ids = [say(spool, "x" * 20_000) for _ in range(20)]
    whole = client.memory_usage(KEYS.log)
    spool.set_policy(keep_bytes=100_000)
    step = retain(spool, client)
    assert 0 < (client.memory_usage(KEYS.log) or 0) <= 100_000 < (whole or 0)
    assert step.log_bytes == pytest.approx((whole or 0) - (client.memory_usage(KEYS.log) or 0), rel=0.2)
    kept = begun_in(spool)
    assert kept == ids[-len(kept) :]
    assert len(kept) >= 2
    counted = int(client.hget("cs:{index}:sizes:default", "/") or 0)
    assert counted == client.memory_usage(KEYS.log)


def test_the_newest_answer_stays_whatever_its_size(spool: Spool, client: Redis) -> None:
    """A chat without its last answer would help nobody."""
    spool.set_policy(keep_events=1, keep_bytes=1)
    say(spool)
    newest = say(spool, pieces=50)
    assert retain(spool, client).events == 9
    assert begun_in(spool) == [newest]
    assert retain(spool, client).events == 0


def test_nothing_goes_that_an_active_generation_has_begun_before(spool: Spool, client: Redis) -> None:
    """Not its own events, and none of what came after them; it goes on as if nothing were."""
    spool.set_policy(keep_events=1)
    old = say(spool)
    slow = spool.enqueue(CHAT, "slowly").generation_id
    with spool.produce(CHAT, slow) as out:
        out.text("begin")
        eventually(lambda: len(spool.read(CHAT, 9)) == 3)
        for _ in range(3):
            made = spool.enqueue(CHAT, "x", on_active="allow")
            with spool.produce(CHAT, made.generation_id) as other:
                other.text("x")
        assert retain(spool, client).events == 9
        check_whole(client, frozenset({slow}))
        assert old not in begun_in(spool)
        assert begun_in(spool)[0] == slow
        out.text(" and end")
    assert fold([entry.event for entry in spool.read(CHAT, 9)])[0].text == "begin and end"
    newest = say(spool)
    retain(spool, client)
    assert begun_in(spool) == [newest]


def test_what_is_gone_without_an_ending_blocks_nothing(spool: Spool, client: Redis) -> None:
    """Its hash has expired, or was evicted; nobody can write for it any more."""
    spool.set_policy(keep_events=1)
    gone = spool.enqueue(CHAT, "x").generation_id
    client.delete(KEYS.gen(gone))
    spool.stop(CHAT)
    newest = say(spool)
    assert retain(spool, client).events == 1
    assert begun_in(spool) == [newest]


def test_what_an_outcome_may_want_stays_until_it_is_told(spool: Spool, client: Redis) -> None:
    """Its text is read from the log. The sweep comes back to the chat later."""
    spool.set_policy(keep_events=1)
    untold, newest = say(spool), say(spool)
    client.hset(KEYS.outbox, untold, "completed 1 1 1 0 9 1 / /")
    client.expire(KEYS.outbox, 600)
    assert shorten_now(spool, client).is_held_up
    assert begun_in(spool) == [untold, newest]
    client.delete(KEYS.outbox)
    assert not shorten_now(spool, client).is_held_up
    assert begun_in(spool) == [newest]


def test_readers_get_the_rest_or_are_told(spool: Spool, client: Redis) -> None:
    """At each cursor, before and after; also who stands exactly at the gap, and has a cursor with the log's id."""
    for _ in range(4):
        say(spool)
    before = spool.read(CHAT)
    spool.set_policy(keep_events=18)
    retain(spool, client)
    first = spool.status(CHAT).first
    assert first == 19
    for entry in before:
        for cursor in (entry.seq, entry.cursor):
            if entry.seq < first - 1:
                with pytest.raises(CursorExpired) as expired:
                    spool.read(CHAT, cursor)
                assert (expired.value.first, expired.value.last) == (first, 36)
            else:
                assert spool.read(CHAT, cursor) == before[entry.seq :]
    with pytest.raises(CursorExpired):
        spool.read(CHAT)
    with spool.subscribe(CHAT, first - 1, until="idle") as entries:
        assert list(entries) == before[first - 1 :]


def test_no_digest_holds_what_was_dropped(spool: Spool, client: Redis) -> None:
    """The one that was there is gone; the next one is of what is kept."""
    secret = say(spool, "unmistakable", pieces=30, size=BLOCK_BYTES // 20)
    kept = say(spool, "the rest")
    assert spool.snapshot(CHAT).answers[0].generation_id == secret
    eventually(lambda: client.exists(KEYS.digest))
    spool.set_policy(keep_events=20)
    retain(spool, client)
    assert not client.exists(KEYS.digest)
    assert begun_in(spool) == [kept]
    digest = spool.digest(CHAT)
    assert (digest.first, digest.has_gaps) == (spool.status(CHAT).first, False)
    assert find_keys_containing(client, "unmistakable") == []


def test_no_reader_brings_back_what_was_dropped(spool: Spool, client: Redis) -> None:
    """One that has read it before, and stores its block afterwards: it is dropped before some of the reader's steps."""
    spool.set_policy(keep_events=20)
    at, came = 0, True
    while came:
        spool.erase(CHAT)
        say(spool, "unmistakable", pieces=30, size=BLOCK_BYTES // 20)
        kept = say(spool, "the rest")
        came = run_until(Store(client), make_digest(KEYS), at, lambda: retain(spool, client))
        retain(spool, client)
        assert begun_in(spool) == [kept]
        assert find_keys_containing(client, "unmistakable") == []
        at += 1
    assert at > 3


def test_a_fork_holds_what_is_kept(spool: Spool, client: Redis) -> None:
    """What was dropped cannot be forked."""
    for _ in range(3):
        say(spool)
    spool.set_policy(keep_events=18)
    retain(spool, client)
    with pytest.raises(CursorExpired):
        spool.fork(CHAT, 3, to="early")
    spool.fork(CHAT, to="late")
    assert [one.text for one in spool.snapshot("late").answers] == ["Yes.", "Yes."]


def test_a_conversation_begins_later(redis_url: str, client: Redis) -> None:
    """For the model as for the page: what was dropped is no longer part of it, and there is no error."""
    with spool_for(redis_url, keep_messages=True, history=True) as spool:
        for n in range(4):
            say(spool, f"answer {n}", prompt=f"question {n}", pieces=0)
        events = spool.status(CHAT).last
        spool.set_policy(keep_events=events // 2)
        retain(spool, client)
        assert [one.text for one in spool.snapshot(CHAT).answers] == ["answer 2", "answer 3"]
        say(spool, "answer 4", prompt="question 4", pieces=0)
        texts = [str(entry.raw) for entry in spool.read(CHAT, spool.status(CHAT).first - 1)]
        assert any("question 4" in text for text in texts)
        assert not any("question 1" in text for text in texts)


def test_a_pinned_chat_is_kept_whole(spool: Spool, client: Redis) -> None:
    """Whatever the policy says of others."""
    spool.set_policy(keep_events=1, pinned=1)
    for _ in range(3):
        say(spool)
    spool.pin(CHAT)
    sweep(spool, client)
    assert retain(spool, client).events == 0
    assert spool.status(CHAT).first == 1
    assert client.zcard(PINS_DUE) == 1


def test_a_dry_run_changes_nothing(spool: Spool, client: Redis) -> None:
    """It says what would be dropped."""
    for _ in range(4):
        say(spool)
    spool.set_policy(keep_events=18)
    step = retain(spool, client, dry_run=True)
    assert (step.shortened, step.events, step.chats) == ((CHAT,), 18, 1)
    assert spool.status(CHAT).first == 1
    assert retain(spool, client).events == 18


def test_steps_go_over_all_chats_of_a_tenant(spool: Spool, client: Redis) -> None:
    """Each of them once, however many expire in the same ms; another tenant's are not touched."""
    say(spool)
    say(spool.for_tenant("other"))
    client.zadd("cs:{index}:sizes_until:default", {f"gone-{n}": 10**12 + n // 300 for n in range(2 * STEP + 10)})
    seen, after = [], None
    while True:
        step = retain(spool, client, after=after)
        seen.append(step.looked_at)
        after = step.after
        if after is None:
            break
    assert seen == [STEP, STEP, 11]
    with pytest.raises(InvalidInput):
        retain(spool, client, after="x")


def test_a_broken_chat_keeps_nobody_from_the_others(spool: Spool, client: Redis) -> None:
    """It is told; the sweep comes back to it later."""
    spool.set_policy(keep_events=18)
    for chat in ("broken", CHAT):
        for _ in range(3):
            say(spool, chat=chat)
    eventually(lambda: client.zcard(RETENTION_DUE) == 2)
    client.delete(ChatKeys("default", "broken").log)
    client.set(ChatKeys("default", "broken").log, "x", px=60_000)
    sweep(spool, client)
    assert spool.status(CHAT).first == 10
    assert client.zrange(RETENTION_DUE, 0, -1) == [b"default broken"]
    step = retain(spool, client)
    assert [chat for chat, _ in step.failed] == ["broken"]
    assert isinstance(step.failed[0][1], CorruptLog)


def test_whoever_dies_leaves_a_log_that_is_whole(spool: Spool, client: Redis) -> None:
    """Killed before each of its steps; the next one does what is left, so that the end is the same."""
    spool.set_policy(keep_events=20)
    at = steps = 0
    while True:
        spool.erase(CHAT)
        ids = [say(spool) for _ in range(5)]
        died = run_until(Store(client), take_step(spool.settings, 0, None, dry_run=False), at)
        check_whole(client)
        retain(spool, client)
        assert begun_in(spool) == ids[3:]
        at += 1
        steps += died
        if not died:
            break
    assert steps > 5


@pytest.mark.parametrize("what", ["ask", "erase", "pin", "shorten"])
def test_whatever_happens_in_between_nothing_is_torn(spool: Spool, client: Redis, what: str) -> None:
    """Somebody asks, erases, pins or does the same, before each of the steps."""
    acts: dict[str, Callable[[], object]] = {
        "ask": lambda: say(spool),
        "erase": lambda: (spool.erase(CHAT), say(spool)),
        "pin": lambda: spool.pin(CHAT),
        "shorten": lambda: retain(spool, client),
    }
    spool.set_policy(keep_events=20, pinned=1)
    at, came = 0, True
    while came:
        spool.erase(CHAT)
        for _ in range(5):
            say(spool)
        came = run_until(Store(client), shorten(KEYS, Policy(keep_events=20)), at, acts[what])
        check_whole(client)
        assert begun_in(spool)
        at += 1
    assert at > 2


def test_a_drop_that_comes_too_late_does_nothing(spool: Spool, client: Redis) -> None:
    """The log is another one, was shortened meanwhile, or something before the boundary is active again."""
    for _ in range(3):
        say(spool)
    store = Store(client)
    kept = store.send(look(KEYS))
    assert store.send(drop(KEYS, kept, 10)) == "dropped"
    assert store.send(drop(KEYS, kept, 19)) == "changed"
    assert store.send(drop(KEYS, store.send(look(KEYS)), 28)) == "changed"  # nothing would stay
    running = spool.enqueue(CHAT, "x", on_active="allow").generation_id
    say_after = spool.status(CHAT).last
    assert store.send(drop(KEYS, store.send(look(KEYS)), say_after)) == "dropped"
    client.hset(KEYS.gen(running), "after", 1)
    assert store.send(drop(KEYS, store.send(look(KEYS)), say_after)) == "active"


@pytest.mark.parametrize("seed", range(6))
def test_of_any_chat_exactly_a_suffix_stays(spool: Spool, client: Redis, seed: int) -> None:
    """Whatever was written how interleaved: the kept entries are the old ones, and no generation is cut."""
    random = seeded_random(seed)
    for _ in range(4):
        write_random_chat(spool, random)
    before = read_stored_entries(client)
    answers = {one.generation_id: one for one in spool.snapshot(CHAT).answers}
    most = random.randint(1, len(before))
    spool.set_policy(keep_events=most)
    retain(spool, client)
    after = read_stored_entries(client)
    assert after
    assert after == before[-len(after) :]
    check_whole(client)
    first = after[0][0]
    for cursor in range(before[-1][0] + 1):
        if cursor < first - 1:
            with pytest.raises(CursorExpired):
                spool.read(CHAT, cursor)
        else:
            assert [entry.seq for entry in spool.read(CHAT, cursor)] == [seq for seq, _ in after if seq > cursor]
    assert {one.generation_id: one for one in spool.snapshot(CHAT).answers}.items() <= answers.items()


@pytest.fixture
def busy(redis_url: str) -> Iterator[threading.Event]:
    """Write in the chat from another thread until the test ends."""
    ends = threading.Event()

    def write() -> None:
        with spool_for(redis_url) as spool:
            while not ends.is_set():
                say(spool, pieces=20)

    thread = threading.Thread(target=write)
    thread.start()
    yield ends
    ends.set()
    thread.join()


def test_writers_and_readers_go_on_meanwhile(spool: Spool, client: Redis, busy: threading.Event) -> None:
    """A reader at the end of the log misses nothing and sees nothing twice, however often the beginning goes."""
    spool.set_policy(keep_events=60)
    eventually(lambda: bool(client.exists(KEYS.log)))
    seqs: list[int] = []
    dropped = 0
    with spool.subscribe(CHAT, spool.status(CHAT).last, until="forever") as entries:
        for entry in entries:
            seqs.append(entry.seq)
            if len(seqs) % 40 == 0:
                dropped += retain(spool, client).events
            if len(seqs) >= 800:
                break
    busy.set()
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert dropped > 300
