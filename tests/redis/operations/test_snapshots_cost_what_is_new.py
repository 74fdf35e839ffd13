"""Snapshots of long chats: what was read once comes from a digest, which never says anything but the log."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.random_chats import SEED_RANGES, seeded_random, write_random_chat
from support.chats.spools import append_by_hand, claim_and_die
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool

from chunkspool import Answer, Spool, fold
from chunkspool.effects import Pause
from chunkspool.errors import ChatNotFound, DigestUnfinished, InvalidCursor, InvalidInput
from chunkspool.events import DataEvent, Event, GenerationCompleted, TextDelta
from chunkspool.operations.digests import make_digest
from chunkspool.store.client import Store
from chunkspool.store.digests import chain

LONG = 60


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url, read_timeout=1) as any_spool:
        yield any_spool


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a block of seven events, so that a short chat has many."""
    monkeypatch.setattr("chunkspool.store.blocks.BLOCK_EVENTS", 7)
    monkeypatch.setattr("chunkspool.operations.digest_making.FIRST_PAGE", 3)
    monkeypatch.setattr("chunkspool.operations.digest_making.MOST_ENTRIES", 5)


def write_long_answer(spool: Spool, client: Redis, texts: int = LONG) -> str:
    """Write a generation whose texts are one event each; return its id."""
    generation_id = spool.enqueue(CHAT, "x", on_active="allow").generation_id
    claim_and_die(client, generation_id, lease=60)
    said: list[Event] = [TextDelta(generation_id=generation_id, text=f"{i} ") for i in range(texts)]
    append_by_hand(client, generation_id, 1, *said)
    ending = GenerationCompleted(generation_id=generation_id)
    append_by_hand(client, generation_id, texts + 1, ending, ending="completed")
    return generation_id


def fold_log(client: Redis) -> tuple[Answer, ...]:
    """Return the fold of the whole log, which is read without a digest."""
    with Redis.from_url(url_of(client)) as own, Spool(own) as reader:
        return fold(entry.event for entry in reader.read(CHAT, limit=10_000))


def url_of(client: Redis) -> str:
    """Return the URL of the client's server."""
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"


def pages(any_spool: BlockingSpool, limit: int) -> tuple[Answer, ...]:
    """Return all answers as the pages of a snapshot give them."""
    found: list[Sequence[Answer]] = []
    before = None
    while True:
        page = any_spool.snapshot(CHAT, before=before, limit=limit)
        assert len(page.answers) <= limit
        found.insert(0, page.answers)
        before = page.before
        if before is None:
            return tuple(answer for answers in found for answer in answers)


def count_log_reads(client: Redis) -> int:
    """Return how many times a log was read since the last reset."""
    stats: Any = client.info("commandstats")
    return int(stats["cmdstat_xrange"]["calls"])


def count_reads_of_a_snapshot(client: Redis, any_spool: BlockingSpool) -> int:
    """Return how many times the log was read while a snapshot was taken."""
    client.config_resetstat()
    any_spool.snapshot(CHAT)
    return count_log_reads(client)


@pytest.mark.parametrize(
    ("any_spool", "seeds"),
    # Both faces run the same operation: each has half of the chats, on both servers.
    list(zip(itertools.cycle(SPOOL_KINDS), SEED_RANGES[:4], strict=False)),
    indirect=["any_spool"],
    ids=lambda value: value if isinstance(value, str) else f"seeds {value[0]} to {value[-1]}",
)
def test_a_snapshot_is_the_fold_of_the_log_with_or_without_a_digest(
    spool: Spool, any_spool: BlockingSpool, client: Redis, seeds: range
) -> None:
    """Of any chat, however often it was looked at before, in one piece or in pages of any size."""
    for seed in seeds:
        random = seeded_random(seed)
        for _ in range(2):
            write_random_chat(spool, random)
            whole = fold_log(client)
            for _ in range(3):
                assert any_spool.snapshot(CHAT).answers == whole, seed
            for limit in (1, 2, 3, len(whole), len(whole) + 1):
                assert pages(any_spool, limit) == whole, (seed, limit)
            status = any_spool.status(CHAT)
            for seq in range(1, status.last + 2, 3):
                older = any_spool.snapshot(CHAT, before=seq).answers
                assert older == whole[: len(older)], (seed, seq)
                begun = [one.after + 1 for one in status.generations]
                assert len(older) == sum(first < seq for first in begun), (seed, seq)
        any_spool.erase(CHAT)
        assert not client.exists(KEYS.digest)


def test_what_is_old_is_not_read_again(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """The first snapshot reads the log in pages; a later one what is new, also of an answer that still runs."""
    write_long_answer(spool, client, 200)
    running = spool.enqueue(CHAT, "x").generation_id
    claim_and_die(client, running, lease=60)
    append_by_hand(client, running, 1, *(DataEvent(generation_id=running, name="n", value=i) for i in range(200)))
    assert count_reads_of_a_snapshot(client, any_spool) > 60
    assert count_reads_of_a_snapshot(client, any_spool) <= 8
    append_by_hand(client, running, 201, TextDelta(generation_id=running, text="new"))
    assert count_reads_of_a_snapshot(client, any_spool) <= 8
    assert any_spool.snapshot(CHAT).answers == fold_log(client)
    assert any_spool.snapshot(CHAT).answers[1].text == "new"


def load(any_spool: BlockingSpool, generation_id: str, after: int) -> tuple[Answer, ...]:
    """Return the fold of one generation, by a digest of what follows `after`."""
    digest = any_spool.digest(CHAT, after=after)
    events: list[Event] = []
    at = 0 if digest.blocks else None
    while at is not None:
        part = any_spool.load_digest(digest, {generation_id}, at)
        events += [entry.event for entry in part.entries]
        at = part.next
    return fold(events)


@pytest.mark.parametrize("near", [0, 20, 20_000])
def test_a_digest_of_what_follows_has_all_that_follows(
    spool: Spool, any_spool: BlockingSpool, client: Redis, monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    """Each generation is whole, whatever was read and stored before, and a snapshot is whole afterwards."""
    monkeypatch.setattr("chunkspool.operations.digest_making.NEAR", near)
    for seed in range(15):
        random = seeded_random(seed)
        for _ in range(3):
            write_random_chat(spool, random)
            whole = {answer.generation_id: answer for answer in fold_log(client)}
            generations = list(spool.status(CHAT).generations)
            random.shuffle(generations)
            for one in generations[:4]:
                assert load(any_spool, one.generation_id, one.after) == (whole[one.generation_id],), seed
            if random.random() < 0.5:
                assert any_spool.snapshot(CHAT).answers == fold_log(client), seed
        assert any_spool.snapshot(CHAT).answers == fold_log(client), seed
        any_spool.erase(CHAT)


def test_what_follows_does_not_cost_what_is_before(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """A long chat that nobody has read yet: a digest of its end reads the end, and stores it."""
    write_long_answer(spool, client, 400)
    last = write_long_answer(spool, client, 40)
    after = spool.status(CHAT).generations[-1].after
    client.config_resetstat()
    assert load(any_spool, last, after)[0].generation_id == last
    assert count_log_reads(client) < 20
    client.config_resetstat()
    assert len(load(any_spool, last, after)[0].text.split()) == 40
    assert count_log_reads(client) < 6


def test_a_short_chat_has_no_digest(
    spool: Spool, any_spool: BlockingSpool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most chats are never long enough: reading them writes nothing."""
    monkeypatch.undo()
    write_long_answer(spool, client)
    any_spool.snapshot(CHAT)
    assert not client.exists(KEYS.digest)


def test_a_digest_is_kept_no_longer_than_its_log(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """It has the time to live that the log has, and is bounded in size."""
    write_long_answer(spool, client)
    any_spool.snapshot(CHAT)
    of_the_log = client.pttl(KEYS.log)
    assert 0 < client.pttl(KEYS.digest) <= of_the_log


def test_a_full_digest_grows_no_more(
    spool: Spool, any_spool: BlockingSpool, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is read from the log each time."""
    monkeypatch.setattr("chunkspool.store.digests.MAX_DIGEST_BYTES", 1000)
    write_long_answer(spool, client, 200)
    for _ in range(2):
        assert any_spool.snapshot(CHAT).answers == fold_log(client)
    assert 0 < int(client.hget(KEYS.digest, "bytes") or 0) <= 1000  # type: ignore[arg-type]


def test_an_erase_removes_the_digest(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """Nothing of the chat remains, and a chat that is made anew has nothing of the old one."""
    write_long_answer(spool, client)
    any_spool.snapshot(CHAT)
    assert client.exists(KEYS.digest)
    kept = client.dump(KEYS.digest)
    any_spool.erase(CHAT)
    assert not client.exists(KEYS.digest)
    with pytest.raises(ChatNotFound):
        any_spool.snapshot(CHAT)
    write_long_answer(spool, client, 90)
    client.restore(KEYS.digest, 60_000, kept, replace=True)  # as if it had been written behind the erase
    for _ in range(2):
        assert any_spool.snapshot(CHAT).answers == fold_log(client)


def test_an_older_copy_of_the_log_gets_no_newer_digest(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """A Redis restored from a copy and written on has other events at the same places."""
    write_long_answer(spool, client, 20)
    copies = {key: (client.dump(key), client.pttl(key)) for key in client.keys("cs:*")}
    write_long_answer(spool, client, 60)
    any_spool.snapshot(CHAT)
    digest = client.dump(KEYS.digest)
    for key, (copy, ttl) in copies.items():
        client.restore(key, ttl, copy, replace=True)
    assert any_spool.snapshot(CHAT).answers == fold_log(client)
    client.restore(KEYS.digest, 60_000, digest, replace=True)
    assert any_spool.snapshot(CHAT).answers == fold_log(client)
    client.restore(KEYS.digest, 60_000, digest, replace=True)
    write_long_answer(spool, client, 80)
    for _ in range(2):
        assert any_spool.snapshot(CHAT).answers == fold_log(client)


def test_a_log_with_a_hole_gets_no_digest(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """Somebody deleted entries by hand, before or after: a snapshot is the fold of what is kept."""
    write_long_answer(spool, client)
    any_spool.snapshot(CHAT)
    client.xdel(KEYS.log, "9-0", "10-0")
    with_hole = any_spool.snapshot(CHAT).answers[0].text
    assert with_hole == " ".join(str(i) for i in range(LONG) if i not in {6, 7}) + " "
    client.xtrim(KEYS.log, minid="15-0", approximate=False)
    assert any_spool.snapshot(CHAT).answers[0].text == "".join(f"{i} " for i in range(12, LONG))


def test_an_entry_that_cannot_be_decoded_ends_the_digest(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """It is passed over each time, because a later version may be able to read it."""
    write_long_answer(spool, client, 20)
    seq = int(client.incr(KEYS.seq))
    client.xadd(KEYS.log, {"t": 1, "e": "no JSON"}, id=f"{seq}-0")
    write_long_answer(spool, client, 40)
    for _ in range(2):
        answers = any_spool.snapshot(CHAT).answers
        assert [len(answer.text.split()) for answer in answers] == [20, 40]
    blocks = Store(client).send(chain(KEYS)).blocks
    assert blocks
    assert blocks[-1].last < seq


@pytest.mark.parametrize("spoil", ["gone", "other type", "garbage", "no index", "a block gone", "a block of garbage"])
def test_a_digest_that_is_lost_or_spoiled_costs_time_only(
    spool: Spool, any_spool: BlockingSpool, client: Redis, spoil: str
) -> None:
    """Evicted, overwritten by another program, or in pieces: the log is read again."""
    write_long_answer(spool, client, 200)
    whole = any_spool.snapshot(CHAT).answers
    some = next(field for field in client.hkeys(KEYS.digest) if b":" in field)
    match spoil:
        case "gone":
            client.delete(KEYS.digest)
        case "other type":
            client.delete(KEYS.digest)
            client.set(KEYS.digest, "not ours", ex=60)
        case "garbage":
            client.hset(KEYS.digest, "index", b"[1]\n\xff")
        case "no index":
            client.hdel(KEYS.digest, "index")
        case "a block gone":
            client.hdel(KEYS.digest, some)
        case "a block of garbage":
            client.hset(KEYS.digest, some, b"no zlib")
    for _ in range(2):
        assert any_spool.snapshot(CHAT).answers == whole


def test_a_digest_may_vanish_while_it_is_read(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """What was promised as a block is then read from the log; if that is gone as well, the reader hears of it."""
    write_long_answer(spool, client, 200)
    any_spool.snapshot(CHAT)
    digest = any_spool.digest(CHAT)
    client.delete(KEYS.digest)
    events, at = [], 0
    while at is not None:
        part = any_spool.load_digest(digest, None, at)
        events += [entry.event for entry in part.entries]
        at = part.next
    assert fold(events) == fold_log(client)


def test_a_client_that_decodes_replies_reads_a_digest(spool: Spool, client: Redis) -> None:
    """An app may pass a client of its own, whose replies are all text."""
    write_long_answer(spool, client, 200)
    with Redis.from_url(url_of(client), decode_responses=True) as decoding, Spool(decoding) as reader:
        for _ in range(2):
            assert reader.snapshot(CHAT).answers == fold_log(client)
    assert client.exists(KEYS.digest)


def test_a_full_redis_takes_no_digest_and_gives_a_snapshot(
    spool: Spool, any_spool: BlockingSpool, client: Redis
) -> None:
    """A read does not fail because the cache cannot be written."""
    write_long_answer(spool, client, 200)
    client.config_set("maxmemory", 1)
    try:
        answers = any_spool.snapshot(CHAT).answers
        assert not client.exists(KEYS.digest)
    finally:
        client.config_set("maxmemory", 0)
    assert answers == fold_log(client)


def test_a_snapshot_that_takes_too_long_says_so_and_goes_on_next_time(
    spool: Spool, any_spool: BlockingSpool, client: Redis
) -> None:
    """It says how far it came; each call comes further, and the last one has all."""
    write_long_answer(spool, client, 200)
    reached = []
    for _ in range(500):
        try:
            answers = any_spool.snapshot(CHAT, within=1e-9).answers
            break
        except DigestUnfinished as error:
            reached.append(error.seq)
    assert len(reached) > 20
    assert all(before < after for before, after in pairwise(reached))
    assert answers == fold_log(client)


def run_together(store: Store, *operations: Any) -> list[Any]:
    """Run operations step by step, all at the same time; who pauses misses some turns. Return what they return."""
    done = []
    running = [(operation, None, 0) for operation in operations]
    while running:
        operation, result, missing = running.pop(0)
        if missing:
            running.append((operation, result, missing - 1))
            continue
        try:
            effect = operation.send(result)
        except StopIteration as stop:
            done.append(stop.value)
        else:
            pauses = isinstance(effect, Pause)
            running.append((operation, None if pauses else store.send(effect), 20 if pauses else 0))
    return done


def test_first_readers_share_the_work(spool: Spool, client: Redis) -> None:
    """They read at the same time, step by step: all get all of it, and there is one digest, which one of them makes."""
    write_long_answer(spool, client, 1000)
    store = Store(client)
    run_together(store, make_digest(KEYS))
    client.config_resetstat()
    client.delete(KEYS.digest)
    run_together(store, make_digest(KEYS))
    alone = count_log_reads(client)
    client.delete(KEYS.digest)
    client.config_resetstat()
    done = run_together(store, make_digest(KEYS), make_digest(KEYS), make_digest(KEYS))
    assert count_log_reads(client) < 1.5 * alone
    assert len(done) == 3
    stored = store.send(chain(KEYS)).blocks
    assert stored
    assert stored[0].first == 1
    assert stored[-1].last > 980
    with Spool(client) as reader:
        for digest in done:
            events, at = [], 0
            while at is not None:
                part = reader.load_digest(digest, None, at)
                events += [entry.event for entry in part.entries]
                at = part.next
            assert fold(events) == fold_log(client)


def test_what_a_page_may_be_is_checked(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """A limit, a time and a place that are none are refused."""
    write_long_answer(spool, client)
    for limit in (0, -1, True, "5", 10_001):
        with pytest.raises(InvalidInput, match="limit="):
            any_spool.snapshot(CHAT, limit=limit)
    for within in (0, -1, True, "5", float("nan")):
        with pytest.raises(InvalidInput, match="within="):
            any_spool.snapshot(CHAT, within=within)
    for before in (-1, "x", 1.5):
        with pytest.raises(InvalidCursor):
            any_spool.snapshot(CHAT, before=before)
    assert any_spool.snapshot(CHAT, before=0).answers == ()
