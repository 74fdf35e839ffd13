"""A full Redis (maxmemory, noeviction): nothing new is taken, but it is read, stopped, ended and erased as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, generation_field, log_of, text_of, types_of
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import contents_of, keys_of
from support.waiting import eventually

from chunkspool import Generation, Producer
from chunkspool.errors import StoreFull

SAID = "Redis is full, so nothing was written; free memory or raise maxmemory"


class Memory:
    """The server's limit."""

    def __init__(self, client: Redis) -> None:
        """Leave it as it is."""
        self._client = client

    def fill(self) -> None:
        """Refuse whatever takes memory."""
        self._client.config_set("maxmemory-policy", "noeviction")
        self._client.config_set("maxmemory", 1)

    def free(self) -> None:
        """Have room again."""
        self._client.config_set("maxmemory", 0)


@pytest.fixture
def memory(client: Redis) -> Iterator[Memory]:
    """Give a server that can be full."""
    memory = Memory(client)
    yield memory
    memory.free()


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Give both faces; their producers do not try for long."""
    with open_spool(request.param, redis_url, write_timeout=0.5, lease=0.6) as any_spool:
        yield any_spool


@pytest.fixture
def queued(any_spool: BlockingSpool) -> Generation:
    """Give a generation that no worker has taken."""
    made: Generation = any_spool.enqueue(CHAT, "hello", request_id="mine")
    return made


def seen(client: Redis, made: Generation, index: bytes) -> None:
    """Wait until the attempt's event number `index` is in the log."""
    eventually(lambda: generation_field(client, made.generation_id, "index") == index)


def test_nothing_new_is_taken(any_spool: BlockingSpool, queued: Generation, memory: Memory, client: Redis) -> None:
    """Enqueue and claim are refused, and leave no trace: there is no ghost when there is room again."""
    memory.fill()
    before = contents_of(client)
    for refused in (
        lambda: any_spool.enqueue("other", "hello"),
        lambda: any_spool.enqueue(CHAT, "hello", on_active="allow", request_id="other"),
        lambda: any_spool.run_producer(CHAT, queued.generation_id, repr),
    ):
        with pytest.raises(StoreFull, match=SAID):
            refused()
    assert contents_of(client) == before
    memory.free()
    assert any_spool.run_producer(CHAT, queued.generation_id, lambda out: out.text("hi")).state == "completed"


def test_readers_go_on(any_spool: BlockingSpool, queued: Generation, memory: Memory) -> None:
    """What is there is read, from any cursor, by every call that reads."""
    any_spool.stop(CHAT)
    memory.fill()
    types = ["generation.queued", "generation.stopped"]
    assert [entry.type for entry in any_spool.read(CHAT)] == types
    assert [entry.type for entry in any_spool.follow(CHAT)] == types
    assert [entry.type for entry in any_spool.follow(CHAT, 1, until=queued.generation_id)] == types[1:]
    assert any_spool.status(CHAT).last == 2
    assert any_spool.snapshot(CHAT).answers[0].state == "stopped"


@pytest.mark.parametrize("how", ["chat", "one", "revoke"])
def test_what_waits_is_stopped(
    any_spool: BlockingSpool, queued: Generation, memory: Memory, client: Redis, how: str
) -> None:
    """Also by a revoke. It takes a few bytes that were not to be had, and ends what would take many."""
    memory.fill()
    if how == "revoke":
        assert any_spool.revoke(queued.generation_id).outcome == "stopped"
    else:
        (stop,) = any_spool.stop(CHAT, queued.generation_id if how == "one" else None)
        assert stop.outcome == "stopped"
    assert types_of(log_of(client), queued.generation_id) == ["generation.queued", "generation.stopped"]
    assert any_spool.status(CHAT).active == ()


def test_what_runs_is_stopped(any_spool: BlockingSpool, queued: Generation, memory: Memory, client: Redis) -> None:
    """Also if it has said something that Redis would not take: that is written before the ending."""

    def say(out: Producer) -> None:
        out.text("be")
        seen(client, queued, b"1")
        memory.fill()
        out.text("fore")
        stops.append(stop_in_its_own_thread(any_spool))
        eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - the model is silent: nothing else tells

    stops: list[str] = []
    out = any_spool.run_producer(CHAT, queued.generation_id, say)
    assert (stops, out.state) == (["stopping"], "stopped")
    assert text_of(log_of(client), queued.generation_id) == "before"
    assert ending_of(log_of(client), queued.generation_id)["type"] == "generation.stopped"


def stop_in_its_own_thread(any_spool: BlockingSpool) -> str:
    """Stop by a spool of the sync face: the async one's loop is busy with the producer."""
    with open_spool("sync", any_spool.settings.log.redis_url) as other:
        (stop,) = other.stop(CHAT)
    return str(stop.outcome)


def test_a_producer_hears_of_it(any_spool: BlockingSpool, queued: Generation, memory: Memory, client: Redis) -> None:
    """After write_timeout its model is closed, and its readers get generation.failed instead of waiting."""

    def say(out: Producer) -> None:
        out.text("before")
        seen(client, queued, b"1")
        memory.fill()
        out.text("lost")
        eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - as above
        out.text("never said")

    with pytest.raises(StoreFull, match=SAID):
        any_spool.run_producer(CHAT, queued.generation_id, say)
    log = log_of(client)
    assert text_of(log, queued.generation_id) == "before"
    ending = ending_of(log, queued.generation_id)
    assert (ending["type"], ending["code"], ending["retryable"]) == ("generation.failed", "store_unavailable", True)
    assert any_spool.status(CHAT).active == ()


def test_a_producer_that_leaves_writes_its_ending(
    any_spool: BlockingSpool, queued: Generation, memory: Memory, client: Redis
) -> None:
    """The last words come with the ending, and are taken with it."""

    def say(out: Producer) -> None:
        out.text("be")
        seen(client, queued, b"1")
        memory.fill()
        out.text("fore")

    assert any_spool.run_producer(CHAT, queued.generation_id, say).state in {"completed", "failed"}
    assert ending_of(log_of(client), queued.generation_id)["type"] in {"generation.completed", "generation.failed"}
    assert any_spool.status(CHAT).active == ()


def test_room_in_time_and_nothing_is_lost(redis_url: str, memory: Memory, client: Redis) -> None:
    """What Redis would not take is sent again, once."""
    with open_spool("sync", redis_url, write_timeout=30) as any_spool:
        made = any_spool.enqueue(CHAT, "hello")

        def say(out: Producer) -> None:
            out.text("a")
            seen(client, made, b"1")
            memory.fill()
            for piece in "bcde":
                out.text(piece)
            eventually(lambda: out._outbox.trouble)  # noqa: SLF001 - until it was refused once
            memory.free()
            seen(client, made, b"2")
            out.text("f")

        assert any_spool.run_producer(CHAT, made.generation_id, say).state == "completed"
    assert text_of(log_of(client), made.generation_id) == "abcdef"


def test_a_silent_producer_keeps_its_lease(
    any_spool: BlockingSpool, queued: Generation, memory: Memory, client: Redis
) -> None:
    """Heartbeats take no memory, so nobody else claims what is alive."""

    def say(_out: Producer) -> None:
        memory.fill()
        lease = lease_of(client, queued)
        eventually(lambda: lease_of(client, queued) > lease + 2000 * any_spool.settings.log.lease)

    assert any_spool.run_producer(CHAT, queued.generation_id, say).state == "completed"


def lease_of(client: Redis, made: Generation) -> int:
    """Return when the attempt's lease ends, in ms."""
    return int(generation_field(client, made.generation_id, "lease") or 0)


@pytest.mark.parametrize("life", [lambda _face, _made: None, lambda any_spool, _made: any_spool.stop(CHAT)])
def test_erase_makes_room(
    any_spool: BlockingSpool,
    queued: Generation,
    memory: Memory,
    client: Redis,
    life: Callable[[BlockingSpool, Generation], object],
) -> None:
    """No byte of the chat remains."""
    life(any_spool, queued)
    memory.fill()
    any_spool.erase(CHAT)
    assert not [key for key in keys_of(client) if CHAT in key or queued.generation_id in key]
