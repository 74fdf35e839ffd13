"""Promise 6, replay = live: from any cursor, what a reader has plus what it gets is the whole chat."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT
from support.chats.random_chats import SEED_RANGES, StoredEntry, read_stored_entries, seeded_random, write_random_chat
from support.chats.spools import settings_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool

from chunkspool import Entry, Spool, fold

SEEDS = range(3)


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url) as any_spool:
        yield any_spool


def stored_form_of(entries: list[Entry]) -> list[StoredEntry]:
    """Return entries in a form that can be compared with what Redis stores."""
    return [(entry.seq, entry.raw) for entry in entries]


@pytest.mark.parametrize("seeds", SEED_RANGES, ids=str)
def test_200_random_chats_resume_from_every_cursor(
    spool: Spool, any_spool: BlockingSpool, client: Redis, seeds: range
) -> None:
    """Up to k with `read`, the rest with `read` or a subscription: every event once, byte for byte."""
    for seed in seeds:
        write_random_chat(spool, seeded_random(seed))
        whole = read_stored_entries(client)
        assert [seq for seq, _ in whole] == list(range(1, len(whole) + 1))
        for cut in range(len(whole) + 1):
            before = stored_form_of(any_spool.read(CHAT, 0, limit=cut)) if cut else []
            assert before + stored_form_of(any_spool.read(CHAT, cut, limit=10_000)) == whole
            assert before + stored_form_of(any_spool.follow(CHAT, cut)) == whole
        spool.erase(CHAT)


@pytest.mark.parametrize("seed", SEEDS)
def test_reading_until_a_generation_ends_from_every_cursor(
    spool: Spool, any_spool: BlockingSpool, client: Redis, seed: int
) -> None:
    """The reader gets the chat up to the generation's ending, from every cursor before it."""
    random = seeded_random(seed)
    wanted = random.choice(write_random_chat(spool, random))
    whole = read_stored_entries(client)
    end = max(entry.seq for entry in spool.read(CHAT, 0, 10_000) if entry.generation_id == wanted)
    for cut in range(end):
        assert stored_form_of(any_spool.follow(CHAT, cut, until=wanted)) == whole[cut:end]
    for cut in range(end, len(whole) + 1):
        assert stored_form_of(any_spool.follow(CHAT, cut, until=wanted)) == whole[cut:], "it had ended before"


@pytest.mark.parametrize("seed", SEEDS)
def test_pages_of_any_size_make_the_whole_chat(
    spool: Spool, any_spool: BlockingSpool, client: Redis, seed: int
) -> None:
    """However much is read at a time."""
    random = seeded_random(seed)
    write_random_chat(spool, random)
    read: list[Entry] = []
    while page := any_spool.read(CHAT, read[-1].seq if read else 0, limit=random.randint(1, 7)):
        read += page
    assert stored_form_of(read) == read_stored_entries(client)


def test_a_long_chat_is_read_across_pages(spool: Spool, any_spool: BlockingSpool, client: Redis) -> None:
    """Also when catching up takes several reads and batches span page borders."""
    generation = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, generation.generation_id) as out:
        for number in range(3_000):
            out.data("n", number)
    whole = read_stored_entries(client)
    assert len(whole) == 3_003
    for cut in (0, 1, 499, 500, 501, 1_234, 3_002):
        assert stored_form_of(any_spool.follow(CHAT, cut)) == whole[cut:]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_snapshot_plus_later_events_is_the_whole(spool: Spool, any_spool: BlockingSpool, seed: int) -> None:
    """Subscribing after a snapshot's seq yields the same answers as reading everything."""
    write_random_chat(spool, seeded_random(seed))
    before = any_spool.snapshot(CHAT)
    write_random_chat(spool, seeded_random(seed + 100))
    after = any_spool.follow(CHAT, before.seq)
    whole = any_spool.follow(CHAT)
    assert stored_form_of(whole)[before.seq :] == stored_form_of(after)
    seen = fold((entry.event for entry in after), onto=before.answers)
    assert seen == fold(entry.event for entry in whole) == any_spool.snapshot(CHAT).answers


def test_a_client_that_decodes_replies_gets_the_same_entries(spool: Spool, client: Redis, redis_url: str) -> None:
    """An app's own client may return text instead of bytes."""
    write_random_chat(spool, seeded_random(1))
    whole = read_stored_entries(client)
    with Redis.from_url(redis_url, decode_responses=True) as decoding:
        other = Spool(decoding, settings=settings_for(redis_url))
        assert stored_form_of(other.read(CHAT, 0, 10_000)) == whole
        with other.subscribe(CHAT) as entries:
            assert stored_form_of(list(entries)) == whole
        assert other.snapshot(CHAT) == spool.snapshot(CHAT)
        other.close()
