"""Promise 10, nothing leaks: every key has a TTL, and what has expired or was erased is gone to the last byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, generation_field, log_of, text_of
from support.chats.spools import claim_and_die, settings_for, spool_for
from support.readers.blocking_spool import FACES, Face, face_for
from support.servers.contents import contents_of, holding, keys_of
from support.waiting import eventually

from chunkspool import Generation, Producer, Spool
from chunkspool.errors import (
    ChatBusy,
    ChatNotFound,
    ChunkspoolError,
    CursorExpired,
    EnqueueFailed,
    NotClaimed,
)
from chunkspool.spool.dispatch import Dispatcher
from demo.ports import LOOPBACK, free_port

TTL = 600
WEEK, DAY = 7 * 86_400, 86_400
PROMPT, ANSWER, OWNER, REQUEST = "the-prompt", "the-answer", "the-owner", "the-request"


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Face]:
    """Give both faces."""
    with face_for(request.param, redis_url, ttl=TTL, lease=0.3, max_attempts=1) as face:
        yield face


def enqueued(face: Face, **options: object) -> Generation:
    """Enqueue with something in every place that an enqueue has."""
    made: Generation = face.enqueue(CHAT, PROMPT, request_id=REQUEST, owner=OWNER, **options)
    return made


def completed(face: Face, _client: Redis) -> None:
    """Answer."""
    made = enqueued(face)
    face.produced(CHAT, made.generation_id, lambda out: (out.text(ANSWER), out.data("a", 1)))


def failed(face: Face, _client: Redis) -> None:
    """Begin to answer, then fail."""
    made = enqueued(face)

    def fail(out: Producer) -> None:
        out.text(ANSWER)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        face.produced(CHAT, made.generation_id, fail)


def stopped(face: Face, _client: Redis) -> None:
    """Stop what waits."""
    enqueued(face)
    face.stop(CHAT, reason="enough")


def stopped_while_running(face: Face, client: Redis) -> None:
    """Stop what runs."""
    made = enqueued(face)

    def say(out: Producer) -> None:
        out.text(ANSWER)
        with spool_for(face.settings.log.redis_url) as other:
            other.stop(CHAT)
        eventually(lambda: generation_field(client, made.generation_id, "stop"))

    assert face.produced(CHAT, made.generation_id, say).state == "stopped"


def replaced(face: Face, _client: Redis) -> None:
    """Put another one in its place."""
    enqueued(face)
    face.enqueue(CHAT, PROMPT, on_active="replace", owner=OWNER)


def refused(face: Face, client: Redis) -> None:
    """Find the chat busy; the refused request leaves nothing at all."""
    enqueued(face)
    before = contents_of(client)
    with pytest.raises(ChatBusy):
        face.enqueue(CHAT, PROMPT, request_id="another")
    assert contents_of(client) == before


def repeated(face: Face, client: Redis) -> None:
    """Ask the same again, while it waits and after it was answered."""
    completed(face, client)
    assert enqueued(face) == enqueued(face)


def beside_each_other(face: Face, _client: Redis) -> None:
    """Two at once, of which one is stopped and one runs on."""
    first = enqueued(face)
    face.enqueue(CHAT, PROMPT, on_active="allow")
    face.stop(CHAT, first.generation_id)


def never_handed_over(face: Face, _client: Redis) -> None:
    """Have no broker."""
    broker = f"redis://{LOOPBACK}:{free_port()}/0"
    with (
        face_for("sync", face.settings.log.redis_url, broker_url=broker, ttl=TTL) as other,
        pytest.raises(EnqueueFailed),
    ):
        enqueued(other)


def dead(face: Face, client: Redis) -> None:
    """Be claimed by a worker that dies."""
    claim_and_die(client, enqueued(face).generation_id, 60)


def given_up(face: Face, client: Redis) -> None:
    """Be claimed once too often."""
    made = enqueued(face)
    claim_and_die(client, made.generation_id, 0.001)
    with pytest.raises(NotClaimed):
        face.produced(CHAT, made.generation_id, repr, wait=5)


LIVES = [
    completed,
    failed,
    stopped,
    stopped_while_running,
    replaced,
    refused,
    repeated,
    beside_each_other,
    never_handed_over,
    dead,
    given_up,
]
Life = Callable[[Face, Redis], None]


def ttls_of(client: Redis) -> dict[str, int]:
    """Return the seconds that each key of the project has left."""
    return {name: int(client.ttl(name)) for name in keys_of(client)}


@pytest.mark.parametrize("life", LIVES)
def test_every_key_has_a_ttl_and_goes_with_an_erase(face: Face, client: Redis, life: Life) -> None:
    """However a generation lived: `ttl` for the chat, a week more for what tells a late reader that it is late.

    After the erase no byte is left of prompt, answer, owner, request and ids, save the ids in the queue.
    """
    life(face, client)
    generations = [one.generation_id for one in face.status(CHAT).generations]
    ttls = ttls_of(client)
    assert {KEYS.seq, KEYS.log, KEYS.head, KEYS.gens, *map(KEYS.gen, generations)} <= set(ttls)
    for name, left in ttls.items():
        most = (
            TTL + WEEK
            if name in {KEYS.seq, KEYS.head, KEYS.readers}
            else WEEK
            if name.startswith("cs:{index}:")
            else TTL
        )
        assert 0 < left <= most, name
        assert left > TTL - 60 or not name.startswith(f"cs:{{default/{CHAT}}}"), name
    face.erase(CHAT)
    for text in (PROMPT, ANSWER, OWNER, REQUEST, f"default/{CHAT}"):
        assert holding(client, text) == [], text
    for one in generations:
        assert not [name for name in holding(client, one) if name.startswith("cs:")]
    with pytest.raises(ChatNotFound):
        face.status(CHAT)
    face.erase(CHAT)


def test_a_message_of_an_erased_chat_is_worth_nothing(face: Face, client: Redis) -> None:
    """The worker that gets it later finds no generation and makes none."""
    made = enqueued(face)
    face.erase(CHAT)
    with pytest.raises(ChunkspoolError, match="or no longer has it"):
        face.produced(CHAT, made.generation_id, repr)
    assert face.revoke(made.generation_id) is None
    assert holding(client, CHAT) == ["chunkspool"]


def test_a_chat_is_erased_while_it_is_written(face: Face, client: Redis) -> None:
    """The writer is told, and what it still says is not written."""
    made = enqueued(face)

    def say(out: Producer) -> None:
        out.text(ANSWER)
        eventually(lambda: generation_field(client, made.generation_id, "index"))
        with spool_for(face.settings.log.redis_url) as other:
            other.erase(CHAT)
        eventually(lambda: out.text(ANSWER), 20)

    with pytest.raises(ChunkspoolError, match="it was erased|was stopped"):
        face.produced(CHAT, made.generation_id, say)
    assert [name for name in keys_of(client) if CHAT in name or made.generation_id in name] == []
    assert holding(client, ANSWER) == []


def test_a_chat_is_erased_while_it_is_enqueued_to_and_written(redis_url: str, client: Redis) -> None:
    """Whoever is faster: when all have gone and it is erased once more, nothing is left of anybody."""
    over = threading.Event()

    def ask(spool: Spool) -> int:
        asked = 0
        while not over.wait(0.005):
            with suppress(ChunkspoolError):
                made = spool.enqueue(CHAT, PROMPT, on_active="allow", request_id=REQUEST, owner=OWNER)
                asked += 1
                with spool.produce(CHAT, made.generation_id) as out:
                    out.text(ANSWER)
        return asked

    def erase(spool: Spool) -> None:
        try:
            for _ in range(60):
                spool.erase(CHAT)
                over.wait(0.01)
        finally:
            over.set()

    with spool_for(redis_url, flush_interval=0.001) as spool, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, spool) for _ in range(3)]
        pool.submit(erase, spool).result(60)
        assert sum(one.result(60) for one in asked) > 0
        spool.erase(CHAT)
    for text in (PROMPT, ANSWER, OWNER, f"default/{CHAT}"):
        assert holding(client, text) == [], text
    assert [name for name in keys_of(client) if not name.startswith("cs:{index}:")] == []
    assert [name for name in holding(client, CHAT) if name.startswith("cs:")] == []


def test_an_enqueue_that_an_erase_overtakes(redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erased between its two steps, it leaves a message that is worth nothing, and no key."""

    def erase_first(dispatcher: Dispatcher, *generation: str) -> None:
        with spool_for(redis_url) as other:
            other.erase(CHAT)
        publish(dispatcher, *generation)

    publish = Dispatcher.publish
    monkeypatch.setattr(Dispatcher, "publish", erase_first)
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, PROMPT, request_id=REQUEST)
    assert [name for name in holding(client, made.generation_id) if name.startswith("cs:")] == []
    assert holding(client, PROMPT) == []


def test_what_has_expired_is_gone(redis_url: str, client: Redis) -> None:
    """After `ttl` seconds prompt and answer are nowhere; a late reader is told, and the chat goes on counting."""
    with face_for("sync", redis_url, ttl=1) as face:
        completed(face, client)
        last = face.status(CHAT).last
        eventually(lambda: not holding(client, PROMPT) and not holding(client, ANSWER))
        left = {name for name in keys_of(client) if not name.startswith("cs:{index}:")}
        assert left <= {KEYS.seq, KEYS.head, KEYS.readers}
        assert holding(client, OWNER) == holding(client, REQUEST) == []
        with pytest.raises(CursorExpired) as expired:
            face.read(CHAT)
        assert (expired.value.first, expired.value.last) == (last + 1, last)
        assert (face.status(CHAT).generations, face.snapshot(CHAT).answers) == ((), ())
        made = enqueued(face)
        assert made.after == last
        assert [entry.seq for entry in face.read(CHAT, last)] == [last + 1]


def test_what_nobody_ran_expires_too(face: Face, client: Redis) -> None:
    """It does not count as active any more: no reader waits for it, and the chat is not busy with it."""
    enqueued(face, ttl=1)
    eventually(lambda: not holding(client, PROMPT))
    assert face.status(CHAT).active == ()
    assert face.entries(CHAT, 1) == []
    assert face.enqueue(CHAT, PROMPT).after == 1


def test_of_two_ttls_the_longer_counts(face: Face, client: Redis) -> None:
    """A short-lived generation does not take the log from under another, nor hide it from an erase."""
    long = enqueued(face)
    short = face.enqueue(CHAT, PROMPT, on_active="allow", ttl=1)
    face.produced(CHAT, short.generation_id, lambda out: out.text("short"))
    eventually(lambda: not client.exists(KEYS.gen(short.generation_id)))
    assert face.status(CHAT).active == (long.generation_id,)
    face.produced(CHAT, long.generation_id, lambda out: out.text(ANSWER))
    log = log_of(client)
    assert text_of(log, long.generation_id) == ANSWER
    assert ending_of(log, long.generation_id)["type"] == "generation.completed"
    other = face.enqueue(CHAT, PROMPT, ttl=1)
    face.stop(CHAT)
    eventually(lambda: not client.exists(KEYS.gen(other.generation_id)))
    face.erase(CHAT)
    assert holding(client, PROMPT) == []


def test_a_long_life_keeps_what_it_writes(redis_url: str, client: Redis) -> None:
    """A generation that talks for longer than its ttl keeps its chat alive with every word."""
    with spool_for(redis_url, ttl=1, lease=0.3) as spool:
        made = spool.enqueue(CHAT, PROMPT)
        began = client.time()[0]
        with spool.produce(CHAT, made.generation_id) as out:
            while client.time()[0] < began + 3:
                eventually(partial(_said, client, out, made.generation_id))
        assert len(log_of(client)) > 3


def _said(client: Redis, out: Producer, generation_id: str) -> bool:
    index = generation_field(client, generation_id, "index")
    out.data("tick", 1)
    eventually(lambda: generation_field(client, generation_id, "index") != index)
    return True


def test_settings_with_a_ttl_of_nothing_are_refused() -> None:
    """Nothing is kept for ever, and nothing for no time."""
    for ttl in (0, 0.5, float("inf")):
        with pytest.raises(ChunkspoolError, match="CHUNKSPOOL_TTL"):
            settings_for("redis://host", ttl=ttl)
