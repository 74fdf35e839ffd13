"""Promise 7, honest gaps: an unreadable entry is reported with its seq, and the rest can still be read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import append_by_hand, claim_and_die
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, BlockingSyncSpool, open_spool
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import CorruptLog, CursorAhead
from chunkspool.events import GenerationCompleted, TextDelta, UnknownEvent

STORE = """
local seq = redis.call('INCR', KEYS[1])
redis.call('XADD', KEYS[2], seq .. '-0', unpack(ARGV))
return seq
"""
GOOD = b'{"type":"data","generation":"g","name":"n","value":1}'
UNREADABLE: dict[str, tuple[bytes, ...]] = {
    "no JSON": (b"t", b"1", b"e", b"hello"),
    "cut off": (b"t", b"1", b"e", GOOD[:-5]),
    "not UTF-8": (b"t", b"1", b"e", b"\xff\xfe"),
    "no type": (b"t", b"1", b"e", b'{"generation":"g"}'),
    "fields of a wrong type": (b"t", b"1", b"e", b'{"type":"text.delta","generation":"g","text":1}'),
    "no event": (b"t", b"1", b"x", GOOD),
    "other fields, not UTF-8": (b"\xff", b"\xfe"),
}
READABLE: dict[str, tuple[bytes, ...]] = {
    "of a newer version": (b"t", b"1", b"e", b'{"type":"image.delta","generation":"g","png":"abc"}'),
    "without a generation": (b"t", b"1", b"e", b'{"type":"chat.renamed","name":"n"}'),
    "with more fields": (b"t", b"1", b"\xff", b"x", b"e", GOOD, b"zip", b"\xfe"),
    "without a time": (b"e", GOOD),
    "with an invalid time": (b"t", b"\xffnoon", b"e", GOOD),
    "with an endless time": (b"t", b"9" * 5_000, b"e", GOOD),
}


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url) as any_spool:
        yield any_spool


def store_entry(client: Redis, fields: tuple[bytes, ...]) -> int:
    """Store an entry like another program that uses the counter; return its seq."""
    seq: Any = client.eval(STORE, 2, KEYS.seq, KEYS.log, *fields)
    return int(seq)


def write_chat_with(spool: Spool, client: Redis, *forged: tuple[bytes, ...]) -> list[int]:
    """Write a chat at rest with forged entries in its middle; return their seqs."""
    one = spool.enqueue(CHAT, "x").generation_id
    claim_and_die(client, one, 60)
    append_by_hand(client, one, 1, TextDelta(generation_id=one, text="before, "))
    seqs = [store_entry(client, fields) for fields in forged]
    rest = TextDelta(generation_id=one, text="after"), GenerationCompleted(generation_id=one)
    append_by_hand(client, one, 2, *rest, ending="completed")
    return seqs


def read_by_pages(any_spool: BlockingSpool) -> tuple[list[int], list[int | None]]:
    """Read the chat with `read`; return the seqs that could be read, and those that could not."""
    read: list[int] = []
    corrupt: list[int | None] = []
    after = 0
    while True:
        try:
            page = any_spool.read(CHAT, after)
        except CorruptLog as error:
            if error.seq is None:
                raise
            corrupt.append(error.seq)
            after = error.seq
            continue
        if not page:
            return read, corrupt
        read += [entry.seq for entry in page]
        after = page[-1].seq


def read_by_subscription(any_spool: BlockingSpool) -> tuple[list[int], list[int | None]]:
    """Do the same with one subscription, continuing with the same iterator after each error."""
    read: list[int] = []
    corrupt: list[int | None] = []

    def follow() -> None:
        with any_spool.spool.subscribe(CHAT) as entries:
            while True:
                try:
                    read.append(next(entries).seq)
                except CorruptLog as error:
                    corrupt.append(error.seq)
                except StopIteration:
                    return

    async def follow_async() -> None:
        async with any_spool.spool.subscribe(CHAT) as entries:
            while True:
                try:
                    read.append((await anext(entries)).seq)
                except CorruptLog as error:
                    corrupt.append(error.seq)
                except StopAsyncIteration:
                    return

    if isinstance(any_spool, BlockingSyncSpool):
        follow()
    else:
        any_spool.run(follow_async())
    return read, corrupt


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_entry_is_reported_at_its_place(
    any_spool: BlockingSpool, spool: Spool, client: Redis, fields: tuple[bytes, ...]
) -> None:
    """The entries before and after it can be read."""
    assert write_chat_with(spool, client, fields) == [4]
    assert read_by_pages(any_spool) == read_by_subscription(any_spool) == ([1, 2, 3, 5, 6], [4])
    assert any_spool.snapshot(CHAT).answers[0].text == "before, after"


def test_each_of_several_unreadable_entries_is_reported(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """Also next to each other, or at the very beginning."""
    store_entry(client, UNREADABLE["no JSON"])
    write_chat_with(spool, client, *UNREADABLE.values())
    behind = 5 + len(UNREADABLE)
    assert (
        read_by_pages(any_spool)
        == read_by_subscription(any_spool)
        == ([2, 3, 4, behind, behind + 1], [1, *range(5, behind)])
    )
    assert any_spool.snapshot(CHAT).answers[0].text == "before, after"


@pytest.mark.parametrize("fields", READABLE.values(), ids=READABLE)
def test_an_entry_of_a_newer_version_is_passed_on(
    any_spool: BlockingSpool, spool: Spool, client: Redis, fields: tuple[bytes, ...]
) -> None:
    """A newer version may add types and fields: they are neither dropped nor an error."""
    assert write_chat_with(spool, client, fields) == [4]
    assert read_by_pages(any_spool) == read_by_subscription(any_spool) == ([1, 2, 3, 4, 5, 6], [])
    strange = any_spool.read(CHAT, 3, 1)[0]
    assert strange.raw == fields[fields.index(b"e") + 1]
    assert isinstance(strange.event, UnknownEvent) == (strange.raw != GOOD)
    assert any_spool.snapshot(CHAT).answers[0].text == "before, after"


def test_forged_entries_in_frames_are_handled_too(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """Unreadable ones are reported, unknown ones passed on."""
    generation = spool.enqueue(CHAT, "x")
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read_by_subscription, any_spool)
        with spool.produce(CHAT, generation.generation_id) as out:
            eventually(lambda: client.pubsub_numsub(KEYS.live)[0][1] == 1)
            for fields in (UNREADABLE["no JSON"], READABLE["of a newer version"]):
                seq = store_entry(client, fields)
                client.publish(KEYS.live, b"%d 1\n%b" % (seq, fields[-1]))
            out.text("after")
        assert reader.result(30) == ([1, 2, 4, 5, 6], [3])


def test_a_foreign_entry_beyond_the_counter_is_reported(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """Another program added it with an id of its own: everything that chunkspool wrote is read first."""
    write_chat_with(spool, client)
    foreign = int(client.xadd(KEYS.log, {"e": GOOD}).partition(b"-")[0])
    assert [entry.seq for entry in any_spool.read(CHAT)] == [1, 2, 3, 4, 5]
    assert [entry.seq for entry in any_spool.follow(CHAT)] == [1, 2, 3, 4, 5]
    for read in (lambda: any_spool.read(CHAT, 5), lambda: any_spool.follow(CHAT, 5, until="forever")):
        with pytest.raises(CorruptLog, match="wrote only up to 5") as told:
            read()
        assert told.value.seq == foreign
    with pytest.raises(CursorAhead):
        any_spool.read(CHAT, foreign)
    assert any_spool.snapshot(CHAT).answers[0].text == "before, after"


def test_a_log_with_only_a_foreign_entry_is_reported(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """The chat's own events were trimmed: the range is reported, and the snapshot is empty, not an error."""
    write_chat_with(spool, client)
    client.xtrim(KEYS.log, maxlen=0)
    client.xadd(KEYS.log, {"e": GOOD})
    assert (any_spool.status(CHAT).first, any_spool.status(CHAT).last) == (6, 5)
    assert (any_spool.snapshot(CHAT).answers, any_spool.snapshot(CHAT).seq) == ((), 5)


def test_an_entry_between_two_seqs_is_ignored(any_spool: BlockingSpool, spool: Spool, client: Redis) -> None:
    """It has no seq, so it does not belong to the chat and disturbs nobody."""
    one = spool.enqueue(CHAT, "x").generation_id
    client.xadd(KEYS.log, {"e": GOOD}, id="1-1")
    claim_and_die(client, one, 60)
    append_by_hand(client, one, 1, GenerationCompleted(generation_id=one), ending="completed")
    assert read_by_pages(any_spool) == read_by_subscription(any_spool) == ([1, 2, 3], [])
    assert any_spool.snapshot(CHAT).answers[0].state == "completed"
