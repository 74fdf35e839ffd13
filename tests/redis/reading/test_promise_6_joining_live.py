"""Promise 6, replay = live: readers that join during writes, and whose frames are disturbed, get the whole chat."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from random import Random
from typing import Self

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.random_chats import StoredEntry, read_stored_entries, seeded_random, write_something
from support.chats.spools import async_spool_for, spool_for
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import Producer, Spool

WRITERS, READERS, WRITES_EACH = 3, 12, 150
LOSE_A_FRAME = """
local seq = redis.call('INCR', KEYS[1])
redis.call('XADD', KEYS[2], seq .. '-0', 't', '1', 'e', ARGV[1])
"""
LOST = b'{"type":"data","generation":"somebody","name":"its frame is lost","value":1}'
BOGUS = (b"", b"garbage", b"1", b"x 1\n{}", b"0 0\n", b"-1 0\n{}", b"\xff\xfe", b"1 1\n{}", b"999999 1\n" + LOST)


@pytest.fixture
def readers(proxy: Proxy) -> Iterator[MixedReaders]:
    """Provide readers whose connection to Redis can be disturbed."""
    with MixedReaders(proxy) as readers:
        yield readers


class MixedReaders:
    """Alternating sync and async readers: threads, and tasks of one loop."""

    def __init__(self, proxy: Proxy) -> None:
        """Reach Redis through `proxy`."""
        self.proxy = proxy
        self.at_work: list[tuple[int, Future[list[StoredEntry]]]] = []
        self._url = proxy.url
        self._loop = asyncio.new_event_loop()
        self._left = ExitStack()

    def __enter__(self) -> Self:
        """Open a sync and an async spool."""
        self._pool = self._left.enter_context(ThreadPoolExecutor(READERS + 1))
        self._pool.submit(self._loop.run_forever)
        self._sync = self._left.enter_context(spool_for(self._url))
        self._async = async_spool_for(self._url)
        return self

    def __exit__(self, *_: object) -> None:
        """Close both."""
        asyncio.run_coroutine_threadsafe(self._async.aclose(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._left.close()
        self._loop.close()

    def join(self, after: int, until: str) -> None:
        """Start one more reader; return once it has entered its block."""
        within = threading.Event()
        if len(self.at_work) % 2:
            reader = self._pool.submit(self._read, after, until, within)
        else:
            reader = asyncio.run_coroutine_threadsafe(self._read_async(after, until, within), self._loop)
        self.at_work.append((after, reader))
        assert within.wait(30)

    def _read(self, after: int, until: str, within: threading.Event) -> list[StoredEntry]:
        with self._sync.subscribe(CHAT, after, until=until) as entries:
            within.set()
            return [(entry.seq, entry.raw) for entry in entries]

    async def _read_async(self, after: int, until: str, within: threading.Event) -> list[StoredEntry]:
        async with self._async.subscribe(CHAT, after, until=until) as entries:
            within.set()
            return [(entry.seq, entry.raw) async for entry in entries]


def disturb_nothing(_client: Redis, _proxy: Proxy, _random: Random) -> None:
    """Do nothing."""


def cut_connections(_client: Redis, proxy: Proxy, _random: Random) -> None:
    """Break all of the readers' connections."""
    proxy.cut()


def kill_subscribers(client: Redis, _proxy: Proxy, _random: Random) -> None:
    """Let the server drop all subscribers."""
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def lose_a_frame(client: Redis, _proxy: Proxy, _random: Random) -> None:
    """Store an event without publishing its frame."""
    client.eval(LOSE_A_FRAME, 2, KEYS.seq, KEYS.log, LOST)


def publish_nonsense(client: Redis, _proxy: Proxy, random: Random) -> None:
    """Publish something that is not a frame, or a very old or far too new one."""
    client.publish(KEYS.live, random.choice(BOGUS))


@pytest.mark.parametrize(
    "happens", [disturb_nothing, cut_connections, kill_subscribers, lose_a_frame, publish_nonsense]
)
def test_readers_can_join_at_any_moment(
    spool: Spool, readers: MixedReaders, client: Redis, happens: Callable[[Redis, Proxy, Random], None]
) -> None:
    """From any cursor, until idle or until a generation ends: no gaps, no duplicates."""
    random = seeded_random(7)
    last = spool.enqueue(CHAT, "x").generation_id
    with spool.produce(CHAT, last) as anchor:
        write_while_readers_join(spool, readers, random, lambda: happens(client, readers.proxy, random))
        eventually(lambda: spool.status(CHAT).active == (last,))
        readers.join(spool.status(CHAT).last, last)
        anchor.text("the end")
    whole = read_stored_entries(client)
    assert len(readers.at_work) == READERS + 1
    for after, reader in readers.at_work:
        assert reader.result(60) == whole[after:]


def write_while_readers_join(spool: Spool, readers: MixedReaders, random: Random, happens: Callable[[], None]) -> None:
    """Let some writers write a lot; every now and then a reader joins and `happens` is called."""
    (last,) = spool.status(CHAT).active
    start = threading.Barrier(WRITERS + 1)
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, spool, seeded_random(number), start) for number in range(WRITERS)]
        start.wait(30)
        for number in range(READERS):
            seen = spool.status(CHAT).last
            readers.join(random.randint(0, seen), ("idle", last)[number % 2])
            happens()
            eventually(lambda: spool.status(CHAT).last > seen or all(one.done() for one in writers), every=0.005)  # noqa: B023
        for writer in writers:
            writer.result(60)


def write(spool: Spool, random: Random, start: threading.Barrier) -> None:
    """Write one generation with many events."""
    generation = spool.enqueue(CHAT, "x", on_active="allow")
    with spool.produce(CHAT, generation.generation_id) as out:
        start.wait(30)
        for number in range(WRITES_EACH):
            write_something(out, random)
            if number % 5 == 0:
                wait_until_written(spool, out, number)


def wait_until_written(spool: Spool, out: Producer, number: int) -> None:
    """Wait until this is in the log, so that writing takes a while."""
    out.data("written", number)
    mark = b'"name":"written","value":%d' % number
    eventually(lambda: any(mark in entry.raw for entry in spool.read(CHAT, 0, 10_000)), every=0.001)


def test_readers_end_with_the_right_generation(spool: Spool, readers: MixedReaders, client: Redis) -> None:
    """`idle` ends with the last of overlapping generations, a generation's reader with its ending."""
    one, two = (spool.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(2))
    with spool.produce(CHAT, two) as second:
        with spool.produce(CHAT, one) as first:
            for until in ("idle", one, two):
                readers.join(0, until)
                readers.join(1, until)
            first.text("first")
        second.text("second")
    whole = read_stored_entries(client)
    end = {until: len(whole) for until in ("idle", two)}
    end[one] = next(seq for seq, raw in whole if b"generation.completed" in raw)
    for (after, reader), until in zip(readers.at_work, ("idle", "idle", one, one, two, two), strict=True):
        assert reader.result(60) == whole[after : end[until]]


def test_forever_continues_until_the_reader_leaves(spool: Spool, client: Redis) -> None:
    """It continues across idle times and several generations."""
    following = threading.Event()

    def follow() -> list[StoredEntry]:
        found: list[StoredEntry] = []
        with spool.subscribe(CHAT, until="forever") as entries:
            for entry in entries:
                found.append((entry.seq, entry.raw))
                following.set()
                if entry.seq == 9:
                    break
        return found

    spool.stop(CHAT, spool.enqueue(CHAT, "x").generation_id)
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(follow)
        assert following.wait(30)
        for _ in range(3):
            with spool.produce(CHAT, spool.enqueue(CHAT, "x").generation_id):
                pass
        assert reader.result(60) == read_stored_entries(client)[:9]
