"""Keys of a chat that another program has overwritten: `CorruptLog`, whatever is called, and nothing is made worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, generation_field
from support.readers.blocking_spool import FACES, Face, face_for
from support.servers.contents import contents_of
from support.waiting import eventually

from chunkspool import Generation, Producer
from chunkspool.errors import CorruptLog
from chunkspool.store.keys import place_of

CALLS: dict[str, Callable[[Face, str], object]] = {
    "read": lambda face, _id: face.read(CHAT),
    "subscribe": lambda face, one: face.entries(CHAT, until=one),
    "stop": lambda face, _id: face.stop(CHAT),
    "status": lambda face, _id: face.status(CHAT),
    "snapshot": lambda face, _id: face.snapshot(CHAT),
    "erase": lambda face, _id: face.erase(CHAT),
    "enqueue": lambda face, _id: face.enqueue(CHAT, "hello"),
    "replace": lambda face, _id: face.enqueue(CHAT, "hello", on_active="replace"),
    "allow": lambda face, _id: face.enqueue(CHAT, "hello", on_active="allow"),
    "repeat": lambda face, _id: face.enqueue(CHAT, "hello", request_id="mine"),
    "stop one": lambda face, one: face.stop(CHAT, one),
    "revoke": lambda face, one: face.revoke(one),
    "produce": lambda face, one: face.produced(CHAT, one, repr),
}
EVERY = tuple(name for name in CALLS if name != "repeat")
TOUCHING = {
    "seq": EVERY,
    "log": EVERY,
    "head": EVERY,
    "gens": tuple(name for name in EVERY if name not in {"read", "subscribe"}),
    "gen": tuple(name for name in EVERY if name not in {"read", "allow"}),
    "request": ("repeat",),
    "place": ("revoke",),
}
COUNTERS = ["abc", "-5", "1.5", "007", "", "99999999999999999999", str(2**60)]


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Face]:
    """Give both faces."""
    with face_for(request.param, redis_url, read_timeout=1) as face:
        yield face


@pytest.fixture
def queued(face: Face) -> Generation:
    """Give a generation that no worker has taken."""
    made: Generation = face.enqueue(CHAT, "hello", request_id="mine")
    return made


def name_of(key: str, made: Generation) -> str:
    """Return the whole name of one of a chat's keys."""
    named = {
        "gen": KEYS.gen(made.generation_id),
        "request": KEYS.request("mine"),
        "place": place_of(made.generation_id),
    }
    return named.get(key) or str(getattr(KEYS, key))


def overwrite(client: Redis, name: str, value: str | None = None) -> None:
    """Put a string, or a list, where something else was."""
    client.delete(name)
    if value is None:
        client.rpush(name, "not", "ours")
    else:
        client.set(name, value)
    client.expire(name, 60)


def demand_corrupt(face: Face, client: Redis, made: Generation, calls: tuple[str, ...]) -> None:
    """Fail unless each call says that another program was there, and leaves all as it is."""
    before = contents_of(client)
    for call in calls:
        with pytest.raises(CorruptLog, match="another program") as told:
            CALLS[call](face, made.generation_id)
        assert told.value.seq is None, call
        assert contents_of(client) == before, call


@pytest.mark.parametrize("key", TOUCHING)
def test_a_key_of_another_type(face: Face, client: Redis, queued: Generation, key: str) -> None:
    """Each call that touches it tells so; those that do not touch it are not disturbed."""
    overwrite(client, name_of(key, queued))
    demand_corrupt(face, client, queued, TOUCHING[key])


def test_a_counter_that_does_not_count(face: Face, client: Redis, queued: Generation) -> None:
    """A string it is, but no seq: nothing is numbered by it."""
    for value in COUNTERS:
        overwrite(client, KEYS.seq, value)
        demand_corrupt(face, client, queued, ("enqueue", "replace", "stop one", "produce"))
    for value in ("abc", "1.5", ""):
        overwrite(client, KEYS.seq, value)
        demand_corrupt(face, client, queued, ("read", "subscribe", "status", "snapshot", "erase"))


def test_a_place_that_is_none(face: Face, client: Redis, queued: Generation) -> None:
    """A string that names no chat."""
    for value in ("one", "one two three"):
        overwrite(client, place_of(queued.generation_id), value)
        demand_corrupt(face, client, queued, ("revoke",))


@pytest.mark.parametrize("key", ["seq", "log", "gen"])
def test_a_producer_hears_of_it(face: Face, client: Redis, queued: Generation, key: str) -> None:
    """At once, for trying again would not help; and the counter does not run on without the log."""

    def say(out: Producer) -> None:
        out.text("before")
        eventually(lambda: generation_field(client, queued.generation_id, "index") == b"1")
        overwrite(client, name_of(key, queued))
        out.text("after")
        eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - the model is silent: nothing else tells
        out.text("never said")

    with pytest.raises(CorruptLog, match="another program"):
        face.produced(CHAT, queued.generation_id, say)
    if key != "seq":
        assert client.get(KEYS.seq) == b"3"


def test_a_log_that_is_ahead_of_its_counter(face: Face, client: Redis, queued: Generation) -> None:
    """An older counter under a newer log: no seq is given twice, and none is left out by trying."""
    client.xadd(KEYS.log, {"e": "{}"}, id="7-0")
    demand_corrupt(face, client, queued, ("stop one", "produce", "allow"))
    assert client.get(KEYS.seq) == b"1"
