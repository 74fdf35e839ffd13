"""A server that refuses for a while costs a running generation nothing: it keeps its text and continues."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_generation_field, read_log, text_of, types_of
from support.chats.spools import spool_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.readers.reader_group import ReaderGroups
from support.servers.redis_server import PrivateServer, run_second_server
from support.servers.trouble import (
    Trouble,
    demotion,
    endless_script,
    failed_snapshot,
    lost_primary,
    no_memory,
    too_few_replicas,
)
from support.waiting import eventually

from chunkspool import Producer
from chunkspool.errors import StoreRefused, StoreUnavailable

BEFORE, DURING, AFTER = "before, ", "during, ", "after"
TROUBLES: tuple[Trouble, ...] = (
    failed_snapshot,
    too_few_replicas,
    demotion,
    lost_primary,
    endless_script,
    no_memory,
)


@pytest.fixture
def server(redis_server: PrivateServer, tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a server that the test may spoil."""
    with run_second_server(redis_server, tmp_path) as server:
        yield server


class Speech:
    """What a model says: something before the trouble, something in it, something when it is over."""

    def __init__(self, client: Redis, generation_id: str) -> None:
        """`client` looks into the log."""
        self._client = client
        self._generation_id = generation_id
        self.is_written, self.began, self.was_refused, self.over = (threading.Event() for _ in range(4))

    def say(self, out: Producer) -> None:
        """Say all of it."""
        out.text(BEFORE)
        eventually(lambda: read_generation_field(self._client, self._generation_id, "index") == b"1")
        self.is_written.set()
        assert self.began.wait(30)
        for letter in DURING:
            out.text(letter)
        eventually(lambda: out._outbox.trouble)  # noqa: SLF001 - until a write was refused
        self.was_refused.set()
        assert self.over.wait(30)
        out.text(AFTER)


def answer(spool: BlockingSpool, kind: str, generation_id: str, say: Callable[[Producer], None]) -> str:
    """Let `say` write the answer; of an async producer, beside its loop."""
    if kind == "sync":
        return str(spool.run_producer(CHAT, generation_id, say).state)

    async def produce() -> str:
        async with spool.spool.produce(CHAT, generation_id) as out:
            await asyncio.to_thread(say, out)
        return str(out.state)

    return str(spool.run(produce()))


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
@pytest.mark.parametrize("kind", SPOOL_KINDS)
def test_a_producer_outlasts_a_refusal(server: PrivateServer, kind: str, trouble: Trouble) -> None:
    """The same attempt goes on when it is over, and live readers of both kinds see all of it once."""
    with (
        ReaderGroups("asyncio") as loop,
        ReaderGroups("threads") as threads,
        server.client() as client,
        open_spool(kind, server.url) as spool,
        ThreadPoolExecutor() as pool,
    ):
        with spool_for(server.url) as other:
            made = other.enqueue(CHAT, "hello")
        readers = [reader_groups.open(server.url).follow(CHAT) for reader_groups in (loop, threads)]
        speech = Speech(client, made.generation_id)
        answering = pool.submit(answer, spool, kind, made.generation_id, speech.say)
        assert speech.is_written.wait(30)
        with trouble(server):
            speech.began.set()
            assert speech.was_refused.wait(30)
            time.sleep(1.5)  # so that readers, flusher and stop listener have looked at the server's role meanwhile
        speech.over.set()
        assert answering.result(30) == "completed"
        log = read_log(client)
        assert text_of(log, made.generation_id) == BEFORE + DURING + AFTER
        assert read_generation_field(client, made.generation_id, "attempt") == b"1"
        assert types_of(log, made.generation_id).count("generation.started") == 1
        for reader in readers:
            reader.wait_for_end()
            assert reader.errors == []
            assert reader.seqs == list(range(1, len(log) + 1))
            assert "".join(reader.texts) == BEFORE + DURING + AFTER


@pytest.mark.parametrize("act", ["stop", "stop all", "erase", "replace"])
@pytest.mark.parametrize("trouble", [failed_snapshot, too_few_replicas, demotion], ids=lambda trouble: trouble.__name__)
def test_what_was_refused_stops_nothing(server: PrivateServer, trouble: Trouble, act: str) -> None:
    """A server that takes no writes still publishes: no attempt may hear of a stop that is kept nowhere."""
    with server.client() as client, spool_for(server.url) as spool, spool_for(server.url) as other:
        made = other.enqueue(CHAT, "hello")
        acts: dict[str, Callable[[], object]] = {
            "stop": lambda: other.stop(CHAT, made.generation_id),
            "stop all": lambda: other.stop(CHAT),
            "erase": lambda: other.erase(CHAT),
            "replace": lambda: other.enqueue(CHAT, "instead", on_active="replace"),
        }
        with spool.produce(CHAT, made.generation_id) as out:
            eventually(lambda: client.pubsub_numsub(KEYS.stops)[0][1])
            with trouble(server), pytest.raises(StoreUnavailable):
                acts[act]()
            for _ in range(20):
                out.text("more, ")
                time.sleep(0.01)  # time for a push to arrive
        assert out.state == "completed"
        assert text_of(read_log(client), made.generation_id) == "more, " * 20


def test_what_is_final_ends_at_once(server: PrivateServer) -> None:
    """A right that is taken away is no matter of waiting: the model's loop hears of it, and which one it is."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
        url = server.url.replace("://", "://app:secret@")
        with spool_for(url, broker_url=server.url, write_timeout=60) as spool:
            made = spool.enqueue(CHAT, "hello")

            def produce() -> None:
                with spool.produce(CHAT, made.generation_id) as out:
                    out.text("hi")
                    eventually(lambda: read_generation_field(admin, made.generation_id, "index") == b"1")
                    admin.execute_command("ACL", "SETUSER", "app", "-evalsha")
                    eventually(lambda: out.text("never read"), 30)

            began = time.monotonic()
            with pytest.raises(StoreRefused, match="write \\+evalsha into its ACL"):
                produce()
            assert time.monotonic() - began < 20
