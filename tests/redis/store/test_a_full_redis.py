"""A full Redis (maxmemory, noeviction) accepts nothing new, but it can be read, stopped, ended and erased."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_generation_field, read_log, text_of, types_of
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import list_keys, read_contents
from support.waiting import eventually

from chunkspool import Generation, Producer
from chunkspool.errors import StoreFull

pytestmark = pytest.mark.both_servers

SAID = "Redis is full, so nothing was written; free memory or raise maxmemory"


class MemoryLimit:
    """The server's memory limit."""

    def __init__(self, client: Redis) -> None:
        """Leave the limit unchanged."""
        self._client = client

    def exhaust(self) -> None:
        """Let Redis refuse everything that needs memory."""
        self._client.config_set("maxmemory-policy", "noeviction")
        self._client.config_set("maxmemory", 1)

    def lift(self) -> None:
        """Make room again."""
        self._client.config_set("maxmemory", 0)


@pytest.fixture
def memory(client: Redis) -> Iterator[MemoryLimit]:
    """Provide a server that can be full."""
    memory = MemoryLimit(client)
    yield memory
    memory.lift()


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind whose producers retry only briefly."""
    with open_spool(request.param, redis_url, write_timeout=0.5, lease=0.6) as any_spool:
        yield any_spool


@pytest.fixture
def queued_generation(any_spool: BlockingSpool) -> Generation:
    """Provide a generation that no worker has claimed."""
    made: Generation = any_spool.enqueue(CHAT, "hello", request_id="mine")
    return made


def wait_for_event(client: Redis, made: Generation, index: bytes) -> None:
    """Wait until the attempt's event number `index` is in the log."""
    eventually(lambda: read_generation_field(client, made.generation_id, "index") == index)


def test_nothing_new_is_accepted(
    any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit, client: Redis
) -> None:
    """Enqueue and claim are rejected without a trace: no ghost appears once there is room again."""
    memory.exhaust()
    before = read_contents(client)
    for refused in (
        lambda: any_spool.enqueue("other", "hello"),
        lambda: any_spool.enqueue(CHAT, "hello", on_active="allow", request_id="other"),
        lambda: any_spool.run_producer(CHAT, queued_generation.generation_id, repr),
    ):
        with pytest.raises(StoreFull, match=SAID):
            refused()
    assert read_contents(client) == before
    memory.lift()
    assert (
        any_spool.run_producer(CHAT, queued_generation.generation_id, lambda out: out.text("hi")).state == "completed"
    )


def test_readers_continue(any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit) -> None:
    """Existing events can be read, from any cursor, by every call that reads."""
    any_spool.stop(CHAT)
    memory.exhaust()
    types = ["generation.queued", "generation.stopped"]
    assert [entry.type for entry in any_spool.read(CHAT)] == types
    assert [entry.type for entry in any_spool.follow(CHAT)] == types
    assert [entry.type for entry in any_spool.follow(CHAT, 1, until=queued_generation.generation_id)] == types[1:]
    assert any_spool.status(CHAT).last == 2
    assert any_spool.snapshot(CHAT).answers[0].state == "stopped"


@pytest.mark.parametrize("how", ["chat", "one", "revoke"])
def test_a_queued_generation_can_be_stopped(
    any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit, client: Redis, how: str
) -> None:
    """Also by a revoke. It needs a few bytes that are not available, and frees many."""
    memory.exhaust()
    if how == "revoke":
        assert any_spool.revoke(queued_generation.generation_id).outcome == "stopped"
    else:
        (stop,) = any_spool.stop(CHAT, queued_generation.generation_id if how == "one" else None)
        assert stop.outcome == "stopped"
    assert types_of(read_log(client), queued_generation.generation_id) == ["generation.queued", "generation.stopped"]
    assert any_spool.status(CHAT).active == ()


def test_a_running_generation_can_be_stopped(
    any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit, client: Redis
) -> None:
    """Also with text that Redis would not accept: it is written before the ending."""

    def write(out: Producer) -> None:
        out.text("be")
        wait_for_event(client, queued_generation, b"1")
        memory.exhaust()
        out.text("fore")
        stops.append(stop_from_another_spool(any_spool))
        eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - the model is silent: nothing else tells

    stops: list[str] = []
    out = any_spool.run_producer(CHAT, queued_generation.generation_id, write)
    assert (stops, out.state) == (["stopping"], "stopped")
    assert text_of(read_log(client), queued_generation.generation_id) == "before"
    assert ending_of(read_log(client), queued_generation.generation_id)["type"] == "generation.stopped"


def stop_from_another_spool(any_spool: BlockingSpool) -> str:
    """Stop with a sync spool, since the async one's loop is busy with the producer."""
    with open_spool("sync", any_spool.settings.log.redis_url) as other:
        (stop,) = other.stop(CHAT)
    return str(stop.outcome)


def test_a_producer_fails_after_write_timeout(
    any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit, client: Redis
) -> None:
    """Its model call is closed, and its readers get generation.failed instead of waiting."""

    def write(out: Producer) -> None:
        out.text("before")
        wait_for_event(client, queued_generation, b"1")
        memory.exhaust()
        out.text("lost")
        eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - as above
        out.text("never said")

    with pytest.raises(StoreFull, match=SAID):
        any_spool.run_producer(CHAT, queued_generation.generation_id, write)
    log = read_log(client)
    assert text_of(log, queued_generation.generation_id) == "before"
    ending = ending_of(log, queued_generation.generation_id)
    assert (ending["type"], ending["code"], ending["retryable"]) == ("generation.failed", "store_unavailable", True)
    assert any_spool.status(CHAT).active == ()


def test_leaving_the_block_writes_the_ending(
    any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit, client: Redis
) -> None:
    """The last text goes with the ending and is accepted with it."""

    def write(out: Producer) -> None:
        out.text("be")
        wait_for_event(client, queued_generation, b"1")
        memory.exhaust()
        out.text("fore")

    assert any_spool.run_producer(CHAT, queued_generation.generation_id, write).state in {"completed", "failed"}
    assert ending_of(read_log(client), queued_generation.generation_id)["type"] in {
        "generation.completed",
        "generation.failed",
    }
    assert any_spool.status(CHAT).active == ()


def test_nothing_is_lost_if_there_is_room_in_time(redis_url: str, memory: MemoryLimit, client: Redis) -> None:
    """Rejected text is sent again, once."""
    with open_spool("sync", redis_url, write_timeout=30) as any_spool:
        made = any_spool.enqueue(CHAT, "hello")

        def write(out: Producer) -> None:
            out.text("a")
            wait_for_event(client, made, b"1")
            memory.exhaust()
            for piece in "bcde":
                out.text(piece)
            eventually(lambda: out._outbox.trouble)  # noqa: SLF001 - until it was rejected once
            memory.lift()
            wait_for_event(client, made, b"2")
            out.text("f")

        assert any_spool.run_producer(CHAT, made.generation_id, write).state == "completed"
    assert text_of(read_log(client), made.generation_id) == "abcdef"


def test_a_silent_producer_keeps_its_lease(
    any_spool: BlockingSpool, queued_generation: Generation, memory: MemoryLimit, client: Redis
) -> None:
    """Heartbeats need no memory, so nobody else can claim a live generation."""

    def write(_out: Producer) -> None:
        memory.exhaust()
        lease = read_lease(client, queued_generation)
        eventually(lambda: read_lease(client, queued_generation) > lease + 2000 * any_spool.settings.log.lease)

    assert any_spool.run_producer(CHAT, queued_generation.generation_id, write).state == "completed"


def read_lease(client: Redis, made: Generation) -> int:
    """Return when the attempt's lease ends, in ms."""
    return int(read_generation_field(client, made.generation_id, "lease") or 0)


@pytest.mark.parametrize("life", [lambda _face, _made: None, lambda any_spool, _made: any_spool.stop(CHAT)])
def test_erase_makes_room(
    any_spool: BlockingSpool,
    queued_generation: Generation,
    memory: MemoryLimit,
    client: Redis,
    life: Callable[[BlockingSpool, Generation], object],
) -> None:
    """No byte of the chat remains."""
    life(any_spool, queued_generation)
    memory.exhaust()
    any_spool.erase(CHAT)
    assert not [key for key in list_keys(client) if CHAT in key or queued_generation.generation_id in key]
