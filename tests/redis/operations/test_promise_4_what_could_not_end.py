"""Promise 4: generations that once could not end do, and whoever finds one gone frees its chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_generation_field, read_log, text_of
from support.chats.spools import append_by_hand, async_spool_for, claim_and_die, spool_for
from support.servers.contents import list_keys
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import Producer, Spool
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.errors import (
    ChatBusy,
    ChunkspoolError,
    EnqueueFailed,
    GenerationNotFound,
    InvalidInput,
    ProviderError,
    SettingsError,
)
from chunkspool.events import TextDelta
from chunkspool.provider import Delta, Finish, ModelRequest, Text
from chunkspool.states import EndState
from chunkspool.store.keys import place_of
from chunkspool.tasks.attempt import generate

RUNS_BYTES = 3000
"""More than the `runs` of a generation ever has."""


class Unspeakable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError("no words")


class ForgedError(ProviderError):
    """A provider's error of somebody who did not read what the fields are."""

    def __init__(self, code: Any, message: Any, *, retryable: Any) -> None:
        """Take anything."""
        Exception.__init__(self, "forged")
        self.code, self.message, self.retryable = code, message, retryable


WRONG_ENDINGS = {
    "no finish reason": lambda out: out.finish(None),
    "an empty finish reason": lambda out: out.finish(""),
    "a finish reason that is no text": lambda out: out.finish(object()),
    "an endless finish reason": lambda out: out.finish("x" * 1_000_000),
}
WRONG_ERRORS = {
    "a code that is a number": ForgedError(500, "x", retryable=False),
    "a message that is a list": ForgedError("a", ["x"], retryable=True),
    "no answer to whether it may help": ForgedError("a", "x", retryable=object()),
    "half of a surrogate pair": ForgedError("a\ud800", "\udfff", retryable=False),
    "megabytes": ForgedError("x" * 3_000_000, "y" * 3_000_000, retryable=False),
    "one that cannot say what it is": Unspeakable(),
}


def assert_ended_and_free(client: Redis, spool: Spool, generation_id: str, code: str | None = None) -> None:
    """Fail unless the generation has failed, nothing keeps it alive, and the chat takes the next one."""
    ending = ending_of(read_log(client), generation_id)
    assert ending["type"] == "generation.failed"
    assert code is None or ending["code"] == code
    assert read_generation_field(client, generation_id, "lease") is None
    assert spool.status(CHAT).active == ()
    spool.enqueue(CHAT, "next")


@pytest.mark.parametrize("wrong", WRONG_ENDINGS.values(), ids=WRONG_ENDINGS)
def test_a_finish_reason_is_checked_where_it_is_given(
    redis_url: str, client: Redis, wrong: Callable[[Producer], None]
) -> None:
    """Not where it would be written: then the generation could not be ended any more."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        with pytest.raises(InvalidInput, match="finish takes"), spool.produce(CHAT, made.generation_id) as out:
            out.text("before")
            wrong(out)
        assert "before" in text_of(read_log(client), made.generation_id)
        assert_ended_and_free(client, spool, made.generation_id, "internal_error")


@pytest.mark.parametrize("error", WRONG_ERRORS.values(), ids=WRONG_ERRORS)
@pytest.mark.parametrize("face", ["sync", "async"])
async def test_whatever_leaves_the_block_is_an_ending(
    redis_url: str, client: Redis, face: str, error: Exception
) -> None:
    """Also an error whose fields no event can have: it ends as some failure, and the lane is closed."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        with pytest.raises(type(error)):
            if face == "sync":
                with spool.produce(CHAT, made.generation_id):
                    raise error
            else:
                async with async_spool_for(redis_url) as other, other.produce(CHAT, made.generation_id):
                    raise error
        assert_ended_and_free(client, spool, made.generation_id)


class WrongProvider:
    """Says something, then ends in a way that is none."""

    def __init__(self, last: Any) -> None:
        """`last` comes after the text."""
        self._last = last

    async def stream(self, _request: ModelRequest) -> AsyncIterator[Delta]:
        """Say it."""
        yield Text("hi")
        yield self._last

    async def aclose(self) -> None:
        """Hold nothing."""


WRONG_DELTAS: dict[str, Any] = {
    "Finish(None)": Finish(None),  # type: ignore[arg-type]
    "Finish(7)": Finish(7),  # type: ignore[arg-type]
    "Text(None)": Text(None),  # type: ignore[arg-type]
    "None": None,
    "a str": "text",
    "an object": object(),
}


@pytest.mark.parametrize("last", WRONG_DELTAS.values(), ids=WRONG_DELTAS)
async def test_a_provider_that_breaks_the_rules_fails_its_generation(redis_url: str, client: Redis, last: Any) -> None:
    """What it said before is kept."""
    async with async_spool_for(redis_url) as spool:
        made = await spool.enqueue(CHAT, "hello")
        with pytest.raises(Exception):  # noqa: B017, PT011 - which one, is the rule that was broken
            await asyncio.wait_for(generate(spool, WrongProvider(last), CHAT, made.generation_id), 30)
    with spool_for(redis_url) as other:
        assert_ended_and_free(client, other, made.generation_id)


def claim(spool: Spool, generation_id: str) -> None:
    """Begin an attempt."""
    with pytest.raises(GenerationNotFound), spool.produce(CHAT, generation_id):
        raise AssertionError


def stop(spool: Spool, generation_id: str) -> None:
    """Stop it."""
    with pytest.raises(GenerationNotFound):
        spool.stop(CHAT, generation_id)


def append(spool: Spool, generation_id: str) -> None:
    """Write as an attempt that has slept."""
    client = spool._store.client  # noqa: SLF001 - the same connections
    assert append_by_hand(client, generation_id, 1).outcome == "gone"


@pytest.mark.parametrize("find", [claim, stop, append], ids=lambda find: find.__name__)
def test_who_finds_a_generation_gone_frees_its_chat(
    redis_url: str, client: Redis, find: Callable[[Spool, str], None]
) -> None:
    """Its hash expired, or was evicted, while the chat lives on."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        client.delete(KEYS.gen(made.generation_id))
        find(spool, made.generation_id)
        assert not client.hexists(KEYS.head, "active")
        spool.enqueue(CHAT, "next")


def test_a_generation_that_outlives_its_ttl_can_be_revoked_to_the_end(redis_url: str, client: Redis) -> None:
    """The sweep renews its place, by which a revoke finds it."""
    with spool_for(redis_url, sweep_interval=0.001) as spool:
        made = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, made.generation_id) as out:
            client.pexpire(place_of(made.generation_id), 5000)
            eventually(lambda: spool.sweep(queue_is_empty=False) and client.pttl(place_of(made.generation_id)) > 60_000)
            assert spool.revoke(made.generation_id) is not None
            eventually(lambda: out.text("x"))
        assert out.state == "stopped"


@pytest.mark.parametrize("lost", ["seq", "log", "head"])
def test_what_comes_back_in_mid_answer_has_a_ttl_at_once(redis_url: str, client: Redis, lost: str) -> None:
    """A counter, a log or a head that was evicted while an attempt writes."""
    key = getattr(KEYS, lost)
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("one")
            eventually(lambda: "one" in text_of(read_log(client), made.generation_id))
            client.delete(key)
            out.text("two")
            eventually(lambda: client.exists(key))
            assert client.pttl(key) > 0
            # Where the log was lost, so was what readers had of it; the answer may end as one that was rolled back.
            out.finish("stop")
        assert client.pttl(key) > 0


def test_positions_of_readers_live_as_long_as_the_counter(redis_url: str, client: Redis) -> None:
    """Also where they were noted in an old chat: after its next answer they are kept as long as it is."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        spool.mark_read(CHAT, "me", 1)
        client.pexpire(KEYS.readers, 1000)
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("hi")
        assert client.pttl(KEYS.readers) >= client.pttl(KEYS.log) > 1000


def test_an_erase_whose_reply_was_lost_leaves_nothing(proxy: Proxy, client: Redis) -> None:
    """It is sent again; no place is left in the index."""
    with spool_for(proxy.url) as spool:
        spool.enqueue(CHAT, "hello")
        proxy.swallow_next_reply(b"EVALSHA")
        spool.erase(CHAT)
        spool.erase(CHAT)
    assert list_keys(client) == []


def test_noise_on_the_stops_channel_does_not_deafen_the_worker(redis_url: str, client: Redis) -> None:
    """Whoever may publish may publish anything: no text, nothing, megabytes. The next stop is heard."""
    with spool_for(redis_url, lease=600) as spool:
        made = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, made.generation_id) as out:
            eventually(lambda: client.pubsub_numsub(KEYS.stops)[0][1])
            for noise in (b"\xff\xfe\x80", b"", b"x" * 2_000_000, b".", b"\x00"):
                client.publish(KEYS.stops, noise)
            with spool_for(redis_url) as other:
                other.stop(CHAT, made.generation_id)
            eventually(lambda: out._outbox.interruption)  # noqa: SLF001 - by the push, not by the reply to a write
        assert out.state == "stopped"


def test_a_repeated_request_without_a_broker_spares_the_generation(redis_url: str, client: Redis) -> None:
    """The first caller's message is in the queue: that the second caller cannot publish one is no failure of it."""
    nowhere = f"redis://{LOOPBACK}:{free_port()}/0"
    with spool_for(redis_url) as spool, spool_for(redis_url, broker_url=nowhere, publish_timeout=0.5) as other:
        made = spool.enqueue(CHAT, "hello", request_id="mine")
        with pytest.raises(EnqueueFailed):
            other.enqueue(CHAT, "hello", request_id="mine")
        assert spool.status(CHAT).active == (made.generation_id,)
        with spool.produce(CHAT, made.generation_id) as out:
            out.text("hi")
        assert out.state == "completed"
    assert text_of(read_log(client), made.generation_id) == "hi"


def test_an_evicted_head_lets_nobody_in(redis_url: str, client: Redis) -> None:
    """The chat is as busy as before."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, made.generation_id) as out:
            client.delete(KEYS.head)
            with pytest.raises(ChatBusy):
                spool.enqueue(CHAT, "another")
            out.text("hi")
        assert spool.status(CHAT).active == ()


@pytest.mark.parametrize(
    "values", [{"lease": 0.0001}, {"flush_interval": 5, "lease": 5}, {"flush_interval": 2, "lease": 5}, {"lease": 0}]
)
def test_settings_that_contradict_each_other_are_refused(redis_url: str, values: dict[str, float]) -> None:
    """With a sentence that names the variable."""
    with pytest.raises(SettingsError, match="CHUNKSPOOL_(LEASE|FLUSH_INTERVAL)"):
        spool_for(redis_url, **values)


def test_two_that_alternate_in_a_chat_remember_a_bounded_number_of_batches(redis_url: str, client: Redis) -> None:
    """Each batch is split from the one before by the other's: what is remembered of them stays small."""
    with spool_for(redis_url) as spool:
        both = [spool.enqueue(CHAT, "hello", on_active="allow").generation_id for _ in range(2)]
        for generation_id in both:
            assert claim_and_die(client, generation_id, lease=60) == 1
        for index in range(1, 601):
            for generation_id in both:
                append_by_hand(client, generation_id, index, TextDelta(generation_id=generation_id, text="x"))
        for generation_id in both:
            runs = client.hget(KEYS.gen(generation_id), "runs")
            assert runs is not None
            assert 0 < len(runs) < RUNS_BYTES


ENDINGS: dict[EndState, Callable[[Producer], None]] = {
    "completed": lambda out: out.text("hi"),
    "failed": lambda out: out.finish(None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("how", [*ENDINGS, "stopped"])
def test_what_was_asked_is_dropped_at_the_end(redis_url: str, client: Redis, how: EndState) -> None:
    """A request may have a megabyte, and nobody needs it any more."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello" * 1000)
        assert read_generation_field(client, made.generation_id, "request")
        if how == "stopped":
            spool.stop(CHAT)
        else:
            try:
                with spool.produce(CHAT, made.generation_id) as out:
                    ENDINGS[how](out)
            except ChunkspoolError:
                assert how == "failed"
        assert read_generation_field(client, made.generation_id, "status") == how.encode()
        assert read_generation_field(client, made.generation_id, "request") is None


@pytest.mark.parametrize("depth", [60, 210, 5000])
def test_data_is_nested_no_deeper_than_everybody_can_read(redis_url: str, client: Redis, depth: int) -> None:
    """What is accepted can be read by all; what cannot is refused where it is given."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "hello")
        accepted = False
        try:
            with spool.produce(CHAT, made.generation_id) as out:
                out.data("deep", value)
                accepted = True
        except InvalidInput:
            assert_ended_and_free(client, spool, made.generation_id, "internal_error")
        assert accepted is (depth < 100)
        assert len([entry.event for entry in spool.read(CHAT)]) == len(read_log(client))
