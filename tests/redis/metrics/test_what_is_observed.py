"""Each observation is made where the thing happens, and once, whoever does it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from redis import Redis
from support.chats.handwritten_chat import HandwrittenChat
from support.chats.logs import CHAT, KEYS, read_log
from support.chats.spools import append_by_hand, claim_and_die, settings_for
from support.metrics.recorder import Recorder
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import (
    ChatNotFound,
    CursorAhead,
    EnqueueFailed,
    Fenced,
    LimitExceeded,
    NotClaimed,
    ProviderError,
    Stopped,
)
from chunkspool.events import TextDelta
from chunkspool.observer import (
    AttemptBegan,
    AttemptFenced,
    FirstChunkWritten,
    Flushed,
    GenerationEnded,
    GenerationQueued,
    HubReconnected,
    LimitHit,
    Observation,
    ReaderOverflowed,
    ReadersChanged,
    Replayed,
    Retried,
    RunningChanged,
    TokensUsed,
)
from chunkspool.provider import Usage
from chunkspool.reading.reader import BUFFER_EVENTS


@pytest.fixture
def seen() -> Recorder:
    """Provide what is observed."""
    return Recorder()


def observed_spool(url: str, seen: Recorder, **values: object) -> Spool:
    """Return a spool whose observations are recorded; the caller closes it."""
    return Spool.from_settings(settings_for(url, **values), observer=seen)


@pytest.fixture
def spool(redis_url: str, seen: Recorder) -> Iterator[Spool]:
    """Provide an observed spool that finds lost generations soon."""
    with observed_spool(redis_url, seen, lost_after=0.3, sweep_interval=0.001, max_attempts=2) as made:
        yield made


def ended(seen: Recorder) -> list[tuple[str, str | None]]:
    """Return state and code of each ending that was told."""
    return [(one.state, one.code) for one in seen.all_of(GenerationEnded)]


def test_a_generation_is_queued_once(spool: Spool, seen: Recorder) -> None:
    """The same request again is not another generation; one of a batch is told as such."""
    for _ in range(3):
        spool.enqueue(CHAT, "x", request_id="once")
    spool.enqueue("other", "x", priority="batch")
    assert [one.priority for one in seen.all_of(GenerationQueued)] == ["interactive", "batch"]


def test_an_answer_is_told_from_its_claim_to_its_ending(spool: Spool, seen: Recorder, client: Redis) -> None:
    """Wait, first chunk, tokens by how they grow, each event's size, pace, ending, and what runs."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out:
        assert sum(one.by for one in seen.all_of(RunningChanged)) == 1
        out.text("first")
        eventually(lambda: seen.all_of(FirstChunkWritten))
        out.usage("10", 2)  # type: ignore[arg-type]
        out.text("second")
        out.write(Usage(10, 6, cached_tokens=3, reasoning_tokens=1))
    (began,) = seen.all_of(AttemptBegan)
    assert began.number == 1
    assert began.waited is not None
    first, ending = seen.only(FirstChunkWritten), seen.only(GenerationEnded)
    assert 0 <= began.waited <= first.seconds <= (ending.seconds or 0) + 0.01 < 10
    assert (ending.state, ending.code, ending.stop_seconds) == ("completed", None, None)
    assert ending.output_per_second is not None
    assert ending.output_per_second > 0
    tokens = seen.all_of(TokensUsed)
    assert tokens == [TokensUsed(10, 2), TokensUsed(0, 4, reasoning=1, cached=3)]
    flushes = seen.all_of(Flushed)
    written = client.xrange(KEYS.log) or []
    assert written
    by_hand = Counter(len(fields[b"e"]) for _, fields in written[2:])  # queued and started are the scripts' own
    assert sum((Counter(one.sizes) for one in flushes), Counter()) == by_hand
    assert all(0 < one.seconds < 10 for one in flushes)
    assert all(gap > 0 for one in flushes for gap in one.gaps)
    assert any(one.gaps for one in flushes)
    eventually(lambda: sum(one.by for one in seen.all_of(RunningChanged)) == 0)


async def test_the_asyncio_face_tells_the_same(redis_url: str, seen: Recorder) -> None:
    """An answer in an async block, and a stop of one that nobody runs."""
    async with AsyncSpool.from_settings(settings_for(redis_url), observer=seen) as spool:
        asked = await spool.enqueue(CHAT, "x")
        async with spool.produce(CHAT, asked.generation_id) as out:
            out.text("word")
        await spool.enqueue(CHAT, "x")
        await spool.stop(CHAT)
        async with spool.subscribe(CHAT) as entries:
            assert [entry.type async for entry in entries][-1] == "generation.stopped"
        with pytest.raises(LimitExceeded):
            await spool.for_tenant("none").set_policy(queued=0)
            await spool.for_tenant("none").enqueue(CHAT, "x")
    assert ended(seen) == [("completed", None), ("stopped", None)]
    assert len(seen.all_of(GenerationQueued)) == 2
    assert [one.number for one in seen.all_of(AttemptBegan)] == [1]
    assert [one.result for one in seen.all_of(Replayed)] == ["hit"]
    assert [one.limit for one in seen.all_of(LimitHit)] == ["queued"]


def test_a_failure_is_told_with_its_code(spool: Spool, seen: Recorder) -> None:
    """A provider's own, whatever it says, and that of a bug."""
    for error in (ProviderError("their_own", "No.", retryable=False), ValueError("bug")):
        asked = spool.enqueue(CHAT, "x")
        with pytest.raises(type(error)), spool.produce(CHAT, asked.generation_id):
            raise error
    assert ended(seen) == [("failed", "their_own"), ("failed", "internal_error")]


def test_a_full_chat_is_told_as_ending_and_as_limit(redis_url: str, seen: Recorder) -> None:
    """The answer ends because of `chat_bytes`."""
    with observed_spool(redis_url, seen, max_chat_bytes=20_000) as spool:
        asked = spool.enqueue(CHAT, "x")
        with pytest.raises(LimitExceeded), spool.produce(CHAT, asked.generation_id) as out:
            while True:
                out.data("piece", "x" * 1000)
                time.sleep(0.001)
    assert ended(seen) == [("failed", "chat_full")]
    assert [one.limit for one in seen.all_of(LimitHit)] == ["chat_bytes"]


def test_a_second_attempt_is_told_as_such(spool: Spool, client: Redis, seen: Recorder) -> None:
    """With its number, and no wait in the queue; the first chunk was the other's."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=0.2)
    said = TextDelta(generation_id=asked.generation_id, text="old")
    append_by_hand(client, asked.generation_id, 1, said, lease=0.2)
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        out.text("new")
    assert seen.all_of(AttemptBegan) == [AttemptBegan(2)]
    assert ended(seen) == [("completed", None)]
    assert not seen.all_of(FirstChunkWritten)


def test_the_loser_tells_the_fence(redis_url: str, client: Redis, seen: Recorder) -> None:
    """Once, however often it would have written."""
    with observed_spool(redis_url, seen) as spool:
        asked = spool.enqueue(CHAT, "x")
        with pytest.raises(Fenced), spool.produce(CHAT, asked.generation_id) as out:
            client.hset(KEYS.gen(asked.generation_id), "attempt", 2)
            while True:
                out.text("more")
                time.sleep(0.005)
        assert len(seen.all_of(AttemptFenced)) == 1
        assert not ended(seen)
        eventually(lambda: sum(one.by for one in seen.all_of(RunningChanged)) == 0)


def test_a_silent_first_attempt_leaves_the_first_chunk_to_the_next(spool: Spool, client: Redis, seen: Recorder) -> None:
    """The time counts from the enqueue."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, lease=0.3)
    with spool.produce(CHAT, asked.generation_id, wait=5) as out:
        out.text("word")
    assert seen.only(FirstChunkWritten).seconds >= 0.3


def test_a_stop_of_what_waits_is_told_by_whoever_stops_it(spool: Spool, seen: Recorder) -> None:
    """Once: a stop again finds it ended."""
    asked = spool.enqueue(CHAT, "x")
    spool.stop(CHAT, asked.generation_id)
    spool.stop(CHAT, asked.generation_id)
    spool.revoke(asked.generation_id)
    assert ended(seen) == [("stopped", None)]
    assert seen.only(GenerationEnded).stop_seconds == 0


def test_a_stop_of_what_runs_is_told_by_its_worker(spool: Spool, seen: Recorder) -> None:
    """With the time since the first request, by Redis's clock."""
    asked = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, asked.generation_id) as out, pytest.raises(Stopped):
        spool.stop(CHAT)
        while True:
            out.text("more")
            time.sleep(0.005)
    one = seen.only(GenerationEnded)
    assert one.state == "stopped"
    assert one.stop_seconds is not None
    assert 0 <= one.stop_seconds < 5


def test_what_a_new_request_replaces_is_told(spool: Spool, seen: Recorder) -> None:
    """One ended by the enqueue itself; one that runs, by its worker."""
    waiting = spool.enqueue(CHAT, "x")
    running = spool.enqueue(CHAT, "x", on_active="replace")
    assert ended(seen) == [("stopped", None)]
    with spool.produce(CHAT, running.generation_id) as out, pytest.raises(Stopped):
        spool.enqueue(CHAT, "x", on_active="replace")
        while True:
            out.text("more")
            time.sleep(0.005)
    assert waiting.generation_id != running.generation_id
    assert ended(seen) == [("stopped", None)] * 2


def test_what_many_are_replaced_at_once_is_told(redis_url: str, seen: Recorder) -> None:
    """More than one call of the script ends."""
    with observed_spool(redis_url, seen, max_active=40) as spool:
        for _ in range(35):
            spool.enqueue(CHAT, "x", on_active="allow")
        spool.enqueue(CHAT, "x", on_active="replace")
    assert ended(seen) == [("stopped", None)] * 35
    assert len(seen.all_of(GenerationQueued)) == 36


def test_the_sweep_tells_what_it_ends(spool: Spool, client: Redis, seen: Recorder) -> None:
    """Lost ones, those whose stop no worker heard of, and those that nobody wants any more; and messages sent again."""
    spool.enqueue("lost", "x")
    stopped = spool.enqueue(CHAT, "x")
    claim_and_die(client, stopped.generation_id, lease=0.2)
    spool.stop(CHAT)
    spool.enqueue("late", "x", expires=0.1)

    def sweep() -> bool:
        spool.sweep(queue_is_empty=True)
        return len(ended(seen)) == 3

    eventually(sweep)
    assert sorted(ended(seen), key=str) == [("failed", "expired"), ("failed", "lost"), ("stopped", None)]
    assert {one.of for one in seen.all_of(Retried)} == {"broker"}
    (stop,) = (one for one in seen.all_of(GenerationEnded) if one.state == "stopped")
    assert stop.stop_seconds is not None
    assert stop.stop_seconds > 0.1


def test_a_claim_tells_what_it_ends(spool: Spool, client: Redis, seen: Recorder) -> None:
    """The attempts are used up, or it has waited for too long: the claim itself writes the ending."""
    asked = spool.enqueue(CHAT, "x")
    for _ in range(2):
        client.hdel(KEYS.gen(asked.generation_id), "lease")
        claim_and_die(client, asked.generation_id, lease=0.05)
    late = spool.enqueue("late", "x", expires=0.05)
    for chat_id, one in ((CHAT, asked), ("late", late)):
        time.sleep(0.1)  # so long it is to be late
        with pytest.raises(NotClaimed), spool.produce(chat_id, one.generation_id):
            pass
        with pytest.raises(NotClaimed), spool.produce(chat_id, one.generation_id):
            pass
    assert ended(seen) == [("failed", "too_many_attempts"), ("failed", "expired")]
    assert not seen.all_of(AttemptBegan)


def test_a_message_that_the_broker_refuses_ends_its_generation(redis_url: str, seen: Recorder) -> None:
    """It was queued and has failed: both are told."""
    values = {"broker_url": "redis://127.0.0.1:1/0", "publish_timeout": 0.5}
    with observed_spool(redis_url, seen, **values) as spool, pytest.raises(EnqueueFailed):
        spool.enqueue(CHAT, "x")
    assert len(seen.all_of(GenerationQueued)) == 1
    assert ended(seen) == [("failed", "enqueue_failed")]


def test_replays_are_hits_or_not(spool: Spool, seen: Recorder) -> None:
    """What is there is a hit; no such chat is a miss; a cursor of another log has expired."""
    asked = spool.enqueue(CHAT, "x")
    with spool.subscribe(CHAT, until="forever"):
        pass
    with pytest.raises(ChatNotFound), spool.subscribe("nowhere"):
        pass
    with pytest.raises(CursorAhead), spool.subscribe(CHAT, asked.after + 100):
        pass
    assert [one.result for one in seen.all_of(Replayed)] == ["hit", "miss", "expired"]


def test_live_readers_come_and_go(spool: Spool, seen: Recorder, client: Redis) -> None:
    """One that waits for more is live, until it leaves, or is dropped."""
    chat = HandwrittenChat(client)

    def live() -> int:
        return sum(one.by for one in seen.all_of(ReadersChanged))

    def read() -> None:
        with spool.subscribe(chat.chat_id, until="forever") as entries:
            for entry in entries:
                if entry.type == "generation.completed":
                    return

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: live() == 3)
    chat.complete()
    for thread in threads:
        thread.join()
    assert live() == 0


def test_a_reader_that_is_too_slow_is_told_once(spool: Spool, seen: Recorder, client: Redis) -> None:
    """What does not fit it reads from the log, and it has lost nothing."""
    chat = HandwrittenChat(client)
    with spool.subscribe(chat.chat_id, until="forever") as entries:
        before = len(read_log(client, chat.keys))
        for _ in range(before):
            next(entries)
        assert not entries.wait(0.3)
        for n in range(BUFFER_EVENTS + 100):
            chat.append(f"word {n}")
        seen.only(ReaderOverflowed)
        last = chat.complete()
        assert [next(entries).seq for _ in range(last - before)][-1] == last
    assert len(seen.all_of(ReaderOverflowed)) == 1


@pytest.fixture
def plain_proxy(redis_server: object, redis_url: str) -> Iterator[Proxy]:
    """Provide a proxy in front of an empty server."""
    assert redis_url
    with Proxy(redis_server.port) as up:  # type: ignore[attr-defined]
        yield up


def test_a_hub_of_threads_tells_that_it_came_back(plain_proxy: Proxy, client: Redis, seen: Recorder) -> None:
    """Its connection was cut, and it has another one."""
    chat = HandwrittenChat(client)
    with observed_spool(plain_proxy.url, seen) as spool, spool.subscribe(chat.chat_id, until="forever") as entries:
        while entries.wait(0.3):
            next(entries)
        assert not seen.all_of(HubReconnected)
        plain_proxy.cut()
        chat.append("later")
        assert next(entries).type == "text.delta"
        seen.only(HubReconnected)


async def test_a_hub_on_a_loop_tells_that_it_came_back(plain_proxy: Proxy, client: Redis, seen: Recorder) -> None:
    """The same with asyncio."""
    chat = HandwrittenChat(client)
    async with (
        AsyncSpool.from_settings(settings_for(plain_proxy.url), observer=seen) as spool,
        spool.subscribe(chat.chat_id, until="forever") as entries,
    ):
        while await entries.wait(0.3):
            await anext(entries)
        await asyncio.to_thread(plain_proxy.cut)
        await asyncio.to_thread(chat.append, "later")
        assert (await anext(entries)).type == "text.delta"
        await asyncio.to_thread(seen.only, HubReconnected)


def test_a_write_that_is_tried_again_is_told(proxy: Proxy, client: Redis, seen: Recorder) -> None:
    """Redis was away in mid-answer; each event is told once all the same."""
    with observed_spool(proxy.url, seen) as spool:
        asked = spool.enqueue(CHAT, "x")
        with spool.produce(CHAT, asked.generation_id) as out:
            out.data("n", 1)
            proxy.refuse()
            proxy.cut()
            out.data("n", 2)
            eventually(lambda: Retried("redis") in seen.all_of(Retried))
            proxy.accept()
            out.data("n", 3)
    assert ended(seen) == [("completed", None)]
    assert sum(sum(one.sizes.values()) for one in seen.all_of(Flushed)) == len(read_log(client)) - 2


class Broken:
    """An observer with a bug."""

    def observe(self, observation: Observation) -> None:
        """Fail."""
        raise RuntimeError(f"cannot count {type(observation).__name__}")


def test_a_broken_observer_harms_nobody(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Answers and readers are as ever; the log says it once."""
    with (
        caplog.at_level(logging.ERROR, "chunkspool.observer"),
        Spool.from_settings(settings_for(redis_url), observer=Broken()) as spool,
    ):
        for chat_id in ("one", "two"):
            asked = spool.enqueue(chat_id, "x")
            with spool.produce(chat_id, asked.generation_id) as out:
                out.text("word")
                out.usage(1, 2)
            assert out.state == "completed"
            with spool.subscribe(chat_id) as entries:
                assert [entry.type for entry in entries][-1] == "generation.completed"
    assert [record.message for record in caplog.records if record.name == "chunkspool.observer"] == [
        f"the observer {caplog.records[0].args[0]!r} failed; what it raises from now on is not logged"  # type: ignore[index]
    ]
