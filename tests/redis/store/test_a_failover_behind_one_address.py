"""A replica takes over behind one address while old connections stay open: nobody stays with the old primary."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio import BlockingConnectionPool as AsyncBlockingPool
from redis.asyncio import ConnectionPool as AsyncPool
from redis.asyncio import Redis as AsyncRedis
from support.chats.logs import CHAT, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingAsyncSpool, BlockingSpool, open_spool
from support.readers.reader_group import ReaderGroups
from support.servers.failover import Pair, pair_of
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Producer
from chunkspool.errors import ChunkspoolError, EnqueueFailed, StoreNotReady
from chunkspool.producing.stop_listener import StopListener
from chunkspool.store.failover import drop_connections, drop_connections_async

SOON = 3.0
"""Seconds within which all is well after the address leads to the new primary: a second or two, on a busy machine."""


@pytest.fixture
def pair(redis_server: PrivateServer, tmp_path: Path) -> Iterator[Pair]:
    """Give a primary and its replica behind one address."""
    with pair_of(redis_server, tmp_path) as pair:
        yield pair


@pytest.fixture(params=SPOOL_KINDS)
def spool(request: pytest.FixtureRequest, pair: Pair) -> Iterator[BlockingSpool]:
    """Give both spools, with connections in their pools: many to Redis, one to the broker."""
    with open_spool(request.param, pair.url) as spool:
        spool.enqueue(CHAT, "hello")
        crowd(spool, 20)
        yield spool


def crowd(spool: BlockingSpool, many: int) -> None:
    """Make so many calls at a time."""
    if isinstance(spool, BlockingAsyncSpool):

        async def calls() -> None:
            await asyncio.gather(*(spool.spool.status(CHAT) for _ in range(many)))

        spool.run(calls())
    else:
        with ThreadPoolExecutor(many) as pool:
            list(pool.map(lambda _: spool.status(CHAT), range(many)))


@dataclass(slots=True)
class Traffic:
    """What became of calls: when each ended, how long it took, and its error."""

    calls: list[tuple[float, float, ChunkspoolError | None]] = field(default_factory=list)

    def run(self, spool: BlockingSpool, seconds: float) -> None:
        """Make one call after the other for so long."""
        over = time.monotonic() + seconds
        for call in itertools.cycle(
            (
                lambda: spool.enqueue(CHAT, "hello", on_active="allow"),
                lambda: spool.status(CHAT),
                lambda: spool.stop(CHAT),
            )
        ):
            began = time.monotonic()
            if began > over:
                return
            error = None
            try:
                call()
            except ChunkspoolError as raised:
                error = raised
            self.calls.append((time.monotonic(), time.monotonic() - began, error))

    @property
    def errors(self) -> dict[float, ChunkspoolError]:
        """All errors, by their times."""
        return {ended: error for ended, _, error in self.calls if error is not None}

    @property
    def longest(self) -> float:
        """Seconds of the longest call."""
        return max(took for _, took, _ in self.calls)


def test_calls_hide_a_failover(spool: BlockingSpool, pair: Pair) -> None:
    """The address follows half a second after the change of roles: each call waits a little, and none fails."""
    traffic = Traffic()
    with pair.fail_over_behind(lag=0.5):
        traffic.run(spool, 3)
    crowd(spool, 20)
    assert traffic.errors == {}
    assert traffic.longest < 0.5 + SOON
    assert pair.new.llen("chunkspool") > 1


def test_a_slow_address_costs_errors_only_while_it_is_slow(spool: BlockingSpool, pair: Pair) -> None:
    """It follows after four seconds: calls fail as unavailable, and within a second or two all is well again."""
    traffic = Traffic()
    with pair.fail_over_behind(lag=4) as switched:
        traffic.run(spool, 4 + SOON)
    assert traffic.errors
    assert {type(error) for error in traffic.errors.values()} <= {StoreNotReady, EnqueueFailed}
    assert max(traffic.errors) - switched[0] < SOON
    assert traffic.calls[-1][2] is None


def test_enqueue_hides_a_failover_of_the_broker(pair: Pair, redis_url: str) -> None:
    """Also where the broker is another Redis than the log: no message is lost, no caller hears of it."""
    with spool_for(redis_url, broker_url=pair.url) as spool:
        spool.enqueue(CHAT, "hello")
        with pair.fail_over_behind(lag=1):
            eventually(lambda: pair.old.info("replication")["role"] == "slave")
            spool.enqueue(CHAT, "hello", on_active="allow")
    assert pair.new.llen("chunkspool") == 2


PIECES = [f"piece {number}, " for number in range(800)]
WHOLE = "".join(PIECES)


def say(out: Producer) -> None:
    """Speak for some seconds."""
    for piece in PIECES:
        out.text(piece)
        time.sleep(0.005)


@pytest.mark.parametrize("isolated", [False, True], ids=["replicating", "isolated"])
@pytest.mark.parametrize("kind", SPOOL_KINDS)
def test_a_producer_continues_and_its_readers_get_all_of_it_once(pair: Pair, kind: str, isolated: bool) -> None:
    """The same attempt goes on, no gaps, no duplicates, for readers of both kinds; also if the old primary is cut off.

    In that case its copy is stale: who stayed with it would hear nothing more. The address follows late enough for all
    to come back to the old server first.
    """
    with (
        ReaderGroups("asyncio") as loop,
        ReaderGroups("threads") as threads,
        open_spool(kind, pair.url) as spool,
        ThreadPoolExecutor() as pool,
    ):
        with spool_for(pair.url) as other:
            made = other.enqueue(CHAT, "hello")
        readers = [reader_groups.open(pair.url).follow(CHAT) for reader_groups in (loop, threads)]
        answering = pool.submit(answer, spool, kind, made.generation_id)
        for reader in readers:
            reader.wait_for(20)
        pair.fail_over(lag=2, isolated=isolated)
        switched, heard = time.monotonic(), [len(reader.entries) for reader in readers]
        for reader, before in zip(readers, heard, strict=True):
            eventually(lambda reader=reader, before=before: len(reader.entries) > before + 20)
        heard_after = time.monotonic() - switched
        assert answering.result(60) == "completed"
        for reader in readers:
            reader.wait_for_end()
    log = read_log(pair.new)
    assert heard_after < SOON
    assert text_of(log, made.generation_id) == WHOLE
    assert read_generation_field(pair.new, made.generation_id, "attempt") == b"1"
    assert types_of(log, made.generation_id).count("generation.started") == 1
    for reader in readers:
        assert reader.errors == []
        assert reader.seqs == list(range(1, len(log) + 1))
        assert "".join(reader.texts) == WHOLE


def answer(spool: BlockingSpool, kind: str, generation_id: str) -> str:
    """Write the answer by the spool; return how it ended."""
    if kind == "sync":
        return str(spool.run_producer(CHAT, generation_id, say).state)

    async def produce() -> str:
        async with spool.spool.produce(CHAT, generation_id) as out:
            for piece in PIECES:
                out.text(piece)
                await asyncio.sleep(0.005)
        return str(out.state)

    return str(spool.run(produce()))


def test_the_flusher_leaves_by_itself(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only because the stop listener has noticed the failover."""
    monkeypatch.setattr(StopListener, "_run", lambda listener: listener._closing.wait())  # noqa: SLF001 - it is deaf
    with spool_for(pair.url) as spool:
        made = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("before, ")
            eventually(lambda: read_generation_field(pair.old, made.generation_id, "index") == b"1")
            pair.fail_over()
            out.text("after")
        assert out.state == "completed"
    assert text_of(read_log(pair.new), made.generation_id) == "before, after"


def test_a_stop_arrives_after_a_failover(pair: Pair) -> None:
    """Of a silent generation whose heartbeats are a minute apart: only the stop that is pushed can tell it."""
    with spool_for(pair.url, lease=180) as spool, ThreadPoolExecutor() as pool:
        made, silent = spool.enqueue(CHAT, "hello"), threading.Event()

        def produce() -> str:
            with spool.produce(CHAT, made.generation_id) as out:
                out.text("hi")
                eventually(lambda: read_generation_field(pair.old, made.generation_id, "index") == b"1")
                silent.set()
                eventually(lambda: out._outbox.interruption, 60)  # noqa: SLF001 - the model is silent
            return str(out.state)

        producing = pool.submit(produce)
        assert silent.wait(30)
        pair.fail_over(isolated=True)
        time.sleep(SOON)
        began = time.monotonic()
        with spool_for(pair.url) as other:
            assert [stop.outcome for stop in other.stop(CHAT)] == ["stopping"]
        assert producing.result(60) == "stopped"
        assert time.monotonic() - began < SOON


async def test_a_burst_during_a_failover(pair: Pair) -> None:
    """Hundreds of calls at a time, on many connections to the old primary and to its broker: all of them succeed."""
    chats = [f"chat-{number}" for number in range(100)]
    async with async_spool_for(pair.url) as spool:
        await asyncio.gather(*(spool.enqueue(chat, "hello") for chat in chats))
        changing = asyncio.create_task(asyncio.to_thread(pair.fail_over, lag=0.5))
        await asyncio.sleep(0.2)
        stops = asyncio.gather(*(spool.stop(chat) for chat in chats))
        made = asyncio.gather(*(spool.enqueue(f"new-{chat}", "hello") for chat in chats))
        assert {one.outcome for stopped in await stops for one in stopped} == {"stopped"}
        assert len(await made) == len(chats)
        await changing
    assert pair.new.llen("chunkspool") == 2 * len(chats)


@pytest.mark.parametrize("kind", [ConnectionPool, BlockingConnectionPool], ids=lambda kind: kind.__name__)
def test_dropping_spares_what_is_in_use(kind: type[ConnectionPool], redis_url: str) -> None:
    """Idle connections are closed at once; one in use is closed when it is given back, not under its user's eyes."""
    pool = kind.from_url(redis_url, max_connections=10)
    used, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    drop_connections(Redis(connection_pool=pool))
    assert not idle.is_connected
    assert used.is_connected
    pool.release(used)
    assert not used.is_connected
    pool.disconnect()


@pytest.mark.parametrize("kind", [AsyncPool, AsyncBlockingPool], ids=lambda kind: kind.__name__)
async def test_dropping_spares_what_is_in_use_on_a_loop(kind: type[AsyncPool], redis_url: str) -> None:
    """The same, without giving other tasks a turn in which they take what is about to be closed."""
    pool = kind.from_url(redis_url, max_connections=10)
    used, idle = await pool.get_connection(), await pool.get_connection()
    await pool.release(idle)
    dropping = drop_connections_async(AsyncRedis(connection_pool=pool))
    with pytest.raises(StopIteration):
        dropping.send(None)
    assert not idle.is_connected
    assert used.is_connected
    await pool.release(used)
    assert not used.is_connected
    await pool.disconnect()
