"""A chat's keys overwritten by another program: `CorruptLog` from every call, and nothing gets worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_generation_field
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import read_contents
from support.waiting import eventually

from chunkspool import Generation, Producer
from chunkspool.errors import CorruptLog
from chunkspool.store.keys import place_of

pytestmark = pytest.mark.both_servers

CALLS: dict[str, Callable[[BlockingSpool, str], object]] = {
    "read": lambda any_spool, _id: any_spool.read(CHAT),
    "subscribe": lambda any_spool, one: any_spool.follow(CHAT, until=one),
    "stop": lambda any_spool, _id: any_spool.stop(CHAT),
    "status": lambda any_spool, _id: any_spool.status(CHAT),
    "snapshot": lambda any_spool, _id: any_spool.snapshot(CHAT),
    "erase": lambda any_spool, _id: any_spool.erase(CHAT),
    "enqueue": lambda any_spool, _id: any_spool.enqueue(CHAT, "hello"),
    "replace": lambda any_spool, _id: any_spool.enqueue(CHAT, "hello", on_active="replace"),
    "allow": lambda any_spool, _id: any_spool.enqueue(CHAT, "hello", on_active="allow"),
    "repeat": lambda any_spool, _id: any_spool.enqueue(CHAT, "hello", request_id="mine"),
    "stop one": lambda any_spool, one: any_spool.stop(CHAT, one),
    "revoke": lambda any_spool, one: any_spool.revoke(one),
    "produce": lambda any_spool, one: any_spool.run_producer(CHAT, one, repr),
}
EVERY = tuple(name for name in CALLS if name != "repeat")
TOUCHING = {
    "seq": EVERY,
    "log": EVERY,
    "head": EVERY,
    "gens": tuple(name for name in EVERY if name not in {"read", "snapshot", "subscribe"}),
    "gen": tuple(name for name in EVERY if name not in {"read", "snapshot", "allow"}),
    "request": ("repeat",),
    "place": ("revoke",),
}
COUNTERS = ["abc", "-5", "1.5", "007", "", "99999999999999999999", str(2**60)]


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url, read_timeout=1) as any_spool:
        yield any_spool


@pytest.fixture
def queued_generation(any_spool: BlockingSpool) -> Generation:
    """Provide a generation that no worker has claimed."""
    made: Generation = any_spool.enqueue(CHAT, "hello", request_id="mine")
    return made


def full_key(key: str, made: Generation) -> str:
    """Return the full name of one of the chat's keys."""
    named = {
        "gen": KEYS.gen(made.generation_id),
        "request": KEYS.request("mine"),
        "place": place_of(made.generation_id),
    }
    return named.get(key) or str(getattr(KEYS, key))


def overwrite(client: Redis, name: str, value: str | None = None) -> None:
    """Replace a key's value with a string or a list, in one step: a writer must not find it gone."""
    pipe = client.pipeline(transaction=True).delete(name)
    if value is None:
        pipe.rpush(name, "not", "ours")
    else:
        pipe.set(name, value)
    pipe.expire(name, 60).execute()


def assert_corrupt(any_spool: BlockingSpool, client: Redis, made: Generation, calls: tuple[str, ...]) -> None:
    """Fail unless each call reports the foreign value and changes nothing."""
    before = read_contents(client)
    for call in calls:
        with pytest.raises(CorruptLog, match="another program") as told:
            CALLS[call](any_spool, made.generation_id)
        assert told.value.seq is None, call
        assert read_contents(client) == before, call


@pytest.mark.parametrize("key", TOUCHING)
def test_a_key_of_another_type_is_reported(
    any_spool: BlockingSpool, client: Redis, queued_generation: Generation, key: str
) -> None:
    """Every call that uses the key reports it; other calls are not affected."""
    overwrite(client, full_key(key, queued_generation))
    assert_corrupt(any_spool, client, queued_generation, TOUCHING[key])


def test_a_counter_that_is_no_number_is_reported(
    any_spool: BlockingSpool, client: Redis, queued_generation: Generation
) -> None:
    """It is a string but not a seq: nothing gets a seq from it."""
    for value in COUNTERS:
        overwrite(client, KEYS.seq, value)
        assert_corrupt(any_spool, client, queued_generation, ("enqueue", "replace", "stop one", "produce"))
    for value in ("abc", "1.5", ""):
        overwrite(client, KEYS.seq, value)
        assert_corrupt(any_spool, client, queued_generation, ("read", "subscribe", "status", "snapshot", "erase"))


def test_an_invalid_place_is_reported(any_spool: BlockingSpool, client: Redis, queued_generation: Generation) -> None:
    """It is a string that names no chat."""
    for value in ("one", "one two three"):
        overwrite(client, place_of(queued_generation.generation_id), value)
        assert_corrupt(any_spool, client, queued_generation, ("revoke",))


@pytest.mark.parametrize("key", ["seq", "log", "gen"])
def test_a_producer_fails_at_once(
    any_spool: BlockingSpool, client: Redis, queued_generation: Generation, key: str
) -> None:
    """A retry would not help, and the counter does not run on without the log."""

    def write(out: Producer) -> None:
        out.text("before")
        eventually(lambda: read_generation_field(client, queued_generation.generation_id, "index") == b"1")
        overwrite(client, full_key(key, queued_generation))
        out.text("after")
        eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - the model is silent: nothing else tells
        out.text("never said")

    with pytest.raises(CorruptLog, match="another program"):
        any_spool.run_producer(CHAT, queued_generation.generation_id, write)
    if key != "seq":
        assert client.get(KEYS.seq) == b"3"


def test_a_log_ahead_of_its_counter_is_reported(
    any_spool: BlockingSpool, client: Redis, queued_generation: Generation
) -> None:
    """An older counter with a newer log: no seq is assigned twice, and retries skip none."""
    client.xadd(KEYS.log, {"e": "{}"}, id="7-0")
    assert_corrupt(any_spool, client, queued_generation, ("stop one", "produce", "allow"))
    assert client.get(KEYS.seq) == b"1"
