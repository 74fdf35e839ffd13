"""Promise 2, idempotent append: repeating a call changes nothing and returns the same seqs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, of_generation, read_generation_field, read_log, text_of, types_of
from support.chats.spools import async_spool_for, spool_for
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool.errors import LogRolledBack
from chunkspool.events import GenerationCompleted, TextDelta, encode
from chunkspool.states import EndState
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.scripts import AppendReply

PIECES = [f"piece {number}, " for number in range(200)]


@pytest.fixture
def store(client: Redis) -> Store:
    """Provide a store."""
    return Store(client)


def enqueue_and_claim(store: Store, generation_id: str) -> str:
    """Enqueue a generation and claim it, without a worker."""
    store.send(scripts.enqueue(KEYS, generation_id, b"{}", model=None, active=(), on_active="allow", ttl_ms=60_000))
    claim = scripts.claim(KEYS, generation_id, token=generation_id, lease_ms=60_000, max_attempts=3, model=None)
    assert store.send(claim).attempt == 1
    return generation_id


def append_texts(
    store: Store, generation_id: str, index: int, *texts: str, ending: EndState | None = None, attempt: int = 1
) -> AppendReply:
    """Append texts, the first of them as event `index`, and perhaps an ending."""
    events = [encode(TextDelta(generation_id=generation_id, text=text)) for text in texts]
    if ending is not None:
        events.append(encode(GenerationCompleted(generation_id=generation_id)))
    return store.send(
        scripts.append(KEYS, generation_id, attempt=attempt, index=index, lease_ms=60_000, events=events, ending=ending)
    )


def test_a_repeated_batch_returns_the_same_seqs(store: Store, client: Redis) -> None:
    """It writes nothing, however often it is repeated."""
    one = enqueue_and_claim(store, "one")
    first = append_texts(store, one, 1, "a", "b", "c")
    assert (first.outcome, first.first, first.last) == ("ok", 3, 5)
    log = read_log(client)
    for _ in range(3):
        assert append_texts(store, one, 1, "a", "b", "c") == first
    assert read_log(client) == log


def test_a_repeated_older_batch_returns_its_old_seqs(store: Store, client: Redis) -> None:
    """A batch is recognised by its index even if it is not the newest."""
    one = enqueue_and_claim(store, "one")
    batches = [append_texts(store, one, 1 + 2 * number, f"{number}", "x") for number in range(5)]
    log = read_log(client)
    for number in (0, 3, 1, 4, 2):
        assert append_texts(store, one, 1 + 2 * number, f"{number}", "x") == batches[number]
    assert read_log(client) == log


def test_only_new_events_of_an_overlapping_batch_are_written(store: Store, client: Redis) -> None:
    """Events that are already stored are dropped; the returned seqs cover the whole batch."""
    one = enqueue_and_claim(store, "one")
    append_texts(store, one, 1, "a", "b")
    again = append_texts(store, one, 1, "a", "b", "c", "d")
    assert (again.outcome, again.first, again.last) == ("ok", 3, 6)
    assert append_texts(store, one, 4, "d", "e").last == 7
    assert text_of(read_log(client), one) == "abcde"


def test_repeated_batches_interleaved_with_other_writers_return_their_seqs(store: Store, client: Redis) -> None:
    """Two answers alternate in one chat: every batch, repeated later, returns its seqs in the log."""
    one, two = enqueue_and_claim(store, "one"), enqueue_and_claim(store, "two")
    seqs = {}
    for number in range(12):
        writer, index = (one, two)[number % 3 == 2], 1 + 3 * number
        others = {key: value for key, value in seqs.items() if key[0] == writer}
        index = 1 + 2 * len(others)
        seqs[writer, index] = append_texts(store, writer, index, f"{index}", f"{index + 1}")
    log = read_log(client)
    for (writer, index), reply in seqs.items():
        assert append_texts(store, writer, index, f"{index}", f"{index + 1}") == reply
        written = [line.seq for line in log if line.event == {**line.event, "generation": writer, "text": f"{index}"}]
        assert written == [reply.first]
        assert reply.last == reply.first + 1
    assert read_log(client) == log


def test_an_overlapping_batch_split_by_another_writer_returns_its_seqs(store: Store, client: Redis) -> None:
    """Its first and last seq are those of its first and last event; the other writer's events lie between them."""
    one, two = enqueue_and_claim(store, "one"), enqueue_and_claim(store, "two")
    append_texts(store, one, 1, "a", "b")
    append_texts(store, two, 1, "x")
    overlapping = append_texts(store, one, 2, "b", "c")
    assert (overlapping.first, overlapping.last) == (6, 8)
    assert append_texts(store, one, 2, "b", "c") == overlapping
    assert text_of(read_log(client), one) == "abc"
    assert text_of(read_log(client), two) == "x"


def test_an_ending_sent_twice_is_one_ending(store: Store, client: Redis) -> None:
    """The repeated batch returns its seqs and how the generation ended."""
    one = enqueue_and_claim(store, "one")
    first = append_texts(store, one, 1, "a", ending="completed")
    assert (first.outcome, first.last, first.status) == ("ok", 4, "completed")
    assert append_texts(store, one, 1, "a", ending="completed") == replace(first, log_size=None)
    assert append_texts(store, one, 2, ending="completed").last == 4
    assert append_texts(store, one, 3, "late").outcome == "ended"
    assert types_of(read_log(client), one) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.completed",
    ]


def test_a_gap_in_the_index_writes_nothing(store: Store, client: Redis) -> None:
    """A batch that does not continue from the last one is rejected with the expected index."""
    one = enqueue_and_claim(store, "one")
    append_texts(store, one, 1, "a", "b")
    log = read_log(client)
    assert append_texts(store, one, 4, "d") == AppendReply("gap", first=3)
    assert read_log(client) == log
    assert append_texts(store, one, 3, "c").last == 5


def test_repeated_batches_are_recognised_after_the_log_was_lost(store: Store, client: Redis) -> None:
    """Without counter and log, the attempt continues at seq 1, and its batches are still recognised."""
    one = enqueue_and_claim(store, "one")
    client.delete(KEYS.seq, KEYS.log)
    first = append_texts(store, one, 1, "a", "b")
    assert (first.outcome, first.first, first.last) == ("ok", 1, 2)
    assert append_texts(store, one, 1, "a", "b") == first


def test_a_heartbeat_writes_no_event(store: Store, client: Redis) -> None:
    """It only extends the lease."""
    one = enqueue_and_claim(store, "one")
    log, lease = read_log(client), read_generation_field(client, one, "lease")
    assert append_texts(store, one, 1) == AppendReply("ok", 0, 0, stop_asked=False, status="running")
    assert read_log(client) == log
    assert int(read_generation_field(client, one, "lease") or 0) >= int(lease or 0)


def test_a_repeated_claim_is_the_same_attempt(store: Store, client: Redis) -> None:
    """The token distinguishes a repeated call from a second worker."""
    one = enqueue_and_claim(store, "one")
    again = scripts.claim(KEYS, one, token=one, lease_ms=60_000, max_attempts=3, model=None)
    assert store.send(again).attempt == 1
    other = scripts.claim(KEYS, one, token="other", lease_ms=60_000, max_attempts=3, model=None)
    assert store.send(other).outcome == "held"
    assert types_of(read_log(client), one) == ["generation.queued", "generation.started"]


@pytest.mark.parametrize("lost", [1, 3])
def test_a_producer_survives_lost_replies(proxy: Proxy, client: Redis, lost: int) -> None:
    """The log holds the whole text once, although the producer could not know what had been written."""
    with spool_for(proxy.url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            for number, piece in enumerate(PIECES):
                if number in (20, 90, 150)[:lost]:
                    proxy.swallow_next_reply(piece.encode())
                out.text(piece)
                if number % 10 == 0:
                    wait_until_in_log(client, piece)
        assert out.state == "completed"
    assert proxy.swallowed == lost
    log = read_log(client)
    assert text_of(log, generation.generation_id) == "".join(PIECES)
    assert ending_of(log, generation.generation_id)["type"] == "generation.completed"


def test_the_ending_survives_a_lost_reply(proxy: Proxy, client: Redis) -> None:
    """It is sent again and stored once."""
    with spool_for(proxy.url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        proxy.swallow_next_reply(b"generation.completed")
        with spool.produce(CHAT, generation.generation_id) as out:
            out.text("hi")
        assert out.state == "completed"
    assert proxy.swallowed == 1
    assert ending_of(read_log(client), generation.generation_id)["type"] == "generation.completed"


async def test_an_async_producer_survives_lost_replies(proxy: Proxy, client: Redis) -> None:
    """The same for claim, text and ending in an async block."""
    async with async_spool_for(proxy.url) as spool:
        generation = await spool.enqueue(CHAT, "hello")
        for matching in (b"generation.started", b"text.delta", b"generation.completed"):
            proxy.swallow_next_reply(matching)
        async with spool.produce(CHAT, generation.generation_id) as out:
            for piece in PIECES:
                out.text(piece)
    assert proxy.swallowed == 3
    log = read_log(client)
    assert text_of(log, generation.generation_id) == "".join(PIECES)
    assert types_of(log, generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.completed",
    ]


def test_a_producer_survives_repeated_connection_loss(proxy: Proxy, client: Redis) -> None:
    """However often the connection breaks: no gaps, no duplicates."""
    with spool_for(proxy.url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            for number, piece in enumerate(PIECES):
                out.text(piece)
                if number % 20 == 10:
                    proxy.cut()
                    wait_until_in_log(client, piece)
    assert text_of(read_log(client), generation.generation_id) == "".join(PIECES)


def wait_until_in_log(client: Redis, piece: str) -> None:
    """Wait until `piece` is in the log."""
    eventually(lambda: any(piece.encode() in fields[b"e"] for _, fields in client.xrevrange(KEYS.log)))


@pytest.mark.parametrize("on_active", ["reject", "replace", "allow"])
@pytest.mark.parametrize("request_id", ["mine", None])
def test_enqueue_survives_a_lost_reply(proxy: Proxy, client: Redis, on_active: str, request_id: str | None) -> None:
    """One generation is created, queued once and sent to Celery once, with or without a request id."""
    with spool_for(proxy.url) as spool:
        proxy.swallow_next_reply(b"generation.queued")
        generation = spool.enqueue(CHAT, "hello", on_active=on_active, request_id=request_id)
        assert proxy.swallowed == 1
        assert client.zrange(KEYS.gens, 0, -1) == [generation.generation_id.encode()]
        assert client.llen("chunkspool") == 1
        with spool.produce(CHAT, generation.generation_id) as out:
            out.text("hi")
    log = read_log(client)
    assert generation.after == 0
    assert types_of(log, generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "text.delta",
        "generation.completed",
    ]
    assert len(of_generation(log, generation.generation_id)) == len(log)


async def test_an_async_enqueue_survives_a_lost_reply(proxy: Proxy, client: Redis) -> None:
    """The same for the async spool."""
    async with async_spool_for(proxy.url) as spool:
        proxy.swallow_next_reply(b"generation.queued")
        generation = await spool.enqueue(CHAT, "hello")
    assert proxy.swallowed == 1
    assert types_of(read_log(client), generation.generation_id) == ["generation.queued"]


def test_a_request_id_creates_one_generation(redis_url: str, client: Redis) -> None:
    """Twenty callers with the same request id get the same generation, created once."""
    with spool_for(redis_url) as spool, ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: spool.enqueue(CHAT, "hello", request_id="mine"), range(20)))
    assert len(set(made)) == 1
    assert types_of(read_log(client), made[0].generation_id) == ["generation.queued"]


def test_a_request_id_stays_valid_during_and_after_its_generation(redis_url: str, client: Redis) -> None:
    """The repeated enqueue neither restarts the generation nor fails because the chat is busy."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello", request_id="mine")
        client.delete("chunkspool")
        with spool.produce(CHAT, generation.generation_id) as out:
            assert spool.enqueue(CHAT, "hello", request_id="mine") == generation
            out.text("hi")
        assert spool.enqueue(CHAT, "hello", request_id="mine") == generation
        assert client.llen("chunkspool") == 0
        assert spool.enqueue(CHAT, "hello", request_id="other").generation_id != generation.generation_id


def test_a_request_whose_first_caller_died_is_published_by_the_second(redis_url: str, client: Redis) -> None:
    """While it is queued, the repeated enqueue publishes it again; a second message is harmless."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello", request_id="mine")
        client.delete("chunkspool")
        assert spool.enqueue(CHAT, "hello", request_id="mine") == generation
        assert client.llen("chunkspool") == 1


def test_a_claim_survives_a_lost_reply(proxy: Proxy, client: Redis) -> None:
    """The repeated claim is the same attempt; it does not find itself held by itself."""
    with spool_for(proxy.url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        proxy.swallow_next_reply(b"generation.started")
        with spool.produce(CHAT, generation.generation_id) as out:
            assert out.attempt == 1
    assert proxy.swallowed == 1
    assert types_of(read_log(client), generation.generation_id) == [
        "generation.queued",
        "generation.started",
        "generation.completed",
    ]


def test_a_stop_survives_a_lost_reply(proxy: Proxy, client: Redis) -> None:
    """The repeated stop finds the generation ended; the log has one generation.stopped."""
    with spool_for(proxy.url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        proxy.swallow_next_reply(b"generation.stopped")
        (stop,) = spool.stop(CHAT, generation.generation_id)
        assert (stop.generation_id, stop.outcome) == (generation.generation_id, "ended")
    assert proxy.swallowed == 1
    assert types_of(read_log(client), generation.generation_id) == ["generation.queued", "generation.stopped"]


def test_scripts_are_reloaded_after_a_flush(redis_url: str, client: Redis) -> None:
    """SCRIPT FLUSH, as after a restart or failover, goes unnoticed in mid-stream."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            for number, piece in enumerate(PIECES):
                out.text(piece)
                if number % 50 == 25:
                    client.script_flush()
                    wait_until_in_log(client, piece)
        client.script_flush()
        second = spool.enqueue(CHAT, "hello again")
        client.script_flush()
        spool.stop(CHAT, second.generation_id)
    log = read_log(client)
    assert text_of(log, generation.generation_id) == "".join(PIECES)
    assert ending_of(log, generation.generation_id)["type"] == "generation.completed"
    assert ending_of(log, second.generation_id)["type"] == "generation.stopped"


@pytest.mark.parametrize("leaving", [False, True])
def test_a_redis_that_lost_acknowledged_writes_fails_the_generation(
    redis_url: str, client: Redis, *, leaving: bool
) -> None:
    """An old copy was restored: the producer gets an error, and readers get generation.failed, not half an answer."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello")

        def produce() -> None:
            with spool.produce(CHAT, generation.generation_id) as out:
                out.data("kept", 1)
                eventually(lambda: read_generation_field(client, generation.generation_id, "index") == b"1")
                copy = copy_server(client)
                out.data("lost", 2)
                eventually(lambda: read_generation_field(client, generation.generation_id, "index") == b"2")
                restore(client, copy)
                while not leaving:
                    out.text("later")

        with pytest.raises(LogRolledBack, match="lost events"):
            produce()
        assert spool.status(CHAT).active == ()
    ending = ending_of(read_log(client), generation.generation_id)
    assert (ending["type"], ending["code"]) == ("generation.failed", "store_unavailable")


def copy_server(client: Redis) -> dict[bytes, bytes]:
    """Return a copy of everything the server holds."""
    dumps = {key: client.dump(key) for key in client.scan_iter()}
    return {key: dump for key, dump in dumps.items() if dump is not None}  # a set may be empty by then


def restore(client: Redis, copy: dict[bytes, bytes]) -> None:
    """Restore an old copy at once, like a failover to a lagging replica."""
    with client.pipeline(transaction=True) as batch:
        for key, value in copy.items():
            batch.restore(key, 60_000, value, replace=True)
        batch.execute()
