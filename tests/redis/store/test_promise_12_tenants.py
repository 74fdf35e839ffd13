"""Promise 12, tenants stay apart: equal ids in two tenants are unrelated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log, text_of
from support.chats.spools import spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, BlockingSyncSpool, open_spool
from support.servers.contents import list_keys, read_contents
from support.waiting import eventually

from chunkspool import Generation, Producer, Spool
from chunkspool.errors import GenerationNotFound, InvalidId, SettingsError
from chunkspool.store.keys import ChatKeys

OURS, THEIRS = ChatKeys("ours", CHAT), ChatKeys("theirs", CHAT)


@pytest.fixture(params=SPOOL_KINDS)
def ours(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind, for one tenant."""
    with open_spool(request.param, redis_url, tenant="ours") as any_spool:
        yield any_spool


@pytest.fixture
def theirs(redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool for the other tenant."""
    with open_spool("sync", redis_url, tenant="theirs") as any_spool:
        yield any_spool


def enqueue_and_answer(any_spool: BlockingSpool, text: str) -> Generation:
    """Enqueue with the same request id, and answer with `text`."""
    made: Generation = any_spool.enqueue(CHAT, "hello", request_id="mine", owner="me")
    any_spool.run_producer(CHAT, made.generation_id, lambda out: out.text(text))
    return made


def test_equal_ids_are_two_chats(ours: BlockingSpool, theirs: BlockingSpool, client: Redis) -> None:
    """The same chat, request and owner: two logs, each with its own seqs, each read by its own tenant."""
    mine, other = enqueue_and_answer(ours, "ours"), enqueue_and_answer(theirs, "theirs")
    assert mine.generation_id != other.generation_id
    assert (mine.after, other.after) == (0, 0)
    for any_spool, keys, made, text in ((ours, OURS, mine, "ours"), (theirs, THEIRS, other, "theirs")):
        assert text_of(read_log(client, keys), made.generation_id) == text
        assert {entry.generation_id for entry in any_spool.follow(CHAT)} == {made.generation_id}
        assert {entry.generation_id for entry in any_spool.read(CHAT)} == {made.generation_id}
        assert [answer.text for answer in any_spool.snapshot(CHAT).answers] == [text]
        assert [one.generation_id for one in any_spool.status(CHAT).generations] == [made.generation_id]
        assert any_spool.enqueue(CHAT, "hello", request_id="mine") == made


WHAT_WE_DO: dict[str, Callable[[BlockingSpool], object]] = {
    "enqueue": lambda any_spool: any_spool.enqueue(CHAT, "hello"),
    "replace": lambda any_spool: any_spool.enqueue(CHAT, "hello", on_active="replace"),
    "repeat": lambda any_spool: any_spool.enqueue(CHAT, "hello", request_id="mine"),
    "answer": lambda any_spool: enqueue_and_answer(any_spool, "hi"),
    "stop": lambda any_spool: (any_spool.enqueue(CHAT, "hello"), any_spool.stop(CHAT)),
    "erase": lambda any_spool: (any_spool.enqueue(CHAT, "hello"), any_spool.erase(CHAT)),
}


@pytest.mark.parametrize("what", WHAT_WE_DO)
def test_one_tenants_calls_leave_the_other_alone(
    ours: BlockingSpool, theirs: BlockingSpool, client: Redis, what: str
) -> None:
    """Their generation stays queued, not a byte of their chat changes, and their reader gets nothing."""
    waiting = theirs.enqueue(CHAT, "hello", request_id="mine")
    before = their_data(client)
    with theirs.subscribe(CHAT, until="forever") as reader, client.pubsub() as spy:
        assert next(reader).generation_id == waiting.generation_id
        spy.subscribe(THEIRS.live)
        assert spy.get_message(timeout=10)
        WHAT_WE_DO[what](ours)
        assert spy.get_message(timeout=0.05) is None
    assert their_data(client) == before
    assert theirs.status(CHAT).active == (waiting.generation_id,)


def their_data(client: Redis) -> dict[bytes, bytes]:
    """Return everything the other tenant has."""
    return {key: value for key, value in read_contents(client).items() if b"theirs" in key}


def test_their_generation_is_not_ours(ours: BlockingSpool, theirs: BlockingSpool, client: Redis) -> None:
    """Knowing its id does not allow another tenant to write, stop or follow it."""
    made = theirs.enqueue(CHAT, "hello")
    ours.enqueue(CHAT, "hello")
    before = read_contents(client)
    for call in (
        lambda: ours.stop(CHAT, made.generation_id),
        lambda: ours.run_producer(CHAT, made.generation_id, repr),
        lambda: ours.follow(CHAT, until=made.generation_id),
    ):
        with pytest.raises(GenerationNotFound):
            call()
    assert read_contents(client) == before


def test_a_stop_reaches_only_its_own_tenant(redis_url: str, client: Redis) -> None:
    """Stops are pushed to all processes: of two generations written by one process, only one stops."""
    with spool_for(redis_url) as spool:
        spools = [BlockingSyncSpool(spool.for_tenant(tenant)) for tenant in ("ours", "theirs")]
        mine, other = (any_spool.enqueue(CHAT, "hello") for any_spool in spools)

        def write_while_other_stops(out: Producer) -> None:
            def stop_itself(inner: Producer) -> None:
                spools[0].stop(CHAT)
                eventually(lambda: inner.text("x"), 20)

            assert spools[0].run_producer(CHAT, mine.generation_id, stop_itself).state == "stopped"
            out.text("on and on")

        assert spools[1].run_producer(CHAT, other.generation_id, write_while_other_stops).state == "completed"
    assert ending_of(read_log(client, OURS), mine.generation_id)["type"] == "generation.stopped"
    assert text_of(read_log(client, THEIRS), other.generation_id) == "on and on"


def test_a_revoke_finds_the_tenant(ours: BlockingSpool, theirs: BlockingSpool) -> None:
    """Celery only knows the task id; its generation is stopped whoever asks, and no other."""
    mine, other = ours.enqueue(CHAT, "hello"), theirs.enqueue(CHAT, "hello")
    assert ours.revoke(other.generation_id).generation_id == other.generation_id
    assert ours.status(CHAT).active == (mine.generation_id,)
    assert theirs.status(CHAT).active == ()


def test_an_erase_removes_only_one_tenants_chat(ours: BlockingSpool, theirs: BlockingSpool, client: Redis) -> None:
    """All of ours is gone, even outside the chat's own keys; all of theirs stays."""
    mine, other = enqueue_and_answer(ours, "ours"), enqueue_and_answer(theirs, "theirs")
    ours.erase(CHAT)
    left = list_keys(client)
    assert not [key for key in left if "ours/" in key or mine.generation_id in key]
    assert [key for key in left if other.generation_id in key]
    assert ours.revoke(mine.generation_id) is None
    assert theirs.revoke(other.generation_id).outcome == "ended"


def test_tenants_share_connections(redis_url: str, client: Redis) -> None:
    """A web app creates one spool and derives each request's tenant from it."""
    with spool_for(redis_url) as spool:
        for number in range(50):
            one: Spool = spool.for_tenant(f"tenant-{number}")
            made = one.enqueue(CHAT, "hello")
            assert one.read(CHAT)[0].generation_id == made.generation_id
        here = client.client_id()
        assert len([one for one in client.client_list() if int(one["id"]) != here]) < 10


CROSSING = [
    ("a/b", "c"),
    ("a", "b/c"),
    ("a}", "c"),
    ("a", "c}:gen:x"),
    ("a{", "c"),
    ("{a", "c"),
    ("a/", "c"),
    ("a", "/c"),
    ("a b", "c"),
    ("a\n", "c"),
    ("a:chats", "c"),
    ("..", "c"),
]


def test_ids_cannot_cross_tenants(ours: BlockingSpool, client: Redis, subtests: pytest.Subtests) -> None:
    """Tenant `a/b` with chat `c` would equal tenant `a` with chat `b/c`, so such ids are invalid."""
    for tenant, chat in CROSSING:
        for call in ("read", "enqueue", "stop", "status", "snapshot", "erase", "follow"):
            arguments = (chat, "hello") if call == "enqueue" else (chat,)
            with subtests.test(call, tenant=tenant, chat=chat), pytest.raises(InvalidId):
                getattr(ours.for_tenant(tenant), call)(*arguments)
    assert list_keys(client) == []


@pytest.mark.parametrize("tenant", sorted({tenant for tenant, chat in CROSSING if chat == "c"}))
def test_an_invalid_tenant_is_rejected_at_once(tenant: str) -> None:
    """The error is raised where the tenant is set, not at the first call."""
    for make in (partial(spool_for, "redis://host", tenant=tenant), partial(Spool, Redis(), tenant=tenant)):
        with pytest.raises(SettingsError, match="CHUNKSPOOL_TENANT: tenant="):
            make()


def test_keys_of_two_tenants_have_nothing_in_common(client: Redis, ours: BlockingSpool, theirs: BlockingSpool) -> None:
    """Each key names one tenant, except keys that name a generation or all of them."""
    enqueue_and_answer(ours, "ours")
    enqueue_and_answer(theirs, "theirs")
    for key in list_keys(client):
        assert key.startswith(("cs:{ours/", "cs:{theirs/", "cs:{index}:")), key
